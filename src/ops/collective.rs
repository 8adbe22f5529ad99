//! Ranks that do one step together, with a device each: where they meet, and sums over all.
//!
//! A sum is taken in the order of the ranks, so it has the same bits on every rank and in every
//! run. Between CPU ranks tensors go by reference; between GPUs NCCL gathers them, and adding up
//! is ours there too, because the order in which NCCL would do it depends on the machine.
//!
//! Before anything is exchanged the ranks meet. No rank waits there for one that will not come:
//! one that is cancelled or gives up releases the others, whose work fails then, and everything
//! after it.
//!
//! Not here: the threads of the ranks (`crew`).

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use candle_core::{Device, Result, Tensor, bail};

use super::cancel::{self, Cancel};
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

    /// Waits for the others without an exchange, whether cancelled or not.
    ///
    /// # Errors
    /// Fails if one of them gives up.
    pub(super) fn meet(&self) -> Result<()> {
        cancel::scope(Cancel::default(), || self.meeting.meet(self.rank, &[]))?;
        Ok(())
    }

    /// Releases the others, whose work fails then.
    pub(super) fn give_up(&self) {
        self.meeting.give_up(&mut self.meeting.lock(), self.rank);
        if let Link::Nccl(nccl) = &self.link {
            nccl.abort();
        }
    }

    /// The rank that gave up first.
    pub(super) fn who_gave_up(&self) -> Option<usize> {
        self.meeting.lock().gave_up
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
        Ok(if seen_by_all { std::mem::take(&mut state.all) } else { Arc::clone(&state.all) })
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
