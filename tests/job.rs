//! The job as a node starts it, through the binary, on both folder layouts.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::process::{Command, Output};

#[path = "common/job.rs"]
mod job;

use job::{CURRENT, Tree, assert_discreet, assert_promised_names_only, loaded, log_of, program};

const LEGACY: &str = "legacy-operator-engine";
/// A few steps at the smallest size.
const SHORT: &str = r#"{"resolution": 8, "kimg": 0.1, "seed": 1}"#;

/// Asserts that a tree's own few pictures are left out beside others, and refused without.
fn assert_judged(tree: &Tree, more: bool, output: &Output, log: &str) {
    if more {
        assert!(log.contains("assets left out: "), "{log}");
        assert!(log.contains("pictures: 200 to 499"), "{log}");
        loaded(tree);
    } else {
        assert!(log.contains("ERROR too few pictures: expected at least 200"), "{log}");
        assert!(tree.outputs().is_empty());
        let through_a_pipe = output.status.success(); // the line ends with tee
        assert!(through_a_pipe || output.status.code() == Some(2), "{log}");
    }
}

#[test]
fn the_current_layout_as_uid_1000_with_read_only_inputs() {
    for more in [false, true] {
        let tree = Tree::copy(CURRENT, more);
        tree.set_params(SHORT);
        tree.make_inputs_read_only();
        let output = tree.job_as_node_user().output().unwrap();
        let log = log_of(&output);
        assert_discreet(&log);
        assert!(!log.contains("median"), "of six pictures that is the size of one:\n{log}");
        assert_promised_names_only(&tree);
        assert_judged(&tree, more, &output, &log);
        if more {
            let header = loaded(&tree);
            assert_eq!((header.cur_nimg, header.model.img_resolution), (112, 8));
        }
    }
}

#[test]
fn the_legacy_layout_through_its_shell_line() {
    for more in [false, true] {
        let tree = Tree::copy(LEGACY, more);
        tree.set_params(SHORT);
        let line = format!(
            "mkdir -p $VOLUME/outputs $VOLUME/logs\n{} --root $VOLUME 2>&1 | tee $VOLUME/logs/algorithm.log",
            env!("CARGO_BIN_EXE_stylegan2-c2d")
        );
        let output = Command::new("sh")
            .args(["-c", &line])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("VOLUME", tree.path(""))
            .env("DIDS", r#"["17feb697190d9f5912e064307006c06019c766d35e4e3f239ebb69fb71096e42"]"#)
            .env("secret", "00000000")
            .output()
            .unwrap();
        let log = fs::read_to_string(tree.path("logs/algorithm.log")).unwrap();
        assert_eq!(log, log_of(&output));
        assert_discreet(&log);
        assert_promised_names_only(&tree);
        assert_judged(&tree, more, &output, &log);
    }
}

#[test]
fn names_and_order_of_the_inputs_change_nothing() {
    let run = |rename: bool| {
        let tree = Tree::copy(CURRENT, true);
        tree.set_params(SHORT);
        if rename {
            let inputs = tree.path("inputs");
            fs::rename(inputs.join("more-pictures.zip"), inputs.join("0")).unwrap();
            fs::rename(inputs.join("self_portrait.png"), inputs.join("zzz.txt")).unwrap();
        }
        assert!(tree.job().output().unwrap().status.success());
        fs::read(tree.path("outputs/generator.safetensors")).unwrap()
    };
    assert!(run(false) == run(true));
}

#[test]
fn wrong_parameters_are_refused_all_at_once() {
    let tree = Tree::copy(CURRENT, false);
    tree.set_params(r#"{"resolutoin": 64, "kimg": -1, "batch": "many"}"#);
    let output = tree.job().output().unwrap();
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(2), "{log}");
    for expected in ["resolution", "kimg", "batch"] {
        assert!(log.contains(expected), "{expected} in:\n{log}");
    }
    assert!(tree.outputs().is_empty());
}

#[test]
fn a_job_without_pictures_says_so() {
    let tree = Tree::copy(LEGACY, false);
    fs::remove_dir_all(tree.path("inputs")).unwrap();
    fs::create_dir_all(tree.path("inputs/0123")).unwrap();
    fs::write(tree.path("inputs/0123/0"), "<!DOCTYPE html><html>log in</html>").unwrap();
    let output = tree.job().output().unwrap();
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("web page"), "{log}");
}

#[test]
fn one_seed_gives_one_file_for_any_number_of_threads() {
    let tree = Tree::copy(CURRENT, true);
    let out = |threads: &str| {
        let out = tree.path(&format!("out-{threads}"));
        let output = program()
            .args(["train", "--threads", threads, "--resolution", "16", "--kimg", "0.2"])
            .args(["--seed", "5", "--data"])
            .arg(tree.path("inputs"))
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", log_of(&output));
        let mut files: Vec<_> = fs::read_dir(out).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files
            .iter()
            .map(|path| (path.file_name().unwrap().to_owned(), fs::read(path).unwrap()))
            .collect::<Vec<_>>()
    };
    let (one, two) = (out("1"), out("2"));
    assert!(one.len() >= 3);
    assert!(one == two, "files differ between 1 and 2 threads");
}

#[test]
fn the_same_seeds_give_the_same_pictures() {
    let tree = Tree::copy(CURRENT, true);
    tree.set_params(SHORT);
    assert!(tree.job().output().unwrap().status.success());
    let pictures = |folder: &str| {
        let out = tree.path(folder);
        let output = program()
            .args(["generate", "--seeds", "0-3", "--trunc", "0.7", "--grid", "--weights"])
            .arg(tree.path("outputs/generator.safetensors"))
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", log_of(&output));
        ["seed0000.png", "seed0001.png", "seed0002.png", "seed0003.png", "grid.png"]
            .map(|name| fs::read(out.join(name)).unwrap())
    };
    let first = pictures("first");
    assert!(first == pictures("second"));
    assert_ne!(first[0], first[1]);
}

#[test]
fn check_reports_and_writes_nothing() {
    let tree = Tree::copy(CURRENT, true);
    let before = fs::read_dir(tree.path("")).unwrap().count();
    let output = program().args(["check", "--data"]).arg(tree.path("inputs")).output().unwrap();
    let log = log_of(&output);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("pictures: ") && log.contains("memory: "), "{log}");
    assert_discreet(&log);
    assert_eq!(fs::read_dir(tree.path("")).unwrap().count(), before);
    assert!(tree.outputs().is_empty());
}

#[test]
fn estimate_prints_one_json_object() {
    let output = program()
        .args(["estimate", "--resolution", "8", "--json", "--threads", "1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", log_of(&output));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let sizes = ["peak_rss_bytes", "state_bytes", "state_peak_bytes"];
    for key in ["img_per_s", "img_per_cpu_s", "sec_per_kimg", "gemm_gflops"].iter().chain(&sizes) {
        assert!(value[key].as_f64().unwrap() > 0.0, "{key}");
    }
    for phase in ["Gmain", "Greg", "Dmain", "Dreg", "ema"] {
        assert!(value["phases"][phase].as_f64().unwrap() > 0.0, "{phase}");
    }
}
