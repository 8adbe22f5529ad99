//! Arguments of `kernels/upfirdn2d.cu`.

use candle_core::{Result, bail};

use super::{Element, Machine, View, Work};
use crate::ops::cpu::upfirdn2d::Planes;
use crate::ops::upfirdn2d::Axis;

/// The filter travels with the arguments, of which a launch takes 4 KB.
const MAX_TAPS: usize = 256;

#[derive(Clone, Copy)]
#[repr(C)]
struct Upfirdn2dArgs<A> {
    x: u64,
    y: u64,
    sizes: [i32; 4],
    axis_y: [i32; 3],
    axis_x: [i32; 3],
    taps: [i32; 2],
    filter: [A; MAX_TAPS],
}

/// All planes of `x [count, h, w]` to `[count, oh, ow]`; `filter` is `[taps_y, taps_x]`, row by
/// row, correlated with the padded image.
pub(in crate::ops) fn apply<M: Machine, T: Element>(
    gpu: &M,
    x: View<T>,
    planes: Planes,
    (filter, (taps_y, taps_x)): (&[f64], (usize, usize)),
    (y_axis, x_axis): (&Axis, &Axis),
    gain: f64,
) -> Result<M::Buffer<T>> {
    if filter.len() > MAX_TAPS {
        bail!("upfirdn2d: expected at most {MAX_TAPS} taps on a GPU, got {}", filter.len());
    }
    let Planes { count, h, w, oh, ow } = planes;
    let y = gpu.alloc::<T>(count * oh * ow)?;
    let axis = |axis: &Axis| [axis.up as i32, axis.down as i32, axis.pad[0] as i32];
    let mut taps = [T::constant(0.0); MAX_TAPS];
    taps.iter_mut().zip(filter).for_each(|(to, tap)| *to = T::constant(tap * gain));
    let args = Upfirdn2dArgs {
        x: x.address,
        y: gpu.view(&y).address,
        sizes: [h, w, oh, ow].map(|size| size as i32),
        axis_y: axis(y_axis),
        axis_x: axis(x_axis),
        taps: [taps_y as i32, taps_x as i32],
        filter: taps,
    };
    let met = filter.len() / (y_axis.up * x_axis.up).max(1); // taps that are not on inserted zeros
    let (bytes, flop) = (x.bytes() + gpu.view(&y).bytes(), 2 * met * count * oh * ow);
    gpu.launch::<T, _>("upfirdn2d", args, Work { num_threads: count * oh * ow, bytes, flop })?;
    Ok(y)
}
