//! A job that was stopped and continued is one that never stopped, through the binary.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[path = "common/job.rs"]
mod job;

use job::{CURRENT, Tree, assert_discreet, loaded, log_of, program};

/// What every job here is asked for.
const TRAINING: &str = r#""resolution": 16, "cond": "assets", "mirror": true, "ada_kimg": 4, "seed": 7, "state": "sealed""#;

/// The inputs: an archive of enough pictures, and a folder whose owner is content with few.
fn two_assets() -> Tree {
    let tree = Tree::copy(CURRENT, true);
    tree.add_asset("studies", 30, r#"{"version": 1, "min_images": 20}"#);
    tree
}

fn set_kimg(tree: &Tree, kimg: f64) {
    tree.set_params(&format!("{{{TRAINING}, \"kimg\": {kimg}}}"));
}

/// The log of a job that must succeed.
fn done(mut job: Command) -> String {
    let output = job.output().unwrap();
    let log = log_of(&output);
    assert!(output.status.success(), "{log}");
    assert_discreet(&log);
    log
}

/// The log of a job that must be refused and must leave nothing.
fn refused(tree: &Tree) -> String {
    let before = tree.outputs();
    let output = tree.job().output().unwrap();
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert_discreet(&log);
    assert_eq!(tree.outputs(), before);
    log
}

fn generator(tree: &Tree) -> Vec<u8> {
    fs::read(tree.path("outputs/generator.safetensors")).unwrap()
}

/// A copy of the inputs with the state of another job among them, under a name that says nothing.
fn with_state_of(tree: &Tree) -> Tree {
    let next = two_assets();
    fs::copy(tree.path("outputs/state.safetensors"), next.path("inputs/download-7")).unwrap();
    next
}

/// One picture that the set does not have.
fn add_picture(tree: &Tree) {
    let picture = image::RgbImage::from_pixel(16, 16, image::Rgb([1, 2, 3]));
    picture.save(tree.path("inputs/studies/another.png")).unwrap();
}

/// The log of a job that gets a signal somewhere after 2 kimg.
fn stop_after_second_grid(tree: &Tree) -> String {
    let child = tree.job().spawn().unwrap();
    let (grid, start) = (tree.path("outputs/samples-000002000.png"), Instant::now());
    while !grid.exists() {
        assert!(start.elapsed() < Duration::from_mins(3), "no grid at 2 kimg");
        std::thread::sleep(Duration::from_millis(3));
    }
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    log_of(&output)
}

#[test]
fn a_stopped_and_continued_job_is_one_that_never_stopped() {
    let whole = two_assets();
    set_kimg(&whole, 4.0);
    let log = done(whole.job());
    assert!(log.contains("state.safetensors: "), "{log}");

    // 127 steps: no multiple of the 4 and 16 at which the regularisers are due
    let first = two_assets();
    set_kimg(&first, 2.032);
    let done_log = done(first.job());
    let second = with_state_of(&first);
    set_kimg(&second, 4.0);
    let log = done(second.job());
    assert!(log.contains("continues a training of 2.032 kimg, up to 4 in all"), "{log}");
    let num_skipped =
        |log: &str| log.lines().find(|line| line.starts_with("skipped")).map(str::to_owned);
    assert_eq!(num_skipped(&log), num_skipped(&done_log), "the state is no skipped picture");
    assert_eq!(loaded(&second).cur_nimg, 4000);
    assert!(generator(&second) == generator(&whole));

    // a signal in the middle of a step, wherever it comes, and again
    let third = two_assets();
    set_kimg(&third, 4.0);
    let log = stop_after_second_grid(&third);
    assert!(log.contains("stopped by a signal"), "{log}");
    let fourth = with_state_of(&third);
    set_kimg(&fourth, 4.0);
    done(fourth.job());
    assert!(generator(&fourth) == generator(&whole));
}

#[test]
fn what_may_not_continue_is_refused_and_nothing_is_lost() {
    let first = two_assets();
    set_kimg(&first, 0.1);
    done(first.job());

    let more = with_state_of(&first);
    set_kimg(&more, 0.2);
    add_picture(&more);
    fs::write(more.path("outputs/state.safetensors"), "theirs").unwrap();
    let log = refused(&more);
    assert!(log.contains("made with other pictures"), "{log}");
    assert_eq!(fs::read(more.path("outputs/state.safetensors")).unwrap(), b"theirs");

    let with_one_more = two_assets();
    set_kimg(&with_one_more, 0.1);
    add_picture(&with_one_more);
    done(with_one_more.job());
    let less = with_state_of(&with_one_more);
    set_kimg(&less, 0.2);
    assert!(refused(&less).contains("made with other pictures"));

    let finished = with_state_of(&first);
    set_kimg(&finished, 0.1);
    assert!(refused(&finished).contains("ask for more"));

    let other_seed = with_state_of(&first);
    other_seed.set_params(&format!("{{{TRAINING}, \"kimg\": 0.2}}").replace('7', "8"));
    let log = refused(&other_seed);
    assert!(log.contains("seed: expected 7, as this training has it, came 8"), "{log}");

    let two = with_state_of(&first);
    set_kimg(&two, 0.2);
    fs::copy(two.path("inputs/download-7"), two.path("inputs/download-8")).unwrap();
    assert!(refused(&two).contains("came 2"));

    let plain = two_assets();
    plain.set_params(r#"{"resolution": 16, "kimg": 0.1, "state": "plain"}"#);
    assert!(refused(&plain).contains("at home"));
}

fn train(tree: &Tree, out: &str, more: &[&str]) -> (bool, String) {
    let output = program()
        .args(["train", "--resolution", "8", "--seed", "3", "--data"])
        .arg(tree.path("inputs"))
        .arg("--out")
        .arg(tree.path(out))
        .args(more)
        .output()
        .unwrap();
    (output.status.success(), log_of(&output))
}

#[test]
fn at_home_a_state_may_be_plain() {
    let tree = two_assets();
    let path = |below: &str| -> PathBuf { tree.path(below) };
    let read = |path: &Path| fs::read(path).unwrap();
    assert!(train(&tree, "whole", &["--kimg", "0.2", "--state", "plain"]).0);
    assert!(train(&tree, "first", &["--kimg", "0.1", "--state", "plain"]).0);
    let state = path("first/state.safetensors").display().to_string();
    let more = ["--kimg", "0.2", "--state", "plain", "--resume", &state];
    let (is_done, log) = train(&tree, "second", &more);
    assert!(is_done, "{log}");
    let [second, whole] =
        ["second", "whole"].map(|out| read(&path(out).join("generator.safetensors")));
    assert!(second == whole);
    let picture = path("inputs/self_portrait.png").display().to_string();
    let (is_done, log) = train(&tree, "third", &["--resume", &picture]);
    assert!(!is_done && log.contains("expected a state.safetensors"), "{log}");
}

/// The tensors of a generator, without the mean of `w`, which moves while G stands.
fn weights(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let tensors = safetensors::SafeTensors::deserialize(bytes).unwrap();
    let mut tensors: Vec<_> = tensors
        .iter()
        .filter(|(name, _)| !name.ends_with("w_avg"))
        .map(|(name, view)| (name.to_owned(), view.data().to_vec()))
        .collect();
    tensors.sort();
    tensors
}

/// The inputs with another job's generator among them, under a name that says nothing.
fn with_generator_of(tree: &Tree, params: &str) -> Tree {
    let next = two_assets();
    fs::copy(tree.path("outputs/generator.safetensors"), next.path("inputs/0")).unwrap();
    next.set_params(params);
    next
}

#[test]
fn a_generator_is_a_start_for_another_training() {
    let first = two_assets();
    first.set_params(r#"{"resolution": 8, "kimg": 0.1, "seed": 1}"#);
    done(first.job());

    // At home; G stands in the first 2 kimg, so what comes out is what came in.
    let given = first.path("outputs/generator.safetensors").display().to_string();
    let (is_done, log) = train(&first, "same", &["--kimg", "0.1", "--resume", &given]);
    assert!(is_done, "{log}");
    assert!(
        log.contains("starts from a generator of 8x8 that was trained for 0.112 kimg"),
        "{log}"
    );
    assert!(log.contains("mapping       5      0      0"), "{log}");
    assert!(log.contains("the generator stands for 2 kimg"), "{log}");
    let read = |below: &str| fs::read(first.path(below).join("generator.safetensors")).unwrap();
    assert!(weights(&read("same")) == weights(&read("outputs")));

    // A job takes its time before weights leave.
    let params = r#"{"resolution": 8, "cond": "assets", "kimg": 4, "d_warmup": 0}"#;
    let with_classes = with_generator_of(&first, params);
    let log = done(with_classes.job());
    let classes = "classes: 2, the smallest of 10 to 49 pictures, the largest of 200 to 499";
    assert!(log.contains(classes), "{log}");
    assert!(log.contains("mapping       4      1      2"), "{log}");
    assert!(!log.contains("stands for"), "{log}");
    assert!(log.contains("files leave from kimg 4 on"), "{log}");
    let header = loaded(&with_classes);
    assert_eq!((header.model.img_resolution, header.model.c_dim), (8, 2));
    assert_eq!(header.training["config"]["ema_rampup"], serde_json::Value::Null);
    let started_from = serde_json::json!({"img_resolution": 8, "cur_nimg": 112});
    assert_eq!(header.training["started_from"], started_from);
    let best = fs::read(with_classes.path("outputs/generator-best.safetensors")).unwrap();
    let (best, _) =
        stylegan2_c2d::model::weights::from_bytes(&best, &candle_core::Device::Cpu).unwrap();
    assert_eq!(best.cur_nimg, 4000, "none of the earlier ones");

    let params = r#"{"resolution": 8, "kimg": 3.9}"#;
    assert!(
        refused(&with_generator_of(&first, params)).contains("kimg: expected at least 4 in a job")
    );
    let params = r#"{"resolution": 8, "kimg": 1000, "max_minutes": 0.1}"#;
    let early = with_generator_of(&first, params);
    let log = done(early.job());
    if log.contains("WARN no files: the end came too early") {
        assert!(early.outputs().is_empty(), "{log}");
    } else {
        assert!(loaded(&early).cur_nimg >= 4000, "{log}");
    }

    let broken = with_generator_of(&first, r#"{"resolution": 8, "kimg": 0.1}"#);
    let bytes = generator(&first);
    fs::write(broken.path("inputs/0"), &bytes[..bytes.len() - 1]).unwrap();
    assert!(refused(&broken).contains("the weights to start from are refused"));
}
