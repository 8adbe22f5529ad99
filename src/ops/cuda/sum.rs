//! Long sums in a few launches of `kernels/sum.cu`, each with many threads.

use candle_core::Result;

use super::{Element, Machine, View, Work};

/// Terms that one thread adds up.
const TERMS: usize = 64;

#[derive(Clone, Copy)]
#[repr(C)]
struct SumArgs {
    x: u64,
    y: u64,
    inner: u64,
    outer_step: u64,
    step: u64,
    end: u64,
}

/// Into how many sums a kernel should divide each row of `plane` pixels: enough for many threads,
/// few enough to add up.
pub(super) fn lanes(plane: usize) -> usize {
    plane.div_ceil(TERMS).max(32).min(plane).max(1)
}

/// Each of `len` terms added once, to `y`.
fn work<A, T>(len: usize, y: &View<T>) -> Work {
    Work { num_threads: y.len, bytes: len * size_of::<A>() + y.bytes(), flop: len }
}

/// Sums of each row of `x [rows, lanes]`: `[rows]`.
pub(super) fn rows<M: Machine, T: Element>(
    gpu: &M,
    x: &M::Buffer<T::Compute>,
    rows: usize,
    lanes: usize,
) -> Result<M::Buffer<T>> {
    let y = gpu.alloc::<T>(rows)?;
    let (inner, outer_step, step, end) = (1, lanes as u64, 1, lanes as u64);
    let (x, to) = (gpu.view(x).address, gpu.view(&y).address);
    let args = SumArgs { x, y: to, inner, outer_step, step, end };
    let work = work::<T::Compute, T>(rows * lanes, &gpu.view(&y));
    gpu.launch::<T, _>("sum", args, work)?;
    Ok(y)
}

/// Sums of `x [n, channels, lanes]` over everything but channels: `[channels]`.
pub(super) fn channels<M: Machine, T: Element>(
    gpu: &M,
    x: &M::Buffer<T::Compute>,
    n: usize,
    (channels, lanes): (usize, usize),
) -> Result<M::Buffer<T>> {
    let sums = rows::<M, T::Compute>(gpu, x, n * channels, lanes)?; // [n, channels]
    let y = gpu.alloc::<T>(channels)?;
    let (x, to) = (gpu.view(&sums).address, gpu.view(&y).address);
    let inner = channels as u64;
    let end = (n * channels) as u64;
    let args = SumArgs { x, y: to, inner, outer_step: 0, step: inner, end };
    let work = work::<T::Compute, T>(n * channels, &gpu.view(&y));
    gpu.launch::<T, _>("sum", args, work)?;
    Ok(y)
}

/// The sum of all of `x [len]`: one value.
pub(super) fn all<M: Machine, T: Element>(
    gpu: &M,
    x: M::Buffer<T::Compute>,
    len: usize,
) -> Result<M::Buffer<T>> {
    let fold = |len: usize, x: u64, y: u64, parts: usize| SumArgs {
        x,
        y,
        inner: parts as u64,
        outer_step: 0,
        step: parts as u64,
        end: len as u64,
    };
    let (mut x, mut len) = (x, len);
    while len > TERMS {
        let parts = len.div_ceil(TERMS);
        let sums = gpu.alloc::<T::Compute>(parts)?;
        let args = fold(len, gpu.view(&x).address, gpu.view(&sums).address, parts);
        let work = work::<T::Compute, T::Compute>(len, &gpu.view(&sums));
        gpu.launch::<T::Compute, _>("sum", args, work)?;
        (x, len) = (sums, parts);
    }
    let y = gpu.alloc::<T>(1)?;
    let args = fold(len, gpu.view(&x).address, gpu.view(&y).address, 1);
    gpu.launch::<T, _>("sum", args, work::<T::Compute, T>(len, &gpu.view(&y)))?;
    Ok(y)
}
