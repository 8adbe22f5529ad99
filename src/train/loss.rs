//! The losses of StyleGAN2, per image.
//!
//! Reference: Goodfellow et al. 2014, arXiv:1406.2661 (non-saturating loss); Mescheder et al.
//! 2018, arXiv:1801.04406 (R1); Karras et al. 2020, arXiv:1912.04958, section 3.2 (path length).

use candle_core::{Result, Tensor};

use crate::ops::bias_act::softplus;
use crate::ops::{Traced, grad_with_graph};

/// What a generator pays for its images' logits `[N, 1]`: `-log(sigmoid(logits))`.
///
/// # Errors
/// Fails if candle does.
pub fn g_loss(fake_logits: &Traced) -> Result<Traced> {
    softplus(&fake_logits.neg()?)
}

/// What D pays for generated images: `-log(1 - sigmoid(logits))`, `[N, 1]`.
///
/// # Errors
/// Fails if candle does.
pub fn d_loss_fake(fake_logits: &Traced) -> Result<Traced> {
    softplus(fake_logits)
}

/// What D pays for real images: `-log(sigmoid(logits))`, `[N, 1]`.
///
/// # Errors
/// Fails if candle does.
pub fn d_loss_real(real_logits: &Traced) -> Result<Traced> {
    softplus(&real_logits.neg()?)
}

/// `|grad D(x)|^2` of each real image, `[N]`; times `r1_gamma / 2` it is the R1 penalty.
///
/// * `real_logits` - `[N, 1]`, D applied to `real_img`.
/// * `real_img` - variable, `[N, C, H, W]`, values in [-1, 1].
///
/// Differentiable with respect to the weights of D.
///
/// # Errors
/// Fails if candle does.
///
/// Reference: Mescheder et al. 2018, arXiv:1801.04406, equation 9.
pub fn r1_penalty(real_logits: &Traced, real_img: &Traced) -> Result<Traced> {
    let real_img = std::slice::from_ref(real_img);
    let r1_grads = grad_with_graph(&real_logits.sum_all()?, real_img)?.remove(0); // [N, C, H, W]
    r1_grads.sqr()?.sum((1, 2, 3))
}

/// Path length of each image, `[N]`: how far the image moves with its latents,
/// `sqrt(mean_layers |J^T y|^2)`.
///
/// * `gen_img` - `[N, C, H, W]`, synthesized from `ws`.
/// * `ws` - `[N, num_ws, w_dim]`.
/// * `pl_noise` - `[N, C, H, W]`, draws of N(0, 1).
///
/// Differentiable with respect to the weights of the synthesis network and `ws`.
///
/// # Errors
/// Fails if candle does.
///
/// Reference: Karras et al. 2020, arXiv:1912.04958, equation 4.
pub fn path_lengths(gen_img: &Traced, ws: &Traced, pl_noise: &Tensor) -> Result<Traced> {
    let (_, _, h, w) = gen_img.dims4()?;
    let noise = (pl_noise / ((h * w) as f64).sqrt())?;
    let projected = (gen_img * Traced::constant(&noise))?.sum_all()?;
    let pl_grads = grad_with_graph(&projected, std::slice::from_ref(ws))?.remove(0); // [N, num_ws, w_dim]
    let lengths = pl_grads.sqr()?.sum(2)?.mean(1)?.sqrt()?;
    // slopes of 0 where activations are no numbers must not pass for images that stand still
    lengths.broadcast_add(&Traced::constant(&(projected.value() * 0.0)?))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, NdArray, Var};

    use super::*;
    use crate::ops::grad;

    fn variable(value: impl NdArray) -> Result<Traced> {
        Ok(Traced::variable(&Var::new(value, &Device::Cpu)?))
    }

    /// D(x) = sum (w x)^2 has grad 2 w^2 x, so R1 = 4 w^4 x^2 and dR1/dw = 16 w^3 x^2.
    /// D is not linear on purpose: a linear one cannot tell a detached gradient from a true one.
    #[test]
    fn r1_of_a_quadratic_discriminator() -> Result<()> {
        let w = variable(&[[[[1f32, -2.0]]]])?; // [1, 1, 1, 2]
        let x = variable(&[[[[3f32, 1.0]]]])?; // [N, C, H, W]
        let logits = (&x * &w)?.sqr()?.sum((1, 2, 3))?; // [N]

        let r1 = r1_penalty(&logits, &x)?;

        assert_eq!(r1.value().to_vec1::<f32>()?, [100.0]);
        let dw = grad(r1.sum_all()?, &[w])?.remove(0).flatten_all()?;
        assert_eq!(dw.to_vec1::<f32>()?, [144.0, -128.0]);
        Ok(())
    }

    /// img = s ws^2 (one layer, one pixel) with noise 1 has slope 2 s ws, so the length is
    /// 2 s |ws| and its derivative in s is 2 |ws|.
    #[test]
    fn path_length_of_a_quadratic_generator() -> Result<()> {
        let s = variable(3f64)?;
        let ws = variable(&[[[-2f64]]])?; // [N, num_ws, w_dim]
        let img = ws.sqr()?.broadcast_mul(&s)?.reshape((1, 1, 1, 1))?;
        let lengths = path_lengths(&img, &ws, &img.value().ones_like()?)?;
        assert_eq!(lengths.value().to_vec1::<f64>()?, [12.0]);
        let ds = grad(lengths.sum_all()?, &[s])?.remove(0);
        assert_eq!(ds.to_scalar::<f64>()?, 4.0);
        Ok(())
    }

    #[test]
    fn images_without_numbers_have_no_length() -> Result<()> {
        let ws = variable(&[[[-2f64]]])?;
        let noise = ws.value().ones_like()?.reshape((1, 1, 1, 1))?;
        let img =
            (softplus(&ws)? + Traced::constant(&Tensor::full(f64::NAN, (1, 1, 1), &Device::Cpu)?))?;
        let lengths = path_lengths(&img.reshape((1, 1, 1, 1))?, &ws, &noise)?;
        assert!(lengths.value().to_vec1::<f64>()?[0].is_nan());
        Ok(())
    }

    #[test]
    fn losses_at_logit_zero_are_ln_2() -> Result<()> {
        let logits = Tensor::new(&[[0f64]], &Device::Cpu)?.into();
        for loss in [g_loss(&logits)?, d_loss_fake(&logits)?, d_loss_real(&logits)?] {
            assert!(
                (loss.value().sum_all()?.to_scalar::<f64>()? - std::f64::consts::LN_2).abs()
                    < 1e-15
            );
        }
        Ok(())
    }
}
