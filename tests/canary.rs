//! Nothing of a data set is in what a job leaves or says, however it ends.
//!
//! The set has marks in every place that can hold one (`canary/planted.rs`); outputs and log of each end
//! are searched for them in many forms (`canary/search.rs`). A program that leaks
//! (`canary/leaky.rs`) shows that they would be found.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use stylegan2_c2d::ops::rng::{Rng, Stream};
use tempfile::TempDir;

#[path = "canary/planted.rs"]
mod planted;
#[path = "canary/search.rs"]
mod search;

use planted::{ARCHIVE, PARAMETER, POLICY, archive};
use search::{Search, base64};

static SEARCH: LazyLock<Search> = LazyLock::new(Search::new);
const SHORT: &str = r#"{"resolution": 16, "kimg": 0.03, "batch": 8}"#;

/// A job's folders with the marked set.
struct Job {
    root: TempDir,
}

impl Job {
    fn new(policy: Option<&str>, parameters: &str) -> Self {
        let job = Self { root: tempfile::tempdir().unwrap() };
        for folder in ["inputs", "outputs"] {
            fs::create_dir(job.path(folder)).unwrap();
        }
        job.put(&format!("{ARCHIVE}.zip"), &archive(policy));
        job.put("algoCustomData.json", parameters.as_bytes());
        job
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path("inputs").join(name), bytes).unwrap();
    }

    /// The job by its launcher, not started yet.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stylegan2-c2d-job"));
        command.arg("--root").arg(self.root.path()).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end, which must be by one of these codes, and asserts that nothing is found.
    fn must_be_silent(&self, what: &str, codes: &[i32]) -> String {
        self.judge(what, codes, &self.command().output().unwrap())
    }

    fn judge(&self, what: &str, codes: &[i32], output: &Output) -> String {
        let log = [&output.stdout[..], &output.stderr].concat();
        let hits = SEARCH.hits(&self.path("outputs"), &log);
        let log = String::from_utf8_lossy(&log).into_owned();
        assert!(hits.is_empty(), "{what}: {hits:?} in:\n{log}");
        let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal));
        assert!(codes.contains(&code.unwrap()), "{what}: {code:?} of {codes:?}\n{log}");
        log
    }
}

fn policy(more: &str) -> String {
    format!(r#"{{"version": 1, "min_images": 20{more}}}"#)
}

/// The program that leaks, which is built with all tests and not with this one alone.
fn leaky() -> PathBuf {
    let leaky = Path::new(env!("CARGO_BIN_EXE_stylegan2-c2d")).with_file_name("examples/leaky");
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--example", "leaky", "--profile", profile]);
    assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    leaky
}

#[test]
fn a_program_that_leaks_is_caught() {
    let leaky = leaky();
    let kinds = ["name", "part", "hex", "utf16", "base64", "file", "numbers", "cell"];
    for kind in ["nothing"].iter().chain(&kinds) {
        let job = Job::new(Some(&policy("")), SHORT);
        let mut command = Command::new(&leaky);
        command.args([kind, "--root"]).arg(job.root.path()).env_clear();
        let output = command.env("CANDLE_GRAD_DO_NOT_DETACH", "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let hits = SEARCH.hits(&job.path("outputs"), &[output.stdout, output.stderr].concat());
        assert_eq!(hits.is_empty(), *kind == "nothing", "{kind}: {hits:?}");
    }
    assert_eq!(base64(b"Xq4exifVz10", 2), b"YcTRleGlmVnoxM", "as others encode it");
}

#[test]
fn every_end_of_a_job_is_silent() {
    let ends = |what: &str, policy: Option<&str>, parameters: &str, codes: &[i32], log: &str| {
        let said = Job::new(policy, parameters).must_be_silent(what, codes);
        assert!(said.contains(log), "{what}: expected \"{log}\" in:\n{said}");
    };
    let loose = policy("");
    ends("done", Some(&loose), SHORT, &[0], "done: ");
    let state =
        r#"{"resolution": 16, "kimg": 0.03, "batch": 8, "state": "sealed", "mirror": true}"#;
    ends("with a state", Some(&loose), state, &[0], "state.safetensors: ");
    let classes = r#"{"resolution": 16, "kimg": 0.03, "batch": 8, "cond": "labels"}"#;
    ends("labels", Some(&loose), classes, &[0], "classes: 2");
    let folders = r#"{"resolution": 16, "kimg": 0.03, "batch": 8, "cond": "folders"}"#;
    ends("folders", Some(&loose), folders, &[0], "classes: 2");
    let limited = r#"{"resolution": 16, "kimg": 1000, "max_minutes": 0.1}"#;
    ends("time limit", Some(&loose), limited, &[0], "time is up");
    let samples = policy(r#", "samples_only": true"#);
    ends("samples only", Some(&samples), SHORT, &[0], "samples only");
    let strict = policy(r#", "gate": "strict""#);
    ends("strict", Some(&strict), SHORT, &[0, 3], "audit: ");
    let many = r#"{"version": 1, "min_images": 100000}"#;
    ends("too few", Some(many), SHORT, &[2], "too few pictures");
    let broken = policy(&format!(r#", "{POLICY}": true"#));
    ends("broken policy", Some(&broken), SHORT, &[2], "c2d-policy.json is not as expected");
    let gpu = r#"{"device": "cuda"}"#;
    ends("no GPU", None, gpu, &[2], "device: expected a GPU");
    for parameters in [
        format!(r#"{{"kimg": "{PARAMETER}"}}"#),
        format!(r#"{{"{PARAMETER}": 1}}"#),
        format!(r#"{{"background": "{PARAMETER}"}}"#),
        PARAMETER.to_owned(),
        format!(r#"["{PARAMETER}"]"#),
        format!(r#"{{"kimg": {{"{PARAMETER}": 1}}}}"#),
    ] {
        ends("parameters", None, &parameters, &[2], "ERROR ");
    }
}

#[test]
fn odd_inputs_are_silent() {
    let loose = policy("");
    let with = |what: &str, codes: &[i32], change: &dyn Fn(&Job)| {
        let job = Job::new(Some(&loose), SHORT);
        change(&job);
        job.must_be_silent(what, codes);
    };
    let set = format!("{ARCHIVE}.zip");
    let bytes = archive(Some(&loose));
    with("no inputs", &[2], &|job| fs::remove_dir_all(job.path("inputs")).unwrap());
    with("no pictures", &[2], &|job| job.put(&set, WORD.as_bytes()));
    with("half", &[0, 2], &|job| job.put(&set, &bytes[..bytes.len() / 2]));
    with("a page", &[2], &|job| job.put(&set, format!("<html>{WORD}</html>").as_bytes()));
    with("stray policy", &[0, 2], &|job| job.put("c2d-policy.json", WORD.as_bytes()));
    with("broken weights", &[0, 2], &|job| job.put("generator.safetensors", WORD.as_bytes()));
    with("a file for the outputs", &[1], &|job| {
        fs::remove_dir(job.path("outputs")).unwrap();
        fs::write(job.path("outputs"), "").unwrap();
    });
    with("the set as parameters", &[2], &|job| job.put("algoCustomData.json", &bytes));
    with("labels as parameters", &[2], &|job| {
        job.put("algoCustomData.json", format!(r#"{{"labels": [["{WORD}", 0]]}}"#).as_bytes());
    });
    let first = Job::new(Some(&loose), &SHORT.replace('}', r#", "state": "sealed"}"#));
    first.must_be_silent("state", &[0]);
    let state = fs::read(first.path("outputs/state.safetensors")).unwrap();
    let longer = SHORT.replace("0.03", "0.06").replace('}', r#", "state": "sealed"}"#);
    let go_on = |what: &str, codes: &[i32], state: &[u8], more: Option<&str>| {
        let job = Job::new(Some(&loose), &longer);
        job.put("0", state);
        if let Some(more) = more {
            fs::create_dir(job.path("inputs/more")).unwrap();
            job.put("more/a.png", more.as_bytes());
        }
        job.must_be_silent(what, codes)
    };
    assert!(go_on("resumed", &[0], &state, None).contains("continues a training"));
    go_on("half a state", &[2], &state[..state.len() / 2], None);
    let mut flipped = state.clone();
    flipped[state.len() / 2] ^= 1;
    go_on("a changed state", &[2], &flipped, None);
}

/// A word of the set, where its place is of no importance.
const WORD: &str = planted::WORDS[7];

#[test]
fn signals_are_silent() {
    let endless = r#"{"resolution": 16, "snap_minutes": 0.05, "state": "sealed"}"#;
    for (i, signal) in ["-TERM", "-KILL", "-INT", "-ABRT"].iter().cycle().take(8).enumerate() {
        let job = Job::new(Some(&policy("")), endless);
        let child = job.command().spawn().unwrap();
        thread::sleep(Duration::from_millis(150 + 450 * i as u64));
        Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
        // one that comes before the program can take it ends it by itself
        job.judge(signal, &[0, 1, 130, 134, 137, 143], &child.wait_with_output().unwrap());
    }
}

/// A bit or the end of a file is lost: of the set, the policy, the parameters, the weights, the state.
#[test]
fn sixty_injected_faults_are_silent() {
    let loose = policy("");
    let first = Job::new(Some(&loose), &SHORT.replace('}', r#", "state": "sealed"}"#));
    first.must_be_silent("state", &[0]);
    let read = |name: &str| fs::read(first.path("outputs").join(name)).unwrap();
    let files = [
        (format!("{ARCHIVE}.zip"), archive(Some(&loose))),
        ("c2d-policy.json".to_owned(), policy(&format!(r#", "{POLICY}": 1"#)).into_bytes()),
        (
            "algoCustomData.json".to_owned(),
            SHORT.replace('}', &format!(r#", "{PARAMETER}": 1}}"#)).into_bytes(),
        ),
        ("0".to_owned(), read("generator.safetensors")),
        ("1".to_owned(), read("state.safetensors")),
    ];
    for i in 0..60 {
        let draw = Rng::new(5, Stream::Pictures, i);
        let (name, mut bytes) = files[i as usize % files.len()].clone();
        let at = draw.below(0, bytes.len());
        if draw.below(1, 3) == 0 {
            bytes.truncate(at);
        } else {
            // headers are at the begin and at the end
            let at = [at, at.min(at % 400), bytes.len() - 1 - at % 400.min(bytes.len())]
                [draw.below(2, 3)];
            bytes[at] ^= 1 << draw.below(3, 8);
        }
        let job = Job::new(Some(&loose), SHORT);
        job.put(&name, &bytes);
        job.must_be_silent(&format!("fault {i}"), &[0, 2, 3]);
    }
}
