//! Planes filtered along one axis, by the taps of their image.

use super::Element;
use super::tasks::for_rows;
use crate::ops::image_fir::Along;

/// Sizes of a plane before and after.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Sizes {
    pub(in crate::ops) channels: usize,
    pub(in crate::ops) h: usize,
    pub(in crate::ops) w: usize,
    pub(in crate::ops) oh: usize,
    pub(in crate::ops) ow: usize,
    /// Zeros at either end of the axis.
    pub(in crate::ops) pad: usize,
    pub(in crate::ops) along: Along,
}

/// `x [num_images, channels, h, w]` to `[.., oh, ow]`, correlated with `taps [num_images, K]`.
pub(in crate::ops) fn apply<T: Element>(
    x: &[T],
    taps: &[T],
    num_images: usize,
    sizes: Sizes,
) -> Vec<T> {
    let Sizes { channels, h, w, oh, ow, pad, along } = sizes;
    let num_taps = taps.len() / num_images.max(1);
    let mut y = vec![T::zero(); num_images * channels * oh * ow];
    let mut outputs: Vec<&mut [T]> = y.chunks_exact_mut((oh * ow).max(1)).collect();
    for_rows(
        &mut outputs,
        oh * ow,
        #[inline(always)]
        |first, outputs| {
            for (plane, y) in (first..).zip(outputs) {
                let x = &x[plane * h * w..][..h * w];
                let taps = &taps[plane / channels * num_taps..][..num_taps];
                match along {
                    Along::H => columns(x, y, taps, (w, pad)),
                    Along::W => {
                        let rows = x.chunks_exact(w.max(1)).zip(y.chunks_exact_mut(ow.max(1)));
                        rows.for_each(|(x, y)| columns(x, y, taps, (1, pad)));
                    }
                }
            }
        },
    );
    y
}

/// Rows of `w` elements, filtered across.
#[inline(always)]
#[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
fn columns<T: Element>(x: &[T], y: &mut [T], taps: &[T], (w, pad): (usize, usize)) {
    let pad = pad * w;
    for (k, &tap) in taps.iter().enumerate() {
        // output i meets input i + k w - pad
        let (from, to) = ((k * w).saturating_sub(pad), pad.saturating_sub(k * w));
        if let (Some(x), Some(y)) = (x.get(from..), y.get_mut(to..)) {
            y.iter_mut().zip(x).for_each(|(y, x)| *y += tap * *x);
        }
    }
}
