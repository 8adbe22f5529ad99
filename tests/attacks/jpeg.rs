//! JPEG: frames that lie, scans without end, segments that make no sense.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use stylegan2_c2d::data::SkipReason::{BrokenImage, OutOfTime, TooManyPixels, UnsupportedImage};

use crate::attack::{Attack, cuts, loads, noise, patched, skips};
use crate::picture_of;

fn good(seed: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pixels = picture_of(seed, 24);
    JpegEncoder::new(&mut bytes).write_image(&pixels, 24, 24, ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// Where the segment of a marker begins, after the marker.
fn find(bytes: &[u8], marker: u8) -> usize {
    bytes.windows(2).position(|pair| pair == [0xff, marker]).unwrap() + 2
}

fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    [&[0xff, marker][..], &(data.len() as u16 + 2).to_be_bytes(), data].concat()
}

/// A picture with segments after its start.
fn with(seed: u8, segments: &[Vec<u8>]) -> Vec<u8> {
    let good = good(seed);
    [&good[..2], &segments.concat(), &good[2..]].concat()
}

/// The frame with a new marker, or with some bytes of it replaced.
fn frame(marker: u8, at: usize, new: &[u8]) -> Vec<u8> {
    let good = good(60);
    let start = find(&good, 0xc0);
    let mut bytes = patched(&good, start + at, new);
    bytes[start - 1] = marker;
    bytes
}

/// A gray progressive picture whose scans end before they begin: a decoder goes on with bits 0, which
/// by these tables are "no difference" and "the next value is -1". So a few bytes ask for work on
/// every value of the picture, scan after scan.
pub(crate) fn progressive(side: u16, num_scans: usize) -> Vec<u8> {
    let [high, low] = side.to_be_bytes();
    let frame = segment(0xc2, &[8, high, low, high, low, 1, 1, 0x11, 0]);
    let quantities = segment(0xdb, &[&[0][..], &[1; 64]].concat());
    let code =
        |class: u8, value: u8| segment(0xc4, &[&[class, 1][..], &[0; 15], &[value]].concat());
    let num_blocks = usize::from(side).div_ceil(8).pow(2);
    let first = [segment(0xda, &[1, 1, 0, 0, 0, 0]), vec![0; num_blocks.div_ceil(8)]].concat();
    let others = [segment(0xda, &[1, 1, 0, 1, 63, 0]), vec![0; 16]].concat();
    let tables = [quantities, frame, code(0, 0), code(0x10, 1)].concat();
    [&[0xff, 0xd8][..], &tables, &first, &others.repeat(num_scans - 1), &[0xff, 0xd9]].concat()
}

pub(crate) fn attacks() -> Vec<Attack> {
    [cuts("jpeg", &good(61), BrokenImage), frames(), scans(), segments()]
        .into_iter()
        .flatten()
        .collect()
}

fn frames() -> Vec<Attack> {
    vec![
        skips("jpeg: 65535 x 65535", frame(0xc0, 3, &[255; 4]), TooManyPixels),
        skips("jpeg: 16385 rows", frame(0xc0, 3, &[0x40, 1]), TooManyPixels),
        skips("jpeg: 16384 x 16384", frame(0xc0, 3, &[0x40, 0, 0x40, 0]), TooManyPixels),
        skips("jpeg: no width", frame(0xc0, 5, &[0, 0]), BrokenImage),
        skips("jpeg: no height, to be said later", frame(0xc0, 3, &[0, 0]), BrokenImage),
        skips("jpeg: 12 bits", frame(0xc0, 2, &[12]), UnsupportedImage),
        skips("jpeg: no component", frame(0xc0, 7, &[0]), BrokenImage),
        skips("jpeg: 255 components", frame(0xc0, 7, &[255]), BrokenImage),
        skips("jpeg: sampled 0 times", frame(0xc0, 9, &[0]), BrokenImage),
        skips("jpeg: sampled 15 times", frame(0xc0, 9, &[255]), BrokenImage),
        skips("jpeg: a table that is not there", frame(0xc0, 10, &[3]), BrokenImage),
        skips("jpeg: lossless", frame(0xc3, 2, &[8]), UnsupportedImage),
        skips("jpeg: hierarchical", frame(0xc5, 2, &[8]), UnsupportedImage),
        skips("jpeg: arithmetic", frame(0xc9, 2, &[8]), UnsupportedImage),
        skips("jpeg: a frame of no length", frame(0xc0, 0, &[0, 0]), BrokenImage),
        skips(
            "jpeg: two frames",
            [&good(62)[..2], &segment(0xc0, &[8, 0, 8, 0, 8, 1, 1, 0x11, 0]), &good(62)[2..]]
                .concat(),
            BrokenImage,
        ),
    ]
}

fn scans() -> Vec<Attack> {
    let good = good(63);
    let scan = find(&good, 0xda);
    let end = [0xff, 0xd9];
    vec![
        skips("jpeg: start and end alone", vec![0xff, 0xd8, 0xff, 0xd9], BrokenImage),
        skips("jpeg: no scan", [&good[..scan - 2], &end].concat(), BrokenImage),
        skips("jpeg: 101 scans", progressive(16, 101), BrokenImage),
        skips("jpeg: 20,000 scans", progressive(16, 20_000), BrokenImage),
        loads("jpeg: 100 scans", progressive(16, 100)),
        skips("jpeg: 100 scans of 64 megapixels", progressive(8192, 100), OutOfTime),
        loads(
            "jpeg: noise for a scan",
            [
                &good[..scan + 12],
                &noise(3000).iter().map(|byte| byte & 0x7f).collect::<Vec<_>>(),
                &end,
            ]
            .concat(),
        ),
        loads(
            "jpeg: restarts where none are due",
            [&good[..scan + 14], &[0xff, 0xd0].repeat(5000), &good[scan + 14..]].concat(),
        ),
        skips(
            "jpeg: a scan of a component that is not there",
            patched(&good, scan + 3, &[99]),
            BrokenImage,
        ),
        skips(
            "jpeg: an end before the scan",
            [&good[..scan - 2], &end, &good[scan - 2..]].concat(),
            BrokenImage,
        ),
        loads("jpeg: another picture behind the end", [&good[..], &good].concat()),
    ]
}

fn segments() -> Vec<Attack> {
    let exif = |ifd: &[u8]| segment(0xe1, &[b"Exif\0\0MM\0*\0\0\0\x08", ifd].concat());
    let orientation =
        |value: u8| exif(&[0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, value, 0, 0, 0, 0, 0, 8]);
    let icc = |number: u8, of: u8| {
        segment(0xe2, &[b"ICC_PROFILE\0", &[number, of][..], &noise(60_000)].concat())
    };
    let counts = |count: u8| segment(0xc4, &[&[0][..], &[count; 16], &[0; 255]].concat());
    let good = good(64);
    let huffman = find(&good, 0xc4);
    vec![
        loads("jpeg: orientation 0", with(65, &[orientation(0)])),
        loads("jpeg: orientation 255", with(66, &[orientation(255)])),
        loads("jpeg: EXIF that points at itself", with(67, &[orientation(6)])),
        loads("jpeg: EXIF of 65535 entries", with(68, &[exif(&[255, 255, 1])])),
        loads("jpeg: noise for EXIF", with(69, &[exif(&noise(9000))])),
        loads(
            "jpeg: a profile of 255 parts",
            with(70, &(1..=255).map(|number| icc(number, 255)).collect::<Vec<_>>()),
        ),
        loads(
            "jpeg: parts of a profile that are missing",
            with(71, &[icc(7, 3), icc(0, 0), icc(200, 255)]),
        ),
        loads(
            "jpeg: 2,000 comments of 60 kB",
            with(72, &vec![segment(0xfe, &[b'a'; 60_000]); 2000]),
        ),
        skips("jpeg: a table with too many codes", with(73, &[counts(255)]), BrokenImage),
        skips(
            "jpeg: no tables",
            [&good[..huffman - 2], &good[find(&good, 0xda) - 2..]].concat(),
            BrokenImage,
        ),
        skips(
            "jpeg: a table longer than the file",
            patched(&good, huffman, &[255, 255]),
            BrokenImage,
        ),
        skips("jpeg: a segment of one byte", with(74, &[vec![0xff, 0xe5, 0, 1]]), BrokenImage),
        loads("jpeg: a restart interval of 1", with(75, &[segment(0xdd, &[0, 1])])),
        skips("jpeg: noise", [&[0xff, 0xd8, 0xff][..], &noise(4000)].concat(), BrokenImage),
    ]
}
