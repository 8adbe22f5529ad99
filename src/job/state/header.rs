//! Headers of safetensors files, written and read.

use std::io::{self, Read};

use serde_json::{Map, Value, json};

use super::{LABEL, Label, StateError};
use crate::train::Trainer;

/// The last tensor of a plain file.
const HASH: &str = "blake3";
/// Most bytes of a header: a long run has about 2 MB of statistics.
const MAX_BYTES: u64 = 64 << 20;

/// The entries of a plain file's tensors, and the number of their bytes.
pub(super) fn layout(trainer: &Trainer) -> (Map<String, Value>, u64) {
    let mut tensors = Map::new();
    let mut at = 0;
    for slot in trainer.slots() {
        let dims: Vec<u64> = slot.dims.iter().map(|dim| *dim as u64).collect();
        let num_bytes = 4 * slot.len() as u64;
        tensors.insert(slot.name, entry("F32", &dims, at, num_bytes));
        at += num_bytes;
    }
    let num_bytes = blake3::OUT_LEN as u64;
    tensors.insert(HASH.to_owned(), entry("U8", &[num_bytes], at, num_bytes));
    (tensors, at + num_bytes)
}

pub(super) fn entry(dtype: &str, dims: &[u64], at: u64, num_bytes: u64) -> Value {
    json!({ "dtype": dtype, "shape": dims, "data_offsets": [at, at + num_bytes] })
}

/// A safetensors header with its length, padded so that tensors are aligned.
pub(super) fn encoded(metadata: Value, tensors: Map<String, Value>) -> serde_json::Result<Vec<u8>> {
    let mut entries = Map::from_iter([("__metadata__".to_owned(), metadata)]);
    entries.extend(tensors);
    let mut json = serde_json::to_string(&entries)?.into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let len = json.len() as u64;
    Ok([&len.to_le_bytes()[..], &json].concat())
}

/// The header of a safetensors file: its bytes with their length, its metadata and its tensors;
/// `None` if it is none.
pub(in super::super) struct RawHeader {
    pub(super) bytes: Vec<u8>,
    pub(in super::super) metadata: Map<String, Value>,
    pub(super) tensors: Map<String, Value>,
}

impl RawHeader {
    /// Reads as far as the header goes; `None` if this is no safetensors file.
    pub(in super::super) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut len = [0; 8];
        let mut begin = Vec::new();
        from.by_ref().take(9).read_to_end(&mut begin)?;
        let Some((head, b"{")) = begin.split_at_checked(8) else { return Ok(None) };
        len.copy_from_slice(head);
        let num_bytes = u64::from_le_bytes(len);
        if !(2..=MAX_BYTES).contains(&num_bytes) {
            return Ok(None);
        }
        let mut bytes = begin;
        from.by_ref().take(num_bytes - 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != 8 + num_bytes {
            return Ok(None);
        }
        let Ok(mut tensors) = serde_json::from_slice::<Map<String, Value>>(&bytes[8..]) else {
            return Ok(None);
        };
        let metadata = match tensors.shift_remove("__metadata__") {
            Some(Value::Object(metadata)) => metadata,
            _ => Map::new(),
        };
        Ok(Some(Self { bytes, metadata, tensors }))
    }

    /// The label of a state, if this is one.
    pub(super) fn label(&self) -> Option<Result<Label, StateError>> {
        let text = self.metadata.get(LABEL)?.as_str().unwrap_or_default();
        Some(serde_json::from_str(text).map_err(|_| StateError::Damaged))
    }
}
