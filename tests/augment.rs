//! The grid of augmented pictures, through the binary.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use image::RgbImage;
use serde_json::json;
use stylegan2_c2d::model::weights::{Header, to_bytes};
use stylegan2_c2d::model::{Store, generator};
use stylegan2_c2d::train::presets::{Cfg, Overrides, train_config};
use tempfile::TempDir;

#[path = "common/job.rs"]
mod job;

use job::{log_of, program};

/// A folder with weights that nothing was trained on, of pictures of `res` pixels.
fn weights(res: usize, c_dim: usize) -> TempDir {
    let config = train_config(Cfg::Tiny, res, c_dim, &Overrides::default()).g;
    let store = Store::new(DType::F32, &Device::Cpu);
    generator(&config, &store.init(3)).unwrap();
    let header = Header::new(config, 0, json!({}), json!([]));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("g"), to_bytes(&header, &store).unwrap()).unwrap();
    folder
}

/// Exit code and log of `augment` on the weights of `folder`.
fn augment(folder: &TempDir, out: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut command = program();
    command.arg("augment").args(more).args(["--device", "cpu", "--weights"]);
    let output = command.arg(folder.path().join("g")).arg("--out").arg(out).output().unwrap();
    (output.status.code(), log_of(&output))
}

/// The grid that it writes, below a folder that is not there yet.
fn file(folder: &TempDir, more: &[&str]) -> PathBuf {
    let out = folder.path().join("new").join(more.concat().replace('/', "")).with_extension("png");
    let (code, log) = augment(folder, &out, more);
    assert_eq!(code, Some(0), "{log}");
    out
}

fn grid(folder: &TempDir, more: &[&str]) -> RgbImage {
    image::open(file(folder, more)).unwrap().to_rgb8()
}

/// The cell of a grid of pictures of `res` pixels.
fn cell(grid: &RgbImage, res: u32, column: u32, row: u32) -> Vec<u8> {
    image::imageops::crop_imm(grid, column * res, row * res, res, res).to_image().into_raw()
}

#[test]
fn one_row_for_each_seed_and_one_column_for_each_strength() {
    let weights = weights(16, 0);
    let usual = grid(&weights, &[]);
    assert_eq!(usual.dimensions(), (7 * 16, 4 * 16));
    let grid = grid(&weights, &["--seeds", "5,9,2", "--p", "0,0.5,1"]);
    assert_eq!(grid.dimensions(), (4 * 16, 3 * 16));

    let pictures = weights.path().join("pictures");
    let mut command = program();
    command.args(["generate", "--seeds", "5,9,2", "--device", "cpu", "--weights"]);
    command.arg(weights.path().join("g")).arg("--out").arg(&pictures);
    assert!(command.output().unwrap().status.success());
    for (row, seed) in (0..).zip([5, 9, 2]) {
        let plain = image::open(pictures.join(format!("seed{seed:04}.png"))).unwrap();
        let plain = plain.to_rgb8().into_raw();
        assert!(cell(&grid, 16, 0, row) == plain, "seed {seed}");
        assert!(cell(&grid, 16, 1, row) == plain, "seed {seed} at p 0");
        assert!(cell(&grid, 16, 3, row) != plain, "seed {seed} at p 1");
    }
}

#[test]
fn the_same_seeds_give_the_same_file() {
    let weights = weights(32, 0);
    let bytes = |more: &[&str]| {
        let more = [&["--seeds", "0-1", "--augpipe", "bgcfnc"], more].concat();
        fs::read(file(&weights, &more)).unwrap()
    };
    let first = bytes(&[]);
    assert!(first == bytes(&["--threads", "1"]));
    assert!(first == bytes(&["--seed", "0"]));
    assert!(first != bytes(&["--seed", "1"]));
}

/// A row keeps its draws beside other rows, and a column beside other strengths.
#[test]
fn draws_depend_on_nothing_but_the_seeds() {
    let weights = weights(16, 0);
    let many = grid(&weights, &["--seeds", "3-5", "--p", "0.1,0.3,0.5,0.7"]);
    let one = grid(&weights, &["--seeds", "4", "--p", "0.7"]);
    assert!(cell(&many, 16, 0, 1) == cell(&one, 16, 0, 0));
    assert!(cell(&many, 16, 4, 1) == cell(&one, 16, 1, 0));
}

#[test]
fn apart_there_is_one_column_for_each_transform() {
    let weights = weights(32, 0);
    let out = weights.path().join("apart.png");
    let args = ["--apart", "--seeds", "0-5", "--augpipe", "bgcfnc"];
    let (code, log) = augment(&weights, &out, &args);
    assert_eq!(code, Some(0), "{log}");
    let columns = "columns: plain, xflip, rotate90, xint, scale, rotate, aniso, xfrac, brightness, \
                   contrast, lumaflip, hue, saturation, imgfilter, noise, cutout";
    assert!(log.contains(columns), "{log}");
    let apart = image::open(out).unwrap().to_rgb8();
    assert_eq!(apart.dimensions(), (16 * 32, 6 * 32));

    // half of the time mirrored, but for what resampling takes away, and else as it is
    let (mut num_mirrored, mut num_plain) = (0, 0);
    for row in 0..6 {
        let plain = image::imageops::crop_imm(&apart, 0, 32 * row, 32, 32).to_image();
        let mirrored = image::imageops::flip_horizontal(&plain).into_raw();
        let xflip = cell(&apart, 32, 1, row);
        let off = |of: &[u8]| -> u32 {
            xflip.iter().zip(of).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
        };
        num_plain += u32::from(off(plain.as_raw()) == 0);
        num_mirrored += u32::from(4 * off(&mirrored) < off(plain.as_raw()));
        let mut never_idle = (4..=9).chain(11..=15); // scale to contrast, hue to cutout
        assert!(never_idle.all(|column| cell(&apart, 32, column, row) != *plain.as_raw()));
    }
    let counts = (num_mirrored, num_plain);
    assert!(num_mirrored > 0 && num_plain > 0 && num_mirrored + num_plain == 6, "{counts:?}");

    let diffaug = grid(&weights, &["--apart", "--diffaug", "--seeds", "0"]);
    assert_eq!(diffaug.dimensions(), (6 * 32, 32));
}

#[test]
fn diffaug_and_classes_are_shown() {
    let weights = weights(8, 3);
    let class = |k: &str| grid(&weights, &["--diffaug", "--class", k, "--p", "1", "--seeds", "1"]);
    assert!(class("0").into_raw() != class("2").into_raw());
    let pipe = grid(&weights, &["--class", "0", "--p", "1", "--seeds", "1"]);
    assert!(class("0").into_raw() != pipe.into_raw());
}

#[test]
fn what_cannot_be_shown_is_refused_with_the_cure() {
    let weights = weights(16, 0);
    let out = weights.path().join("refused/a.png");
    for (more, expected) in [
        (&["--p", "0,1.5"][..], "--p: expected numbers from 0 to 1 such as 0,0.2,1"),
        (&["--p", ""], "--p: expected numbers"),
        (&["--augpipe", "bgx"], "augpipe: expected blit, geom, color"),
        (&["--augpipe", "bgcf"], "augpipe: expected one without filter at 16 px"),
        (&["--apart", "--augpipe", "filter"], "augpipe: expected one without filter at 16 px"),
        (&["--diffaug", "--augpipe", "bg"], "cannot be used with"),
        (&["--apart", "--p", "1"], "cannot be used with"),
        (&["--seeds", "0-999"], "--seeds: expected at most 146 rows"),
        (&["--class", "0"], "have no labels"),
        (&["--trunc", "3"], "--trunc: expected -2 to 2"),
    ] {
        let (code, log) = augment(&weights, &out, more);
        assert!(code == Some(2) && log.contains(expected), "{more:?}: {log}");
    }
    assert!(!out.parent().unwrap().exists());
    let (code, log) = augment(&weights, weights.path(), &[]);
    assert!(code == Some(2) && log.contains("--out: expected a file"), "{log}");
    let missing = tempfile::tempdir().unwrap();
    let (code, log) = augment(&missing, &out, &[]);
    assert!(code == Some(2) && log.contains("No such file"), "{log}");
}
