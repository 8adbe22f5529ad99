//! What a training run is made of, with every number decided.

use serde::{Deserialize, Serialize};

use crate::model::Precision;
use crate::model::config::{DiscriminatorConfig, GeneratorConfig};

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
    /// Learning rate of both networks, before the lazy-regularisation correction.
    pub lr: f64,
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
    /// Length of the training, in thousands of real images shown to D.
    pub total_kimg: f64,
    /// The types that the networks' blocks compute in while they are trained.
    pub precision: Precision,
    /// Seeds weights, latents and order.
    pub seed: u64,
}
