//! The door: constants of a configuration, draws for a batch, and what is done with them.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};

use super::color::Color;
use super::config::AugmentConfig;
use super::corrupt::{self, BandFilter, Bands, PixelNoise};
use super::diffaug::{self, Contrast, DiffAugConfig, DiffValues, Translation};
use super::geometry::{Geometry, Resampling};
use super::values::{Kind, Values};
use crate::ops::rng::Rng;
use crate::ops::{Traced, normals};

/// Numbers that were drawn, on the processor, in the type of the pictures.
pub(super) fn drawn(values: Vec<f64>, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)?.to_dtype(dtype)
}

/// Transforms that are drawn anew for each batch; cheap to clone.
#[derive(Clone, Debug)]
pub struct Pipeline {
    transforms: Set,
    img_channels: usize,
    /// Type of the pictures, and where they are.
    place: (DType, Device),
}

#[derive(Clone, Debug)]
enum Set {
    Ada(Arc<Ada>),
    DiffAug(DiffAugConfig),
}

#[derive(Debug)]
struct Ada {
    config: AugmentConfig,
    resampling: Arc<Resampling>,
    bands: Bands,
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
        let (config, resampling) = (config.clone(), Arc::new(Resampling::new()));
        let ada = Ada { config, resampling, bands: Bands::new() };
        Self::of(Set::Ada(Arc::new(ada)), img_channels, place)
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
    /// Their [`Transforms::numbers`] are on the processor and have yet to be brought to the
    /// pictures.
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
            let mut index = (2 * part) << 32 | image << 8;
            move |kind: Kind| {
                index += 1;
                match kind {
                    Kind::Uniform => rng.uniform(index - 1),
                    Kind::Normal => rng.normal(index - 1),
                }
            }
        });
        match &self.transforms {
            Set::Ada(ada) => {
                let values: Vec<Values> = numbers
                    .by_ref()
                    .map(|next| Values::draw(&ada.config, self.img_channels, p, next))
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
        let Set::Ada(ada) = &self.transforms else {
            bail!("augment: expected values of DiffAugment for its pipeline");
        };
        let (size, dtype) = ((h, w), self.place.0);
        let geometry = Geometry::of(values, size, &ada.resampling)?;
        let steps = [
            geometry.map(|geometry| Step::Geometry(Box::new(geometry))),
            Color::of(values, self.img_channels, dtype)?.map(Step::Color),
            BandFilter::of(values, size, &ada.bands, dtype)?.map(Step::Filter),
            PixelNoise::of(values, noise, dtype)?.map(Step::Noise),
            corrupt::mask(values, size, dtype)?.map(Step::Mask),
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
        let dtype = self.place.0;
        let steps = [
            diffaug::color(values, self.img_channels, dtype)?.map(Step::Color),
            Contrast::of(values, dtype)?.map(Step::Contrast),
            Translation::of(values).map(Step::Translation),
            diffaug::mask(values, (h, w), config, dtype)?.map(Step::Mask),
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
    Geometry(Box<Geometry>),
    Color(Color),
    Filter(BandFilter),
    Noise(PixelNoise),
    /// `[N, 1, H, W]`, multiplied.
    Mask(Tensor),
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
            Step::Noise(noise) => noise.apply(&x),
            Step::Mask(mask) => x.broadcast_mul(&mask.into()),
            Step::Contrast(contrast) => contrast.apply(&x),
            Step::Translation(translation) => translation.apply(&x),
        })
    }

    /// The numbers that were drawn on the processor, which must be where the pictures are.
    pub fn numbers(&mut self) -> impl Iterator<Item = &mut Tensor> {
        self.steps.iter_mut().flat_map(|step| match step {
            Step::Geometry(geometry) => geometry.numbers(),
            Step::Color(color) => color.numbers(),
            Step::Filter(BandFilter(numbers))
            | Step::Mask(numbers)
            | Step::Contrast(Contrast(numbers))
            | Step::Noise(PixelNoise { draws: _, sigma: numbers }) => std::slice::from_mut(numbers),
            Step::Translation(_) => &mut [],
        })
    }

    /// Whether nothing is done.
    pub fn is_identity(&self) -> bool {
        self.steps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::augment::AugPipe;
    use crate::ops::bias_act::softplus;
    use crate::ops::rng::Stream;
    use crate::ops::{conv2d, grad, grad_with_graph};

    const CPU: &Device = &Device::Cpu;

    fn tensor(part: u64, shape: &[usize]) -> Tensor {
        normals(&Rng::new(5, Stream::Samples, 0), part, shape, (DType::F64, CPU)).unwrap()
    }

    fn rng(step: u64) -> Rng {
        Rng::new(17, Stream::Augment, step)
    }

    fn pipelines(img_channels: usize) -> [Pipeline; 2] {
        let place = (DType::F64, CPU);
        [
            Pipeline::new(&AugPipe::Bgcfnc.config(), img_channels, place).unwrap(),
            Pipeline::diffaug(&DiffAugConfig::PUBLISHED, img_channels, place).unwrap(),
        ]
    }

    /// R1 of `D(x) = sum v softplus(w * augmented(x))`, a discriminator whose penalty depends on
    /// the picture, and the penalty's gradient in `w`.
    fn r1(w: &Tensor, x: &Tensor, transforms: &Transforms) -> Result<(f64, Tensor)> {
        let w = Traced::variable(&Var::from_tensor(w)?);
        let x = Traced::variable(&Var::from_tensor(x)?);
        let y = softplus(&conv2d(&transforms.apply(&x)?, &w, 1, 1, 1.0)?)?;
        let logits = (&y * Traced::constant(&tensor(9, y.dims())))?.sum_all()?;
        let r1_grads = grad_with_graph(&logits, std::slice::from_ref(&x))?.remove(0);
        let r1_penalty = r1_grads.sqr()?.sum_all()?;
        let value = r1_penalty.value().to_scalar()?;
        Ok((value, grad(r1_penalty, &[w])?.remove(0)))
    }

    /// Distance of the points of a difference; five of them err by its fourth power.
    const STEP: f64 = 3e-4;

    /// Along a random direction.
    #[test]
    fn r1_through_the_transforms_equals_finite_differences() -> Result<()> {
        for channels in [1, 3] {
            for pipeline in pipelines(channels) {
                let transforms = pipeline.draw(&rng(1), 3, (3, 24, 26), 0.8)?;
                let x = tensor(1, &[3, channels, 24, 26]);
                let (w, direction) =
                    (tensor(2, &[4, channels, 3, 3]), tensor(3, &[4, channels, 3, 3]));
                let at = |step: f64| {
                    let w = (&w + (&direction * (step * STEP))?)?;
                    Ok::<_, candle_core::Error>(r1(&w, &x, &transforms)?.0)
                };
                let slope = (8.0 * (at(1.0)? - at(-1.0)?) - (at(2.0)? - at(-2.0)?)) / (12.0 * STEP);
                let (penalty, dw) = r1(&w, &x, &transforms)?;
                let ours: f64 = (dw * &direction)?.sum_all()?.to_scalar()?;
                let error = (ours - slope).abs() / slope.abs();
                assert!(penalty > 0.0 && error < 1e-8, "{ours} {slope}");
            }
        }
        Ok(())
    }

    #[test]
    fn f32_and_f64_agree() -> Result<()> {
        let x = tensor(4, &[4, 3, 32, 32]);
        for (kind, full) in pipelines(3).into_iter().enumerate() {
            let mut narrow = full.clone();
            narrow.place.0 = DType::F32;
            let of = |pipeline: &Pipeline, dtype: DType| {
                let transforms = pipeline.draw(&rng(2), 0, (4, 32, 32), 0.9)?;
                let y = transforms.apply(&x.to_dtype(dtype)?.into())?;
                y.value().to_dtype(DType::F64)
            };
            let error = (of(&full, DType::F64)? - of(&narrow, DType::F32)?)?.abs()?.max_all()?;
            assert!(error.to_scalar::<f64>()? < 2e-5, "{kind}: {error}");
        }
        Ok(())
    }

    #[test]
    fn draws_are_a_function_of_generator_and_part() -> Result<()> {
        let x = Traced::constant(&tensor(5, &[2, 3, 32, 32]));
        for pipeline in pipelines(3) {
            let of = |step: u64, part: u64| {
                let transforms = pipeline.draw(&rng(step), part, (2, 32, 32), 1.0)?;
                transforms.apply(&x)?.value().flatten_all()?.to_vec1::<f64>()
            };
            let first = of(0, 0)?;
            assert_eq!(first, of(0, 0)?);
            assert!(first != of(0, 1)? && first != of(1, 0)? && of(0, 1)? != of(1, 0)?);
            let halves = first.split_at(first.len() / 2);
            assert!(halves.0 != halves.1, "two images");
        }
        Ok(())
    }

    #[test]
    fn at_strength_0_pictures_stay_as_they_are() -> Result<()> {
        for pipeline in pipelines(3) {
            assert!(pipeline.draw(&rng(0), 0, (8, 16, 16), 0.0)?.is_identity());
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_done_is_refused() -> Result<()> {
        let place = (DType::F32, CPU);
        let message = Pipeline::new(&AugPipe::Bgc.config(), 2, place).unwrap_err().to_string();
        assert!(message.contains("1 or 3 channels, got 2"), "{message}");
        let filter = Pipeline::new(&AugPipe::Filter.config(), 3, place)?;
        let message = filter.draw(&rng(0), 0, (1, 16, 16), 1.0).unwrap_err().to_string();
        assert!(message.contains("more than 21 pixels"), "{message}");
        let [ada, diffaug] = pipelines(3);
        assert!(ada.diffaug_transforms(&[DiffValues::NONE], (8, 8)).is_err());
        assert!(diffaug.transforms(&[Values::NONE], (8, 8), || bail!("no noise")).is_err());
        Ok(())
    }
}
