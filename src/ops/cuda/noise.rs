//! Arguments of `kernels/noise.cu`.

use candle_core::Result;

use super::{Element, Machine, View, Work, sum};

#[derive(Clone, Copy)]
#[repr(C)]
struct AddNoiseArgs {
    x: u64,
    noise: u64,
    strength: u64,
    y: u64,
    channels: u64,
    plane: u64,
    noise_step: u64,
}

/// `x [N, C, plane] + strength [] * noise [N or 1, plane]`, without `x`: zeros in its place;
/// `sizes` is (N, C, plane).
pub(in crate::ops) fn add<M: Machine, T: Element>(
    gpu: &M,
    x: Option<View<T>>,
    (noise, strength): (View<T>, View<T>),
    (n, channels, plane): (usize, usize, usize),
) -> Result<M::Buffer<T>> {
    let y = gpu.alloc::<T>(n * channels * plane)?;
    let args = AddNoiseArgs {
        x: x.map_or(0, |x| x.address),
        noise: noise.address,
        strength: strength.address,
        y: gpu.view(&y).address,
        channels: channels as u64,
        plane: plane as u64,
        noise_step: noise_step(noise.len, plane),
    };
    let bytes = x.map_or(0, |x| x.bytes()) + noise.bytes() + gpu.view(&y).bytes();
    let work = Work { num_threads: n * channels * plane, bytes, flop: 2 * n * channels * plane };
    gpu.launch::<T, _>("add_noise", args, work)?;
    Ok(y)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct NoiseDotArgs {
    x: u64,
    noise: u64,
    sums: u64,
    channels: u64,
    plane: u64,
    lanes: u64,
    noise_step: u64,
}

/// `sum x * noise`, one value; `sizes` is (C, plane).
pub(in crate::ops) fn dot<M: Machine, T: Element>(
    gpu: &M,
    x: View<T>,
    noise: View<T>,
    (channels, plane): (usize, usize),
) -> Result<M::Buffer<T>> {
    let (rows, lanes) = (x.len / plane.max(1), sum::lanes(plane));
    let sums = gpu.alloc::<T::Compute>(rows * lanes)?;
    let args = NoiseDotArgs {
        x: x.address,
        noise: noise.address,
        sums: gpu.view(&sums).address,
        channels: channels as u64,
        plane: plane as u64,
        lanes: lanes as u64,
        noise_step: noise_step(noise.len, plane),
    };
    let bytes = x.bytes() + noise.bytes() + gpu.view(&sums).bytes();
    let work = Work { num_threads: rows * lanes, bytes, flop: 2 * x.len };
    gpu.launch::<T, _>("noise_dot", args, work)?;
    sum::rows(gpu, &sums, (1, rows * lanes))
}

/// Elements from one image's noise to the next; all images may share one.
fn noise_step(len: usize, plane: usize) -> u64 {
    if len == plane { 0 } else { plane as u64 }
}
