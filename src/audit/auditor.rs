//! The audit of a generator's samples against the pictures that it was trained on.
//!
//! A sample is a near-copy if it is as near to a picture as planted copies are, both as such and in
//! relation to the next works (see [`Calibration`]). The rules, for a limit on the share of
//! near-copies:
//!
//! 1. Where less than 99 % of planted copies are found, or the samples are too few to tell a share
//!    as small as the limit, the audit is inconclusive.
//! 2. It is withheld if the samples that are nearest to one asset, or one class, are near-copies more
//!    often than the limit, at 95 % confidence: the rest of the set hides nothing.
//! 3. Where the bound on the share of near-copies is within the limit it passes, unless samples as
//!    a whole lie nearer to the pictures than new pictures would: fewer are authentic than 0.8
//!    times as many as among the works themselves, at 95 % confidence, or data copying is below -3.
//!    Smooth pictures lie nearer to others, so works and held-out pictures count as smooth as the
//!    samples are, and as they are.
//! 4. Else it is withheld if works can be told from copies. What is left is inconclusive: the set is
//!    as much like itself as the samples are like it.
//!
//! Where works of the set look like copies of each other (trousers, among clothes), rule 2 holds only for
//! shares at more than three times the odds that the works of the same asset or class have, or
//! those of the set where few of these were compared; and what is left to rule 4 is withheld if all
//! samples together have more than three times the odds of all works.

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::bound::{lower, lower_of_many, upper};
use super::calibrate::{Calibration, Level, MAX_WORKS, SMOOTH};
use super::cells::cells;
use super::copying::{Placed, data_copying};
use super::finding::{Finding, Verdict};
use super::frame::{Frame, Square};
use super::matching::{Match, matches};
use super::nearest::Bank;
use crate::data::Dataset;
use crate::ops::rng::{Rng, Stream};

/// Planted copies that must be found.
const MIN_POWER: f64 = 0.99;
/// Authentic samples, as a share of what works have; said of so many works at least.
const MIN_AUTHENTIC: (f64, usize) = (0.8, 100);
/// Where works are alike, copies among samples must have so many times the odds that they have among
/// works: what honest weights make is more usual than works are, and more of it lies near a picture.
const MIN_ODDS: f64 = 3.0;
/// Data copying below this is no chance.
const MIN_COPYING: f64 = -3.0;
/// Held-out pictures that can tell whether data is copied.
pub const MIN_HELD_OUT: usize = 100;

/// A set of pictures, ready to be compared with samples. Private data, as [`Dataset`] is.
pub struct Auditor {
    frame: Frame,
    bank: Bank,
    calibration: Calibration,
    /// The pictures of each asset and class, where there are several.
    groups: Vec<Vec<u32>>,
    /// Cell of each picture, where pictures are held out.
    cells: Vec<u32>,
    /// Held-out pictures, as they are and under each Gaussian.
    held_out: Vec<Vec<Placed>>,
    seed: u64,
}

impl Auditor {
    /// Looks at the set, and finds out what a copy is in it.
    ///
    /// # Errors
    /// Fails if memory cannot be had, or if cancelled.
    pub fn new(dataset: &Dataset, seed: u64) -> Result<Self> {
        let frame = Frame::new(dataset.resolution());
        let describe = |idx: usize| frame.describe(&frame.square(dataset.image(idx).expose()));
        let descriptors: Vec<Vec<f32>> = (0..dataset.len()).into_par_iter().map(describe).collect();
        let bank = Bank::new(&frame, descriptors.concat())?;
        let calibration = Calibration::new(dataset, &frame, &bank, seed)?;
        let (groups, cells, held_out) = (dataset.groups(), Vec::new(), Vec::new());
        Ok(Self { frame, bank, calibration, groups, cells, held_out, seed })
    }

    /// Pictures of the same kind that are not trained on: with [`MIN_HELD_OUT`] of them the audit asks
    /// for data copying. Says how many were looked at, 2,048 at most, and how many of these look like
    /// copies of the set.
    ///
    /// # Errors
    /// Fails if their resolution differs, memory cannot be had, or if cancelled.
    pub fn hold_out(&mut self, pictures: &Dataset) -> Result<(usize, usize)> {
        let order = Rng::new(self.seed, Stream::Audit, 3).permutation(pictures.len());
        let picture = |idx: &usize| *pictures.image(*idx).expose();
        let some: Vec<&[u8]> = order.iter().take(MAX_WORKS).map(picture).collect();
        let squares = self.squares(&some)?;
        let found = matches(&self.bank, &self.frame, &squares, None)?;
        let num_alike = self.calibration.count(&found);
        self.cells = cells(self.bank.descriptors(), self.frame.len(), self.seed);
        let placed = |found: Vec<Match>| found.iter().map(|it| self.placed(it)).collect::<Vec<_>>();
        let mut held_out = vec![placed(found)];
        for deviation in SMOOTH {
            let smooth: Vec<_> =
                squares.par_iter().map(|square| square.smooth(deviation)).collect();
            held_out.push(placed(matches(&self.bank, &self.frame, &smooth, None)?));
        }
        self.held_out = held_out;
        Ok((some.len(), num_alike))
    }

    /// What a copy is in this set.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// An audit without samples yet.
    pub fn begin(&self) -> Audit<'_> {
        Audit { auditor: self, matches: Vec::new() }
    }

    /// Which of `images [N, 3, res, res]` in [-1, 1] are near-copies.
    ///
    /// # Errors
    /// Fails if the shape differs, memory cannot be had, or if cancelled.
    pub fn near_copies(&self, images: &Tensor) -> Result<Vec<bool>> {
        let found = self.matches_of(images)?;
        Ok(found.iter().map(|it| self.calibration.is_copy(it)).collect())
    }

    fn matches_of(&self, images: &Tensor) -> Result<Vec<Match>> {
        let values = images.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let values = values.flatten_from(1)?.to_vec2::<f32>()?;
        let byte = |x: &f32| (x * 127.5 + 127.5).round().clamp(0.0, 255.0) as u8;
        let pictures: Vec<Vec<u8>> =
            values.par_iter().map(|image| image.iter().map(byte).collect()).collect();
        self.matches(&pictures.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    fn matches(&self, pictures: &[&[u8]]) -> Result<Vec<Match>> {
        matches(&self.bank, &self.frame, &self.squares(pictures)?, None)
    }

    fn squares(&self, pictures: &[&[u8]]) -> Result<Vec<Square>> {
        let expected = self.frame.num_bytes();
        if let Some(other) = pictures.iter().find(|picture| picture.len() != expected) {
            bail!("audit: expected pictures of {expected} values, got {}", other.len());
        }
        Ok(pictures.par_iter().map(|picture| self.frame.square(picture)).collect())
    }

    fn placed(&self, it: &Match) -> Placed {
        (self.cells[it.idx as usize], it.distance)
    }
}

/// Samples that were compared with the set so far.
pub struct Audit<'a> {
    auditor: &'a Auditor,
    matches: Vec<Match>,
}

impl Audit<'_> {
    /// Looks at samples, `[N, 3, res, res]` in [-1, 1].
    ///
    /// # Errors
    /// Fails if the shape differs, memory cannot be had, or if cancelled.
    pub fn add(&mut self, images: &Tensor) -> Result<()> {
        self.matches.extend(self.auditor.matches_of(images)?);
        Ok(())
    }

    /// What the samples so far say, for a `limit` on the share of near-copies.
    pub fn finding(&self, limit: f64) -> Finding {
        let calibration = &self.auditor.calibration;
        let (count, total) = (calibration.count(&self.matches), self.matches.len());
        let (bound, power) = (upper(count, total), calibration.power());
        let odds = |share: f64| share / (1.0 - share);
        let exceeds = |least: f64, (alike, compared): (usize, usize)| {
            let share = alike as f64 / compared.max(1) as f64;
            calibration.is_separable()
                || (least > upper(alike, compared) && odds(least) > MIN_ODDS * odds(share))
        };
        let is_copied = |(least, alike): (f64, _)| least > limit && exceeds(least, alike);
        let verdict = if power < MIN_POWER || upper(0, total) > limit {
            Verdict::Inconclusive
        } else if self.groups().any(is_copied) {
            Verdict::Withhold
        } else if bound <= limit {
            let samples = Level::of(&self.matches);
            let is_near = !self.is_authentic(&samples) || self.is_data_copying(&samples);
            let verdict = if is_near { Verdict::Withhold } else { Verdict::Pass };
            return Finding { is_near, ..Finding::new(verdict, (count, total), bound, power) };
        } else if exceeds(lower(count, total), calibration.alike) {
            Verdict::Withhold
        } else {
            Verdict::Inconclusive
        };
        Finding::new(verdict, (count, total), bound, power)
    }

    /// For each group: of the samples that are nearest to its pictures, the share that are near-copies
    /// at least, at 95 % confidence for all groups together; and how many of its works are alike.
    fn groups(&self) -> impl Iterator<Item = (f64, (usize, usize))> {
        let calibration = &self.auditor.calibration;
        self.auditor.groups.iter().map(|group| {
            let is_near = |it: &&Match| group.binary_search(&it.idx).is_ok();
            let near: Vec<Match> = self.matches.iter().filter(is_near).copied().collect();
            let num_groups = self.auditor.groups.len();
            let least = lower_of_many(calibration.count(&near), near.len(), num_groups);
            (least, calibration.alike_among(group))
        })
    }

    /// Whether samples are as far from the pictures as these are from each other, or nearly.
    fn is_authentic(&self, samples: &Level) -> bool {
        let calibration = &self.auditor.calibration;
        let most = upper(samples.authentic.0, samples.authentic.1);
        let is_as_far =
            |works: &Level| most >= MIN_AUTHENTIC.0 * lower(works.authentic.0, works.authentic.1);
        calibration.alike.1 < MIN_AUTHENTIC.1
            || calibration.levels_for(samples).iter().any(is_as_far)
    }

    /// Whether samples are nearer to the pictures than held-out ones are, also than smooth ones where
    /// samples are smooth.
    fn is_data_copying(&self, samples: &Level) -> bool {
        let Auditor { calibration, held_out, .. } = self.auditor;
        if held_out.first().is_none_or(|pictures| pictures.len() < MIN_HELD_OUT) {
            return false;
        }
        let num_levels = calibration.levels_for(samples).len();
        let placed: Vec<Placed> = self.matches.iter().map(|it| self.auditor.placed(it)).collect();
        held_out[..num_levels].iter().all(|held_out| {
            data_copying(held_out, &placed).is_some_and(|statistic| statistic <= MIN_COPYING)
        })
    }
}
