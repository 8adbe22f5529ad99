//! Arguments of `kernels/grid_sample.cu`.

use candle_core::Result;

use super::{Element, Machine, View, Work};
use crate::ops::cpu::grid_sample::Planes;
use crate::ops::grid_sample::Affine;

/// Maps travel with the arguments, of which a launch takes 4 KB: one launch for so many images.
const MAX_MAPS: usize = 64;

#[derive(Clone, Copy)]
#[repr(C)]
struct GridSampleArgs {
    x: u64,
    y: u64,
    sizes: [i32; 6],
    maps: [[f64; 6]; MAX_MAPS],
}

/// `x [N, channels, h, w]` to `[N, channels, oh, ow]`.
pub(in crate::ops) fn sample<M: Machine, T: Element>(
    gpu: &M,
    x: View<T>,
    maps: &[Affine],
    planes: Planes,
) -> Result<M::Buffer<T>> {
    let Planes { channels, oh, ow, .. } = planes;
    let y = gpu.alloc::<T>(maps.len() * channels * oh * ow)?;
    launch_all(gpu, "grid_sample", (x, gpu.view(&y)), maps, (planes, oh * ow))?;
    Ok(y)
}

/// `dy [N, channels, oh, ow]` to `[N, channels, h, w]`.
pub(in crate::ops) fn splat<M: Machine, T: Element>(
    gpu: &M,
    dy: View<T>,
    maps: &[Affine],
    planes: Planes,
) -> Result<M::Buffer<T>> {
    let Planes { channels, h, w, .. } = planes;
    let x = gpu.alloc::<T>(maps.len() * channels * h * w)?;
    launch_all(gpu, "grid_splat", (gpu.view(&x), dy), maps, (planes, h * w))?;
    Ok(x)
}

/// One thread for each of `pixels` of an image, which takes all its channels.
fn launch_all<M: Machine, T: Element>(
    gpu: &M,
    kernel: &'static str,
    (x, y): (View<T>, View<T>),
    maps: &[Affine],
    (planes, pixels): (Planes, usize),
) -> Result<()> {
    let Planes { channels, h, w, oh, ow } = planes;
    for (launch, chunk) in maps.chunks(MAX_MAPS).enumerate() {
        let address = |of: View<T>, plane: usize| {
            of.address + (launch * MAX_MAPS * channels * plane * size_of::<T>()) as u64
        };
        let mut of_images = [[0.0; 6]; MAX_MAPS];
        for (to, Affine { x: [a, b, c], y: [d, e, f] }) in of_images.iter_mut().zip(chunk) {
            *to = [*a, *b, *c, *d, *e, *f];
        }
        let args = GridSampleArgs {
            x: address(x, h * w),
            y: address(y, oh * ow),
            sizes: [channels, h, w, oh, ow, 0].map(|size| size as i32),
            maps: of_images,
        };
        let num_read = chunk.len() * channels * oh * ow;
        let bytes = (chunk.len() * channels * h * w + num_read) * size_of::<T>();
        let work = Work { num_threads: chunk.len() * pixels, bytes, flop: 8 * num_read };
        gpu.launch::<T, _>(kernel, args, work)?;
    }
    Ok(())
}
