//! GIF and BMP: canvases, frames, runs of pixels that lead outside.

use image::codecs::bmp::BmpEncoder;
use image::codecs::gif::GifEncoder;
use image::{Delay, ExtendedColorType, Frame, RgbaImage};
use stylegan2_c2d::data::SkipReason::{BrokenImage, NotAnImage, TooManyPixels, UnsupportedImage};

use crate::attack::{Attack, cuts, loads, noise, patched, skips};
use crate::picture_of;

fn gif(seed: u8, num_frames: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, 30);
    for i in 0..num_frames {
        let pixels = RgbaImage::from_fn(16, 16, |x, y| {
            image::Rgba([seed, x as u8 * 9, y as u8 * 9 + i as u8, 255])
        });
        encoder
            .encode_frame(Frame::from_parts(pixels, 0, 0, Delay::from_numer_denom_ms(9, 1)))
            .unwrap();
    }
    drop(encoder);
    bytes
}

/// A canvas of sides, a global palette of two colours, and what follows.
fn canvas(width: u16, height: u16, rest: &[u8]) -> Vec<u8> {
    [
        b"GIF89a",
        &width.to_le_bytes()[..],
        &height.to_le_bytes(),
        &[0x80, 0, 0, 9, 9, 9, 200, 0, 7],
        rest,
    ]
    .concat()
}

/// A frame at a place, of sides, with coded data.
fn frame(place: [u16; 4], data: &[u8]) -> Vec<u8> {
    [&[0x2c][..], &place.map(u16::to_le_bytes).concat(), &[0], data].concat()
}

/// Codes of two bits and more: clear, pixel 0, end.
const PIXELS: &[u8] = &[2, 2, 0x44, 1, 0, 0x3b];

pub(crate) fn gif_attacks() -> Vec<Attack> {
    let good = gif(30, 1);
    let blocks = |byte: u8, count| [&[255][..], &[byte; 255]].concat().repeat(count);
    let more = vec![
        skips(
            "gif: a canvas of 65535 x 65535",
            canvas(65535, 65535, &frame([0, 0, 1, 1], PIXELS)),
            TooManyPixels,
        ),
        skips(
            "gif: a canvas of 16384 x 16384",
            canvas(16384, 16384, &frame([0, 0, 1, 1], PIXELS)),
            TooManyPixels,
        ),
        skips(
            "gif: a frame of 65535 x 65535",
            canvas(8, 8, &frame([0, 0, 65535, 65535], PIXELS)),
            TooManyPixels,
        ),
        skips(
            "gif: a frame outside of its canvas",
            canvas(8, 8, &frame([65535, 65535, 4, 4], PIXELS)),
            BrokenImage,
        ),
        skips("gif: no canvas", canvas(0, 0, &frame([0, 0, 0, 0], PIXELS)), BrokenImage),
        skips("gif: no frame", canvas(8, 8, &[0x3b]), BrokenImage),
        skips("gif: a frame of no size", canvas(8, 8, &frame([0, 0, 0, 0], PIXELS)), BrokenImage),
        skips(
            "gif: codes of 0 bits",
            canvas(8, 8, &frame([0, 0, 8, 8], &[0, 2, 0x44, 1, 0, 0x3b])),
            BrokenImage,
        ),
        skips(
            "gif: codes of 13 bits",
            canvas(8, 8, &frame([0, 0, 8, 8], &[13, 2, 0x44, 1, 0, 0x3b])),
            BrokenImage,
        ),
        skips(
            "gif: few pixels of many",
            canvas(8000, 8000, &frame([0, 0, 8000, 8000], PIXELS)),
            BrokenImage,
        ),
        skips(
            "gif: noise for pixels",
            canvas(
                64,
                64,
                &frame([0, 0, 64, 64], &[&[8, 255][..], &noise(255), &[0, 0x3b]].concat()),
            ),
            BrokenImage,
        ),
        skips(
            "gif: blocks without an end",
            canvas(8, 8, &[&[0x21, 0xfe][..], &blocks(7, 9)].concat()),
            BrokenImage,
        ),
        skips("gif: an unknown block", canvas(8, 8, &[0x77, 1, 2, 3]), BrokenImage),
        skips("gif: a signature alone", b"GIF89a".to_vec(), BrokenImage),
        skips("gif: noise", [b"GIF87a", &noise(3000)[..]].concat(), TooManyPixels),
        loads("gif: a thousand frames", gif(31, 1000)),
        loads("gif: trailing noise", [gif(32, 1), noise(999)].concat()),
        loads(
            "gif: 20 MB of comments",
            canvas(
                8,
                8,
                &[&[0x21, 0xfe][..], &blocks(b'a', 80_000), &[0], &frame([0, 0, 1, 1], PIXELS)]
                    .concat(),
            ),
        ),
    ];
    [cuts("gif", &good, BrokenImage), more].into_iter().flatten().collect()
}

fn bmp(seed: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    BmpEncoder::new(&mut bytes)
        .encode(&picture_of(seed, 16), 16, 16, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// Sides, bits and compression, colours, palette and pixels.
fn made(
    sides: [i32; 2],
    (bits, compression): (u16, u32),
    num_colours: u32,
    rest: &[u8],
) -> Vec<u8> {
    let [width, height] = sides.map(i32::to_le_bytes);
    let offset = 54 + 4 * num_colours.min(256);
    [
        b"BM",
        &[0; 8][..],
        &offset.to_le_bytes(),
        &40u32.to_le_bytes(),
        &width,
        &height,
        &[1, 0],
        &bits.to_le_bytes(),
        &compression.to_le_bytes(),
        &[0; 12],
        &num_colours.to_le_bytes(),
        &[0; 4],
        rest,
    ]
    .concat()
}

pub(crate) fn bmp_attacks() -> Vec<Attack> {
    let good = bmp(40);
    let palette = [7u8; 1024];
    let run = |sides, pixels: &[u8]| made(sides, (8, 1), 256, &[&palette[..], pixels].concat());
    let field = |at, value: i32| patched(&good, at, &value.to_le_bytes());
    let more = vec![
        skips("bmp: a height of -2^31", field(22, i32::MIN), BrokenImage),
        skips("bmp: a height of 2^31", field(22, i32::MAX), BrokenImage),
        skips("bmp: a height of -20000", field(22, -20_000), TooManyPixels),
        skips("bmp: a negative width", field(18, -16), BrokenImage),
        skips("bmp: no width", field(18, 0), UnsupportedImage),
        skips("bmp: no height", field(22, 0), UnsupportedImage),
        skips("bmp: 8192 x 8192 without pixels", made([8192, 8192], (24, 0), 0, &[]), BrokenImage),
        skips("bmp: 64 bits", patched(&good, 28, &[64, 0]), BrokenImage),
        skips("bmp: 0 bits", patched(&good, 28, &[0, 0]), BrokenImage),
        skips("bmp: compressed as JPEG", patched(&good, 30, &[4]), UnsupportedImage),
        skips("bmp: compression 99", patched(&good, 30, &[99]), BrokenImage),
        skips("bmp: a palette of 4 billion", made([8, 8], (8, 0), u32::MAX, &palette), BrokenImage),
        skips("bmp: a palette that is missing", made([8, 8], (8, 0), 256, &[]), BrokenImage),
        skips(
            "bmp: pixels behind the end",
            patched(&good, 10, &[0xff, 0xff, 0xff, 0x7f]),
            BrokenImage,
        ),
        skips(
            "bmp: fields without masks",
            made([8, 8], (32, 3), 0, &[&[0; 12][..], &noise(256)].concat()),
            BrokenImage,
        ),
        skips("bmp: runs without an end", run([8, 8], &[255, 1].repeat(20)), BrokenImage),
        loads(
            "bmp: runs that are too long",
            run([8, 8], &[&[255, 1].repeat(900)[..], &[0, 1]].concat()),
        ),
        skips(
            "bmp: jumps that lead outside",
            run([8, 8], &[&[0, 2, 255, 255].repeat(900)[..], &[0, 1]].concat()),
            BrokenImage,
        ),
        loads("bmp: 64 megapixels of runs in two bytes", run([8192, 8192], &[0, 1])),
        skips(
            "bmp: a header of 12 that is all",
            [b"BM", &[0; 12][..], &12u32.to_le_bytes()].concat(),
            BrokenImage,
        ),
        skips("bmp: a header of another length", patched(&good, 14, &[41]), NotAnImage),
        skips("bmp: noise", [&good[..18], &noise(4000)].concat(), BrokenImage),
        loads("bmp: from the top", patched(&good, 22, &(-16i32).to_le_bytes())),
    ];
    [cuts("bmp", &good, BrokenImage), more].into_iter().flatten().collect()
}
