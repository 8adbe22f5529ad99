//! In which type the blocks of a network compute: 16 bits at the highest resolutions, where most
//! of the memory and of the time goes, and full precision elsewhere.
//!
//! Weights, optimizer and the image itself stay in full precision; a block casts what enters it.
//! There is no loss scaling: styles and weights are normalised before they meet
//! ([`crate::ops::modulated_conv2d`](mod@crate::ops::modulated_conv2d)), and activations are clamped.
//!
//! Reference: Karras et al. 2020, arXiv:2006.06676, appendix D.

use candle_core::{DType, Result};
use serde::{Deserialize, Serialize};

use crate::ops::Traced;
use crate::ops::selftest::Way;

/// How many of the highest resolutions compute in 16 bits, as in the StyleGAN2-ADA trainer.
const NUM_RES: u32 = 4;
/// Below, nothing is to be won.
const MIN_RES: usize = 8;

/// The types of a network's blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// That of the weights, everywhere.
    #[default]
    F32,
    /// As `F32`, but factors of products are rounded to 10 bits of fraction (TF32), where the GPU
    /// is much faster that way: a setting of the whole process
    /// ([`crate::ops::cuda::set_math`]).
    Tf32,
    /// IEEE half precision at the four highest resolutions.
    F16,
    /// 8 bits of exponent, 7 of fraction, at the four highest resolutions.
    Bf16,
}

impl Precision {
    /// The type of the block at `res` of a network for images of `img_resolution`; `None`: that of
    /// its weights.
    pub(super) fn dtype_at(self, res: usize, img_resolution: usize) -> Option<DType> {
        let first = ((2 * img_resolution) >> NUM_RES).max(MIN_RES);
        match self {
            Self::F16 if res >= first => Some(DType::F16),
            Self::Bf16 if res >= first => Some(DType::BF16),
            Self::F32 | Self::Tf32 | Self::F16 | Self::Bf16 => None,
        }
    }
}

impl From<Precision> for Way {
    /// How ops are computed in a training of this precision.
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Tf32 => Self::Tf32,
            Precision::F16 => Self::F16,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// `x` in the type of a block, whose weights are like `weight`.
pub(super) fn cast(x: &Traced, dtype: Option<DType>, weight: &Traced) -> Result<Traced> {
    x.to_dtype(dtype.unwrap_or(weight.dtype()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_highest_resolutions_from_8_on_are_halved() {
        let halved = |img_resolution: usize| -> Vec<usize> {
            let all = (2..=10).map(|log2| 1 << log2).filter(|res| *res <= img_resolution);
            all.filter(|res| Precision::F16.dtype_at(*res, img_resolution).is_some()).collect()
        };
        assert_eq!(halved(1024), [128, 256, 512, 1024]);
        assert_eq!(halved(64), [8, 16, 32, 64]);
        assert_eq!(halved(16), [8, 16]);
        assert_eq!(Precision::F32.dtype_at(64, 64), None);
        assert_eq!(Precision::Bf16.dtype_at(64, 64), Some(DType::BF16));
    }
}
