//! Bounds on what is read: how much, how many, how deep.
//!
//! Sizes that an archive declares are its own claim; only bytes that came out are counted.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bounds on what is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    pub entries: u64,
    pub file_bytes: u64,
    pub labels_bytes: u64,
    pub depth: usize,
    /// Unpacked bytes per byte on disk, beyond `slack_bytes`.
    pub ratio: u64,
    pub slack_bytes: u64,
    /// Bytes read from all files, after unpacking.
    pub total_bytes: u64,
    /// Bytes read of the directory of a zip per byte of the zip, beyond `slack_bytes`.
    pub directory_ratio: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            file_bytes: 256 << 20,
            labels_bytes: 64 << 20,
            depth: 32,
            ratio: 200,
            slack_bytes: 64 << 20,
            total_bytes: 1 << 40,
            directory_ratio: 4,
        }
    }
}

/// Counts what one file on disk unpacks to, at all levels together.
pub(super) struct Meter<'a> {
    allowed: Cell<u64>,
    /// Bytes read at all levels.
    pub num_read: Cell<u64>,
    total_left: u64,
    /// More than allowed was read.
    pub tripped: Cell<bool>,
    stop: &'a AtomicBool,
}

impl<'a> Meter<'a> {
    pub(super) fn new(allowed: u64, total_left: u64, stop: &'a AtomicBool) -> Self {
        Self {
            allowed: Cell::new(allowed),
            num_read: Cell::new(0),
            total_left,
            tripped: Cell::new(false),
            stop,
        }
    }

    /// `inner`, metered; fails once too much was read or the walk is to stop.
    pub(super) fn read<R: Read>(&'a self, inner: R) -> Metered<'a, R> {
        Metered { inner, meter: self }
    }
}

pub(super) struct Metered<'a, R> {
    inner: R,
    meter: &'a Meter<'a>,
}

impl<R: Seek> Seek for Metered<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let meter = self.meter;
        if meter.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let num_read = self.inner.read(buf)?;
        meter.num_read.set(meter.num_read.get() + num_read as u64);
        match meter.allowed.get().checked_sub(num_read as u64) {
            Some(left) => meter.allowed.set(left),
            None => meter.tripped.set(true),
        }
        if meter.tripped.get() || meter.num_read.get() >= meter.total_left {
            return Err(io::Error::other("too much unpacked"));
        }
        Ok(num_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(allowed: u64, total_left: u64, stop: bool) -> (bool, bool) {
        let stop = AtomicBool::new(stop);
        let meter = Meter::new(allowed, total_left, &stop);
        let is_ok = io::copy(&mut meter.read(&[0u8; 100][..]), &mut io::sink()).is_ok();
        (is_ok, meter.tripped.get())
    }

    #[test]
    fn reading_more_than_allowed_trips() {
        assert_eq!(read_all(100, 1000, false), (true, false));
        assert_eq!(read_all(99, 1000, false), (false, true));
        assert_eq!(read_all(1000, 99, false), (false, false));
        assert_eq!(read_all(1000, 1000, true), (false, false));
    }

    #[test]
    fn all_levels_share_one_meter() {
        let stop = AtomicBool::new(false);
        let meter = Meter::new(150, 1000, &stop);
        let mut outer = meter.read(meter.read(&[0u8; 100][..]));
        assert!(io::copy(&mut outer, &mut io::sink()).is_err());
        assert!(meter.tripped.get());
    }
}
