//! The process that decoders are forked from: it starts them, ends them, and says what ended them.
//!
//! It was forked before the program had threads, data or a log, so a decoder inherits nothing of
//! these. It reads no picture; its only words are [`Request`]s from the program and the first bytes
//! that a decoder leaves on stderr. It ends with the program: the kernel kills it then, and so does
//! the end of the connection.

use std::fs::{self, File};
use std::io::{self, PipeReader, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process,
    set_parent_process_death_signal, wait,
};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU};
use signal_hook::{flag, low_level};

use super::fork::{Alone, fork, keep_only};
use super::serve::serve;
use super::{Fate, Limits, confine};
use crate::ops::set_allocator_thresholds;

/// What an allocation that the limits refuse leaves on stderr (the standard library's words).
const OUT_OF_MEMORY: &[u8] = b"memory allocation of ";

/// What a decoder gives back to the system at once, and what it keeps of the rest: enough for the
/// next small picture, too little to count for those of others.
const OWN_BYTES: i32 = 8 << 20;
const KEPT_BYTES: i32 = 16 << 20;

/// A decoder that runs.
struct Decoder {
    pid: Pid,
    /// To the program, which closes it to have the decoder ended; none once that was done.
    fate: Option<UnixStream>,
    stderr: PipeReader,
}

/// Starts decoders as `control` asks for them, until it ends.
///
/// * `parent` - the program, with which this process is to end.
///
/// # Errors
/// Fails if the system refuses what this needs; the connection ends then, and the program sees that.
pub(super) fn run(alone: &Alone, control: OwnedFd, parent: Pid) -> io::Result<()> {
    die_with(parent)?;
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
        flag::register(signal, Arc::default())?; // the program's to answer
    }
    std::panic::set_hook(Box::new(|_| ()));
    silence()?;
    let control = keep_only(control);
    set_allocator_thresholds(OWN_BYTES, KEPT_BYTES);
    let inherited = address_space()?;
    let (mut ended, signalled) = io::pipe()?;
    low_level::pipe::register(SIGCHLD, signalled)?;
    confine::leave_no_file();
    let mut decoders: Vec<Decoder> = Vec::new();
    loop {
        let mut fds =
            vec![PollFd::new(&control, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
        let fates = decoders.iter().filter_map(|decoder| decoder.fate.as_ref());
        fds.extend(fates.map(|fate| PollFd::new(fate, PollFlags::RDHUP)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut closed = happened[2..].iter();
        for decoder in decoders.iter_mut().filter(|decoder| decoder.fate.is_some()) {
            if closed.next() == Some(&true) {
                decoder.fate = None;
                let _ = kill_process(decoder.pid, Signal::KILL); // it may have ended
            }
        }
        if happened[1] {
            let _ = ended.read(&mut [0; 64])?;
            reap(&mut decoders);
        }
        if happened[0] {
            let Some((limits, data, fate)) = next_request(&control)? else { break };
            // One that cannot be started is seen by the end of both connections.
            decoders.extend(start(alone, data, fate, (limits, inherited)).ok());
        }
    }
    for decoder in &decoders {
        let _ = kill_process(decoder.pid, Signal::KILL);
    }
    while let Ok(Some(_)) = wait(WaitOptions::empty()) {}
    Ok(())
}

/// Has the kernel kill this process when its parent ends.
fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // it may have ended before the call above
    if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

/// Stdin may be the log, and libraries write to the other two.
fn silence() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Bytes of the address space of this process.
fn address_space() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().next().and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// The next request with its two connections; `None` at the end.
fn next_request(control: &File) -> io::Result<Option<(Limits, OwnedFd, OwnedFd)>> {
    let mut bytes = [0; Limits::BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let buffer = &mut [io::IoSliceMut::new(&mut bytes)];
    let received = recvmsg(control, buffer, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    match (fds.pop(), fds.pop(), received.bytes) {
        (Some(fate), Some(data), Limits::BYTES) => Ok(Some((Limits::of_bytes(bytes), data, fate))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn start(
    alone: &Alone,
    data: OwnedFd,
    fate: OwnedFd,
    (limits, inherited): (Limits, u64),
) -> io::Result<Decoder> {
    let (stderr, end) = io::pipe()?;
    let host = getpid();
    let pid = fork(alone, || {
        let confined = die_with(host).and_then(|()| Ok(dup2_stderr(end.as_fd())?));
        if confined.is_ok() {
            let data = keep_only(data);
            confine::close(&data, limits, inherited);
            let _ = serve(&data, limits); // its end is the end of the connection
        }
    })?;
    Ok(Decoder { pid, fate: Some(fate.into()), stderr })
}

/// Collects the decoders that have ended, and tells the program why.
fn reap(decoders: &mut Vec<Decoder>) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        let Some(idx) = decoders.iter().position(|decoder| decoder.pid == pid) else { continue };
        let Decoder { fate, stderr, .. } = decoders.swap_remove(idx);
        if let Some(mut program) = fate {
            let _ = program.write_all(&[fate_of(status, stderr) as u8]); // it may not ask
        }
    }
}

fn fate_of(status: WaitStatus, stderr: PipeReader) -> Fate {
    match status.terminating_signal() {
        Some(SIGXCPU) => return Fate::OutOfTime,
        Some(libc::SIGKILL) => return Fate::OutOfMemory, // by the kernel: whom we kill has no fate
        _ => {}
    }
    // Nobody else can write there any more, so this does not wait.
    let mut said = Vec::new();
    let _ = stderr.take(OUT_OF_MEMORY.len() as u64).read_to_end(&mut said);
    if said == OUT_OF_MEMORY { Fate::OutOfMemory } else { Fate::Crashed }
}
