//! The gate: weights leave a job after a look at their samples only, and none that gives pictures
//! back.
//!
//! Before weights are written, samples of them, every other one truncated, are compared with the
//! pictures ([`crate::audit`]). How many samples there are, and which, depends on the seed, the images
//! shown and what is found, never on the clock; what was found goes into the header of the weights.
//!
//! What the gate holds back stays in memory and is forgotten; files of before stay. How often it
//! looks, and what it does when there is no time, the run says ([`super::run`]).

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor};
use serde::Deserialize;

use crate::audit::bound::lower;
use crate::audit::{Audit, Auditor, Finding, Verdict};
use crate::data::Dataset;
use crate::model::{Generator, Noise, Truncation};
use crate::ops::rng::{Rng, Stream};

/// The largest share of near-copies among samples.
const LIMIT: f64 = 0.005;
/// Samples that can tell that share, and those that are made where few of these look like copies.
const NUM_SAMPLES: [usize; 2] = [640, 4096];
/// Samples that are made at once.
const AT_ONCE: usize = 8;
/// Truncation of every other lot: it leads to what is most usual in the set.
const PSI: f64 = 0.7;
/// A training whose weights are held back so often in a row has learned its pictures by heart.
const MAX_WITHHELD: u32 = 3;
/// Draws of the set's own audit are below this step, those of samples above.
const FIRST_STEP: u64 = 1 << 32;

/// What is done about near-copies; the later the stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The last weights say what was found.
    Report,
    /// Weights with near-copies do not leave.
    Withhold,
    /// Nor do those of a set in which copies cannot be told from other pictures.
    Strict,
}

/// Looks at generators before they leave.
pub struct Gate {
    level: Level,
    seed: u64,
    auditor: Option<Auditor>,
    /// The last finding, and after how many images shown it was made.
    last: Option<(u64, Finding)>,
    /// How long it took.
    time: Option<Duration>,
    /// Generators that were held back since the last that was not.
    num_withheld: u32,
}

/// What a generator was trained on, and how long.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// The pictures.
    pub dataset: &'a Dataset,
    /// Their labels `[N, c_dim]`.
    pub label_pool: Option<&'a Tensor>,
    /// Real images shown.
    pub cur_nimg: u64,
    /// Where the generator is.
    pub device: &'a Device,
}

impl Gate {
    /// A gate of this level; `seed` is that of the training.
    pub fn new(level: Level, seed: u64) -> Self {
        Self { level, seed, auditor: None, last: None, time: None, num_withheld: 0 }
    }

    /// Whether anything can be held back.
    pub fn is_binding(&self) -> bool {
        self.level > Level::Report
    }

    /// Looks at the pictures, which takes seconds: what a copy is among them.
    ///
    /// # Errors
    /// Fails if memory cannot be had, or if cancelled.
    pub fn prepare(&mut self, dataset: &Dataset) -> Result<&mut Auditor> {
        let auditor = match self.auditor.take() {
            Some(auditor) => auditor,
            None => Auditor::new(dataset, self.seed)?,
        };
        Ok(self.auditor.insert(auditor))
    }

    /// Pictures of the same kind that are not trained on, to compare samples with as well.
    ///
    /// # Errors
    /// As [`Auditor::hold_out`], whose counts it returns.
    pub fn hold_out(&mut self, dataset: &Dataset, held_out: &Dataset) -> Result<(usize, usize)> {
        self.last = None;
        self.prepare(dataset)?.hold_out(held_out)
    }

    /// How long a look at a generator takes, where there was one.
    pub fn time(&self) -> Option<Duration> {
        self.time
    }

    /// What samples of `g` are like.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn audit(&mut self, g: &Generator, training: Training) -> Result<Finding> {
        if let Some((_, finding)) = self.last.as_ref().filter(|last| last.0 == training.cur_nimg) {
            return Ok(finding.clone());
        }
        let seed = self.seed;
        let auditor = self.prepare(training.dataset)?;
        let (start, mut audit) = (Instant::now(), auditor.begin());
        look_at(&mut audit, g, (seed, training), 0..NUM_SAMPLES[0])?;
        let mut finding = audit.finding(LIMIT);
        if is_doubtful(&finding) {
            look_at(&mut audit, g, (seed, training), NUM_SAMPLES[0]..NUM_SAMPLES[1])?;
            finding = audit.finding(LIMIT);
        }
        self.time = Some(start.elapsed());
        self.last = Some((training.cur_nimg, finding.clone()));
        Ok(finding)
    }

    /// Whether weights of which this was found may leave.
    pub fn lets_out(&self, finding: &Finding) -> bool {
        match (self.level, finding.verdict) {
            (Level::Report, _) | (_, Verdict::Pass) => true,
            (Level::Withhold, verdict) => verdict != Verdict::Withhold,
            (Level::Strict, _) => false,
        }
    }

    /// Counts whether the weights of a moment left.
    pub fn count(&mut self, is_out: bool) {
        self.num_withheld = if is_out { 0 } else { self.num_withheld + 1 };
    }

    /// Whether the last weights that it looked at were held back.
    pub fn has_withheld(&self) -> bool {
        self.num_withheld > 0
    }

    /// Whether it is no use to go on.
    pub fn is_shut(&self) -> bool {
        self.num_withheld >= MAX_WITHHELD
    }

    /// Which of `images [N, 3, res, res]` in [-1, 1] must not be shown.
    ///
    /// Where copies cannot be told from other pictures this says nothing, unless the level is strict.
    ///
    /// # Errors
    /// Fails if memory cannot be had, or if cancelled.
    pub fn hides(&self, images: &Tensor) -> Result<Vec<bool>> {
        match &self.auditor {
            Some(auditor) if self.is_binding() && self.can_tell(auditor) => {
                auditor.near_copies(images)
            }
            _ => Ok(vec![false; images.dim(0)?]),
        }
    }

    fn can_tell(&self, auditor: &Auditor) -> bool {
        self.level == Level::Strict || auditor.calibration().is_separable()
    }
}

/// Whether so few samples look like copies that chance may have done it.
fn is_doubtful(finding: &Finding) -> bool {
    let Finding { verdict, near_copies, samples, .. } = *finding;
    verdict != Verdict::Pass && near_copies > 0 && lower(near_copies, samples) <= LIMIT
}

/// Makes the samples of these numbers, and compares them.
fn look_at(
    audit: &mut Audit,
    g: &Generator,
    (seed, training): (u64, Training),
    numbers: std::ops::Range<usize>,
) -> Result<()> {
    let rng = Rng::new(seed, Stream::Audit, FIRST_STEP + training.cur_nimg);
    let Training { label_pool, .. } = training;
    for start in numbers.step_by(AT_ONCE) {
        let draws = rng.normals_of_part(2 * start as u64, AT_ONCE * g.config.z_dim);
        let z = Tensor::from_vec(draws, (AT_ONCE, g.config.z_dim), &Device::Cpu)?;
        let z = z.to_dtype(DType::F32)?.to_device(training.device)?;
        let c = label_pool.map(|pool| {
            let rows = pool.dim(0)?;
            let pick = |i: usize| rng.below((2 * (start + i) as u64 + 1) << 32, rows) as u32;
            let rows = Tensor::from_iter((0..AT_ONCE).map(pick), &Device::Cpu)?;
            pool.index_select(&rows, 0)?.to_device(training.device)
        });
        let psi = if (start / AT_ONCE).is_multiple_of(2) { 1.0 } else { PSI };
        let truncation = Truncation { psi, cutoff: None };
        audit.add(&g.forward(&z, c.transpose()?.as_ref(), truncation, Noise::Const)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Store, generator};
    use crate::train::presets::{Cfg, Overrides, train_config};

    fn finding(verdict: Verdict, near_copies: usize) -> Finding {
        Finding {
            method: 1,
            verdict,
            samples: 640,
            near_copies,
            bound: 0.01,
            power: 1.0,
            is_near: false,
        }
    }

    #[test]
    fn each_level_holds_back_what_it_says() {
        use Verdict::{Inconclusive, Pass, Withhold};
        let lets_out = |level, verdict| Gate::new(level, 0).lets_out(&finding(verdict, 9));
        let of = |level| [Pass, Inconclusive, Withhold].map(|verdict| lets_out(level, verdict));
        assert_eq!(of(Level::Report), [true, true, true]);
        assert_eq!(of(Level::Withhold), [true, true, false]);
        assert_eq!(of(Level::Strict), [true, false, false]);
    }

    #[test]
    fn three_in_a_row_shut_the_gate() {
        let mut gate = Gate::new(Level::Withhold, 0);
        let (bad, good) = (finding(Verdict::Withhold, 9), finding(Verdict::Pass, 0));
        for it in [&bad, &bad, &good, &bad, &bad] {
            gate.count(gate.lets_out(it));
            assert!(!gate.is_shut());
        }
        gate.count(gate.lets_out(&bad));
        assert!(gate.is_shut());
    }

    /// One or two of 640 may be chance where one work in a thousand looks like a copy; ten are none.
    #[test]
    fn few_copies_are_looked_at_again() {
        assert!(is_doubtful(&finding(Verdict::Withhold, 1)));
        assert!(!is_doubtful(&finding(Verdict::Withhold, 10)));
        assert!(is_doubtful(&finding(Verdict::Inconclusive, 1)));
        assert!(!is_doubtful(&finding(Verdict::Inconclusive, 0)));
        assert!(!is_doubtful(&finding(Verdict::Pass, 0)));
    }

    /// Pictures that a generator makes: with the seed of a gate, the first lot that this looks at.
    fn made_by(g: &Generator, seed: u64, count: usize) -> Vec<u8> {
        let z = Rng::new(seed, Stream::Audit, FIRST_STEP + 1000).normals_of_part(0, count * 128);
        let z = Tensor::from_vec(z, (count, 128), &Device::Cpu).unwrap().to_dtype(DType::F32);
        let images = g.forward(&z.unwrap(), None, Truncation::NONE, Noise::Const).unwrap();
        let values = images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.iter().map(|x| (x * 127.5 + 127.5).round().clamp(0.0, 255.0) as u8).collect()
    }

    #[test]
    fn weights_that_give_back_a_few_pictures_are_held_back() {
        let config = train_config(Cfg::Tiny, 16, 0, &Overrides::default()).g;
        let store = Store::new(DType::F32, &Device::Cpu);
        let g = generator(&config, &store.init(1)).unwrap();
        for (seed, is_out, near_copies) in [(3, false, AT_ONCE), (4, true, 0)] {
            let dataset = Dataset::from_raw(16, made_by(&g, seed, AT_ONCE), 0, vec![]).unwrap();
            let training = Training {
                dataset: &dataset,
                label_pool: None,
                cur_nimg: 1000,
                device: &Device::Cpu,
            };
            let mut gate = Gate::new(Level::Withhold, 3);
            let finding = gate.audit(&g, training).unwrap();
            assert_eq!(finding.near_copies, near_copies, "{finding}");
            assert_eq!(gate.lets_out(&finding), is_out, "{finding}");
        }
    }

    /// The same weights after the same images are found to be the same, and looked at once.
    #[test]
    fn a_finding_is_a_function_of_seed_and_images_shown() {
        let dataset = Dataset::from_raw(
            8,
            (0..40 * 192u32).map(|i| (i * i % 251) as u8).collect(),
            0,
            vec![],
        )
        .unwrap();
        let config = train_config(Cfg::Tiny, 8, 0, &Overrides::default()).g;
        let store = Store::new(DType::F32, &Device::Cpu);
        let g = generator(&config, &store.init(1)).unwrap();
        let training =
            Training { dataset: &dataset, label_pool: None, cur_nimg: 1000, device: &Device::Cpu };
        let mut gates = [0, 1].map(|_| Gate::new(Level::Report, 3));
        let [a, b] = gates.each_mut().map(|gate| gate.audit(&g, training).unwrap());
        assert_eq!(a, b);
        let start = Instant::now();
        assert_eq!(gates[0].audit(&g, training).unwrap(), a);
        assert!(start.elapsed() < gates[0].time().unwrap() / 10);
    }
}
