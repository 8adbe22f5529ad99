//! Reading a state: what it is, whether it may be opened, and back into a run.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use serde_json::{Map, Value};

use super::header::{RawHeader, layout};
use super::{FORMAT, Label, RECORD, Record, StateError};
use crate::job::seal::{Key, Opener};
use crate::train::ranks::Ranks;

/// A state that is there, not opened yet.
pub struct StateFile {
    file: File,
    label: Label,
    header: Vec<u8>,
}

impl StateFile {
    /// Takes a file whose header was read.
    ///
    /// # Errors
    /// Fails if the label is damaged, or another version's.
    pub(in super::super) fn new(file: File, header: RawHeader) -> Result<Self, StateError> {
        let label = header.label().unwrap_or(Err(StateError::NotOurs))?;
        let ours = env!("CARGO_PKG_VERSION");
        if label.format != FORMAT || label.version != ours {
            let theirs = label.version.chars().filter(char::is_ascii_graphic).take(20).collect();
            return Err(StateError::OtherVersion { theirs, format: label.format, ours });
        }
        Ok(Self { file, label, header: header.bytes })
    }

    /// Opens it with the key of the set at hand.
    ///
    /// # Errors
    /// Fails if the set is another, or the file is damaged.
    pub fn open(mut self, key: &Key) -> Result<StateReader, StateError> {
        let mut from: Box<dyn Read> = if self.label.sealed {
            let num_bytes = self.file.metadata()?.len().saturating_sub(self.header.len() as u64);
            self.file.seek(SeekFrom::Start(self.header.len() as u64))?;
            Box::new(Opener::new(self.file, key, self.header, num_bytes)?)
        } else {
            self.file.seek(SeekFrom::Start(0))?;
            Box::new(self.file)
        };
        let header = RawHeader::read(&mut from)?.ok_or(StateError::Damaged)?;
        let inner = header.label().unwrap_or(Err(StateError::Damaged))?;
        if inner != (Label { sealed: false, ..self.label }) {
            return Err(StateError::Damaged);
        }
        let record = header.metadata.get(RECORD).and_then(Value::as_str).unwrap_or_default();
        let record = serde_json::from_str(record).map_err(|_| StateError::Damaged)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&header.bytes);
        Ok(StateReader { record, tensors: header.tensors, hasher, from })
    }
}

/// A state whose numbers have been read, and whose tensors come next.
pub struct StateReader {
    /// The numbers.
    pub record: Record,
    tensors: Map<String, Value>,
    hasher: blake3::Hasher,
    from: Box<dyn Read>,
}

impl StateReader {
    /// Puts everything into the run, on every rank.
    ///
    /// # Errors
    /// Fails if the file is damaged or does not fit; the run cannot be used then.
    pub fn restore(mut self, ranks: &mut Ranks) -> Result<Record, StateError> {
        if self.tensors != layout(ranks.lead()).0 {
            return Err(StateError::Damaged);
        }
        ranks.restore(&self.record.counters, |slot| {
            let mut bytes = vec![0; 4 * slot.len()];
            self.from.read_exact(&mut bytes)?;
            self.hasher.update(&bytes);
            let (values, _) = bytes.as_chunks::<4>();
            Ok::<_, StateError>(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
        })?;
        let mut rest = Vec::new();
        self.from.take(blake3::OUT_LEN as u64 + 1).read_to_end(&mut rest)?; // the end is sealed too
        if rest != self.hasher.finalize().as_bytes() {
            return Err(StateError::Damaged);
        }
        Ok(self.record)
    }
}
