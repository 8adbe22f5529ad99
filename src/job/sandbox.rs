//! What a launched job cannot do: the part that it does to itself, and the proof.
//!
//! The launcher (`src/launcher`) confines this process before it starts. What is then refused depends
//! on the kernel and on the container engine, so a job tries all of it at its start, and its log says
//! what came of it.

use std::collections::BTreeMap;
use std::env::{self, consts::ARCH};
use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{DumpableBehavior, getppid, set_dumpable_behavior};
use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use tracing::{info, warn};

/// The calls that start another program, and the same in x86-64's second numbering.
const EXEC: [libc::c_long; 4] =
    [libc::SYS_execve, libc::SYS_execveat, 0x4000_0000 + 520, 0x4000_0000 + 545];
/// Files outside the job's folders that any user may read.
const READABLE: [&str; 3] = ["/etc/passwd", "/etc/group", "/etc/hostname"];
/// Folders outside the outputs that any user may write to, and the root of all.
const WRITABLE: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/"];

/// Who started this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// The launcher, which confines it.
    ByLauncher,
    /// Somebody else.
    Direct,
}

/// Lets this process start no other program and be read by no other one, if it was launched. To be
/// called before there are threads.
pub fn close(launch: Launch) {
    if launch == Launch::Direct {
        return;
    }
    // Where a kernel refuses, the report finds out.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Ok(filter) = exec_filter() {
        let _ = apply_filter(&filter);
    }
}

/// Tries what should be refused to a job on `root`, and logs what came of it in one line.
pub fn report(root: &Path, launch: Launch) {
    if launch == Launch::Direct {
        info!("sandbox: none (started without the launcher)");
        return;
    }
    let attempts = [
        ("reads outside the inputs", can_read()),
        ("writes outside the outputs", can_write(root)),
        ("sockets", can_open_socket()),
        ("ptrace", can_trace()),
        ("exec", can_execute()),
    ];
    let names = |possible: bool| {
        let names = attempts.iter().filter(|attempt| attempt.1 == possible).map(|(name, _)| *name);
        names.collect::<Vec<_>>().join(", ")
    };
    let (refused, possible) = (names(false), names(true));
    if possible.is_empty() {
        info!("sandbox: refused are {refused}");
        return;
    }
    let refused = if refused.is_empty() { "nothing" } else { &refused };
    // Files are Landlock's part, all else is seccomp's.
    let [is_read, _, is_open, ..] = attempts.map(|(_, possible)| possible);
    let missing = match (is_read, is_open) {
        (true, true) => "neither Landlock nor seccomp",
        (true, false) => "no Landlock: files are not confined",
        (false, true) => "no seccomp",
        (false, false) => "a part of it only",
    };
    warn!(
        "sandbox: partial: refused are {refused}; possible are {possible} (this kernel or container engine has {missing})"
    );
}

/// A filter under which a call of [`EXEC`] fails.
fn exec_filter() -> Result<BpfProgram, BackendError> {
    let rules: BTreeMap<_, _> = EXEC.iter().map(|call| (*call, Vec::new())).collect();
    let refusal = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refusal, ARCH.try_into()?)?.try_into()
}

fn can_read() -> bool {
    READABLE.iter().any(|path| File::open(path).is_ok()) || fs::read_dir("/").is_ok()
}

fn can_write(root: &Path) -> bool {
    let folders = WRITABLE.iter().map(Path::new);
    let mut folders = folders.map(Path::to_owned).chain([root.to_owned(), root.join("inputs")]);
    folders.any(|folder| {
        let path = folder.join(format!(".tmp-stylegan2-c2d-{}-probe", std::process::id()));
        let is_made = File::options().write(true).create_new(true).open(&path).is_ok();
        if is_made {
            let _ = fs::remove_file(&path); // what was possible counts
        }
        is_made
    })
}

fn can_open_socket() -> bool {
    ["127.0.0.1:0", "[::1]:0"].iter().any(|address| UdpSocket::bind(address).is_ok())
}

/// Whether this process can attach itself to the one that started it; it lets go again.
#[expect(unsafe_code, reason = "no safe binding of ptrace")]
fn can_trace() -> bool {
    let Some(parent) = getppid().map(|pid| pid.as_raw_nonzero().get()) else { return false };
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests read and write no memory of this process; the status may be null.
    unsafe {
        if libc::ptrace(libc::PTRACE_SEIZE, parent, nothing, nothing) != 0 {
            return false;
        }
        libc::ptrace(libc::PTRACE_INTERRUPT, parent, nothing, nothing);
        libc::waitpid(parent, std::ptr::null_mut(), libc::__WALL);
        libc::ptrace(libc::PTRACE_DETACH, parent, nothing, nothing);
    }
    true
}

/// Whether this program can start itself, whose file it may execute in any case.
fn can_execute() -> bool {
    let Ok(program) = env::current_exe() else { return false };
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}
