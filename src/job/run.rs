//! One training run, from a loaded set to its last output.
//!
//! [`Run::advance`] does a step and writes what is due; its caller loops and reports. What the
//! files hold depends on seed, set and images shown only: the numbered grids and the statistics
//! are taken at fixed counts, and the clock merely refreshes the latest generator and grid.

mod files;
mod keep;
mod release;
pub mod trial;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::Device;
use serde_json::Value;
use tracing::{info, warn};

use self::release::{Candidate, open_gate};
use super::fault;
use super::gate::{Gate, Level};
use super::keeper::Keeper;
use super::outputs::{Budget, Output, Outputs};
use super::progress::{Progress, Reporter, TrainerState};
use super::quality::{Figures, Quality};
use super::statistics::{Ancestor, Audience, History, Window};
use crate::data::{Batches, Dataset, Mirror};
use crate::ops::cancel::{self, Cancel};
use crate::ops::collective::Member;
use crate::ops::device::{Fault, classify};
use crate::sample::{GridLabels, SampleGrid};
use crate::train::config::TrainConfig;
use crate::train::phases::Reals;
use crate::train::ranks::Ranks;
use crate::train::trainer::{StepStats, Trainer};

#[cfg(test)]
mod tests;

/// What surrounds a training.
pub struct Setup {
    /// What was asked for, for the header of the weights.
    pub options: Value,
    /// How pictures are shown besides upright.
    pub mirror: Mirror,
    /// Where files go.
    pub outputs: Outputs,
    /// Keeps the state, where that is asked for.
    pub keeper: Option<Keeper>,
    /// What is done about near-copies of the pictures.
    pub gate: Level,
    /// Who sees log and files.
    pub audience: Audience,
    /// Set by a signal.
    pub stop: Arc<AtomicBool>,
    /// Time between refreshes.
    pub snap_interval: Duration,
    /// When the program started, and how long it may take.
    pub started: Instant,
    /// Time limit of the whole program.
    pub max_duration: Option<Duration>,
}

/// Why a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has shown as many images as it should.
    Done,
    /// Its time is up.
    TimeLimit,
    /// A signal asked for it.
    Stopped,
    /// Its numbers do not become finite again; the outputs are of the last good networks.
    Lost,
    /// Its samples are near-copies of the pictures.
    Withheld {
        /// Whether there are weights of a time when they were none.
        has_weights: bool,
    },
}

/// A run in progress.
pub struct Run {
    ranks: Ranks,
    batches: Batches,
    label_pool: Option<candle_core::Tensor>,
    grid: SampleGrid,
    quality: Quality,
    /// What the last comparison of samples and data found.
    figures: Option<Figures>,
    /// The smallest distance so far, of the weights in the best generator's file.
    best_swd: Option<f64>,
    /// The given weights that it started from.
    ancestor: Option<Ancestor>,
    /// A better generator that waits for the gate.
    candidate: Option<Candidate>,
    gate: Gate,
    /// Whether weights have left past the gate.
    has_released: bool,
    setup: Setup,
    reporter: Reporter,
    /// How often the networks went back to good ones, as far as it was said.
    num_rollbacks: u32,
    last_stats: StepStats,
    since_entry: Window,
    history: History,
    last_refresh: Instant,
    /// Images between numbered grids.
    grid_nimg: u64,
    /// How long the last grid took.
    grid_time: Duration,
    /// Steps that were made before this run.
    num_steps_before: u64,
    /// When the first step ended, until the plan is said.
    first_step_at: Option<Instant>,
    ended: Option<Ended>,
}

impl Run {
    /// Networks with fresh weights on the devices of `members`, and the grid's latents.
    ///
    /// # Errors
    /// Fails if there is not enough memory for the networks.
    pub fn new(
        dataset: Dataset,
        config: &TrainConfig,
        mut setup: Setup,
        members: Vec<Member>,
    ) -> Result<Self> {
        let ranks = Ranks::new(config, members).context("the networks cannot be made")?;
        let device = ranks.lead().device();
        let num_classes = dataset.report().class_counts.len();
        let batches = Batches::new(dataset, config.seed).mirrored(setup.mirror);
        let label_pool = batches.label_pool()?;
        let of_samples = (config.seed, config.g.z_dim);
        let quality = Quality::new(batches.dataset(), of_samples, label_pool.as_ref(), device)?;
        let labels = match (&label_pool, num_classes) {
            (None, _) => GridLabels::None,
            (Some(pool), 0) => GridLabels::Pool(pool),
            (Some(_), classes) => GridLabels::Classes(classes),
        };
        let (z_dim, res) = (config.g.z_dim, config.g.img_resolution);
        let grid = SampleGrid::new(config.seed, z_dim, res, &labels, device)?;
        let gate = open_gate(&setup, batches.dataset(), config.seed)?;
        let grid_nimg = grid_interval(config);
        let now = Instant::now();
        let of_set = (setup.audience, batches.dataset().num_bytes());
        let reporter = Reporter::new(now, (0, config.batch as u64), of_set);
        let state_bytes = setup.keeper.as_mut().map(|keeper| keeper.announce(ranks.lead()));
        let budget = budget(config, ranks.lead(), grid.num_pixels(res), state_bytes);
        setup.outputs.announce(budget);
        Ok(Self {
            batches,
            label_pool,
            grid,
            quality,
            figures: None,
            best_swd: None,
            ancestor: None,
            candidate: None,
            gate,
            has_released: false,
            ranks,
            setup,
            reporter,
            num_rollbacks: 0,
            last_stats: StepStats::default(),
            since_entry: Window::default(),
            history: History::default(),
            last_refresh: now,
            grid_nimg,
            grid_time: Duration::ZERO,
            num_steps_before: 0,
            first_step_at: None,
            ended: None,
        })
    }

    /// One step and what is due after it; `None` when the run is over.
    ///
    /// # Errors
    /// Fails if the first outputs cannot be written, or by a fault of ours.
    pub fn advance(&mut self) -> Result<Option<Progress>> {
        if let Some(ended) = self.why_end() {
            self.ended = Some(ended);
            return Ok(None);
        }
        let flag = Some(Arc::clone(&self.setup.stop));
        let cancel = Cancel { flag, deadline: self.deadline() };
        if self.owes_entry() {
            self.judge(&cancel)?; // the run before this one was stopped at that moment
        }
        let stats = match cancel::scope(cancel.clone(), || self.step()) {
            Ok(stats) => stats,
            Err(error) if classify(&error) == Fault::DeviceLost => return Err(error.into()),
            Err(_) if cancel.is_due() => return Ok(self.end_early()),
            Err(error) => {
                if self.ranks.lead().num_steps() > 0
                    && let Err(unsaved) = self.last_release((Ended::Lost, Instant::now()))
                {
                    warn!("the weights before the failure are not saved: {unsaved:#}");
                }
                return Err(error).context("a training step failed");
            }
        };
        self.last_stats = stats;
        self.announce_plan(&stats);
        self.since_entry.add(&stats);
        self.reporter.add(&stats);
        self.watch(&stats)?;
        self.write_due()?;
        let (progress, elapsed) = (self.progress(), self.setup.started.elapsed());
        let lead = self.ranks.lead();
        let state = TrainerState {
            pl_mean: lead.pl_mean(),
            strength: lead.config().strength,
            p: lead.p(),
            figures: self.figures,
            num_rollbacks: lead.num_rollbacks(),
        };
        for line in self.reporter.lines(&progress, elapsed, &state) {
            info!("{line}");
        }
        Ok(Some(progress))
    }

    /// Writes the last generator and grid, and says how the run ended.
    ///
    /// # Errors
    /// Fails if an output cannot be written.
    pub fn finish(mut self) -> Result<Ended> {
        let (noticed, ended) = (Instant::now(), self.ended.unwrap_or(Ended::Done));
        if self.ranks.lead().num_steps() == 0 {
            warn!("ended before the first step: no outputs; give the job more time");
            return Ok(ended);
        }
        let findings = self.findings(); // the state goes on without what this end adds
        let has_more = ended == Ended::Done && self.history.last_nimg() != Some(self.cur_nimg());
        self.ranks.settle_for_good()?;
        let owes_entry = has_more || self.owes_entry();
        if has_more {
            self.judge(&Cancel { flag: Some(Arc::clone(&self.setup.stop)), deadline: None })?;
        }
        if owes_entry && self.history.last_nimg() != Some(self.cur_nimg()) {
            self.add_entry(None); // there was no time for more
        }
        if ended == Ended::Stopped {
            self.last_state((ended, noticed), &findings)?; // it takes less time, and is worth more
            self.last_release((ended, noticed))?;
        } else {
            self.last_release((ended, noticed))?;
            self.last_state((ended, noticed), &findings)?;
        }
        if self.waits() {
            return Ok(ended); // nor do grids leave
        }
        if let Some(png) = self.last_grid(ended)? {
            self.setup.outputs.write(Output::Samples(&png))?;
            if ended == Ended::Done {
                self.setup.outputs.write(Output::SamplesAt(self.cur_nimg(), &png))?;
            }
        } else {
            info!("no time for a last grid: samples.png is that of the last refresh");
        }
        if self.gate.has_withheld() && (self.gate.is_shut() || !self.has_released) {
            return Ok(Ended::Withheld { has_weights: self.has_released });
        }
        Ok(ended)
    }

    /// Real images shown so far.
    pub fn cur_nimg(&self) -> u64 {
        self.ranks.lead().cur_nimg()
    }

    /// Says what was not finite, and keeps good networks at fixed counts of images, so that a run
    /// that goes back to them is the same run each time.
    fn watch(&mut self, stats: &StepStats) -> Result<()> {
        let num_rollbacks = self.ranks.lead().num_rollbacks();
        if num_rollbacks != std::mem::replace(&mut self.num_rollbacks, num_rollbacks) {
            warn!("losses are not finite: back to the last good networks, half the learning rates");
        }
        if (self.is_first_step() || self.is_at_count()) && stats.num_skipped == 0 {
            self.ranks.remember()?;
        }
        Ok(())
    }

    /// Whether the last step reached a count of images at which a numbered grid is due.
    fn is_at_count(&self) -> bool {
        let (cur_nimg, batch) = (self.cur_nimg(), self.ranks.lead().config().batch as u64);
        cur_nimg / self.grid_nimg != (cur_nimg - batch) / self.grid_nimg
    }

    fn step(&mut self) -> candle_core::Result<StepStats> {
        let (cur_nimg, batch) = (self.cur_nimg(), self.ranks.lead().config().batch);
        let (img, c) = self.batches.next(cur_nimg, batch, &Device::Cpu)?; // each rank takes its own
        fault::step(&mut self.ranks, &Reals { img, c }, self.label_pool.as_ref())
    }

    /// The end of a step that was abandoned.
    fn end_early(&mut self) -> Option<Progress> {
        let stopped = self.setup.stop.load(Ordering::Relaxed);
        self.ended = Some(if stopped { Ended::Stopped } else { Ended::TimeLimit });
        None
    }

    fn why_end(&self) -> Option<Ended> {
        if self.setup.stop.load(Ordering::Relaxed) {
            Some(Ended::Stopped)
        } else if self.deadline().is_some_and(|deadline| Instant::now() >= deadline) {
            Some(Ended::TimeLimit)
        } else if self.ranks.lead().is_lost() {
            Some(Ended::Lost)
        } else if self.gate.is_shut() {
            Some(Ended::Withheld { has_weights: self.has_released })
        } else if self.ranks.lead().is_done() {
            Some(Ended::Done)
        } else {
            None
        }
    }

    /// When training must end so that the last outputs are written in time.
    fn deadline(&self) -> Option<Instant> {
        let limit = self.setup.max_duration?;
        let reserve = (limit / 20).clamp(Duration::from_secs(1), Duration::from_secs(30));
        let state_time = self.setup.keeper.as_ref().map(Keeper::time).unwrap_or_default();
        // A short run of a large network would consist of nothing but the look at its end.
        let look_time = (self.look_time() * 6 / 5).min(limit / 2);
        let reserve = reserve.max(2 * self.grid_time) + 2 * state_time + look_time;
        Some(self.setup.started + limit.saturating_sub(reserve))
    }

    fn progress(&self) -> Progress {
        let total_nimg = (self.ranks.lead().config().total_kimg * 1000.0).ceil() as u64;
        let cur_nimg = self.ranks.lead().cur_nimg();
        let left = total_nimg.saturating_sub(cur_nimg) as f64;
        let by_count = Duration::from_secs_f64(left * self.reporter.seconds_per_image(cur_nimg));
        let by_clock = self.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        Progress { cur_nimg, total_nimg, eta: by_clock.map_or(by_count, |left| left.min(by_count)) }
    }
}

/// How large the files of a run can become; statistics of an earlier part may lie closer.
fn budget(
    config: &TrainConfig,
    lead: &Trainer,
    num_pixels: usize,
    state_bytes: Option<u64>,
) -> Budget {
    let weights = lead.networks().g_store.tensors();
    let num_weights: usize = weights.iter().map(|(_, var)| var.elem_count()).sum();
    let num_entries = config.total_kimg.ceil() as u64 + 100;
    let in_header = (num_entries, config.g.c_dim as u64);
    Budget::new(num_weights as u64, num_pixels as u64, state_bytes, in_header)
}

/// Images between numbered grids: the fewer, the more of a small network's time goes into them (of
/// the smallest, a seventh where there is one for each kimg).
fn grid_interval(config: &TrainConfig) -> u64 {
    match config.total_kimg {
        ..=10.0 => 1000,
        ..=100.0 => 2000,
        _ => 4000,
    }
}
