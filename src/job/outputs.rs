//! The folder of outputs: the only files of a run, and the only module that writes them.
//!
//! The names are a closed list ([`OutputName`]), flat and without anything of the inputs. A file
//! is written under a temporary name, beside the folder (in one that the launcher has made, or in
//! the root) where that is the same volume and otherwise hidden in it, and renamed: at every
//! instant what has a promised name is whole. A file of an earlier run is replaced by the same
//! rename; files of other names are left alone.
//!
//! Messages name no path: job logs are public.
//!
//! Not here: what the files hold, and when they are written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::launched;

/// Most numbered grids of a run that are kept.
pub const MAX_GRIDS: usize = 12;

/// Begin of the names of temporary files.
const TEMPORARY: &str = ".tmp-stylegan2-c2d-";

/// A file that may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputName {
    /// The latest generator.
    Generator,
    /// The generator that was nearest to the data.
    BestGenerator,
    /// The latest grid of samples.
    Samples,
    /// The grid after so many images shown.
    SamplesAt(u64),
    /// What a later run needs to go on.
    State,
}

impl OutputName {
    fn is_weights(self) -> bool {
        match self {
            Self::Generator | Self::BestGenerator | Self::State => true,
            Self::Samples | Self::SamplesAt(_) => false,
        }
    }

    /// The name in the folder.
    pub fn file_name(self) -> String {
        match self {
            Self::Generator => "generator.safetensors".to_owned(),
            Self::BestGenerator => "generator-best.safetensors".to_owned(),
            Self::Samples => "samples.png".to_owned(),
            Self::SamplesAt(num_images) => format!("samples-{num_images:09}.png"),
            Self::State => "state.safetensors".to_owned(),
        }
    }
}

/// The folder of outputs of one run.
#[derive(Debug)]
pub struct Outputs {
    folder: PathBuf,
    /// Where temporary files are made: on the same volume.
    staging: PathBuf,
    /// The numbered grids of this run that are there, by place in the run and images shown.
    grids: Vec<(u64, u64)>,
    num_grids: u64,
    /// Whether weights may leave.
    takes_weights: bool,
}

impl Outputs {
    /// Opens `outputs` below the root of a job, with temporary files beside it if possible.
    ///
    /// # Errors
    /// Fails if the folder cannot be made or written to.
    pub fn open(root: &Path) -> Result<Self> {
        let folder = root.join("outputs");
        fs::create_dir_all(&folder).map_err(|error| explained(&error))?;
        let beside = [root.join(launched::STAGING), root.to_owned()];
        let staging = beside.into_iter().find(|place| can_rename(place, &folder));
        let staging = staging.unwrap_or_else(|| folder.clone());
        Self::new(folder, staging)
    }

    /// Opens a folder at home, with temporary files in it.
    ///
    /// # Errors
    /// As [`Outputs::open`].
    pub fn open_folder(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| explained(&error))?;
        Self::new(folder.to_owned(), folder.to_owned())
    }

    fn new(folder: PathBuf, staging: PathBuf) -> Result<Self> {
        for place in [&folder, &staging] {
            remove_temporaries(place);
        }
        if !can_rename(&staging, &folder) {
            bail!(
                "outputs: expected a folder that this user may write to, came one that refuses \
                 files; check its owner, its mode and the space left"
            );
        }
        Ok(Self { folder, staging, grids: Vec::new(), num_grids: 0, takes_weights: true })
    }

    /// The same folder for samples only: weights are not written, nor is a state.
    #[must_use]
    pub fn without_weights(self) -> Self {
        Self { takes_weights: false, ..self }
    }

    /// Whether weights may leave at all.
    pub fn takes_weights(&self) -> bool {
        self.takes_weights
    }

    /// Writes `bytes` under `name`, as a whole or not at all; a numbered grid may thin others. What
    /// may not leave is left out.
    ///
    /// # Errors
    /// Fails if the volume is full or refuses the file; what was there before is then intact.
    pub fn write(&mut self, name: OutputName, bytes: &[u8]) -> Result<()> {
        self.write_by(name, |file| {
            file.write_all(bytes)?;
            Ok(true)
        })?;
        if let OutputName::SamplesAt(num_images) = name {
            self.grids.retain(|(_, kept)| *kept != num_images);
            self.grids.push((self.num_grids, num_images));
            self.num_grids += 1;
            self.thin_grids()?;
        }
        Ok(())
    }

    /// As [`Outputs::write`], with what `fill` writes; it returns false to give up, and then what was
    /// there before stays.
    ///
    /// # Errors
    /// As [`Outputs::write`], or as `fill` fails.
    pub fn write_by(
        &mut self,
        name: OutputName,
        fill: impl FnOnce(&mut File) -> Result<bool>,
    ) -> Result<bool> {
        if name.is_weights() && !self.takes_weights {
            return Ok(false);
        }
        let target = self.folder.join(name.file_name());
        let is_written = replace(&self.staging.join(temporary_name()), &target, fill)
            .with_context(|| format!("outputs: {} is not written", name.file_name()))?;
        sync_folder(&self.folder);
        Ok(is_written)
    }

    fn thin_grids(&mut self) -> Result<()> {
        let places: Vec<u64> = self.grids.iter().map(|(place, _)| *place).collect();
        for place in thin(&places) {
            let Some(idx) = self.grids.iter().position(|grid| grid.0 == place) else { continue };
            let (_, num_images) = self.grids.remove(idx);
            let path = self.folder.join(OutputName::SamplesAt(num_images).file_name());
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(explained(&error)).context("outputs: an old grid is not removed");
                }
                _ => (),
            }
        }
        Ok(())
    }
}

/// Which of the grids at `places` (0, 1, .. in the order of the run, ascending) to delete so that
/// [`MAX_GRIDS`] stay.
///
/// The first and the last stay; of the others the one whose place, counted from the first, is
/// divisible by the fewest twos goes first, the earlier before the later. Called after every
/// grid this leaves gaps of one power of two and its double, apart from the last gap, which may
/// be shorter.
pub fn thin(places: &[u64]) -> Vec<u64> {
    let Some(first) = places.first() else { return Vec::new() };
    let mut kept = places.to_vec();
    let mut deleted = Vec::new();
    while kept.len() > MAX_GRIDS {
        let inner = 1..kept.len() - 1;
        let Some(idx) = inner.min_by_key(|idx| (kept[*idx] - first).trailing_zeros()) else {
            break;
        };
        deleted.push(kept.remove(idx));
    }
    deleted
}

/// Writes one file of a command at home, as a whole or not at all.
///
/// # Errors
/// Fails if the volume is full or refuses the file; what was there before is then intact.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let fill = |file: &mut File| {
        file.write_all(bytes)?;
        Ok(true)
    };
    replace(&path.with_file_name(temporary_name()), path, fill)
        .with_context(|| format!("{} is not written", path.display()))?;
    Ok(())
}

fn temporary_name() -> String {
    format!("{TEMPORARY}{}", std::process::id())
}

/// Whether a file made in `staging` can be renamed into `folder`: the same volume, the same
/// mount (a bind mount of one volume is refused) and both writable.
fn can_rename(staging: &Path, folder: &Path) -> bool {
    let from = staging.join(temporary_name());
    let to = folder.join(format!("{}-probe", temporary_name()));
    let is_renamed = create(&from).and_then(|_| fs::rename(&from, &to)).is_ok();
    let _ = fs::remove_file(if is_renamed { to } else { from }); // there is none if it failed early
    is_renamed
}

/// Removes what a run that was killed has left.
fn remove_temporaries(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = fs::remove_file(entry.path()); // a later failure to create says why
        }
    }
}

/// Makes a new file; never opens one that is there, nor follows a link.
fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}

/// Replaces `target` by a file that `fill` fills; if it fails or gives up, no part of it is left.
fn replace(
    temporary: &Path,
    target: &Path,
    fill: impl FnOnce(&mut File) -> Result<bool>,
) -> Result<bool> {
    let mut file = create(temporary).map_err(|error| explained(&error))?;
    let written = fill(&mut file).and_then(|is_whole| {
        if is_whole {
            file.sync_all()?;
            fs::rename(temporary, target)?; // replaces a link, does not follow it
        }
        Ok(is_whole)
    });
    if !matches!(written, Ok(true)) {
        let _ = fs::remove_file(temporary); // the first error is the one to report
    }
    written.map_err(|error| match error.downcast_ref() {
        Some(error) => explained(error),
        None => error,
    })
}

/// Makes renames last through a power cut; some file systems have no such call.
fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// The reason and the cure, without the path.
fn explained(error: &io::Error) -> anyhow::Error {
    let cure = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "no space is left; ask for a larger disk, or for a lower resolution"
        }
        io::ErrorKind::FileTooLarge => "the file is too large for the volume; ask for another",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "this user may not write there; check the owner and the mode of the folder"
        }
        io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists => {
            "a file and a folder are in each other's place; remove what is not ours"
        }
        io::ErrorKind::NotFound => "the folder is gone; leave it in place while a run lasts",
        kind => return anyhow::anyhow!("the volume refuses it ({kind}); check the disk"),
    };
    anyhow::anyhow!("{cure}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn root() -> (TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("outputs");
        fs::create_dir(&folder).unwrap();
        (root, folder)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_promised_names_are_there() {
        let (root, folder) = root();
        let mut outputs = Outputs::open(root.path()).unwrap();
        assert_eq!(outputs.staging, root.path());
        outputs.write(OutputName::Generator, b"weights").unwrap();
        outputs.write(OutputName::Samples, b"grid").unwrap();
        outputs.write(OutputName::SamplesAt(4000), b"grid").unwrap();
        outputs.write(OutputName::Generator, b"newer").unwrap();
        let expected = ["generator.safetensors", "samples-000004000.png", "samples.png"];
        assert_eq!(names(&folder), expected);
        assert_eq!(names(root.path()), ["outputs"]);
        assert_eq!(fs::read(folder.join("generator.safetensors")).unwrap(), b"newer");
    }

    #[test]
    fn leftovers_go_and_foreign_files_stay() {
        let (root, folder) = root();
        let temporary = format!("{TEMPORARY}1");
        for path in [&folder.join(&temporary), &root.path().join(&temporary)] {
            fs::write(path, "part").unwrap();
        }
        let kept = [".tmp-other", "samples-000000001.png", "samples.png", "theirs.txt"];
        for name in kept {
            fs::write(folder.join(name), "old").unwrap();
        }
        let mut outputs = Outputs::open(root.path()).unwrap();
        for num_images in 2..40 {
            outputs.write(OutputName::SamplesAt(num_images), b"new").unwrap();
        }
        outputs.write(OutputName::Samples, b"new").unwrap();
        assert_eq!(names(&folder).len(), kept.len() + MAX_GRIDS);
        for name in [".tmp-other", "samples-000000001.png", "theirs.txt"] {
            assert_eq!(fs::read(folder.join(name)).unwrap(), b"old", "{name}");
        }
        assert_eq!(fs::read(folder.join("samples.png")).unwrap(), b"new");
        assert_eq!(names(root.path()), ["outputs"]);
    }

    #[test]
    fn links_are_replaced_not_followed() {
        let (root, folder) = root();
        let victim = root.path().join("victim");
        fs::write(&victim, "theirs").unwrap();
        symlink(&victim, folder.join("samples.png")).unwrap();
        let mut outputs = Outputs::open_folder(&folder).unwrap();
        symlink(&victim, folder.join(temporary_name())).unwrap();
        assert!(outputs.write(OutputName::Samples, b"new").is_err()); // the temporary name is taken
        fs::remove_file(folder.join(temporary_name())).unwrap();
        outputs.write(OutputName::Samples, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"theirs");
        assert!(folder.join("samples.png").symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn a_failure_leaves_no_part() {
        let (root, folder) = root();
        fs::create_dir(folder.join("samples.png")).unwrap(); // a file cannot replace a folder
        let mut outputs = Outputs::open(root.path()).unwrap();
        let error = outputs.write(OutputName::Samples, b"grid").unwrap_err();
        let message = format!("{error:#}");
        assert!(message.starts_with("outputs: samples.png is not written: a file and a folder"));
        assert_eq!(
            (names(&folder), names(root.path())),
            (vec!["samples.png".into()], vec!["outputs".into()])
        );
        fs::remove_dir_all(&folder).unwrap();
        let error = outputs.write(OutputName::Generator, b"weights").unwrap_err();
        assert!(format!("{error:#}").contains("the folder is gone"));
        assert!(names(root.path()).is_empty());
    }

    #[test]
    fn a_full_volume_is_explained() {
        let error =
            File::options().write(true).open("/dev/full").unwrap().write_all(b"x").unwrap_err();
        assert!(explained(&error).to_string().starts_with("no space is left"));
    }

    #[test]
    fn a_folder_that_is_a_file_or_refuses_files_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("outputs"), "x").unwrap();
        assert!(Outputs::open(root.path()).is_err());
        let error = Outputs::open_folder(Path::new("/proc/self")).unwrap_err(); // also as root
        assert!(
            error.to_string().starts_with("outputs: expected a folder that this user may write")
        );
    }

    #[test]
    fn grids_are_thinned_evenly() {
        let mut kept = Vec::new();
        for place in 0..2000u64 {
            kept.push(place);
            let deleted = thin(&kept);
            kept.retain(|place| !deleted.contains(place));
            assert_eq!(kept.len() as u64, (place + 1).min(MAX_GRIDS as u64));
            assert_eq!((kept[0], kept[kept.len() - 1]), (0, place));
            let mut gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let last = gaps.pop().unwrap_or_default();
            let (min, max) = (gaps.iter().min(), gaps.iter().max());
            if let (Some(min), Some(max)) = (min, max) {
                assert!(*max <= 2 * min && last <= *max, "{kept:?}");
            }
        }
        assert!(thin(&[]).is_empty());
        assert_eq!(thin(&(0..13).collect::<Vec<_>>()), [1]);
    }
}
