//! `dataset.json`: labels as the reference writes them.
//!
//! `{"labels": [["folder/name.png", 3], ..]}` with integers or vectors, or `null` in place of the
//! list. Names are relative to the folder the file lies in. Where names of classes are asked for,
//! they are in `"class_names": ["name of class 0", ..]` beside it.
//!
//! Reference: `dataset_tool.py` of stylegan2-ada-pytorch.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::DataError;
use super::labels::{Key, MAX_LABEL_DIM, key};
use super::place::Place;

/// All `dataset.json` of the input.
#[derive(Default)]
pub(super) struct LabelsFiles {
    /// By the places they label.
    labels: HashMap<Key, Label>,
    /// What classes are called, where that was asked for and said.
    class_names: Option<Vec<String>>,
}

impl LabelsFiles {
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// What classes are called, in the order of their numbers.
    pub(super) fn class_names(&self) -> Option<Vec<&[u8]>> {
        let names = self.class_names.as_ref()?;
        Some(names.iter().map(String::as_bytes).collect())
    }

    /// The label of a place.
    pub(super) fn label(&self, key: &Key) -> Option<&Label> {
        self.labels.get(key)
    }

    /// Adds the file found at `place`; its names are relative to the folder it lies in.
    pub(super) fn add(&mut self, place: &Place, bytes: &[u8]) -> Result<(), DataError> {
        let file: File = serde_json::from_slice(bytes).map_err(|_| DataError::BrokenLabels)?;
        let folder = Place { path: place.folder().to_vec(), ..*place };
        for (name, label) in file.labels.unwrap_or_default() {
            let place = folder.child(name.as_bytes());
            self.labels.insert(key(place.container, &place.path), label);
        }
        Ok(())
    }

    /// Adds the names of classes of a file, if it has some; all that have must have the same.
    pub(super) fn add_class_names(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        let file: NamesFile = serde_json::from_slice(bytes).map_err(|_| DataError::ClassNames)?;
        match (&self.class_names, file.class_names) {
            (Some(known), Some(names)) if *known != names => return Err(DataError::ClassNames),
            (None, names) => self.class_names = names,
            _ => {}
        }
        Ok(())
    }

    /// Width of the labels: the largest class and one more, or the length of the vectors.
    pub(super) fn dim(&self) -> Result<usize, DataError> {
        let mut max_class = None;
        let mut length = None;
        for label in self.labels.values() {
            match label {
                Label::Class(class) => max_class = max_class.max(Some(*class as usize)),
                Label::Vector(values) if *length.get_or_insert(values.len()) != values.len() => {
                    return Err(DataError::MixedLabels);
                }
                Label::Vector(_) => {}
            }
        }
        match (max_class, length) {
            (Some(_), Some(_)) => Err(DataError::MixedLabels),
            (max_class, length) => Ok(length.or(max_class.map(|max| max + 1)).unwrap_or(0)),
        }
    }
}

/// `dataset.json`; other keys are left alone.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    labels: Option<Vec<(String, Label)>>,
}

/// The same file for its names, which are not read unless they are asked for.
#[derive(Deserialize)]
struct NamesFile {
    class_names: Option<Vec<String>>,
}

/// What one picture is labelled with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Label {
    Class(u32),
    Vector(Vec<f32>),
}

impl Label {
    pub(super) fn class(&self) -> u32 {
        match self {
            Self::Class(class) => *class,
            Self::Vector(_) => 0, // no mixtures: see LabelsFiles::dim
        }
    }

    pub(super) fn values(&self) -> &[f32] {
        match self {
            Self::Class(_) => &[],
            Self::Vector(values) => values,
        }
    }

    pub(super) fn is_at_most(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Class(a), Self::Class(b)) => a <= b,
            (Self::Vector(a), Self::Vector(b)) => {
                let unequal = a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|by| by.is_ne());
                unequal.is_none_or(std::cmp::Ordering::is_lt)
            }
            _ => true,
        }
    }
}

/// By hand: the derived form of an untagged enum keeps every number in 32 bytes first.
impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelVisitor;

        impl<'de> Visitor<'de> for LabelVisitor {
            type Value = Label;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a class number or a list of numbers")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Label, E> {
                u32::try_from(value).map(Label::Class).map_err(|_| E::custom("class too large"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Label, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element::<f32>()? {
                    if !value.is_finite() || values.len() == MAX_LABEL_DIM {
                        return Err(A::Error::custom("vector not finite or too long"));
                    }
                    values.push(value);
                }
                Ok(Label::Vector(values))
            }
        }

        deserializer.deserialize_any(LabelVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Option<Vec<Label>> {
        let file: File = serde_json::from_str(json).ok()?;
        Some(file.labels?.into_iter().map(|(_, label)| label).collect())
    }

    #[test]
    fn integers_and_vectors_are_read() {
        let labels = parsed(r#"{"a": {}, "labels": [["x", 7], ["y", [1, 2.5]]]}"#);
        assert_eq!(labels, Some(vec![Label::Class(7), Label::Vector(vec![1.0, 2.5])]));
        assert_eq!(parsed(r#"{"labels": null}"#), None);
        assert_eq!(parsed("{}"), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for label in ["-1", "1.5", "4294967296", "\"a\"", "[1, [2]]", "[1e39]", "null", "true"] {
            assert_eq!(parsed(&format!(r#"{{"labels": [["x", {label}]]}}"#)), None, "{label}");
        }
    }

    #[test]
    fn labels_are_ordered() {
        let [a, b] = [[1.0, 2.0], [1.0, 3.0]].map(|values| Label::Vector(values.into()));
        assert!(a.is_at_most(&b) && a.is_at_most(&a) && !b.is_at_most(&a));
        assert!(Label::Class(1).is_at_most(&Label::Class(2)));
    }
}
