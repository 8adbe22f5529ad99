//! How good the generator is: samples against the data set, at fixed counts of images shown.
//!
//! The figures are of the set as a whole, from 256 pictures of it, and rounded to three
//! digits: they are in the log and in the header of the weights.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::statistics::three_digits;
use crate::data::Dataset;
use crate::metrics::{Projected, Sketch, Spread};
use crate::model::{Generator, Noise, Truncation};
use crate::ops::rng::{Rng, Stream};

/// Images of each side of a comparison.
const NUM_IMAGES: usize = 256;
/// Samples that are made at once.
const AT_ONCE: usize = 8;

/// What samples are compared with, and the latents of the samples.
pub struct Quality {
    reals: Projected,
    deviation: f64,
    seed: u64,
    /// `[NUM_IMAGES, z_dim]`
    z: Tensor,
    /// `[NUM_IMAGES, c_dim]`
    c: Option<Tensor>,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Sliced Wasserstein distance of samples and data, see [`crate::metrics::swd`].
    pub swd: f64,
    /// Spread of the samples over that of the data.
    pub diversity: f64,
}

impl Quality {
    /// Looks at the data set. Of a small one pictures come again, with other patches.
    ///
    /// * `label_pool` - the set's labels `[N, c_dim]`, on the processor; samples get labels of the same
    ///   distribution.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn new(
        dataset: &Dataset,
        (seed, z_dim): (u64, usize),
        label_pool: Option<&Tensor>,
        device: &Device,
    ) -> Result<Self> {
        let res = dataset.resolution();
        let (mut sketch, mut spread) = (Sketch::new(3, res, seed)?, Spread::default());
        let order = Rng::new(seed, Stream::Metric, 2 << 32).permutation(dataset.len());
        for idx in order.iter().cycle().take(NUM_IMAGES) {
            let pixels = dataset.image(*idx).expose().iter().map(|v| f32::from(*v) / 127.5 - 1.0);
            let image = Tensor::from_iter(pixels, &Device::Cpu)?.reshape((1, 3, res, res))?;
            sketch.add(&image)?;
            spread.add(&image)?;
        }
        let rng = Rng::new(seed, Stream::Metric, 3 << 32);
        let z = Tensor::from_vec(rng.normals(NUM_IMAGES * z_dim), (NUM_IMAGES, z_dim), device)?;
        let c = label_pool.map(|pool| {
            let labels = Rng::new(seed, Stream::Metric, 4 << 32);
            let rows = pool.dim(0)?;
            let pick = |i: usize| labels.below(i as u64, rows) as u32;
            let rows = Tensor::from_iter((0..NUM_IMAGES).map(pick), &Device::Cpu)?;
            pool.index_select(&rows, 0)?.to_device(device)
        });
        Ok(Self {
            reals: sketch.project()?,
            deviation: spread.deviation(),
            seed,
            z: z.to_dtype(candle_core::DType::F32)?,
            c: c.transpose()?,
        })
    }

    /// Compares samples of `g`.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn measure(&self, g: &Generator) -> Result<Figures> {
        let mut sketch = Sketch::new(3, g.config.img_resolution, self.seed)?;
        let mut spread = Spread::default();
        for start in (0..NUM_IMAGES).step_by(AT_ONCE) {
            let part = |x: &Tensor| x.narrow(0, start, AT_ONCE);
            let c = self.c.as_ref().map(part).transpose()?;
            let images = g.forward(&part(&self.z)?, c.as_ref(), Truncation::NONE, Noise::Const)?;
            sketch.add(&images)?;
            spread.add(&images)?;
        }
        let diversity = spread.deviation() / self.deviation.max(1e-6);
        Ok(Figures {
            swd: three_digits(self.reals.distance(&sketch.project()?)?),
            diversity: three_digits(diversity),
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::model::{Store, generator};
    use crate::train::presets::{Cfg, Overrides, train_config};

    /// A generator whose output layer is 0 makes one gray picture: no diversity, and more distance
    /// than one with fresh weights has.
    #[test]
    fn a_generator_of_one_picture_is_seen() {
        let config = train_config(Cfg::Tiny, 8, 0, &Overrides::default()).g;
        let pixels = Rng::new(0, Stream::Pictures, 0).normals(40 * 192);
        let pixels = pixels.iter().map(|v| (v * 50.0 + 128.0).clamp(0.0, 255.0) as u8).collect();
        let dataset = Dataset::from_raw(8, pixels, 0, Vec::new()).unwrap();
        let quality = Quality::new(&dataset, (0, config.z_dim), None, &Device::Cpu).unwrap();
        let store = Store::new(DType::F32, &Device::Cpu);
        generator(&config, &store.init(0)).unwrap();
        let measure = || quality.measure(&generator(&config, &store.frozen()).unwrap()).unwrap();
        let fresh = measure();
        assert!(fresh.diversity > 0.1, "{fresh:?}");
        for (name, var) in store.params() {
            if name.contains("torgb") {
                store.set(&name, &var.zeros_like().unwrap()).unwrap();
            }
        }
        let gray = measure();
        assert!(gray.diversity < 1e-3 && gray.swd > fresh.swd, "{gray:?} {fresh:?}");
    }
}
