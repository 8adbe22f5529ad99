//! The generator: mapping and synthesis together.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::config::GeneratorConfig;
use super::mapping::{Mapping, MappingConfig, Truncation, mapping};
use super::precision::Precision;
use super::synthesis::{Noise, Synthesis, synthesis};
use crate::ops::Traced;

/// A generator.
#[derive(Clone, Debug)]
pub struct Generator {
    /// Its shape.
    pub config: GeneratorConfig,
    /// From latents to `w`.
    pub mapping: Mapping,
    /// From `ws` to images.
    pub synthesis: Synthesis,
}

/// A generator with parameters `mapping.*` and `synthesis.*`.
///
/// # Errors
/// Fails if `vb` has no such tensors.
pub fn generator(config: &GeneratorConfig, vb: &VarBuilder) -> Result<Generator> {
    let shape = MappingConfig {
        z_dim: config.z_dim,
        c_dim: config.c_dim,
        w_dim: config.w_dim,
        num_layers: config.mapping_layers,
    };
    Ok(Generator {
        config: config.clone(),
        mapping: mapping(shape, &vb.pp("mapping"))?,
        synthesis: synthesis(config, &vb.pp("synthesis"))?,
    })
}

impl Generator {
    /// The same network with blocks of other types.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { synthesis: self.synthesis.with_precision(precision), ..self }
    }

    /// Images `[N, img_channels, H, W]`, about [-1, 1], of latents `z [N, z_dim]` and labels
    /// `c [N, c_dim]`.
    ///
    /// # Errors
    /// Fails if shapes do not fit.
    pub fn forward(
        &self,
        z: &Tensor,
        c: Option<&Tensor>,
        truncation: Truncation,
        noise: Noise,
    ) -> Result<Tensor> {
        Ok(self.synthesis.forward(&self.ws(z, c, truncation)?, noise)?.value().clone())
    }

    /// `ws [N, num_ws, w_dim]` of latents and labels.
    ///
    /// # Errors
    /// Fails if shapes do not fit.
    pub fn ws(&self, z: &Tensor, c: Option<&Tensor>, truncation: Truncation) -> Result<Traced> {
        let w = self.mapping.forward(Some(z), c)?;
        self.mapping.broadcast(&w, self.config.num_ws(), truncation)
    }
}
