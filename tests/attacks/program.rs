//! The program itself before all the files at once: `check`, and a whole job.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::attack::Attack;
use crate::decoders::{busy_below, descendants_of};
use crate::{NAME, counts, jpeg, pictures};

/// What the log says of the decoders.
const APART: &str = "decoding: in processes of their own (";
const REFUSED: &str = "refused are files, sockets, threads, more memory";

pub(crate) fn all(folder: &Path, attacks: &[Attack]) {
    check(folder, attacks);
    println!("test check counts what is skipped and says what decoders cannot do ... ok");
    job(folder, attacks);
    println!("test a job trains beside all of it ... ok");
    signals();
    println!("test signals and kills leave no process behind ... ok");
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stylegan2-c2d"));
    command.env_clear().stdin(Stdio::null()).process_group(0);
    command
}

/// The log, if it keeps the names.
fn log_of(output: &Output) -> String {
    let log = [output.stdout.as_slice(), &output.stderr].concat();
    let log = String::from_utf8(log).unwrap();
    assert!(!log.contains(NAME), "a name leaked:\n{log}");
    log
}

/// Asserts that each reason is in the log, and that decoders are said to be apart.
fn assert_told(log: &str, attacks: &[Attack]) {
    for (reason, _) in counts(attacks) {
        assert!(log.lines().any(|line| line.ends_with(&format!(" {reason}"))), "{reason}\n{log}");
    }
    let apart: Vec<_> = log.lines().filter(|line| line.starts_with("decoding: ")).collect();
    assert!(
        matches!(apart[..], [line] if line.starts_with(APART) && line.ends_with(REFUSED)),
        "{apart:?}"
    );
}

fn with_comma(count: usize) -> String {
    if count < 1000 {
        return count.to_string();
    }
    format!("{},{:03}", count / 1000, count % 1000)
}

fn check(folder: &Path, attacks: &[Attack]) {
    let output =
        program().args(["check", "--resolution", "8", "--data"]).arg(folder).output().unwrap();
    let log = log_of(&output);
    assert!(output.status.success(), "{log}");
    assert_told(&log, attacks);
    let num_pictures = attacks.iter().map(|attack| attack.num_loaded).sum();
    let of_reasons = counts(attacks).into_iter();
    let of_reasons = of_reasons.map(|(reason, count)| format!("  {} {reason}", with_comma(count)));
    let pictures = format!("pictures: {}", with_comma(num_pictures));
    for expected in std::iter::once(pictures).chain(of_reasons) {
        assert!(log.lines().any(|line| line == expected), "no line \"{expected}\" in:\n{log}");
    }
}

fn job(folder: &Path, attacks: &[Attack]) {
    let root = tempfile::Builder::new().prefix(NAME).tempdir().unwrap();
    let inputs = root.path().join("inputs");
    let asset = inputs.join(NAME);
    fs::create_dir_all(&asset).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        fs::hard_link(entry.path(), asset.join(entry.file_name())).unwrap();
    }
    for seed in 0..240 {
        fs::write(asset.join(format!("good{seed}")), pictures::png(seed, 9)).unwrap();
    }
    let parameters = r#"{"resolution": 8, "kimg": 0.05, "seed": 1}"#;
    fs::write(inputs.join("algoCustomData.json"), parameters).unwrap();
    let output = program().arg("--root").arg(root.path()).output().unwrap();
    let log = log_of(&output);
    assert!(output.status.success(), "{log}");
    assert_told(&log, attacks);
    assert!(log.contains("pictures: 200 to 499\n") && !log.contains("L1 not said"), "{log}");
    assert!(root.path().join("outputs/generator.safetensors").is_file());
}

/// What the program does when a signal comes while a decoder is busy, and all of its processes.
fn stopped_by(signal: &str, is_to_all: bool) -> (Child, Vec<u32>) {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("bomb"), jpeg::progressive(8192, 100)).unwrap();
    let child = program()
        .args(["check", "--data"])
        .arg(root.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while busy_below(child.id()).is_none() {
        thread::yield_now();
    }
    let all = descendants_of(child.id());
    let target = if is_to_all { format!("-{}", child.id()) } else { child.id().to_string() };
    assert!(Command::new("kill").args([signal, "--", &target]).status().unwrap().success());
    (child, all)
}

/// Waits until none of the processes is there, or is left to be collected by process 1.
fn assert_gone(pids: &[u32]) {
    let is_there = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(is_there) {
        assert!(Instant::now() < deadline, "{pids:?}");
        thread::yield_now();
    }
}

fn signals() {
    // As a keyboard sends it: to the program, the host and the decoders.
    for (signal, is_to_all) in [("-INT", true), ("-TERM", true), ("-TERM", false)] {
        let (mut child, all) = stopped_by(signal, is_to_all);
        let stopped = Instant::now();
        assert!(child.wait().unwrap().success());
        assert!(stopped.elapsed() < Duration::from_secs(8), "{:?}", stopped.elapsed());
        assert_eq!(all.len(), 2);
        for pid in all {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "left behind or not collected");
        }
    }
    let (mut child, all) = stopped_by("-KILL", false);
    child.wait().unwrap();
    assert_gone(&all);
}
