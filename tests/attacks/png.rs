//! PNG: sizes that lie, streams that swell, chunks that make no sense.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use stylegan2_c2d::data::SkipReason::{BrokenImage, TooManyPixels};

use crate::attack::{Attack, cuts, loads, noise, patched, skips};
use crate::pictures;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes(), kind, data, &crc.sum().to_be_bytes()].concat()
}

/// Width, height, bits and type of colour, and the rest of the header.
fn header(width: u32, height: u32, rest: [u8; 5]) -> Vec<u8> {
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &rest].concat())
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// As many zeros, deflated without holding them.
pub(crate) fn zeros(num_bytes: u64) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), num_bytes), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

/// A gray picture of zeros, told from others by a text.
pub(crate) fn gray(side: u32, seed: u8) -> Vec<u8> {
    let num_bytes = u64::from(side) * (u64::from(side) + 1);
    file(&[
        header(side, side, GRAY),
        chunk(b"tEXt", &[b'a', 0, seed]),
        chunk(b"IDAT", &zeros(num_bytes)),
    ])
}

fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
    [SIGNATURE.to_vec(), chunks.concat(), chunk(b"IEND", b"")].concat()
}

const RGB: [u8; 5] = [8, 2, 0, 0, 0];
const GRAY: [u8; 5] = [8, 0, 0, 0, 0];
const PALETTE: [u8; 5] = [8, 3, 0, 0, 0];

/// A gray picture of 8 x 8 whose pixels tell it from others.
fn idat(seed: u8) -> Vec<u8> {
    let rows: Vec<u8> = (0..8).flat_map(|y| [0, seed, y, 1, 2, 3, 4, 5, 6]).collect();
    chunk(b"IDAT", &deflated(&rows))
}

fn gray_with(seed: u8, before: &[Vec<u8>]) -> Vec<u8> {
    file(&[vec![header(8, 8, GRAY)], before.to_vec(), vec![idat(seed)]].concat())
}

pub(crate) fn attacks() -> Vec<Attack> {
    let good = pictures::png(90, 24);
    [cuts("png", &good, BrokenImage), sizes(), headers(), streams(&good), extras()]
        .into_iter()
        .flatten()
        .collect()
}

fn sizes() -> Vec<Attack> {
    let declared =
        |width, height, rest| file(&[header(width, height, rest), chunk(b"IDAT", &zeros(99))]);
    let full = |side: u32, rest: [u8; 5], pixel: u64| {
        let num_bytes = u64::from(side) * (u64::from(side) * pixel + 1);
        file(&[header(side, side, rest), chunk(b"IDAT", &zeros(num_bytes))])
    };
    vec![
        skips("png: 16384 x 16384 rgba", declared(16384, 16384, [16, 6, 0, 0, 0]), TooManyPixels),
        skips(
            "png: the largest sides there are",
            declared(0x7fff_ffff, 0x7fff_ffff, RGB),
            TooManyPixels,
        ),
        skips("png: sides above what is allowed", declared(u32::MAX, u32::MAX, RGB), TooManyPixels),
        skips("png: one row too wide", declared(65_500, 1, RGB), TooManyPixels),
        skips("png: one column too high", declared(1, 16_385, RGB), TooManyPixels),
        skips("png: no width", declared(0, 8, RGB), BrokenImage),
        skips("png: no height", declared(8, 0, RGB), BrokenImage),
        skips("png: few bytes for 8192 x 8192", declared(8192, 8192, RGB), BrokenImage),
        skips("png: 64 megapixels and one", full(8193, GRAY, 1), TooManyPixels),
        loads("png: the largest picture, 512 MB", full(8192, [16, 6, 0, 0, 0], 8)),
        loads(
            "png: the largest picture, interlaced",
            file(&[
                header(8192, 8192, [8, 0, 0, 0, 1]),
                chunk(b"IDAT", &zeros(8192 * 8192 + 8192 * 2)),
            ]),
        ),
        loads(
            "png: a row of 16384",
            file(&[header(16_384, 1, GRAY), chunk(b"IDAT", &zeros(16_385))]),
        ),
    ]
}

fn headers() -> Vec<Attack> {
    let with = |rest| file(&[header(8, 8, rest), idat(1)]);
    vec![
        skips("png: 3 bits", with([3, 0, 0, 0, 0]), BrokenImage),
        skips("png: 16 bits of palette", with([16, 3, 0, 0, 0]), BrokenImage),
        skips("png: colour type 5", with([8, 5, 0, 0, 0]), BrokenImage),
        skips("png: compression 1", with([8, 0, 1, 0, 0]), BrokenImage),
        skips("png: filter method 9", with([8, 0, 0, 9, 0]), BrokenImage),
        skips("png: interlacing 7", with([8, 0, 0, 0, 7]), BrokenImage),
        skips("png: a signature alone", SIGNATURE.to_vec(), BrokenImage),
        skips(
            "png: pixels before the header",
            [SIGNATURE, &idat(2), &header(8, 8, GRAY)].concat(),
            BrokenImage,
        ),
        skips(
            "png: two headers",
            file(&[header(8, 8, GRAY), header(9000, 9000, RGB), idat(3)]),
            BrokenImage,
        ),
        skips("png: a header too short", file(&[chunk(b"IHDR", &[0; 12]), idat(4)]), BrokenImage),
        skips(
            "png: a header of a wrong checksum",
            patched(&gray_with(5, &[]), 29, &[0; 4]),
            BrokenImage,
        ),
        skips("png: noise behind the signature", [SIGNATURE, &noise(4000)].concat(), BrokenImage),
        skips("png: no end, no pixels", [SIGNATURE, &header(8, 8, GRAY)].concat(), BrokenImage),
        skips("png: no pixels", file(&[header(8, 8, GRAY)]), BrokenImage),
        skips("png: no palette", file(&[header(8, 8, PALETTE), idat(6)]), BrokenImage),
    ]
}

fn streams(good: &[u8]) -> Vec<Attack> {
    let pixels = |data: &[u8]| file(&[header(8, 8, GRAY), chunk(b"IDAT", data)]);
    let claim = |length: u32| {
        let claimed = [&length.to_be_bytes()[..], b"IDAT", &noise(64)].concat();
        [SIGNATURE, &header(8, 8, GRAY), &claimed].concat()
    };
    let at = good.windows(4).position(|kind| kind == b"IDAT").unwrap();
    let whole = deflated(&[1; 72]);
    vec![
        skips("png: a chunk of 4 GiB", claim(u32::MAX), BrokenImage),
        skips("png: a chunk of 2 GiB", claim(i32::MAX as u32), BrokenImage),
        skips("png: too few rows", pixels(&deflated(&[0; 30])), BrokenImage),
        skips("png: noise for pixels", pixels(&noise(300)), BrokenImage),
        skips("png: filter 9", pixels(&deflated(&[9; 72])), BrokenImage),
        skips("png: a stream cut short", pixels(&whole[..whole.len() / 2]), BrokenImage),
        skips("png: pixels of a wrong checksum", patched(good, at + 30, &[1, 2, 3]), BrokenImage),
        loads("png: a gigabyte behind the pixels", pixels(&zeros(1 << 30))),
        loads(
            "png: pixels in 20,000 chunks, most of them empty",
            file(
                &[vec![header(8, 8, GRAY)], vec![chunk(b"IDAT", b""); 20_000], vec![idat(7)]]
                    .concat(),
            ),
        ),
    ]
}

fn extras() -> Vec<Attack> {
    let bomb = zeros(1 << 30);
    let text = |kind: &[u8], head: &[u8]| chunk(kind, &[head, &bomb].concat());
    let exif = |value: &[u8]| {
        chunk(b"eXIf", &[b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01", value, &[0; 6]].concat())
    };
    let frame = |width: u32| {
        let sides = [0u32, width, width, 0, 0].map(u32::to_be_bytes).concat();
        chunk(b"fcTL", &[&sides[..], &[0, 1, 0, 1, 0, 0]].concat())
    };
    let animated = |frames: u32| chunk(b"acTL", &[frames.to_be_bytes(), [0; 4]].concat());
    vec![
        loads("png: a gigabyte of zTXt", gray_with(10, &[text(b"zTXt", b"a\0\0")])),
        loads("png: a gigabyte of iTXt", gray_with(11, &[text(b"iTXt", b"a\0\x01\0\0\0")])),
        loads("png: a gigabyte of iCCP", gray_with(12, &[text(b"iCCP", b"a\0\0")])),
        loads("png: noise for iCCP", gray_with(13, &[chunk(b"iCCP", &noise(999))])),
        loads("png: 30,000 texts", gray_with(14, &vec![chunk(b"tEXt", b"key\0value"); 30_000])),
        loads("png: orientation 0", gray_with(15, &[exif(&[0, 0])])),
        loads("png: orientation 65535", gray_with(16, &[exif(&[255, 255])])),
        loads("png: noise for EXIF", gray_with(17, &[chunk(b"eXIf", &noise(3000))])),
        loads("png: gamma 0", gray_with(18, &[chunk(b"gAMA", &[0; 4])])),
        loads("png: an animation", gray_with(19, &[animated(2), frame(8)])),
        loads(
            "png: an animation of 2^31 frames",
            gray_with(20, &[animated(0x7fff_ffff), frame(8)]),
        ),
        skips(
            "png: a frame larger than the picture",
            gray_with(21, &[animated(2), frame(9000)]),
            BrokenImage,
        ),
        loads("png: trailing noise", [gray_with(22, &[]), noise(5000)].concat()),
        loads("png: a chunk nobody knows", gray_with(23, &[chunk(b"zzZz", &noise(5000))])),
    ]
}
