//! Arguments of `kernels/normals.cu`.

use candle_core::Result;

use super::{Element, Machine, View, Work};
use crate::ops::rng::{Rng, split};

#[derive(Clone, Copy)]
#[repr(C)]
struct NormalsArgs {
    y: u64,
    count: u64,
    first: u64,
    key: [u32; 2],
    step: [u32; 2],
    stream: u32,
}

/// Fills `y` with the draws of `rng` for `part`.
pub(in crate::ops) fn fill<M: Machine, T: Element>(
    gpu: &M,
    y: View<T>,
    rng: &Rng,
    part: u64,
) -> Result<()> {
    let args = NormalsArgs {
        y: y.address,
        count: y.len as u64,
        first: part << 32,
        key: rng.key,
        step: split(rng.step),
        stream: rng.stream as u32,
    };
    // A logarithm or a cosine, a root and a product: a few dozen operations for each draw.
    let work = Work { num_threads: y.len.div_ceil(4), bytes: y.bytes(), flop: 40 * y.len };
    gpu.launch::<T, _>("normals", args, work)
}
