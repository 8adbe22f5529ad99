//! From a picture to the latents that make one like it.
//!
//! Starts at the best of some latents, and follows the gradient of [`unlikeness`] with Adam; `w` is
//! shaken at first, so that it does not settle at the first place that is good enough. Noise inputs
//! move along, and pay for not being noise.
//!
//! Unlike the published projector the loss needs no network, though one that is brought along
//! ([`Perceptual`]) has its say as well, and the start is the best of many and
//! not the mean alone.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, appendix D.

use std::f64::consts::PI;

use candle_core::{DType, Result, Tensor, Var, bail};

use super::file::Latents;
use super::likeness::unlikeness;
use super::model::{Model, Spread};
use super::noise::{normalized, regularisation};
use super::perceptual::{Perceptual, Seen};
use crate::model::synthesis::Synthesis;
use crate::model::{Generator, Noise, Truncation};
use crate::ops::Traced;
use crate::ops::adam::{Adam, AdamConfig};
use crate::ops::grad::{grad, leaves};
use crate::ops::rng::{Rng, Stream};
use crate::sample::Picture;

/// Constants of the optimizer.
const ADAM: AdamConfig = AdamConfig { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 1e-8 };
/// Shares of the steps over which the learning rate rises and falls.
const RAMP_UP: f64 = 0.05;
const RAMP_DOWN: f64 = 0.25;
/// How strongly `w` is shaken at first, in its standard deviations, and for which share of the steps.
const SHAKE: f64 = 0.05;
const SHAKE_UNTIL: f64 = 0.75;
/// What noise pays for not being noise: with a tenth of it, it carries what the network cannot draw.
const NOISE_WEIGHT: f64 = 100.0;
/// So many candidates are looked at together.
const AT_ONCE: usize = 16;

/// How a projection is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Steps of the optimizer.
    pub num_steps: usize,
    /// Latents that the best is taken of, beside the mean; 0: the mean.
    pub num_candidates: usize,
    /// A `w` for each layer (`w+`), in place of one for all.
    pub each_layer: bool,
    /// Where the noise inputs come from.
    pub noise: NoiseInputs,
    /// Class of the candidates.
    pub class: Option<usize>,
    /// Seeds candidates and shaking.
    pub seed: u64,
}

/// Noise inputs of a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseInputs {
    /// Looked for, from those of the weights on.
    Learned,
    /// Those of the weights.
    Const,
    /// None.
    None,
}

/// A projection under way.
pub struct Projection<'a> {
    model: &'a Model,
    target: Traced,
    /// A network that judges too, and what it sees in the target.
    judge: Option<(&'a Perceptual, Seen)>,
    options: Options,
    spread: Spread,
    /// `[1, 1 or num_ws, w_dim]`
    w: Var,
    noise: Vec<Var>,
    adam: Adam,
    step: usize,
}

impl<'a> Projection<'a> {
    /// Finds a place to start from.
    ///
    /// * `target` - `[1, C, R, R]`, values in [-1, 1].
    /// * `perceptual` - a network that judges too.
    ///
    /// # Errors
    /// Fails if the target has another shape than the model's pictures, or an op fails.
    pub fn new(
        model: &'a Model,
        target: &Tensor,
        perceptual: Option<&'a Perceptual>,
        options: Options,
    ) -> Result<Self> {
        let config = &model.g.config;
        let expected = [1, config.img_channels, config.img_resolution, config.img_resolution];
        if target.dims() != expected {
            bail!("projection: expected a target {expected:?}, came {:?}", target.dims());
        }
        let (target, spread) = (target.into(), model.spread(options.class)?);
        let judge = match perceptual {
            Some(network) => Some((network, network.see(&target)?)),
            None => None,
        };
        let w = start(model, &target, &spread, options)?.unsqueeze(1)?; // [1, 1, w_dim]
        let rows = if options.each_layer { config.num_ws() } else { 1 };
        let w = Var::from_tensor(&w.repeat((1, rows, 1))?)?;
        let inputs = if options.noise == NoiseInputs::Learned {
            model.g.synthesis.noise_inputs()
        } else {
            Vec::new()
        };
        let noise = inputs.iter().map(|input| Var::from_tensor(&input.value().copy()?));
        let noise = noise.collect::<Result<Vec<_>>>()?;
        let adam = Adam::new([vec![w.clone()], noise.clone()].concat(), ADAM)?;
        Ok(Self { model, target, judge, options, spread, w, noise, adam, step: 0 })
    }

    /// Whether all steps are done.
    pub fn is_done(&self) -> bool {
        self.step >= self.options.num_steps
    }

    /// One step; returns how unlike the picture was before it.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn step(&mut self) -> Result<f64> {
        let t = self.step as f64 / self.options.num_steps as f64;
        let shake = self.spread.std * SHAKE * (1.0 - t / SHAKE_UNTIL).max(0.0).powi(2);
        let draws = Rng::new(self.options.seed, Stream::Projection, 1 + self.step as u64);
        let draws = draws.normals(self.w.elem_count());
        let draws = Tensor::from_vec(draws, self.w.shape(), self.w.device())?;
        let draws = (draws * shake)?.to_dtype(self.w.dtype())?;
        let shaken = (Traced::variable(&self.w) + Traced::constant(&draws))?;
        let inputs: Vec<Traced> = self.noise.iter().map(Traced::variable).collect();
        let img = self.synthesis(&inputs)?.forward(&self.ws(&shaken)?, self.mode())?;
        let mut unlike = unlikeness(&img, &self.target)?.mean_all()?;
        if let Some((network, seen)) = &self.judge {
            unlike = (unlike + network.distance(&network.see(&img)?, seen)?.mean_all()?)?;
        }
        let value = f64::from(unlike.value().to_scalar::<f32>()?);
        let loss = if inputs.is_empty() {
            unlike
        } else {
            (unlike + (regularisation(&inputs)? * NOISE_WEIGHT)?)?
        };
        let grads = grad(loss, &leaves(self.adam.params()))?;
        self.adam.set_lr_factor(lr_factor(t));
        self.adam.step(&grads, None, None)?;
        for noise in &self.noise {
            noise.set(&normalized(noise.as_tensor())?.detach())?;
        }
        self.step += 1;
        Ok(value)
    }

    /// The latents as they are now.
    ///
    /// # Errors
    /// Fails if memory cannot be copied.
    pub fn latents(&self) -> Result<Latents> {
        let ws = self.ws(&Traced::constant(self.w.as_tensor()))?.value().copy()?;
        let noise_inputs = self.noise.iter().map(|noise| noise.as_detached_tensor().copy());
        Ok(Latents { ws, noise_inputs: noise_inputs.collect::<Result<_>>()? })
    }

    /// The picture as it is now.
    ///
    /// # Errors
    /// As [`Projection::step`].
    pub fn picture(&self) -> Result<Picture> {
        let Latents { ws, noise_inputs } = self.latents()?;
        let inputs: Vec<Traced> = noise_inputs.iter().map(Traced::constant).collect();
        let synthesis = self.synthesis(&inputs)?;
        let g = Generator { synthesis, ..self.model.g.clone() };
        Picture::of_ws(&g, &ws, self.mode())
    }

    fn synthesis(&self, inputs: &[Traced]) -> Result<Synthesis> {
        let synthesis = self.model.g.synthesis.clone();
        if inputs.is_empty() { Ok(synthesis) } else { synthesis.with_noise_inputs(inputs) }
    }

    fn mode(&self) -> Noise {
        if self.options.noise == NoiseInputs::None { Noise::None } else { Noise::Const }
    }

    /// `[1, num_ws, w_dim]`
    fn ws(&self, w: &Traced) -> Result<Traced> {
        let config = &self.model.g.config;
        w.broadcast_as((1, config.num_ws(), config.w_dim))?.contiguous()
    }
}

/// The best `w [1, w_dim]` of the mean and the candidates.
fn start(model: &Model, target: &Traced, spread: &Spread, options: Options) -> Result<Tensor> {
    let (count, z_dim) = (options.num_candidates, model.g.config.z_dim);
    if count == 0 {
        return Ok(spread.mean.clone());
    }
    let z = Rng::new(options.seed, Stream::Projection, 0).normals(count * z_dim);
    let z = Tensor::from_vec(z, (count, z_dim), &model.device)?.to_dtype(DType::F32)?;
    let all = Tensor::cat(&[&spread.mean, &model.w_of(&z, options.class)?], 0)?; // [1 + count, w_dim]
    let mut best = (f32::INFINITY, 0);
    for first in (0..=count).step_by(AT_ONCE) {
        let w = all.narrow(0, first, AT_ONCE.min(count + 1 - first))?.contiguous()?;
        let num_ws = model.g.config.num_ws();
        let ws = model.g.mapping.broadcast(&(&w).into(), num_ws, Truncation::NONE)?;
        let img = model.g.synthesis.forward(&ws, Noise::Const)?;
        for (idx, unlike) in (first..).zip(unlikeness(&img, target)?.value().to_vec1::<f32>()?) {
            if unlike < best.0 {
                best = (unlike, idx);
            }
        }
    }
    all.narrow(0, best.1, 1)?.contiguous()
}

/// Rises at first, and falls along a cosine at the end; `t` from 0 to 1.
fn lr_factor(t: f64) -> f64 {
    let down = ((1.0 - t) / RAMP_DOWN).min(1.0);
    let up = (t / RAMP_UP).min(1.0);
    (0.5 - 0.5 * (down * PI).cos()) * up
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_rises_stays_and_falls() {
        assert_eq!([0.0, 0.05, 0.5, 0.75].map(lr_factor), [0.0, 1.0, 1.0, 1.0]);
        assert!((lr_factor(0.025) - 0.5).abs() < 1e-12 && (lr_factor(0.875) - 0.5).abs() < 1e-12);
        assert!(lr_factor(1.0).abs() < 1e-12);
    }
}
