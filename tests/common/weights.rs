//! Weights that nothing was trained on, and the commands that use weights.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;
use serde_json::{Value, json};
use stylegan2_c2d::model::weights::{Header, to_bytes};
use stylegan2_c2d::model::{Store, generator};
use stylegan2_c2d::train::presets::{Cfg, Overrides, train_config};
use tempfile::TempDir;

use crate::job::{log_of, program};

/// A folder with weights.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// A `tiny` network for pictures of `res` pixels, whose layers take noise in.
    pub(crate) fn new(res: usize, c_dim: usize) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.add_weights("g", res, c_dim, 3);
        home
    }

    /// One more, drawn from another seed.
    pub(crate) fn add_weights(&self, name: &str, res: usize, c_dim: usize, seed: u64) {
        let config = train_config(Cfg::Tiny, res, c_dim, &Overrides::default()).g;
        let store = Store::new(DType::F32, &Device::Cpu);
        generator(&config, &store.init(seed)).unwrap();
        for (name, _) in store.params() {
            if name.ends_with("noise_strength") {
                store.set(&name, &Tensor::new(0.3f32, &Device::Cpu).unwrap()).unwrap();
            }
        }
        let statistics = json!([{"nimg": 1000, "swd": 9.0}, {"nimg": 2000, "swd": 7.5}]);
        let header = Header::new(config, 2000, json!({"options": {"cfg": "tiny"}}), statistics);
        fs::write(self.path(name), to_bytes(&header, &store).unwrap()).unwrap();
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Replaces `g` by a network that was trained for some seconds: its latents lie in order.
    pub(crate) fn train(&self) {
        fs::create_dir(self.path("set")).unwrap();
        for idx in 0..64u8 {
            let value = |x: u32, y: u32| [idx * 4, (x * 16) as u8, (y * 16) as u8];
            let picture = RgbImage::from_fn(16, 16, |x, y| value(x, y).into());
            picture.save(self.path("set").join(format!("{idx}.png"))).unwrap();
        }
        let mut program = program();
        program
            .current_dir(self.folder.path())
            .args(["train", "--data", "set", "--out", "trained"]);
        program.args(["--resolution", "16", "--cfg", "tiny", "--kimg", "1", "--device", "cpu"]);
        let output = program.output().unwrap();
        assert!(output.status.success(), "{}", log_of(&output));
        fs::copy(self.path("trained/generator.safetensors"), self.path("g")).unwrap();
    }

    /// A command on `g`, in the folder of the weights.
    pub(crate) fn output(&self, command: &str, more: &[&str]) -> Output {
        self.output_with_path("", command, more)
    }

    /// As [`Home::output`], where the PATH leads to `folder`.
    pub(crate) fn output_with_path(&self, folder: &str, command: &str, more: &[&str]) -> Output {
        let mut program = program();
        program.current_dir(self.folder.path()).env("PATH", self.path(folder));
        program.args([command, "--weights", "g"]).args(more).output().unwrap()
    }

    /// Exit code and log.
    pub(crate) fn run(&self, command: &str, more: &[&str]) -> (Option<i32>, String) {
        let output = self.output(command, more);
        (output.status.code(), log_of(&output))
    }

    /// The log of a command that succeeds.
    pub(crate) fn done(&self, command: &str, more: &[&str]) -> String {
        let (code, log) = self.run(command, more);
        assert_eq!(code, Some(0), "{command} {more:?}: {log}");
        log
    }

    pub(crate) fn picture(&self, below: &str) -> RgbImage {
        image::open(self.path(below)).unwrap().to_rgb8()
    }

    /// Names of the files in a folder, sorted.
    pub(crate) fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(below)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn json(&self, below: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(below)).unwrap()).unwrap()
    }
}

/// A cell of a grid of pictures of `res` pixels.
pub(crate) fn cell(grid: &RgbImage, res: u32, column: u32, row: u32) -> Vec<u8> {
    image::imageops::crop_imm(grid, column * res, row * res, res, res).to_image().into_raw()
}

/// The kinds of a PNG's chunks in their order, each once in a row, and its texts.
pub(crate) fn chunks(path: &Path) -> (Vec<String>, Vec<String>) {
    let png = fs::read(path).unwrap();
    let (mut kinds, mut texts) = (Vec::new(), Vec::new());
    let mut rest = &png[8..];
    while !rest.is_empty() {
        let len = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let kind = String::from_utf8_lossy(&rest[4..8]).into_owned();
        if kind == "tEXt" {
            texts.push(String::from_utf8_lossy(&rest[8..8 + len]).into_owned());
        }
        kinds.push(kind);
        rest = &rest[12 + len..];
    }
    kinds.dedup();
    (kinds, texts)
}
