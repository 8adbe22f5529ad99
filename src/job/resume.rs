//! Files to continue from: found by their content, among the inputs of a job or at a path at home.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::Device;

use super::state::{LABEL, RawHeader, StateError, StateFile};
use crate::data::Asset;
use crate::model::Store;
use crate::model::weights::{ENTRY, Header, MAX_BYTES, store_from_bytes};

/// Weights start as normals, and gains keep them near that.
const LARGEST_WEIGHT: f32 = 1e4;

/// What a run starts from, where that is not fresh.
pub enum Source {
    /// The whole state of a run.
    State(StateFile),
    /// A trained generator.
    Weights(Box<Header>, Store),
}

/// Takes the file to continue from out of the assets, if one is there; pictures stay.
///
/// # Errors
/// Fails if there are several, if a state is not this version's, or if weights are refused.
pub fn take(assets: &mut Vec<Asset>) -> Result<Option<Source>, StateError> {
    let mut sources = Vec::new();
    for asset in assets.iter_mut() {
        let roots = std::mem::take(&mut asset.roots);
        for root in roots {
            match source(&root)? {
                Some(source) => sources.push(source),
                None => asset.roots.push(root),
            }
        }
    }
    assets.retain(|asset| !asset.roots.is_empty());
    match sources.len() {
        0 | 1 => Ok(sources.pop()),
        count => Err(StateError::Several { count }),
    }
}

/// The file to continue from at a path.
///
/// # Errors
/// Fails if it is none of ours, if a state is not this version's, or if weights are refused.
pub fn at(path: &Path) -> Result<Source, StateError> {
    source(path)?.ok_or(StateError::NotOurs)
}

/// # Errors
/// Fails if there is a weight that no training makes: such are there to carry something.
fn must_be_trained(store: &Store) -> Result<(), StateError> {
    for (_, var) in store.tensors() {
        let largest = var.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
        if largest > LARGEST_WEIGHT {
            let what = format!("a weight over {LARGEST_WEIGHT}, which no training makes");
            return Err(StateError::Weights(what));
        }
    }
    Ok(())
}

/// A file of ours; `None`: something else, or nothing that can be read, which the reader of
/// pictures counts.
fn source(path: &Path) -> Result<Option<Source>, StateError> {
    let Some(mut file) = File::open(path).ok().filter(|_| path.is_file()) else { return Ok(None) };
    let Some(header) = RawHeader::read(&mut file).unwrap_or_default() else { return Ok(None) };
    if header.metadata.contains_key(LABEL) {
        return StateFile::new(file, header).map(|state| Some(Source::State(state)));
    }
    if !header.metadata.contains_key(ENTRY) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let (header, store) = store_from_bytes(&bytes, &Device::Cpu)
        .map_err(|error| StateError::Weights(error.to_string()))?;
    must_be_trained(&store)?;
    Ok(Some(Source::Weights(Box::new(header), store)))
}
