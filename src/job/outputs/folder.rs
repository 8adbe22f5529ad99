//! Folders that are held open: names are looked up in the folder that was opened, whatever its path
//! leads to by now, and no link is followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags};

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

/// What the last part of a path to a folder may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The folder.
    Itself,
    /// Also a link to it.
    Any,
}

impl Folder {
    pub(super) fn open(path: &Path, way: Way) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let flags = if way == Way::Itself { flags | OFlags::NOFOLLOW } else { flags };
        Ok(Self(fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// Makes a new file, to be written and read again; never opens one that is there.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        #[cfg(test)]
        super::faults::meet()?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o666); // less what the process masks
        Ok(File::from(fs::openat(&self.0, name, flags, mode)?))
    }

    /// Moves a file into `to`, where it replaces what has that name; of a link the link itself.
    pub(super) fn move_into(&self, name: &str, to: &Self, new_name: &str) -> io::Result<()> {
        #[cfg(test)]
        super::faults::meet()?;
        Ok(fs::renameat(&self.0, name, &to.0, new_name)?)
    }

    /// Removes a file or a link.
    pub(super) fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name.as_ref(), AtFlags::empty())?)
    }

    /// Whether `name` is a file, and not a link to one.
    pub(super) fn has_file(&self, name: &OsStr) -> bool {
        fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// Names of all entries.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let entries = Dir::read_from(&self.0)?
            .map(|entry| Ok(OsString::from_vec(entry?.file_name().to_bytes().to_vec())));
        let names = entries.collect::<io::Result<Vec<_>>>()?;
        Ok(names.into_iter().filter(|name| name != "." && name != "..").collect())
    }

    /// Bytes that this user can still write to the volume, where it says so.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let volume = fs::fstatvfs(&self.0).ok()?;
        Some(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    /// Makes moves last through a power cut; some file systems have no such call.
    pub(super) fn sync(&self) {
        let _ = fs::fsync(&self.0);
    }
}
