//! The folder of outputs: the only files of a run, and the only module that writes them.
//!
//! What may be written is a type ([`Output`]): a generator, or a picture that one made; beside them the
//! state, which its own module seals. The names are a closed list (`outputs/name.rs`), flat and without
//! anything of the inputs. A file is written under a temporary name, beside the folder (in one that the
//! launcher has made, or in the root) where that is the same volume and otherwise hidden in it, read
//! back, and renamed: at every instant what has a promised name is whole. A file of an earlier run is
//! replaced by the same rename. Files of other names that were there before are left alone; what a
//! job finds besides at its end is removed.
//!
//! Messages name no path: job logs are public.
//!
//! Not here: what the files hold, and when they are written.

mod budget;
mod draft;
#[cfg(test)]
pub(crate) mod faults;
mod folder;
mod name;
#[cfg(test)]
mod tests;
mod thin;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use tracing::warn;

pub use self::budget::Budget;
use self::draft::Draft;
use self::folder::{Folder, Way};
use self::name::OutputName;
use self::thin::thin;
use super::launched;
use crate::model::weights::GeneratorFile;
use crate::sample::Png;

/// Most numbered grids of a run that are kept.
pub const MAX_GRIDS: usize = 12;

/// Begin of the names of temporary files.
const TEMPORARY: &str = ".tmp-stylegan2-c2d-";

/// What may leave: what a generator made, and generators.
///
/// Bytes are none, nor is anything of real pictures:
///
/// ```compile_fail,E0308
/// # use stylegan2_c2d::job::outputs::{Output, Outputs};
/// fn leak(outputs: &mut Outputs, set: &stylegan2_c2d::data::Dataset) {
///     outputs.write(Output::Samples(set.image(0))).unwrap();
/// }
/// ```
/// ```compile_fail,E0308
/// # use stylegan2_c2d::job::outputs::{Output, Outputs};
/// fn leak(outputs: &mut Outputs, pixels: &[u8]) {
///     outputs.write(Output::Samples(pixels)).unwrap();
/// }
/// ```
/// ```compile_fail,E0423
/// # use stylegan2_c2d::sample::Png;
/// let png = Png(vec![1u8]);
/// ```
/// ```compile_fail,E0423
/// # use stylegan2_c2d::model::weights::GeneratorFile;
/// let file = GeneratorFile(vec![1u8]);
/// ```
/// ```compile_fail,E0451
/// # use stylegan2_c2d::{data::Dataset, sample::Picture};
/// fn picture(set: &Dataset) -> Picture {
///     Picture { width: 8, height: 8, channels: 3, pixels: set.image(0).expose().to_vec() }
/// }
/// ```
#[derive(Clone, Copy)]
pub enum Output<'a> {
    /// The latest generator.
    Generator(&'a GeneratorFile),
    /// The generator that was nearest to the data.
    BestGenerator(&'a GeneratorFile),
    /// The latest grid of samples.
    Samples(&'a Png),
    /// The grid after so many images shown.
    SamplesAt(u64, &'a Png),
}

impl Output<'_> {
    fn name(&self) -> OutputName {
        match self {
            Self::Generator(_) => OutputName::Generator,
            Self::BestGenerator(_) => OutputName::BestGenerator,
            Self::Samples(_) => OutputName::Samples,
            Self::SamplesAt(num_images, _) => OutputName::SamplesAt(*num_images),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Generator(file) | Self::BestGenerator(file) => file.bytes(),
            Self::Samples(png) | Self::SamplesAt(_, png) => png.bytes(),
        }
    }
}

/// The folder of outputs of one run.
#[derive(Debug)]
pub struct Outputs {
    folder: Folder,
    /// Where temporary files are made: on the same volume; absent: in the folder.
    staging: Option<Folder>,
    /// In a job: what was there before, which is not the job's to remove.
    foreign: Option<HashSet<OsString>>,
    /// The numbered grids of this run that are there, by place in the run and images shown.
    grids: Vec<(u64, u64)>,
    num_grids: u64,
    /// Whether weights may leave.
    takes_weights: bool,
    budget: Budget,
}

impl Outputs {
    /// Opens `outputs` below the root of a job, with temporary files beside it if possible.
    ///
    /// # Errors
    /// Fails if the folder cannot be made or written to.
    pub fn open(root: &Path) -> Result<Self> {
        let path = root.join("outputs");
        fs::create_dir_all(&path).map_err(|error| explained(&error))?;
        let folder = Folder::open(&path, Way::Itself).map_err(|error| explained(&error))?;
        let beside = [root.join(launched::STAGING), root.to_owned()];
        let mut beside = beside.iter().filter_map(|path| Folder::open(path, Way::Itself).ok());
        let staging = beside.find(|place| can_move(place, &folder));
        let foreign = folder.names().map_err(|error| explained(&error))?.into_iter();
        let foreign = foreign.filter(|name| !is_temporary(name)).collect();
        Self::new(folder, staging, Some(foreign))
    }

    /// Opens a folder at home, with temporary files in it.
    ///
    /// # Errors
    /// As [`Outputs::open`].
    pub fn open_folder(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| explained(&error))?;
        let folder = Folder::open(path, Way::Any).map_err(|error| explained(&error))?;
        Self::new(folder, None, None)
    }

    fn new(
        folder: Folder,
        staging: Option<Folder>,
        foreign: Option<HashSet<OsString>>,
    ) -> Result<Self> {
        for place in [Some(&folder), staging.as_ref()].into_iter().flatten() {
            remove_temporaries(place);
        }
        if !can_move(staging.as_ref().unwrap_or(&folder), &folder) {
            bail!(
                "outputs: expected a folder that this user may write to, came one that refuses \
                 files; check its owner, its mode and the space left"
            );
        }
        let (grids, num_grids, takes_weights) = (Vec::new(), 0, true);
        let budget = Budget::default();
        Ok(Self { folder, staging, foreign, grids, num_grids, takes_weights, budget })
    }

    /// For samples only from now on: weights are not written, nor is a state.
    pub fn refuse_weights(&mut self) {
        self.takes_weights = false;
    }

    /// Whether weights may leave at all.
    pub fn takes_weights(&self) -> bool {
        self.takes_weights
    }

    /// Says how much will be written, and holds the files to it.
    pub fn announce(&mut self, budget: Budget) {
        budget.announce(self.takes_weights, self.folder.free_bytes());
        self.budget = budget;
    }

    /// Writes `output`, as a whole or not at all; a numbered grid may thin others. What may not leave
    /// is left out.
    ///
    /// # Errors
    /// Fails if the volume is full or refuses the file; what was there before is then intact.
    pub fn write(&mut self, output: Output) -> Result<()> {
        self.write_by(output.name(), |file| {
            file.write_all(output.bytes())?;
            Ok(true)
        })?;
        if let Output::SamplesAt(num_images, _) = output {
            self.grids.retain(|(_, kept)| *kept != num_images);
            self.grids.push((self.num_grids, num_images));
            self.num_grids += 1;
            self.thin_grids()?;
        }
        Ok(())
    }

    /// Writes the state, which is what `fill` writes; it returns false to give up, and then what was
    /// there before stays. Says whether it was written.
    ///
    /// # Errors
    /// As [`Outputs::write`], or as `fill` fails.
    pub fn write_state(
        &mut self,
        fill: impl FnOnce(&mut dyn Write) -> Result<bool>,
    ) -> Result<bool> {
        self.write_by(OutputName::State, fill)
    }

    fn write_by(
        &self,
        name: OutputName,
        fill: impl FnOnce(&mut dyn Write) -> Result<bool>,
    ) -> Result<bool> {
        if name.is_weights() && !self.takes_weights {
            return Ok(false);
        }
        let staging = self.staging.as_ref().unwrap_or(&self.folder);
        let (target, limit) = (name.file_name(), self.budget.limit(name));
        replace((staging, &self.folder), &target, limit, fill)
            .with_context(|| format!("outputs: {target} is not written"))
    }

    fn thin_grids(&mut self) -> Result<()> {
        let places: Vec<u64> = self.grids.iter().map(|(place, _)| *place).collect();
        for place in thin(&places) {
            let Some(idx) = self.grids.iter().position(|grid| grid.0 == place) else { continue };
            let (_, num_images) = self.grids.remove(idx);
            match self.folder.remove(OutputName::SamplesAt(num_images).file_name()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(explained(&error)).context("outputs: an old grid is not removed");
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// Removes what has appeared in a job's folder and is no file of it.
    fn sweep(&self) {
        let Some(foreign) = &self.foreign else { return };
        let is_ours = |name: &OsString| OutputName::is_one(name) && self.folder.has_file(name);
        let names = self.folder.names().unwrap_or_default().into_iter();
        let odd = names.filter(|name| !foreign.contains(name) && !is_ours(name));
        let (mut num_removed, mut num_left) = (0, 0);
        for name in odd {
            match self.folder.remove(&name) {
                Ok(()) => num_removed += 1,
                Err(_) => num_left += 1,
            }
        }
        if num_removed + num_left > 0 {
            warn!(
                "outputs: {num_removed} entries that are not the job's are removed, {num_left} cannot be"
            );
        }
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        self.sweep();
    }
}

/// Writes one file of a command at home, as a whole or not at all.
///
/// # Errors
/// Fails if the volume is full or refuses the file; what was there before is then intact.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = || {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(OsStr::to_str))
        else {
            bail!("expected the name of a file");
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let folder = Folder::open(parent, Way::Any).map_err(|error| explained(&error))?;
        replace((&folder, &folder), name, u64::MAX, |file| {
            file.write_all(bytes)?;
            Ok(true)
        })
    };
    written().with_context(|| format!("{} is not written", path.display()))?;
    Ok(())
}

fn temporary_name() -> String {
    format!("{TEMPORARY}{}", std::process::id())
}

fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Whether a file made in `staging` can be moved into `folder`: the same volume, the same mount (a
/// bind mount of one volume is refused) and both writable.
fn can_move(staging: &Folder, folder: &Folder) -> bool {
    let (from, to) = (temporary_name(), format!("{}-probe", temporary_name()));
    let is_moved =
        staging.create(&from).and_then(|_| staging.move_into(&from, folder, &to)).is_ok();
    // there is none if it failed early
    let _ = if is_moved { folder.remove(&to) } else { staging.remove(&from) };
    is_moved
}

/// Removes what a run that was killed has left.
fn remove_temporaries(folder: &Folder) {
    for name in folder.names().unwrap_or_default().iter().filter(|name| is_temporary(name)) {
        let _ = folder.remove(name); // a later failure to create says why
    }
}

/// Replaces the file `target` of a folder by one that `fill` fills in `staging`; if it fails or gives
/// up, no part of it is left.
fn replace(
    (staging, folder): (&Folder, &Folder),
    target: &str,
    limit: u64,
    fill: impl FnOnce(&mut dyn Write) -> Result<bool>,
) -> Result<bool> {
    let temporary = temporary_name();
    let file = staging.create(&temporary).map_err(|error| explained(&error))?;
    let mut draft = Draft::new(file, limit);
    let written = fill(&mut draft).and_then(|is_whole| {
        if is_whole {
            draft.finish()?;
            staging.move_into(&temporary, folder, target)?;
        }
        Ok(is_whole)
    });
    if !matches!(written, Ok(true)) {
        let _ = staging.remove(&temporary); // the first error is the one to report
    }
    folder.sync();
    written.map_err(|error| match error.downcast_ref() {
        Some(error) => explained(error),
        None => error,
    })
}

/// The reason and the cure, without the path.
fn explained(error: &io::Error) -> anyhow::Error {
    let cure = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "no space is left; ask for a larger disk, or for a lower resolution"
        }
        io::ErrorKind::FileTooLarge => {
            "the file is larger than the volume, or what was announced, allows"
        }
        io::ErrorKind::InvalidData => {
            "what was written reads back as something else; check the disk"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "this user may not write there; check the owner and the mode of the folder"
        }
        io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists => {
            "a file and a folder are in each other's place; remove what is not ours"
        }
        io::ErrorKind::NotFound => "the folder is gone; leave it in place while a run lasts",
        _ => "the volume refuses it; check the disk",
    };
    anyhow::anyhow!("{cure}")
}
