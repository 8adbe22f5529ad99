//! The launcher: what it keeps from the program, what it lets through, how both end.
//!
//! Beside the real program it starts one in C that tries everything (`common/worker.c`).

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[path = "common/job.rs"]
mod job;

use job::{CURRENT, Tree, assert_discreet, assert_promised_names_only, loaded, log_of};

/// What a job says where all is enforced.
const FULL: &str = "sandbox: refused are reads outside the inputs, writes outside the outputs, \
                    sockets, ptrace, exec";
const SHORT: &str = r#"{"resolution": 8, "kimg": 0.1, "seed": 1}"#;

/// The launcher with the other program, on a tree that tells it what to do; not started yet.
fn launcher(tree: &Tree, act: &str) -> Command {
    fs::write(tree.path("inputs/act"), act).unwrap();
    let folder = tree.path("bin");
    fs::create_dir(&folder).unwrap();
    let launcher = folder.join("stylegan2-c2d-job");
    fs::copy(env!("CARGO_BIN_EXE_stylegan2-c2d-job"), &launcher).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/worker.c");
    let compiled = Command::new("cc")
        .args(["-O1", "-pthread", "-o"])
        .args([folder.join("stylegan2-c2d"), source])
        .status()
        .unwrap();
    assert!(compiled.success());
    let mut command = Command::new(launcher);
    command.env_clear().arg("--root").arg(tree.path(""));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the other program leaves to be seen of `act`.
fn seen(act: &str) -> Output {
    launcher(&Tree::copy(CURRENT, false), act).output().unwrap()
}

/// Reads the line with the number of a program that waits.
fn pid_of(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.split(' ').nth(1).unwrap().to_owned()
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

/// Whether this kernel confines files; where it does not, the log must say so.
fn has_landlock(log: &str) -> bool {
    let says_no = log.contains("no Landlock") || log.contains("neither Landlock");
    assert!(says_no || log.contains(FULL), "{log}");
    !says_no
}

#[test]
fn a_launched_job_is_confined_and_says_so() {
    let tree = Tree::copy(CURRENT, true);
    tree.set_params(SHORT);
    tree.make_inputs_read_only();
    let output = tree.launched_as_node_user().output().unwrap();
    let log = log_of(&output);
    assert!(output.status.success(), "{log}");
    has_landlock(log.lines().next().unwrap());
    assert!(output.stderr.is_empty());
    assert_discreet(&log);
    assert!(log.contains("pictures: 200 to 499"), "{log}");
    let apart: Vec<_> = log.lines().filter(|line| line.contains("decoding: ")).collect();
    let refused = "refused are files, sockets, threads, more memory";
    assert!(matches!(apart[..], [line] if line.ends_with(refused)), "{apart:?}");
    assert!(!log.contains("left out are"), "{log}");
    assert_promised_names_only(&tree);
    loaded(&tree);
    assert!(!tree.path(".tmp-stylegan2-c2d").exists());
}

#[test]
fn variables_change_no_byte_of_the_outputs() {
    let run = |variables: &[(&str, &str)]| {
        let tree = Tree::copy(CURRENT, true);
        tree.set_params(SHORT);
        let output = tree.launched_as_node_user().envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", log_of(&output));
        ["generator.safetensors", "generator-best.safetensors", "samples.png"]
            .map(|name| fs::read(tree.path("outputs").join(name)).unwrap())
    };
    let hostile = [
        ("CUDA_INJECTION64_PATH", "/data/inputs/x.so"),
        ("CUDA_ENABLE_COREDUMP_ON_EXCEPTION", "1"),
        ("CUDA_COREDUMP_FILE", "/data/outputs/core"),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "full"),
        ("RUST_MIN_STACK", "9000000000000000"),
        ("RAYON_NUM_THREADS", "1"),
        ("TMPDIR", "/data/outputs"),
        ("HOME", "/data/outputs"),
        ("MALLOC_PERTURB_", "165"),
        ("GLIBC_TUNABLES", "glibc.malloc.perturb=165:glibc.cpu.hwcaps=-AVX2,-AVX512F"),
    ];
    assert!(run(&[]) == run(&hostile));
}

#[test]
fn a_program_without_its_sandbox_says_what_is_possible() {
    let tree = Tree::copy(CURRENT, false);
    tree.set_params("[]");
    let (mut log, end) = std::io::pipe().unwrap();
    let mut job = tree.job();
    let status = job.arg("--launched").stdin(end).status().unwrap();
    drop(job); // and with it the pipe's end
    assert_eq!(status.code(), Some(2));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut log, &mut text).unwrap();
    let line = text.lines().next().unwrap();
    assert!(line.starts_with("WARN sandbox: partial: refused are "), "{line}");
    let (refused, possible) = line.split_once("; possible are ").unwrap();
    assert!(refused.ends_with("exec"), "{line}"); // the program's own part
    for expected in ["reads outside the inputs, writes outside the outputs", "sockets", "neither"] {
        assert!(possible.contains(expected), "{line}");
    }
    let direct = log_of(&tree.job().output().unwrap());
    assert!(direct.starts_with("sandbox: none (started without the launcher)\n"), "{direct}");
}

#[test]
fn what_the_program_is_given_and_refused() {
    let tree = Tree::copy(CURRENT, false);
    let output = launcher(&tree, "report")
        .env("DIDS", "[\"17ab\"]")
        .env("NVIDIA_VISIBLE_DEVICES", "$(x)")
        .env("TMPDIR", "/data/outputs")
        .output()
        .unwrap();
    let log = log_of(&output) + &fs::read_to_string(tree.path("outputs/report")).unwrap();
    let variables: Vec<&str> =
        log.lines().filter_map(|line| line.strip_prefix("variable ")).collect();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut sorted = variables.clone();
    sorted.sort_unstable();
    let libraries = "LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64";
    assert_eq!(sorted, ["CUDA_CACHE_DISABLE=1", "DIDS=[\"17ab\"]", libraries, path]);
    assert!(log.contains("WARN the variable NVIDIA_VISIBLE_DEVICES is left out"), "{log}");
    assert!(log.contains("limits: core 0, size 16, files "), "{log}");
    let (denied, not_permitted) = ("Permission denied", "Operation not permitted");
    let allowed = [
        "read an input",
        "list the inputs",
        "read the memory's size",
        "make an output",
        "read an output",
    ];
    let allowed = [&allowed[..], &["name a thread", "rename it", "socket AF_UNIX"]].concat();
    for what in allowed {
        assert!(log.contains(&format!("{what}: done\n")), "{what} in:\n{log}");
    }
    for what in ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "by its other number"] {
        let line = if what.starts_with("AF") { format!("socket {what}") } else { what.to_owned() };
        assert!(log.contains(&format!("{line}: {not_permitted}\n")), "{what} in:\n{log}");
    }
    for what in ["ptrace", "process_vm_readv", "io_uring_setup"] {
        assert!(log.contains(&format!("{what}: {not_permitted}\n")), "{what} in:\n{log}");
    }
    if !log.contains("another program: ") {
        return; // without Landlock it has become that program
    }
    for what in [
        "read a log of the node",
        "list the root",
        "read the users",
        "read the launcher's variables",
        "write an input",
        "make an input",
        "make a file in the root",
        "make a link",
        "make a folder",
        "make a pipe",
        "move an input",
        "link an input",
        "another program",
    ] {
        let lines = [denied, not_permitted, "Invalid cross-device link"];
        let is_refused = lines.iter().any(|error| log.contains(&format!("{what}: {error}\n")));
        assert!(is_refused, "{what} in:\n{log}");
    }
    assert_eq!(tree.outputs(), ["new", "renamed", "report"]);
}

#[test]
fn outputs_that_lead_elsewhere_are_not_written() {
    let tree = Tree::copy(CURRENT, false);
    fs::remove_dir(tree.path("outputs")).unwrap();
    symlink("inputs", tree.path("outputs")).unwrap();
    let output = launcher(&tree, "elsewhere").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", log_of(&output));
}

#[test]
fn only_lines_of_the_log_pass() {
    let output = seen("noise");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "done: 1 kimg\ndone: 2 kimg\nlog: left out are 8 lines that are not of its form, and 0 that nobody read in \
         time\n"
    );
    assert!(output.stderr.is_empty());
    assert!(output.status.success());
}

#[test]
fn a_flood_is_cut() {
    let output = seen("flood");
    let log = String::from_utf8(output.stdout).unwrap();
    let num = log.lines().filter(|line| line.len() == 90).count();
    assert!((500..5000).contains(&num), "{num}");
    assert!(log.lines().last().unwrap().starts_with("log: left out are "), "{log}");
}

#[test]
fn nobody_has_to_read_the_log() {
    let tree = Tree::copy(CURRENT, false);
    let start = Instant::now();
    let mut child = launcher(&tree, "flood").spawn().unwrap();
    let stdout = child.stdout.take(); // open and never read
    assert!(child.wait().unwrap().success());
    drop(stdout);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn exit_codes_pass() {
    for (code, expected) in [(0, 0), (1, 1), (2, 2), (101, 1)] {
        let output = seen(&format!("exit {code}"));
        assert_eq!(output.status.code(), Some(expected), "{}", log_of(&output));
    }
    let output = seen("kill");
    assert_eq!(output.status.code(), Some(1));
    assert!(log_of(&output).starts_with("ERROR killed by signal 9, most likely"), "{output:?}");
}

#[test]
fn signals_are_passed_on() {
    for (act, expected) in
        [("wait", "done: 9 kimg"), ("deaf", "stopped by a signal before it began")]
    {
        let tree = Tree::copy(CURRENT, false);
        let mut child = launcher(&tree, act).spawn().unwrap();
        pid_of(&mut child);
        signal("-TERM", &child.id().to_string());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(log_of(&output).trim(), expected);
    }
}

#[test]
fn the_program_does_not_outlive_its_launcher() {
    let tree = Tree::copy(CURRENT, false);
    let mut child = launcher(&tree, "wait").spawn().unwrap();
    let pid = pid_of(&mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let stat = Path::new("/proc").join(pid).join("stat");
    let deadline = Instant::now() + Duration::from_secs(10);
    // gone, or left to be collected
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "it is still there");
        std::thread::yield_now();
    }
}

#[test]
fn commands_for_home_take_its_place() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stylegan2-c2d-job"));
    let output = command.arg("--version").env("RUST_LOG", "trace").output().unwrap();
    assert!(output.status.success());
    assert!(log_of(&output).starts_with("stylegan2-c2d "), "{output:?}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stylegan2-c2d-job"));
    let output = command.args(["--threads", "many"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(log_of(&output).contains("many"), "{output:?}");
}

#[test]
fn a_launcher_alone_says_so() {
    let tree = Tree::copy(CURRENT, false);
    let mut command = launcher(&tree, "report");
    fs::remove_file(tree.path("bin/stylegan2-c2d")).unwrap();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(log_of(&output).starts_with("ERROR the launcher cannot start the program"));
}
