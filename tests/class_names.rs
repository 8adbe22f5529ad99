//! Names of classes: in the weights where somebody at home asked for it, and else nowhere.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::path::Path;

use tempfile::TempDir;

#[path = "common/job.rs"]
mod job;
#[path = "common/pictures.rs"]
mod pictures;

use job::{log_of, program};
use pictures::{png, zip};

/// What the folders are called.
const NAMES: [&str; 2] = ["Canary Oaks", "canary-größe"];

/// Few pictures are enough.
const POLICY: &str = r#"{"version": 1, "min_images": 20}"#;

/// `inputs` with one folder per class, in an archive, as a job's root.
fn folders(names: [&str; 2]) -> TempDir {
    let paths: Vec<String> = (0..40).map(|i| format!("set/{}/{i}.png", names[i / 20])).collect();
    let mut entries: Vec<_> =
        paths.iter().zip(0..).map(|(path, i)| (path.as_str(), png(i, 8))).collect();
    entries.push(("c2d-policy.json", POLICY.into()));
    root_of(&zip(&entries))
}

/// `inputs` with a `dataset.json` in an archive, where class 1 has the first pictures.
fn labelled(more: &str) -> TempDir {
    let paths: Vec<String> = (0..40).map(|i| format!("canary{i}.png")).collect();
    let labels: Vec<String> =
        (0..40).map(|i| format!(r#"["{}", {}]"#, paths[i], u32::from(i < 20))).collect();
    let json = format!(r#"{{"labels": [{}]{more}}}"#, labels.join(", "));
    let mut entries: Vec<_> =
        paths.iter().zip(0..).map(|(path, i)| (path.as_str(), png(i, 8))).collect();
    entries.push(("dataset.json", json.into_bytes()));
    entries.push(("c2d-policy.json", POLICY.into()));
    root_of(&zip(&entries))
}

fn root_of(archive: &[u8]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in ["inputs", "outputs"] {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    fs::write(root.path().join("inputs/0"), archive).unwrap();
    root
}

/// Exit code and log of a short training at home, into `out`.
fn train(root: &TempDir, out: &str, more: &[&str]) -> (Option<i32>, String) {
    train_for("0.032", root, out, more)
}

fn train_for(kimg: &str, root: &TempDir, out: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut command = program();
    command.args(["train", "--kimg", kimg, "--resolution", "8", "--batch", "8"]);
    command.args(more).arg("--data").arg(root.path().join("inputs"));
    let output = command.arg("--out").arg(root.path().join(out)).output().unwrap();
    (output.status.code(), log_of(&output))
}

/// What the header of the weights in `out` calls the classes.
fn names_in(out: &Path) -> Option<Vec<String>> {
    let bytes = fs::read(out.join("generator.safetensors")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let json = &metadata.metadata().as_ref().unwrap()["stylegan2_c2d"];
    let header: serde_json::Value = serde_json::from_str(json).unwrap();
    let names = header.as_object().unwrap().get("class_names")?;
    Some(serde_json::from_value(names.clone()).unwrap())
}

/// Asserts that no file of `out` has a part of a name in it.
fn assert_nameless(out: &Path) {
    let mut num_files = 0;
    for entry in fs::read_dir(out).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap().to_ascii_lowercase();
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let found = ["canary", "oaks", "class_names"].into_iter().find(|text| has(text));
        assert_eq!(found, None, "{}", path.display());
        num_files += 1;
    }
    assert!(num_files >= 3, "{num_files} files");
}

fn assert_discreet(log: &str) {
    assert!(!log.to_lowercase().contains("canary") && !log.contains("Oaks"), "{log}");
}

#[test]
fn without_the_flag_no_output_has_a_name() {
    let folder_set = folders(NAMES);
    let json_set = labelled(r#", "class_names": ["canary oak", "canary elm"]"#);
    for (root, cond) in [(folder_set, "folders"), (json_set, "labels")] {
        let (code, log) = train(&root, "out", &["--cond", cond, "--state", "plain"]);
        assert_eq!(code, Some(0), "{log}");
        assert_discreet(&log);
        assert!(root.path().join("out/state.safetensors").is_file());
        assert_nameless(&root.path().join("out"));

        let json = format!(r#"{{"resolution": 8, "kimg": 0.016, "cond": "{cond}"}}"#);
        fs::write(root.path().join("inputs/algoCustomData.json"), json).unwrap();
        let output = program().arg("--root").arg(root.path()).output().unwrap();
        assert!(output.status.success(), "{}", log_of(&output));
        assert_discreet(&log_of(&output));
        assert_nameless(&root.path().join("outputs"));
    }
}

#[test]
fn a_job_cannot_ask_for_names() {
    let root = folders(NAMES);
    let json = r#"{"resolution": 8, "kimg": 0.016, "cond": "folders", "class_names": true}"#;
    fs::write(root.path().join("inputs/algoCustomData.json"), json).unwrap();
    let output = program().arg("--root").arg(root.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", log_of(&output));
    assert!(log_of(&output).contains("1 keys are not among them"), "{}", log_of(&output));
    assert_eq!(fs::read_dir(root.path().join("outputs")).unwrap().count(), 0);
}

/// The pictures decide the numbers, and the names follow them.
#[test]
fn names_of_folders_stand_by_the_numbers_of_their_classes() {
    let names = |names: [&str; 2]| {
        let root = folders(names);
        let (code, log) = train(&root, "out", &["--cond", "folders", "--class-names"]);
        assert_eq!(code, Some(0), "{log}");
        assert_discreet(&log);
        names_in(&root.path().join("out")).unwrap()
    };
    let ordered = names(NAMES);
    let mut sorted = ordered.clone();
    sorted.sort();
    assert_eq!(sorted, NAMES);
    let swapped = names([NAMES[1], NAMES[0]]);
    assert_eq!(swapped, [ordered[1].as_str(), ordered[0].as_str()]);
}

#[test]
fn names_of_dataset_json_are_kept_also_when_a_training_goes_on() {
    let root = labelled(r#", "class_names": ["canary oak", "canary elm"]"#);
    let asked = ["--cond", "labels", "--state", "plain"];
    let (code, log) = train(&root, "first", &[&asked[..], &["--class-names"]].concat());
    assert_eq!(code, Some(0), "{log}");
    assert_discreet(&log);
    assert_eq!(names_in(&root.path().join("first")).unwrap(), ["canary oak", "canary elm"]);

    let state = root.path().join("first/state.safetensors").display().to_string();
    assert_eq!(fs::read(&state).unwrap().windows(6).position(|bytes| bytes == b"canary"), None);
    let resumed = |out: &str, more: &[&str]| {
        let args = [&asked[..], &["--resume", &state], more].concat();
        let (code, log) = train_for("0.064", &root, out, &args);
        assert_eq!(code, Some(0), "{log}");
        assert_discreet(&log);
        names_in(&root.path().join(out))
    };
    assert_eq!(resumed("second", &["--class-names"]).unwrap(), ["canary oak", "canary elm"]);
    assert_eq!(resumed("third", &[]), None);
}

#[test]
fn generate_takes_a_name() {
    let root = labelled(r#", "class_names": ["oak", "elm"]"#);
    let (code, log) = train(&root, "out", &["--cond", "labels", "--class-names"]);
    assert_eq!(code, Some(0), "{log}");
    let generate = |class: &str| {
        let mut command = program();
        command.args(["generate", "--seeds", "1", "--class", class, "--device", "cpu"]);
        command.arg("--weights").arg(root.path().join("out/generator.safetensors"));
        let output = command.arg("--out").arg(root.path().join(class)).output().unwrap();
        (output.status.code(), log_of(&output))
    };
    let picture = |class: &str| {
        let (code, log) = generate(class);
        assert_eq!(code, Some(0), "{log}");
        fs::read(root.path().join(class).join("seed0001.png")).unwrap()
    };
    assert!(picture("elm") == picture("1") && picture("oak") == picture("0"));
    let (code, log) = generate("ash");
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("0 to 1 or oak, elm, came \"ash\""), "{log}");
}

#[test]
fn names_that_are_not_there_or_not_fit_are_refused() {
    let flag = |cond| ["--class-names", "--cond", cond];
    let none = "no class names found";
    let bad = "class names are not as expected";
    for (root, cond, expected) in [
        (folders(NAMES), "false", none),
        (labelled(""), "labels", none),
        (labelled(r#", "class_names": ["canary oak"]"#), "labels", bad),
        (labelled(r#", "class_names": ["canary oak", "canary oak"]"#), "labels", bad),
        (labelled(r#", "class_names": ["canary oak", "canary\u001b[2J"]"#), "labels", bad),
        (labelled(r#", "class_names": {"canary oak": 0}"#), "labels", bad),
        (folders([&"canary".repeat(11), "b"]), "folders", bad),
    ] {
        let (code, log) = train(&root, "out", &flag(cond));
        assert!(code == Some(2) && log.contains(expected), "{cond}: {log}");
        assert_discreet(&log);
        // what nobody asks for may be anything
        let (code, log) = train(&root, "out", &["--cond", cond]);
        assert_eq!(code, Some(0), "{log}");
    }
}
