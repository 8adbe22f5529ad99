//! What a decoder cannot do: the limits it is put under, and the proof.
//!
//! It keeps one connection, by which pictures come and pixels go. Landlock leaves it no file and no
//! network, seccomp a short list of system calls, limits of the process its memory and its time. A
//! kernel may lack some of that, so a decoder also tries what is refused, and the log says so.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::thread;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, Scope};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

use super::Limits;

/// Calls that memory, time and the end of a process need, and that say nothing to anybody.
const ALLOWED: [libc::c_long; 17] = [
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
];

/// What a decoder tries, each a bit of what it answers.
pub(super) const ATTEMPTS: [&str; 4] = ["files", "sockets", "threads", "more memory"];

/// Lets this process, and all that it forks, reach no file, no network and no process beside them.
/// As far as the kernel goes along.
pub(super) fn leave_no_file() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = set(Resource::Core, 0);
    let _ = landlock();
}

fn landlock() -> Result<(), RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()?;
    Ok(())
}

/// Bounds the memory of this process, its descriptors and its calls; it may use `data` and write to
/// stderr.
///
/// * `inherited` - address space that was there before any picture.
pub(super) fn close(data: &File, limits: Limits, inherited: u64) {
    // Of files there are none to write to, and none to come.
    for (resource, limit) in [
        (Resource::As, limits.address_space(inherited)),
        (Resource::Fsize, 0),
        (Resource::Nofile, 0),
        (Resource::Nproc, 0),
    ] {
        let _ = set(resource, limit);
    }
    if let Ok(filter) = filter(data.as_raw_fd()) {
        let _ = apply_filter(&filter);
    }
}

/// Gives this process so much time of a processor from now on; then a signal ends it.
pub(super) fn allow_seconds(seconds: u64) {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec as u64;
    let limit = Rlimit { current: Some(used + 1 + seconds), maximum: None };
    let _ = setrlimit(Resource::Cpu, limit);
}

fn set(resource: Resource, limit: u64) -> rustix::io::Result<()> {
    setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
}

/// Everything else fails. Memory is never executable, the connection is the only one read.
fn filter(data: RawFd) -> Result<BpfProgram, BackendError> {
    let is = |arg, op, value| SeccompCondition::new(arg, SeccompCmpArgLen::Dword, op, value);
    let only = |condition| SeccompRule::new(vec![condition]);
    let fd = |fd: RawFd| only(is(0, SeccompCmpOp::Eq, fd as u64)?);
    let no_code = || only(is(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0)?);
    let own = |pid: u64| only(is(0, SeccompCmpOp::Eq, pid)?);
    let mut rules: BTreeMap<_, _> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_read, vec![fd(data)?]);
    rules.insert(libc::SYS_write, vec![fd(data)?, fd(libc::STDERR_FILENO)?]);
    rules.insert(libc::SYS_writev, vec![fd(data)?, fd(libc::STDERR_FILENO)?]);
    rules.insert(libc::SYS_mmap, vec![no_code()?]);
    rules.insert(libc::SYS_mprotect, vec![no_code()?]);
    rules.insert(libc::SYS_prlimit64, vec![own(0)?]);
    rules.insert(libc::SYS_tgkill, vec![own(u64::from(std::process::id()))?]); // to abort
    let refusal = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refusal, SeccompAction::Allow, ARCH.try_into()?)?.try_into()
}

/// What this process could do, a bit for each of [`ATTEMPTS`].
pub(super) fn attempt(limits: Limits) -> u8 {
    const READABLE: [&str; 4] = ["/etc/passwd", "/proc/self/status", "/dev/null", "."];
    const WRITABLE: [&str; 3] = ["/tmp", "/dev/shm", "."];
    let probe = |folder: &&str| {
        let path = format!("{folder}/.tmp-stylegan2-c2d-decoder-probe");
        let is_made = File::options().write(true).create_new(true).open(&path).is_ok();
        is_made.then(|| fs::remove_file(path)).is_some()
    };
    let files = READABLE.iter().any(|path| File::open(path).is_ok()) || WRITABLE.iter().any(probe);
    let sockets = UnixDatagram::unbound().is_ok() || UdpSocket::bind("127.0.0.1:0").is_ok();
    let threads = thread::Builder::new().spawn(|| ()).is_ok();
    let memory = Vec::<u8>::new().try_reserve_exact(limits.memory as usize).is_ok();
    let possible = [files, sockets, threads, memory];
    possible.iter().rev().fold(0, |bits, is_possible| bits << 1 | u8::from(*is_possible))
}
