//! Several ranks that do one step together: a device and a thread each, and sums over all.
//!
//! A sum is taken in the order of the ranks, so it has the same bits on every rank and in every
//! run. Between CPU ranks tensors go by reference; between GPUs NCCL gathers them, and adding up
//! is ours there too, because the order in which NCCL would do it depends on the machine.
//!
//! Before anything is exchanged the ranks meet. No rank waits there for one that will not come:
//! one that fails, panics or is cancelled in [`on_all`] releases the others, whose work fails
//! then, and everything after it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{mem, thread};

use candle_core::{Device, Result, Tensor, bail};

use super::cancel;
use super::cuda::Nccl;

/// A rank that waits looks this often whether its work is cancelled.
const POLL: Duration = Duration::from_millis(20);

/// One rank among those that were connected with it.
#[derive(Clone)]
pub struct Member {
    rank: usize,
    num_ranks: usize,
    device: Device,
    meeting: Arc<Meeting>,
    link: Link,
}

/// How tensors get to the other ranks.
#[derive(Clone)]
enum Link {
    /// They are in the same memory.
    Memory,
    Nccl(Nccl),
}

/// Where ranks wait for each other.
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// What each rank has brought to the meeting that comes next.
    brought: Vec<Option<Vec<Tensor>>>,
    /// Meetings so far.
    num_met: u64,
    /// What all brought to the last meeting, by rank, while some rank has yet to see it.
    all: Arc<Vec<Vec<Tensor>>>,
    num_to_see: usize,
    /// The rank that gave up first.
    gave_up: Option<usize>,
}

/// Connects `devices`, one for each rank: all CPUs or all GPUs.
///
/// # Errors
/// Fails if there is none, or if GPUs cannot be connected with each other.
pub fn connect(devices: &[Device]) -> Result<Vec<Member>> {
    let num_ranks = devices.len();
    let links = if num_ranks == 1 || devices.iter().all(Device::is_cpu) {
        vec![Link::Memory; num_ranks]
    } else {
        Nccl::connect(devices)?.into_iter().map(Link::Nccl).collect()
    };
    if links.is_empty() {
        bail!("expected at least one device");
    }
    let state = State {
        brought: vec![None; num_ranks],
        num_met: 0,
        all: Arc::default(),
        num_to_see: 0,
        gave_up: None,
    };
    let meeting = Arc::new(Meeting { state: Mutex::new(state), changed: Condvar::new() });
    let ranks = devices.iter().zip(links).enumerate();
    let member = |(rank, (device, link)): (usize, (&Device, Link))| Member {
        rank,
        num_ranks,
        device: device.clone(),
        meeting: Arc::clone(&meeting),
        link,
    };
    Ok(ranks.map(member).collect())
}

/// Runs `work` for every rank at once, on a thread each, inside the caller's [`cancel::scope`].
///
/// * `states` - what the ranks own, by rank.
///
/// # Errors
/// With the first failure, if a rank fails or panics; then `members` can do nothing more.
pub fn on_all<S: Send, T: Send>(
    members: &[Member],
    states: &mut [S],
    work: impl Fn(&Member, &mut S) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let cancel = cancel::current();
    let run = |member: &Member, state: &mut S| {
        let leaving = Leaving(member);
        let done = cancel::scope(cancel.clone(), || work(member, state))?;
        // The last meeting brings nothing; who is at another one learns that nobody else will be.
        member.meeting.meet(member.rank, &[])?;
        mem::forget(leaving);
        Ok(done)
    };
    let mut results: Vec<Result<T>> = thread::scope(|scope| {
        let ranks = members.iter().zip(states);
        let threads: Vec<_> =
            ranks.map(|(member, state)| scope.spawn(|| run(member, state))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
    });
    let first = members.first().and_then(|member| member.meeting.lock().gave_up);
    if let Some(rank) = first.filter(|rank| *rank < results.len()) {
        results.swap(0, rank);
    }
    results.into_iter().collect()
}

fn panicked<T>() -> Result<T> {
    bail!("a rank panicked")
}

/// Releases the others when a rank's work ends before its time, by an error or a panic.
struct Leaving<'a>(&'a Member);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Member {
    /// Number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    pub fn num_ranks(&self) -> usize {
        self.num_ranks
    }

    /// Where this rank computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Replaces each tensor by the sum of what all ranks have in its place, in the order of the
    /// ranks. The sums are constants.
    ///
    /// # Errors
    /// Fails if the ranks bring different shapes, or if one of them has given up or is cancelled.
    pub fn all_reduce_sum(&self, tensors: &mut [Tensor]) -> Result<()> {
        let all = self.meeting.meet(self.rank, tensors)?;
        let alike = |a: &Tensor, b: &Tensor| a.shape() == b.shape() && a.dtype() == b.dtype();
        let fits = |of_rank: &Vec<Tensor>| {
            of_rank.len() == tensors.len()
                && of_rank.iter().zip(&*tensors).all(|(a, b)| alike(a, b))
        };
        if !all.iter().all(fits) {
            bail!("all_reduce_sum: expected the same shapes from every rank");
        }
        for (idx, tensor) in tensors.iter_mut().enumerate() {
            let parts = match &self.link {
                Link::Memory => all.iter().map(|of_rank| of_rank[idx].detach()).collect(),
                Link::Nccl(nccl) => nccl.all_gather(&tensor.detach())?,
            };
            let mut parts = parts.into_iter();
            if let Some(first) = parts.next() {
                *tensor = parts.try_fold(first, |sum, part| sum + part)?;
            }
        }
        Ok(())
    }

    fn give_up(&self) {
        self.meeting.give_up(&mut self.meeting.lock(), self.rank);
        if let Link::Nccl(nccl) = &self.link {
            nccl.abort();
        }
    }
}

impl Meeting {
    /// Waits until every rank has brought its tensors, and returns all of them by rank. Either
    /// every rank gets them or none.
    fn meet(&self, rank: usize, tensors: &[Tensor]) -> Result<Arc<Vec<Vec<Tensor>>>> {
        let mut state = self.lock();
        let num_met = state.num_met;
        state.brought[rank] = Some(tensors.to_vec());
        if state.gave_up.is_none() && state.brought.iter().all(Option::is_some) {
            state.all = Arc::new(state.brought.iter_mut().filter_map(Option::take).collect());
            state.num_to_see = state.all.len();
            state.num_met += 1;
            self.changed.notify_all();
        }
        while state.num_met == num_met {
            if let Some(other) = state.gave_up {
                bail!("rank {rank} cannot go on: rank {other} gave up");
            }
            if let Err(cancelled) = cancel::check() {
                self.give_up(&mut state, rank);
                return Err(cancelled);
            }
            let waited = self.changed.wait_timeout(state, POLL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.num_to_see -= 1;
        // What was brought is not kept longer than needed: it is as much as the networks.
        let seen_by_all = state.num_to_see == 0;
        Ok(if seen_by_all { mem::take(&mut state.all) } else { Arc::clone(&state.all) })
    }

    fn give_up(&self, state: &mut State, rank: usize) {
        state.gave_up.get_or_insert(rank);
        self.changed.notify_all();
    }

    /// The state; a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use candle_core::DType;

    use super::*;
    use crate::ops::cancel::Cancel;

    fn members(num_ranks: usize) -> Vec<Member> {
        connect(&vec![Device::Cpu; num_ranks]).unwrap()
    }

    fn sum(member: &Member, value: f32) -> Result<f32> {
        let mut tensors = [Tensor::new(value, member.device())?];
        member.all_reduce_sum(&mut tensors)?;
        tensors[0].to_scalar()
    }

    /// What a failure says, by the work of three ranks.
    fn failure(members: &[Member], work: impl Fn(&Member) -> Result<f32> + Sync) -> String {
        on_all(members, &mut [(); 3], |member, ()| work(member)).unwrap_err().to_string()
    }

    /// (1 + 1e8) - 1e8 is 0 in f32, in any other order 1.
    #[test]
    fn sums_are_taken_in_the_order_of_the_ranks_again_and_again() -> Result<()> {
        let mut values = [1f32, 1e8, -1e8];
        let sums = on_all(&members(3), &mut values, |member, value| {
            (0..200).map(|_| sum(member, *value)).collect::<Result<Vec<_>>>()
        })?;
        assert_eq!(sums, vec![vec![0.0; 200]; 3]);
        Ok(())
    }

    #[test]
    fn a_rank_that_fails_or_panics_releases_the_others() {
        let fails = |member: &Member| match member.rank() {
            1 => bail!("no memory"),
            _ => sum(member, 1.0),
        };
        let panics = |member: &Member| match member.rank() {
            2 => panic!("on purpose"),
            _ => sum(member, 1.0),
        };
        let once = members(3);
        assert!(failure(&once, fails).starts_with("no memory"));
        assert!(failure(&once, |member| sum(member, 1.0)).contains("rank 1 gave up"));
        assert!(failure(&members(3), panics).starts_with("a rank panicked"));
    }

    #[test]
    fn ranks_that_come_to_different_meetings_fail() {
        let leaves = |member: &Member| if member.rank() == 0 { Ok(0.0) } else { sum(member, 1.0) };
        assert!(failure(&members(3), leaves).contains("expected the same shapes"));
        let differs = |member: &Member| {
            member.all_reduce_sum(&mut [Tensor::zeros(
                1 + member.rank(),
                DType::F32,
                &Device::Cpu,
            )?])?;
            Ok(0.0)
        };
        assert!(failure(&members(3), differs).contains("expected the same shapes"));
    }

    /// Rank 0 never asks whether it is cancelled, so only the meeting can tell the others.
    #[test]
    fn a_rank_that_waits_is_cancelled() {
        let flag = Arc::new(AtomicBool::new(false));
        let cancel = Cancel { flag: Some(Arc::clone(&flag)), deadline: None };
        let others_are_back = Condvar::new();
        let num_back = Mutex::new(0);
        let work = |member: &Member| {
            if member.rank() == 0 {
                flag.store(true, Ordering::Relaxed);
                let back = num_back.lock().unwrap();
                drop(others_are_back.wait_while(back, |back| *back < 2).unwrap());
                return Ok(0.0);
            }
            let result = sum(member, 1.0);
            *num_back.lock().unwrap() += 1;
            others_are_back.notify_all();
            result
        };
        let failure = cancel::scope(cancel, || failure(&members(3), work));
        assert!(failure.starts_with("cancelled"), "{failure}");
    }
}
