//! Arguments of `kernels/reflect_pad.cu`.

use candle_core::Result;

use super::{Element, Machine, View, Work};
use crate::ops::cpu::reflect_pad::Planes;

#[derive(Clone, Copy)]
#[repr(C)]
struct ReflectPadArgs {
    x: u64,
    y: u64,
    sizes: [i32; 8],
}

/// `x [count, h, w]` to the padded size.
pub(in crate::ops) fn pad<M: Machine, T: Element>(
    gpu: &M,
    x: View<T>,
    planes: Planes,
) -> Result<M::Buffer<T>> {
    let (padded_h, padded_w) = planes.padded();
    let y = gpu.alloc::<T>(planes.count * padded_h * padded_w)?;
    launch(gpu, "reflect_pad", (x, gpu.view(&y)), planes, gpu.view(&y).len)?;
    Ok(y)
}

/// `dy` of the padded size to `[count, h, w]`.
pub(in crate::ops) fn fold<M: Machine, T: Element>(
    gpu: &M,
    dy: View<T>,
    planes: Planes,
) -> Result<M::Buffer<T>> {
    let x = gpu.alloc::<T>(planes.count * planes.h * planes.w)?;
    launch(gpu, "reflect_fold", (gpu.view(&x), dy), planes, gpu.view(&x).len)?;
    Ok(x)
}

fn launch<M: Machine, T: Element>(
    gpu: &M,
    kernel: &'static str,
    (x, y): (View<T>, View<T>),
    planes: Planes,
    num_threads: usize,
) -> Result<()> {
    let (padded_h, padded_w) = planes.padded();
    let Planes { h, w, y: [top, _], x: [left, _], .. } = planes;
    let sizes = [h, w, padded_h, padded_w, top, left, 0, 0].map(|size| size as i32);
    let args = ReflectPadArgs { x: x.address, y: y.address, sizes };
    let work = Work { num_threads, bytes: x.bytes() + y.bytes(), flop: y.len };
    gpu.launch::<T, _>(kernel, args, work)
}
