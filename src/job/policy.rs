//! What the owners of the pictures allow: `c2d-policy.json`, and what follows from it for a job.
//!
//! An owner puts the file at the root of the archive (or folder) that is the asset, where nobody
//! else can take it away or replace it:
//!
//! ```json
//! {"version": 1, "min_images": 500, "max_kimg_per_image": 5, "sealed_state": false}
//! ```
//!
//! A file speaks for its own asset. Who publishes the algorithm can set limits for all assets
//! (`--policy`), which only tighten. Of all that holds for a job, the most restrictive counts
//! ([`Policy::meet`]). The buyer has no say: no parameter reaches this module.
//!
//! Fewer pictures than the minimum are no set to learn from, but pictures to learn by heart. The
//! minimum is judged for each asset, so that a buyer's own pictures cannot hide a small set, and
//! for each class of an asset. A small asset is left out; if none is left, the job is refused.
//!
//! Not here: what is binding at home, which is nothing: `train` is for one's own pictures.

use serde::Deserialize;

use super::gate::Level;
use crate::data::AssetCounts;

/// Version of the file's form.
const VERSION: u32 = 1;
/// No owner can allow fewer pictures.
const FLOOR: usize = 20;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "permissions that do not depend on each other")]
pub struct Policy {
    /// Distinct pictures that an asset must have, and each class of it; at least 20.
    pub min_images: usize,
    /// Thousands of pictures shown for each distinct picture of the asset, in the whole training;
    /// absent: no limit.
    pub max_kimg_per_image: Option<f64>,
    /// Names of classes may be in the header of the weights.
    pub class_names: bool,
    /// A sealed state may be written, and continued from.
    pub sealed_state: bool,
    /// Other assets may be trained on together with this one.
    pub mixing: bool,
    /// No weights may leave, only samples.
    pub samples_only: bool,
    /// What is done about near-copies of the pictures.
    pub gate: Level,
}

impl Policy {
    /// Of an asset whose owner says nothing.
    pub const DEFAULT: Self =
        Self { min_images: 200, class_names: false, gate: Level::Withhold, ..Self::LOOSEST };
    /// What the program allows at most.
    pub const LOOSEST: Self = Self {
        min_images: FLOOR,
        max_kimg_per_image: None,
        class_names: true,
        sealed_state: true,
        mixing: true,
        samples_only: false,
        gate: Level::Report,
    };

    /// The policy of a file at the root of an asset.
    ///
    /// # Errors
    /// Fails if anything of it is unknown or out of range; it is never taken in part.
    pub fn of_file(bytes: &[u8]) -> Result<Self, PolicyError> {
        Self::DEFAULT.changed_by(bytes).ok_or(PolicyError::File)
    }

    /// The limits of the publisher of the algorithm, in the form of the file.
    ///
    /// # Errors
    /// As [`Policy::of_file`].
    pub fn of_publisher(text: &str) -> Result<Self, PolicyError> {
        Self::LOOSEST.changed_by(text.as_bytes()).ok_or(PolicyError::Flag)
    }

    fn changed_by(self, bytes: &[u8]) -> Option<Self> {
        let file: File = serde_json::from_slice(bytes).ok()?;
        let is_limit = |limit: f64| limit.is_finite() && limit > 0.0;
        let is_sound = file.version == VERSION
            && file.min_images.is_none_or(|count| count >= FLOOR)
            && file.max_kimg_per_image.is_none_or(is_limit);
        is_sound.then(|| Self {
            min_images: file.min_images.unwrap_or(self.min_images),
            max_kimg_per_image: file.max_kimg_per_image.or(self.max_kimg_per_image),
            class_names: file.class_names.unwrap_or(self.class_names),
            sealed_state: file.sealed_state.unwrap_or(self.sealed_state),
            mixing: file.mixing.unwrap_or(self.mixing),
            samples_only: file.samples_only.unwrap_or(self.samples_only),
            gate: file.gate.unwrap_or(self.gate),
        })
    }

    /// What both allow.
    #[must_use]
    pub fn meet(self, other: Self) -> Self {
        let kimg = [self.max_kimg_per_image, other.max_kimg_per_image].into_iter().flatten();
        Self {
            min_images: self.min_images.max(other.min_images),
            max_kimg_per_image: kimg.reduce(f64::min),
            class_names: self.class_names && other.class_names,
            sealed_state: self.sealed_state && other.sealed_state,
            mixing: self.mixing && other.mixing,
            samples_only: self.samples_only || other.samples_only,
            gate: self.gate.max(other.gate),
        }
    }

    /// Whether an asset is too small; one without pictures is no asset of pictures.
    pub fn is_too_small(&self, counts: &AssetCounts) -> bool {
        counts.num_images > 0 && counts.num_images < self.min_images
    }

    /// Thousands of pictures that may be shown in a training with this asset. Other assets do not
    /// count, and each class follows: its pictures are shown as often as all others. Rounded down to two
    /// digits, since everybody sees how long a training was, and with it the number of pictures.
    fn max_kimg(&self, counts: &AssetCounts) -> Option<f64> {
        let max_kimg = self.max_kimg_per_image? * counts.num_images as f64;
        let unit = 10_f64.powi(max_kimg.log10().floor() as i32 - 1);
        Some((max_kimg / unit * (1.0 + 1e-12)).floor() * unit)
    }
}

/// What all owners together allow a job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// What holds for all assets at once.
    pub policy: Policy,
    /// The longest training, in thousands of pictures shown.
    pub max_kimg: Option<f64>,
}

impl Limits {
    /// Those of a set of which each asset has its own counts and policy.
    ///
    /// # Errors
    /// Fails if an asset or a class of one is too small, or may not be mixed with others.
    pub fn of(assets: &[(&AssetCounts, Policy)]) -> Result<Self, PolicyError> {
        let assets: Vec<_> = assets.iter().filter(|(counts, _)| counts.num_images > 0).collect();
        for (counts, policy) in &assets {
            let min_images = policy.min_images;
            if policy.is_too_small(counts) {
                return Err(PolicyError::TooFew { min_images });
            }
            if counts.class_counts.iter().any(|count| (1..min_images).contains(count)) {
                return Err(PolicyError::SmallClass { min_images });
            }
            if !policy.mixing && assets.len() > 1 {
                return Err(PolicyError::Mixed);
            }
        }
        let policies = assets.iter().map(|(_, policy)| *policy);
        let max_kimg = assets.iter().filter_map(|(counts, policy)| policy.max_kimg(counts));
        Ok(Self {
            policy: policies.reduce(Policy::meet).unwrap_or(Policy::DEFAULT),
            max_kimg: max_kimg.reduce(f64::min),
        })
    }
}

/// Why owners' policies refuse a job. The command line turns this into exit code 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum PolicyError {
    #[error(
        "a c2d-policy.json is not as expected: {{\"version\": 1}} and any of \"min_images\" (20 or \
         more), \"max_kimg_per_image\" (above 0), \"class_names\", \"sealed_state\", \"mixing\", \
         \"samples_only\" (true or false), \"gate\" (\"report\", \"withhold\" or \"strict\"); its owner must \
         correct it"
    )]
    File,
    #[error(
        "--policy: expected what a c2d-policy.json holds, as {{\"version\": 1, \"min_images\": 500}}"
    )]
    Flag,
    #[error(
        "a c2d-policy.json does not lie at the root of its archive or folder; its owner must move it"
    )]
    Stray,
    #[error(
        "too few pictures: expected at least {min_images} distinct ones in an asset (a file or a \
         DID), came fewer; add pictures, or its owner lowers \"min_images\" in a c2d-policy.json at \
         the root of the archive, to 20 at least"
    )]
    TooFew { min_images: usize },
    #[error(
        "too few pictures in a class: expected at least {min_images} of each asset in each class, \
         came fewer; set cond to false"
    )]
    SmallClass { min_images: usize },
    #[error("an owner does not allow other assets beside this one; give one asset only")]
    Mixed,
    #[error("an owner does not allow states; take the state out of the inputs to begin anew")]
    State,
}

/// `c2d-policy.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    min_images: Option<usize>,
    max_kimg_per_image: Option<f64>,
    class_names: Option<bool>,
    sealed_state: Option<bool>,
    mixing: Option<bool>,
    samples_only: Option<bool>,
    gate: Option<Level>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of a few values of each field.
    fn policies() -> Vec<Policy> {
        let mut policies = Vec::new();
        for min_images in [20, 200, 500] {
            for max_kimg_per_image in [None, Some(0.5), Some(5.0)] {
                for bits in 0..48 {
                    policies.push(Policy {
                        min_images,
                        max_kimg_per_image,
                        class_names: bits & 1 > 0,
                        sealed_state: bits & 2 > 0,
                        mixing: bits & 4 > 0,
                        samples_only: bits & 8 > 0,
                        gate: [Level::Report, Level::Withhold, Level::Strict][bits >> 4],
                    });
                }
            }
        }
        policies
    }

    /// Whether `a` allows nothing that `b` does not.
    fn is_within(a: Policy, b: Policy) -> bool {
        let limit = |policy: Policy| policy.max_kimg_per_image.unwrap_or(f64::INFINITY);
        a.min_images >= b.min_images
            && limit(a) <= limit(b)
            && a.class_names <= b.class_names
            && a.sealed_state <= b.sealed_state
            && a.mixing <= b.mixing
            && a.samples_only >= b.samples_only
            && a.gate >= b.gate
    }

    #[test]
    fn the_most_restrictive_counts() {
        for a in policies() {
            assert_eq!(a.meet(a), a);
            assert_eq!(a.meet(Policy::LOOSEST), a);
            for b in policies() {
                let both = a.meet(b);
                assert_eq!(both, b.meet(a));
                assert!(is_within(both, a) && is_within(both, b));
                let c = Policy { min_images: 300, ..b };
                assert_eq!(both.meet(c), a.meet(b.meet(c)));
            }
        }
    }

    fn file(json: &str) -> Result<Policy, PolicyError> {
        Policy::of_file(json.as_bytes())
    }

    #[test]
    fn a_file_changes_what_it_says() {
        assert_eq!(file(r#"{"version": 1}"#), Ok(Policy::DEFAULT));
        let all = r#"{"version": 1, "min_images": 20, "max_kimg_per_image": 2.5, "class_names": true,
            "sealed_state": false, "mixing": false, "samples_only": true, "gate": "strict"}"#;
        let expected = Policy {
            min_images: 20,
            max_kimg_per_image: Some(2.5),
            class_names: true,
            sealed_state: false,
            mixing: false,
            samples_only: true,
            gate: Level::Strict,
        };
        assert_eq!(file(all), Ok(expected));
    }

    #[test]
    fn whatever_is_not_understood_is_refused() {
        let bad = [
            "",
            "{}",
            "null",
            "[]",
            r#"{"version": 2}"#,
            r#"{"version": 1, "min_images": 19}"#,
            r#"{"version": 1, "min_images": -1}"#,
            r#"{"version": 1, "min_images": 2e2}"#,
            r#"{"version": 1, "min_image": 300}"#,
            r#"{"version": 1, "max_kimg_per_image": 0}"#,
            r#"{"version": 1, "max_kimg_per_image": "5"}"#,
            r#"{"version": 1, "mixing": 0}"#,
            r#"{"version": 1, "gate": "off"}"#,
            r#"{"version": 1, "version": 1}"#,
            r#"{"version": 1} x"#,
        ];
        for json in bad {
            assert_eq!(file(json), Err(PolicyError::File), "{json}");
            assert_eq!(Policy::of_publisher(json), Err(PolicyError::Flag), "{json}");
        }
        assert_eq!(Policy::of_file(&[0xff; 9]), Err(PolicyError::File));
    }

    #[test]
    fn a_publisher_tightens_only() {
        let loosening = r#"{"version": 1, "min_images": 20, "class_names": true}"#;
        let given = Policy::of_publisher(loosening).unwrap();
        assert_eq!(Policy::DEFAULT.meet(given), Policy::DEFAULT);
        let given = Policy::of_publisher(r#"{"version": 1, "min_images": 300}"#).unwrap();
        let owner = r#"{"version": 1, "min_images": 20, "class_names": true, "gate": "report"}"#;
        let owner = file(owner).unwrap();
        assert_eq!(owner.meet(given), Policy { min_images: 300, ..owner });
    }

    fn counts(num_images: usize, class_counts: &[usize]) -> AssetCounts {
        AssetCounts { num_images, class_counts: class_counts.to_vec() }
    }

    #[test]
    fn a_small_asset_or_class_is_refused_whoever_brings_the_rest() {
        let (large, small, none) = (counts(5000, &[]), counts(199, &[]), counts(0, &[]));
        let policy = Policy::DEFAULT;
        let few = Err(PolicyError::TooFew { min_images: 200 });
        assert_eq!(Limits::of(&[(&large, policy), (&small, policy)]), few);
        assert!(Limits::of(&[(&large, policy), (&none, policy)]).is_ok());
        let lower = Policy { min_images: 100, ..policy };
        assert!(Limits::of(&[(&large, policy), (&small, lower)]).is_ok());
        let classes = [counts(400, &[201, 199]), counts(400, &[400, 0])];
        let class = Err(PolicyError::SmallClass { min_images: 200 });
        assert_eq!(Limits::of(&[(&classes[0], policy), (&classes[1], policy)]), class);
        assert!(Limits::of(&[(&classes[1], policy)]).is_ok());
    }

    #[test]
    fn mixing_and_length_are_limited_by_each_owner() {
        let [a, b] = [counts(300, &[]), counts(1000, &[])];
        let alone = Policy { mixing: false, ..Policy::DEFAULT };
        assert!(Limits::of(&[(&a, alone)]).is_ok());
        assert_eq!(Limits::of(&[(&a, Policy::DEFAULT), (&b, alone)]), Err(PolicyError::Mixed));
        let short = Policy { max_kimg_per_image: Some(2.0), ..Policy::DEFAULT };
        let max_kimg = |assets: &[(&AssetCounts, Policy)]| Limits::of(assets).unwrap().max_kimg;
        assert_eq!(max_kimg(&[(&a, short), (&b, Policy::DEFAULT)]), Some(600.0));
        assert_eq!(max_kimg(&[(&a, short), (&b, short)]), Some(600.0));
        assert_eq!(max_kimg(&[(&b, Policy::DEFAULT)]), None);
        let counted = |num_images| max_kimg(&[(&counts(num_images, &[]), short)]);
        assert_eq!([437, 439, 441].map(counted), [Some(870.0), Some(870.0), Some(880.0)]);
    }
}
