//! Convolution whose weights are scaled per image by the style, the heart of StyleGAN2.
//!
//! Scaling a weight's input channels is scaling the activations before the convolution, and
//! scaling its output channels is scaling those after it, so one shared weight serves the batch.
//! Demodulation needs the energy of each scaled filter only,
//! `dcoefs[n, o] = 1 / sqrt(sum_i styles[n, i]^2 * sum_kk w[o, i, kk]^2 + 1e-8)`: one small matrix
//! product instead of a weight per image.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, section 2.2, equations 1 to 3.

use candle_core::{Result, Tensor, bail};

use super::conv2d_resample::{Resample, conv2d_resample};

/// Convolves `x [N, I, H, W]` with `w [O, I, k, k]` scaled by `styles [N, I]`; `padding = k / 2`.
///
/// With `demodulate`, each output channel of each image is divided by the norm of its filter.
/// Returns `[N, O, H * up / down, ..]`, differentiable to any order in all three.
///
/// # Errors
/// Fails if batch or channels do not fit.
pub fn modulated_conv2d(
    x: &Tensor,
    w: &Tensor,
    styles: &Tensor,
    resample: Resample,
    demodulate: bool,
) -> Result<Tensor> {
    let (n, c, _, _) = x.dims4()?;
    let (o, _, k, _) = w.dims4()?;
    if styles.dims() != [n, c] {
        bail!("modulated_conv2d: expected styles [{n}, {c}], got {:?}", styles.shape());
    }
    let x = x.broadcast_mul(&styles.reshape((n, c, 1, 1))?)?;
    let x = conv2d_resample(&x, w, resample, k / 2, 1.0)?;
    if !demodulate {
        return Ok(x);
    }
    let energy = w.sqr()?.sum((2, 3))?; // [O, I]
    let norm = (styles.sqr()?.matmul(&energy.t()?)? + 1e-8)?.sqrt()?; // [N, O]
    x.broadcast_mul(&norm.recip()?.reshape((n, o, 1, 1))?)
}
