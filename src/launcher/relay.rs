//! From the program's pipes to stdout: lines of the log's form, and nothing else.
//!
//! The pipes are always read, so the program never waits for whoever reads the log: lines that
//! nobody takes are lost, and counted.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::lines::Lines;
use crate::worker::Pipes;

/// Lines that may wait for a reader of stdout.
const MAX_WAITING: usize = 2000;
/// Stack of a thread; where none is said, a variable of the environment would.
const STACK_BYTES: usize = 256 << 10;
/// How long the last lines may take once the program has ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lines that did not come through, in all.
#[derive(Clone, Copy, Default)]
struct Missing {
    /// By their form, or too many.
    num_refused: u64,
    /// For want of a reader.
    num_lost: u64,
}

/// The threads that read and write.
pub(crate) struct Relay {
    queue: SyncSender<Vec<u8>>,
    /// What each reading thread says at its end.
    missing: Receiver<Missing>,
    /// Closed when all is written.
    written: Receiver<()>,
}

impl Relay {
    /// Reads `pipes` from now on.
    ///
    /// # Errors
    /// Fails if there can be no more threads.
    pub(crate) fn start(pipes: Pipes) -> io::Result<Self> {
        let (queue, lines) = sync_channel(MAX_WAITING);
        let (report, missing) = channel();
        let (end, written) = channel::<()>();
        spawn(move || {
            write_all(&lines);
            drop(end);
        })?;
        let (log_queue, log_report) = (queue.clone(), report.clone());
        // Whoever listens to a report may have given up.
        spawn(move || log_report.send(pass_on(pipes.log, &log_queue)).unwrap_or_default())?;
        spawn(move || report.send(count(pipes.noise)).unwrap_or_default())?;
        Ok(Self { queue, missing, written })
    }

    /// A line of the launcher's own.
    pub(crate) fn say(&self, line: &str) {
        let _ = self.queue.try_send(format!("{line}\n").into_bytes()); // lost where nobody reads
    }

    /// Waits for what is on its way, and says `last` and what is missing.
    pub(crate) fn finish(self, last: Option<String>) {
        let deadline = Instant::now() + PATIENCE;
        let left = || deadline.saturating_duration_since(Instant::now());
        let (mut num_refused, mut num_lost) = (0, 0);
        while let Ok(missing) = self.missing.recv_timeout(left()) {
            num_refused += missing.num_refused;
            num_lost += missing.num_lost;
        }
        if num_refused + num_lost > 0 {
            self.say(&format!(
                "log: left out are {num_refused} lines that are not of its form, and {num_lost} that \
                 nobody read in time"
            ));
        }
        if let Some(last) = last {
            self.say(&last);
        }
        drop(self.queue);
        let _ = self.written.recv_timeout(left() + PATIENCE);
    }
}

/// A line where there is no relay.
pub(crate) fn say_last(line: &str) {
    if let Some(mut stdout) = stdout() {
        let _ = stdout.write(format!("{line}\n").as_bytes());
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().stack_size(STACK_BYTES).spawn(work).map(drop)
}

/// Stdout without the standard library's buffer, so that each line is one write.
fn stdout() -> Option<File> {
    io::stdout().as_fd().try_clone_to_owned().ok().map(File::from)
}

fn write_all(lines: &Receiver<Vec<u8>>) {
    let mut stdout = stdout();
    for line in lines {
        if let Some(stdout) = &mut stdout {
            let _ = stdout.write(&line); // lost where stdout is closed
        }
    }
}

/// Puts lines of the log's form into the queue, until the pipe is closed.
fn pass_on(mut pipe: PipeReader, queue: &SyncSender<Vec<u8>>) -> Missing {
    let mut lines = Lines::new(Instant::now());
    let mut num_lost = 0;
    let mut bytes = [0; 4096];
    while let Ok(num @ 1..) = pipe.read(&mut bytes) {
        for line in lines.push(&bytes[..num], Instant::now()) {
            num_lost += u64::from(queue.try_send(line).is_err());
        }
    }
    Missing { num_refused: lines.finish(), num_lost }
}

/// Counts lines, until the pipe is closed.
fn count(mut pipe: PipeReader) -> Missing {
    let (mut num_refused, mut is_open) = (0, false);
    let mut bytes = [0; 4096];
    while let Ok(num @ 1..) = pipe.read(&mut bytes) {
        num_refused += bytes[..num].split(|byte| *byte == b'\n').count() as u64 - 1;
        is_open = bytes[num - 1] != b'\n';
    }
    Missing { num_refused: num_refused + u64::from(is_open), num_lost: 0 }
}
