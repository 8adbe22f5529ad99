//! TIFF and WebP: directories that turn in circles, strips of any length, canvases and chunks that lie.

use image::codecs::tiff::TiffEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use std::io::Cursor;
use stylegan2_c2d::data::SkipReason::{BrokenImage, TooManyPixels, UnsupportedImage};

use crate::attack::{Attack, cuts, loads, noise, patched, skips};
use crate::picture_of;
use crate::png::zeros;

fn tiff_of(seed: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    TiffEncoder::new(&mut bytes)
        .write_image(&picture_of(seed, 16), 16, 16, ExtendedColorType::Rgb8)
        .unwrap();
    bytes.into_inner()
}

/// Tag, type (3: 16 bits, 4: 32 bits), count and value of an entry.
type Entry = (u16, u16, u32, u32);

const SHORT: u16 = 3;
const LONG: u16 = 4;

/// A file of one directory, with `data` right behind it; `next` is where it says the next one is.
fn made(entries: &[Entry], next: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [b"II*\0\x08\0\0\0", &(entries.len() as u16).to_le_bytes()[..]].concat();
    for (tag, kind, count, value) in entries {
        bytes.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        bytes.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    [bytes, next.to_le_bytes().to_vec(), data.to_vec()].concat()
}

/// Of a gray picture in one strip: its sides and compression, then the strip and what is `more`.
fn gray([width, height]: [u32; 2], compression: u32, strip: &[u8], more: &[Entry]) -> Vec<u8> {
    let usual = [
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, 1, 8),
        (259, SHORT, 1, compression),
        (262, SHORT, 1, 1),
        (277, SHORT, 1, 1),
        (278, LONG, 1, height),
        (279, LONG, 1, strip.len() as u32),
    ];
    let is_replaced = |entry: &&Entry| more.iter().any(|(tag, ..)| *tag == entry.0);
    let mut entries: Vec<Entry> =
        usual.iter().filter(|entry| !is_replaced(entry)).chain(more).copied().collect();
    let at = 8 + 2 + 12 * (entries.len() as u32 + 1) + 4;
    if more.iter().all(|(tag, ..)| *tag != 273) {
        entries.push((273, LONG, 1, at));
    }
    entries.sort_unstable();
    made(&entries, 0, strip)
}

pub(crate) fn tiff_attacks() -> Vec<Attack> {
    let good = tiff_of(50);
    let pixels = noise(64);
    let with = |more: &[Entry]| gray([8, 8], 1, &pixels, more);
    let more = vec![
        skips("tiff: a directory that is its own next", made(&[], 8, &[]), BrokenImage),
        skips(
            "tiff: a directory behind the end",
            patched(&good, 4, &[255, 255, 255, 127]),
            BrokenImage,
        ),
        skips(
            "tiff: 65535 entries",
            [b"II*\0\x08\0\0\0".as_slice(), &[255; 2], &noise(400)].concat(),
            BrokenImage,
        ),
        skips("tiff: no entry", made(&[], 0, &[]), BrokenImage),
        skips("tiff: 2^32 x 2^32", gray([u32::MAX; 2], 1, &pixels, &[]), TooManyPixels),
        skips("tiff: 16384 x 16384", gray([16_384; 2], 1, &pixels, &[]), TooManyPixels),
        skips("tiff: no width", gray([0, 8], 1, &pixels, &[]), BrokenImage),
        skips("tiff: 8192 x 8192 without pixels", gray([8192; 2], 1, &pixels, &[]), BrokenImage),
        skips("tiff: 64 bits a sample", with(&[(258, SHORT, 1, 64)]), UnsupportedImage),
        skips("tiff: 0 bits a sample", with(&[(258, SHORT, 1, 0)]), UnsupportedImage),
        skips("tiff: 65535 samples a pixel", with(&[(277, SHORT, 1, 65_535)]), UnsupportedImage),
        skips("tiff: compression 9999", gray([8, 8], 9999, &pixels, &[]), UnsupportedImage),
        skips("tiff: noise as LZW", gray([64, 64], 5, &noise(900), &[]), BrokenImage),
        skips("tiff: noise as deflate", gray([64, 64], 8, &noise(900), &[]), BrokenImage),
        skips("tiff: noise as JPEG", gray([64, 64], 7, &noise(900), &[]), BrokenImage),
        skips(
            "tiff: noise as fax",
            gray([64, 64], 4, &noise(900), &[(258, SHORT, 1, 1)]),
            BrokenImage,
        ),
        loads("tiff: a gigabyte deflated for 64 pixels", gray([8, 8], 8, &zeros(1 << 30), &[])),
        skips(
            "tiff: runs that end before the pixels",
            gray([64, 64], 32_773, &[129, 7], &[]),
            BrokenImage,
        ),
        skips("tiff: a strip behind the end", with(&[(273, LONG, 1, u32::MAX)]), BrokenImage),
        skips("tiff: a strip of 4 GiB", with(&[(279, LONG, 1, u32::MAX)]), TooManyPixels),
        skips(
            "tiff: a billion strips",
            with(&[(273, LONG, 1 << 30, 8), (279, LONG, 1 << 30, 8), (278, LONG, 1, 1)]),
            TooManyPixels,
        ),
        skips("tiff: strips of no rows", with(&[(278, LONG, 1, 0)]), BrokenImage),
        skips(
            "tiff: tiles of no size",
            with(&[(322, LONG, 1, 0), (323, LONG, 1, 0), (324, LONG, 1, 8), (325, LONG, 1, 8)]),
            BrokenImage,
        ),
        skips(
            "tiff: tiles of 2^32",
            with(&[
                (322, LONG, 1, u32::MAX),
                (323, LONG, 1, u32::MAX),
                (324, LONG, 1, 8),
                (325, LONG, 1, 8),
            ]),
            BrokenImage,
        ),
        skips("tiff: colours 77", with(&[(262, SHORT, 1, 77)]), UnsupportedImage),
        loads("tiff: orientation 99", with(&[(274, SHORT, 1, 99)])),
        skips("tiff: predictor 99", with(&[(317, SHORT, 1, 99)]), BrokenImage),
        skips("tiff: a palette that is missing", with(&[(262, SHORT, 1, 3)]), UnsupportedImage),
        skips(
            "tiff: a big one of 2^64 entries",
            [b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0".as_slice(), &[255; 8], &noise(99)].concat(),
            BrokenImage,
        ),
        skips("tiff: noise", [b"MM\0*".as_slice(), &noise(4000)].concat(), BrokenImage),
    ];
    [cuts("tiff", &good, BrokenImage), more].into_iter().flatten().collect()
}

fn webp_of(seed: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    WebPEncoder::new_lossless(&mut bytes)
        .write_image(&picture_of(seed, 16), 16, 16, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let padding = vec![0; data.len() % 2];
    [kind, &(data.len() as u32).to_le_bytes(), data, &padding].concat()
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = [b"WEBP".to_vec(), chunks.concat()].concat();
    chunk(b"RIFF", &body)
}

/// Flags and sides of an extended file.
fn extended(flags: u8, side: u32) -> Vec<u8> {
    let side = (side - 1).to_le_bytes();
    chunk(b"VP8X", &[&[flags, 0, 0, 0], &side[..3], &side[..3]].concat())
}

pub(crate) fn webp_attacks() -> Vec<Attack> {
    let good = webp_of(80);
    let image = good[12..].to_vec(); // its one chunk
    let lossless = |data: &[u8]| riff(&[chunk(b"VP8L", &[&[0x2f], data].concat())]);
    let sides = |side: u32| ((side - 1) | (side - 1) << 14).to_le_bytes();
    let lossy = |frame: &[u8]| riff(&[chunk(b"VP8 ", frame)]);
    let key_frame = |side: u16| {
        [&[0x10, 9, 0, 0x9d, 1, 0x2a][..], &side.to_le_bytes(), &side.to_le_bytes()].concat()
    };
    let frame = |side: u32, data: &[u8]| {
        let side = (side - 1).to_le_bytes();
        chunk(b"ANMF", &[&[0; 6][..], &side[..3], &side[..3], &[9, 0, 0, 0], data].concat())
    };
    let more = vec![
        skips("webp: lossless, 16384 x 16384", lossless(&sides(16_384)), BrokenImage),
        skips("webp: lossless, 8192 x 8192 of nothing", lossless(&sides(8192)), BrokenImage),
        skips(
            "webp: lossless, noise",
            lossless(&[&sides(64)[..], &noise(3000)].concat()),
            BrokenImage,
        ),
        skips("webp: lossy, 16383 x 16383", lossy(&key_frame(16_383)), TooManyPixels),
        skips("webp: lossy, no size", lossy(&key_frame(0)), BrokenImage),
        skips("webp: lossy, noise", lossy(&[key_frame(64), noise(3000)].concat()), BrokenImage),
        skips(
            "webp: lossy, no key frame",
            lossy(&[&[0x11][..], &noise(300)].concat()),
            BrokenImage,
        ),
        skips(
            "webp: a canvas of 2^24 x 2^24",
            riff(&[extended(0, 1 << 24), image.clone()]),
            BrokenImage,
        ),
        skips(
            "webp: a canvas of 8192 x 8192 around a small picture",
            riff(&[extended(0, 8192), image.clone()]),
            BrokenImage,
        ),
        skips(
            "webp: an animation without a frame",
            riff(&[extended(2, 16), chunk(b"ANIM", &[0; 6])]),
            BrokenImage,
        ),
        skips(
            "webp: a frame larger than the canvas",
            riff(&[extended(2, 16), chunk(b"ANIM", &[0; 6]), frame(1 << 24, &image)]),
            BrokenImage,
        ),
        loads(
            "webp: a thousand frames",
            riff(
                &[vec![extended(2, 16), chunk(b"ANIM", &[0; 6])], vec![frame(16, &image); 1000]]
                    .concat(),
            ),
        ),
        skips(
            "webp: noise for alpha",
            riff(&[extended(16, 16), chunk(b"ALPH", &noise(300)), chunk(b"VP8 ", &key_frame(16))]),
            BrokenImage,
        ),
        loads(
            "webp: noise for EXIF",
            riff(&[extended(8, 16), image.clone(), chunk(b"EXIF", &noise(3000))]),
        ),
        loads(
            "webp: 30 MB of a profile",
            riff(&[extended(32, 16), chunk(b"ICCP", &vec![0; 30 << 20]), image.clone()]),
        ),
        skips("webp: no chunk", riff(&[]), BrokenImage),
        skips("webp: an empty chunk", lossless(&[]), BrokenImage),
        loads("webp: a chunk of 4 GiB", patched(&good, 16, &[255; 4])),
        loads("webp: a file that says 4 GiB", patched(&good, 4, &[254, 255, 255, 255])),
        loads("webp: a file that says 0 bytes", patched(&good, 4, &[0; 4])),
        skips(
            "webp: noise",
            [b"RIFF\0\0\x10\0WEBP".as_slice(), &noise(4000)].concat(),
            BrokenImage,
        ),
    ];
    [cuts("webp", &good, BrokenImage), more].into_iter().flatten().collect()
}
