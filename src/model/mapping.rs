//! The mapping network: from latents and labels to the intermediate latents `w`.
//!
//! Reference: Karras et al. 2019, arXiv:1812.04948, sections 2 and B; labels as in
//! arXiv:2006.06676, appendix.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use super::layers::{FullyConnected, FullyConnectedConfig, fully_connected, normalize_2nd_moment};
use crate::ops::bias_act::Activation;
use crate::ops::{Traced, adam};

/// Decay of the running mean of `w`.
const W_AVG_BETA: f64 = 0.995;

/// Sizes of a mapping network.
#[derive(Clone, Copy, Debug)]
pub struct MappingConfig {
    /// Length of `z`; 0: labels only, as in a conditional discriminator.
    pub z_dim: usize,
    /// Length of a label; 0: no labels.
    pub c_dim: usize,
    /// Length of `w`.
    pub w_dim: usize,
    /// Fully connected layers.
    pub num_layers: usize,
}

/// How much of a picture's character is kept: `w = w_avg + psi (w - w_avg)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truncation {
    /// 1: all; 0: the average picture.
    pub psi: f64,
    /// Only the first so many layers; absent: all.
    pub cutoff: Option<usize>,
}

impl Truncation {
    /// Nothing is changed.
    pub const NONE: Self = Self { psi: 1.0, cutoff: None };
}

/// A mapping network.
#[derive(Clone, Debug)]
pub struct Mapping {
    config: MappingConfig,
    embed: Option<FullyConnected>,
    layers: Vec<FullyConnected>,
    /// Running mean of `w [w_dim]`; only where there is a `z`.
    w_avg: Option<Tensor>,
}

/// A mapping network with parameters `embed.*` (with labels), `fcK.*`, and the buffer `w_avg`.
///
/// # Errors
/// Fails if `vb` has no such tensors.
pub fn mapping(config: MappingConfig, vb: &VarBuilder) -> Result<Mapping> {
    let MappingConfig { z_dim, c_dim, w_dim, num_layers } = config;
    let embed_dim = if c_dim > 0 { w_dim } else { 0 };
    let linear = FullyConnectedConfig::LINEAR;
    let embed = (c_dim > 0).then(|| fully_connected(c_dim, embed_dim, linear, &vb.pp("embed")));
    let slow =
        FullyConnectedConfig { activation: Activation::LRELU, lr_multiplier: 0.01, bias_init: 0.0 };
    let layer = |i: usize| {
        let in_dim = if i == 0 { z_dim + embed_dim } else { w_dim };
        fully_connected(in_dim, w_dim, slow, &vb.pp(format!("fc{i}")))
    };
    let w_avg = (z_dim > 0).then(|| vb.get_with_hints(w_dim, "w_avg", Init::Const(0.0)));
    Ok(Mapping {
        config,
        embed: embed.transpose()?,
        layers: (0..num_layers).map(layer).collect::<Result<_>>()?,
        w_avg: w_avg.transpose()?,
    })
}

impl Mapping {
    /// `w [N, w_dim]` of latents `z [N, z_dim]` and labels `c [N, c_dim]`; each only where the
    /// network has it.
    ///
    /// # Errors
    /// Fails if one is missing, superfluous or of another length.
    pub fn forward(&self, z: Option<&Tensor>, c: Option<&Tensor>) -> Result<Traced> {
        let MappingConfig { z_dim, c_dim, .. } = self.config;
        let fits = |x: Option<&Tensor>, dim: usize| match x {
            Some(x) => x.rank() == 2 && x.dims()[1] == dim,
            None => dim == 0,
        };
        if !fits(z, z_dim) || !fits(c, c_dim) {
            bail!(
                "mapping: expected z [N, {z_dim}] and labels [N, {c_dim}] (none for 0), got {:?} and {:?}",
                z.map(Tensor::shape),
                c.map(Tensor::shape)
            );
        }
        let mut parts = Vec::new();
        if let Some(z) = z {
            parts.push(normalize_2nd_moment(&z.into())?);
        }
        if let (Some(embed), Some(c)) = (&self.embed, c) {
            parts.push(normalize_2nd_moment(&embed.forward(&c.into())?)?);
        }
        let x = Traced::cat(&parts, 1)?; // [N, z_dim + w_dim]
        self.layers.iter().try_fold(x, |x, layer| layer.forward(&x))
    }

    /// Moves the running mean towards the mean of a pass, `[w_dim]`.
    ///
    /// * `gate` - as of [`adam::blend`].
    ///
    /// # Errors
    /// Fails if this network keeps none, or the shapes differ.
    pub fn track_w_avg(&self, w_mean: &Tensor, gate: Option<&Tensor>) -> Result<()> {
        adam::blend(self.w_avg()?, w_mean, W_AVG_BETA, gate)
    }

    /// The running mean `[w_dim]`.
    ///
    /// # Errors
    /// Fails if this network keeps none.
    pub fn w_avg(&self) -> Result<&Tensor> {
        match &self.w_avg {
            Some(w_avg) => Ok(w_avg),
            None => bail!("mapping: a network without latents has no mean"),
        }
    }

    /// `ws [N, num_ws, w_dim]`: `w` for every layer, truncated.
    ///
    /// # Errors
    /// Fails if this network keeps no mean but should truncate.
    pub fn broadcast(&self, w: &Traced, num_ws: usize, truncation: Truncation) -> Result<Traced> {
        let (n, w_dim) = w.dims2()?;
        let repeat = |w: &Traced, count: usize| {
            w.unsqueeze(1)?.broadcast_as((n, count, w_dim))?.contiguous()
        };
        let Truncation { psi, cutoff } = truncation;
        let cutoff = if psi == 1.0 { 0 } else { cutoff.unwrap_or(num_ws).min(num_ws) };
        if cutoff == 0 {
            return repeat(w, num_ws);
        }
        let w_avg = &self.w_avg()?.into();
        let truncated = (w.broadcast_sub(w_avg)? * psi)?.broadcast_add(w_avg)?;
        if cutoff == num_ws {
            return repeat(&truncated, num_ws);
        }
        Traced::cat(&[repeat(&truncated, cutoff)?, repeat(w, num_ws - cutoff)?], 1)
    }
}
