//! Work in parts, shared by the calling thread and the pool.
//!
//! The caller takes parts too, and takes all of them where the pool has no other thread to offer. To
//! hand work over and sleep until it is done would cost two switches between threads for each op:
//! thousands a second, a quarter of a small network's time. Who does which part changes nothing:
//! each writes its own elements.

use std::sync::{Mutex, PoisonError};

/// Does `work` for each of `parts`.
///
/// # Panics
/// Panics if `work` does, after others have done the rest.
pub(super) fn share<P: Send>(
    parts: impl ExactSizeIterator<Item = P> + Send,
    work: impl Fn(P) + Sync,
) {
    share_with(parts, || (), |(), part| work(part));
}

/// As [`share`], with memory that each thread makes for itself and keeps from part to part.
pub(super) fn share_with<P: Send, S>(
    parts: impl ExactSizeIterator<Item = P> + Send,
    memory: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, P) + Sync,
) {
    let num_threads = rayon::current_num_threads().min(parts.len());
    if num_threads <= 1 {
        let mut memory = memory();
        parts.for_each(|part| work(&mut memory, part));
        return;
    }
    let parts = Mutex::new(parts);
    // Nobody does `work` under the lock, so its panics do not poison it.
    let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
    let take_parts = || {
        let mut memory = memory();
        while let Some(part) = next() {
            work(&mut memory, part);
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..num_threads {
            scope.spawn(|_| take_parts());
        }
        take_parts();
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    fn pool(num_threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap()
    }

    #[test]
    fn every_part_is_done_once() {
        for num_threads in [1, 2, 5] {
            for count in [0, 1, 2, 100] {
                let mut done = vec![0; count];
                pool(num_threads).install(|| share(done.iter_mut(), |it| *it += 1));
                assert_eq!(done, vec![1; count], "{num_threads} threads");
            }
        }
    }

    #[test]
    fn the_caller_and_as_many_threads_as_the_pool_has_beside_it_work() {
        let meeting = Barrier::new(3);
        let ids = Mutex::new(BTreeSet::new());
        pool(3).install(|| {
            let caller = format!("{:?}", thread::current().id());
            share(0..3, |_| {
                meeting.wait(); // each waits for two others
                ids.lock().unwrap().insert(format!("{:?}", thread::current().id()));
            });
            assert!(ids.lock().unwrap().contains(&caller));
        });
        assert_eq!(ids.into_inner().unwrap().len(), 3);
    }

    #[test]
    fn memory_is_kept_from_part_to_part() {
        let last = Mutex::new(Vec::new());
        pool(1).install(|| {
            share_with(0..10, Vec::new, |seen, part| {
                seen.push(part);
                last.lock().unwrap().clone_from(seen);
            });
        });
        assert_eq!(last.into_inner().unwrap(), (0..10).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "part 7")]
    fn a_panic_is_the_caller_s() {
        pool(2).install(|| share(0..10, |part| assert!(part != 7, "part {part}")));
    }
}
