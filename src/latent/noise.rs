//! Noise inputs that are looked for: they are to stay noise, and not to carry the picture.
//!
//! Noise has no likeness to itself when it is moved by a pixel, in no size of it. What has, pays.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, appendix D.

use candle_core::{Result, Tensor};

use crate::ops::Traced;

/// Smaller inputs are not looked at any more.
const MIN_RES: usize = 8;

/// How much noise inputs `[res, res]` resemble themselves, moved by a pixel: a scalar, 0 for noise.
///
/// # Errors
/// Fails if an op does.
pub fn regularisation(inputs: &[Traced]) -> Result<Traced> {
    let mut parts = Vec::new();
    for input in inputs {
        let mut noise = input.clone();
        loop {
            let res = noise.dim(0)?;
            for dim in 0..2 {
                let moved = Traced::cat(
                    &[noise.narrow(dim, res - 1, 1)?, noise.narrow(dim, 0, res - 1)?],
                    dim,
                )?;
                parts.push((&noise * &moved)?.mean_all()?.sqr()?);
            }
            if res <= MIN_RES {
                break;
            }
            let quarter = noise.reshape((res / 2, 2, res / 2, 2))?;
            noise = (quarter.sum((1, 3))? * 0.5)?; // of variance 1 again, where it was noise
        }
    }
    Traced::stack(&parts, 0)?.sum_all()
}

/// The input with mean 0 and variance 1.
///
/// # Errors
/// Fails if an op does.
pub fn normalized(input: &Tensor) -> Result<Tensor> {
    let centered = input.broadcast_sub(&input.mean_all()?)?;
    let power = centered.sqr()?.mean_all()?;
    centered.broadcast_div(&(power + 1e-12)?.sqrt()?)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::ops::rng::{Rng, Stream};

    #[test]
    fn noise_pays_little_and_what_repeats_itself_pays() -> Result<()> {
        let draws = Rng::new(1, Stream::LayerNoise, 0).normals(32 * 32);
        let noise = Tensor::from_vec(draws, (32, 32), &Device::Cpu)?.to_dtype(DType::F32)?;
        let pays = |x: &Tensor| regularisation(&[x.into()])?.value().to_scalar::<f32>();
        // like itself in both directions and in three sizes, whose power is 1, 4 and 16
        let flat = noise.ones_like()?;
        assert_eq!(pays(&flat)?, 2.0 * (1.0 + 16.0 + 256.0));
        // 2 (1 / 1024 + 1 / 256 + 1 / 64) is expected
        assert!(pays(&noise)? < 0.2, "{}", pays(&noise)?);
        let normal = normalized(&((&noise * 3.0)? + 5.0)?)?;
        let mean = normal.mean_all()?.to_scalar::<f32>()?;
        let power = normal.sqr()?.mean_all()?.to_scalar::<f32>()?;
        assert!(mean.abs() < 1e-5 && (power - 1.0).abs() < 1e-5);
        Ok(())
    }
}
