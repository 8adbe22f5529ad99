//! Arguments of `kernels/channel_scale.cu`.

use candle_core::Result;

use super::{Element, Machine, View, Work, sum};

#[derive(Clone, Copy)]
#[repr(C)]
struct ChannelScaleArgs {
    x: u64,
    s: u64,
    y: u64,
    plane: u64,
}

/// `x [planes, plane] * s [planes]`.
pub(in crate::ops) fn scale<M: Machine, T: Element>(
    gpu: &M,
    x: View<T>,
    s: View<T>,
) -> Result<M::Buffer<T>> {
    let y = gpu.alloc::<T>(x.len)?;
    let args = ChannelScaleArgs {
        x: x.address,
        s: s.address,
        y: gpu.view(&y).address,
        plane: (x.len / s.len.max(1)) as u64,
    };
    let work = Work { num_threads: x.len, bytes: 2 * x.bytes() + s.bytes(), flop: x.len };
    gpu.launch::<T, _>("channel_scale", args, work)?;
    Ok(y)
}

#[derive(Clone, Copy)]
#[repr(C)]
struct ChannelDotArgs {
    a: u64,
    b: u64,
    sums: u64,
    plane: u64,
    lanes: u64,
}

/// `sum a * b` of each of `planes` planes.
pub(in crate::ops) fn dot<M: Machine, T: Element>(
    gpu: &M,
    a: View<T>,
    b: View<T>,
    (planes, plane): (usize, usize),
) -> Result<M::Buffer<T>> {
    let lanes = sum::lanes(plane);
    let sums = gpu.alloc::<T::Compute>(planes * lanes)?;
    let args = ChannelDotArgs {
        a: a.address,
        b: b.address,
        sums: gpu.view(&sums).address,
        plane: plane as u64,
        lanes: lanes as u64,
    };
    let bytes = a.bytes() + b.bytes() + gpu.view(&sums).bytes();
    let work = Work { num_threads: planes * lanes, bytes, flop: 2 * a.len };
    gpu.launch::<T, _>("channel_dot", args, work)?;
    sum::rows(gpu, &sums, (planes, lanes))
}
