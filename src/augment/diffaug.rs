//! `DiffAugment`: color, translation, cutout.
//!
//! The published transforms happen always; here each of the three kinds happens to an image with
//! probability `p`, so that 1 is the published form. Contrast goes toward the mean of an image,
//! saturation toward that of a pixel: both linear in the picture.
//!
//! Reference: Zhao et al. 2020, arXiv:2006.10738, section 3.3 and appendix A.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::color::Color;
use super::pipeline::drawn;
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

    const NONE: Self =
        Self { brightness: 0.0, saturation: 0.0, contrast: 0.0, translation: 0.0, cutout: 0.0 };

    /// Each of its transforms alone, by name, as strong as here.
    pub fn apart(&self) -> [(&'static str, Self); 5] {
        [
            ("brightness", Self { brightness: self.brightness, ..Self::NONE }),
            ("saturation", Self { saturation: self.saturation, ..Self::NONE }),
            ("contrast", Self { contrast: self.contrast, ..Self::NONE }),
            ("translation", Self { translation: self.translation, ..Self::NONE }),
            ("cutout", Self { cutout: self.cutout, ..Self::NONE }),
        ]
    }
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
    dtype: DType,
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
    Color::of_maps(&maps, img_channels, dtype)
}

/// Factors for the distance from the mean of each image, `[N, 1, 1, 1]`.
#[derive(Clone, Debug)]
pub(super) struct Contrast(pub(super) Tensor);

impl Contrast {
    pub(super) fn of(values: &[DiffValues], dtype: DType) -> Result<Option<Self>> {
        if values.iter().all(|values| values.contrast == 1.0) {
            return Ok(None);
        }
        let factors = values.iter().map(|values| values.contrast).collect();
        Ok(Some(Self(drawn(factors, (values.len(), 1, 1, 1), dtype)?)))
    }

    pub(super) fn apply(&self, img: &Traced) -> Result<Traced> {
        let contrast = Traced::constant(&self.0);
        let mean = img.flatten_from(1)?.mean_keepdim(1)?.reshape(contrast.shape())?;
        let rest = contrast.affine(-1.0, 1.0)?;
        img.broadcast_mul(&contrast)?.broadcast_add(&(mean * rest)?)
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
    dtype: DType,
) -> Result<Option<Tensor>> {
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
    drawn(mask, (values.len(), 1, h, w), dtype).map(Some)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::augment::Pipeline;
    use crate::ops::rng::{Rng, Stream};

    fn pipeline() -> Pipeline {
        Pipeline::diffaug(&DiffAugConfig::PUBLISHED, 3, (DType::F64, &Device::Cpu)).unwrap()
    }

    /// The picture `x(c, i, j)` of 4 by 6 pixels after `values`.
    fn after(values: DiffValues, x: impl Fn(usize, usize, usize) -> f64) -> Vec<Vec<Vec<f64>>> {
        let pixel = |idx: usize| x(idx / 24, idx / 6 % 4, idx % 6);
        let img: Vec<f64> = (0..72).map(pixel).collect();
        let img = Tensor::from_vec(img, (1, 3, 4, 6), &Device::Cpu).unwrap();
        let transforms = pipeline().diffaug_transforms(&[values], (4, 6)).unwrap();
        let y = transforms.apply(&img.into()).unwrap();
        y.value().squeeze(0).unwrap().to_vec3().unwrap()
    }

    fn expect(values: DiffValues, expected: impl Fn(usize, usize, usize) -> f64) {
        let y = after(values, ramp);
        for (c, plane) in y.iter().enumerate() {
            for (i, row) in plane.iter().enumerate() {
                for (j, pixel) in row.iter().enumerate() {
                    let expected = expected(c, i, j);
                    assert!((pixel - expected).abs() < 1e-12, "{values:?} {c} {i} {j}: {pixel}");
                }
            }
        }
    }

    /// Means: of a pixel `10 i + j + 100`, of all 117.5.
    fn ramp(c: usize, i: usize, j: usize) -> f64 {
        (100 * c + 10 * i + j) as f64
    }

    #[test]
    fn each_transform_has_its_closed_form() {
        let none = DiffValues::NONE;
        let gray = |i, j| ramp(1, i, j);
        expect(none, ramp);
        expect(DiffValues { brightness: 0.25, ..none }, |c, i, j| ramp(c, i, j) + 0.25);
        expect(DiffValues { saturation: 1.5, ..none }, |c, i, j| {
            gray(i, j) + 1.5 * (ramp(c, i, j) - gray(i, j))
        });
        expect(DiffValues { contrast: 0.5, ..none }, |c, i, j| {
            117.5 + 0.5 * (ramp(c, i, j) - 117.5)
        });
        let all = DiffValues { brightness: 2.0, saturation: 0.0, contrast: 2.0, ..none };
        expect(all, |_, i, j| 119.5 + 2.0 * (gray(i, j) + 2.0 - 119.5));
        expect(DiffValues { translation: [2.0, -1.0], ..none }, |c, i, j| {
            if i >= 1 && j + 2 < 6 { ramp(c, i - 1, j + 2) } else { 0.0 }
        });
        // 2 by 3 pixels around row 1 and column 5: rows 0 and 1, columns 4 and 5 and one outside
        expect(DiffValues { cutout: Some([5, 1]), ..none }, |c, i, j| {
            if i < 2 && j >= 4 { 0.0 } else { ramp(c, i, j) }
        });
    }

    #[test]
    fn apart_the_other_transforms_do_nothing() {
        let values = DiffAugConfig::PUBLISHED
            .apart()
            .map(|(_, config)| DiffValues::draw(&config, (16, 16), 1.0, |_| 0.9));
        let all = DiffValues::draw(&DiffAugConfig::PUBLISHED, (16, 16), 1.0, |_| 0.9);
        let none = DiffValues::NONE;
        let expected = [
            DiffValues { brightness: all.brightness, ..none },
            DiffValues { saturation: all.saturation, ..none },
            DiffValues { contrast: all.contrast, ..none },
            DiffValues { translation: all.translation, ..none },
            DiffValues { cutout: all.cutout, ..none },
        ];
        assert_eq!(values, expected);
        assert!(!expected.contains(&none));
    }

    #[test]
    fn draws_keep_to_their_intervals_and_reach_their_ends() {
        let config = DiffAugConfig::PUBLISHED;
        let draw = |image: u64| {
            let (rng, mut index) = (Rng::new(2, Stream::Augment, image), 0);
            DiffValues::draw(&config, (16, 33), 1.0, |_| {
                index += 1;
                rng.uniform(index)
            })
        };
        let values: Vec<DiffValues> = (0..20_000).map(draw).collect();
        let span = |of: fn(&DiffValues) -> f64| {
            let of = values.iter().map(of);
            (of.clone().fold(f64::INFINITY, f64::min), of.fold(f64::NEG_INFINITY, f64::max))
        };
        let near = |(low, high): (f64, f64), [a, b]: [f64; 2]| {
            let (low, high) = (low - a, b - high);
            assert!((0.0..1e-3).contains(&low) && (0.0..1e-3).contains(&high), "{low} {high}");
        };
        near(span(|v| v.brightness), [-0.5, 0.5]);
        near(span(|v| v.saturation), [0.0, 2.0]);
        near(span(|v| v.contrast), [0.5, 1.5]);
        assert_eq!(span(|v| v.translation[0]), (-4.0, 4.0));
        assert_eq!(span(|v| v.translation[1]), (-2.0, 2.0));
        let place = |axis: usize| {
            let places = values.iter().map(move |v| v.cutout.unwrap()[axis]);
            (places.clone().min(), places.max())
        };
        assert_eq!(place(0), (Some(0), Some(32))); // 17 of 33 pixels: an odd number
        assert_eq!(place(1), (Some(0), Some(16)));
        let half = |image: u64| {
            let rng = Rng::new(3, Stream::Augment, image);
            let mut index = 0;
            DiffValues::draw(&config, (16, 33), 0.25, |_| {
                index += 1;
                rng.uniform(index)
            })
        };
        let cut = (0..10_000).filter(|image| half(*image).cutout.is_some()).count();
        assert!((2290..2710).contains(&cut), "{cut} of 10000"); // five deviations
    }
}
