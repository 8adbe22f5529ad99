//! What owners allow, through the binary: `c2d-policy.json` in an asset, `--policy` of the publisher.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::process::Command;

#[path = "common/job.rs"]
mod job;

use job::{Tree, assert_discreet, log_of, program};

/// A few steps at the smallest size.
const SHORT: &str = r#"{"resolution": 8, "kimg": 0.064, "batch": 8, "state": "sealed"}"#;
/// The policy of an owner who is content with few pictures.
const FEW: &str = r#"{"version": 1, "min_images": 20}"#;

/// A job's root without any data set.
fn empty() -> Tree {
    let tree = Tree::copy("current-ocean-node", false);
    for below in ["inputs", "persistentStorage"] {
        fs::remove_dir_all(tree.path(below)).unwrap();
    }
    fs::create_dir(tree.path("inputs")).unwrap();
    tree.set_params(SHORT);
    tree
}

/// The inputs with one asset of 30 pictures, under `policy`.
fn one(policy: &str) -> Tree {
    let tree = empty();
    tree.add_asset("studies", 30, policy);
    tree
}

/// Exit code and log.
fn ended(mut job: Command) -> (i32, String) {
    let output = job.output().unwrap();
    let log = log_of(&output);
    assert_discreet(&log);
    (output.status.code().unwrap(), log)
}

/// The log of a job that must deliver.
fn done(tree: &Tree) -> String {
    let (code, log) = ended(tree.job());
    assert_eq!(code, 0, "{log}");
    assert!(tree.outputs().contains(&"samples.png".to_owned()), "{log}");
    log
}

/// Asserts that a job is refused with `reason`, and leaves nothing.
fn refused(tree: &Tree, reason: &str) {
    let (code, log) = ended(tree.job());
    assert_eq!(code, 2, "{log}");
    assert!(log.contains(reason), "expected \"{reason}\" in:\n{log}");
    assert!(tree.outputs().is_empty());
}

#[test]
fn few_pictures_need_an_owner_who_allows_them() {
    refused(&one(r#"{"version": 1}"#), "expected at least 200 distinct ones");
    refused(&one(r#"{"version": 1, "min_images": 31}"#), "expected at least 31 distinct ones");
    let tree = one(FEW);
    assert!(done(&tree).contains("pictures: 10 to 49"));
    let weights = ["generator-best.safetensors", "generator.safetensors", "state.safetensors"];
    assert!(weights.iter().all(|name| tree.outputs().contains(&(*name).to_owned())));
}

#[test]
fn an_asset_of_the_buyer_hides_no_small_one() {
    let tree = one(r#"{"version": 1}"#);
    tree.add_asset("more-studies", 60, FEW); // 30 are the same pictures
    let log = done(&tree);
    assert!(log.contains("assets left out: 1, with fewer pictures"), "{log}");
    assert!(log.contains("pictures: 50 to 199"), "{log}");
    tree.set_params(r#"{"resolution": 8, "kimg": 0.064, "batch": 8, "cond": "assets"}"#);
    let (code, log) = ended(tree.job());
    assert!(code == 2 && log.contains("two or more classes"), "{log}");
}

#[test]
fn a_small_class_is_refused() {
    let tree = one(r#"{"version": 1, "min_images": 25}"#);
    let labels: Vec<String> =
        (0..30).map(|i| format!(r#"["secret{i}.png", {}]"#, u8::from(i < 10))).collect();
    let json = format!(r#"{{"labels": [{}]}}"#, labels.join(", "));
    fs::write(tree.path("inputs/studies/dataset.json"), json).unwrap();
    tree.set_params(r#"{"resolution": 8, "kimg": 0.064, "batch": 8, "cond": "labels"}"#);
    refused(&tree, "expected at least 25 of each asset in each class");
    tree.set_params(SHORT);
    done(&tree);
}

#[test]
fn a_policy_that_is_not_understood_ends_the_job() {
    for bad in ["", "{", r#"{"version": 1, "min_images": 5}"#, r#"{"version": 1, "secret": 1}"#] {
        refused(&one(bad), "a c2d-policy.json is not as expected");
    }
    refused(&one(&" ".repeat(70_000)), "larger than 64 KiB");
    let tree = one(FEW);
    fs::create_dir(tree.path("inputs/studies/below")).unwrap();
    fs::write(tree.path("inputs/studies/below/c2d-policy.json"), FEW).unwrap();
    refused(&tree, "does not lie at the root");
}

#[test]
fn a_policy_beside_the_assets_speaks_for_none() {
    let tree = one(r#"{"version": 1}"#);
    fs::write(tree.path("inputs/c2d-policy.json"), FEW).unwrap();
    let (code, log) = ended(tree.job());
    assert_eq!(code, 2, "{log}");
    assert!(log.contains("speaks for none of them") && log.contains("at least 200"), "{log}");
}

#[test]
fn an_owner_may_want_to_be_alone() {
    let tree = one(r#"{"version": 1, "min_images": 20, "mixing": false}"#);
    done(&tree);
    let tree = one(r#"{"version": 1, "min_images": 20, "mixing": false}"#);
    tree.add_asset("more-studies", 60, FEW);
    refused(&tree, "does not allow other assets");
}

#[test]
fn samples_only_means_that_no_weights_leave() {
    let tree = one(r#"{"version": 1, "min_images": 20, "samples_only": true}"#);
    let log = done(&tree);
    assert!(log.contains("no weights are written") && log.contains("none is written"), "{log}");
    assert!(tree.outputs().iter().all(|name| name.starts_with("samples")), "{:?}", tree.outputs());
}

#[test]
fn the_length_of_a_training_follows_from_the_pictures() {
    let tree = one(r#"{"version": 1, "min_images": 20, "max_kimg_per_image": 0.001}"#);
    let log = done(&tree);
    assert!(log.contains("kimg is 0.03: an owner does not allow more"), "{log}");
    assert!(log.contains("done: 0.032 kimg"), "{log}");
}

#[test]
fn a_state_needs_an_owner_who_allows_it() {
    let first = one(FEW);
    done(&first);
    let second = one(r#"{"version": 1, "min_images": 20, "sealed_state": false}"#);
    let log = done(&second);
    assert!(log.contains("does not allow states"), "{log}");
    assert!(!second.outputs().contains(&"state.safetensors".to_owned()));
    let third = one(r#"{"version": 1, "min_images": 20, "sealed_state": false}"#);
    fs::copy(first.path("outputs/state.safetensors"), third.path("inputs/0")).unwrap();
    refused(&third, "does not allow states");
}

#[test]
fn names_of_classes_leave_where_the_owner_says_so() {
    for allowed in [true, false] {
        let policy = format!(r#"{{"version": 1, "min_images": 20, "class_names": {allowed}}}"#);
        let tree = one(&policy);
        for class in ["oaks", "elms"] {
            let folder = tree.path("inputs/studies").join(class);
            fs::create_dir(&folder).unwrap();
            for i in 0..20 {
                let color = image::Rgb([i, u8::from(class == "oaks"), 7]);
                image::RgbImage::from_pixel(9, 9, color)
                    .save(folder.join(format!("{i}.png")))
                    .unwrap();
            }
        }
        for i in 0..30 {
            fs::remove_file(tree.path(&format!("inputs/studies/secret{i}.png"))).unwrap();
        }
        tree.set_params(r#"{"resolution": 8, "kimg": 0.016, "batch": 8, "cond": "folders"}"#);
        let log = done(&tree);
        assert!(!log.contains("oaks"), "{log}");
        let bytes = fs::read(tree.path("outputs/generator.safetensors")).unwrap();
        assert_eq!(bytes.windows(4).any(|window| window == b"oaks"), allowed);
    }
}

#[test]
fn the_publisher_can_only_tighten() {
    let job = |tree: &Tree, policy: &str| {
        let mut job = tree.job();
        job.args(["--policy", policy]);
        ended(job)
    };
    let (code, log) = job(&one(FEW), r#"{"version": 1, "min_images": 100}"#);
    assert!(code == 2 && log.contains("at least 100 distinct ones"), "{log}");
    let (code, log) = job(&one(r#"{"version": 1}"#), FEW);
    assert!(code == 2 && log.contains("at least 200 distinct ones"), "{log}");
    let (code, log) = job(&one(FEW), r#"{"version": 1, "sealed_state": false}"#);
    assert!(code == 0 && log.contains("does not allow states"), "{log}");
    let (code, log) = job(&one(FEW), "min_images=100");
    assert!(code == 2 && log.contains("--policy"), "{log}");
}

#[test]
fn check_says_what_would_hold() {
    let check = |tree: &Tree| {
        let mut command = program();
        command.args(["check", "--data"]).arg(tree.path("inputs/studies"));
        ended(command)
    };
    let (code, log) = check(&one(r#"{"version": 1, "min_images": 25, "max_kimg_per_image": 2}"#));
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("in a job: at least 25 pictures"), "{log}");
    assert!(log.contains("in a job: at most 60 kimg"), "{log}");
    let (code, log) = check(&one(r#"{"version": 1}"#));
    assert!(code == 0 && log.contains("a job would be refused: too few pictures"), "{log}");
    let (code, log) = check(&one("{}"));
    assert!(code == 2 && log.contains("a c2d-policy.json is not as expected"), "{log}");
}
