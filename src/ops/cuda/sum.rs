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

/// Sums of each row of `x [rows, len]`: `[rows]`.
pub(super) fn rows<M: Machine, T: Element>(
    gpu: &M,
    x: &M::Buffer<T::Compute>,
    (rows, len): (usize, usize),
) -> Result<M::Buffer<T>> {
    let from = gpu.view(x);
    if len <= TERMS {
        return fold::<M, T>(gpu, from, (rows, len), 1);
    }
    let parts = len.div_ceil(TERMS);
    let sums = fold::<M, T::Compute>(gpu, from, (rows, len), parts)?; // [rows, parts]
    self::rows(gpu, &sums, (rows, parts))
}

/// Sums of `x [n, channels, len]` over everything but channels: `[channels]`.
pub(super) fn channels<M: Machine, T: Element>(
    gpu: &M,
    x: &M::Buffer<T::Compute>,
    n: usize,
    (channels, len): (usize, usize),
) -> Result<M::Buffer<T>> {
    let sums = rows::<M, T::Compute>(gpu, x, (n * channels, len))?; // [n, channels]
    fold(gpu, gpu.view(&sums), (1, n * channels), channels)
}

/// Folds each row of `x [rows, len]` into `parts` sums, each of every `parts`-th value, so that
/// neighbouring threads read neighbouring values: `[rows, parts]`.
fn fold<M: Machine, T: Element>(
    gpu: &M,
    x: View<T::Compute>,
    (rows, len): (usize, usize),
    parts: usize,
) -> Result<M::Buffer<T>> {
    let y = gpu.alloc::<T>(rows * parts)?;
    let args = SumArgs {
        x: x.address,
        y: gpu.view(&y).address,
        inner: parts as u64,
        outer_step: len as u64,
        step: parts as u64,
        end: len as u64,
    };
    let bytes = x.len * size_of::<T::Compute>() + gpu.view(&y).bytes();
    gpu.launch::<T, _>("sum", args, Work { num_threads: rows * parts, bytes, flop: x.len })?;
    Ok(y)
}
