//! The program as a child: started confined, signalled, waited for.

use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process,
    set_parent_process_death_signal, wait,
};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::calls;
use crate::files::{self, Folders};

/// The program, running.
pub(crate) struct Worker {
    pid: Pid,
    signals: Signals,
    /// See [`files::pin`].
    _threads: Option<std::fs::File>,
}

/// Where the program's output arrives.
pub(crate) struct Pipes {
    /// Its log.
    pub(crate) log: PipeReader,
    /// Its stdout and stderr, on which only libraries write.
    pub(crate) noise: PipeReader,
}

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Code(u8),
    /// By a signal that was passed on before it had a handler.
    Stopped,
    /// By another signal.
    Killed(i32),
}

impl End {
    /// The exit code that says so.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code @ 0..=2) => code,
            Self::Stopped => 0,
            Self::Code(_) | Self::Killed(_) => 1,
        }
    }
}

impl Worker {
    /// Starts `command`, which is `program`, confined to `folders`. Its log arrives by what is its
    /// stdin: the one stream on which no library writes.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub(crate) fn start(
        mut command: Command,
        program: &Path,
        folders: &Folders,
    ) -> io::Result<(Self, Pipes)> {
        let signals = Signals::new([SIGTERM, SIGINT, SIGCHLD])?; // first, so that none is missed
        let (log, log_end) = io::pipe()?;
        let (noise, noise_end) = io::pipe()?;
        command.stdin(Stdio::from(log_end));
        command.stdout(Stdio::from(noise_end.try_clone()?)).stderr(Stdio::from(noise_end));
        confine(&mut command, program.to_owned(), folders);
        let child = command.spawn()?;
        let threads = files::pin(child.id()).ok();
        let worker = Self { pid: Pid::from_child(&child), signals, _threads: threads };
        Ok((worker, Pipes { log, noise })) // the command's ends of the pipes are closed here
    }

    /// Passes signals on until the program has ended; ends other children without further ado, as
    /// process 1 must.
    ///
    /// # Errors
    /// Fails if there is nothing to wait for.
    pub(crate) fn wait(mut self) -> io::Result<End> {
        let mut passed_on = Vec::new();
        loop {
            if let Some(status) = reap(self.pid)? {
                return Ok(end(status, &passed_on));
            }
            for signal in self.signals.wait() {
                let passed = match signal {
                    SIGTERM => Signal::TERM,
                    SIGINT => Signal::INT,
                    _ => continue,
                };
                passed_on.push(signal);
                let _ = kill_process(self.pid, passed); // it may have ended
            }
        }
    }
}

/// What happens between fork and exec.
#[expect(unsafe_code, reason = "the only way to have the child confined and not this process")]
fn confine(command: &mut Command, program: std::path::PathBuf, folders: &Folders) {
    let launcher = getpid();
    let filter = calls::filter();
    let folders = folders.clone();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(launcher) {
            return Err(io::ErrorKind::BrokenPipe.into()); // it died before the call above
        }
        // As far as the kernel goes along: the program tries what is refused, and says so.
        let _ = files::restrict(&program, &folders);
        if let Ok(filter) = &filter {
            let _ = calls::restrict(filter);
        }
        Ok(())
    };
    // SAFETY: this process has one thread, so the child holds no lock and may allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Collects every child that has ended; the status of `pid` if it is among them.
fn reap(pid: Pid) -> io::Result<Option<WaitStatus>> {
    while let Some((ended, status)) = wait(WaitOptions::NOHANG)? {
        if ended == pid {
            return Ok(Some(status));
        }
    }
    Ok(None)
}

fn end(status: WaitStatus, passed_on: &[i32]) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Code(u8::try_from(code).unwrap_or(1)),
        (None, Some(signal)) if passed_on.contains(&signal) => End::Stopped,
        (None, signal) => End::Killed(signal.unwrap_or_default()),
    }
}
