//! The training step: draws, phases, optimizers, moving average.
//!
//! Everything random in step k is a pure function of (seed, k), so two runs with one seed are the
//! same run. The moving average `g_ema` holds finished steps only: a step that is abandoned in its
//! middle leaves it as it was.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, appendix B; arXiv:2006.06676.

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::ada::Ada;
use super::config::{Strength, TrainConfig};
use super::draws::{Part, Phase, Round, draw_rounds};
use super::moves::Found;
use super::phases::{Networks, Reals};
use super::presets::smaller_batch_gpu;
use super::ranks::stats_of_all;
use super::recovery::Recovery;
use super::state::StatsBits;
use crate::augment::Pipeline;
use crate::model::Store;
use crate::ops::adam::{Adam, AdamConfig, blend};
use crate::ops::collective::Member;

/// Steps from one path length regularisation to the next.
pub const G_REG_INTERVAL: u64 = 4;
/// Steps from one R1 regularisation to the next.
pub const D_REG_INTERVAL: u64 = 16;

/// Steps from one adjustment of the augmentation's strength to the next.
const ADA_INTERVAL: u64 = 4;

/// The order of a step.
pub(super) const PHASES: [Phase; 4] = [Phase::Gmain, Phase::Greg, Phase::Dmain, Phase::Dreg];

/// What a step found: means over its images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "StatsBits", into = "StatsBits")]
pub struct StepStats {
    /// Loss of the generator.
    pub g_loss: f64,
    /// Loss of the discriminator.
    pub d_loss: f64,
    /// Logit of generated images in Dmain.
    pub fake_score: f64,
    /// Logit of real images in Dmain.
    pub real_score: f64,
    /// Share of real images with a positive logit minus that with a negative one.
    pub real_sign: f64,
    /// `|grad D|^2`, in steps with R1.
    pub r1_penalty: Option<f64>,
    /// `(length - mean)^2`, in steps with path length.
    pub pl_penalty: Option<f64>,
    /// Seconds of Gmain, Greg, Dmain, Dreg with their optimizer steps, and of the rest. Of a GPU, which
    /// falls behind, these are its own in each 16th step, which has all four; else it catches up in the rest.
    pub seconds: [f64; 5],
    /// Phases that were skipped, since what they found was not finite.
    pub num_skipped: u32,
}

/// Networks, optimizers and counters of a training run.
pub struct Trainer {
    pub(super) config: TrainConfig,
    pub(super) networks: Networks,
    pub(super) adam_g: Adam,
    pub(super) adam_d: Adam,
    pub(super) g_ema: Store,
    pub(super) g_ema_params: Vec<Var>,
    /// Decay with which the last finished step still has to enter the average.
    pub(super) pending_ema: Option<f64>,
    pub(super) pl_mean: f64,
    pub(super) num_steps: u64,
    pub(super) cur_nimg: u64,
    /// What is done to images before D sees them.
    pipeline: Option<Pipeline>,
    pub(super) ada: Ada,
    /// What the run goes back to when it is lost in numbers that are not finite.
    pub(super) recovery: Recovery,
    pub(super) running: Running,
    /// Factor on summed gradients: 1, or less since rounds became smaller and so more.
    pub(super) grad_gain: f64,
    /// This rank among those that share the rounds; absent: all rounds are done here.
    pub(super) member: Option<Member>,
}

/// Where a step is; between steps it is at its start.
#[derive(Default)]
pub(super) struct Running {
    /// Phases that have been run, or skipped.
    pub(super) num_phases: usize,
    /// What they found, as far as it was fetched.
    pub(super) stats: StepStats,
    /// The rest of what they found.
    pub(super) found: Vec<Found>,
    /// Whether the present phase has begun to move weights.
    pub(super) moves: bool,
}

impl Trainer {
    /// A fresh run on `device`, in f32.
    ///
    /// # Errors
    /// Fails if memory for the networks cannot be had.
    pub fn new(config: TrainConfig, device: &Device) -> Result<Self> {
        let networks = Networks::init(&config.g, &config.d, config.seed, (DType::F32, device))?;
        Self::with_networks(config, networks)
    }

    /// A run that starts from given networks.
    ///
    /// # Errors
    /// Fails if memory for the optimizers cannot be had.
    pub fn with_networks(config: TrainConfig, networks: Networks) -> Result<Self> {
        // The main and the lazy loss share an optimizer, which counts (r + 1) steps for each r.
        let adam = |interval: u64, lr: f64, params: &[Var]| {
            let ratio = interval as f64 / (interval as f64 + 1.0);
            let (lr, beta2) = (lr * ratio, 0.99f64.powf(ratio));
            Adam::new(params.to_vec(), AdamConfig { lr, beta1: 0.0, beta2, eps: 1e-8 })
        };
        let networks = networks.with_precision(config.precision).with_frozen_layers(config.freezed);
        let adam_g = adam(G_REG_INTERVAL, config.g_lr, &networks.g_params)?;
        let adam_d = adam(D_REG_INTERVAL, config.d_lr, &networks.d_params)?;
        let ada = Ada::new(config.strength);
        let place = (networks.g_store.dtype(), networks.g_store.device());
        let pipeline = (config.strength != Strength::Off)
            .then(|| config.augmentations.pipeline(config.g.img_channels, place))
            .transpose()?;
        let g_ema = networks.g_store.deep_copy()?;
        let g_ema_params = g_ema.params().into_iter().map(|(_, var)| var).collect();
        Ok(Self {
            config,
            networks,
            adam_g,
            adam_d,
            g_ema,
            g_ema_params,
            pending_ema: None,
            pipeline,
            ada,
            recovery: Recovery::default(),
            pl_mean: 0.0,
            num_steps: 0,
            cur_nimg: 0,
            running: Running::default(),
            grad_gain: 1.0,
            member: None,
        })
    }

    /// Real images shown to D so far.
    pub fn cur_nimg(&self) -> u64 {
        self.cur_nimg
    }

    /// Finished steps.
    pub fn num_steps(&self) -> u64 {
        self.num_steps
    }

    /// Running mean of the path lengths.
    pub fn pl_mean(&self) -> f64 {
        self.pl_mean
    }

    /// Probability of each augmentation.
    pub fn p(&self) -> f64 {
        self.ada.p
    }

    /// The run's configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The networks being trained.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Where this replica computes.
    pub fn device(&self) -> &Device {
        self.networks.g_store.device()
    }

    /// Whether the run has seen as many images as it should.
    pub fn is_done(&self) -> bool {
        self.cur_nimg as f64 >= self.config.total_kimg * 1000.0
    }

    /// The moving average of the generator after the last finished step.
    ///
    /// # Errors
    /// Fails if an op does.
    pub fn g_ema(&mut self) -> Result<&Store> {
        if let Some(beta) = self.pending_ema.take() {
            for (ema, param) in self.g_ema_params.iter().zip(&self.networks.g_params) {
                blend(ema, param, beta, None)?;
            }
        }
        Ok(&self.g_ema)
    }

    /// The random inputs of the next step: one [`Round`] for each `batch_gpu` of the real images,
    /// or those that fall to this rank.
    ///
    /// # Errors
    /// As [`draw_rounds`].
    pub fn draw(&self, reals: &Reals, label_pool: Option<&Tensor>) -> Result<Vec<Round>> {
        let (first, every) =
            self.member.as_ref().map_or((0, 1), |member| (member.rank(), member.num_ranks()));
        let dtype = self.networks.g_store.dtype();
        let augment = self.pipeline.as_ref().map(|pipeline| (pipeline, self.ada.p));
        let part = Part { first, every, augment, dtype, device: self.device() };
        draw_rounds(&self.config, self.num_steps, reals, label_pool, &part)
    }

    /// One step: every phase that is due, over all rounds.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled; then the step has not happened as far as
    /// [`Trainer::g_ema`] and the counters are concerned, and the run should end, unless
    /// [`super::Ranks::lower_batch_gpu`] lets it go on.
    ///
    /// Numbers that are not finite are no error: see [`Trainer::is_lost`].
    pub fn step(&mut self, rounds: &[Round]) -> Result<StepStats> {
        let done = self.run_phases(rounds);
        let start = Instant::now();
        self.collect()?; // what finished phases found stands, also where one has failed
        done?;
        let mut stats = stats_of_all(self.member.as_ref(), self.running.stats)?;
        self.running = Running::default();
        self.pending_ema = Some(self.ema_beta());
        for (name, buffer) in self.networks.g_store.buffers() {
            if name.ends_with("w_avg") {
                self.g_ema.set(&name, &buffer)?;
            }
        }
        self.num_steps += 1;
        self.cur_nimg += self.config.batch as u64;
        self.ada.add(stats.real_sign);
        if self.num_steps.is_multiple_of(ADA_INTERVAL) {
            self.ada.adjust(self.config.strength, (ADA_INTERVAL * self.config.batch as u64) as f64);
        }
        self.recover()?;
        stats.seconds[4] = start.elapsed().as_secs_f64();
        Ok(stats)
    }

    /// Runs the phases that are due, from where the step is; on a GPU, asks for them.
    fn run_phases(&mut self, rounds: &[Round]) -> Result<()> {
        let is_due =
            |weight: f64, interval| weight > 0.0 && self.num_steps.is_multiple_of(interval);
        let g_reg = is_due(self.config.pl_weight, G_REG_INTERVAL);
        let d_reg = is_due(self.config.r1_gamma, D_REG_INTERVAL);
        self.adam_g.set_lr_factor(self.g_lr_factor());
        while let Some(&phase) = PHASES.get(self.running.num_phases) {
            let start = Instant::now();
            match phase {
                Phase::Gmain => self.g_main(rounds)?,
                Phase::Greg if g_reg => self.g_reg(rounds)?,
                Phase::Dmain => self.d_main(rounds)?,
                Phase::Dreg if d_reg => self.d_reg(rounds)?,
                Phase::Greg | Phase::Dreg => (),
            }
            if self.num_steps.is_multiple_of(D_REG_INTERVAL) {
                self.device().synchronize()?; // to know how long each takes
            }
            self.running.stats.seconds[phase as usize] = start.elapsed().as_secs_f64();
            self.running.num_phases += 1;
            self.running.moves = false;
        }
        Ok(())
    }

    /// Lets a step that failed for want of memory go on in smaller rounds, and says how many images
    /// they have; `None` if that cannot be.
    ///
    /// The caller draws again and calls [`Trainer::step`], which starts with the phase that failed:
    /// a phase moves anything in its last act only, so it can be run again from its start, and those
    /// before it stand. Once weights have begun to move there is no way back, and a mini-batch std
    /// group is never split: it is a part of D. Gradients are sums over rounds, so they are scaled to
    /// what Adam's moments are used to.
    pub(super) fn lower_batch_gpu(&mut self) -> Option<usize> {
        let batch_gpu = smaller_batch_gpu(&self.config).filter(|_| !self.running.moves)?;
        self.grad_gain *= batch_gpu as f64 / self.config.batch_gpu as f64;
        self.config.batch_gpu = batch_gpu;
        Some(batch_gpu)
    }

    /// Whether the phase that is running can be run again, and which it is.
    pub(super) fn phase_to_repeat(&self) -> Option<usize> {
        (!self.running.moves).then_some(self.running.num_phases)
    }

    /// Decay of the average in this step: a half-life of `ema_kimg`, shorter at the beginning.
    fn ema_beta(&self) -> f64 {
        let full = self.config.ema_kimg * 1000.0;
        let ramp = self.config.ema_rampup.map_or(f64::INFINITY, |r| self.cur_nimg as f64 * r);
        0.5f64.powf(self.config.batch as f64 / full.min(ramp).max(1e-8))
    }
}
