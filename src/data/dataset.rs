//! The set in memory: planar RGB bytes and labels, ordered by content.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::class_names::ClassNames;
use super::coarse::at_least;
use super::labels::{Labels, MAX_LABEL_DIM};
use super::private::Private;
use super::report::Report;
use super::scan::{Hash, Member};
use super::{DataError, RESOLUTIONS};

/// Pictures of one size with their labels.
///
/// It is private data: no `Debug`, no way to a file. Held as bytes, `[N, 3, R, R]`, which are wiped in
/// the end.
pub struct Dataset {
    resolution: usize,
    images: Zeroizing<Vec<u8>>,
    labels: Labels,
    /// Only where they were asked for.
    class_names: Option<ClassNames>,
    report: Report,
    /// Hashes of the files that the pictures came from, sorted.
    files: Vec<Hash>,
    /// Which picture belongs to which asset, sorted; none of a set that was not loaded.
    members: Vec<Member>,
}

/// What is trained on, as hashes in hexadecimal: they are equal if the values are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// Of the pixels.
    pub pixels: String,
    /// Of the labels.
    pub labels: String,
}

impl Dataset {
    /// * `files` - hash of the file of each picture, sorted.
    pub(super) fn new(images: Vec<u8>, labels: Labels, report: Report, files: Vec<Hash>) -> Self {
        let resolution = report.resolution;
        let (images, class_names, members) = (Zeroizing::new(images), None, Vec::new());
        Self { resolution, images, labels, class_names, report, files, members }
    }

    /// The same set with these names for its classes.
    pub(super) fn named(self, class_names: Option<ClassNames>) -> Self {
        Self { class_names, ..self }
    }

    /// The same set, of which these pictures belong to these assets.
    pub(super) fn of_assets(self, members: Vec<Member>) -> Self {
        Self { members, ..self }
    }

    /// A set from values already at hand: made-up pictures, tests.
    ///
    /// * `images` - `[N, 3, resolution, resolution]`, N at least 1.
    /// * `labels` - `[N, label_dim]`; empty where `label_dim` is 0.
    ///
    /// # Errors
    /// Fails if the resolution is no power of two of [`RESOLUTIONS`] or a length does not fit.
    pub fn from_raw(
        resolution: usize,
        images: Vec<u8>,
        label_dim: usize,
        labels: Vec<f32>,
    ) -> Result<Self, DataError> {
        check_resolution(resolution)?;
        if label_dim > MAX_LABEL_DIM {
            return Err(DataError::LabelDim { dim: label_dim, limit: MAX_LABEL_DIM });
        }
        let num_images = (images.len() / image_bytes(resolution)).max(1);
        for (got, expected) in [
            (images.len(), num_images * image_bytes(resolution)),
            (labels.len(), num_images * label_dim),
        ] {
            if got != expected {
                return Err(DataError::Shape { expected, got });
            }
        }
        let labels = match label_dim {
            0 => Labels::Off,
            dim => Labels::Vectors { dim, values: labels },
        };
        let report =
            Report { num_images, resolution, median_short_side: resolution, ..Report::default() };
        let pictures = images.chunks_exact(image_bytes(resolution));
        let mut files: Vec<Hash> = pictures.map(|image| *blake3::hash(image).as_bytes()).collect();
        files.sort_unstable();
        Ok(Self::new(images, labels, report, files))
    }

    /// Bytes in memory, labels included.
    pub fn num_bytes(&self) -> u64 {
        self.images.len() as u64 + self.labels.num_bytes()
    }

    /// Bytes of the smallest set that is not told from this one: see [`super::Coarse`].
    pub fn least_bytes(&self) -> u64 {
        let num_images = at_least(self.len()).max(1) as u64;
        self.num_bytes() / self.len().max(1) as u64 * num_images
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.report.num_images
    }

    /// True without pictures; a loaded set has at least one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Side of the pictures.
    pub fn resolution(&self) -> usize {
        self.resolution
    }

    /// Width of a label; 0 if there are none.
    pub fn label_dim(&self) -> usize {
        self.labels.dim()
    }

    /// What its classes are called, if [`super::LoadOptions::class_names`] asked for that.
    pub fn class_names(&self) -> Option<&ClassNames> {
        self.class_names.as_ref()
    }

    /// Numbers and reasons, fit to be printed.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The pictures of each asset and of each class, by index, ascending; none of those kinds of which
    /// there is but one. A picture that two assets have is in both.
    pub fn groups(&self) -> Vec<Vec<u32>> {
        let is_several = |groups: &Vec<Vec<u32>>| groups.len() > 1;
        let mut assets = vec![Vec::new(); self.report.assets.len()];
        self.members.iter().for_each(|(image, asset)| assets[*asset].push(*image as u32));
        let mut classes = vec![Vec::new(); self.report.class_counts.len()];
        for idx in 0..self.len() {
            if let Some(class) = self.labels.class(idx) {
                classes[class].push(idx as u32);
            }
        }
        [assets, classes].into_iter().filter(is_several).flatten().collect()
    }

    /// A key for `purpose`, derived from the sorted hashes of the files that the pictures came from.
    ///
    /// Whoever lacks a byte of one file lacks the key. It is as hard to guess as the files are
    /// together: those of a public set are no secret, and a set of few tiny drawings may be found by
    /// trying.
    pub fn key(&self, purpose: &'static str) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        self.files.iter().for_each(|file| {
            hasher.update(file);
        });
        Zeroizing::new(*hasher.finalize().as_bytes())
    }

    /// Hashes of what is trained on. Not for the public: they confirm a guess of it.
    pub fn fingerprints(&self) -> Fingerprints {
        let mut labels = blake3::Hasher::new();
        for idx in 0..self.len() {
            self.label(idx).iter().for_each(|value| {
                labels.update(&value.to_le_bytes());
            });
        }
        Fingerprints {
            pixels: blake3::hash(&self.images).to_hex().to_string(),
            labels: labels.finalize().to_hex().to_string(),
        }
    }

    /// Planar RGB of a picture, `[3, R, R]`.
    ///
    /// # Panics
    /// If `idx` is not below [`Self::len`].
    pub fn image(&self, idx: usize) -> Private<&[u8]> {
        let num_bytes = image_bytes(self.resolution);
        Private::new(&self.images[idx * num_bytes..][..num_bytes])
    }

    /// Label of a picture, `[label_dim]`.
    ///
    /// # Panics
    /// If `idx` is not below [`Self::len`] and there are labels.
    pub fn label(&self, idx: usize) -> &[f32] {
        self.labels.label(idx)
    }
}

/// Bytes of one picture.
pub(super) fn image_bytes(resolution: usize) -> usize {
    3 * resolution * resolution
}

pub(super) fn check_resolution(got: usize) -> Result<(), DataError> {
    if got.is_power_of_two() && RESOLUTIONS.contains(&got) {
        Ok(())
    } else {
        Err(DataError::Resolution { got })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_values_come_back() {
        let images: Vec<u8> = (0..2 * 192).map(|i| (i % 251) as u8).collect();
        let set = Dataset::from_raw(8, images.clone(), 2, vec![0.0, 1.0, 0.5, -1.0]).ok().unwrap();
        assert_eq!((set.len(), set.resolution(), set.label_dim()), (2, 8, 2));
        assert_eq!(*set.image(1).expose(), &images[192..]);
        assert_eq!(set.label(1), [0.5, -1.0]);
    }

    #[test]
    fn raw_values_must_fit() {
        let refused = |res, len: usize, dim, labels: usize| {
            Dataset::from_raw(res, vec![0; len], dim, vec![0.0; labels]).is_err()
        };
        assert!(refused(12, 432, 0, 0));
        assert!(refused(4, 48, 0, 0));
        assert!(refused(8, 191, 0, 0));
        assert!(refused(8, 0, 0, 0));
        assert!(refused(8, 192, 2, 1));
        assert!(!refused(8, 192, 0, 0));
    }

    #[test]
    fn the_key_is_the_files_and_the_purpose() {
        let set = |images: &[u8], labels: &[f32]| {
            let images = images.iter().flat_map(|value| [*value; 192]).collect();
            Dataset::from_raw(8, images, 1, labels.to_vec()).ok().unwrap()
        };
        let key = |images: &[u8]| *set(images, &vec![0.0; images.len()]).key("a");
        assert_eq!(key(&[1, 2, 3]), key(&[3, 1, 2]));
        for other in [&[1, 2][..], &[1, 2, 3, 4], &[1, 2, 4], &[1, 2, 3, 3]] {
            assert_ne!(key(&[1, 2, 3]), key(other));
        }
        assert_ne!(set(&[1], &[0.0]).key("a"), set(&[1], &[0.0]).key("b"));
        let (one, other) = (set(&[1], &[0.0]).fingerprints(), set(&[1], &[1.0]).fingerprints());
        assert!(one.pixels == other.pixels && one.labels != other.labels);
    }
}
