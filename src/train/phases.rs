//! The four phases of a training step: each computes gradients of one network from given draws.
//!
//! Gmain and Dmain are the game itself; Greg (path length) and Dreg (R1) are the regularisers
//! that run only now and then. A phase changes nothing: whoever calls it applies what it found. The
//! network that is not trained in a phase is a frozen view, so it costs no graph.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, section 3.1 (lazy regularisation), appendix B.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::loss::{d_loss_fake, d_loss_real, g_loss, path_lengths, r1_penalty};
use crate::augment::Transforms;
use crate::data::Private;
use crate::model::config::{DiscriminatorConfig, GeneratorConfig};
use crate::model::{
    Discriminator, Generator, Noise, Precision, Store, Truncation, discriminator, generator,
};
use crate::ops::Traced;
use crate::ops::grad::{grad, leaves};

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
    /// Variables of the discriminator that are trained, sorted by name.
    pub d_params: Vec<Var>,
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
    /// What is done to the images before D sees them.
    pub augment: Option<Transforms>,
}

impl Draw {
    /// What was drawn on the processor, which must be where the networks are.
    pub(super) fn numbers(&mut self) -> impl Iterator<Item = &mut Tensor> {
        let Self { z, c, mix, noise: _, augment } = self;
        let transforms = augment.iter_mut().flat_map(Transforms::numbers);
        std::iter::once(z).chain(c).chain(mix.as_mut().map(|(_, z)| z)).chain(transforms)
    }
}

/// Real images with labels, which cannot be printed:
///
/// ```compile_fail,E0277
/// # use stylegan2_c2d::train::phases::Reals;
/// fn log(reals: &Reals) {
///     println!("{reals:?}");
/// }
/// ```
#[derive(Clone)]
pub struct Reals {
    /// `[N, C, H, W]` in [-1, 1].
    pub img: Private<Tensor>,
    /// `[N, c_dim]`, where the networks have them.
    pub c: Option<Tensor>,
}

impl Reals {
    /// Images that are real from here on.
    pub fn new(img: Tensor, c: Option<Tensor>) -> Self {
        Self { img: Private::new(img), c }
    }
}

/// Result of Gmain.
pub struct GMain {
    /// In the order of `g_params`.
    pub grads: Vec<Tensor>,
    /// Mean of `w [w_dim]`.
    pub w_mean: Tensor,
    /// `[N, 1]`
    pub fake_logits: Tensor,
    /// `[N, 1]`
    pub loss: Tensor,
}

/// First half of Greg: path lengths, with the graph that leads to them.
pub struct PathLengths {
    /// `[N]`
    pub lengths: Traced,
    /// Mean of `w [w_dim]`.
    pub w_mean: Tensor,
}

/// Result of Greg.
pub struct GReg {
    /// In the order of `g_params`.
    pub grads: Vec<Tensor>,
    /// `(length - mean)^2`, `[N]`
    pub pl_penalty: Tensor,
}

/// Result of Dmain.
pub struct DMain {
    /// In the order of `d_params`.
    pub grads: Vec<Tensor>,
    /// Mean of `w [w_dim]`.
    pub w_mean: Tensor,
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
        Ok(Self {
            g: generator(g_config, &g_store.tracked())?,
            g_frozen: generator(g_config, &g_store.frozen())?,
            d: discriminator(d_config, &d_store.tracked())?,
            d_frozen: discriminator(d_config, &d_store.frozen())?,
            g_params: g_store.params().into_iter().map(|(_, var)| var).collect(),
            d_params: d_store.params().into_iter().map(|(_, var)| var).collect(),
            g_store,
            d_store,
        })
    }

    /// The same networks, of whose discriminator the first layers stay as they are.
    ///
    /// Reference: Mo et al. 2020, arXiv:2002.10964 (`FreezeD`).
    #[must_use]
    pub fn with_frozen_layers(self, num_layers: usize) -> Self {
        let layers = self.d.config().freezable_layers();
        let frozen = &layers[..num_layers.min(layers.len())];
        let stays = |name: &str| frozen.iter().any(|layer| name.starts_with(layer.as_str()));
        let trained = self.d_store.params().into_iter().filter(|(name, _)| !stays(name));
        Self { d_params: trained.map(|(_, var)| var).collect(), ..self }
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
        let (ws, w_mean) = training_ws(&self.g, draw)?;
        let img = self.g.synthesis.forward(&ws, draw.noise)?;
        let img = augmented(img, draw.augment.as_ref())?;
        let fake_logits = self.d_frozen.forward(&img, draw.c.as_ref())?;
        let loss = g_loss(&fake_logits)?;
        let (fake_logits, mean) = (fake_logits.value().clone(), loss.mean_all()?);
        let loss = loss.value().clone();
        let grads = grad(mean, &leaves(&self.g_params))?;
        Ok(GMain { grads, w_mean, fake_logits, loss })
    }

    /// Greg, first half: how far the images move with their latents.
    ///
    /// * `pl_noise` - `[N, C, H, W]`, draws of N(0, 1).
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn path_lengths(&self, draw: &Draw, pl_noise: &Tensor) -> Result<PathLengths> {
        let (ws, w_mean) = training_ws(&self.g, draw)?;
        let img = self.g.synthesis.forward(&ws, draw.noise)?;
        Ok(PathLengths { lengths: path_lengths(&img, &ws, pl_noise)?, w_mean })
    }

    /// Greg, second half: a step in `w` should move every image by about the same amount.
    ///
    /// * `pl_mean` - the running mean of lengths before it is moved by these, see
    ///   [`moved_pl_mean`], `[1]` in f64.
    /// * `gain` - factor on the gradients, to make up for the phase being run rarely.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn g_reg(
        &self,
        PathLengths { lengths, .. }: PathLengths,
        pl_mean: &Tensor,
        (pl_weight, gain): (f64, f64),
    ) -> Result<GReg> {
        let kept = (pl_mean * (1.0 - PL_DECAY))?.to_dtype(lengths.value().dtype())?;
        let moved = lengths.mean_all()? * PL_DECAY;
        let pl_mean = moved?.reshape(1)?.broadcast_add(&Traced::constant(&kept))?;
        let pl_penalty = lengths.broadcast_sub(&pl_mean)?.sqr()?; // [N]
        let loss = (pl_penalty.mean_all()? * (pl_weight * gain))?;
        let pl_penalty = pl_penalty.value().clone();
        Ok(GReg { grads: grad(loss, &leaves(&self.g_params))?, pl_penalty })
    }

    /// Dmain: D should tell generated images from real ones.
    ///
    /// * `augment` - what is done to the real images before D sees them.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn d_main(
        &self,
        draw: &Draw,
        reals: &Reals,
        augment: Option<&Transforms>,
    ) -> Result<DMain> {
        let (ws, w_mean) = training_ws(&self.g_frozen, draw)?;
        let fake_img = self.g_frozen.synthesis.forward(&ws, draw.noise)?;
        let fake_img = augmented(fake_img, draw.augment.as_ref())?;
        let real_img = augmented(reals.img.expose().into(), augment)?;
        let judge = |img: Traced, c: Option<&Tensor>, d_loss: fn(&Traced) -> Result<Traced>| {
            let logits = self.d.forward(&img, c)?;
            let loss = d_loss(&logits)?;
            let (mean, logits, loss) =
                (loss.mean_all()?, logits.value().clone(), loss.value().clone());
            Result::Ok((grad(mean, &leaves(&self.d_params))?, logits, loss))
        };
        let (mut grads, fake_logits, fake_loss) = judge(fake_img, draw.c.as_ref(), d_loss_fake)?;
        let (more, real_logits, real_loss) = judge(real_img, reals.c.as_ref(), d_loss_real)?;
        add_to(&mut grads, more)?;
        Ok(DMain { grads, w_mean, fake_logits, real_logits, loss: (fake_loss + real_loss)? })
    }

    /// Dreg: D should be flat around real images (R1), as they are before they are augmented.
    ///
    /// * `augment` - what is done to them before D sees them.
    /// * `gain` - factor on the gradients, to make up for the phase being run rarely.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn d_reg(
        &self,
        reals: &Reals,
        augment: Option<&Transforms>,
        (r1_gamma, gain): (f64, f64),
    ) -> Result<DReg> {
        let img = Traced::variable(&Var::from_tensor(reals.img.expose())?);
        let augmented = augmented(img.clone(), augment)?;
        let real_logits = self.d.forward(&augmented, reals.c.as_ref())?;
        let penalty = r1_penalty(&real_logits, &img)?; // [N]
        let loss = (penalty.mean_all()? * (r1_gamma / 2.0 * gain))?;
        let (real_logits, r1_penalty) = (real_logits.value().clone(), penalty.value().clone());
        Ok(DReg { grads: grad(loss, &leaves(&self.d_params))?, real_logits, r1_penalty })
    }

    /// Moves the running mean of `w` towards the mean of a pass, `[w_dim]`.
    ///
    /// * `gate` - one f64 beside the networks; the mean does not move where this is not finite.
    ///
    /// # Errors
    /// Fails if the shapes differ.
    pub fn track_w_avg(&self, w_mean: &Tensor, gate: Option<&Tensor>) -> Result<()> {
        self.g_frozen.mapping.track_w_avg(w_mean, gate)
    }

    /// Running mean of `w [w_dim]`.
    ///
    /// # Errors
    /// Never, for a generator with latents.
    pub fn w_avg(&self) -> Result<&Tensor> {
        self.g_frozen.mapping.w_avg()
    }
}

/// The images as D sees them.
fn augmented(img: Traced, transforms: Option<&Transforms>) -> Result<Traced> {
    match transforms {
        Some(transforms) => transforms.apply(&img),
        None => Ok(img),
    }
}

/// The running mean of path lengths, moved by the mean length of a pass; all `[1]` in f64.
///
/// # Errors
/// Fails if the shapes differ.
pub fn moved_pl_mean(pl_mean: &Tensor, mean_length: &Tensor) -> Result<Tensor> {
    (pl_mean * (1.0 - PL_DECAY))? + (mean_length * PL_DECAY)?
}

/// `ws [N, num_ws, w_dim]` of a training pass, with styles mixed, and the mean of `w [w_dim]`.
fn training_ws(g: &Generator, draw: &Draw) -> Result<(Traced, Tensor)> {
    let w = g.mapping.forward(Some(&draw.z), draw.c.as_ref())?;
    let w_mean = w.value().mean(0)?;
    let num_ws = g.config.num_ws();
    let ws = g.mapping.broadcast(&w, num_ws, Truncation::NONE)?;
    match &draw.mix {
        Some((cutoff, z)) if *cutoff < num_ws => {
            let other = g.ws(z, draw.c.as_ref(), Truncation::NONE)?;
            let other = other.narrow(1, *cutoff, num_ws - cutoff)?;
            Ok((Traced::cat(&[ws.narrow(1, 0, *cutoff)?, other], 1)?, w_mean))
        }
        _ => Ok((ws, w_mean)),
    }
}

/// Adds `grads` to `total`, one by one.
pub(super) fn add_to(total: &mut [Tensor], grads: Vec<Tensor>) -> Result<()> {
    for (total, grad) in total.iter_mut().zip(grads) {
        *total = (&*total + grad)?;
    }
    Ok(())
}
