//! Second pass: decodes on all cores into the set.
//!
//! One thread reads, the pool decodes. A reader ahead of the decoders would fill the memory, so
//! each picture takes its share of a budget before it is handed on and gives it back when done.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rayon::iter::{ParallelBridge, ParallelIterator};

use super::dataset::image_bytes;
use super::decoder::{Decoders, File, Target, fit_together};
use super::image::Facts;
use super::report::{Report, SkipReason};
use super::scan::{Counted, Hash, Member, Scan, asset_counts, no_images, report};
use super::walk::{Content, Tally, walk};
use super::{Asset, DataError, Dataset, LoadOptions};

/// Least time between two lines about progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Decodes the pictures that `scan` found; `options` must be those of the scan.
///
/// The set is ordered by content: the same files in other places give the same set. Pictures that
/// turn out broken are left out and counted.
///
/// # Errors
/// Fails if no picture can be decoded, if the memory for the set is refused, and when stopped.
pub fn load(
    assets: &[Asset],
    options: &LoadOptions,
    scan: &Scan,
    stop: &AtomicBool,
) -> Result<Dataset, DataError> {
    let num_bytes = image_bytes(scan.resolution());
    let mut images = Vec::new();
    images
        .try_reserve_exact(scan.num_images() * num_bytes)
        .map_err(|_| DataError::TooManyForMemory)?;
    images.resize(scan.num_images() * num_bytes, 0);

    let reasons = decode_all(assets, options, scan, &mut images, stop)?;
    let keep: Vec<bool> = reasons.iter().map(Option::is_none).collect();
    compact(&mut images, num_bytes, &keep);

    let mut skipped = scan.report().skipped.clone();
    reasons.into_iter().flatten().for_each(|reason| skipped.add(reason));
    if images.is_empty() {
        return Err(no_images(skipped));
    }
    let labels = scan.labels.keep(&keep);
    let kept = scan.images.iter().zip(&keep).filter(|(_, keep)| **keep);
    let (files, facts): (Vec<Hash>, Vec<Facts>) = kept.map(|(image, _)| *image).unzip();
    let counted = Counted {
        num_duplicates: scan.report().num_duplicates,
        tally: Tally { skipped, num_archives: scan.report().num_archives },
    };
    let report = report(&facts, scan.resolution(), options.crop, &labels, counted);
    let ranks = rank_of_kept(&keep);
    let members: Vec<Member> =
        scan.members.iter().filter_map(|&(idx, asset)| Some((ranks[idx]?, asset))).collect();
    let report = Report { assets: asset_counts(&members, assets.len(), &labels), ..report };
    let dataset = Dataset::new(images, labels, report, files).of_assets(members);
    Ok(dataset.named(scan.class_names.clone()))
}

/// Where each of the pictures that are kept is among them.
fn rank_of_kept(keep: &[bool]) -> Vec<Option<usize>> {
    let mut num_kept = 0;
    let rank = |keep: &bool| {
        num_kept += usize::from(*keep);
        keep.then(|| num_kept - 1)
    };
    keep.iter().map(rank).collect()
}

/// A picture on its way to a decoder, and the place its pixels go to.
struct Job<'a> {
    image_idx: usize,
    file: File,
    out: &'a mut [u8],
    _permit: Permit<'a>,
}

/// Pictures that are small enough to go together.
type Jobs<'a> = Vec<Job<'a>>;

/// Fills `images`; returns for each picture why it is missing, if it is.
fn decode_all(
    assets: &[Asset],
    options: &LoadOptions,
    scan: &Scan,
    images: &mut [u8],
    stop: &AtomicBool,
) -> Result<Vec<Option<SkipReason>>, DataError> {
    // What the reader does not come across again keeps this reason.
    let reasons = Mutex::new(vec![Some(SkipReason::Changed); scan.num_images()]);
    let res = scan.resolution();
    let target =
        Target { res, crop: options.crop, resize: options.resize, background: options.background };
    let decoders = Decoders::open(options, stop)?;
    let failure = Mutex::new(None);
    let gate = Gate::new(options.decode_budget());
    let (jobs, queue) = sync_channel::<Jobs<'_>>(rayon::current_num_threads());
    let outs: Vec<_> = images.chunks_exact_mut(image_bytes(res)).map(Some).collect();
    let num_done = AtomicUsize::new(0);
    let progress = Mutex::new(Progress::default());

    let read = thread::scope(|scope| {
        let waiting = (Vec::new(), 0);
        let reader = Reader { outs, gate: &gate, jobs, waiting, failure: &failure };
        let reader = scope.spawn(move || reader.run(assets, options, scan, stop));
        queue.into_iter().par_bridge().for_each(|mut together| {
            if stop.load(Ordering::Relaxed) || lock(&failure).is_some() {
                return; // the reader ends with an error
            }
            let pictures = together.iter_mut().map(|job| (&job.file, &mut *job.out));
            match decoders.decode(pictures.collect(), target, stop) {
                Ok(decoded) => {
                    let mut reasons = lock(&reasons);
                    for (job, decoded) in together.iter().zip(decoded) {
                        reasons[job.image_idx] = decoded.err();
                    }
                }
                Err(error) => {
                    lock(&failure).get_or_insert(error);
                    return;
                }
            }
            let num_together = together.len();
            let num_done = num_done.fetch_add(num_together, Ordering::Relaxed) + num_together;
            lock(&progress).say(|| {
                let tenths = 10 * num_done / scan.num_images(); // a finer share tells their number
                tracing::info!("{tenths}0 % of the pictures decoded");
            });
        });
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    lock(&failure).take().map_or(read, Err)?;
    Ok(reasons.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Reads every picture of the scan once and hands it to the decoders.
struct Reader<'a> {
    /// Where each picture goes, until it was read.
    outs: Vec<Option<&'a mut [u8]>>,
    gate: &'a Gate,
    jobs: SyncSender<Jobs<'a>>,
    /// Those that wait for others to go with, and their bytes.
    waiting: (Jobs<'a>, usize),
    /// Why no picture can be decoded any more.
    failure: &'a Mutex<Option<DataError>>,
}

impl Reader<'_> {
    /// Consumes the reader: the decoders end when its end of the queue is gone.
    fn run(
        mut self,
        assets: &[Asset],
        options: &LoadOptions,
        scan: &Scan,
        stop: &AtomicBool,
    ) -> Result<(), DataError> {
        let mut visit = |_: &_, content| {
            let Content::Picture(format, bytes) = content else { return Ok(()) };
            if lock(self.failure).is_some() {
                return Err(DataError::Stopped); // in favour of that one
            }
            let hash: Hash = *blake3::hash(&bytes).as_bytes();
            let Ok(image_idx) = scan.images.binary_search_by_key(&hash, |(hash, _)| *hash) else {
                return Ok(()); // refused by the scan, or new since
            };
            let Some(out) = self.outs[image_idx].take() else { return Ok(()) }; // a duplicate
            let (num_waiting, num_bytes) = (self.waiting.0.len(), self.waiting.1 + bytes.len());
            if !fit_together(num_waiting + 1, num_bytes, out.len()) {
                self.hand_on()?;
            }
            let decode_bytes = scan.images[image_idx].1.decode_bytes;
            let permit = if let Some(permit) = self.gate.try_enter(decode_bytes) {
                permit
            } else {
                self.hand_on()?; // what waits here may be what takes the room
                self.gate.enter(decode_bytes)
            };
            self.waiting.1 += bytes.len();
            self.waiting.0.push(Job { image_idx, file: (format, bytes), out, _permit: permit });
            Ok(())
        };
        walk(assets, options.caps(), stop, &mut visit)?;
        self.hand_on()?;
        if stop.load(Ordering::Relaxed) { Err(DataError::Stopped) } else { Ok(()) }
    }

    /// Sends on what waits.
    fn hand_on(&mut self) -> Result<(), DataError> {
        let (together, _) = std::mem::take(&mut self.waiting);
        if together.is_empty() {
            return Ok(());
        }
        // The queue is gone only if a decoder's thread panicked, which the caller will see.
        self.jobs.send(together).map_err(|_| DataError::Stopped)
    }
}

/// Closes the gaps that pictures without `keep` left.
fn compact(images: &mut Vec<u8>, num_bytes: usize, keep: &[bool]) {
    let mut num_kept = 0;
    for (idx, _) in keep.iter().enumerate().filter(|(_, keep)| **keep) {
        images.copy_within(idx * num_bytes..(idx + 1) * num_bytes, num_kept * num_bytes);
        num_kept += 1;
    }
    images.truncate(num_kept * num_bytes);
}

/// A budget of bytes shared by the pictures being decoded.
struct Gate {
    budget: u64,
    in_use: Mutex<u64>,
    freed: Condvar,
}

struct Permit<'a> {
    gate: &'a Gate,
    num_bytes: u64,
}

impl Gate {
    fn new(budget: u64) -> Self {
        Self { budget, in_use: Mutex::new(0), freed: Condvar::new() }
    }

    /// A permit if `num_bytes` are free; more than the whole budget needs all of it.
    fn try_enter(&self, num_bytes: u64) -> Option<Permit<'_>> {
        let num_bytes = num_bytes.min(self.budget);
        let mut in_use = lock(&self.in_use);
        if *in_use + num_bytes > self.budget {
            return None;
        }
        *in_use += num_bytes;
        Some(Permit { gate: self, num_bytes })
    }

    /// As [`Self::try_enter`], but waits.
    fn enter(&self, num_bytes: u64) -> Permit<'_> {
        let num_bytes = num_bytes.min(self.budget);
        let mut in_use = lock(&self.in_use);
        while *in_use + num_bytes > self.budget {
            in_use = self.freed.wait(in_use).unwrap_or_else(PoisonError::into_inner);
        }
        *in_use += num_bytes;
        Permit { gate: self, num_bytes }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.gate.in_use) -= self.num_bytes;
        self.gate.freed.notify_one();
    }
}

/// A lock whose data stay valid whatever its holder did: single stores only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets a line through at most once per [`PROGRESS_INTERVAL`].
pub(super) struct Progress(Instant);

impl Default for Progress {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Progress {
    pub(super) fn say(&mut self, line: impl FnOnce()) {
        if self.0.elapsed() >= PROGRESS_INTERVAL {
            self.0 = Instant::now();
            line();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_closes_gaps() {
        let mut images = vec![0, 0, 1, 1, 2, 2, 3, 3];
        compact(&mut images, 2, &[false, true, false, true]);
        assert_eq!(images, [1, 1, 3, 3]);
    }

    #[test]
    fn the_gate_gives_back_what_was_taken() {
        let gate = Gate::new(10);
        let (a, b) = (gate.enter(4), gate.enter(6));
        assert_eq!(*lock(&gate.in_use), 10);
        drop(a);
        let c = gate.enter(3);
        drop((b, c));
        assert_eq!(*lock(&gate.in_use), 0);
        drop(gate.enter(99)); // alone, whatever its size
        assert_eq!(*lock(&gate.in_use), 0);
    }

    #[test]
    fn progress_is_quiet_at_first() {
        let mut said = 0;
        Progress::default().say(|| said += 1);
        assert_eq!(said, 0);
    }
}
