//! What a training run is made of, with every number decided.

use serde::{Deserialize, Serialize};

use candle_core::{DType, Device, Result};

use crate::augment::{AugPipe, DiffAugConfig, Pipeline};
use crate::model::Precision;
use crate::model::config::{DiscriminatorConfig, GeneratorConfig};

/// What is done to images before D sees them, where there is a [`Strength`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Augmentations {
    /// Transforms of StyleGAN2-ADA.
    Pipe(AugPipe),
    /// Those of `DiffAugment`.
    DiffAug,
}

impl Augmentations {
    /// The transforms for images of so many channels.
    ///
    /// # Errors
    /// Fails unless there are 1 or 3 channels.
    pub fn pipeline(self, img_channels: usize, place: (DType, &Device)) -> Result<Pipeline> {
        match self {
            Self::Pipe(pipe) => Pipeline::new(&pipe.config(), img_channels, place),
            Self::DiffAug => Pipeline::diffaug(&DiffAugConfig::PUBLISHED, img_channels, place),
        }
    }
}

impl Default for Augmentations {
    fn default() -> Self {
        Self::Pipe(AugPipe::Bgc)
    }
}

/// The probability `p` of each augmentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// Nothing is augmented.
    #[default]
    Off,
    /// The same all the time.
    Fixed {
        /// In `[0, 1]`.
        p: f64,
    },
    /// As strong as overfitting demands, see [`super::ada`].
    Adaptive {
        /// Mean sign of D on real images that is aimed at.
        target: f64,
        /// Thousands of images in which `p` can go from 0 to 1.
        kimg: f64,
    },
}

/// A training run without anything left to decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// Shape of the generator.
    pub g: GeneratorConfig,
    /// Shape of the discriminator.
    pub d: DiscriminatorConfig,
    /// Images per optimizer step.
    pub batch: usize,
    /// Images per forward pass; `batch` is a multiple of it, the rounds are accumulated.
    pub batch_gpu: usize,
    /// Learning rate of the generator, before the lazy-regularisation correction.
    pub g_lr: f64,
    /// Learning rate of the discriminator, before the lazy-regularisation correction.
    pub d_lr: f64,
    /// Weight of the R1 penalty.
    pub r1_gamma: f64,
    /// Weight of the path length penalty; 0: off.
    pub pl_weight: f64,
    /// Probability that two latents share an image's layers.
    pub style_mixing_prob: f64,
    /// Half-life of the weight average, in thousands of images.
    pub ema_kimg: f64,
    /// The half-life is at most this share of the images seen; absent: no ramp.
    pub ema_rampup: Option<f64>,
    /// What is done to images before D sees them.
    pub augmentations: Augmentations,
    /// How strong that is.
    pub strength: Strength,
    /// Layers of D that are not trained, counted from the image.
    pub freezed: usize,
    /// Thousands of images in which G stands still, and then as many in which its learning rate
    /// grows: a fresh D wrecks a trained G.
    pub d_warmup_kimg: f64,
    /// Length of the training, in thousands of real images shown to D.
    pub total_kimg: f64,
    /// The types that the networks' blocks compute in while they are trained.
    pub precision: Precision,
    /// Seeds weights, latents and order.
    pub seed: u64,
}
