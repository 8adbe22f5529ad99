//! One decoder, seen from the program: requests, answers, and a clock that ends both.
//!
//! Nothing that a decoder does or leaves undone holds the program up: each read and write waits a
//! slice of time at most, then the clock and the stop flag are asked.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::wire::{DONE, Header, Task, reason_of};
use super::{Connection, Fate, Limits};
use crate::data::report::SkipReason;

/// Longest time that is waited before the stop flag is looked at.
const SLICE: Duration = Duration::from_millis(200);
/// What a picture may take by the clock for each second of a processor: others use it too.
const PATIENCE: u32 = 30;
/// How long the host may take to say what ended a decoder.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Bytes of answers that a decoder can leave unread, with much to spare: the kernel's default for a
/// connection is three times as much.
pub(super) const MAX_WAITING: usize = 64 << 10;

/// One picture, what is asked about it, and the place for what comes of that.
pub(super) struct Request<'a> {
    pub task: Task,
    pub bytes: &'a [u8],
    pub out: &'a mut [u8],
}

impl Request<'_> {
    fn header(&self) -> Header {
        Header { task: self.task, num_bytes: self.bytes.len() as u64 }
    }
}

/// Why there is no answer.
pub(super) enum Lost {
    /// The program is to stop.
    Stopped,
    /// The clock has run out.
    OutOfTime,
    /// The connection has ended.
    Ended,
    /// What came was no answer.
    Nonsense,
}

/// A decoder; it is ended when this is dropped.
pub(super) struct Remote {
    data: UnixStream,
    /// From the host: a byte when the decoder has ended by itself. Closing it ends the decoder.
    fate: UnixStream,
    patience: Duration,
    /// Whether it has answered before.
    pub(super) is_used: bool,
}

impl Remote {
    /// Asks the host for a decoder.
    ///
    /// # Errors
    /// Fails if the host is gone or the system has no more descriptors.
    pub(super) fn summon(host: &Connection, limits: Limits) -> io::Result<Self> {
        let (data, data_end) = UnixStream::pair()?;
        let (fate, fate_end) = UnixStream::pair()?;
        set_socket_send_buffer_size(&data_end, 2 * MAX_WAITING)?;
        for stream in [&data, &fate] {
            stream.set_read_timeout(Some(SLICE))?;
            stream.set_write_timeout(Some(SLICE))?;
        }
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let ends = [data_end.as_fd(), fate_end.as_fd()];
        if !ancillary.push(SendAncillaryMessage::ScmRights(&ends)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let bytes = limits.to_bytes();
        sendmsg(&host.control, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
        let patience = Duration::from_secs(limits.cpu_seconds) * PATIENCE;
        Ok(Self { data, fate, patience, is_used: false })
    }

    /// Sends all `requests`, then waits for the answers, which come in their order, and appends them to
    /// `answers`. No answer may wait for room: those of several must fit into [`MAX_WAITING`].
    ///
    /// # Errors
    /// Fails at the first that has none; the decoder is of no more use then.
    pub(super) fn ask(
        &mut self,
        requests: &mut [Request<'_>],
        answers: &mut Vec<Result<(), SkipReason>>,
        stop: &AtomicBool,
    ) -> Result<(), Lost> {
        let headers: Vec<_> = requests.iter().map(|request| request.header().to_bytes()).collect();
        let parts = requests.iter().zip(&headers);
        let mut parts: Vec<_> =
            parts.flat_map(|(request, header)| [header, request.bytes].map(IoSlice::new)).collect();
        match self.send(&mut parts, stop) {
            Ok(()) | Err(Lost::Ended) => {} // there may be answers to the first of them
            Err(lost) => return Err(lost),
        }
        for request in requests {
            answers.push(self.answer(request.out, stop)?);
        }
        Ok(())
    }

    fn send(&mut self, mut parts: &mut [IoSlice<'_>], stop: &AtomicBool) -> Result<(), Lost> {
        let clock = Clock { deadline: Instant::now() + self.patience, stop };
        while !parts.is_empty() {
            let written = clock.retry(|| self.data.write_vectored(parts))?;
            IoSlice::advance_slices(&mut parts, written);
        }
        Ok(())
    }

    /// Fills `out` with the next answer, if there is one.
    fn answer(
        &mut self,
        out: &mut [u8],
        stop: &AtomicBool,
    ) -> Result<Result<(), SkipReason>, Lost> {
        let clock = Clock { deadline: Instant::now() + self.patience, stop };
        let mut first = [DONE];
        clock.retry(|| self.data.read(&mut first))?;
        if first[0] != DONE {
            return reason_of(first[0]).map(Err).ok_or(Lost::Nonsense);
        }
        let mut num_read = 0;
        while num_read < out.len() {
            num_read += clock.retry(|| self.data.read(&mut out[num_read..]))?;
        }
        Ok(Ok(()))
    }

    /// What ended the decoder, once its connection has; `None`: the host is gone, or could start none.
    pub(super) fn fate(mut self) -> Option<Fate> {
        let mut code = [0];
        let never = AtomicBool::new(false);
        let clock = Clock { deadline: Instant::now() + LAST_WORDS, stop: &never };
        match clock.retry(|| self.fate.read(&mut code)) {
            Ok(_) => Fate::of_code(code[0]),
            Err(Lost::Ended) => None,
            Err(_) => Some(Fate::Crashed), // it is still there, and has closed its connection
        }
    }
}

/// When to give up.
struct Clock<'a> {
    deadline: Instant,
    stop: &'a AtomicBool,
}

impl Clock<'_> {
    /// Does `transfer` until something was transferred.
    fn retry(&self, mut transfer: impl FnMut() -> io::Result<usize>) -> Result<usize, Lost> {
        loop {
            match transfer() {
                Ok(0) => return Err(Lost::Ended),
                Ok(count) => return Ok(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {}
                    io::ErrorKind::Interrupted => continue,
                    _ => return Err(Lost::Ended),
                },
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(Lost::Stopped);
            }
            if Instant::now() >= self.deadline {
                return Err(Lost::OutOfTime);
            }
        }
    }
}
