//! The door: constants of a configuration, draws for a batch, and what is done with them.

use candle_core::{DType, Device, Result, Shape, Tensor, bail};

use super::color::Color;
use super::config::AugmentConfig;
use super::corrupt::{self, BandFilter, Bands};
use super::diffaug::{self, Contrast, DiffAugConfig, DiffValues, Translation};
use super::geometry::{Geometry, Resampling};
use super::values::{Kind, Values};
use crate::ops::rng::Rng;
use crate::ops::{Traced, cost, normals};

/// Type of the pictures, and where they are.
pub(super) type Place = (DType, Device);

/// Numbers made on the host, as a tensor beside the pictures.
pub(super) fn upload(
    values: Vec<f64>,
    shape: impl Into<Shape>,
    (dtype, device): &Place,
) -> Result<Tensor> {
    cost::copied();
    Tensor::from_vec(values, shape.into(), &Device::Cpu)?.to_dtype(*dtype)?.to_device(device)
}

/// Transforms that are drawn anew for each batch; cheap to clone.
#[derive(Clone, Debug)]
pub struct Pipeline {
    transforms: Set,
    img_channels: usize,
    place: Place,
}

#[derive(Clone, Debug)]
enum Set {
    Ada { config: AugmentConfig, resampling: Resampling, bands: Bands },
    DiffAug(DiffAugConfig),
}

impl Pipeline {
    /// The transforms of StyleGAN2-ADA for pictures of `img_channels` channels.
    ///
    /// # Errors
    /// Fails unless there are 1 or 3 channels.
    pub fn new(
        config: &AugmentConfig,
        img_channels: usize,
        place: (DType, &Device),
    ) -> Result<Self> {
        let config = config.clone();
        let set = Set::Ada { config, resampling: Resampling::new(), bands: Bands::new() };
        Self::of(set, img_channels, place)
    }

    /// `DiffAugment` for pictures of `img_channels` channels.
    ///
    /// # Errors
    /// As [`Pipeline::new`].
    pub fn diffaug(
        config: &DiffAugConfig,
        img_channels: usize,
        place: (DType, &Device),
    ) -> Result<Self> {
        Self::of(Set::DiffAug(config.clone()), img_channels, place)
    }

    fn of(transforms: Set, img_channels: usize, (dtype, device): (DType, &Device)) -> Result<Self> {
        if ![1, 3].contains(&img_channels) {
            bail!("augment: expected pictures of 1 or 3 channels, got {img_channels}");
        }
        Ok(Self { transforms, img_channels, place: (dtype, device.clone()) })
    }

    /// Transforms for `n` pictures of `h` by `w` pixels at strength `p` in [0, 1]: a pure function
    /// of the generator and `part` (below 2^23).
    ///
    /// # Errors
    /// Fails if the pictures are too small for a filter that was drawn, or memory runs out.
    pub fn draw(
        &self,
        rng: &Rng,
        part: u64,
        (n, h, w): (usize, usize, usize),
        p: f64,
    ) -> Result<Transforms> {
        // Even parts hold the few numbers of each image, odd ones the noise of all pixels.
        let mut numbers = (0..n as u64).map(|image| {
            let mut index = 2 * part << 32 | image << 8;
            move |kind: Kind| {
                index += 1;
                match kind {
                    Kind::Uniform => rng.uniform(index - 1),
                    Kind::Normal => rng.normal(index - 1),
                }
            }
        });
        match &self.transforms {
            Set::Ada { config, .. } => {
                let values: Vec<Values> = numbers
                    .by_ref()
                    .map(|next| Values::draw(config, self.img_channels, p, next))
                    .collect();
                let noise = || {
                    let (dtype, device) = &self.place;
                    normals(rng, 2 * part + 1, (n, self.img_channels, h, w), (*dtype, device))
                };
                self.transforms(&values, (h, w), noise)
            }
            Set::DiffAug(config) => {
                let values: Vec<DiffValues> = numbers
                    .by_ref()
                    .map(|next| DiffValues::draw(config, (h, w), p, next))
                    .collect();
                self.diffaug_transforms(&values, (h, w))
            }
        }
    }

    /// What `values` of a batch of `h` by `w` pixels mean; `noise` gives draws of N(0, 1),
    /// `[N, C, h, w]`, if any image has noise.
    ///
    /// # Errors
    /// Fails for a pipeline of another kind, if the pictures are too small for a filter, or if
    /// memory runs out.
    pub fn transforms(
        &self,
        values: &[Values],
        (h, w): (usize, usize),
        noise: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Transforms> {
        let Set::Ada { resampling, bands, .. } = &self.transforms else {
            bail!("augment: expected values of DiffAugment for its pipeline");
        };
        let (size, place) = ((h, w), &self.place);
        let geometry = Geometry::of(values, size, resampling, &place.1)?;
        let steps = [
            geometry.map(Step::Geometry),
            Color::of(values, self.img_channels, place)?.map(Step::Color),
            BandFilter::of(values, size, bands, place)?.map(Step::Filter),
            corrupt::noise(values, noise, place)?.map(Step::Noise),
            corrupt::mask(values, size, place)?.map(Step::Mask),
        ];
        Ok(Transforms { steps: steps.into_iter().flatten().collect() })
    }

    /// As [`Pipeline::transforms`], for `DiffAugment`.
    ///
    /// # Errors
    /// As there.
    pub fn diffaug_transforms(
        &self,
        values: &[DiffValues],
        (h, w): (usize, usize),
    ) -> Result<Transforms> {
        let Set::DiffAug(config) = &self.transforms else {
            bail!("augment: expected values of StyleGAN2-ADA for its pipeline");
        };
        let place = &self.place;
        let steps = [
            diffaug::color(values, self.img_channels, place)?.map(Step::Color),
            Contrast::of(values, place)?.map(Step::Contrast),
            Translation::of(values).map(Step::Translation),
            diffaug::mask(values, (h, w), config, place)?.map(Step::Mask),
        ];
        Ok(Transforms { steps: steps.into_iter().flatten().collect() })
    }
}

/// What is done to one batch, all drawn.
#[derive(Clone, Debug)]
pub struct Transforms {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Geometry(Geometry),
    Color(Color),
    Filter(BandFilter),
    /// `[N, C, H, W]`, added.
    Noise(Traced),
    /// `[N, 1, H, W]`, multiplied.
    Mask(Traced),
    Contrast(Contrast),
    Translation(Translation),
}

impl Transforms {
    /// Does it to `img [N, C, H, W]`, the batch that this was drawn for.
    ///
    /// Returns the same shape, differentiable to any order.
    ///
    /// # Errors
    /// Fails if number, channels or size of the pictures are others.
    pub fn apply(&self, img: &Traced) -> Result<Traced> {
        self.steps.iter().try_fold(img.clone(), |x, step| match step {
            Step::Geometry(geometry) => geometry.apply(&x),
            Step::Color(color) => color.apply(&x),
            Step::Filter(filter) => filter.apply(&x),
            Step::Noise(noise) => &x + noise,
            Step::Mask(mask) => x.broadcast_mul(mask),
            Step::Contrast(contrast) => contrast.apply(&x),
            Step::Translation(translation) => translation.apply(&x),
        })
    }

    /// Whether nothing is done.
    pub fn is_identity(&self) -> bool {
        self.steps.is_empty()
    }
}
