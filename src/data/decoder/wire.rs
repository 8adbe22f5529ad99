//! What the program and a decoder say to each other: fixed lengths, little-endian, no text.
//!
//! A request is a [`Header`] and the bytes of a picture. Answers begin with a byte, [`DONE`] or why
//! there is none. Then come [`FACTS_BYTES`], or as many pixels as were asked for: a decoder has no
//! length to choose. What it says is believed only as far as it can be: see `Facts::is_possible`.

use ::image::ImageFormat;

use crate::data::image::Facts;
use crate::data::report::SkipReason;
use crate::data::{Crop, Resize};

/// First byte of an answer that holds what was asked for.
pub(super) const DONE: u8 = 0;
/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 32;
/// Bytes of facts, after the first of the answer.
pub(in crate::data) const FACTS_BYTES: usize = 16;

/// Codes are places in these lists; those of reasons begin with 1.
const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::WebP,
    ImageFormat::Gif,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
];
const CROPS: [Crop; 3] = [Crop::Center, Crop::Pad, Crop::Stretch];
const RESIZES: [Resize; 2] = [Resize::Lanczos, Resize::Box];
const REASONS: [SkipReason; 3] =
    [SkipReason::BrokenImage, SkipReason::UnsupportedImage, SkipReason::TooManyPixels];

/// What a picture is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) struct Target {
    pub res: usize,
    pub crop: Crop,
    pub resize: Resize,
    pub background: [u8; 3],
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// What should be refused to a decoder; no picture comes with it.
    Try,
    /// What a header says.
    Inspect(ImageFormat),
    /// The pixels.
    Decode(ImageFormat, Target),
}

/// A request, without the bytes of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub task: Task,
    pub num_bytes: u64,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let format_of = |format| code(&FORMATS, &format);
        match self.task {
            Task::Try => {}
            Task::Inspect(format) => (bytes[0], bytes[1]) = (1, format_of(format)),
            Task::Decode(format, target) => {
                (bytes[0], bytes[1]) = (2, format_of(format));
                (bytes[2], bytes[3]) = (code(&CROPS, &target.crop), code(&RESIZES, &target.resize));
                bytes[4..7].copy_from_slice(&target.background);
                bytes[8..16].copy_from_slice(&(target.res as u64).to_le_bytes());
            }
        }
        bytes[16..24].copy_from_slice(&self.num_bytes.to_le_bytes());
        bytes
    }

    /// `None` if that is no header.
    pub(super) fn of_bytes(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let format = of_code(&FORMATS, bytes[1]);
        let task = match bytes[0] {
            0 => Task::Try,
            1 => Task::Inspect(format?),
            2 => Task::Decode(
                format?,
                Target {
                    res: u64_at(bytes, 8) as usize,
                    crop: of_code(&CROPS, bytes[2])?,
                    resize: of_code(&RESIZES, bytes[3])?,
                    background: [bytes[4], bytes[5], bytes[6]],
                },
            ),
            _ => return None,
        };
        Some(Self { task, num_bytes: u64_at(bytes, 16) })
    }
}

/// The first byte of an answer without what was asked for.
pub(super) fn code_of(reason: SkipReason) -> u8 {
    code(&REASONS, &reason) + 1
}

/// The reason of such an answer; `None` for a byte that is no code.
pub(super) fn reason_of(code: u8) -> Option<SkipReason> {
    of_code(&REASONS, code.checked_sub(1)?)
}

pub(super) fn facts_to_bytes(facts: Facts) -> [u8; FACTS_BYTES] {
    let mut bytes = [0; FACTS_BYTES];
    bytes[..4].copy_from_slice(&(facts.width as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&(facts.height as u32).to_le_bytes());
    bytes[8..].copy_from_slice(&facts.decode_bytes.to_le_bytes());
    bytes
}

pub(super) fn facts_of_bytes(bytes: &[u8; FACTS_BYTES]) -> Facts {
    let sides = u64_at(bytes, 0);
    let (width, height) = (sides as u32 as usize, (sides >> 32) as usize);
    Facts { width, height, decode_bytes: u64_at(bytes, 8) }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

/// The place of `value`; one that is not listed has a code that nothing has.
fn code<T: PartialEq>(list: &[T], value: &T) -> u8 {
    list.iter().position(|known| known == value).unwrap_or(list.len()) as u8
}

fn of_code<T: Copy>(list: &[T], code: u8) -> Option<T> {
    list.get(usize::from(code)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_come_back_as_they_were() {
        let target =
            Target { res: 512, crop: Crop::Pad, resize: Resize::Box, background: [1, 2, 255] };
        for task in
            [Task::Try, Task::Inspect(ImageFormat::Tiff), Task::Decode(ImageFormat::WebP, target)]
        {
            let header = Header { task, num_bytes: 1 << 40 };
            assert_eq!(Header::of_bytes(&header.to_bytes()), Some(header));
        }
        let facts = Facts { width: 3, height: 16_384, decode_bytes: u64::MAX - 1 };
        assert_eq!(facts_of_bytes(&facts_to_bytes(facts)), facts);
        for reason in REASONS {
            assert_eq!(reason_of(code_of(reason)), Some(reason));
        }
    }

    #[test]
    fn what_is_no_code_is_nothing() {
        assert_eq!([DONE, 4, 255].map(reason_of), [None; 3]);
        for (at, value) in [(0, 3), (1, 6), (2, 3), (3, 2)] {
            let target =
                Target { res: 8, crop: Crop::Center, resize: Resize::Box, background: [0; 3] };
            let task = Task::Decode(ImageFormat::Png, target);
            let mut bytes = Header { task, num_bytes: 0 }.to_bytes();
            bytes[at] = value;
            assert_eq!(Header::of_bytes(&bytes), None, "{at}");
        }
        assert_eq!(reason_of(code_of(SkipReason::Rar)), None);
    }
}
