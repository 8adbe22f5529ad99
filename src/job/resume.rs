//! Files to continue from: found by their content, among the inputs of a job or at a path at home.

use std::fs::File;
use std::path::Path;

use super::state::{LABEL, RawHeader, StateError, StateFile};
use crate::data::Asset;

/// Takes the file to continue from out of the assets, if one is there; pictures stay.
///
/// # Errors
/// Fails if there are several, or if a state is not this version's.
pub fn take(assets: &mut Vec<Asset>) -> Result<Option<StateFile>, StateError> {
    let mut sources = Vec::new();
    for asset in assets.iter_mut() {
        let mut failure = None;
        asset.roots.retain(|root| match source(root) {
            Ok(None) => true,
            Ok(Some(source)) => {
                sources.push(source);
                false
            }
            Err(error) => {
                failure.get_or_insert(error);
                false
            }
        });
        failure.map_or(Ok(()), Err)?;
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
/// Fails if it is none of ours, or if a state is not this version's.
pub fn at(path: &Path) -> Result<StateFile, StateError> {
    source(path)?.ok_or(StateError::NotOurs)
}

/// A file of ours; `None`: something else, or nothing that can be read, which the reader of
/// pictures counts.
fn source(path: &Path) -> Result<Option<StateFile>, StateError> {
    let Some(mut file) = File::open(path).ok().filter(|_| path.is_file()) else { return Ok(None) };
    let Some(header) = RawHeader::read(&mut file).unwrap_or_default() else { return Ok(None) };
    let is_ours = header.metadata.contains_key(LABEL);
    is_ours.then(|| StateFile::new(file, header)).transpose()
}
