//! `DiffAugment`: color, translation, cutout.
//!
//! The published transforms happen always; here each of the three kinds happens to an image with
//! probability `p`, so that 1 is the published form. Contrast goes toward the mean of an image,
//! saturation toward that of a pixel: both linear in the picture.
//!
//! Reference: Zhao et al. 2020, arXiv:2006.10738, section 3.3 and appendix A.

use std::sync::Arc;

use candle_core::Result;
use serde::{Deserialize, Serialize};

use super::color::Color;
use super::pipeline::{Place, upload};
use super::values::Kind;
use crate::ops::grid_sample::Affine;
use crate::ops::{Traced, grid_sample};

/// How strong the transforms are; a strength of 0 leaves one out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffAugConfig {
    /// Width of the interval around 0 of a number that is added.
    pub brightness: f64,
    /// Width of the interval around 1 of the factor for the distance from gray.
    pub saturation: f64,
    /// Width of the interval around 1 of the factor for the distance from the mean.
    pub contrast: f64,
    /// The largest shift, as a share of the size.
    pub translation: f64,
    /// Width and height of the rectangle that is left out, as a share of the size.
    pub cutout: f64,
}

impl DiffAugConfig {
    /// As published: brightness within 0.5 of 0, saturation 0 to 2, contrast 0.5 to 1.5, shifts by
    /// an eighth, half of the size left out.
    pub const PUBLISHED: Self =
        Self { brightness: 1.0, saturation: 2.0, contrast: 1.0, translation: 0.125, cutout: 0.5 };
}

/// What is drawn for one image; [`DiffValues::NONE`] where it is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiffValues {
    /// A number that is added.
    pub brightness: f64,
    /// A factor.
    pub saturation: f64,
    /// A factor.
    pub contrast: f64,
    /// Pixels along x and y, whole numbers.
    pub translation: [f64; 2],
    /// The column and row around which the rectangle lies, if there is one.
    pub cutout: Option<[usize; 2]>,
}

impl DiffValues {
    /// Nothing is changed.
    pub const NONE: Self = Self {
        brightness: 0.0,
        saturation: 1.0,
        contrast: 1.0,
        translation: [0.0; 2],
        cutout: None,
    };

    /// Values at strength `p` from the numbers that `next` gives.
    pub(super) fn draw(
        config: &DiffAugConfig,
        (h, w): (usize, usize),
        p: f64,
        mut next: impl FnMut(Kind) -> f64,
    ) -> Self {
        let mut uniform = || next(Kind::Uniform);
        let mut values = Self::NONE;
        let [gates, numbers] = [(); 2].map(|()| [(); 7].map(|()| uniform()));
        let around = |middle: f64, width: f64, number: f64| middle + (number - 0.5) * width;
        if gates[0] < p {
            values.brightness = around(0.0, config.brightness, numbers[0]);
            values.saturation = around(1.0, config.saturation, numbers[1]);
            values.contrast = around(1.0, config.contrast, numbers[2]);
        }
        if gates[1] < p {
            let shift = |number: f64, len: usize| {
                let most = pixels(config.translation, len) as f64;
                (number * (2.0 * most + 1.0)).floor() - most
            };
            values.translation = [shift(numbers[3], w), shift(numbers[4], h)];
        }
        if gates[2] < p && config.cutout > 0.0 {
            // One place more where the rectangle's own size is even.
            let place = |number: f64, len: usize| {
                let places = len + 1 - pixels(config.cutout, len) % 2;
                (number * places as f64) as usize
            };
            values.cutout = Some([place(numbers[5], w), place(numbers[6], h)]);
        }
        values
    }
}

/// A share of `len` pixels, to the nearest.
fn pixels(share: f64, len: usize) -> usize {
    (share * len as f64 + 0.5) as usize
}

/// Brightness and saturation.
pub(super) fn color(
    values: &[DiffValues],
    img_channels: usize,
    place: &Place,
) -> Result<Option<Color>> {
    let map = |v: &DiffValues| {
        let shared = (1.0 - v.saturation) / 3.0;
        [0, 1, 2].map(|i| {
            let mut row = [shared, shared, shared, v.brightness];
            row[i] += v.saturation;
            row
        })
    };
    let maps: Vec<_> = values.iter().map(map).collect();
    Color::of_maps(&maps, img_channels, place)
}

/// Factors for the distance from the mean of each image, `[N, 1, 1, 1]`.
#[derive(Clone, Debug)]
pub(super) struct Contrast(Traced);

impl Contrast {
    pub(super) fn of(values: &[DiffValues], place: &Place) -> Result<Option<Self>> {
        if values.iter().all(|values| values.contrast == 1.0) {
            return Ok(None);
        }
        let factors = values.iter().map(|values| values.contrast).collect();
        Ok(Some(Self(Traced::constant(&upload(factors, (values.len(), 1, 1, 1), place)?))))
    }

    pub(super) fn apply(&self, img: &Traced) -> Result<Traced> {
        let mean = img.flatten_from(1)?.mean_keepdim(1)?.reshape(self.0.shape())?;
        let rest = self.0.affine(-1.0, 1.0)?;
        img.broadcast_mul(&self.0)?.broadcast_add(&(mean * rest)?)
    }
}

/// Shifts by whole pixels; zeros come in.
#[derive(Clone, Debug)]
pub(super) struct Translation(Arc<[Affine]>);

impl Translation {
    pub(super) fn of(values: &[DiffValues]) -> Option<Self> {
        let is_still = |values: &DiffValues| values.translation == [0.0; 2];
        let map = |DiffValues { translation: [x, y], .. }: &DiffValues| Affine {
            x: [1.0, 0.0, *x],
            y: [0.0, 1.0, *y],
        };
        (!values.iter().all(is_still)).then(|| Self(values.iter().map(map).collect()))
    }

    pub(super) fn apply(&self, img: &Traced) -> Result<Traced> {
        let (_, _, h, w) = img.dims4()?;
        grid_sample(img, &self.0, (h, w))
    }
}

/// Zeros inside, ones outside of each image's rectangle, `[N, 1, h, w]`, what of it is in the
/// picture.
pub(super) fn mask(
    values: &[DiffValues],
    (h, w): (usize, usize),
    config: &DiffAugConfig,
    place: &Place,
) -> Result<Option<Traced>> {
    if values.iter().all(|values| values.cutout.is_none()) {
        return Ok(None);
    }
    let mut mask = Vec::with_capacity(values.len() * h * w);
    for values in values {
        let is_in = |idx: usize, len: usize, middle: usize| {
            let size = pixels(config.cutout, len);
            (middle..middle + size).contains(&(idx + size / 2))
        };
        for row in 0..h {
            let keeps = |column: usize| match values.cutout {
                Some([x, y]) => !(is_in(row, h, y) && is_in(column, w, x)),
                None => true,
            };
            mask.extend((0..w).map(|column| f64::from(u8::from(keeps(column)))));
        }
    }
    Ok(Some(Traced::constant(&upload(mask, (values.len(), 1, h, w), place)?)))
}
