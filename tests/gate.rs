//! The gate in a job: what it says, what it holds back, and who decides how strict it is.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::process::Output;

#[path = "common/job.rs"]
mod job;

use job::{CURRENT, Tree, assert_promised_names_only, loaded, log_of, program};
use serde_json::Value;

/// Pictures of one color each: nothing in them can be found again, so no audit can pass.
fn flat(level: &str) -> (Tree, Output) {
    let tree = Tree::copy(CURRENT, false);
    let policy = format!(r#"{{"version": 1, "min_images": 20, "gate": "{level}"}}"#);
    tree.add_asset("flat", 30, &policy);
    tree.set_params(r#"{"resolution": 8, "kimg": 0.1}"#);
    let output = tree.job().output().unwrap();
    assert_promised_names_only(&tree);
    (tree, output)
}

#[test]
fn a_strict_owner_s_weights_leave_only_past_an_audit() {
    let (tree, output) = flat("strict");
    let log = log_of(&output);
    assert_eq!(output.status.code(), Some(3), "{log}");
    assert!(log.contains("audit: ") && log.contains(": inconclusive, "), "{log}");
    assert!(log.contains("WARN the weights of the moment are held back"), "{log}");
    assert!(log.contains("no trained weights leave; ask for fewer kimg"), "{log}");
    let header = loaded(&tree);
    assert_eq!((header.cur_nimg, &header.audit), (16, &Value::Null), "those of the first step");
    assert!(tree.outputs().contains(&"samples.png".to_owned()));
}

#[test]
fn what_nobody_can_tell_leaves_and_says_so() {
    for level in ["withhold", "report"] {
        let (tree, output) = flat(level);
        assert!(output.status.success(), "{}", log_of(&output));
        let header = loaded(&tree);
        assert_eq!((header.cur_nimg, &header.audit["verdict"]), (112, &"inconclusive".into()));
    }
}

/// What is in the header is what the command at home finds, on the same pictures.
#[test]
fn the_owner_can_look_as_well() {
    let tree = Tree::copy(CURRENT, true);
    tree.set_params(r#"{"resolution": 16, "kimg": 0.05, "seed": 5}"#);
    let output = tree.job().output().unwrap();
    assert!(output.status.success(), "{}", log_of(&output));
    let header = loaded(&tree);
    assert_eq!((&header.audit["verdict"], &header.audit["samples"]), (&"pass".into(), &640.into()));
    let audit = |held_out: Option<&str>| {
        let mut audit = program();
        audit.args(["audit", "--json", "--seed", "5"]);
        audit.arg("--weights").arg(tree.path("outputs/generator.safetensors"));
        audit.arg("--data").arg(tree.path("inputs/more-pictures.zip"));
        audit.args(held_out.iter().flat_map(|path| ["--held-out".into(), tree.path(path)]));
        let output = audit.output().unwrap();
        assert!(output.status.success(), "{}", log_of(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(audit(None), header.audit);
    assert_eq!(
        audit(Some("inputs/more-pictures.zip")),
        header.audit,
        "nothing is nearer than these"
    );
}

#[test]
fn what_is_held_out_must_be_enough_to_tell() {
    let tree = Tree::copy(CURRENT, true);
    tree.set_params(r#"{"resolution": 8, "kimg": 0.02}"#);
    assert!(tree.job().output().unwrap().status.success());
    tree.add_asset("few", 20, "{}");
    for (held_out, message) in [
        ("inputs/few", "--held-out: expected 100 pictures or more, came 20; fewer cannot tell"),
        ("inputs/none", "no such file or folder"),
    ] {
        let mut audit = program();
        audit.arg("audit").arg("--weights").arg(tree.path("outputs/generator.safetensors"));
        audit.arg("--data").arg(tree.path("inputs/more-pictures.zip"));
        let output = audit.arg("--held-out").arg(tree.path(held_out)).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", log_of(&output));
        assert!(log_of(&output).contains(message), "{}", log_of(&output));
    }
}
