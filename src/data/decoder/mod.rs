//! Decoding apart: pictures are read by processes that can do nothing else.
//!
//! Bytes of pictures come from strangers, and decoders are where they do harm. So the program forks
//! itself once, while it has one thread ([`start`]), and that process, the [`Host`], forks decoders
//! (`serve`) whenever the program asks. A decoder gets bytes and gives facts or pixels; it reaches no
//! file, no network and no other process, and has bounds of memory and time (`confine`). Where it
//! crashes or exceeds them the program loses a picture, and has the next decoder (`pool`).
//!
//! Whoever uses this crate as a library and has started no host decodes in his own process: the one
//! place that knows the difference is `Decoders`.
//!
//! Not here: what is in a picture (`image`), which ones there are (`scan`, `load`).

mod confine;
mod fork;
mod host;
mod pool;
mod remote;
mod serve;
mod wire;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::image::ImageFormat;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tracing::{info, warn};

use super::image::{Facts, decode, inspect};
use super::report::SkipReason;
use super::resize::square;
use super::{DataError, LoadOptions};
use pool::Pool;
use remote::MAX_WAITING;

pub(in crate::data) use wire::{FACTS_BYTES, Target};

/// Most address space of a decoder, whatever the memory of the machine.
const MAX_ADDRESS_SPACE: u64 = 2 << 30;

/// Most pictures given to a decoder at once.
const MAX_TOGETHER: usize = 16;

/// The host of this process, if one was started.
static HOST: Mutex<Option<Arc<Connection>>> = Mutex::new(None);

/// Where the host takes requests.
struct Connection {
    control: OwnedFd,
    /// Whether the log says what decoders cannot do.
    is_announced: AtomicBool,
}

/// The process that decoders are forked from; ends when dropped.
#[must_use = "decoders end with it"]
pub struct Host(Pid);

/// Forks the host: from now on pictures are decoded apart. To be called once, before there are
/// threads, open files of ours, or a log.
///
/// # Errors
/// Fails if there is more than one thread, or if the system refuses another process.
pub fn start() -> io::Result<Host> {
    let alone = fork::Alone::check()?;
    let flags = SocketFlags::CLOEXEC;
    let (control, end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let program = getpid();
    let pid = fork::fork(&alone, || drop(host::run(&alone, end, program)))?;
    let connection = Connection { control, is_announced: AtomicBool::new(false) };
    *host() = Some(Arc::new(connection));
    Ok(Host(pid))
}

impl Drop for Host {
    fn drop(&mut self) {
        *host() = None; // the end of the connection
        let _ = waitpid(Some(self.0), WaitOptions::empty()); // it may have been killed
    }
}

fn host() -> MutexGuard<'static, Option<Arc<Connection>>> {
    HOST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bounds of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    /// Bytes, beyond what the host has.
    memory: u64,
    /// For each picture.
    cpu_seconds: u64,
}

impl Limits {
    /// As sent to the host.
    const BYTES: usize = 16;

    fn of(options: &LoadOptions) -> Self {
        Self { memory: options.decode_budget(), cpu_seconds: options.decode_seconds }
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
        (u128::from(self.memory) | u128::from(self.cpu_seconds) << 64).to_le_bytes()
    }

    fn of_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Self { memory: both as u64, cpu_seconds: (both >> 64) as u64 }
    }

    /// What a decoder's address space is limited to, where that of the host is `inherited`.
    fn address_space(self, inherited: u64) -> u64 {
        inherited.saturating_add(self.memory).min(MAX_ADDRESS_SPACE)
    }
}

/// What ended a decoder, as the host says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Crashed = 1,
    OutOfMemory = 2,
    OutOfTime = 3,
}

impl Fate {
    fn of_code(code: u8) -> Option<Self> {
        [Self::Crashed, Self::OutOfMemory, Self::OutOfTime].into_iter().find(|f| *f as u8 == code)
    }
}

impl From<Fate> for SkipReason {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Crashed => Self::Crashed,
            Fate::OutOfMemory => Self::OutOfMemory,
            Fate::OutOfTime => Self::OutOfTime,
        }
    }
}

/// A picture as it came.
pub(super) type File = (ImageFormat, Vec<u8>);

/// Who decodes: the inner result is about a picture, the outer one about all of them.
pub(super) enum Decoders {
    /// This process.
    Here,
    /// Others.
    Apart(Pool),
}

impl Decoders {
    /// Decoders apart if there is a host, and then a line in the log, the first time.
    ///
    /// # Errors
    /// Fails if the host is there and cannot start one.
    pub(super) fn open(options: &LoadOptions, stop: &AtomicBool) -> Result<Self, DataError> {
        let Some(connection) = host().clone() else { return Ok(Self::Here) };
        let limits = Limits::of(options);
        let is_first = !connection.is_announced.swap(true, Ordering::Relaxed);
        let pool = Pool::new(connection, limits);
        if is_first {
            announce(pool.attempts(stop)?, limits);
        }
        Ok(Self::Apart(pool))
    }

    /// Reads headers only.
    pub(super) fn inspect(
        &self,
        files: &[File],
        stop: &AtomicBool,
    ) -> Result<Vec<Result<Facts, SkipReason>>, DataError> {
        match self {
            Self::Here => Ok(files.iter().map(|(format, bytes)| inspect(*format, bytes)).collect()),
            Self::Apart(pool) => pool.inspect(files, stop),
        }
    }

    /// Decodes whole pictures and brings each to `target`, planar RGB `[3, res, res]`, in its place.
    pub(super) fn decode(
        &self,
        pictures: Vec<(&File, &mut [u8])>,
        target: Target,
        stop: &AtomicBool,
    ) -> Result<Vec<Result<(), SkipReason>>, DataError> {
        let here = |((format, bytes), out): (&File, &mut [u8])| {
            decode(*format, bytes).map(|picture| {
                let Target { res, crop, resize, background } = target;
                out.copy_from_slice(&square(&picture, res, crop, resize, background));
            })
        };
        match self {
            Self::Here => Ok(pictures.into_iter().map(here).collect()),
            Self::Apart(pool) => pool.decode(pictures, target, stop),
        }
    }
}

/// Whether pictures that weigh so much in all may be given to a decoder at once, which saves the way
/// there and back where they are small.
///
/// * `answer_bytes` - of one answer.
pub(super) fn fit_together(num_pictures: usize, num_bytes: usize, answer_bytes: usize) -> bool {
    num_pictures <= MAX_TOGETHER
        && num_bytes <= MAX_WAITING
        && num_pictures * (answer_bytes + 1) <= MAX_WAITING
}

/// Says what decoders cannot do.
fn announce(possible: u8, limits: Limits) {
    let names = |is_possible: bool| {
        let bits = confine::ATTEMPTS.iter().enumerate();
        let names = bits.filter(|(bit, _)| (possible >> bit & 1 == 1) == is_possible);
        names.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    };
    let refused = names(false);
    if possible == 0 {
        let gb = limits.memory.min(MAX_ADDRESS_SPACE) as f64 / 1e9;
        let seconds = limits.cpu_seconds;
        info!(
            "decoding: in processes of their own ({gb:.1} GB, {seconds} s a picture); refused are {refused}"
        );
    } else {
        let refused = if refused.is_empty() { "nothing" } else { &refused };
        warn!(
            "decoding: in processes of their own, partial: refused are {refused}; possible are {} (this \
             kernel or container engine lacks Landlock or seccomp)",
            names(true)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_back_as_they_were() {
        let limits = Limits { memory: u64::MAX - 3, cpu_seconds: 10 };
        assert_eq!(Limits::of_bytes(limits.to_bytes()), limits);
    }

    #[test]
    fn no_address_space_is_above_two_gigabytes() {
        let space = |memory| Limits { memory, cpu_seconds: 1 }.address_space(30 << 20);
        assert_eq!(space(1 << 20), 31 << 20);
        assert_eq!([space(2 << 30), space(u64::MAX)], [2 << 30; 2]);
    }

    #[test]
    fn without_a_host_this_process_decodes() {
        let decoders = Decoders::open(&LoadOptions::default(), &AtomicBool::new(false));
        assert!(matches!(decoders, Ok(Decoders::Here)));
    }

    #[test]
    fn a_process_of_several_threads_is_not_forked() {
        std::thread::scope(|scope| {
            let (wait, end) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || end.recv());
            assert!(start().is_err());
            drop(wait);
        });
    }

    #[test]
    fn fates_are_told_by_codes() {
        for fate in [Fate::Crashed, Fate::OutOfMemory, Fate::OutOfTime] {
            assert_eq!(Fate::of_code(fate as u8), Some(fate));
        }
        assert_eq!([0, 4, 255].map(Fate::of_code), [None; 3]);
    }
}
