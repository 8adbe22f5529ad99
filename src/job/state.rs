//! `state.safetensors`: all that a run needs to go on, to the bit.
//!
//! The plain file is a safetensors file: each tensor of the trainer in f32, a BLAKE3 hash of all
//! bytes before it, and in its metadata a [`Label`] and the [`Record`] of the numbers. The sealed
//! file is a safetensors file too, of one tensor of bytes, which is the plain file sealed
//! ([`super::seal`]); its metadata have the label only. Both are written and read as streams: what is
//! in memory beside the trainer is one tensor and one chunk.
//!
//! Not here: when states are written ([`super::keeper`]), where they are found ([`super::resume`]).

mod header;
mod read;

use std::io::{self, Write};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::header::{encoded, entry, layout};
use super::seal::{Key, Refusal, Sealer, sealed_bytes};
use super::statistics::Findings;
use crate::data::Fingerprints;
use crate::ops::cancel::Cancel;
use crate::ops::device::{Fault, classify};
use crate::train::Trainer;
use crate::train::config::TrainConfig;
use crate::train::continued::Mismatch;
use crate::train::state::Counters;

pub(super) use self::header::RawHeader;
pub use self::read::{StateFile, StateReader};

/// Metadata entry of the label, by which a state is known.
pub(super) const LABEL: &str = "stylegan2_c2d_state";
/// Metadata entry of the record.
const RECORD: &str = "record";
/// The only tensor of a sealed file.
const SEALED: &str = "sealed";
/// Version of this layout.
const FORMAT: u32 = 1;

/// What a state says of itself to anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Version of the layout.
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Whether it is sealed.
    pub sealed: bool,
    /// Real images shown to the discriminator.
    pub cur_nimg: u64,
}

/// The numbers of a run beside its tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What it is trained with.
    pub config: TrainConfig,
    /// How its pictures are made and shown, by parameter.
    pub shown: Map<String, Value>,
    /// Hash of the files that its pictures come from.
    pub files: String,
    /// Hashes of its pixels and labels.
    pub fingerprints: Fingerprints,
    /// Where it is.
    pub counters: Counters,
    /// What it has found out.
    pub findings: Findings,
}

/// Why a run cannot go on from a file. The command line turns this into exit code 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum StateError {
    #[error("expected one file to continue from, came {count}; leave the others out")]
    Several { count: usize },
    #[error(
        "expected a state.safetensors or a generator.safetensors of this program to continue from, \
         came another file"
    )]
    NotOurs,
    #[error(
        "the state was made by version {theirs} (format {format}) and this is version {ours} (format \
         {FORMAT}); continue it with the version that made it"
    )]
    OtherVersion { theirs: String, format: u32, ours: &'static str },
    #[error(
        "the state was made with other pictures: it opens only for the same files, not one more or \
         less, each the same to the byte; give those, or continue from generator.safetensors"
    )]
    OtherPictures,
    #[error(
        "the state was made with other classes for the same pictures; give the same cond and the \
         same labels"
    )]
    OtherLabels,
    #[error("the state is damaged or cut short; copy it again, or continue from an older one")]
    Damaged,
    #[error("the file to continue from cannot be read; check that this user may read it")]
    Unreadable,
    #[error(
        "the state has shown {shown_kimg} kimg and kimg is {asked_kimg}, the total with what the \
         state brings; ask for more"
    )]
    NothingLeft { shown_kimg: f64, asked_kimg: f64 },
    #[error("the weights to start from are refused: {0}")]
    Weights(String),
    #[error("the state cannot be continued like this: {0}")]
    Mismatch(#[from] Mismatch),
    #[error("the state cannot be put into the device's memory")]
    Device(#[source] candle_core::Error),
}

impl StateError {
    /// Whether what was given is at fault.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Device(_))
    }
}

impl From<io::Error> for StateError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(Refusal::OtherKey) => Self::OtherPictures,
            Some(Refusal::Damaged) => Self::Damaged,
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Damaged,
            None => Self::Unreadable,
        }
    }
}

/// What does not fit the networks has not been written by us.
impl From<candle_core::Error> for StateError {
    fn from(error: candle_core::Error) -> Self {
        if classify(&error) == Fault::Other { Self::Damaged } else { Self::Device(error) }
    }
}

/// Bytes of the state of a run, without its statistics, and of the disk while one replaces another.
pub fn disk_bytes(trainer: &Trainer) -> [u64; 2] {
    let (tensors, num_bytes) = layout(trainer);
    let header_bytes = serde_json::to_string(&tensors).map_or(0, |json| json.len() as u64);
    let num_bytes = sealed_bytes(header_bytes + num_bytes);
    [num_bytes, 2 * num_bytes]
}

/// Writes the state of a run; false if `cancel` was due before all of it was written.
///
/// * `key` - absent: as a plain file.
///
/// # Errors
/// Fails if the file does, or if a value is not finite.
pub fn write(
    to: &mut dyn Write,
    (trainer, record): (&Trainer, &Record),
    key: Option<&Key>,
    cancel: &Cancel,
) -> Result<bool> {
    let Some(key) = key else { return write_plain(to, (trainer, record), cancel) };
    let (header, num_bytes) = plain_header(trainer, record)?;
    let header = sealed_header(record, sealed_bytes(header.len() as u64 + num_bytes))?;
    to.write_all(&header)?;
    let mut sealer = Sealer::new(to, key, &header)?;
    if !write_plain(&mut sealer, (trainer, record), cancel)? {
        return Ok(false);
    }
    sealer.finish()?;
    Ok(true)
}

fn write_plain(
    to: &mut dyn Write,
    (trainer, record): (&Trainer, &Record),
    cancel: &Cancel,
) -> Result<bool> {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        to.write_all(bytes)
    };
    put(&plain_header(trainer, record)?.0)?;
    for slot in trainer.slots() {
        if cancel.is_due() {
            return Ok(false);
        }
        let bytes: Vec<u8> = slot.values()?.iter().flat_map(|value| value.to_le_bytes()).collect();
        put(&bytes)?;
    }
    to.write_all(hasher.finalize().as_bytes())?;
    Ok(true)
}

fn label(record: &Record, sealed: bool) -> serde_json::Result<String> {
    serde_json::to_string(&Label {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sealed,
        cur_nimg: record.counters.cur_nimg,
    })
}

/// The header of a plain file, and the number of bytes behind it.
fn plain_header(trainer: &Trainer, record: &Record) -> Result<(Vec<u8>, u64)> {
    let metadata = json!({ LABEL: label(record, false)?, RECORD: serde_json::to_string(record)? });
    let (tensors, num_bytes) = layout(trainer);
    Ok((encoded(metadata, tensors)?, num_bytes))
}

fn sealed_header(record: &Record, num_bytes: u64) -> Result<Vec<u8>> {
    let tensors = Map::from_iter([(SEALED.to_owned(), entry("U8", &[num_bytes], 0, num_bytes))]);
    Ok(encoded(json!({ LABEL: label(record, true)? }), tensors)?)
}
