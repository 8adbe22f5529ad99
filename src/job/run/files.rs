//! The files of a run: when they are due, and what is in them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::Tensor;
use serde_json::{Value, json};
use tracing::warn;

use super::release::Candidate;
use super::{Ended, Run};
use crate::job::keeper::Keeper;
use crate::job::outputs::Output;
use crate::job::quality::Figures;
use crate::model::weights::{GeneratorFile, Header};
use crate::model::{Generator, generator};
use crate::ops::cancel::{self, Cancel};
use crate::sample::Png;

/// After a stop signal the grid may take so long: the node kills after ten seconds, of which a big
/// network needs some to abandon its step, to write its weights and to give its memory back.
const STOP_GRACE: Duration = Duration::from_millis(2500);
/// Pictures of a grid that are made at once.
const GRID_AT_ONCE: usize = 8;

impl Run {
    /// Writes what is due at this count of images, or by the clock.
    pub(super) fn write_due(&mut self) -> Result<()> {
        let (cur_nimg, at_count) = (self.cur_nimg(), self.is_at_count());
        let is_first = self.is_first_step();
        // A big network's grid takes minutes, and so does a look at it: they must not take most of
        // the time.
        let interval = self.setup.snap_interval.max(10 * self.grid_time).max(20 * self.look_time());
        let keeps = self.setup.keeper.as_ref().is_some_and(Keeper::is_due);
        let refreshes = is_first || keeps || self.last_refresh.elapsed() >= interval;
        if !(is_first || at_count || refreshes) {
            return Ok(());
        }
        self.ranks.settle_for_good()?;
        let flag = Some(Arc::clone(&self.setup.stop));
        let cancel = Cancel { flag, deadline: self.deadline() };
        if at_count {
            self.judge(&cancel)?;
        }
        if refreshes {
            self.last_refresh = Instant::now();
            self.release(&cancel)?;
        }
        if keeps {
            self.write_state(&cancel);
        }
        if self.waits() {
            return Ok(());
        }
        let Some(png) = self.grid_png(&cancel)? else {
            return Ok(()); // the run is about to end, and writes its last grid then
        };
        if refreshes {
            self.refresh(Output::Samples(&png))?;
        }
        if is_first || at_count {
            self.refresh(Output::SamplesAt(cur_nimg, &png))?;
        }
        Ok(())
    }

    /// Compares samples with the data, adds to the statistics, and makes the generator the candidate
    /// for the best one if it is; nothing where `cancel` comes first, and then the entry is still owed.
    pub(super) fn judge(&mut self, cancel: &Cancel) -> Result<()> {
        let g = self.generator()?;
        let Some(figures) = cancel::unless_due(cancel, || self.quality.measure(&g))? else {
            return Ok(());
        };
        self.figures = Some(figures);
        self.add_entry(Some(&figures));
        let waiting = self.candidate.as_ref().map(|candidate| candidate.swd);
        if !self.waits() && waiting.or(self.best_swd).is_none_or(|best| figures.swd < best) {
            let (swd, cur_nimg) = (figures.swd, self.cur_nimg());
            let file = self.generator_file(Value::Null)?;
            self.candidate = Some(Candidate { swd, cur_nimg, file });
        }
        if self.is_free() {
            self.release_candidate(cancel)?;
        }
        Ok(())
    }

    /// Adds to the statistics what the samples are like, and means over the steps that no entry has
    /// told of, where these are enough.
    pub(super) fn add_entry(&mut self, figures: Option<&Figures>) {
        let lead = self.ranks.lead();
        let num_images = self.since_entry.num_steps() * lead.config().batch as u64;
        let at = (lead.cur_nimg(), lead.p());
        let is_enough = num_images >= self.setup.audience.min_mean_nimg();
        let means = is_enough.then(|| self.since_entry.take()).flatten();
        self.history.push(at, means.as_ref(), figures);
    }

    pub(super) fn is_first_step(&self) -> bool {
        self.ranks.lead().num_steps() == self.num_steps_before + 1
    }

    /// Writes a file while the run goes on, and says whether it did. Only the first ones must
    /// succeed: later, what was there before is whole, the disk may have room again at the next
    /// refresh, and the last write of the run must succeed too.
    pub(super) fn refresh(&mut self, output: Output) -> Result<bool> {
        match self.setup.outputs.write(output) {
            Err(error) if !self.is_first_step() => {
                warn!("{error:#}; training goes on");
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    /// The file of the weights of the moment, of which `audit` was found.
    pub(super) fn generator_file(&mut self, audit: Value) -> Result<GeneratorFile> {
        let config = self.ranks.lead().config();
        let mut training = json!({ "options": self.setup.options, "config": config });
        if let Some(ancestor) = self.ancestor {
            training["started_from"] = json!(ancestor);
        }
        let header = Header::new(
            config.g.clone(),
            self.ranks.lead().cur_nimg(),
            training,
            self.history.to_json(),
        );
        let class_names = self.batches.dataset().class_names().cloned();
        let header = Header { audit, class_names, ..header };
        Ok(GeneratorFile::new(&header, self.ranks.lead_mut().g_ema()?)?)
    }

    /// The grid of the moment; `None` where `cancel` was due before it was done.
    pub(super) fn grid_png(&mut self, cancel: &Cancel) -> Result<Option<Png>> {
        let (start, g, is_first) = (Instant::now(), self.generator()?, self.is_free());
        let hides = |images: &Tensor| {
            if is_first { Ok(vec![false; images.dim(0)?]) } else { self.gate.hides(images) }
        };
        let picture = cancel::unless_due(cancel, || self.grid.render(&g, GRID_AT_ONCE, hides))?;
        let Some(picture) = picture else { return Ok(None) };
        self.grid_time = start.elapsed();
        Ok(Some(picture.to_png()?))
    }

    /// The grid at the end of the run, if the time allows; a stop signal shortens that time.
    pub(super) fn last_grid(&mut self, ended: Ended) -> Result<Option<Png>> {
        if ended != Ended::Stopped {
            let limit = self.setup.max_duration.filter(|_| ended == Ended::TimeLimit);
            let deadline = limit.map(|limit| self.setup.started + limit);
            let flag = Some(Arc::clone(&self.setup.stop));
            let png = self.grid_png(&Cancel { flag, deadline })?;
            if png.is_some() || !self.setup.stop.load(Ordering::Relaxed) {
                return Ok(png);
            }
        }
        self.grid_png(&Cancel { flag: None, deadline: Some(Instant::now() + STOP_GRACE) })
    }

    /// The averaged generator, as constants.
    pub(super) fn generator(&mut self) -> Result<Generator> {
        let config = self.ranks.lead().config().g.clone();
        Ok(generator(&config, &self.ranks.lead_mut().g_ema()?.frozen())?)
    }
}
