//! Finds every picture under the given files and folders, archives opened on the way.
//!
//! One pass, one entry in memory at a time, nothing unpacked to disk. What an entry is, its bytes
//! say. Paths serve three ends only: hidden entries are skipped, `dataset.json` and `c2d-policy.json`
//! are found, and a folder may be a class; they are never opened, joined or printed.
//!
//! Hostile input is bounded here: entries, depth, bytes per file, and bytes unpacked per file on
//! disk relative to its size. Links are not followed and special files not opened, except that
//! the roots themselves, which the caller chose, may be links.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ::image::ImageFormat;

use super::meter::{Caps, Meter};
use super::place::Place;
use super::report::{SkipReason, Skipped};
use super::sniff::{HEAD_BYTES, Kind, sniff};
use super::{Asset, DataError};
use crate::ops::guard::guard;

/// Archives around an entry, at most: one, and one inside it.
const MAX_ARCHIVE_LEVEL: usize = 2;

/// Largest `c2d-policy.json`.
const MAX_POLICY_BYTES: u64 = 64 << 10;

/// What is handed to the visitor, whole.
pub(super) enum Content {
    Picture(ImageFormat, Vec<u8>),
    Labels(Vec<u8>),
    /// `None`: it does not lie at the root of the asset's archive or folder.
    Policy(Option<Vec<u8>>),
}

/// Called for each picture, `dataset.json` and `c2d-policy.json`; its error ends the walk.
pub(super) type Visit<'a> = dyn FnMut(&Place, Content) -> Result<(), DataError> + 'a;

/// What a walk counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub skipped: Skipped,
    pub num_archives: usize,
}

/// Walks all roots of all assets.
pub(super) fn walk(
    assets: &[Asset],
    caps: Caps,
    stop: &AtomicBool,
    visit: &mut Visit<'_>,
) -> Result<Tally, DataError> {
    let mut walk = Walk {
        caps,
        stop,
        visit,
        tally: Tally::default(),
        num_entries: 0,
        next_container: assets.len(),
        total_left: caps.total_bytes,
    };
    for (asset_idx, asset) in assets.iter().enumerate() {
        let place = Place { asset_idx, container: asset_idx, path: Vec::new() };
        for root in &asset.roots {
            walk.enter()?;
            match fs::metadata(root) {
                Err(_) => walk.skip(SkipReason::Unreadable),
                Ok(meta) if meta.is_dir() => walk.folder(&place, root, 0)?,
                Ok(meta) if meta.is_file() => {
                    let name = root.file_name().unwrap_or_default();
                    let named = place.child(name.as_bytes());
                    // What the caller points at is wanted, whatever its name.
                    walk.file(if named.is_hidden() { &place } else { &named }, root, 0)?;
                }
                Ok(_) => walk.skip(SkipReason::SpecialFile),
            }
        }
    }
    Ok(walk.tally)
}

pub(super) struct Walk<'a, 'v> {
    pub(super) caps: Caps,
    pub(super) stop: &'a AtomicBool,
    visit: &'a mut Visit<'v>,
    pub(super) tally: Tally,
    num_entries: u64,
    next_container: usize,
    total_left: u64,
}

impl Walk<'_, '_> {
    pub(super) fn skip(&mut self, reason: SkipReason) {
        self.tally.skipped.add(reason);
    }

    /// Counts an entry, of whatever kind.
    pub(super) fn enter(&mut self) -> Result<(), DataError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(DataError::Stopped);
        }
        self.num_entries += 1;
        if self.num_entries > self.caps.entries {
            return Err(DataError::TooManyEntries { limit: self.caps.entries });
        }
        Ok(())
    }

    /// The place that entries of the archive at `place` are relative to, with a container of their
    /// own for the reach of a `dataset.json`.
    pub(super) fn open_container(&mut self, place: &Place) -> Place {
        let container = self.next_container;
        self.tally.num_archives += 1;
        self.next_container += 1;
        Place { container, path: place.folder().to_vec(), ..*place }
    }

    fn folder(&mut self, place: &Place, path: &Path, depth: usize) -> Result<(), DataError> {
        if depth > self.caps.depth {
            self.skip(SkipReason::TooDeep);
            return Ok(());
        }
        let Ok(entries) = fs::read_dir(path) else {
            self.skip(SkipReason::Unreadable);
            return Ok(());
        };
        for entry in entries {
            self.enter()?;
            let Ok(entry) = entry else {
                self.skip(SkipReason::Unreadable);
                break; // a folder that keeps failing would never end
            };
            let place = place.child(entry.file_name().as_bytes());
            match entry.file_type() {
                _ if place.is_hidden() => self.skip(SkipReason::Hidden),
                Err(_) => self.skip(SkipReason::Unreadable),
                Ok(kind) if kind.is_symlink() => self.skip(SkipReason::Link),
                Ok(kind) if kind.is_dir() => self.folder(&place, &entry.path(), depth + 1)?,
                Ok(kind) if kind.is_file() => {
                    self.file(&place, &entry.path(), libc::O_NOFOLLOW)?;
                }
                Ok(_) => self.skip(SkipReason::SpecialFile),
            }
        }
        Ok(())
    }

    /// A file on disk; `flags` are more flags to open it with.
    fn file(&mut self, place: &Place, path: &Path, flags: i32) -> Result<(), DataError> {
        // Not to wait for a writer, should the file have become a pipe since it was listed.
        let flags = flags | libc::O_NONBLOCK;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let Ok((meta, file)) = opened.and_then(|file| Ok((file.metadata()?, file))) else {
            self.skip(SkipReason::Unreadable);
            return Ok(());
        };
        if !meta.is_file() {
            self.skip(SkipReason::SpecialFile);
            return Ok(());
        }
        let allowed =
            self.caps.slack_bytes.saturating_add(meta.len().saturating_mul(self.caps.ratio));
        let meter = Meter::new(allowed, self.total_left, self.stop);
        // Readers of archives get the same guard as decoders of pictures: a panic in one costs
        // its file. The walk itself is only added to, so it stays valid.
        let done = guard(|| {
            let source = Source { place, level: 0, size: Some(meta.len()), meter: &meter };
            self.entry(&source, &mut meter.read(&file), Some(path))
        });
        self.total_left = self.total_left.saturating_sub(meter.num_read.get());
        if self.total_left == 0 {
            return Err(DataError::TooManyBytes);
        }
        if meter.tripped.get() {
            self.skip(SkipReason::Bomb);
        }
        done.unwrap_or_else(|_| {
            self.skip(SkipReason::BrokenArchive);
            Ok(())
        })
    }

    /// An entry of any kind. `disk` is the path of a file on disk, which can be sought in.
    pub(super) fn entry(
        &mut self,
        source: &Source<'_>,
        reader: &mut dyn Read,
        disk: Option<&Path>,
    ) -> Result<(), DataError> {
        if source.place.is_hidden() {
            self.skip(SkipReason::Hidden);
            return Ok(());
        }
        if source.place.parts().count() > self.caps.depth {
            self.skip(SkipReason::TooDeep);
            return Ok(());
        }
        let mut head = Vec::with_capacity(HEAD_BYTES);
        if reader.take(HEAD_BYTES as u64).read_to_end(&mut head).is_err() {
            return self.unreadable(source);
        }
        let kind = sniff(&head);
        let mut whole = head.as_slice().chain(reader);
        // Even here the bytes come first: a picture of this name is a picture.
        if kind == Kind::Other && source.place.is_labels() {
            let labels = self.read_whole(source, &mut whole, self.caps.labels_bytes)?;
            return match labels {
                Some(bytes) => (self.visit)(source.place, Content::Labels(bytes)),
                None => Ok(()),
            };
        }
        if source.place.is_policy() {
            return self.policy(source, &mut whole);
        }
        self.content(source, kind, &mut whole, disk)
    }

    /// What cannot be read must not pass for what is not there.
    fn policy(&mut self, source: &Source<'_>, reader: &mut dyn Read) -> Result<(), DataError> {
        if source.place.parts().count() > 1 || source.level > 1 {
            return (self.visit)(source.place, Content::Policy(None));
        }
        let bytes = self.read_whole(source, reader, MAX_POLICY_BYTES)?;
        let bytes = bytes.ok_or(DataError::UnreadablePolicy)?;
        (self.visit)(source.place, Content::Policy(Some(bytes)))
    }

    fn content(
        &mut self,
        source: &Source<'_>,
        kind: Kind,
        reader: &mut dyn Read,
        disk: Option<&Path>,
    ) -> Result<(), DataError> {
        let is_archive = matches!(kind, Kind::Zip | Kind::Tar | Kind::Gzip);
        if is_archive && source.level >= MAX_ARCHIVE_LEVEL {
            self.skip(SkipReason::NestedArchive);
            return Ok(());
        }
        match (kind, disk) {
            (Kind::Image(format), _) => {
                if let Some(bytes) = self.read_whole(source, reader, self.caps.file_bytes)? {
                    return (self.visit)(source.place, Content::Picture(format, bytes));
                }
            }
            (Kind::Zip, Some(path)) => return self.zip_on_disk(source, path),
            (Kind::Zip, None) => return self.zip_in_stream(source, reader),
            (Kind::Tar, _) => return self.tar(source, reader),
            (Kind::Gzip, _) => return self.gzip(source, reader),
            (Kind::OtherImage, _) => self.skip(SkipReason::UnsupportedImage),
            (Kind::Xz, _) => self.skip(SkipReason::Xz),
            (Kind::Zstd, _) => self.skip(SkipReason::Zstd),
            (Kind::Bzip2, _) => self.skip(SkipReason::Bzip2),
            (Kind::SevenZip, _) => self.skip(SkipReason::SevenZip),
            (Kind::Rar, _) => self.skip(SkipReason::Rar),
            (Kind::Html, _) => self.skip(SkipReason::HtmlPage),
            (Kind::Empty, _) => self.skip(SkipReason::Empty),
            (Kind::Other, _) => self.skip(SkipReason::NotAnImage),
        }
        Ok(())
    }

    /// What a gzip holds: a tar, a picture, or an archive that counts as inside another.
    pub(super) fn gzip_content(
        &mut self,
        source: &Source<'_>,
        reader: &mut dyn Read,
    ) -> Result<(), DataError> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        if reader.take(HEAD_BYTES as u64).read_to_end(&mut head).is_err() {
            return self.broken_archive(source.meter);
        }
        let kind = sniff(&head);
        let level = source.level + usize::from(kind == Kind::Gzip);
        let mut whole = head.as_slice().chain(reader);
        self.content(&Source { level, size: None, ..*source }, kind, &mut whole, None)
    }

    /// All bytes of an entry; `None` (counted) if they are too many or cannot be read.
    fn read_whole(
        &mut self,
        source: &Source<'_>,
        reader: &mut dyn Read,
        cap: u64,
    ) -> Result<Option<Vec<u8>>, DataError> {
        // The declared size is a hint for the allocation and a reason to give up early, no more.
        let size = source.size.unwrap_or(0);
        let mut bytes = Vec::new();
        if size <= cap && bytes.try_reserve_exact(size as usize).is_ok() {
            match reader.take(cap + 1).read_to_end(&mut bytes) {
                Ok(_) if bytes.len() as u64 <= cap => return Ok(Some(bytes)),
                Ok(_) => {}
                Err(_) => return self.unreadable(source).map(|()| None),
            }
        }
        self.skip(SkipReason::TooManyBytes);
        Ok(None)
    }

    /// Counts an entry that could not be read, unless the walk was stopped or the archive is a
    /// bomb, which is counted once for the whole file.
    pub(super) fn unreadable(&mut self, source: &Source<'_>) -> Result<(), DataError> {
        let is_on_disk = source.level == 0;
        let reason = if is_on_disk { SkipReason::Unreadable } else { SkipReason::BrokenImage };
        self.failed(source.meter, reason)
    }

    /// As [`Self::unreadable`], for the archive itself.
    pub(super) fn broken_archive(&mut self, meter: &Meter<'_>) -> Result<(), DataError> {
        self.failed(meter, SkipReason::BrokenArchive)
    }

    fn failed(&mut self, meter: &Meter<'_>, reason: SkipReason) -> Result<(), DataError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(DataError::Stopped);
        }
        if !meter.tripped.get() {
            self.skip(reason);
        }
        Ok(())
    }
}

/// An entry about to be read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub place: &'a Place,
    /// Archives around it.
    pub level: usize,
    /// Size as declared, if it was.
    pub size: Option<u64>,
    pub meter: &'a Meter<'a>,
}

/// Opens a file of the input a second time, for a reader that seeks.
pub(super) fn reopen(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a file")) }
}
