//! What a run starts from, and its state, which it writes meanwhile and at the end.

use std::time::{Duration, Instant};

use anyhow::Result;
use tracing::{info, warn};

use super::{Ended, Run};
use crate::job::progress::Reporter;
use crate::job::state::{StateError, StateReader};
use crate::job::statistics::{Ancestor, Findings};
use crate::model::Store;
use crate::model::transfer::table;
use crate::model::weights::Header;
use crate::ops::cancel::Cancel;

/// After a stop signal the state may take so long, from the moment when the signal was noticed; the
/// last grid comes after it.
const STATE_GRACE: Duration = Duration::from_secs(4);

impl Run {
    /// Starts from a trained generator, before the first step.
    ///
    /// # Errors
    /// Fails if a device does.
    pub fn start_from(&mut self, header: &Header, weights: &Store) -> Result<()> {
        let rows = self.ranks.start_from((&header.model, weights))?;
        let ancestor =
            Ancestor { img_resolution: header.model.img_resolution, cur_nimg: header.cur_nimg };
        self.ancestor = Some(ancestor);
        let (res, kimg) = (header.model.img_resolution, header.cur_nimg as f64 / 1000.0);
        info!("starts from a generator of {res}x{res} that was trained for {kimg:.3} kimg");
        for line in table(&rows) {
            info!("{line}");
        }
        let warmup_kimg = self.ranks.lead().config().d_warmup_kimg;
        if warmup_kimg > 0.0 {
            info!(
                "the discriminator is fresh: the generator stands for {warmup_kimg} kimg, and is at its \
                 learning rate after {}",
                2.0 * warmup_kimg
            );
        }
        if self.waits() {
            let kimg = self.setup.audience.min_nimg_from_given() as f64 / 1000.0;
            info!("files leave from kimg {kimg} on: before, they would tell of few pictures");
        }
        Ok(())
    }

    /// Goes on from a state, before the first step.
    ///
    /// # Errors
    /// Fails if the state is damaged; the run cannot be used then.
    pub fn resume(&mut self, state: StateReader) -> Result<(), StateError> {
        let record = state.restore(&mut self.ranks)?;
        let Findings { history, since_entry, best_swd, ancestor } = record.findings;
        (self.history, self.since_entry) = (history, since_entry);
        (self.best_swd, self.ancestor) = (best_swd, ancestor);
        let batch = self.ranks.lead().config().batch as u64;
        let of_set = (self.setup.audience, self.batches.dataset().num_bytes());
        self.reporter = Reporter::new(Instant::now(), (self.cur_nimg(), batch), of_set);
        self.num_steps_before = self.ranks.lead().num_steps();
        self.num_rollbacks = self.ranks.lead().num_rollbacks();
        self.ranks.remember()?;
        Ok(())
    }

    /// What goes into the files beside the networks.
    pub(super) fn findings(&self) -> Findings {
        Findings {
            history: self.history.clone(),
            since_entry: self.since_entry,
            best_swd: self.best_swd,
            ancestor: self.ancestor,
        }
    }

    /// Whether a signal or the time came between the step to a fixed count of images and the entry of
    /// that count.
    pub(super) fn owes_entry(&self) -> bool {
        let is_new = self.history.last_nimg() != Some(self.cur_nimg());
        self.ranks.lead().num_steps() > 0 && self.is_at_count() && is_new
    }

    /// Writes the state while the run goes on; the one before is whole if that fails.
    pub(super) fn write_state(&mut self, cancel: &Cancel) {
        let findings = self.findings();
        let Some(keeper) = &mut self.setup.keeper else { return };
        if let Err(error) = keeper.write(&mut self.setup.outputs, &self.ranks, &findings, cancel) {
            warn!("{error:#}; training goes on");
        }
    }

    /// The state at the end of the run, where the time allows.
    pub(super) fn last_state(
        &mut self,
        (ended, noticed): (Ended, Instant),
        findings: &Findings,
    ) -> Result<()> {
        let Some(keeper) = self.setup.keeper.as_mut().filter(|_| ended != Ended::Lost) else {
            return Ok(()); // the one before may be better
        };
        let limit = self.setup.max_duration.filter(|_| ended == Ended::TimeLimit);
        let deadline = match ended {
            Ended::Stopped => Some(noticed + STATE_GRACE),
            Ended::TimeLimit | Ended::Done | Ended::Lost | Ended::Withheld { .. } => {
                limit.map(|limit| self.setup.started + limit)
            }
        };
        let fits = deadline.is_none_or(|deadline| Instant::now() + keeper.time() < deadline);
        let cancel = Cancel { flag: None, deadline };
        if !(fits && keeper.write(&mut self.setup.outputs, &self.ranks, findings, &cancel)?) {
            info!(
                "no time for a last state: state.safetensors is that of the last refresh, if any"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::Ordering;

    use candle_core::Device;
    use serde_json::Value;

    use super::*;
    use crate::data::{Dataset, Mirror};
    use crate::job::gate::Level;
    use crate::job::keeper::{Keeper, Set};
    use crate::job::outputs::Outputs;
    use crate::job::params::Params;
    use crate::job::resume::{self, Source};
    use crate::job::run::Setup;
    use crate::job::statistics::Audience;
    use crate::job::table::StateKind;
    use crate::ops::collective::connect;
    use crate::train::presets::{Cfg, Overrides, train_config};

    /// A run of two steps with an older state in its folder.
    fn run(folder: &Path) -> Run {
        run_of(folder, 0.016)
    }

    fn set() -> Set {
        Set::of(&dataset(), &Params::default())
    }

    fn dataset() -> Dataset {
        Dataset::from_raw(8, (0..8 * 192).map(|i| (i % 251) as u8).collect(), 0, vec![]).unwrap()
    }

    fn run_of(folder: &Path, kimg: f64) -> Run {
        let overrides = Overrides { batch: Some(8), kimg: Some(kimg), ..Overrides::default() };
        let config = train_config(Cfg::Tiny, 8, 0, &overrides);
        fs::write(folder.join("state.safetensors"), "older").unwrap();
        let setup = Setup {
            options: Value::Null,
            mirror: Mirror::default(),
            outputs: Outputs::open_folder(folder).unwrap(),
            keeper: Keeper::new(set(), StateKind::Sealed),
            stop: std::sync::Arc::default(),
            snap_interval: Duration::from_hours(1),
            started: Instant::now(),
            max_duration: None,
            gate: Level::Report,
            audience: Audience::Home,
        };
        Run::new(dataset(), &config, setup, connect(&[Device::Cpu]).unwrap()).unwrap()
    }

    fn is_older(folder: &Path) -> bool {
        fs::read(folder.join("state.safetensors")).unwrap() == b"older"
    }

    #[test]
    fn a_state_that_does_not_fit_the_grace_stays_the_one_before() {
        for (num_bytes, fits) in [(1 << 20, true), (1 << 40, false)] {
            let folder = tempfile::tempdir().unwrap();
            let mut run = run(folder.path());
            assert!(run.advance().unwrap().is_some());
            run.setup.keeper.as_mut().unwrap().num_bytes = num_bytes;
            run.setup.stop.store(true, Ordering::Relaxed);
            assert!(run.advance().unwrap().is_none());
            fs::remove_file(folder.path().join("generator.safetensors")).unwrap();
            assert_eq!(run.finish().unwrap(), Ended::Stopped);
            assert_eq!(is_older(folder.path()), !fits);
            assert!(folder.path().join("generator.safetensors").is_file());
        }
    }

    #[test]
    fn a_state_is_written_when_it_is_due() {
        for (wait, is_due) in [(Duration::ZERO, true), (Duration::from_hours(1), false)] {
            let folder = tempfile::tempdir().unwrap();
            let mut run = run(folder.path());
            let keeper = run.setup.keeper.as_mut().unwrap();
            (keeper.wait, keeper.num_bytes) = (wait, 1);
            assert!(run.advance().unwrap().is_some());
            assert_eq!(is_older(folder.path()), !is_due);
            while run.advance().unwrap().is_some() {}
            assert_eq!(run.finish().unwrap(), Ended::Done);
            assert!(!is_older(folder.path()));
        }
    }

    /// At a count of images where samples are compared with the data: what was cut off is done first
    /// by the run that goes on.
    #[test]
    fn a_signal_at_a_fixed_count_changes_nothing() {
        let folder = || tempfile::tempdir().unwrap();
        let generator = |folder: &Path| fs::read(folder.join("generator.safetensors")).unwrap();
        let to_end = |mut run: Run| {
            run.grid_nimg = 16;
            while run.advance().unwrap().is_some() {}
            assert_eq!(run.finish().unwrap(), Ended::Done);
        };
        let (whole, first, second) = (folder(), folder(), folder());
        to_end(run_of(whole.path(), 0.04));

        let mut run = run_of(first.path(), 0.04);
        run.grid_nimg = 16;
        assert!(run.advance().unwrap().is_some());
        let stats = run.step().unwrap();
        run.since_entry.add(&stats);
        run.setup.stop.store(true, Ordering::Relaxed);
        run.write_due().unwrap();
        assert!(run.owes_entry() && run.history.to_json().as_array().unwrap().is_empty());
        assert!(run.advance().unwrap().is_none());
        run.finish().unwrap();

        let mut run = run_of(second.path(), 0.04);
        run.grid_nimg = 16;
        let Source::State(file) = resume::at(&first.path().join("state.safetensors")).unwrap()
        else {
            panic!("a state");
        };
        run.resume(set().open(file).unwrap()).unwrap();
        assert!(run.owes_entry());
        to_end(run);
        assert!(generator(second.path()) == generator(whole.path()));
    }

    /// The end of the time is brought forward by what the state will take, with as much again.
    #[test]
    fn a_time_limit_leaves_time_for_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = run(folder.path());
        run.setup.max_duration = Some(Duration::from_hours(1));
        let deadline = |run: &mut Run, num_bytes: u64| {
            run.setup.keeper.as_mut().unwrap().num_bytes = num_bytes;
            run.deadline().unwrap()
        };
        let (without, with) = (deadline(&mut run, 0), deadline(&mut run, 500_000_000));
        assert_eq!(without - with, Duration::from_secs(20)); // twice 10 s, at 50 MB in a second
    }
}
