//! Every format, orientation, crop and filter against an independent implementation.
//!
//! `fixtures/make_images.py` made the files and, with Pillow, what they look like. Lossless
//! formats agree to the level; each lossy case carries its tolerance, since decoders may round
//! the inverse transform and interpolate chroma in their own ways.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Deserialize;
use stylegan2_c2d::data::{Asset, Crop, Dataset, LoadOptions, Resize, load, scan};

#[derive(Deserialize)]
struct Case {
    file: PathBuf,
    crop: Crop,
    resize: Resize,
    background: [u8; 3],
    resolution: usize,
    tolerance: u8,
    expected: String,
}

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images")
}

fn load_one(case: &Case) -> Result<Dataset, String> {
    let assets = [Asset { roots: vec![images().join(&case.file)] }];
    let options = LoadOptions {
        resolution: Some(case.resolution),
        crop: case.crop,
        resize: case.resize,
        background: case.background,
        ..LoadOptions::default()
    };
    let stop = AtomicBool::new(false);
    let scan = scan(&assets, &options, &stop).map_err(|err| err.to_string())?;
    load(&assets, &options, &scan, &stop).map_err(|err| err.to_string())
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
}

#[test]
fn pictures_look_as_in_pillow() {
    let cases = std::fs::read(images().join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&cases).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let expected = bytes(&case.expected);
        let about = format!("{} {:?} {:?}", case.file.display(), case.crop, case.resize);
        match load_one(case) {
            Err(err) => wrong.push(format!("{about}: {err}")),
            Ok(set) => {
                let image = *set.image(0).expose();
                assert_eq!(image.len(), expected.len());
                let worst = image.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
                if worst.unwrap() > case.tolerance {
                    wrong.push(format!("{about}: off by {}", worst.unwrap()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
