//! Convolution whose weights are scaled per image by the style, the heart of StyleGAN2.
//!
//! Scaling a weight's input channels is scaling the activations before the convolution, and
//! scaling its output channels is scaling those after it, so one shared weight serves the batch.
//! Demodulation needs the energy of each scaled filter only,
//! `dcoefs[n, o] = 1 / sqrt(sum_i styles[n, i]^2 * sum_kk w[o, i, kk]^2 + 1e-8)`: one small matrix
//! product instead of a weight per image.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, section 2.2, equations 1 to 3.

use candle_core::{Result, bail};

use super::channel_scale::{channel_energy, channel_scale};
use super::conv2d_resample::{Resample, conv2d_resample};
use super::traced::Traced;

/// Convolves `x [N, I, H, W]` with `w [O, I, k, k]` scaled by `styles [N, I]`; `padding = k / 2`.
///
/// With `demodulate`, each output channel of each image is divided by the norm of its filter.
/// Where `x` is of a narrower type than `w` and `styles`, so is the convolution, of weights and
/// styles that are normalised first.
/// Returns `[N, O, H * up / down, ..]`, differentiable to any order in all three.
///
/// # Errors
/// Fails if batch or channels do not fit.
pub fn modulated_conv2d(
    x: &Traced,
    w: &Traced,
    styles: &Traced,
    resample: Resample,
    demodulate: bool,
) -> Result<Traced> {
    let (n, c, _, _) = x.dims4()?;
    let k = w.dim(2)?;
    if styles.dims() != [n, c] {
        bail!("modulated_conv2d: expected styles [{n}, {c}], got {:?}", styles.shape());
    }
    let is_narrow = x.dtype() != w.dtype();
    let (w, styles) =
        if is_narrow && demodulate { normalize(w, styles)? } else { (w.clone(), styles.clone()) };
    let narrow = |t: &Traced| t.to_dtype(x.dtype());
    let y = channel_scale(x, &narrow(&styles)?)?;
    let y = conv2d_resample(&y, &narrow(&w)?, resample, k / 2, 1.0)?;
    if !demodulate {
        return Ok(y);
    }
    let energy = channel_energy(&w)?; // [O, I]
    let norm = (styles.sqr()?.matmul(&energy.t()?)? + 1e-8)?.sqrt()?; // [N, O]
    channel_scale(&y, &narrow(&norm.recip()?)?)
}

/// Weights and styles of a size that 16 bits can hold, and so can their products' sums.
///
/// Demodulation takes any factor of a filter and of an image's styles out again, so these count as
/// constants: the derivatives are the same.
fn normalize(w: &Traced, styles: &Traced) -> Result<(Traced, Traced)> {
    let (o, i, kh, kw) = w.dims4()?;
    let largest = |x: &Traced| -> Result<Traced> {
        let largest = x.value().flatten_from(1)?.abs()?.max_keepdim(1)?;
        Ok(Traced::constant(&(largest + 1e-12)?))
    };
    let gain = 1.0 / ((i * kh * kw) as f64).sqrt();
    let w_factor = (largest(w)?.recip()? * gain)?.reshape((o, 1, 1, 1))?;
    Ok((w.broadcast_mul(&w_factor)?, styles.broadcast_div(&largest(styles)?)?))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::ops::check::{Draws, difference, finite_differences, same, same_bits};
    use crate::ops::selftest::derivatives;
    use crate::ops::upfirdn2d::Filter;

    fn random(draws: &mut Draws, k: usize) -> Result<[Tensor; 3]> {
        Ok([draws.normals((3, 3, 4, 5))?, draws.normals((2, 3, k, k))?, draws.normals((3, 3))?])
    }

    #[test]
    fn gradients_equal_finite_differences() -> Result<()> {
        let (mut draws, filter) = (Draws::new(50), Filter::stylegan2());
        for (k, up) in [(1, 1), (3, 1), (3, 2)] {
            for demodulate in [false, true] {
                let what = format!("{k}x{k}, up {up}, demodulate {demodulate}");
                finite_differences(&what, &random(&mut draws, k)?, &|a| {
                    let resample = Resample { filter: &filter, up, down: 1 };
                    modulated_conv2d(&a[0], &a[1], &a[2], resample, demodulate)
                })?;
            }
        }
        Ok(())
    }

    /// A weight for each image: modulated, divided by its norm, convolved with one image (eq. 1-3).
    #[test]
    fn one_weight_for_all_equals_a_weight_per_image() -> Result<()> {
        let (mut draws, filter) = (Draws::new(51), Filter::stylegan2());
        for up in [1, 2] {
            let resample = Resample { filter: &filter, up, down: 1 };
            let per_image = |a: &[Traced]| {
                let of = |n: usize| {
                    let style = a[2].narrow(0, n, 1)?.reshape((1, 3, 1, 1))?;
                    let w = a[1].broadcast_mul(&style)?; // [O, I, k, k]
                    let norm = (w.sqr()?.flatten_from(1)?.sum_keepdim(1)? + 1e-8)?.sqrt()?;
                    let w = w.broadcast_div(&norm.reshape((2, 1, 1, 1))?)?;
                    conv2d_resample(&a[0].narrow(0, n, 1)?, &w, resample, 1, 1.0)
                };
                Traced::cat(&(0..3).map(of).collect::<Result<Vec<_>>>()?, 0)
            };
            let shared = |a: &[Traced]| modulated_conv2d(&a[0], &a[1], &a[2], resample, true);
            same(&format!("up {up}"), &random(&mut draws, 3)?, &shared, &per_image)?;
        }
        Ok(())
    }

    /// A type that differs from the weights' takes the way of the narrow ones.
    #[test]
    fn normalised_factors_change_nothing() -> Result<()> {
        let (mut draws, filter) = (Draws::new(53), Filter::stylegan2());
        for (up, demodulate) in [(1, true), (2, true), (1, false)] {
            let op = |a: &[Traced], dtype: DType| {
                let resample = Resample { filter: &filter, up, down: 1 };
                let x = a[0].to_dtype(dtype)?;
                modulated_conv2d(&x, &a[1], &a[2], resample, demodulate)?.to_dtype(DType::F32)
            };
            let args = random(&mut draws, 3)?.map(|arg| arg.to_dtype(DType::F32).unwrap());
            let narrow = derivatives(&args, (DType::F32, &Device::Cpu), &|a| op(a, DType::F64))?;
            let plain = derivatives(&args, (DType::F32, &Device::Cpu), &|a| op(a, DType::F32))?;
            for order in 0..3 {
                let error = difference(&narrow[order], &plain[order])?;
                // Roundings of f32, and 1e-8 beside another energy.
                assert!(error < 2e-5, "up {up}, demodulate {demodulate}, {order}: {error:e}");
            }
        }
        Ok(())
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
        let (mut draws, filter) = (Draws::new(52), Filter::stylegan2());
        let args = [
            draws.normals((3, 20, 17, 18))?,
            draws.normals((21, 20, 3, 3))?,
            draws.normals((3, 20))?,
        ];
        same_bits("modulated_conv2d", &args, &|a| {
            let resample = Resample { filter: &filter, up: 2, down: 1 };
            modulated_conv2d(&a[0], &a[1], &a[2], resample, true)
        })
    }
}
