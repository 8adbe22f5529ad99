//! What a compute stack mounts for a job: data sets and parameters.
//!
//! Two layouts are understood together. The current node puts one file per data set flat into
//! `inputs`, and those that it stores itself into `persistentStorage/BUCKET/FILE`. The older
//! stack makes a folder per data set in `inputs`, with files named 0, 1, ..; where that stack
//! forbids to list `inputs`, the variable `DIDS` says the folders' names. Nothing else below
//! the root is read, and a link counts only if it ends in one of the two folders.
//!
//! Messages name no path and no file: job logs are public.
//!
//! Not here: what a file is and holds (`data`), what parameters mean ([`super::params`]).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::params::MAX_BYTES;
use super::problem::ParamsError;
use crate::data::Asset;

/// The file of parameters, directly in `inputs`.
const PARAMETERS_FILE: &str = "algoCustomData.json";
/// Folders that hold data sets.
const FOLDERS: [&str; 2] = ["inputs", "persistentStorage"];
/// Most entries of a folder, and most files of a data set that cannot be listed.
const MAX_ENTRIES: usize = 1_000_000;

/// Why no data set was found. The command line turns this into exit code 2.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum InputsError {
    #[error("no inputs: expected at least one data set in inputs or persistentStorage, came none")]
    Nothing,
    #[error(
        "inputs cannot be listed; expected a folder that this user may list, or the ids of the \
         data sets in the variable DIDS"
    )]
    Unlistable,
    #[error("DIDS: expected a JSON list of ids of digits, letters and colons, came something else")]
    BadIds,
    #[error("inputs: expected at most {limit} entries in a folder, came more; use an archive")]
    TooMany { limit: usize },
}

/// Finds the data sets below `root`, in the order of their names.
///
/// * `dids` - the variable `DIDS`; used only if `inputs` cannot be listed.
///
/// # Errors
/// Fails if there is no data set, or if `inputs` can neither be listed nor guessed.
pub fn discover(root: &Path, dids: Option<&str>) -> Result<Vec<Asset>, InputsError> {
    let folders: Vec<PathBuf> =
        FOLDERS.iter().filter_map(|folder| root.join(folder).canonicalize().ok()).collect();
    let inputs = root.join(FOLDERS[0]);
    let mut assets = match list(&inputs, &folders) {
        Ok(entries) => assets_of(entries, &folders)?,
        Err(ListError::Missing) => Vec::new(),
        Err(ListError::Refused) => assets_by_id(&inputs, dids)?,
        Err(ListError::TooMany) => return Err(InputsError::TooMany { limit: MAX_ENTRIES }),
    };
    for bucket in list_or_nothing(&root.join(FOLDERS[1]), &folders)? {
        if bucket.is_dir() {
            assets.extend(assets_of(list_or_nothing(&bucket, &folders)?, &folders)?);
        }
    }
    if assets.is_empty() { Err(InputsError::Nothing) } else { Ok(assets) }
}

/// Reads the file of parameters; `None`: there is none.
///
/// # Errors
/// Fails if it is no file, leads out of `inputs`, cannot be read or is too large.
pub fn parameters(root: &Path) -> Result<Option<Vec<u8>>, ParamsError> {
    let inputs = root.join(FOLDERS[0]);
    let path = inputs.join(PARAMETERS_FILE);
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(ParamsError::Unreadable),
    };
    let is_inside = inputs.canonicalize().is_ok_and(|inputs| path.starts_with(inputs));
    if !is_inside || !path.is_file() {
        return Err(ParamsError::Unreadable);
    }
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|_| ParamsError::Unreadable)?;
    if bytes.len() > MAX_BYTES {
        return Err(ParamsError::TooLarge { limit: MAX_BYTES });
    }
    Ok(Some(bytes))
}

/// Why a folder gave no entries.
enum ListError {
    Missing,
    Refused,
    TooMany,
}

/// Files and folders in `folder`, sorted; without links that lead out of `folders`, pipes and
/// devices.
fn list(folder: &Path, folders: &[PathBuf]) -> Result<Vec<PathBuf>, ListError> {
    let entries = fs::read_dir(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ListError::Missing,
        _ => ListError::Refused,
    })?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|_| ListError::Refused)?.path();
        if paths.len() == MAX_ENTRIES {
            return Err(ListError::TooMany);
        }
        if is_inside(&path, folders) && (path.is_file() || path.is_dir()) {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn list_or_nothing(folder: &Path, folders: &[PathBuf]) -> Result<Vec<PathBuf>, InputsError> {
    match list(folder, folders) {
        Ok(paths) => Ok(paths),
        Err(ListError::TooMany) => Err(InputsError::TooMany { limit: MAX_ENTRIES }),
        Err(ListError::Missing | ListError::Refused) => Ok(Vec::new()),
    }
}

/// Whether `path`, links resolved, is still in one of `folders`.
fn is_inside(path: &Path, folders: &[PathBuf]) -> bool {
    path.canonicalize().is_ok_and(|path| folders.iter().any(|folder| path.starts_with(folder)))
}

/// One data set per entry, the file of parameters apart.
fn assets_of(entries: Vec<PathBuf>, folders: &[PathBuf]) -> Result<Vec<Asset>, InputsError> {
    let is_parameters = |path: &Path| {
        let path = path.canonicalize().unwrap_or_default();
        path.ends_with(Path::new(FOLDERS[0]).join(PARAMETERS_FILE))
            && path.parent().is_some_and(|folder| folders.iter().any(|inputs| inputs == folder))
    };
    let mut assets = Vec::new();
    for path in entries {
        if path.is_dir() {
            let files = list_or_nothing(&path, folders)?;
            let roots = if files.iter().all(|file| index(file).is_some()) {
                by_index(files) // the older stack's folder; an empty one has no roots
            } else {
                vec![path]
            };
            if !roots.is_empty() {
                assets.push(Asset { roots });
            }
        } else if !is_parameters(&path) {
            assets.push(Asset { roots: vec![path] });
        }
    }
    Ok(assets)
}

/// The number that a file of the older stack has for a name.
fn index(path: &Path) -> Option<usize> {
    let name = path.file_name()?.to_str()?;
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && path.is_file() { name.parse().ok() } else { None }
}

fn by_index(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    files.sort_by_key(|file| index(file));
    files
}

/// The data sets `DID/0`, `DID/1`, .. of a folder that cannot be listed.
fn assets_by_id(inputs: &Path, dids: Option<&str>) -> Result<Vec<Asset>, InputsError> {
    let ids: Vec<String> = serde_json::from_str(dids.ok_or(InputsError::Unlistable)?)
        .map_err(|_| InputsError::BadIds)?;
    if !ids.iter().all(|id| is_id(id)) {
        return Err(InputsError::BadIds);
    }
    let assets = ids.iter().map(|id| {
        let file = |idx: usize| inputs.join(id).join(idx.to_string());
        // a link is none of that stack's files
        let is_there = |path: &PathBuf| path.symlink_metadata().is_ok_and(|file| file.is_file());
        Asset { roots: (0..MAX_ENTRIES).map(file).take_while(is_there).collect() }
    });
    Ok(assets.filter(|asset| !asset.roots.is_empty()).collect())
}

/// Whether `id` can be nothing but one name in a folder.
fn is_id(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b':';
    (1..=128).contains(&id.len()) && id.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A root with the given files, each of one byte.
    fn tree(files: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        root
    }

    /// The roots of each asset, relative to `root`.
    fn found(root: &Path) -> Vec<Vec<String>> {
        let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        let roots = |asset: &Asset| asset.roots.iter().map(relative).collect();
        discover(root, None).unwrap().iter().map(roots).collect()
    }

    #[test]
    fn the_current_layout() {
        let root = tree(&[
            "inputs/algoCustomData.json",
            "inputs/my%20set.zip",
            "inputs/download",
            "persistentStorage/bucket/sketches.tar.gz",
            "persistentStorage/bucket/algoCustomData.json",
            "transformations/algorithm",
            "ddos/x",
            "logs/image.log",
            "outputs/samples.png",
        ]);
        let bucket = "persistentStorage/bucket";
        let expected = [
            "inputs/download",
            "inputs/my%20set.zip",
            &format!("{bucket}/algoCustomData.json"),
            &format!("{bucket}/sketches.tar.gz"),
        ];
        assert_eq!(found(root.path()), expected.map(|path| vec![path.to_owned()]));
    }

    #[test]
    fn the_older_layout_and_plain_folders() {
        let root = tree(&["inputs/aa/10", "inputs/aa/0", "inputs/aa/2", "inputs/cats/x.png"]);
        fs::create_dir(root.path().join("inputs/empty")).unwrap();
        let files = ["inputs/aa/0", "inputs/aa/2", "inputs/aa/10"].map(ToOwned::to_owned);
        assert_eq!(found(root.path()), [files.to_vec(), vec!["inputs/cats".to_owned()]]);
    }

    #[test]
    fn links_out_of_the_inputs_do_not_count() {
        let root = tree(&["inputs/a.png", "ddos/secret", "persistentStorage/b/c.zip"]);
        let inputs = root.path().join("inputs");
        symlink("../ddos/secret", inputs.join("b.png")).unwrap();
        symlink("/etc", inputs.join("etc")).unwrap();
        symlink("../ddos", root.path().join("persistentStorage/bucket")).unwrap();
        symlink("a.png", inputs.join("c.png")).unwrap();
        symlink("loop", inputs.join("loop")).unwrap();
        let expected = ["inputs/a.png", "inputs/c.png", "persistentStorage/b/c.zip"];
        assert_eq!(found(root.path()), expected.map(|path| vec![path.to_owned()]));
    }

    #[test]
    fn nothing_is_an_error() {
        for files in [&[][..], &["inputs/algoCustomData.json"], &["ddos/x", "logs/y"]] {
            assert_eq!(discover(tree(files).path(), None).err(), Some(InputsError::Nothing));
        }
    }

    #[test]
    fn ids_stand_in_for_a_listing() {
        let root = tree(&["inputs/aa/0", "inputs/aa/1", "inputs/aa/3", "inputs/bb/0", "x/0"]);
        let inputs = root.path().join("inputs");
        let assets = assets_by_id(&inputs, Some("[\"bb\", \"aa\", \"cc\"]")).unwrap();
        assert_eq!(assets.len(), 2);
        assert_eq!(assets[0].roots, [inputs.join("bb/0")]);
        assert_eq!(assets[1].roots, [inputs.join("aa/0"), inputs.join("aa/1")]);
        let long = format!("[\"{}\"]", "a".repeat(129));
        for dids in
            ["", "{}", "[1]", "[\"\"]", "[\"../x\"]", "[\"..\"]", "[\"a/b\"]", "[\"é\"]", &long]
        {
            assert_eq!(
                assets_by_id(&inputs, Some(dids)).err(),
                Some(InputsError::BadIds),
                "{dids}"
            );
        }
        assert_eq!(assets_by_id(&inputs, None).err(), Some(InputsError::Unlistable));
    }

    /// A link to itself is refused to root as well, unlike a folder without the right to list.
    #[test]
    fn a_listing_that_is_refused_needs_ids() {
        let root = tree(&[]);
        symlink("inputs", root.path().join("inputs")).unwrap();
        assert_eq!(discover(root.path(), None).err(), Some(InputsError::Unlistable));
        assert_eq!(discover(root.path(), Some("[\"aa\"]")).err(), Some(InputsError::Nothing));
        assert_eq!(discover(root.path(), Some("aa")).err(), Some(InputsError::BadIds));
    }

    #[test]
    fn the_parameters_file() {
        let root = tree(&["inputs/a.png"]);
        let path = root.path().join("inputs/algoCustomData.json");
        assert_eq!(parameters(root.path()), Ok(None));
        fs::write(&path, "{}").unwrap();
        assert_eq!(parameters(root.path()), Ok(Some(b"{}".to_vec())));
        fs::write(&path, vec![b' '; 10 << 20]).unwrap();
        assert_eq!(parameters(root.path()), Err(ParamsError::TooLarge { limit: MAX_BYTES }));
        fs::remove_file(&path).unwrap();
        symlink("/etc/hostname", &path).unwrap();
        assert_eq!(parameters(root.path()), Err(ParamsError::Unreadable));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(parameters(root.path()), Err(ParamsError::Unreadable));
    }
}
