//! One training run, from a loaded set to its last output.
//!
//! [`Run::advance`] does a step and writes what is due; its caller loops and reports. What the
//! files hold depends on seed, set and images shown only: the numbered grids and the statistics
//! are taken at fixed counts, and the clock merely refreshes the latest generator and grid.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::Device;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::memory::peak_and_current_bytes;
use super::outputs::{OutputName, Outputs};
use super::statistics::{History, Means, Window, format_duration};
use crate::data::{Batches, Dataset};
use crate::model::weights::{Header, to_bytes};
use crate::model::{Generator, generator};
use crate::ops::cancel::{self, Cancel};
use crate::sample::{GridLabels, SampleGrid};
use crate::train::config::TrainConfig;
use crate::train::phases::Reals;
use crate::train::trainer::Trainer;

/// After a stop signal the grid may take so long; the node kills after ten seconds.
const STOP_GRACE: Duration = Duration::from_secs(4);
/// A line at least so often ..
const LOG_INTERVAL: Duration = Duration::from_mins(1);
/// .. or after so many images.
const LOG_NIMG: u64 = 4000;
/// Pictures of a grid that are made at once.
const GRID_AT_ONCE: usize = 8;

/// All that a run needs.
pub struct Setup {
    /// The pictures.
    pub dataset: Dataset,
    /// The training, without anything left to decide.
    pub config: TrainConfig,
    /// What was asked for, for the header of the weights.
    pub options: Value,
    /// Where files go.
    pub outputs: Outputs,
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
}

/// Where a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Real images shown so far.
    pub cur_nimg: u64,
    /// Real images to show in all.
    pub total_nimg: u64,
    /// Estimated time until the end.
    pub eta: Duration,
}

/// A run in progress.
pub struct Run {
    trainer: Trainer,
    batches: Batches,
    label_pool: Option<candle_core::Tensor>,
    grid: SampleGrid,
    device: Device,
    setup: Rest,
    log: LogState,
    since_entry: Window,
    history: History,
    last_refresh: Instant,
    /// Images between numbered grids.
    grid_nimg: u64,
    /// How long the last grid took.
    grid_time: Duration,
    ended: Option<Ended>,
}

/// What remains of a [`Setup`].
struct Rest {
    options: Value,
    outputs: Outputs,
    stop: Arc<AtomicBool>,
    snap_interval: Duration,
    started: Instant,
    max_duration: Option<Duration>,
}

struct LogState {
    window: Window,
    last_line: Instant,
    last_nimg: u64,
}

impl Run {
    /// Networks with fresh weights, and the grid's latents.
    ///
    /// # Errors
    /// Fails if there is not enough memory for the networks.
    pub fn new(setup: Setup, device: &Device) -> Result<Self> {
        let Setup { dataset, config, options, outputs, stop, snap_interval, started, max_duration } =
            setup;
        let num_classes = dataset.report().class_counts.len();
        let batches = Batches::new(dataset, config.seed);
        let label_pool = batches.label_pool(device)?;
        let labels = match (&label_pool, num_classes) {
            (None, _) => GridLabels::None,
            (Some(pool), 0) => GridLabels::Pool(pool),
            (Some(_), classes) => GridLabels::Classes(classes),
        };
        let (z_dim, res) = (config.g.z_dim, config.g.img_resolution);
        let grid = SampleGrid::new(config.seed, z_dim, res, &labels, device)?;
        let grid_nimg = grid_interval(&config);
        let now = Instant::now();
        Ok(Self {
            trainer: Trainer::new(config, device).context("the networks cannot be made")?,
            batches,
            label_pool,
            grid,
            device: device.clone(),
            setup: Rest { options, outputs, stop, snap_interval, started, max_duration },
            log: LogState { window: Window::default(), last_line: now, last_nimg: 0 },
            since_entry: Window::default(),
            history: History::default(),
            last_refresh: now,
            grid_nimg,
            grid_time: Duration::ZERO,
            ended: None,
        })
    }

    /// One step and what is due after it; `None` when the run is over.
    ///
    /// # Errors
    /// Fails by a fault of ours.
    pub fn advance(&mut self) -> Result<Option<Progress>> {
        if let Some(ended) = self.why_end() {
            self.ended = Some(ended);
            return Ok(None);
        }
        let flag = Some(Arc::clone(&self.setup.stop));
        let cancel = Cancel { flag, deadline: self.deadline() };
        let stats = match cancel::scope(cancel.clone(), || self.step()) {
            Ok(stats) => stats,
            Err(_) if cancel.is_due() => return Ok(self.end_early()),
            Err(error) => {
                let saved =
                    if self.trainer.num_steps() > 0 { self.write_generator() } else { Ok(()) };
                saved.context("a training step failed, and the weights before it are lost")?;
                return Err(error)
                    .context("a training step failed; the weights before it are saved");
            }
        };
        self.since_entry.add(&stats);
        self.log.window.add(&stats);
        if let Err(error) = self.write_due() {
            // What was there before is whole; the disk may have room again at the next refresh,
            // and the last write of the run must succeed.
            warn!("{error:#}; training goes on");
        }
        if self.log_is_due() {
            self.log_line();
        }
        Ok(Some(self.progress()))
    }

    /// Writes the last generator and grid, and says how the run ended.
    ///
    /// # Errors
    /// Fails if an output cannot be written.
    pub fn finish(mut self) -> Result<Ended> {
        let ended = self.ended.unwrap_or(Ended::Done);
        if self.trainer.num_steps() == 0 {
            warn!("ended before the first step: no outputs; give the job more time");
            return Ok(ended);
        }
        let deadline = match ended {
            Ended::Done => None,
            Ended::TimeLimit => self.setup.max_duration.map(|limit| self.setup.started + limit),
            Ended::Stopped => Some(Instant::now() + STOP_GRACE),
        };
        self.write_generator()?;
        let cancel = Cancel { flag: None, deadline };
        let written = cancel::scope(cancel.clone(), || self.write_grid(&[OutputName::Samples]));
        match written {
            Err(_) if cancel.is_due() => info!("the grid is that of the last refresh"),
            other => other?,
        }
        if self.log.window.take().is_some() {
            info!("last step: {:.3} kimg", self.trainer.cur_nimg() as f64 / 1000.0);
        }
        Ok(ended)
    }

    /// Real images shown so far.
    pub fn cur_nimg(&self) -> u64 {
        self.trainer.cur_nimg()
    }

    fn step(&mut self) -> candle_core::Result<crate::train::trainer::StepStats> {
        let (cur_nimg, batch) = (self.trainer.cur_nimg(), self.trainer.config().batch);
        let (img, c) = self.batches.next(cur_nimg, batch, &self.device)?;
        let rounds = self.trainer.draw(&Reals { img, c }, self.label_pool.as_ref())?;
        self.trainer.step(&rounds)
    }

    /// The end of a step that was abandoned.
    fn end_early(&mut self) -> Option<Progress> {
        let stopped = self.setup.stop.load(std::sync::atomic::Ordering::Relaxed);
        self.ended = Some(if stopped { Ended::Stopped } else { Ended::TimeLimit });
        None
    }

    fn why_end(&self) -> Option<Ended> {
        if self.setup.stop.load(std::sync::atomic::Ordering::Relaxed) {
            Some(Ended::Stopped)
        } else if self.deadline().is_some_and(|deadline| Instant::now() >= deadline) {
            Some(Ended::TimeLimit)
        } else if self.trainer.is_done() {
            Some(Ended::Done)
        } else {
            None
        }
    }

    /// When training must end so that the last outputs are written in time.
    fn deadline(&self) -> Option<Instant> {
        let limit = self.setup.max_duration?;
        let reserve = (limit / 20).clamp(Duration::from_secs(1), Duration::from_secs(30));
        let reserve = reserve.max(2 * self.grid_time);
        Some(self.setup.started + limit.saturating_sub(reserve))
    }

    /// Writes what is due at this count of images, or by the clock.
    fn write_due(&mut self) -> Result<()> {
        let (cur_nimg, batch) = (self.trainer.cur_nimg(), self.trainer.config().batch as u64);
        let is_first = self.trainer.num_steps() == 1;
        let at_count = cur_nimg / self.grid_nimg != (cur_nimg - batch) / self.grid_nimg;
        let means = if is_first || at_count { self.since_entry.take() } else { None };
        if let Some(means) = means {
            self.history.push(cur_nimg, &means);
        }
        let by_clock = self.last_refresh.elapsed() >= self.setup.snap_interval;
        if !(is_first || at_count || by_clock) {
            return Ok(());
        }
        if is_first || by_clock {
            self.write_generator()?;
        }
        let mut names = vec![OutputName::Samples];
        if is_first || at_count {
            names.push(OutputName::SamplesAt(cur_nimg));
        }
        let flag = Some(Arc::clone(&self.setup.stop));
        let cancel = Cancel { flag, deadline: self.deadline() };
        match cancel::scope(cancel.clone(), || self.write_grid(&names)) {
            Err(_) if cancel.is_due() => {} // the run is about to end and writes its last grid
            other => other?,
        }
        if is_first || by_clock {
            self.last_refresh = Instant::now();
        }
        Ok(())
    }

    fn write_generator(&mut self) -> Result<()> {
        let config = self.trainer.config();
        let header = Header::new(
            config.g.clone(),
            self.trainer.cur_nimg(),
            json!({ "options": self.setup.options, "config": config }),
            self.history.to_json(),
        );
        let bytes = to_bytes(&header, self.trainer.g_ema()?)?;
        self.setup.outputs.write(OutputName::Generator, &bytes)
    }

    fn write_grid(&mut self, names: &[OutputName]) -> Result<()> {
        let start = Instant::now();
        let g = self.generator()?;
        let png = self.grid.render(&g, GRID_AT_ONCE)?.to_png()?;
        self.grid_time = start.elapsed();
        for name in names {
            self.setup.outputs.write(*name, &png)?;
        }
        Ok(())
    }

    /// The averaged generator, as constants.
    fn generator(&mut self) -> Result<Generator> {
        let config = self.trainer.config().g.clone();
        Ok(generator(&config, &self.trainer.g_ema()?.frozen())?)
    }

    fn log_is_due(&self) -> bool {
        self.trainer.num_steps() == 1
            || self.trainer.cur_nimg() >= self.log.last_nimg + LOG_NIMG
            || self.log.last_line.elapsed() >= LOG_INTERVAL
    }

    fn log_line(&mut self) {
        let Some(means) = self.log.window.take() else { return };
        let progress = self.progress();
        let images = (progress.cur_nimg - self.log.last_nimg).max(1) as f64;
        let sec_per_kimg = self.log.last_line.elapsed().as_secs_f64() / images * 1000.0;
        let elapsed = format_duration(self.setup.started.elapsed());
        let (_, current) = peak_and_current_bytes();
        info!(
            "kimg {:.2} | elapsed {elapsed} | left {} | sec/kimg {sec_per_kimg:.1} | {} | mem {:.2} GB",
            progress.cur_nimg as f64 / 1000.0,
            format_duration(progress.eta),
            losses(&means, self.trainer.pl_mean()),
            current as f64 / 1e9,
        );
        self.log.last_line = Instant::now();
        self.log.last_nimg = progress.cur_nimg;
    }

    fn progress(&self) -> Progress {
        let total_nimg = (self.trainer.config().total_kimg * 1000.0).ceil() as u64;
        let cur_nimg = self.trainer.cur_nimg();
        let per_image = self.setup.started.elapsed().as_secs_f64() / cur_nimg.max(1) as f64;
        let by_count =
            Duration::from_secs_f64(total_nimg.saturating_sub(cur_nimg) as f64 * per_image);
        let by_clock = self.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        Progress { cur_nimg, total_nimg, eta: by_clock.map_or(by_count, |left| left.min(by_count)) }
    }
}

fn losses(means: &Means, pl_mean: f64) -> String {
    let optional = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
    format!(
        "G {:.3} D {:.3} | real {:+.2} fake {:+.2} | r1 {} | pl {} (mean {pl_mean:.3}) | p 0",
        means.g_loss,
        means.d_loss,
        means.real_score,
        means.fake_score,
        optional(means.r1_penalty),
        optional(means.pl_penalty),
    )
}

/// Images between numbered grids: 1 kimg in short runs, 4 in long ones.
fn grid_interval(config: &TrainConfig) -> u64 {
    if config.total_kimg <= 100.0 { 1000 } else { 4000 }
}
