//! What counts as a copy in a set, found on the set itself.
//!
//! The works of the set, each compared with all others, say how near pictures are that are no
//! copies; planted copies of them say how near a copy is. A generator's copies are blurred and mixed
//! in ways that no planted copy is, so the thresholds are as wide as the works allow: one in a
//! thousand of them may look like a copy. They are never so narrow that planted copies are missed: a
//! set that is so much like itself is not separable. A second round of planted copies, of other
//! draws, says how many are found.
//!
//! Reference: Carlini et al. 2023, arXiv:2301.13188 (the ratio of distances); Alaa et al. 2022,
//! arXiv:2102.08921 (authenticity).

use candle_core::Result;
use rayon::prelude::*;

use super::frame::Frame;
use super::matching::{Match, matches};
use super::nearest::Bank;
use super::plant::{self, Kind};
use crate::data::Dataset;
use crate::ops::rng::{Rng, Stream};

/// Copies of each kind that thresholds come from, and those that tell the power.
const NUM_COPIES: [usize; 2] = [256, 128];
/// Share of the copies that each of the two thresholds may miss.
const MISSED: f64 = 0.0015;
/// Of so many works one may look like a copy.
const WORKS_PER_ALARM: usize = 1000;
/// Thresholds end this much below the works that they must not reach.
const MARGIN: f32 = 0.9;
/// The widest thresholds of distance and ratio: one in a hundred samples of generators that copy
/// nothing comes as near as a ratio of 0.45.
const WIDEST: [f32; 2] = [0.5, 0.4];
/// Those of sets of fewer works than this, which are easily learned by heart, and too few to say
/// how near works may be; the ratio is that of the published method.
const FEW: (usize, [f32; 2]) = (200, [0.6, 0.5]);
/// A young generator's pictures are smooth, and so nearer to others than works are: works under
/// Gaussians of these deviations, as shares of the side, tell how much nearer.
pub(super) const SMOOTH: [f64; 3] = [1.0 / 32.0, 1.0 / 16.0, 1.0 / 8.0];
/// So many works of each.
const NUM_SMOOTH: usize = 256;
/// Works that are compared with all others, at most.
pub(super) const MAX_WORKS: usize = 2048;
/// Works of a group that tell how much it is like itself.
const MIN_COMPARED: usize = 100;

/// Pictures of about one smoothness.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Level {
    /// Their median.
    sharpness: f32,
    /// Those that are farther from their nearest picture than that is from others, and all.
    pub(super) authentic: (usize, usize),
}

impl Level {
    pub(super) fn of(matches: &[Match]) -> Self {
        let mut sharpness: Vec<f32> = matches.iter().map(|it| it.sharpness).collect();
        sharpness.sort_unstable_by(f32::total_cmp);
        let sharpness = sharpness.get(matches.len() / 2).copied().unwrap_or(0.0);
        let num_authentic = matches.iter().filter(|it| it.is_authentic).count();
        Self { sharpness, authentic: (num_authentic, matches.len()) }
    }
}

/// What a copy is in a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// A copy is at most this far from a real picture.
    pub(super) max_distance: f32,
    /// And at most this far in relation to other works.
    pub(super) max_ratio: f32,
    /// Planted copies that were found, and how many there were.
    pub found: (usize, usize),
    /// Works that were compared with others, and whether they look like copies of these.
    pub(super) works: Vec<(u32, bool)>,
    /// Works that look like copies of others, and how many were compared.
    pub alike: (usize, usize),
    /// Works as they are, and under each Gaussian.
    levels: Vec<Level>,
    /// Pictures, and works among them: duplicates are counted once.
    pub pictures: (usize, usize),
}

impl Calibration {
    /// Plants copies of the pictures in `dataset`, which `bank` holds, and looks for them.
    ///
    /// # Errors
    /// Fails if memory cannot be had, or if cancelled.
    pub(super) fn new(dataset: &Dataset, frame: &Frame, bank: &Bank, seed: u64) -> Result<Self> {
        let mut works = shuffled_works(bank, seed, 0);
        works.truncate(MAX_WORKS);
        let squares: Vec<_> = works
            .par_iter()
            .map(|idx| frame.square(dataset.image(*idx as usize).expose()))
            .collect();
        let of_works = matches(bank, frame, &squares, Some(&works))?;
        let [copies, others] = [0, 1].map(|round| planted(dataset, (frame, bank), seed, round));
        let (copies, others) = (copies?, others?);
        let widest = if of_works.len() < FEW.0 { FEW.1 } else { WIDEST };
        let threshold = |value: fn(&Match) -> f32, widest: f32| {
            let sorted = |matches: &[Match]| {
                let mut values: Vec<f32> = matches.iter().map(value).collect();
                values.sort_unstable_by(f32::total_cmp);
                values
            };
            let of_works = sorted(&of_works);
            let nearest = of_works.get(of_works.len() / WORKS_PER_ALARM);
            let wide = nearest.map_or(widest, |it| MARGIN * it);
            let copies = sorted(&copies);
            let rank = (copies.len() as f64 * (1.0 - MISSED)).ceil() as usize;
            // a set of flat pictures has nothing to copy
            let narrow = copies.get(rank.saturating_sub(1)).copied().unwrap_or(0.0);
            wide.min(widest).max(narrow)
        };
        let num_smooth = works.len().min(NUM_SMOOTH);
        let mut levels = vec![Level::of(&of_works)];
        for deviation in SMOOTH {
            let smooth: Vec<_> =
                squares[..num_smooth].par_iter().map(|square| square.smooth(deviation)).collect();
            levels.push(Level::of(&matches(bank, frame, &smooth, Some(&works[..num_smooth]))?));
        }
        let mut calibration = Self {
            max_distance: threshold(|it| it.distance, widest[0]),
            max_ratio: threshold(|it| it.ratio, widest[1]),
            found: (0, others.len()),
            works: Vec::new(),
            alike: (0, 0),
            levels,
            pictures: (bank.num_pictures(), bank.works().len()),
        };
        calibration.found.0 = calibration.count(&others);
        // a work that is the only one has no match
        let alike = works.iter().zip(&of_works).map(|(idx, it)| (*idx, calibration.is_copy(it)));
        calibration.works = alike.collect();
        calibration.alike = count_of(calibration.works.iter());
        Ok(calibration)
    }

    /// Whether this is how near a copy is.
    pub(super) fn is_copy(&self, it: &Match) -> bool {
        it.distance <= self.max_distance && it.ratio <= self.max_ratio
    }

    pub(super) fn count(&self, matches: &[Match]) -> usize {
        matches.iter().filter(|it| self.is_copy(it)).count()
    }

    /// The works with which `samples` compare: as they are, and smoother down to the first that are as
    /// smooth as these.
    pub(super) fn levels_for(&self, samples: &Level) -> &[Level] {
        let last = self.levels.iter().position(|level| level.sharpness <= samples.sharpness);
        &self.levels[..last.map_or(self.levels.len(), |last| last + 1)]
    }

    /// Share of the planted copies that were found.
    pub fn power(&self) -> f64 {
        self.found.0 as f64 / self.found.1.max(1) as f64
    }

    /// As `alike`, of the works among the pictures of a `group`, which are in order; of the whole set
    /// where too few of the group were compared to say it.
    pub(super) fn alike_among(&self, group: &[u32]) -> (usize, usize) {
        let works = self.works.iter().filter(|(idx, _)| group.binary_search(idx).is_ok());
        let of_group = count_of(works);
        if of_group.1 < MIN_COMPARED { self.alike } else { of_group }
    }

    /// Whether works can be told from copies: at most one in a thousand looks like one, or one.
    pub fn is_separable(&self) -> bool {
        self.alike.0 <= (self.alike.1 / WORKS_PER_ALARM).max(1)
    }
}

/// Those that look like copies, and all.
fn count_of<'a>(works: impl Iterator<Item = &'a (u32, bool)>) -> (usize, usize) {
    works.fold((0, 0), |(alike, all), (_, is_alike)| (alike + usize::from(*is_alike), all + 1))
}

/// Works that are not flat, in an order that depends on `seed` and `draw`.
fn shuffled_works(bank: &Bank, seed: u64, draw: u64) -> Vec<u32> {
    let works: Vec<u32> = bank.works().into_iter().filter(|idx| !bank.is_flat(*idx)).collect();
    let order = Rng::new(seed, Stream::Audit, draw).permutation(works.len());
    order.into_iter().map(|i| works[i]).collect()
}

/// Copies of every kind and what they are taken for; `round` 1 has other draws than 0.
fn planted(
    dataset: &Dataset,
    (frame, bank): (&Frame, &Bank),
    seed: u64,
    round: usize,
) -> Result<Vec<Match>> {
    let works = shuffled_works(bank, seed, 1 + round as u64);
    if works.is_empty() {
        return Ok(Vec::new());
    }
    let mut planted = Vec::new();
    for kind in Kind::ALL {
        let rng = Rng::new(seed, Stream::Audit, 16 + 2 * kind as u64 + round as u64);
        let square = |i: usize| {
            let picture = dataset.image(works[i % works.len()] as usize);
            frame.square(&plant::copy(kind, picture.expose(), &rng, i as u64))
        };
        let squares: Vec<_> = (0..NUM_COPIES[round]).into_par_iter().map(square).collect();
        planted.extend(matches(bank, frame, &squares, None)?);
    }
    Ok(planted)
}
