//! Looks for the marks of the data set in whatever came out: as they are and as they may be disguised.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::planted::{NUM_BLOCKS, SIDE, WORDS, block};

/// Bytes of a mark that are looked up first.
const KEY: usize = 8;
/// Mean distance of pixels up to which a cell of a grid is a real picture.
const NEAR: u32 = 12;

/// All marks in all forms.
pub(crate) struct Search {
    needles: Vec<(String, Vec<u8>)>,
    keys: HashSet<[u8; KEY]>,
    blocks: Vec<Vec<u8>>,
}

impl Search {
    pub(crate) fn new() -> Self {
        let words = WORDS.iter().filter(|word| word.len() > KEY);
        let mut needles: Vec<(String, Vec<u8>)> = words.flat_map(|word| forms(word)).collect();
        let blocks: Vec<Vec<u8>> = (0..NUM_BLOCKS).map(block).collect();
        for (idx, pixels) in blocks.iter().enumerate() {
            needles.extend(
                rows(pixels).into_iter().map(|row| (format!("pixels of block {idx}"), row)),
            );
        }
        let keys = needles.iter().map(|(_, bytes)| key(bytes)).collect();
        Self { needles, keys, blocks }
    }

    /// What is found in the outputs and in a log.
    pub(crate) fn hits(&self, outputs: &Path, log: &[u8]) -> Vec<String> {
        let mut hits = self.in_bytes("log", log);
        // A log is a text, so there a part of a word is enough, in any case.
        let text = String::from_utf8_lossy(log).to_lowercase();
        let words = WORDS.iter().filter(|word| text.contains(&word.to_lowercase()));
        hits.extend(words.map(|word| format!("log: {word}")));
        for entry in fs::read_dir(outputs).into_iter().flatten() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let bytes = fs::read(entry.path()).unwrap_or_default();
            hits.extend(self.in_bytes("name", name.as_bytes()));
            hits.extend(self.in_bytes(&name, &bytes));
            if let Ok(picture) = image::load_from_memory(&bytes) {
                let picture = picture.to_rgb8();
                let width = picture.width() as usize;
                hits.extend(self.in_bytes(&name, picture.as_raw()));
                hits.extend(self.in_cells(&name, picture.as_raw(), width));
            }
        }
        hits
    }

    fn in_bytes(&self, place: &str, bytes: &[u8]) -> Vec<String> {
        let mut hits = Vec::new();
        for at in 0..bytes.len().saturating_sub(KEY - 1) {
            if self.keys.contains(&key(&bytes[at..])) {
                let found =
                    self.needles.iter().filter(|(_, needle)| bytes[at..].starts_with(needle));
                hits.extend(found.map(|(what, _)| format!("{place}: {what}")));
            }
        }
        hits
    }

    /// Cells of a grid that are nearly a block, upright or mirrored.
    fn in_cells(&self, place: &str, pixels: &[u8], width: usize) -> Vec<String> {
        let mut hits = Vec::new();
        let columns = width / SIDE;
        for cell in 0..pixels.len() / 3 / (SIDE * SIDE) {
            let (top, left) = (cell / columns * SIDE, cell % columns * SIDE);
            let value =
                |y: usize, x: usize, c: usize| pixels[((top + y) * width + left + x) * 3 + c];
            for (idx, block) in self.blocks.iter().enumerate() {
                for mirrored in [false, true] {
                    let sum: u32 = (0..3 * SIDE * SIDE)
                        .map(|i| {
                            let (y, x, c) = (i / 3 / SIDE, i / 3 % SIDE, i % 3);
                            let x = if mirrored { SIDE - 1 - x } else { x };
                            u32::from(value(y, x, c).abs_diff(block[i]))
                        })
                        .sum();
                    if sum < NEAR * (3 * SIDE * SIDE) as u32 {
                        hits.push(format!("{place}: cell {cell} is block {idx}"));
                    }
                }
            }
        }
        hits
    }
}

fn key(bytes: &[u8]) -> [u8; KEY] {
    std::array::from_fn(|i| bytes[i])
}

/// A word as bytes: plain, in base64 at each of the three places where it can begin, in hexadecimal and
/// in UTF-16.
fn forms(word: &str) -> Vec<(String, Vec<u8>)> {
    let hex = |upper: bool| {
        let digits = |byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        word.bytes().flat_map(|byte| digits(byte).into_bytes()).collect()
    };
    let wide = |bytes: fn(u16) -> [u8; 2]| word.encode_utf16().flat_map(bytes).collect();
    let mut forms = vec![
        (word.to_owned(), word.as_bytes().to_vec()),
        (format!("{word} in hex"), hex(false)),
        (format!("{word} in hex"), hex(true)),
        (format!("{word} in UTF-16"), wide(u16::to_le_bytes)),
        (format!("{word} in UTF-16"), wide(u16::to_be_bytes)),
    ];
    for shift in 0..3 {
        forms.push((format!("{word} in base64"), base64(word.as_bytes(), shift)));
    }
    forms
}

/// The part of a base64 text that depends on `bytes` alone, where `shift` bytes precede them.
pub(crate) fn base64(bytes: &[u8], shift: usize) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = std::iter::repeat_n(0, shift)
        .chain(bytes.iter().copied())
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let digits: Vec<u8> = bits
        .chunks_exact(6)
        .map(|bits| DIGITS[bits.iter().fold(0, |sum, bit| sum << 1 | usize::from(*bit))])
        .collect();
    digits[(8 * shift).div_ceil(6)..].to_vec()
}

/// Rows of a picture as a file may have them: interleaved, mirrored, by plane, and as numbers.
fn rows(pixels: &[u8]) -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    for row in pixels.chunks_exact(3 * SIDE) {
        let (colors, _) = row.as_chunks::<3>();
        rows.push(row.to_vec());
        rows.push(colors.iter().rev().flatten().copied().collect());
        for channel in 0..3 {
            let plane: Vec<u8> = colors.iter().map(|color| color[channel]).collect();
            let numbers = |f: fn(f32) -> f32| {
                plane.iter().flat_map(|v| f(f32::from(*v)).to_le_bytes()).collect::<Vec<u8>>()
            };
            rows.push(numbers(|v| v / 127.5 - 1.0));
            rows.push(numbers(|v| v / 255.0));
            rows.push(plane);
        }
    }
    rows
}
