//! A thread for each rank, and work that all do at once.
//!
//! Threads live as long as the crew, because what libraries keep per thread for a GPU is costly to
//! make. Rank 0 works on its caller's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;

use candle_core::{Result, bail};

use super::cancel;
use super::collective::{Member, connect};

/// Ranks that are connected, ready to work.
pub struct Crew {
    members: Vec<Member>,
    /// What the threads of the ranks from 1 on are told to do.
    tasks: Vec<mpsc::Sender<Task>>,
    threads: Vec<thread::JoinHandle<()>>,
}

type Task = Box<dyn FnOnce() + Send>;

impl Crew {
    /// Starts the threads of `members`, which are all that were connected with each other.
    ///
    /// # Errors
    /// Fails if the system has no more threads.
    pub fn new(members: Vec<Member>) -> Result<Self> {
        let mut crew = Self { members, tasks: Vec::new(), threads: Vec::new() };
        for rank in 1..crew.members.len() {
            let (sender, tasks) = mpsc::channel::<Task>();
            let work = move || tasks.into_iter().for_each(|task| task());
            crew.threads.push(thread::Builder::new().name(format!("rank {rank}")).spawn(work)?);
            crew.tasks.push(sender);
        }
        Ok(crew)
    }

    /// The ranks, in order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Connects the ranks anew, after one of them has given up.
    ///
    /// # Errors
    /// As [`connect`].
    pub fn reconnect(&mut self) -> Result<()> {
        let devices: Vec<_> = self.members.iter().map(|member| member.device().clone()).collect();
        self.members = connect(&devices)?;
        Ok(())
    }

    /// Runs `work` for every rank at once, inside the caller's [`cancel::scope`].
    ///
    /// * `states` - what the ranks own, by rank.
    ///
    /// # Errors
    /// With the first failure, if a rank fails or panics; then [`Crew::reconnect`] comes before
    /// anything else.
    pub fn on_all<S: Send + 'static, T: Send + 'static>(
        &self,
        states: &mut Vec<S>,
        work: impl Fn(&Member, &mut S) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Vec<T>> {
        if states.len() != self.members.len() {
            bail!("crew: expected {} states, got {}", self.members.len(), states.len());
        }
        let work = Arc::new(work);
        let (reply, replies) = mpsc::channel();
        let others = self.members[1..].iter().zip(&self.tasks).zip(states.drain(1..));
        for ((member, tasks), mut state) in others {
            let (of_thread, reply, work) = (member.clone(), reply.clone(), Arc::clone(&work));
            let cancel = cancel::current();
            let task = move || {
                let result = cancel::scope(cancel, || run(&of_thread, &mut state, &*work));
                drop(reply.send((of_thread.rank(), state, result))); // there is who waits for it
            };
            if tasks.send(Box::new(task)).is_err() {
                member.give_up(); // its thread has ended
            }
        }
        drop(reply);
        let mut results = vec![run(&self.members[0], &mut states[0], &*work)];
        let mut replies: Vec<_> = replies.into_iter().collect();
        replies.sort_by_key(|(rank, ..)| *rank);
        for (_, state, result) in replies {
            states.push(state);
            results.push(result);
        }
        let first = self.members[0].who_gave_up();
        if let Some(rank) = first.filter(|rank| *rank < results.len()) {
            results.swap(0, rank);
        }
        results.into_iter().collect()
    }
}

impl Drop for Crew {
    /// Ends the threads, and waits: what they keep for a GPU goes before the GPU does.
    fn drop(&mut self) {
        self.tasks.clear();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// The work of one rank, and a last meeting that brings nothing: who is at another one learns that
/// nobody else will come. A rank that fails or panics releases the others.
fn run<S, T>(
    member: &Member,
    state: &mut S,
    work: &impl Fn(&Member, &mut S) -> Result<T>,
) -> Result<T> {
    let done = catch_unwind(AssertUnwindSafe(|| work(member, state)));
    let result = match done {
        Ok(done) => done.and_then(|done| member.meet().map(|()| done)),
        Err(_) => Err(candle_core::Error::Msg(format!("rank {} panicked", member.rank()))),
    };
    if result.is_err() {
        member.give_up();
    }
    result
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Condvar, Mutex};

    use candle_core::{DType, Device, Tensor};

    use super::*;
    use crate::ops::cancel::Cancel;

    fn crew() -> Crew {
        Crew::new(connect(&[Device::Cpu, Device::Cpu, Device::Cpu]).unwrap()).unwrap()
    }

    fn sum(member: &Member, value: f32) -> Result<f32> {
        let mut tensors = [Tensor::new(value, member.device())?];
        member.all_reduce_sum(&mut tensors)?;
        tensors[0].to_scalar()
    }

    /// What a failure says.
    fn failure(
        crew: &Crew,
        work: impl Fn(&Member) -> Result<f32> + Send + Sync + 'static,
    ) -> String {
        let failed = crew.on_all(&mut vec![(); 3], move |member, ()| work(member));
        failed.unwrap_err().to_string()
    }

    /// (1 + 1e8) - 1e8 is 0 in f32, in any other order 1.
    #[test]
    fn sums_are_taken_in_the_order_of_the_ranks_again_and_again() -> Result<()> {
        let mut values = vec![1f32, 1e8, -1e8];
        let sums = crew().on_all(&mut values, |member, value| {
            (0..200).map(|_| sum(member, *value)).collect::<Result<Vec<_>>>()
        })?;
        assert_eq!(sums, vec![vec![0.0; 200]; 3]);
        assert_eq!(values, [1.0, 1e8, -1e8]);
        Ok(())
    }

    #[test]
    fn a_rank_that_fails_or_panics_releases_the_others() -> Result<()> {
        let fails = |member: &Member| match member.rank() {
            1 => bail!("no memory"),
            _ => sum(member, 1.0),
        };
        let mut crew = crew();
        assert!(failure(&crew, fails).starts_with("no memory"));
        assert!(failure(&crew, |member| sum(member, 1.0)).contains("rank 1 gave up"));
        for rank in [0, 2] {
            crew.reconnect()?;
            let panics = move |member: &Member| {
                assert_ne!(member.rank(), rank, "on purpose");
                sum(member, 1.0)
            };
            assert_eq!(failure(&crew, panics), format!("rank {rank} panicked"));
        }
        crew.reconnect()?;
        assert_eq!(crew.on_all(&mut vec![(); 3], |member, ()| sum(member, 2.0))?, [6.0; 3]);
        Ok(())
    }

    #[test]
    fn ranks_that_come_to_different_meetings_fail() {
        let leaves = |member: &Member| if member.rank() == 0 { Ok(0.0) } else { sum(member, 1.0) };
        assert!(failure(&crew(), leaves).contains("expected the same shapes"));
        let differs = |member: &Member| {
            let shape = 1 + member.rank();
            member.all_reduce_sum(&mut [Tensor::zeros(shape, DType::F32, member.device())?])?;
            Ok(0.0)
        };
        assert!(failure(&crew(), differs).contains("expected the same shapes"));
    }

    /// Rank 0 does not ask whether it is cancelled before the others are back.
    #[test]
    fn a_rank_that_waits_is_cancelled() {
        let flag = Arc::new(AtomicBool::new(false));
        let cancel = Cancel { flag: Some(Arc::clone(&flag)), deadline: None };
        let (changed, num_back) = (Condvar::new(), Mutex::new(0));
        let work = move |member: &Member| {
            if member.rank() == 0 {
                flag.store(true, Ordering::Relaxed);
                let back = num_back.lock().unwrap();
                drop(changed.wait_while(back, |back| *back < 2).unwrap());
                return Ok(0.0);
            }
            let result = sum(member, 1.0);
            *num_back.lock().unwrap() += 1;
            changed.notify_all();
            result
        };
        let failure = cancel::scope(cancel, || failure(&crew(), work));
        assert!(failure.starts_with("cancelled"), "{failure}");
    }
}
