//! Arguments of `kernels/image_fir.cu`.

use candle_core::Result;

use super::{Element, Machine, View, Work};
use crate::ops::cpu::image_fir::Sizes;
use crate::ops::image_fir::Along;

#[derive(Clone, Copy)]
#[repr(C)]
struct ImageFirArgs {
    x: u64,
    taps: u64,
    y: u64,
    sizes: [i32; 8],
}

/// `x [num_images, channels, h, w]` to `[.., oh, ow]`, correlated with `taps [num_images, K]`.
pub(in crate::ops) fn apply<M: Machine, T: Element>(
    gpu: &M,
    x: View<T>,
    taps: View<T>,
    num_images: usize,
    Sizes { channels, h, w, oh, ow, pad, along }: Sizes,
) -> Result<M::Buffer<T>> {
    let num_taps = taps.len / num_images.max(1);
    let y = gpu.alloc::<T>(num_images * channels * oh * ow)?;
    let is_down = usize::from(along == Along::H);
    let args = ImageFirArgs {
        x: x.address,
        taps: taps.address,
        y: gpu.view(&y).address,
        sizes: [channels, h, w, oh, ow, num_taps, pad, is_down].map(|size| size as i32),
    };
    let num_threads = num_images * channels * oh * ow;
    let bytes = x.bytes() + taps.bytes() + gpu.view(&y).bytes();
    gpu.launch::<T, _>(
        "image_fir",
        args,
        Work { num_threads, bytes, flop: 2 * num_taps * num_threads },
    )?;
    Ok(y)
}
