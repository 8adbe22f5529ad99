//! A zip inside an archive, read by its local headers because the stream cannot be sought in.
//!
//! An entry whose size follows its data is read if it is deflated, since deflate knows its own
//! end; a stored one has no end to be found, and reading stops there. Checksums are not compared:
//! the pictures' own decoders find damage.
//!
//! Reference: PKWARE, .ZIP File Format Specification (APPNOTE), sections 4.3.7 and 4.3.9.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::DeflateDecoder;

use super::DataError;
use super::archive::zip_name;
use super::place::Place;
use super::report::SkipReason;
use super::walk::{Source, Walk};

const LOCAL_HEADER: u32 = 0x0403_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const CENTRAL_END: u32 = 0x0605_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;

/// Methods of compression that are read.
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Flags of a local header.
const ENCRYPTED: u16 = 1;
const SIZE_FOLLOWS: u16 = 1 << 3;

/// Extra field that holds the sizes of entries over 4 GiB.
const ZIP64_FIELD: u16 = 1;

struct LocalHeader {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    compressed: u64,
    size: u64,
    is_zip64: bool,
}

impl LocalHeader {
    fn size_follows(&self) -> bool {
        self.flags & SIZE_FOLLOWS != 0
    }

    /// Why the entry is skipped, if it is.
    fn skip_reason(&self) -> Option<SkipReason> {
        if self.flags & ENCRYPTED != 0 {
            Some(SkipReason::Encrypted)
        } else if !matches!(self.method, STORED | DEFLATED) {
            Some(SkipReason::ZipMethod)
        } else {
            None
        }
    }
}

impl Walk<'_, '_> {
    pub(super) fn zip_in_stream(
        &mut self,
        source: &Source<'_>,
        reader: &mut dyn Read,
    ) -> Result<(), DataError> {
        let outer = self.open_container(source.place);
        let mut reader = BufReader::new(reader);
        loop {
            let header = match read_header(&mut reader) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(()),
                Err(_) => return self.broken_archive(source.meter),
            };
            let is_deflated = header.method == DEFLATED;
            if header.size_follows() && (!is_deflated || header.flags & ENCRYPTED != 0) {
                self.skip(SkipReason::Unstreamable);
                return Ok(());
            }
            if !self.stream_entry(source, &outer, &header, &mut reader)? {
                return self.broken_archive(source.meter);
            }
        }
    }

    /// Reads one entry to its end; false if the stream broke.
    fn stream_entry<R: BufRead>(
        &mut self,
        source: &Source<'_>,
        outer: &Place,
        header: &LocalHeader,
        reader: &mut R,
    ) -> Result<bool, DataError> {
        // Deflate finds its own end; without a known size there is nothing else to stop at.
        let limit = if header.size_follows() { u64::MAX } else { header.compressed };
        let mut data = reader.by_ref().take(limit);
        let is_folder = header.name.ends_with(b"/");
        if let Some(reason) = header.skip_reason() {
            self.enter()?;
            self.skip(reason);
        } else if header.method == STORED {
            if !is_folder {
                let size = Some(header.size);
                self.archive_entry(source, outer, &header.name, size, &mut data)?;
            }
        } else {
            let size = (!header.size_follows()).then_some(header.size);
            let mut inflated = source.meter.read(DeflateDecoder::new(&mut data));
            if !is_folder {
                self.archive_entry(source, outer, &header.name, size, &mut inflated)?;
            }
            if io::copy(&mut inflated, &mut io::sink()).is_err() && header.size_follows() {
                return Ok(false);
            }
        }
        if header.size_follows() {
            return Ok(skip_descriptor(reader, header.is_zip64).is_ok());
        }
        let skipped = io::copy(&mut data, &mut io::sink());
        Ok(skipped.is_ok() && !source.meter.tripped.get())
    }
}

/// The next local header, or `None` at the central directory.
fn read_header(reader: &mut impl Read) -> io::Result<Option<LocalHeader>> {
    match read_u32(reader)? {
        LOCAL_HEADER => {}
        CENTRAL_HEADER | CENTRAL_END => return Ok(None),
        _ => return Err(io::Error::other("neither entry nor directory")),
    }
    let mut fixed = [0; 26];
    reader.read_exact(&mut fixed)?;
    let u16_at = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
    let u32_at =
        |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let mut name = vec![0; usize::from(u16_at(22))];
    reader.read_exact(&mut name)?;
    let mut extra = vec![0; usize::from(u16_at(24))];
    reader.read_exact(&mut extra)?;

    let mut header = LocalHeader {
        name: zip_name(&name),
        flags: u16_at(2),
        method: u16_at(4),
        compressed: u64::from(u32_at(14)),
        size: u64::from(u32_at(18)),
        is_zip64: false,
    };
    if let Some(sizes) = zip64_field(&extra) {
        header.is_zip64 = true;
        let mut sizes = sizes.as_chunks::<8>().0.iter().map(|&bytes| u64::from_le_bytes(bytes));
        for field in [&mut header.size, &mut header.compressed] {
            if *field == u64::from(u32::MAX) {
                *field = sizes.next().ok_or_else(|| io::Error::other("sizes missing"))?;
            }
        }
    }
    Ok(Some(header))
}

fn zip64_field(mut extra: &[u8]) -> Option<&[u8]> {
    loop {
        let (&[id_low, id_high, len_low, len_high], rest) = extra.split_first_chunk::<4>()?;
        let field = rest.get(..usize::from(u16::from_le_bytes([len_low, len_high])))?;
        if u16::from_le_bytes([id_low, id_high]) == ZIP64_FIELD {
            return Some(field);
        }
        extra = &rest[field.len()..];
    }
}

/// Skips checksum and sizes after the data; their signature is optional.
fn skip_descriptor(reader: &mut impl Read, is_zip64: bool) -> io::Result<()> {
    if read_u32(reader)? == DESCRIPTOR {
        read_u32(reader)?;
    }
    let mut sizes = [0; 16];
    reader.read_exact(&mut sizes[..if is_zip64 { 16 } else { 8 }])
}

fn read_u32(reader: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
