//! Weights on their way out: the latest and the best, past the gate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::{Ended, Run, Setup};
use crate::audit::{Calibration, Finding};
use crate::data::{DataError, Dataset};
use crate::job::gate::{Gate, Training};
use crate::job::outputs::Output;
use crate::model::weights::{GeneratorFile, Header, store_from_bytes};
use crate::model::{Generator, generator};
use crate::ops::cancel::{self, Cancel};

/// After a stop signal the look at the last weights must be over so soon, counted from the moment
/// when the signal was noticed.
const GRACE: Duration = Duration::from_secs(5);
/// A look takes about as long as so many grids, until one was timed.
const GRIDS_PER_LOOK: u32 = 10;

/// A generator that is nearer to the data than the one in the best one's file.
pub(super) struct Candidate {
    pub(super) swd: f64,
    pub(super) cur_nimg: u64,
    /// The file.
    pub(super) file: GeneratorFile,
}

impl Run {
    /// Writes the weights of the moment, and the candidate, as far as they may leave; what was there
    /// before stays where they may not, or where `cancel` comes first.
    pub(super) fn release(&mut self, cancel: &Cancel) -> Result<()> {
        if !self.setup.outputs.takes_weights() || self.waits() {
            return Ok(());
        }
        self.release_candidate(cancel)?;
        if let Some(file) = self.latest(cancel)? {
            self.refresh(Output::Generator(&file))?;
        }
        Ok(())
    }

    /// The same at the end of the run, where the time allows.
    pub(super) fn last_release(&mut self, (ended, noticed): (Ended, Instant)) -> Result<()> {
        if !self.setup.outputs.takes_weights() {
            return Ok(());
        }
        if self.waits() {
            warn!("no files: the end came too early after the start from given weights");
            return Ok(());
        }
        let flag = Some(Arc::clone(&self.setup.stop));
        let cancel = match ended {
            Ended::Stopped => Cancel { flag: None, deadline: Some(noticed + GRACE) },
            Ended::TimeLimit => {
                let limit = self.setup.max_duration;
                Cancel { flag, deadline: limit.map(|limit| self.setup.started + limit) }
            }
            Ended::Done | Ended::Lost | Ended::Withheld { .. } => Cancel { flag, deadline: None },
        };
        if !matches!(ended, Ended::Stopped | Ended::Withheld { .. }) {
            self.release_candidate(&cancel)?;
        }
        let has_time = cancel.deadline.is_none_or(|at| Instant::now() + self.look_time() < at);
        let file = if self.is_free() && ended == Ended::Done {
            let g = self.generator()?;
            let finding = self.audited(&g, self.cur_nimg(), &cancel)?;
            Some(self.generator_file(json!(finding))?)
        } else if self.is_free() || has_time && !matches!(ended, Ended::Withheld { .. }) {
            self.latest(&cancel)?
        } else {
            None
        };
        let Some(file) = file else {
            info!("generator.safetensors is that of the last refresh, if any");
            return Ok(());
        };
        self.setup.outputs.write(Output::Generator(&file))
    }

    /// The weights of the moment as a file, where they may leave.
    fn latest(&mut self, cancel: &Cancel) -> Result<Option<GeneratorFile>> {
        if self.is_free() {
            return self.generator_file(Value::Null).map(Some);
        }
        let g = self.generator()?;
        let Some(finding) = self.audited(&g, self.cur_nimg(), cancel)? else { return Ok(None) };
        let is_out = self.gate.lets_out(&finding);
        self.gate.count(is_out);
        if !is_out {
            warn!("the weights of the moment are held back by the gate");
            return Ok(None);
        }
        self.has_released = true;
        self.generator_file(json!(finding)).map(Some)
    }

    /// Writes the best generator if a better one waits and may leave.
    pub(super) fn release_candidate(&mut self, cancel: &Cancel) -> Result<()> {
        let Some(Candidate { swd, cur_nimg, mut file }) = self.candidate.take() else {
            return Ok(());
        };
        if !self.is_free() {
            let (header, store) = store_from_bytes(file.bytes(), self.ranks.lead().device())?;
            let g = generator(&header.model, &store.frozen())?;
            let Some(finding) = self.audited(&g, cur_nimg, cancel)? else {
                self.candidate = Some(Candidate { swd, cur_nimg, file });
                return Ok(());
            };
            if !self.gate.lets_out(&finding) {
                warn!("the best weights are held back by the gate");
                return Ok(());
            }
            self.has_released = true;
            file = GeneratorFile::new(&Header { audit: json!(finding), ..header }, &store)?;
        }
        if self.refresh(Output::BestGenerator(&file))? {
            self.best_swd = Some(swd);
        }
        Ok(())
    }

    /// Whether it is too early for weights that started from given ones, and for their samples.
    pub(super) fn waits(&self) -> bool {
        self.ancestor.is_some() && self.cur_nimg() < self.setup.audience.min_nimg_from_given()
    }

    /// Whether weights leave without a look: where nothing is held back, and after the first step of
    /// all, when they are noise (or given ones, which do not leave then).
    pub(super) fn is_free(&self) -> bool {
        !self.gate.is_binding() || self.ranks.lead().num_steps() == 1
    }

    /// How long a look takes, about.
    pub(super) fn look_time(&self) -> Duration {
        if !self.gate.is_binding() {
            return Duration::ZERO;
        }
        self.gate.time().unwrap_or(GRIDS_PER_LOOK * self.grid_time)
    }

    /// What samples of `g` are like; `None` where `cancel` comes first.
    fn audited(
        &mut self,
        g: &Generator,
        cur_nimg: u64,
        cancel: &Cancel,
    ) -> Result<Option<Finding>> {
        let training = Training {
            dataset: self.batches.dataset(),
            label_pool: self.label_pool.as_ref(),
            cur_nimg,
            device: self.ranks.lead().device(),
        };
        let (start, gate) = (Instant::now(), &mut self.gate);
        let finding = cancel::unless_due(cancel, || gate.audit(g, training))?;
        if let Some(finding) = &finding {
            info!("audit: {finding}, {:.1} s", start.elapsed().as_secs_f64());
        }
        Ok(finding)
    }
}

/// The gate of a run, which has looked at the pictures if it may hold something back.
///
/// # Errors
/// Fails if memory cannot be had, or when stopped.
pub(super) fn open_gate(setup: &Setup, dataset: &Dataset, seed: u64) -> Result<Gate> {
    let mut gate = Gate::new(setup.gate, seed);
    if gate.is_binding() {
        let cancel = Cancel { flag: Some(Arc::clone(&setup.stop)), deadline: None };
        let looked =
            cancel::unless_due(&cancel, || Ok(says(gate.prepare(dataset)?.calibration())))?;
        info!("gate: {}", looked.ok_or(DataError::Stopped)?);
    }
    Ok(gate)
}

/// What the gate will be able to say of a set.
fn says(calibration: &Calibration) -> String {
    let percent = (calibration.power() * 1000.0).floor() / 10.0;
    let alike = if calibration.is_separable() {
        "copies can be told from other pictures of the set"
    } else {
        "other pictures of the set are as much alike as copies are"
    };
    format!("finds {percent:.1} % of planted copies; {alike}")
}
