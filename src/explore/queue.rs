//! What waits for the model, which does one thing at a time.
//!
//! The picture that is shown goes first, then frames of a loop, then pictures of the wall. A
//! request whose asker has gone away is dropped, and what is being made for it is abandoned; the
//! same happens, for a while, to anything that would keep the shown picture waiting. Of one page
//! only the newest shown picture waits: an older one is answered [`Answer::Superseded`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use candle_core::Result;
use tokio::sync::oneshot;

use crate::ops::cancel::{Cancel, scope};

/// More never wait: a page asks for few at a time.
const MAX_WAITING: usize = 256;

/// How soon something is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Somebody waits for it.
    Shown,
    /// A loop plays on without it.
    Frame,
    /// One of many small ones.
    Wall,
}

/// What became of a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is done.
    Done(Vec<u8>),
    /// The model refused it or failed.
    Failed(candle_core::Error),
    /// The same page has asked for something newer.
    Superseded,
    /// Too many wait.
    Full,
    /// The program ends.
    Ended,
}

/// What waits.
struct Job<T> {
    task: T,
    rank: Rank,
    page: String,
    answer: oneshot::Sender<Answer>,
    /// Ends the work on it: the asker has gone, or something sooner has come.
    halt: Arc<AtomicBool>,
}

struct Inner<T> {
    waiting: VecDeque<Job<T>>,
    /// What is being made.
    running: Option<(Rank, Arc<AtomicBool>)>,
    has_ended: bool,
}

/// The queue.
pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

/// Somebody who waits; dropped, the request is as well.
pub(super) struct Asked {
    answer: oneshot::Receiver<Answer>,
    halt: Arc<AtomicBool>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.answer.close();
        self.halt.store(true, Ordering::Relaxed);
    }
}

impl Asked {
    /// Waits for what becomes of it.
    pub(super) async fn answer(mut self) -> Answer {
        (&mut self.answer).await.unwrap_or(Answer::Ended)
    }
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let inner = Inner { waiting: VecDeque::new(), running: None, has_ended: false };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// Puts something in; `page` names who asks.
    pub(super) fn ask(&self, task: T, rank: Rank, page: &str) -> Asked {
        let (answer, receiver) = oneshot::channel();
        let halt = Arc::new(AtomicBool::new(false));
        let job = Job { task, rank, page: page.to_owned(), answer, halt: Arc::clone(&halt) };
        self.put(job);
        Asked { answer: receiver, halt }
    }

    fn put(&self, job: Job<T>) {
        let mut inner = self.lock();
        inner.waiting.retain(|job| !job.answer.is_closed());
        if inner.has_ended {
            reply(job.answer, Answer::Ended);
            return;
        }
        if job.rank == Rank::Shown {
            // who does not say which page it is is not asking for the newest only
            let is_same = |old: &Job<T>| !job.page.is_empty() && old.page == job.page;
            let is_older = |old: &Job<T>| old.rank == Rank::Shown && is_same(old);
            if let Some(at) = inner.waiting.iter().position(is_older)
                && let Some(old) = inner.waiting.remove(at)
            {
                reply(old.answer, Answer::Superseded);
            }
            if let Some((rank, halt)) = &inner.running
                && *rank > Rank::Shown
            {
                halt.store(true, Ordering::Relaxed);
            }
        }
        if inner.waiting.len() >= MAX_WAITING && job.rank != Rank::Shown {
            reply(job.answer, Answer::Full);
            return;
        }
        inner.waiting.push_back(job);
        self.changed.notify_one();
    }

    /// Whether [`Queue::end`] was called.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    /// Ends [`Queue::work`], and whatever waits.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.has_ended = true;
        for job in inner.waiting.drain(..) {
            reply(job.answer, Answer::Ended);
        }
        if let Some((_, halt)) = &inner.running {
            halt.store(true, Ordering::Relaxed);
        }
        self.changed.notify_one();
    }

    /// Does what comes by `make`, until the end.
    pub(super) fn work(&self, make: impl Fn(&T) -> Result<Vec<u8>>) {
        while let Some(job) = self.next() {
            let cancel = Cancel { flag: Some(Arc::clone(&job.halt)), deadline: None };
            let made = scope(cancel, || make(&job.task));
            self.lock().running = None;
            match made {
                Ok(bytes) => reply(job.answer, Answer::Done(bytes)),
                // something sooner has come: this one goes on afterwards
                Err(_) if job.halt.swap(false, Ordering::Relaxed) => self.put_back(job),
                Err(error) => reply(job.answer, Answer::Failed(error)),
            }
        }
    }

    /// The soonest of those that wait; `None`: it is over.
    fn next(&self) -> Option<Job<T>> {
        let mut inner = self.lock();
        loop {
            if inner.has_ended {
                return None;
            }
            inner.waiting.retain(|job| !job.answer.is_closed());
            let soonest = (0..inner.waiting.len()).min_by_key(|at| inner.waiting[*at].rank);
            if let Some(job) = soonest.and_then(|at| inner.waiting.remove(at)) {
                inner.running = Some((job.rank, Arc::clone(&job.halt)));
                return Some(job);
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put_back(&self, job: Job<T>) {
        let mut inner = self.lock();
        if inner.has_ended {
            reply(job.answer, Answer::Ended);
        } else if !job.answer.is_closed() {
            inner.waiting.push_front(job);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody hears it where the asker has gone, and that is well.
fn reply(to: oneshot::Sender<Answer>, answer: Answer) {
    drop(to.send(answer));
}

#[cfg(test)]
mod tests {
    use std::thread;

    use candle_core::bail;

    use super::*;
    use crate::ops::cancel;

    fn now(mut asked: Asked) -> Option<Answer> {
        asked.answer.try_recv().ok()
    }

    /// Does all that waits, in order; returns what was done.
    fn drain(queue: &Queue<u8>) -> Vec<u8> {
        let done = Mutex::new(Vec::new());
        while !queue.lock().waiting.is_empty() {
            let job = queue.next().unwrap();
            done.lock().unwrap().push(job.task);
            queue.lock().running = None;
            reply(job.answer, Answer::Done(vec![job.task]));
        }
        done.into_inner().unwrap()
    }

    #[test]
    fn the_shown_picture_goes_first_and_only_the_newest_of_a_page() {
        let queue = Queue::new();
        let wall = [queue.ask(1, Rank::Wall, "a"), queue.ask(2, Rank::Wall, "a")];
        let frame = queue.ask(3, Rank::Frame, "a");
        let shown = [queue.ask(4, Rank::Shown, "a"), queue.ask(5, Rank::Shown, "a")];
        let other = queue.ask(6, Rank::Shown, "b");
        assert_eq!(drain(&queue), [5, 6, 3, 1, 2]);
        let [old, new] = shown.map(now);
        assert!(matches!((old, new), (Some(Answer::Superseded), Some(Answer::Done(_)))));
        assert!(wall.into_iter().chain([frame, other]).all(|asked| now(asked).is_some()));
    }

    #[test]
    fn who_has_gone_is_forgotten_and_too_many_are_refused() {
        let queue = Queue::new();
        drop(queue.ask(1, Rank::Shown, "a"));
        let stays = queue.ask(2, Rank::Shown, "b");
        assert_eq!(drain(&queue), [2]);
        drop(stays);
        let all: Vec<Asked> = (0..=MAX_WAITING).map(|_| queue.ask(0, Rank::Wall, "a")).collect();
        let answers: Vec<_> = all.into_iter().map(now).collect();
        assert!(matches!(answers.last(), Some(Some(Answer::Full))));
    }

    /// A frame without end gives way, goes on afterwards until its asker leaves, and then the wall's
    /// turn has come.
    #[test]
    fn what_runs_gives_way_to_the_shown_picture() {
        let queue = Queue::new();
        let done = Mutex::new(Vec::new());
        let wall = queue.ask(1, Rank::Wall, "a");
        let endless = queue.ask(3, Rank::Frame, "a");
        thread::scope(|threads| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let is_done =
                |asked: Asked| matches!(runtime.block_on(asked.answer()), Answer::Done(_));
            let (queue, done) = (&queue, &done);
            let make = move |task: &u8| {
                done.lock().unwrap().push(*task);
                if *task == 3 {
                    while cancel::check().is_ok() {
                        thread::yield_now();
                    }
                    bail!("cancelled");
                }
                Ok(vec![*task])
            };
            threads.spawn(move || queue.work(make));
            while done.lock().unwrap().is_empty() {
                thread::yield_now();
            }
            assert!(is_done(queue.ask(2, Rank::Shown, "a")));
            drop(endless);
            assert!(is_done(wall));
            queue.end();
        });
        assert_eq!(done.into_inner().unwrap()[..2], [3, 2]);
        assert!(queue.has_ended());
        assert!(matches!(now(queue.ask(4, Rank::Shown, "a")), Some(Answer::Ended)));
    }
}
