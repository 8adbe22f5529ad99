//! When a run's state is kept, and for which set.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value, json};
use tracing::{info, warn};

use super::outputs::Outputs;
use super::params::Params;
use super::seal::Key;
use super::state::{self, Record, StateError, StateFile, StateReader};
use super::statistics::Findings;
use super::table::StateKind;
use crate::data::{Dataset, Fingerprints};
use crate::ops::cancel::Cancel;
use crate::train::Trainer;
use crate::train::continued::Mismatch;
use crate::train::ranks::Ranks;

/// Time to the first state: it shows how fast the disk is, which decides what fits after a signal.
const FIRST: Duration = Duration::from_mins(5);
/// Time between two states: they are large.
const INTERVAL: Duration = Duration::from_mins(30);
/// Bytes that a disk takes in a second, until that was measured.
const CAUTIOUS_RATE: f64 = 50e6;
/// What the hash of the files is for.
const FILES: &str = "stylegan2-c2d state 1: which files";

/// Which pictures a state belongs to, and how they are made and shown.
pub struct Set {
    key: Key,
    files: String,
    fingerprints: Fingerprints,
    shown: Map<String, Value>,
}

impl Set {
    /// The set of a run.
    pub fn of(dataset: &Dataset, params: &Params) -> Self {
        let shown = json!({
            "crop": params.crop,
            "resize": params.resize,
            "background": params.background,
            "mirror": params.mirror,
            "mirror_y": params.mirror_y,
        });
        let shown = if let Value::Object(shown) = shown { shown } else { Map::new() };
        Self {
            key: Key::of(dataset),
            files: blake3::Hash::from_bytes(*dataset.key(FILES)).to_hex().to_string(),
            fingerprints: dataset.fingerprints(),
            shown,
        }
    }

    /// Opens a state that was made with this set.
    ///
    /// # Errors
    /// Fails if it was made with other pictures, classes or ways to show them, or is damaged.
    pub fn open(&self, file: StateFile) -> Result<StateReader, StateError> {
        let reader = file.open(&self.key)?;
        let Record { files, fingerprints, shown, .. } = &reader.record;
        if *files != self.files {
            return Err(StateError::OtherPictures);
        }
        for (name, asked) in &self.shown {
            let kept = shown.get(name).unwrap_or_default();
            if kept != asked {
                let (kept, asked) = (kept.to_string(), asked.to_string());
                return Err(Mismatch { field: name.clone(), kept, asked }.into());
            }
        }
        if fingerprints.labels != self.fingerprints.labels {
            return Err(StateError::OtherLabels);
        }
        if fingerprints.pixels != self.fingerprints.pixels {
            warn!(
                "this machine decodes the pictures to other values than the one before: the training \
                 continues, but not to the bit"
            );
        }
        Ok(reader)
    }
}

/// Writes the state of a run from time to time.
pub struct Keeper {
    set: Set,
    is_sealed: bool,
    /// Length of the state.
    pub(super) num_bytes: u64,
    /// Least time from the last one, or from the start, to the next.
    pub(super) wait: Duration,
    last: Instant,
    /// Bytes in a second, of the last write.
    rate: f64,
}

impl Keeper {
    /// For a run on `set`; `None` where no state is asked for.
    pub fn new(set: Set, kind: StateKind) -> Option<Self> {
        let is_sealed = match kind {
            StateKind::Off => return None,
            StateKind::Sealed => true,
            StateKind::Plain => false,
        };
        Some(Self {
            set,
            is_sealed,
            num_bytes: 0,
            wait: FIRST,
            last: Instant::now(),
            rate: CAUTIOUS_RATE,
        })
    }

    /// Says what the state will take, before the training starts; its bytes.
    pub fn announce(&mut self, trainer: &Trainer) -> u64 {
        let [num_bytes, peak_bytes] = state::disk_bytes(trainer);
        self.num_bytes = num_bytes;
        let mb = |bytes: u64| bytes as f64 / 1e6;
        info!(
            "state.safetensors: {:.1} MB, after {} minutes, then every {} and at the end; while one \
             replaces another, {:.1} MB of disk",
            mb(num_bytes),
            FIRST.as_secs() / 60,
            INTERVAL.as_secs() / 60,
            mb(peak_bytes),
        );
        num_bytes
    }

    /// Whether a state should be written now, which takes a twentieth of the time at most.
    pub fn is_due(&self) -> bool {
        self.last.elapsed() >= self.wait.max(20 * self.time())
    }

    /// How long a write is expected to take.
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.num_bytes as f64 / self.rate)
    }

    /// Writes the state of the moment; says whether it did, which it does not where `cancel` is due
    /// too early, or where weights have begun to move.
    ///
    /// # Errors
    /// Fails if the file cannot be written, or if the run has diverged; what was there stays.
    pub fn write(
        &mut self,
        outputs: &mut Outputs,
        ranks: &Ranks,
        findings: &Findings,
        cancel: &Cancel,
    ) -> Result<bool> {
        let Some(counters) = ranks.counters()? else { return Ok(false) };
        let record = Record {
            config: ranks.lead().config().clone(),
            shown: self.set.shown.clone(),
            files: self.set.files.clone(),
            fingerprints: self.set.fingerprints.clone(),
            counters,
            findings: findings.clone(),
        };
        let (start, key) = (Instant::now(), self.is_sealed.then_some(&self.set.key));
        (self.last, self.wait) = (start, INTERVAL); // also where it fails: it would at once again
        let is_written =
            outputs.write_state(|file| state::write(file, (ranks.lead(), &record), key, cancel))?;
        if is_written {
            self.rate = self.num_bytes as f64 / start.elapsed().as_secs_f64().max(1e-3);
        }
        Ok(is_written)
    }
}
