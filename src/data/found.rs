//! What the first pass comes across: pictures that are inspected and sorted by content, labels, the
//! owners' word.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use super::coarse::at_least;
use super::dataset_json::LabelsFiles;
use super::decoder::{Decoders, FACTS_BYTES, File, fit_together};
use super::image::Facts;
use super::labels::{Key, Occurrence, key};
use super::load::Progress;
use super::place::Place;
use super::report::{SkipReason, Skipped, thousands};
use super::scan::Hash;
use super::walk::Content;
use super::{Cond, DataError, KeepNames, LoadOptions};

/// All that the walk brings, one entry after another.
pub(super) struct Found<'a> {
    decoders: Decoders,
    stop: &'a AtomicBool,
    decode_budget: u64,
    waiting: Waiting,
    /// A `dataset.json` nobody asked for may be anything.
    reads_labels: bool,
    keeps_names: KeepNames,
    pub policies: Vec<Vec<Vec<u8>>>,
    pub has_stray_policy: bool,
    pub images: Vec<(Hash, Facts)>,
    by_hash: HashMap<Hash, usize>,
    pub occurrences: Vec<Occurrence>,
    pub folders: Vec<Vec<u8>>,
    by_folder: HashMap<Vec<u8>, usize>,
    pub labels: LabelsFiles,
    pub skipped: Skipped,
    progress: Progress,
}

/// Pictures that are small enough to be inspected together.
#[derive(Default)]
struct Waiting {
    places: Vec<Place>,
    files: Vec<File>,
    num_bytes: usize,
}

impl<'a> Found<'a> {
    /// With decoders at the ready.
    pub(super) fn new(
        num_assets: usize,
        options: &LoadOptions,
        stop: &'a AtomicBool,
    ) -> Result<Self, DataError> {
        Ok(Self {
            decoders: Decoders::open(options, stop)?,
            stop,
            decode_budget: options.decode_budget(),
            waiting: Waiting::default(),
            reads_labels: matches!(options.cond, Cond::Auto | Cond::Labels),
            keeps_names: options.class_names,
            policies: vec![Vec::new(); num_assets],
            has_stray_policy: false,
            images: Vec::new(),
            by_hash: HashMap::new(),
            occurrences: Vec::new(),
            folders: Vec::new(),
            by_folder: HashMap::new(),
            labels: LabelsFiles::default(),
            skipped: Skipped::default(),
            progress: Progress::default(),
        })
    }

    /// Takes in an entry; pictures are inspected with others.
    pub(super) fn add(&mut self, place: &Place, content: Content) -> Result<(), DataError> {
        match content {
            Content::Labels(bytes) if self.reads_labels => {
                self.labels.add(place, &bytes)?;
                match self.keeps_names {
                    KeepNames::No => {}
                    KeepNames::IfThere => drop(self.labels.add_class_names(&bytes)),
                    KeepNames::Yes => self.labels.add_class_names(&bytes)?,
                }
            }
            Content::Labels(_) => {}
            Content::Policy(Some(bytes)) => self.policies[place.asset_idx].push(bytes),
            Content::Policy(None) => self.has_stray_policy = true,
            Content::Picture(format, bytes) => {
                let num_bytes = self.waiting.num_bytes + bytes.len();
                if !fit_together(self.waiting.files.len() + 1, num_bytes, FACTS_BYTES) {
                    self.inspect_waiting()?;
                }
                self.waiting.num_bytes += bytes.len();
                self.waiting.places.push(place.clone());
                self.waiting.files.push((format, bytes));
            }
        }
        Ok(())
    }

    /// Inspects the pictures that wait for others to go with; to be called once more at the end.
    pub(super) fn inspect_waiting(&mut self) -> Result<(), DataError> {
        let Waiting { places, files, .. } = std::mem::take(&mut self.waiting);
        let facts = self.decoders.inspect(&files, self.stop)?;
        for ((place, (_, bytes)), facts) in places.iter().zip(&files).zip(facts) {
            match facts {
                Ok(facts) if facts.decode_bytes <= self.decode_budget => {
                    self.add_picture(place, *blake3::hash(bytes).as_bytes(), facts);
                }
                Ok(_) => self.skipped.add(SkipReason::NeedsMemory),
                Err(reason) => self.skipped.add(reason),
            }
        }
        Ok(())
    }

    /// Equal bytes are kept once: a picture shown twice as often only skews the set, and copies
    /// are what a network learns by heart first.
    fn add_picture(&mut self, place: &Place, hash: Hash, facts: Facts) {
        let image_idx = *self.by_hash.entry(hash).or_insert_with(|| {
            self.images.push((hash, facts));
            self.images.len() - 1
        });
        let folder_idx = if let Some(&known) = self.by_folder.get(place.folder()) {
            known
        } else {
            self.folders.push(place.folder().to_vec());
            self.by_folder.insert(place.folder().to_vec(), self.folders.len() - 1);
            self.folders.len() - 1
        };
        let key: Key = key(place.container, &place.path);
        let asset_idx = place.asset_idx;
        self.occurrences.push(Occurrence { image_idx, asset_idx, folder_idx, key });
        let count = self.images.len();
        self.progress
            .say(|| tracing::info!("more than {} pictures found", thousands(at_least(count) - 1)));
    }

    /// Indices of the images in the order of hashes; occurrences then refer to that order.
    pub(super) fn sort(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.images.len()).collect();
        order.sort_unstable_by_key(|&idx| self.images[idx].0);
        let mut rank = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, &idx)| rank[idx] = at);
        self.occurrences.iter_mut().for_each(|seen| seen.image_idx = rank[seen.image_idx]);
        order
    }
}
