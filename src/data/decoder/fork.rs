//! Processes made by fork, which share what was in memory and go on with a function of ours.
//!
//! An exec is refused to a job, so nothing else can start one. A fork takes one thread along: what
//! the others were in the middle of stays so for ever in the copy, locks included. Hence [`Alone`].

use std::fs::{self, File};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::Pid;

/// What says for each thread of this process that it is there.
const THREADS: &str = "/proc/self/task";
/// Above this no descriptor is looked for where the kernel cannot close a range of them.
const MAX_FDS: RawFd = 4096;

/// Shown by a process of one thread; whoever holds it starts no other.
pub(super) struct Alone(PhantomData<*const ()>);

impl Alone {
    /// Looks at this process.
    ///
    /// # Errors
    /// Fails if there is more than one thread, or if that cannot be seen.
    pub(super) fn check() -> io::Result<Self> {
        match fs::read_dir(THREADS)?.count() {
            1 => Ok(Self(PhantomData)),
            _ => Err(io::Error::other("expected one thread, came several")),
        }
    }
}

/// Runs `body` in a copy of this process, which is [`Alone`] and ends with it, whatever comes of it.
///
/// # Errors
/// Fails if there can be no more processes.
#[expect(unsafe_code, reason = "no safe binding of fork")]
pub(super) fn fork(_: &Alone, body: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: there is one thread, so the copy is whole: nobody holds a lock in it.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let _ = catch_unwind(AssertUnwindSafe(body));
        // SAFETY: nothing is done at this exit, since all of it is the first process's to do.
        unsafe { libc::_exit(0) }
    }
    if pid > 0 { Pid::from_raw(pid) } else { None }.ok_or_else(io::Error::last_os_error)
}

/// Closes all that this process has open but stdin, stdout, stderr and `kept`.
///
/// To be called by a forked process that will use nothing of what it has inherited, nor drop it.
#[expect(unsafe_code, reason = "owners of the descriptors are left behind")]
pub(super) fn keep_only(kept: OwnedFd) -> File {
    let kept = kept.into_raw_fd();
    for (first, last) in [(3, kept - 1), (kept + 1, RawFd::MAX)] {
        if first > last {
            continue;
        }
        // SAFETY: see above; close returns an error where nothing is open.
        unsafe {
            if libc::syscall(libc::SYS_close_range, first, last, 0) != 0 {
                (first..=last.min(MAX_FDS)).for_each(|fd| {
                    libc::close(fd);
                });
            }
        }
    }
    // SAFETY: it was taken from its owner above.
    unsafe { File::from_raw_fd(kept) }
}
