//! Entries of tar, gzip and zip files, streamed.
//!
//! A zip on disk is read by its central directory, one entry at a time. A zip inside an archive
//! cannot be sought in, so it is read by its local headers (`zip_stream`). Tar headers for long
//! names are read here with a cap: the library takes them whole, of any length.

use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};
use zip::read::{Config, ZipFile};
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipReadOptions};

use super::DataError;
use super::meter::Meter;
use super::place::Place;
use super::report::SkipReason;
use super::walk::{Source, Walk, reopen};

/// Read ahead in the directory of a zip; every entry is sought anew, which empties the buffer.
const DIRECTORY_BUFFER_BYTES: usize = 512;

/// Longest tar header for a long name or for extended attributes.
const MAX_TAR_HEADER_BYTES: u64 = 64 << 10;

impl Walk<'_, '_> {
    pub(super) fn gzip(
        &mut self,
        source: &Source<'_>,
        reader: &mut dyn Read,
    ) -> Result<(), DataError> {
        let decoder = MultiGzDecoder::new(reader);
        self.gzip_content(source, &mut source.meter.read(decoder))
    }

    pub(super) fn tar(
        &mut self,
        source: &Source<'_>,
        reader: &mut dyn Read,
    ) -> Result<(), DataError> {
        let outer = self.open_container(source.place);
        let mut archive = Archive::new(reader);
        let Ok(entries) = archive.entries() else { return self.broken_archive(source.meter) };
        let mut long_name: Option<Vec<u8>> = None;
        for entry in entries.raw(true) {
            let Ok(mut entry) = entry else { return self.broken_archive(source.meter) };
            match entry.header().entry_type() {
                EntryType::GNULongName => {
                    self.enter()?;
                    long_name = read_tar_header(&mut entry).ok().map(|mut name| {
                        name.truncate(
                            name.iter().position(|&byte| byte == 0).unwrap_or(name.len()),
                        );
                        name
                    });
                    continue;
                }
                EntryType::XHeader => {
                    self.enter()?;
                    let path = read_tar_header(&mut entry).ok().as_deref().and_then(pax_path);
                    long_name = path.or(long_name);
                    continue;
                }
                EntryType::GNULongLink | EntryType::XGlobalHeader => {
                    self.enter()?;
                    continue; // may stand between a long name and its entry
                }
                EntryType::Directory => self.enter()?,
                EntryType::Symlink | EntryType::Link => {
                    self.enter()?;
                    self.skip(SkipReason::Link);
                }
                EntryType::Regular | EntryType::Continuous => {
                    let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
                    // Old tars mark folders by their name alone.
                    if !name.ends_with(b"/") {
                        let size = entry.header().entry_size().ok();
                        self.archive_entry(source, &outer, &name, size, &mut entry)?;
                    }
                }
                _ => {
                    self.enter()?;
                    self.skip(SkipReason::SpecialFile);
                }
            }
            long_name = None;
        }
        Ok(())
    }

    pub(super) fn zip_on_disk(
        &mut self,
        source: &Source<'_>,
        path: &Path,
    ) -> Result<(), DataError> {
        let outer = self.open_container(source.place);
        // Two handles: one walks the directory, the other reads the entries.
        let (Ok(directory), Ok(body)) = (reopen(path), reopen(path)) else {
            return self.broken_archive(source.meter);
        };
        let mut body = BufReader::new(body);
        // The library searches the whole file for its directory, again for every false end.
        let allowed = source.size.unwrap_or(0).saturating_mul(self.caps.directory_ratio);
        let allowed = allowed.saturating_add(self.caps.slack_bytes);
        let meter = Meter::new(allowed, u64::MAX, self.stop);
        let directory = BufReader::with_capacity(DIRECTORY_BUFFER_BYTES, meter.read(directory));
        let Ok(mut zip) = ZipIterable::try_new(directory, Config::default()) else {
            return self.broken_archive(source.meter);
        };
        let Ok(entries) = zip.files() else { return self.broken_archive(source.meter) };
        for entry in entries {
            let Ok(entry) = entry else { return self.broken_archive(source.meter) };
            if source.meter.tripped.get() {
                break;
            }
            let skip = if entry.is_symlink() {
                Some(SkipReason::Link)
            } else if entry.encrypted() {
                Some(SkipReason::Encrypted)
            } else if !is_supported(entry.compression()) {
                Some(SkipReason::ZipMethod)
            } else {
                None
            };
            if entry.is_dir() || skip.is_some() {
                self.enter()?;
                if let Some(reason) = skip {
                    self.skip(reason);
                }
                continue;
            }
            let name = zip_name(entry.name_raw());
            let size = entry.size();
            match entry.with_reader(&mut body, ZipReadOptions::new()) {
                Ok(file) => self.zip_entry(source, &outer, &name, size, file)?,
                Err(_) => self.broken_archive(source.meter)?,
            }
        }
        Ok(())
    }

    fn zip_entry<R: Read>(
        &mut self,
        source: &Source<'_>,
        outer: &Place,
        name: &[u8],
        size: u64,
        file: ZipFile<'_, R>,
    ) -> Result<(), DataError> {
        let mut reader = source.meter.read(file);
        self.archive_entry(source, outer, name, Some(size), &mut reader)
    }

    /// An entry `name` of the archive `source`, whose own folder is `outer`.
    pub(super) fn archive_entry(
        &mut self,
        source: &Source<'_>,
        outer: &Place,
        name: &[u8],
        size: Option<u64>,
        reader: &mut dyn Read,
    ) -> Result<(), DataError> {
        self.enter()?;
        let place = outer.child(name);
        let inner = Source { place: &place, level: source.level + 1, size, meter: source.meter };
        self.entry(&inner, reader, None)
    }
}

fn is_supported(method: CompressionMethod) -> bool {
    matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated)
}

/// Zips made on Windows may separate folders by a backslash.
pub(super) fn zip_name(raw: &[u8]) -> Vec<u8> {
    raw.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()
}

fn read_tar_header(entry: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(MAX_TAR_HEADER_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TAR_HEADER_BYTES {
        return Err(io::Error::other("header too long"));
    }
    Ok(bytes)
}

/// The `path` record of a pax header; a record is `length key=value\n`.
fn pax_path(mut header: &[u8]) -> Option<Vec<u8>> {
    let mut path = None;
    while !header.is_empty() {
        let space = header.iter().position(|&byte| byte == b' ')?;
        let length: usize = std::str::from_utf8(&header[..space]).ok()?.parse().ok()?;
        let record = header.get(space + 1..length)?;
        if let Some(value) = record.strip_prefix(b"path=") {
            path = Some(value.strip_suffix(b"\n")?.to_vec());
        }
        header = &header[length..];
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_paths_are_found() {
        assert_eq!(pax_path(b"11 mtime=1\n15 path=a/b.png\n"), None); // wrong length
        assert_eq!(pax_path(b"11 mtime=1\n16 path=a/b.png\n"), Some(b"a/b.png".to_vec()));
        assert_eq!(pax_path(b"99 path=a\n"), None);
        assert_eq!(pax_path(b"0 path=a\n"), None);
        assert_eq!(pax_path(b""), None);
    }

    #[test]
    fn backslashes_separate_folders() {
        assert_eq!(zip_name(b"a\\b.png"), b"a/b.png");
    }
}
