//! What a picture is labelled with, and where that comes from.
//!
//! Sources: `dataset.json` as the reference writes it, one folder per class, one asset per class.
//! Names are compared and, unless the caller asked for them, forgotten. Classes of folders and assets are numbered by the content of
//! their pictures, so that a renamed folder or another mount changes nothing; classes of
//! `dataset.json` keep their numbers.

use std::collections::HashMap;
use std::hash::Hash;

use super::dataset_json::{Label, LabelsFiles};
use super::{Cond, DataError};

/// Widest label; a class takes one place of it.
pub(super) const MAX_LABEL_DIM: usize = 16_384;

/// Labels of a set, in its order.
#[derive(Clone, PartialEq)]
pub(super) enum Labels {
    Off,
    /// `one_hot` is zero but for its middle, so that a window of it is any class's label.
    Classes {
        dim: usize,
        classes: Vec<u32>,
        one_hot: Vec<f32>,
    },
    Vectors {
        dim: usize,
        values: Vec<f32>,
    },
}

impl Labels {
    fn classes(dim: usize, classes: Vec<u32>) -> Self {
        let mut one_hot = vec![0.0; 2 * dim - 1];
        one_hot[dim - 1] = 1.0;
        Self::Classes { dim, classes, one_hot }
    }

    pub(super) fn dim(&self) -> usize {
        match self {
            Self::Off => 0,
            Self::Classes { dim, .. } | Self::Vectors { dim, .. } => *dim,
        }
    }

    /// Label of a picture, `[dim]`.
    pub(super) fn label(&self, idx: usize) -> &[f32] {
        match self {
            Self::Off => &[],
            Self::Classes { dim, classes, one_hot } => {
                &one_hot[dim - 1 - classes[idx] as usize..][..*dim]
            }
            Self::Vectors { dim, values } => &values[idx * dim..][..*dim],
        }
    }

    /// Class of a picture, unless labels are no classes.
    pub(super) fn class(&self, idx: usize) -> Option<usize> {
        let Self::Classes { classes, .. } = self else { return None };
        Some(classes[idx] as usize)
    }

    /// Pictures per class; empty unless labels are classes.
    pub(super) fn class_counts(&self) -> Vec<usize> {
        let Self::Classes { dim, classes, .. } = self else { return Vec::new() };
        let mut counts = vec![0; *dim];
        for &class in classes {
            counts[class as usize] += 1;
        }
        counts
    }

    /// Bytes in memory.
    pub(super) fn num_bytes(&self) -> u64 {
        let (ints, floats) = match self {
            Self::Off => (0, 0),
            Self::Classes { classes, one_hot, .. } => (classes.len(), one_hot.len()),
            Self::Vectors { values, .. } => (0, values.len()),
        };
        4 * (ints + floats) as u64
    }

    /// The labels of the pictures for which `keep` holds.
    pub(super) fn keep(&self, keep: &[bool]) -> Self {
        match self {
            Self::Off => Self::Off,
            Self::Classes { dim, classes, .. } => {
                let kept = classes.iter().zip(keep).filter(|(_, keep)| **keep);
                Self::classes(*dim, kept.map(|(&class, _)| class).collect())
            }
            Self::Vectors { dim, values } => {
                let kept = values.chunks_exact(*dim).zip(keep).filter(|(_, keep)| **keep);
                Self::Vectors {
                    dim: *dim,
                    values: kept.flat_map(|(row, _)| row).copied().collect(),
                }
            }
        }
    }
}

/// A place, hashed: paths are not kept.
pub(super) type Key = [u8; 16];

/// The key of `path` within a container.
pub(super) fn key(container: usize, path: &[u8]) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(container as u64).to_le_bytes());
    hasher.update(path);
    let mut key = Key::default();
    hasher.finalize_xof().fill(&mut key);
    key
}

/// A picture at one place; the same bytes may be at several.
pub(super) struct Occurrence {
    /// Index in the order of hashes.
    pub image_idx: usize,
    pub asset_idx: usize,
    /// Index of its folder.
    pub folder_idx: usize,
    pub key: Key,
}

/// Labels, and for each class the name that it has in the input.
pub(super) type Named<'a> = (Labels, Option<Vec<&'a [u8]>>);

/// All that labels may be made from.
pub(super) struct Sources<'a> {
    pub num_images: usize,
    pub occurrences: &'a [Occurrence],
    /// Paths of folders.
    pub folders: &'a [Vec<u8>],
    pub labels: &'a LabelsFiles,
}

impl<'a> Sources<'a> {
    /// The labels that `cond` asks for.
    pub(super) fn resolve(&self, cond: Cond) -> Result<Named<'a>, DataError> {
        match cond {
            Cond::Off => Ok((Labels::Off, None)),
            Cond::Labels if self.labels.is_empty() => Err(DataError::NoLabels),
            Cond::Labels => self.of_files(),
            Cond::Folders => self.of_folders(),
            Cond::Assets => self.of_assets(),
            Cond::Auto if !self.labels.is_empty() => self.of_files(),
            Cond::Auto => {
                self.of_folders().or_else(|_| self.of_assets()).map_err(|_| DataError::NoClasses)
            }
        }
    }

    fn of_files(&self) -> Result<Named<'a>, DataError> {
        let mut chosen: Vec<Option<&Label>> = vec![None; self.num_images];
        for at in self.occurrences {
            let label = self.labels.label(&at.key);
            let chosen = &mut chosen[at.image_idx];
            // Of the labels of equal files the smallest, whatever order they came in.
            *chosen = match (chosen.take(), label) {
                (Some(a), Some(b)) => Some(if a.is_at_most(b) { a } else { b }),
                (a, b) => a.or(b),
            };
        }
        let count = chosen.iter().filter(|label| label.is_none()).count();
        if count > 0 {
            return Err(DataError::Unlabelled { count });
        }
        let chosen: Vec<&Label> = chosen.into_iter().flatten().collect();
        let dim = self.labels.dim()?;
        if dim == 0 || dim > MAX_LABEL_DIM {
            return Err(DataError::LabelDim { dim, limit: MAX_LABEL_DIM });
        }
        if let Some(Label::Vector(_)) = chosen.first() {
            let values = chosen.into_iter().flat_map(Label::values).copied().collect();
            return Ok((Labels::Vectors { dim, values }, None));
        }
        let labels = Labels::classes(dim, chosen.into_iter().map(Label::class).collect());
        Ok((labels, self.labels.class_names()))
    }

    /// One class per folder: the first below those folders that hold every picture.
    fn of_folders(&self) -> Result<Named<'a>, DataError> {
        let folders: Vec<Vec<&'a [u8]>> = self
            .folders
            .iter()
            .map(|path| path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect())
            .collect();
        let used = || self.occurrences.iter().map(|at| &folders[at.folder_idx]);
        let first = used().next().cloned().unwrap_or_default();
        let shared = used().fold(first.len(), |shared, folder| {
            first.iter().zip(folder).take(shared).take_while(|(a, b)| a == b).count()
        });
        let count = used().filter(|folder| folder.len() == shared).count();
        if count > 0 {
            return Err(DataError::LooseImages { count });
        }
        let groups: Vec<&[u8]> = used().map(|folder| folder[shared]).collect();
        let (labels, names) = self.of_groups(&groups)?;
        Ok((labels, Some(names)))
    }

    fn of_assets(&self) -> Result<Named<'a>, DataError> {
        let groups: Vec<usize> = self.occurrences.iter().map(|at| at.asset_idx).collect();
        Ok((self.of_groups(&groups)?.0, None))
    }

    /// Classes from a group per occurrence, numbered by the content of the groups; and the group
    /// of each class.
    fn of_groups<G: Copy + Eq + Hash + Ord>(
        &self,
        groups: &[G],
    ) -> Result<(Labels, Vec<G>), DataError> {
        let mut members: HashMap<G, Vec<usize>> = HashMap::new();
        for (at, &group) in self.occurrences.iter().zip(groups) {
            members.entry(group).or_default().push(at.image_idx);
        }
        let sorted = |(group, mut images): (G, Vec<usize>)| {
            images.sort_unstable();
            images.dedup();
            (images, group)
        };
        // Of groups with the same pictures the first in order of their names gets them.
        let mut members: Vec<(Vec<usize>, G)> = members.into_iter().map(sorted).collect();
        members.sort_unstable();
        // A picture in several groups goes to the first; a group left with none is no class.
        let mut chosen = vec![u32::MAX; self.num_images];
        let mut named = Vec::new();
        for (images, group) in members {
            let free: Vec<_> = images.into_iter().filter(|&idx| chosen[idx] == u32::MAX).collect();
            for &idx in &free {
                chosen[idx] = named.len() as u32;
            }
            if !free.is_empty() {
                named.push(group);
            }
        }
        let dim = named.len();
        if dim < 2 {
            return Err(DataError::TooFewClasses { count: dim });
        }
        if dim > MAX_LABEL_DIM {
            return Err(DataError::LabelDim { dim, limit: MAX_LABEL_DIM });
        }
        Ok((Labels::classes(dim, chosen), named))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_the_label_of_each_class() {
        let labels = Labels::classes(3, vec![2, 0, 1, 2]);
        assert_eq!(labels.label(0), [0.0, 0.0, 1.0]);
        assert_eq!(labels.label(1), [1.0, 0.0, 0.0]);
        assert_eq!(labels.label(2), [0.0, 1.0, 0.0]);
        assert_eq!(labels.class_counts(), [1, 1, 2]);
    }

    #[test]
    fn kept_labels_stay_with_their_pictures() {
        let keep = [false, true, true];
        let classes = Labels::classes(2, vec![0, 1, 0]).keep(&keep);
        assert_eq!((classes.label(0), classes.label(1)), (&[0.0, 1.0][..], &[1.0, 0.0][..]));
        let vectors = Labels::Vectors { dim: 2, values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        assert_eq!(vectors.keep(&keep).label(1), [5.0, 6.0]);
        assert_eq!(Labels::Off.keep(&keep).dim(), 0);
    }

    /// Groups {0, 2} and {1, 2}: the first has the smaller content, so it is class 0 and has 2.
    #[test]
    fn groups_are_numbered_by_content() {
        let seen = |image_idx| Occurrence { image_idx, asset_idx: 0, folder_idx: 0, key: [0; 16] };
        let occurrences = [1, 2, 2, 0].map(seen);
        let labels = LabelsFiles::default();
        let sources =
            Sources { num_images: 3, occurrences: &occurrences, folders: &[], labels: &labels };
        let numbered = |groups: &[usize]| {
            let (labels, groups) = sources.of_groups(groups).ok().unwrap();
            ([0, 1, 2].map(|idx| labels.label(idx)[1]), groups)
        };
        assert_eq!(numbered(&[7, 7, 3, 3]), ([0.0, 1.0, 0.0], vec![3, 7]));
        assert_eq!(numbered(&[0, 0, 1, 1]), ([0.0, 1.0, 0.0], vec![1, 0]));
        // of two with the same pictures one has none left, and is no class
        let one = |names: [&'static str; 4]| {
            let occurrences = [0, 0, 1, 2].map(seen);
            let sources = Sources { occurrences: &occurrences, ..sources };
            sources.of_groups(&names).ok().unwrap().1
        };
        assert_eq!(one(["a", "b", "c", "c"]), ["a", "c"]);
        assert_eq!(one(["b", "a", "c", "c"]), ["a", "c"]);
    }
}
