//! Ends that are not the end of the training: signals and time limits. They wait for clocks, so
//! they stand apart from the other tests.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

#[path = "common/job.rs"]
mod job;

use job::{CURRENT, Tree, assert_promised_names_only, loaded, log_of};

/// Sends SIGTERM and asserts that the program ends well in time.
fn terminate(child: &mut Child) {
    let signalled = Instant::now();
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(signalled.elapsed() < Duration::from_secs(8), "{:?}", signalled.elapsed());
}

/// Reads the log up to the line that contains `text`.
fn wait_for(child: &mut Child, text: &str) {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains(text)), "no line \"{text}\"");
}

#[test]
fn sigterm_in_training_leaves_whole_outputs() {
    let tree = Tree::copy(CURRENT, true);
    tree.set_params(r#"{"resolution": 16}"#);
    let mut child = tree.job().spawn().unwrap();
    wait_for(&mut child, "kimg 0.02");
    terminate(&mut child);
    assert_promised_names_only(&tree);
    assert!(loaded(&tree).cur_nimg >= 16);
}

#[test]
fn sigterm_before_the_first_step_says_so() {
    let tree = Tree::copy(CURRENT, true);
    tree.set_params(r#"{"resolution": 256, "cfg": "auto"}"#); // a step takes minutes
    let mut child = tree.job().spawn().unwrap();
    wait_for(&mut child, "gate: finds");
    terminate(&mut child);
    let rest = log_of(&child.wait_with_output().unwrap());
    assert!(rest.contains("before the first step"), "{rest}");
    assert!(tree.outputs().is_empty());
}

#[test]
fn a_time_limit_is_kept() {
    let tree = Tree::copy(CURRENT, true);
    tree.set_params(r#"{"resolution": 8, "max_minutes": 0.2}"#);
    let start = Instant::now();
    let output = tree.job().output().unwrap();
    assert!(output.status.success(), "{}", log_of(&output));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(log_of(&output).contains("time is up"), "{}", log_of(&output));
    loaded(&tree);
}
