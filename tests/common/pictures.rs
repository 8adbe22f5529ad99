//! Made-up pictures and archives of them, in memory.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{Cursor, Write};
use std::path::Path;

use image::{ExtendedColorType, ImageEncoder};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A PNG of `side` pixels whose colours follow from `seed`.
pub(crate) fn png(seed: u8, side: u32) -> Vec<u8> {
    let pixels: Vec<u8> = (0..side * side * 3)
        .map(|i| (i.wrapping_mul(u32::from(seed) * 2 + 7) >> 3) as u8 ^ seed)
        .collect();
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(&pixels, side, side, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// Entries of an archive: name and content.
pub(crate) type Entries<'a> = [(&'a str, Vec<u8>)];

/// A zip with sizes in its local headers.
pub(crate) fn zip(entries: &Entries<'_>) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A zip written without seeking, its sizes behind the data.
pub(crate) fn zip_streamed(entries: &Entries<'_>, method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new_stream(Vec::new());
    for (name, content) in entries {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A tar with GNU headers.
pub(crate) fn tar(entries: &Entries<'_>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, Path::new(name), content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Gzipped bytes.
pub(crate) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
