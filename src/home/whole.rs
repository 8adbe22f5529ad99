//! A file that is there once it is whole, and not before.

use std::fs::{File, Permissions};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::{Builder, NamedTempFile};

/// A file in the making; dropped, it leaves nothing.
pub(super) struct Whole {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl Whole {
    /// Begins a file that will be at `path`, in a folder that is there.
    ///
    /// # Errors
    /// Fails if the folder refuses it.
    pub(super) fn begin(path: &Path) -> Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let temporary = Builder::new()
            .prefix(".tmp-")
            .permissions(Permissions::from_mode(0o666)) // less what the user masks
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .with_context(|| format!("{} is not written", path.display()))?;
        Ok(Self { temporary, path: path.to_owned() })
    }

    /// A writer into it.
    ///
    /// # Errors
    /// Fails if the system has no more files to give.
    pub(super) fn writer(&self) -> Result<BufWriter<File>> {
        Ok(BufWriter::new(self.temporary.as_file().try_clone()?))
    }

    /// Where it is until it is whole.
    pub(super) fn temporary(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// Fails if the volume does; then nothing is left.
    pub(super) fn finish(self) -> Result<PathBuf> {
        let name = || format!("{} is not written", self.path.display());
        self.temporary.as_file().sync_all().with_context(name)?;
        self.temporary.persist(&self.path).with_context(name)?;
        Ok(self.path)
    }
}
