//! A data set full of marks: words in every place of a file that can hold some, and pixels that nobody
//! else has.

#![allow(dead_code, reason = "the suite and the program that leaks use a part of it each")]

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{ExtendedColorType, ImageEncoder};
use stylegan2_c2d::ops::rng::{Rng, Stream};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Side of the pictures, and of the training.
pub(crate) const SIDE: usize = 16;
/// Pictures of noise, each of its own.
pub(crate) const NUM_BLOCKS: u64 = 64;
/// Other pictures.
const NUM_OTHERS: u64 = 150;

/// The name of the archive.
pub(crate) const ARCHIVE: &str = "Xq4archiveVz1";
/// A word that a parameter brings.
pub(crate) const PARAMETER: &str = "Xq4parameterVz2";
/// A word in the owner's policy.
pub(crate) const POLICY: &str = "Xq4policyVz3";
const FOLDERS: [&str; 2] = ["Xq4folderVz4", "Xq4folderVz5"];
const FILE: &str = "Xq4fileVz6";
const COMMENT: &str = "Xq4commentVz7";
const NOTE: &str = "Xq4noteVz8";
const CLASS: &str = "Xq4classVz9";
const EXIF: &str = "Xq4exifVz10";
const XMP: &str = "Xq4xmpVz11";
const ICC: &str = "Xq4iccVz12";
const JPEG: &str = "Xq4jpegVz13";
const TEXT: &str = "Xq4textVz14";
const COMPRESSED: &str = "Xq4ztxtVz15";
const INTERNATIONAL: &str = "Xq4itxtVz16";
const TRAILING: &str = "Xq4trailVz17";

/// Every word that must not be found anywhere.
pub(crate) const WORDS: [&str; 18] = [
    ARCHIVE,
    PARAMETER,
    POLICY,
    FOLDERS[0],
    FOLDERS[1],
    FILE,
    COMMENT,
    NOTE,
    CLASS,
    EXIF,
    XMP,
    ICC,
    JPEG,
    TEXT,
    COMPRESSED,
    INTERNATIONAL,
    TRAILING,
    "Xq4",
];

/// Interleaved RGB of a picture of noise.
pub(crate) fn block(idx: u64) -> Vec<u8> {
    let draw = Rng::new(77, Stream::Pictures, idx);
    (0..3 * SIDE * SIDE).map(|i| draw.below(i as u64, 256) as u8).collect()
}

/// The data set as a zip; `policy` lies at its root where there is one.
pub(crate) fn archive(policy: Option<&str>) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.set_comment(COMMENT).unwrap();
    let mut add = |name: &str, bytes: &[u8]| {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    };
    if let Some(policy) = policy {
        add("c2d-policy.json", policy.as_bytes());
    }
    let mut labels = Vec::new();
    for idx in 0..NUM_BLOCKS + NUM_OTHERS {
        let name = format!("{}/{FILE}-{idx}.png", FOLDERS[(idx % 2) as usize]);
        labels.push(format!(r#"["{name}", {}]"#, idx % 2));
        let pixels = if idx < NUM_BLOCKS { block(idx) } else { smooth(idx) };
        let mut bytes = with_texts(&png(&pixels));
        bytes.extend(TRAILING.as_bytes());
        add(&name, &bytes);
    }
    let name = format!("{}/{FILE}.jpg", FOLDERS[0]);
    labels.push(format!(r#"["{name}", 0]"#));
    add(&name, &jpeg());
    add(&format!("{FILE}.txt"), NOTE.as_bytes());
    add("dataset.json", labels_json(&labels).as_bytes());
    writer.finish().unwrap().into_inner()
}

fn labels_json(labels: &[String]) -> String {
    format!(r#"{{"class_names": ["{CLASS}", "b"], "labels": [{}]}}"#, labels.join(", "))
}

/// Pictures that are easy to tell apart.
fn smooth(idx: u64) -> Vec<u8> {
    let draw = Rng::new(78, Stream::Pictures, idx);
    let [r, g, b, dx, dy] = [0, 1, 2, 3, 4].map(|i| draw.below(i, 12) + 1);
    let at = |i: usize| {
        let (x, y) = (i / 3 % SIDE, i / 3 / SIDE);
        ((x * dx + y * dy) * [r, g, b][i % 3]) as u8
    };
    (0..3 * SIDE * SIDE).map(at).collect()
}

fn png(pixels: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(pixels, SIDE as u32, SIDE as u32, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// The same PNG with texts of every kind behind its header.
fn with_texts(png: &[u8]) -> Vec<u8> {
    let zlib = |bytes: &[u8]| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let header_end = 8 + 25;
    let chunks = [
        chunk(*b"tEXt", &[b"Comment\0", TEXT.as_bytes()].concat()),
        chunk(*b"zTXt", &[b"Comment\0\0", &zlib(COMPRESSED.as_bytes())[..]].concat()),
        chunk(*b"iTXt", &[b"Comment\0\0\0\0\0", INTERNATIONAL.as_bytes()].concat()),
        chunk(*b"eXIf", &tiff()),
    ];
    [&png[..header_end], &chunks.concat(), &png[header_end..]].concat()
}

fn chunk(kind: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(&kind);
    crc.update(data);
    let len = (data.len() as u32).to_be_bytes();
    [&len[..], &kind, data, &crc.sum().to_be_bytes()].concat()
}

/// An EXIF block with one description.
fn tiff() -> Vec<u8> {
    let text = [EXIF.as_bytes(), b"\0"].concat();
    let mut bytes = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x0e\0\x02".to_vec();
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(26u32.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(text);
    bytes
}

/// A JPEG with EXIF, XMP, a profile and a comment.
fn jpeg() -> Vec<u8> {
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90)
        .write_image(&smooth(999), SIDE as u32, SIDE as u32, ExtendedColorType::Rgb8)
        .unwrap();
    let segment = |marker: u8, data: &[u8]| {
        [&[0xff, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat()
    };
    let segments = [
        segment(0xe1, &[b"Exif\0\0", &tiff()[..]].concat()),
        segment(0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", XMP.as_bytes()].concat()),
        segment(0xe2, &[b"ICC_PROFILE\0\x01\x01", ICC.as_bytes()].concat()),
        segment(0xfe, JPEG.as_bytes()),
    ];
    [&bytes[..2], &segments.concat(), &bytes[2..]].concat()
}
