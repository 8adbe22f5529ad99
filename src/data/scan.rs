//! First pass: headers, hashes, labels; what the set will be, before anything is decoded.

use std::sync::atomic::AtomicBool;

use super::class_names::ClassNames;
use super::dataset::{check_resolution, image_bytes};
use super::found::Found;
use super::image::Facts;
use super::labels::{Labels, Sources};
use super::report::{AssetCounts, Report, Skipped};
use super::walk::{Tally, walk};
use super::{Asset, Crop, DataError, KeepNames, LoadOptions, RESOLUTIONS};

/// BLAKE3 of the bytes of a file.
pub(super) type Hash = [u8; blake3::OUT_LEN];

/// What the first pass found: which pictures, at which resolution, with which labels.
pub struct Scan {
    /// In the order of hashes.
    pub(super) images: Vec<(Hash, Facts)>,
    pub(super) labels: Labels,
    pub(super) class_names: Option<ClassNames>,
    /// Which picture belongs to which asset, sorted; equal bytes may belong to several.
    pub(super) members: Vec<Member>,
    policies: Vec<Vec<Vec<u8>>>,
    has_stray_policy: bool,
    report: Report,
}

/// Index of a picture, and of an asset that has it.
pub(super) type Member = (usize, usize);

impl Scan {
    /// Distinct pictures whose headers are sound.
    pub fn num_images(&self) -> usize {
        self.images.len()
    }

    /// Side of the pictures of the set.
    pub fn resolution(&self) -> usize {
        self.report.resolution
    }

    /// Number of classes; 0 if labels are off or are vectors.
    pub fn num_classes(&self) -> usize {
        self.report.class_counts.len()
    }

    /// Width of a label; 0 if there are none.
    pub fn label_dim(&self) -> usize {
        self.labels.dim()
    }

    /// Numbers and reasons, fit to be printed.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// For each asset, each `c2d-policy.json` at the root of one of its archives or folders.
    pub fn policies(&self) -> &[Vec<Vec<u8>>] {
        &self.policies
    }

    /// Whether a `c2d-policy.json` lies where none is read.
    pub fn has_stray_policy(&self) -> bool {
        self.has_stray_policy
    }

    /// The same scan of a set whose classes have no names.
    #[must_use]
    pub fn without_class_names(self) -> Self {
        Self { class_names: None, ..self }
    }

    /// Bytes the set takes in memory.
    pub fn dataset_bytes(&self) -> u64 {
        set_bytes(self.num_images(), self.resolution(), &self.labels)
    }
}

/// Reads the headers of all pictures under `assets`: counts, decides resolution and classes.
///
/// Everything is streamed once; `stop` is looked at between entries and while reading them.
///
/// # Errors
/// Fails without a picture, with labels that do not fit, with too much for the memory or the
/// limits of the input, and when stopped.
pub fn scan(assets: &[Asset], options: &LoadOptions, stop: &AtomicBool) -> Result<Scan, DataError> {
    options.resolution.map_or(Ok(()), check_resolution)?;
    let mut found = Found::new(assets.len(), options, stop)?;
    let tally =
        walk(assets, options.caps(), stop, &mut |place, content| found.add(place, content))?;
    found.inspect_waiting()?;
    found.skipped.merge(&tally.skipped);
    if found.images.is_empty() {
        return Err(no_images(found.skipped));
    }
    let order = found.sort();
    let facts: Vec<Facts> = order.iter().map(|&idx| found.images[idx].1).collect();
    let resolution = match options.resolution {
        Some(resolution) => resolution,
        None => auto_resolution(median_short_side(&facts), options.max_auto_resolution),
    };
    // Memory before labels: vectors are not multiplied out for a set that will not fit.
    check_memory(options, facts.len(), resolution, &Labels::Off)?;
    let sources = Sources {
        num_images: facts.len(),
        occurrences: &found.occurrences,
        folders: &found.folders,
        labels: &found.labels,
    };
    let (labels, names) = sources.resolve(options.cond)?;
    let num_classes = labels.class_counts().len();
    let named = names.ok_or(DataError::NoClassNames).and_then(|names| match names.len() {
        count if count == num_classes => ClassNames::of_bytes(&names),
        _ => Err(DataError::ClassNames),
    });
    let class_names = match options.class_names {
        KeepNames::No => None,
        KeepNames::IfThere => named.ok(),
        KeepNames::Yes => Some(named?),
    };
    check_memory(options, facts.len(), resolution, &labels)?;
    let counted = Counted {
        num_duplicates: found.occurrences.len() - facts.len(),
        tally: Tally { skipped: found.skipped, ..tally },
    };
    let mut members: Vec<Member> =
        found.occurrences.iter().map(|seen| (seen.image_idx, seen.asset_idx)).collect();
    members.sort_unstable();
    members.dedup();
    let report = report(&facts, resolution, options.crop, &labels, counted);
    let report = Report { assets: asset_counts(&members, assets.len(), &labels), ..report };
    let images = order.iter().map(|&idx| found.images[idx]).collect();
    let Found { policies, has_stray_policy, .. } = found;
    Ok(Scan { images, labels, class_names, members, policies, has_stray_policy, report })
}

/// The error of a set without pictures.
pub(super) fn no_images(skipped: Skipped) -> DataError {
    if skipped.is_html_only() { DataError::HtmlPage } else { DataError::NoImages { skipped } }
}

/// The pictures of each asset, by class where labels are classes.
pub(super) fn asset_counts(
    members: &[Member],
    num_assets: usize,
    labels: &Labels,
) -> Vec<AssetCounts> {
    let num_classes = labels.class_counts().len();
    let none = AssetCounts { num_images: 0, class_counts: vec![0; num_classes] };
    let mut counts = vec![none; num_assets];
    for &(image_idx, asset_idx) in members {
        counts[asset_idx].num_images += 1;
        if let Some(class) = labels.class(image_idx) {
            counts[asset_idx].class_counts[class] += 1;
        }
    }
    counts
}

/// Counts that do not follow from the pictures that are left.
pub(super) struct Counted {
    pub num_duplicates: usize,
    pub tally: Tally,
}

pub(super) fn report(
    facts: &[Facts],
    resolution: usize,
    crop: Crop,
    labels: &Labels,
    counted: Counted,
) -> Report {
    let kept_sides = || {
        facts.iter().map(|facts| match crop {
            Crop::Pad => facts.width.max(facts.height),
            Crop::Center | Crop::Stretch => facts.width.min(facts.height),
        })
    };
    Report {
        num_images: facts.len(),
        num_duplicates: counted.num_duplicates,
        skipped: counted.tally.skipped,
        num_archives: counted.tally.num_archives,
        num_resized_up: kept_sides().filter(|&side| side < resolution).count(),
        num_resized_down: kept_sides().filter(|&side| side > resolution).count(),
        num_not_square: facts.iter().filter(|facts| facts.width != facts.height).count(),
        median_short_side: median_short_side(facts),
        resolution,
        class_counts: labels.class_counts(),
        assets: Vec::new(),
    }
}

fn median_short_side(facts: &[Facts]) -> usize {
    let mut sides: Vec<usize> = facts.iter().map(|facts| facts.width.min(facts.height)).collect();
    sides.sort_unstable();
    sides.get(sides.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// The largest power of two not above `short_side` nor `cap`, within [`RESOLUTIONS`].
fn auto_resolution(short_side: usize, cap: usize) -> usize {
    let side = short_side.min(cap).clamp(*RESOLUTIONS.start(), *RESOLUTIONS.end());
    1 << side.ilog2()
}

fn set_bytes(num_images: usize, resolution: usize, labels: &Labels) -> u64 {
    num_images as u64 * image_bytes(resolution) as u64 + labels.num_bytes()
}

/// Refuses a set over half of the memory, and says what would fit.
fn check_memory(
    options: &LoadOptions,
    num_images: usize,
    resolution: usize,
    labels: &Labels,
) -> Result<(), DataError> {
    let Some(limit) = options.memory_limit else { return Ok(()) };
    let fits = |resolution| set_bytes(num_images, resolution, labels) <= limit / 2;
    if fits(resolution) {
        return Ok(());
    }
    let smaller = std::iter::successors(Some(resolution / 2), |&side| Some(side / 2));
    let mut smaller = smaller.take_while(|side| RESOLUTIONS.contains(side));
    match smaller.find(|&side| fits(side)) {
        Some(largest_resolution) => Err(DataError::TooLargeForMemory { largest_resolution }),
        None => Err(DataError::TooManyForMemory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(width: usize, height: usize) -> Facts {
        Facts { width, height, decode_bytes: 0 }
    }

    #[test]
    fn auto_resolution_is_the_power_of_two_below_the_median() {
        let shown: Vec<_> = [1, 8, 63, 64, 255, 5000].map(|side| auto_resolution(side, 256)).into();
        assert_eq!(shown, [8, 8, 32, 64, 128, 256]);
        assert_eq!(auto_resolution(5000, 4000), 1024);
        assert_eq!(auto_resolution(5000, 300), 256);
    }

    #[test]
    fn the_median_of_an_even_count_is_the_lower_one() {
        let sides = [facts(9, 50), facts(20, 10), facts(30, 30), facts(40, 41)];
        assert_eq!(median_short_side(&sides), 10);
        assert_eq!(median_short_side(&sides[..3]), 10);
        assert_eq!(median_short_side(&[]), 0);
    }

    #[test]
    fn half_of_the_memory_is_the_limit() {
        let options = |limit| LoadOptions { memory_limit: Some(limit), ..LoadOptions::default() };
        let whole = 2 * 10 * 3 * 64 * 64;
        assert!(check_memory(&options(whole), 10, 64, &Labels::Off).is_ok());
        assert!(matches!(
            check_memory(&options(whole - 1), 10, 64, &Labels::Off),
            Err(DataError::TooLargeForMemory { largest_resolution: 32 })
        ));
        assert!(matches!(
            check_memory(&options(100), 10, 64, &Labels::Off),
            Err(DataError::TooManyForMemory)
        ));
    }

    #[test]
    fn counts_follow_the_part_that_is_kept() {
        let sides = [facts(64, 32), facts(32, 32), facts(64, 64)];
        let counted = || Counted { num_duplicates: 0, tally: Tally::default() };
        let report_of = |crop| report(&sides, 48, crop, &Labels::Off, counted());
        let center = report_of(Crop::Center);
        assert_eq!(
            (center.num_resized_up, center.num_resized_down, center.num_not_square),
            (2, 1, 1)
        );
        let pad = report_of(Crop::Pad);
        assert_eq!((pad.num_resized_up, pad.num_resized_down), (1, 2));
    }
}
