//! The four phases of a training step: each computes gradients of one network from given draws.
//!
//! Gmain and Dmain are the game itself; Greg (path length) and Dreg (R1) are the regularisers
//! that run only now and then. A phase changes no weight. The network that is not trained in a
//! phase is a frozen view, so it costs no graph.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, section 3.1 (lazy regularisation), appendix B.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::loss::{d_loss_fake, d_loss_real, g_loss, path_lengths, r1_penalty};
use crate::model::config::{DiscriminatorConfig, GeneratorConfig};
use crate::model::{
    Discriminator, Generator, Noise, Precision, Store, Truncation, discriminator, generator,
};
use crate::ops::{cost, grad};

/// Decay of the running mean of path lengths.
const PL_DECAY: f64 = 0.01;

/// Both networks and their views.
pub struct Networks {
    /// Variables of the generator.
    pub g_store: Store,
    /// Variables of the discriminator.
    pub d_store: Store,
    /// Trainable variables of the generator, sorted by name.
    pub g_params: Vec<Var>,
    /// Trainable variables of the discriminator, sorted by name.
    pub d_params: Vec<Var>,
    /// How many of `g_params`, the first ones, are the mapping network's.
    num_mapping_params: usize,
    g: Generator,
    g_frozen: Generator,
    d: Discriminator,
    d_frozen: Discriminator,
}

/// The random inputs of a generator pass.
#[derive(Clone, Debug)]
pub struct Draw {
    /// Latents `[N, z_dim]`.
    pub z: Tensor,
    /// Labels `[N, c_dim]`, where the networks have them.
    pub c: Option<Tensor>,
    /// Style mixing: from this layer on, the styles of these latents `[N, z_dim]`.
    pub mix: Option<(usize, Tensor)>,
    /// Noise inputs.
    pub noise: Noise,
}

/// Real images with labels.
#[derive(Clone, Debug)]
pub struct Reals {
    /// `[N, C, H, W]` in [-1, 1].
    pub img: Tensor,
    /// `[N, c_dim]`, where the networks have them.
    pub c: Option<Tensor>,
}

/// Result of Gmain.
pub struct GMain {
    /// In the order of `g_params`.
    pub grads: Vec<Tensor>,
    /// `[N, 1]`
    pub fake_logits: Tensor,
    /// `[N, 1]`
    pub loss: Tensor,
}

/// Result of Greg.
pub struct GReg {
    /// In the order of `g_params`.
    pub grads: Vec<Tensor>,
    /// `(length - mean)^2`, `[N]`
    pub pl_penalty: Tensor,
    /// The running mean, moved.
    pub pl_mean: f64,
}

/// Result of Dmain.
pub struct DMain {
    /// In the order of `d_params`.
    pub grads: Vec<Tensor>,
    /// `[N, 1]`
    pub fake_logits: Tensor,
    /// `[N, 1]`
    pub real_logits: Tensor,
    /// `[N, 1]`, of generated and real images together.
    pub loss: Tensor,
}

/// Result of Dreg.
pub struct DReg {
    /// In the order of `d_params`.
    pub grads: Vec<Tensor>,
    /// `[N, 1]`
    pub real_logits: Tensor,
    /// `|grad D|^2`, `[N]`
    pub r1_penalty: Tensor,
}

impl Networks {
    /// Views of networks whose variables exist already.
    ///
    /// # Errors
    /// Fails if the stores do not hold these networks.
    pub fn new(
        g_config: &GeneratorConfig,
        d_config: &DiscriminatorConfig,
        g_store: Store,
        d_store: Store,
    ) -> Result<Self> {
        let g_named = g_store.params();
        let num_mapping_params = g_named.partition_point(|(name, _)| name.starts_with("mapping."));
        Ok(Self {
            g: generator(g_config, &g_store.tracked())?,
            g_frozen: generator(g_config, &g_store.frozen())?,
            d: discriminator(d_config, &d_store.tracked())?,
            d_frozen: discriminator(d_config, &d_store.frozen())?,
            g_params: g_named.into_iter().map(|(_, var)| var).collect(),
            d_params: d_store.params().into_iter().map(|(_, var)| var).collect(),
            num_mapping_params,
            g_store,
            d_store,
        })
    }

    /// The same networks with blocks of other types.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self {
            g: self.g.with_precision(precision),
            g_frozen: self.g_frozen.with_precision(precision),
            d: self.d.with_precision(precision),
            d_frozen: self.d_frozen.with_precision(precision),
            ..self
        }
    }

    /// Fresh networks with weights drawn from `seed`.
    ///
    /// # Errors
    /// Fails if the configurations describe no network.
    pub fn init(
        g_config: &GeneratorConfig,
        d_config: &DiscriminatorConfig,
        seed: u64,
        (dtype, device): (DType, &Device),
    ) -> Result<Self> {
        let (g_store, d_store) = (Store::new(dtype, device), Store::new(dtype, device));
        generator(g_config, &g_store.init(seed))?;
        discriminator(d_config, &d_store.init(seed))?;
        Self::new(g_config, d_config, g_store, d_store)
    }

    /// Gmain: the generator's images should look real to D.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn g_main(&self, draw: &Draw) -> Result<GMain> {
        let img = self.g.synthesis.forward(&training_ws(&self.g, draw)?, draw.noise)?;
        let fake_logits = self.d_frozen.forward(&img, draw.c.as_ref())?;
        let loss = g_loss(&fake_logits)?;
        let grads = grad(&loss.mean_all()?, &refs(&self.g_params))?;
        Ok(GMain { grads, fake_logits: fake_logits.detach(), loss: loss.detach() })
    }

    /// Greg: a step in `w` should move every image by about the same amount.
    ///
    /// * `pl_noise` - `[N, C, H, W]`, draws of N(0, 1).
    /// * `gain` - factor on the gradients, to make up for the phase being run rarely.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn g_reg(
        &self,
        draw: &Draw,
        pl_noise: &Tensor,
        pl_mean: f64,
        (pl_weight, gain): (f64, f64),
    ) -> Result<GReg> {
        // The graph is cut at `ws`, whose gradient candle would not hand out otherwise.
        let ws = training_ws(&self.g, draw)?;
        let ws_leaf = Var::from_tensor(&ws.detach())?;
        let img = self.g.synthesis.forward(&ws_leaf, draw.noise)?;
        let pl_lengths = path_lengths(&img, &ws_leaf, pl_noise)?; // [N]
        let pl_mean = ((pl_lengths.mean_all()? * PL_DECAY)? + pl_mean * (1.0 - PL_DECAY))?;
        let pl_penalty = pl_lengths.broadcast_sub(&pl_mean)?.sqr()?; // [N]
        let loss = (pl_penalty.mean_all()? * (pl_weight * gain))?;
        let (mapping, synthesis) = self.g_params.split_at(self.num_mapping_params);
        let mut leaves = vec![&ws_leaf];
        leaves.extend(synthesis);
        let mut synthesis_grads = grad(&loss, &leaves)?;
        let d_ws = synthesis_grads.remove(0);
        let mut grads = grad(&(ws * d_ws)?.sum_all()?, &refs(mapping))?;
        grads.append(&mut synthesis_grads);
        cost::copied();
        let pl_mean = pl_mean.to_dtype(DType::F64)?.to_scalar()?;
        Ok(GReg { grads, pl_penalty: pl_penalty.detach(), pl_mean })
    }

    /// Dmain: D should tell generated images from real ones.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn d_main(&self, draw: &Draw, reals: &Reals) -> Result<DMain> {
        let ws = training_ws(&self.g_frozen, draw)?;
        let fake_img = self.g_frozen.synthesis.forward(&ws, draw.noise)?;
        let params = refs(&self.d_params);
        let fake_logits = self.d.forward(&fake_img, draw.c.as_ref())?;
        let fake_loss = d_loss_fake(&fake_logits)?;
        let mut grads = grad(&fake_loss.mean_all()?, &params)?;
        let (fake_logits, fake_loss) = (fake_logits.detach(), fake_loss.detach());
        let real_logits = self.d.forward(&reals.img, reals.c.as_ref())?;
        let real_loss = d_loss_real(&real_logits)?;
        add_to(&mut grads, grad(&real_loss.mean_all()?, &params)?)?;
        let loss = (fake_loss + real_loss.detach())?;
        Ok(DMain { grads, fake_logits, real_logits: real_logits.detach(), loss })
    }

    /// Dreg: D should be flat around real images (R1).
    ///
    /// * `gain` - factor on the gradients, to make up for the phase being run rarely.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn d_reg(&self, reals: &Reals, r1_gamma: f64, gain: f64) -> Result<DReg> {
        let img = Var::from_tensor(&reals.img)?;
        let real_logits = self.d.forward(&img, reals.c.as_ref())?;
        let penalty = r1_penalty(&real_logits, &img)?; // [N]
        let loss = (penalty.mean_all()? * (r1_gamma / 2.0 * gain))?;
        let grads = grad(&loss, &refs(&self.d_params))?;
        Ok(DReg { grads, real_logits: real_logits.detach(), r1_penalty: penalty.detach() })
    }

    /// Running mean of `w [w_dim]`.
    ///
    /// # Errors
    /// Never, for a generator with latents.
    pub fn w_avg(&self) -> Result<&Tensor> {
        self.g_frozen.mapping.w_avg()
    }
}

/// `ws [N, num_ws, w_dim]` of a training pass: moves the mean of `w` and mixes styles.
fn training_ws(g: &Generator, draw: &Draw) -> Result<Tensor> {
    let w = g.mapping.forward(Some(&draw.z), draw.c.as_ref())?;
    g.mapping.track_w_avg(&w)?;
    let num_ws = g.config.num_ws();
    let ws = g.mapping.broadcast(&w, num_ws, Truncation::NONE)?;
    match &draw.mix {
        Some((cutoff, z)) if *cutoff < num_ws => {
            let other = g.ws(z, draw.c.as_ref(), Truncation::NONE)?;
            let other = other.narrow(1, *cutoff, num_ws - cutoff)?;
            Tensor::cat(&[ws.narrow(1, 0, *cutoff)?, other], 1)
        }
        _ => Ok(ws),
    }
}

/// Adds `grads` to `total`, one by one.
pub(super) fn add_to(total: &mut [Tensor], grads: Vec<Tensor>) -> Result<()> {
    for (total, grad) in total.iter_mut().zip(grads) {
        *total = (&*total + grad)?;
    }
    Ok(())
}

fn refs(params: &[Var]) -> Vec<&Var> {
    params.iter().collect()
}
