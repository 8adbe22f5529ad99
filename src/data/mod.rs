//! Pictures from anywhere to a set in memory.
//!
//! Any mixture of image files, folders, zip, tar and tar.gz comes in; out comes a [`Dataset`] of
//! square planar RGB bytes with labels, ordered by the hashes of the files, so that names, mounts
//! and the order of files change nothing. Two passes over the input: [`scan()`] reads headers,
//! counts, and decides resolution and classes; [`load()`] decodes. Both take untrusted bytes.
//!
//! The data are private: no message names a file, its size or its content. A [`Report`] has
//! numbers and reasons; a [`Dataset`] cannot be printed or serialized, and hands its pictures out as
//! [`Private`].
//!
//! Not here: which folders to read (`job`, `cli`), what is trained on them (`train`).

mod archive;
mod batches;
mod class_names;
mod coarse;
mod dataset;
mod dataset_json;
pub mod decoder;
mod found;
mod image;
mod jpeg;
mod labels;
pub mod limits;
mod load;
mod meter;
mod place;
mod private;
mod report;
mod resize;
mod scan;
mod sniff;
mod walk;
mod zip_stream;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use batches::{Batches, Mirror};
pub use class_names::ClassNames;
pub use coarse::Coarse;
pub use dataset::{Dataset, Fingerprints};
pub use load::load;
pub use private::Private;
pub use report::{AssetCounts, Report, SkipReason, Skipped};
pub use scan::{Scan, scan};

/// Smallest and largest side of the pictures of a set.
pub const RESOLUTIONS: std::ops::RangeInclusive<usize> = 8..=1024;

/// One input asset: what one provider's file or folder brings; with [`Cond::Assets`] one class.
#[derive(Clone)]
pub struct Asset {
    /// Each a file or a folder. A root may be a link; links below it are skipped.
    pub roots: Vec<PathBuf>,
}

/// How a picture becomes square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// Keeps the middle; what is longer is cut off at both ends.
    #[default]
    Center,
    /// Keeps everything; the background fills the rest.
    Pad,
    /// Keeps everything and distorts it.
    Stretch,
}

/// The filter that changes the size of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// Windowed sinc, a = 3: sharp.
    #[default]
    Lanczos,
    /// Area mean when reducing, nearest pixel when enlarging.
    Box,
}

/// Where labels come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cond {
    /// No labels.
    #[default]
    Off,
    /// The first that there is of `Labels`, `Folders`, `Assets`.
    Auto,
    /// `dataset.json`, as the reference writes it.
    Labels,
    /// One class per sub-folder.
    Folders,
    /// One class per asset.
    Assets,
}

/// What becomes of the names that classes have in the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepNames {
    /// They are forgotten.
    #[default]
    No,
    /// They are kept with the set where there are fit ones.
    IfThere,
    /// They are kept, and must be there.
    Yes,
}

/// What is made of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Side of the pictures, a power of two of [`RESOLUTIONS`]; absent: the largest one not above
    /// the median short side, at most `max_auto_resolution`.
    pub resolution: Option<usize>,
    /// Cap of the automatic resolution.
    pub max_auto_resolution: usize,
    /// How a picture becomes square.
    pub crop: Crop,
    /// The filter that changes its size.
    pub resize: Resize,
    /// RGB under transparent pixels and around padded pictures.
    pub background: [u8; 3],
    /// Where labels come from.
    pub cond: Cond,
    /// What becomes of names of classes.
    pub class_names: KeepNames,
    /// Bytes this process may use, of which the set may take half; absent: no limit.
    pub memory_limit: Option<u64>,
    /// Seconds of a processor that a picture may take, where it is decoded apart ([`decoder`]).
    pub decode_seconds: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            resolution: None,
            max_auto_resolution: 256,
            crop: Crop::default(),
            resize: Resize::default(),
            background: [255; 3],
            cond: Cond::default(),
            class_names: KeepNames::default(),
            memory_limit: None,
            decode_seconds: 10,
        }
    }
}

impl LoadOptions {
    /// Memory for decoding, beside the set: a quarter of the limit.
    fn decode_budget(&self) -> u64 {
        const WITHOUT_LIMIT: u64 = 2 << 30;
        self.memory_limit.map_or(WITHOUT_LIMIT, |limit| limit / 4)
    }

    /// Bounds on the walk; no file may take more memory than decoding has.
    fn caps(&self) -> meter::Caps {
        let caps = meter::Caps::default();
        let budget = self.decode_budget();
        meter::Caps {
            file_bytes: caps.file_bytes.min(budget),
            labels_bytes: caps.labels_bytes.min(budget),
            ..caps
        }
    }
}

/// Why a dataset was refused. The command line turns this into an exit code.
///
/// Job logs reach the consumer, the data must not: no message names a file, its size or content, or how
/// many pictures there are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum DataError {
    #[error(
        "no picture found; expected PNG, JPEG, WebP, GIF, BMP or TIFF files, plain or in folders, \
         zip, tar or tar.gz; came: {skipped}"
    )]
    NoImages { skipped: Skipped },
    #[error(
        "expected pictures, came a web page, perhaps a login or an expired link; publish a direct \
         link to the file"
    )]
    HtmlPage,
    #[error(
        "the set would take more than half of the memory at this resolution; the largest \
         resolution that fits is {largest_resolution}"
    )]
    TooLargeForMemory { largest_resolution: usize },
    #[error(
        "the set would take more than half of the memory at any resolution; give more memory or \
         fewer pictures"
    )]
    TooManyForMemory,
    #[error("expected a resolution that is a power of two from 8 to 1024, came {got}")]
    Resolution { got: usize },
    #[error("expected at most {limit} files and entries of archives; split the set")]
    TooManyEntries { limit: u64 },
    #[error("the input unpacks to more bytes than are read; split the set")]
    TooManyBytes,
    #[error("no dataset.json with labels found; put one beside the pictures or set cond to false")]
    NoLabels,
    #[error(
        "a dataset.json is not as expected: {{\"labels\": [[\"name\", 0 or [0.5, ..]], ..]}} or \
         null in place of the list"
    )]
    BrokenLabels,
    #[error("some pictures have no label in dataset.json; label all of them or set cond to false")]
    Unlabelled { count: usize },
    #[error(
        "expected labels of dataset.json to be all integers or all vectors of one length, came a \
         mixture"
    )]
    MixedLabels,
    #[error("expected labels of dataset.json from 1 to {limit} wide, came none or wider ones")]
    LabelDim { dim: usize, limit: usize },
    #[error("some pictures lie in no class folder; put each into one sub-folder per class")]
    LooseImages { count: usize },
    #[error("expected pictures of two or more classes, came {count}; set cond to false")]
    TooFewClasses { count: usize },
    #[error(
        "no labels found; looked for a dataset.json with labels, for sub-folders that hold all \
         pictures, and for several assets; set cond to false"
    )]
    NoClasses,
    #[error(
        "no class names found; expected folders as classes (cond folders), or dataset.json with \
         classes and \"class_names\": [\"name of class 0\", ..]; leave class names out"
    )]
    NoClassNames,
    #[error(
        "class names are not as expected: a different one for each class, of 1 to 64 printable \
         characters, as names of folders or in dataset.json as \"class_names\": [\"name of class 0\", \
         ..]; correct them or leave class names out"
    )]
    ClassNames,
    #[error("c2d-policy.json cannot be read, or is larger than 64 KiB; correct it or take it out")]
    UnreadablePolicy,
    #[error("expected {expected} values, came {got}; images are [N, 3, R, R], labels [N, dim]")]
    Shape { expected: usize, got: usize },
    #[error(
        "expected pictures of which few crash their decoder or take too much memory or time, came \
         many; save them anew as PNG or JPEG"
    )]
    TooManyCrashes,
    #[error("the process that decodes pictures is gone, or there can be no more processes")]
    NoDecoder,
    #[error("stopped while reading the pictures")]
    Stopped,
}
