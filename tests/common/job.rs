//! Starting the program on copies of the Ocean folder trees, and judging what it left.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use candle_core::Device;
use stylegan2_c2d::model::weights::{Header, from_bytes};
use tempfile::TempDir;

/// The layout of the current node.
pub(crate) const CURRENT: &str = "current-ocean-node";

/// What must never be in a log: names, ids and texts that lie in the trees.
pub(crate) const PLANTED: [&str; 16] = [
    "paintings",
    "self_portrait",
    "download",
    "sketches",
    "a4ad237d",
    "17feb697",
    "7ddb4c3a",
    "f6a7b8c9",
    "more-pictures",
    "README.txt",
    "DS_Store",
    "__MACOSX",
    "broken.png",
    "EXIF-CANARY",
    "secret",
    "studies",
];

/// A copy of one of the trees, as the job's `/data`.
pub(crate) struct Tree {
    root: TempDir,
}

impl Tree {
    /// `name` is a folder of `tests/fixtures/ocean`; with `more`, 240 pictures lie beside its own.
    pub(crate) fn copy(name: &str, more: bool) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ocean");
        let root = tempfile::tempdir().unwrap();
        copy(&fixtures.join(name).join("data"), root.path());
        let tree = Self { root };
        if more {
            let asset = match name {
                "legacy-operator-engine" => "inputs/".to_owned() + &"0".repeat(64) + "/0",
                _ => "inputs/more-pictures.zip".to_owned(),
            };
            let target = tree.path(&asset);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(fixtures.join("more-pictures.zip"), target).unwrap();
        }
        fs::create_dir_all(tree.path("outputs")).unwrap();
        for folder in ["", "outputs", "logs"] {
            fs::set_permissions(tree.path(folder), fs::Permissions::from_mode(0o777)).unwrap();
        }
        tree
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    /// Puts a folder with `count` pictures into the inputs, an asset with a policy of its own.
    pub(crate) fn add_asset(&self, name: &str, count: u8, policy: &str) {
        let folder = self.path("inputs").join(name);
        fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            let picture = image::RgbImage::from_pixel(16, 16, image::Rgb([i, 99, 255 - i]));
            picture.save(folder.join(format!("secret{i}.png"))).unwrap();
        }
        fs::write(folder.join("c2d-policy.json"), policy).unwrap();
    }

    pub(crate) fn set_params(&self, json: &str) {
        fs::write(self.path("inputs/algoCustomData.json"), json).unwrap();
    }

    /// Takes away every right to write below `inputs`.
    pub(crate) fn make_inputs_read_only(&self) {
        read_only(&self.path("inputs"));
    }

    /// The job on this tree, not started yet.
    pub(crate) fn job(&self) -> Command {
        let mut command = program();
        command.arg("--root").arg(self.root.path());
        command
    }

    /// The job as the current node starts it: as uid 1000, where the tests may change it.
    pub(crate) fn job_as_node_user(&self) -> Command {
        // That user may not reach the folder that the tests were built in.
        let program = self.path("program");
        fs::copy(env!("CARGO_BIN_EXE_stylegan2-c2d"), &program).unwrap();
        self.as_node_user(&program)
    }

    fn as_node_user(&self, program: &Path) -> Command {
        let mut command = isolated(program);
        command.arg("--root").arg(self.root.path());
        if is_root() {
            command.uid(1000).gid(1000);
        }
        command
    }

    /// As [`Tree::job_as_node_user`], by the launcher as the image has it.
    pub(crate) fn launched_as_node_user(&self) -> Command {
        let folder = self.path("bin");
        fs::create_dir(&folder).unwrap();
        let programs =
            [env!("CARGO_BIN_EXE_stylegan2-c2d"), env!("CARGO_BIN_EXE_stylegan2-c2d-job")];
        let copies = programs.map(|program| {
            let copy = folder.join(Path::new(program).file_name().unwrap());
            fs::copy(program, &copy).unwrap();
            copy
        });
        self.as_node_user(&copies[1])
    }

    /// Names of the files in `outputs`, sorted.
    pub(crate) fn outputs(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("outputs")).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The program with nothing inherited.
pub(crate) fn program() -> Command {
    isolated(Path::new(env!("CARGO_BIN_EXE_stylegan2-c2d")))
}

fn isolated(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Uid:\t0\t0"))
}

/// Both streams of a finished program; asserts that a job's had no line that its log cannot hold.
pub(crate) fn log_of(output: &Output) -> String {
    let log = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    for sign in ["L1 not said", "log: left out are"] {
        assert!(!log.contains(sign), "{log}");
    }
    log.into_owned()
}

/// Asserts that a log keeps the data's secrets.
pub(crate) fn assert_discreet(log: &str) {
    for planted in PLANTED {
        assert!(!log.to_lowercase().contains(&planted.to_lowercase()), "{planted} in:\n{log}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn read_only(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_only(&path);
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).unwrap();
}

/// Loads the generator of a tree and asserts that the grid is a picture.
pub(crate) fn loaded(tree: &Tree) -> Header {
    let bytes = fs::read(tree.path("outputs/generator.safetensors")).unwrap();
    let (header, _) = from_bytes(&bytes, &Device::Cpu).unwrap();
    let grid = image::open(tree.path("outputs/samples.png")).unwrap();
    assert_eq!(grid.width(), 8 * header.model.img_resolution as u32);
    header
}

/// Asserts that `outputs` holds nothing but what is promised.
pub(crate) fn assert_promised_names_only(tree: &Tree) {
    for name in tree.outputs() {
        let is_numbered = name.strip_prefix("samples-").and_then(|n| n.strip_suffix(".png"));
        let is_numbered = is_numbered.is_some_and(|n| n.len() == 9 && n.parse::<u64>().is_ok());
        let is_fixed = ["generator.safetensors", "generator-best.safetensors", "samples.png"]
            .contains(&name.as_str());
        assert!(is_fixed || is_numbered, "{name}");
    }
}
