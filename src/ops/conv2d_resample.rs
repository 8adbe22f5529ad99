//! Convolution together with a change of resolution, in the cheapest equivalent order.
//!
//! In short: `downsample(conv(upsample(x)))`, both resamplings with the same FIR filter. A stride
//! takes the place of decimation, a transposed convolution that of zero insertion, and a 1x1
//! convolution runs where there are fewer pixels.
//!
//! Trap: with `up == 1` the weight is correlated with the image, with `up > 1` convolved (flipped),
//! which is what a transposed convolution does. Public checkpoints are trained that way.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, appendix B.

use candle_core::{Result, bail};

use super::conv2d::{conv_transpose2d, conv2d};
use super::traced::Traced;
use super::upfirdn2d::{Axis, Filter, Upfirdn2d, halves, upfirdn2d};

/// How the resolution changes around a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Resample<'a> {
    /// Low-pass filter of both directions.
    pub filter: &'a Filter,
    /// Upsampling factor before the convolution, at least 1.
    pub up: usize,
    /// Downsampling factor after it, at least 1.
    pub down: usize,
}

/// `gain * conv(x [N, C, H, W], w [O, C, k, k])` with `padding` zeros around the upsampled image.
///
/// Returns `[N, O, H * up / down, ..]` for an odd `k` and `padding = k / 2`; differentiable to any
/// order.
///
/// # Errors
/// Fails if channels do not fit, the kernel is not square, or nothing is left.
pub fn conv2d_resample(
    x: &Traced,
    w: &Traced,
    resample: Resample,
    padding: usize,
    gain: f64,
) -> Result<Traced> {
    let Resample { filter, up, down } = resample;
    let (_, _, k, kw) = w.dims4()?;
    if k != kw || up == 0 || down == 0 {
        bail!(
            "conv2d_resample: expected a square kernel and factors >= 1, got {k}x{kw}, up {up}, down {down}"
        );
    }
    let fir = |x: &Traced, up: usize, down: usize, crop: [isize; 2], gain: f64| {
        let axis = |taps: usize| {
            let [before, after] = resample.pads(taps, padding);
            Axis { up, down, pad: [before - crop[0], after - crop[1]] }
        };
        let (taps_y, taps_x) = filter.size();
        upfirdn2d(x, &Upfirdn2d::convolve(filter, axis(taps_y), axis(taps_x), gain))
    };
    let up_gain = (up * up) as f64; // zeros between the pixels take their share of the brightness
    match (up, down, k) {
        (1, 1, _) => conv2d(x, w, 1, padding, gain),
        (1, _, 1) => conv2d(&fir(x, 1, down, [0, 0], 1.0)?, w, 1, 0, gain),
        (_, 1, 1) => fir(&conv2d(x, w, 1, 0, gain)?, up, 1, [0, 0], up_gain),
        (1, _, _) => conv2d(&fir(x, 1, 1, [0, 0], 1.0)?, w, down, 0, gain),
        _ => {
            let x = conv_transpose2d(x, &w.transpose(0, 1)?, up, 0, gain)?;
            let crop = [k as isize - 1, k as isize - up as isize];
            let x = fir(&x, 1, 1, crop, up_gain)?;
            if down == 1 {
                return Ok(x);
            }
            let axis = Axis { up: 1, down, pad: [0, 0] };
            upfirdn2d(&x, &Upfirdn2d::convolve(filter, axis, axis, 1.0))
        }
    }
}

impl Resample<'_> {
    /// Zeros around the upsampled image that centre the filters of both directions.
    fn pads(&self, taps: usize, padding: usize) -> [isize; 2] {
        let (up, down) = (self.up as isize, self.down as isize);
        let mut pads = [padding as isize; 2];
        let mut add = |[before, after]: [isize; 2]| pads = [pads[0] + before, pads[1] + after];
        if up > 1 {
            add(halves(taps, [up - 1, -up]));
        }
        if down > 1 {
            add(halves(taps, [1 - down, -down]));
        }
        pads
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;
    use crate::ops::check::{Draws, finite_differences, same};

    #[test]
    fn gradients_equal_finite_differences() -> Result<()> {
        let (mut draws, filter) = (Draws::new(60), Filter::stylegan2());
        for (up, down) in [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2)] {
            for k in [1, 3] {
                let args = [draws.normals((2, 3, 6, 5))?, draws.normals((2, 3, k, k))?];
                finite_differences(&format!("up {up}, down {down}, {k}x{k}"), &args, &|a| {
                    let resample = Resample { filter: &filter, up, down };
                    conv2d_resample(&a[0], &a[1], resample, k / 2, 0.7)
                })?;
            }
        }
        Ok(())
    }

    /// `w` turned by 180 degrees.
    fn flipped(w: &Traced) -> Result<Traced> {
        let back = |len: usize| Tensor::from_iter((0..len as u32).rev(), w.device());
        w.index_select(&back(w.dim(2)?)?, 2)?.index_select(&back(w.dim(3)?)?, 3)
    }

    /// The cheap order against the three steps of the definition, one after the other.
    #[test]
    fn any_order_equals_the_definition() -> Result<()> {
        let mut draws = Draws::new(61);
        let filters = [
            Filter::stylegan2(),
            Filter::identity(),
            Filter::separable(&[0.3, 0.7]),
            Filter::separable(&[0.1, 0.2, 0.3, 0.2, 0.2]),
        ];
        for filter in &filters {
            for (up, down, k) in [(2, 1, 1), (2, 1, 3), (1, 2, 1), (1, 2, 3), (2, 2, 3), (4, 1, 3)]
            {
                let resample = Resample { filter, up, down };
                let (taps, padding) = (filter.size().0, k / 2);
                let steps = |a: &[Traced]| {
                    let axis = Axis { up, down: 1, pad: resample.pads(taps, padding) };
                    let gain = (up * up) as f64;
                    let fir = if up > 1 || down > 1 { filter } else { &Filter::identity() };
                    let x = upfirdn2d(&a[0], &Upfirdn2d::convolve(fir, axis, axis, gain))?;
                    // With upsampling, the weight is flipped: see the module's trap.
                    let w = if up > 1 { flipped(&a[1])? } else { a[1].clone() };
                    let x = conv2d(&x, &w, 1, 0, 0.7)?;
                    let fir = if up > 1 && down > 1 { filter } else { &Filter::identity() };
                    let axis = Axis { up: 1, down, pad: [0, 0] };
                    upfirdn2d(&x, &Upfirdn2d::convolve(fir, axis, axis, 1.0))
                };
                let args = [draws.normals((2, 3, 8, 6))?, draws.normals((2, 3, k, k))?];
                let what = format!("{taps} taps, up {up}, down {down}, {k}x{k}");
                let ours = |a: &[Traced]| conv2d_resample(&a[0], &a[1], resample, padding, 0.7);
                assert_eq!(
                    ours(&args.each_ref().map(Traced::from))?.dims(),
                    [2, 2, 8 * up / down, 6 * up / down],
                    "{what}"
                );
                same(&what, &args, &ours, &steps)?;
            }
        }
        Ok(())
    }
}
