//! How unlike two pictures are, without a network that would have to be downloaded.
//!
//! The difference of the pictures is looked at in every size: as it is, and as what each size has
//! beyond the next smaller one (a Laplacian pyramid). Squares of the former bring large forms into
//! place, magnitudes of the latter keep edges where a few large errors would drown them.
//!
//! Bytes end where a generator's values go on: what is beyond 255 has become 255. So a target that
//! is at the end of its range is met by whatever lies beyond.
//!
//! Reference: Burt and Adelson 1983, The Laplacian pyramid as a compact image code; Bojanowski et
//! al. 2018, arXiv:1707.05776 (as a loss for latents).

use candle_core::Result;

use crate::ops::upfirdn2d::{Filter, Upfirdn2d};
use crate::ops::{Traced, upfirdn2d};

/// The smallest size that is looked at.
const MIN_RES: usize = 4;
/// From here on a value is that of the last byte, 0 or 255.
const ALMOST_END: f64 = 1.0 - 1.0 / 255.0;
/// What a magnitude is below, its square is as well: keeps the slope finite.
const SMOOTH: f64 = 1e-3;

/// Unlikeness of each of `img [N, C, R, R]` to `target [1, C, R, R]`, both about [-1, 1]: `[N]`.
///
/// 0 for equal pictures, about 0.1 for pictures that are alike.
///
/// # Errors
/// Fails if shapes do not fit.
pub fn unlikeness(img: &Traced, target: &Traced) -> Result<Traced> {
    let filter = Filter::stylegan2();
    let mut off = less_excess(&img.broadcast_sub(target)?, target)?; // [N, C, R, R]
    let mut total = off.sqr()?.mean((1, 2, 3))?; // [N]
    while off.dim(3)? > MIN_RES {
        let smaller = upfirdn2d(&off, &Upfirdn2d::halve(&filter))?;
        let band = (&off - &upfirdn2d(&smaller, &Upfirdn2d::double(&filter))?)?;
        total = (total + magnitude(&band)?)?;
        total = (total + smaller.sqr()?.mean((1, 2, 3))?)?;
        off = smaller;
    }
    total + magnitude(&off)?
}

/// Differences `[N, C, R, R]` without those that bytes do not show.
fn less_excess(off: &Traced, target: &Traced) -> Result<Traced> {
    let at = |end: f64| -> Result<Traced> {
        let is_there = target.value().affine(end, 0.0)?.ge(ALMOST_END)?;
        Ok(Traced::constant(&is_there.to_dtype(off.dtype())?))
    };
    let zeros = Traced::constant(&off.value().zeros_like()?);
    let above = off.if_positive(off, &zeros)?.broadcast_mul(&at(1.0)?)?;
    let below = off.if_positive(&zeros, off)?.broadcast_mul(&at(-1.0)?)?;
    (off - above)? - below
}

fn magnitude(x: &Traced) -> Result<Traced> {
    ((x.sqr()? + SMOOTH * SMOOTH)?.sqrt()? - SMOOTH)?.mean((1, 2, 3))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    fn flat(value: f32) -> Traced {
        Traced::constant(&Tensor::full(value, (1, 3, 16, 16), &Device::Cpu).unwrap())
    }

    #[test]
    fn equal_pictures_are_not_unlike() -> Result<()> {
        let off = unlikeness(&flat(0.25), &flat(0.25))?;
        assert!(off.value().to_vec1::<f32>()?[0].abs() < 1e-7);
        assert!(unlikeness(&flat(0.5), &flat(0.0))?.value().to_vec1::<f32>()?[0] > 0.5);
        Ok(())
    }

    #[test]
    fn what_bytes_do_not_show_is_not_unlike() -> Result<()> {
        let off = |img, target| unlikeness(&flat(img), &flat(target))?.value().to_vec1::<f32>();
        for end in [1.0, -1.0] {
            assert!(off(1.5 * end, end)?[0].abs() < 1e-7);
            assert!(off(0.5 * end, end)?[0] > 0.5 && off(1.5 * end, 0.9 * end)?[0] > 0.5);
        }
        Ok(())
    }

    /// One pixel that is off counts as its square and its magnitude, in each size.
    #[test]
    fn a_pixel_weighs_more_than_its_square() -> Result<()> {
        let mut pixels = vec![0f32; 3 * 16 * 16];
        pixels[100] = 1.0;
        let img = Tensor::from_vec(pixels, (1, 3, 16, 16), &Device::Cpu)?;
        let off = unlikeness(&(&img).into(), &flat(0.0))?.value().to_vec1::<f32>()?[0];
        let square = 1.0 / (3.0 * 256.0);
        assert!(off > 1.5 * square && off < 6.0 * square, "{off}");
        Ok(())
    }
}
