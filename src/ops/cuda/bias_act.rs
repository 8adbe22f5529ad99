//! Arguments of `kernels/bias_act.cu`.

use candle_core::Result;

use super::{Element, Machine, View, Work, sum};
use crate::ops::bias_act::BiasAct;

#[derive(Clone, Copy)]
#[repr(C)]
struct BiasActArgs<A> {
    x: u64,
    b: u64,
    y: u64,
    channels: u64,
    plane: u64,
    slopes: [A; 2],
    limit: A,
}

/// `y = clamp(act(x + b) * gain)` for `x [N, C, plane]`.
pub(in crate::ops) fn forward<M: Machine, T: Element>(
    gpu: &M,
    (x, b): (View<T>, View<T>),
    plane: usize,
    act: BiasAct,
) -> Result<M::Buffer<T>> {
    let y = gpu.alloc::<T>(x.len)?;
    let args = BiasActArgs {
        x: x.address,
        b: b.address,
        y: gpu.view(&y).address,
        channels: b.len as u64,
        plane: plane as u64,
        slopes: slopes::<T>(act),
        limit: T::stored(act.limit),
    };
    let bytes = 2 * x.bytes() + b.bytes();
    let work = Work { num_threads: x.len, bytes, flop: 2 * x.len };
    gpu.launch::<T, _>("bias_act", args, work)?;
    Ok(y)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct BiasActGradArgs<A> {
    dy: u64,
    y: u64,
    dx: u64,
    sums: u64,
    plane: u64,
    lanes: u64,
    slopes: [A; 2],
    limit: A,
}

/// Of the input, and summed over each channel where that was wanted.
type Gradients<M, T> = (<M as Machine>::Buffer<T>, Option<<M as Machine>::Buffer<T>>);

/// `dx` from `dy` and the output `y [N, C, plane]`, and with `with_sums` the sum of `dx` over each
/// channel. `sizes` is (C, plane, `with_sums`).
pub(in crate::ops) fn backward<M: Machine, T: Element>(
    gpu: &M,
    (dy, y): (View<T>, View<T>),
    (channels, plane, with_sums): (usize, usize, bool),
    act: BiasAct,
) -> Result<Gradients<M, T>> {
    let dx = gpu.alloc::<T>(y.len)?;
    let (rows, lanes) = (y.len / plane.max(1), sum::lanes(plane));
    let sums = if with_sums { Some(gpu.alloc::<T::Compute>(rows * lanes)?) } else { None };
    let args = BiasActGradArgs {
        dy: dy.address,
        y: y.address,
        dx: gpu.view(&dx).address,
        sums: sums.as_ref().map_or(0, |sums| gpu.view(sums).address),
        plane: plane as u64,
        lanes: lanes as u64,
        slopes: slopes::<T>(act),
        limit: T::stored(act.limit),
    };
    let bytes = 3 * y.bytes() + sums.as_ref().map_or(0, |sums| gpu.view(sums).bytes());
    let work = Work { num_threads: rows * lanes, bytes, flop: 2 * y.len };
    gpu.launch::<T, _>("bias_act_grad", args, work)?;
    let of_channels = |sums| sum::channels(gpu, &sums, rows / channels.max(1), (channels, lanes));
    Ok((dx, sums.map(of_channels).transpose()?))
}

/// Slopes above and below zero, with the gain.
fn slopes<T: Element>(act: BiasAct) -> [T::Compute; 2] {
    [T::constant(act.gain), T::constant(act.gain * act.slope)]
}
