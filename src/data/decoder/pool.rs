//! The decoders of one reading: as many as there are threads that wait for one, used again and again.
//!
//! What comes of a picture depends on the picture alone: one that ends a decoder which had others
//! before is given to a fresh one, once. Pictures that end decoders cost time, so there is a bound on
//! them, and a set of nothing else is refused.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::remote::{Lost, Remote, Request};
use super::wire::{FACTS_BYTES, Target, Task, facts_of_bytes};
use super::{Connection, Fate, File, Limits};
use crate::data::DataError;
use crate::data::image::Facts;
use crate::data::report::SkipReason;

/// Pictures that may end their decoders ..
const MAX_LOST: usize = 32;
/// .. beside one in so many of all.
const ONE_IN: usize = 16;

/// Decoders apart.
pub(in crate::data) struct Pool {
    host: Arc<Connection>,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Remote>,
    num_asked: usize,
    num_lost: usize,
}

impl Pool {
    pub(super) fn new(host: Arc<Connection>, limits: Limits) -> Self {
        Self { host, limits, state: Mutex::default() }
    }

    /// What a decoder could do that should be refused, as bits.
    pub(super) fn attempts(&self, stop: &AtomicBool) -> Result<u8, DataError> {
        let mut possible = [0];
        let request = Request { task: Task::Try, bytes: &[], out: &mut possible };
        let tried = self.ask(&mut [request], stop)?;
        if tried == [Ok(())] { Ok(possible[0]) } else { Err(DataError::NoDecoder) }
    }

    pub(super) fn inspect(
        &self,
        files: &[File],
        stop: &AtomicBool,
    ) -> Result<Vec<Result<Facts, SkipReason>>, DataError> {
        let mut outs = vec![[0; FACTS_BYTES]; files.len()];
        let requests = files.iter().zip(&mut outs).map(|((format, bytes), out)| Request {
            task: Task::Inspect(*format),
            bytes,
            out,
        });
        let answers = self.ask(&mut requests.collect::<Vec<_>>(), stop)?;
        let facts = files.iter().zip(&outs).map(|((_, bytes), out)| {
            let facts = facts_of_bytes(out);
            // Only a decoder that was taken over says anything else.
            if facts.is_possible(bytes.len()) { Ok(facts) } else { Err(SkipReason::Crashed) }
        });
        Ok(answers.into_iter().zip(facts).map(|(answer, facts)| answer.and(facts)).collect())
    }

    pub(super) fn decode(
        &self,
        pictures: Vec<(&File, &mut [u8])>,
        target: Target,
        stop: &AtomicBool,
    ) -> Result<Vec<Result<(), SkipReason>>, DataError> {
        let requests = pictures.into_iter().map(|((format, bytes), out)| Request {
            task: Task::Decode(*format, target),
            bytes,
            out,
        });
        self.ask(&mut requests.collect::<Vec<_>>(), stop)
    }

    /// The answers to `requests`, in their order.
    fn ask(
        &self,
        requests: &mut [Request<'_>],
        stop: &AtomicBool,
    ) -> Result<Vec<Result<(), SkipReason>>, DataError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = Vec::with_capacity(requests.len());
        let mut next = self.idle(requests.len());
        while answers.len() < requests.len() {
            let mut decoder = next.take().map_or_else(|| self.summon(), Ok)?;
            let num_before = answers.len();
            let Err(lost) = decoder.ask(&mut requests[num_before..], &mut answers, stop) else {
                decoder.is_used = true;
                self.state().idle.push(decoder);
                break;
            };
            let is_used = decoder.is_used || answers.len() > num_before;
            let fate = match lost {
                Lost::Stopped => return Err(DataError::Stopped),
                Lost::OutOfTime => Fate::OutOfTime,
                Lost::Nonsense => Fate::Crashed,
                Lost::Ended => decoder.fate().ok_or(DataError::NoDecoder)?,
            };
            self.count_lost()?;
            if !is_used || fate == Fate::OutOfTime {
                answers.push(Err(fate.into()));
            } // else the same picture is the first that a fresh one gets
        }
        Ok(answers)
    }

    /// A decoder that waits for work, if there is one.
    fn idle(&self, num_asked: usize) -> Option<Remote> {
        let mut state = self.state();
        state.num_asked += num_asked;
        state.idle.pop()
    }

    fn summon(&self) -> Result<Remote, DataError> {
        Remote::summon(&self.host, self.limits).map_err(|_| DataError::NoDecoder)
    }

    fn count_lost(&self) -> Result<(), DataError> {
        let mut state = self.state();
        state.num_lost += 1;
        if state.num_lost > MAX_LOST + state.num_asked / ONE_IN {
            return Err(DataError::TooManyCrashes);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // single stores only
    }
}
