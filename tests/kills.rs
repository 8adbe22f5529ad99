//! A job that is killed or stopped at any moment leaves whole files that have passed the gate.
//!
//! The moments are drawn; `KILLS=200` in the environment makes it so many of each kind in place of ten.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::Device;
use serde_json::Value;
use stylegan2_c2d::model::weights::from_bytes;
use stylegan2_c2d::ops::rng::{Rng, Stream};

#[path = "common/job.rs"]
mod job;

use job::{CURRENT, Tree, assert_discreet, log_of};

/// The longest time until a signal: reading, the gate's preparation, the first files, and some later
/// ones have their turn in it.
const LONGEST: Duration = Duration::from_secs(8);
/// Images of the first step, whose weights are noise and leave without a look.
const FIRST: u64 = 16;

fn num_kills() -> u64 {
    std::env::var("KILLS").map_or(10, |text| text.parse().unwrap())
}

/// A job that does not end by itself and writes as often as one can.
fn endless() -> Tree {
    let tree = Tree::copy(CURRENT, true);
    tree.set_params(r#"{"resolution": 16, "snap_minutes": 0.05, "state": "sealed"}"#);
    tree
}

/// Sends `signal` to a job at the drawn moment number `i`.
fn signalled(tree: &Tree, signal: &str, i: u64) -> Child {
    let child = tree.job().spawn().unwrap();
    let share = Rng::new(9, Stream::Pictures, i).uniform(0);
    thread::sleep(LONGEST.mul_f64(share));
    Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
    child
}

/// Asserts that all that has a promised name is whole, and that weights are the first step's or have
/// been looked at; says after how many images the generator is.
fn judge(tree: &Tree) -> Option<u64> {
    let mut shown = None;
    for name in tree.outputs() {
        let path = tree.path("outputs").join(&name);
        assert!(path.symlink_metadata().unwrap().is_file(), "{name}");
        if path.extension().is_some_and(|extension| extension == "png") {
            image::open(&path).unwrap();
        } else if name.starts_with("generator") {
            let (header, _) = from_bytes(&fs::read(&path).unwrap(), &Device::Cpu).unwrap();
            let verdict = &header.audit["verdict"];
            let is_passed =
                ["pass", "inconclusive"].contains(&verdict.as_str().unwrap_or_default());
            let is_first = header.audit == Value::Null && header.cur_nimg == FIRST;
            assert!(is_passed || is_first, "{name} after {}: {}", header.cur_nimg, header.audit);
            shown = shown.max(Some(header.cur_nimg));
        } else {
            assert!(name == "state.safetensors", "{name}");
        }
    }
    shown
}

/// What a later job makes of the folder: files of the one before are replaced, and nothing is left over.
fn must_run_again(tree: &Tree) {
    tree.set_params(r#"{"resolution": 16, "kimg": 0.03}"#);
    let output = tree.job().output().unwrap();
    assert!(output.status.success(), "{}", log_of(&output));
    assert_eq!(judge(tree), Some(32));
    let root: Vec<_> =
        fs::read_dir(tree.path("")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(root.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{root:?}");
}

#[test]
fn kill_9_at_any_moment_leaves_whole_files() {
    let mut num_with_files = 0;
    for i in 0..num_kills() {
        let tree = endless();
        let status = signalled(&tree, "-KILL", i).wait_with_output().unwrap().status;
        assert_eq!(status.signal(), Some(9));
        num_with_files += u64::from(judge(&tree).is_some());
        if i % 5 == 0 {
            must_run_again(&tree);
        }
    }
    assert!(num_with_files > 0, "no signal came late enough");
}

#[test]
fn a_stop_at_any_moment_ends_in_time_with_whole_files() {
    let mut longest = Duration::ZERO;
    for i in 0..num_kills().div_ceil(2) {
        let tree = endless();
        let child = signalled(&tree, "-TERM", 1000 + i);
        let start = Instant::now();
        let output = child.wait_with_output().unwrap();
        longest = longest.max(start.elapsed());
        let log = log_of(&output);
        assert_discreet(&log);
        // a signal that comes before the program can take it ends it by itself
        let is_early = log.is_empty() && output.status.signal() == Some(15);
        assert!(output.status.success() || is_early, "{:?}\n{log}", output.status);
        let shown = judge(&tree);
        let is_said = log.contains("stopped") || log.contains("no outputs") || is_early;
        assert!(is_said, "{shown:?}\n{log}");
    }
    assert!(longest < Duration::from_secs(8), "{longest:?}");
}
