//! What people write: the parameters of a run, from `algoCustomData.json` or from flags.
//!
//! Everything is optional, and an empty text, `null` or no file at all means the default. What
//! is wrong is refused all at once, by field, with what came and what is allowed: a typing
//! error would otherwise cost a paid job.
//!
//! Not here: the parameters themselves, which are rows of [`super::table`], and what follows from
//! them, which is decided in [`super::resolve`].

use serde::{Serialize, Serializer};

use super::problem::{Given, ParamsError, Problem, given, nearest};
use super::table::{Aug, PARAMETERS, StateKind};
use crate::augment::AugPipe;
use crate::data::{Cond, Crop, Resize};
use crate::model::Precision;
use crate::ops::conv2d::Conv;
use crate::ops::device::DeviceChoice;
use crate::train::presets::Cfg;

/// Most bytes of a parameters file.
pub const MAX_BYTES: usize = 64 * 1024;

/// What a person may ask for; absent options are derived.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Params {
    /// Width and height of the images; absent: what the pictures give.
    pub resolution: Option<usize>,
    /// Configuration; absent: by the device.
    pub cfg: Option<Cfg>,
    /// Length of the training, in thousands of real images.
    pub kimg: f64,
    /// Images per optimizer step; absent: the configuration's.
    pub batch: Option<usize>,
    /// Images per forward pass; absent: the configuration's, or what fits.
    pub batch_gpu: Option<usize>,
    /// Weight of the R1 penalty; absent: the configuration's.
    pub gamma: Option<f64>,
    /// Images that D compares for variety; absent: the configuration's.
    pub mbstd_group: Option<usize>,
    /// Learning rate of the generator; absent: the configuration's.
    pub g_lr: Option<f64>,
    /// Learning rate of the discriminator; absent: the configuration's.
    pub d_lr: Option<f64>,
    /// Half-life of the weight average, in thousands of images; absent: the configuration's.
    pub ema_kimg: Option<f64>,
    /// Weight of the path length penalty; absent: the configuration's.
    pub pl_weight: Option<f64>,
    /// Probability that two latents share an image's layers; absent: the configuration's.
    pub style_mixing_prob: Option<f64>,
    /// Where the training runs.
    pub device: DeviceChoice,
    /// The types that a GPU computes in; absent: products of f32 rounded to 10 bits.
    pub precision: Option<Precision>,
    /// How the processor convolves.
    pub conv: Conv,
    /// Whether a GPU makes the same numbers each time.
    pub deterministic: bool,
    /// Seeds weights, latents, order and augmentation.
    pub seed: u64,
    /// Whether every picture is shown mirrored as well.
    pub mirror: bool,
    /// Whether every picture is shown upside down as well.
    pub mirror_y: bool,
    /// Augmentation of what the discriminator sees.
    pub aug: Aug,
    /// The transforms of adaptive and fixed augmentation.
    pub augpipe: AugPipe,
    /// Their strength, where that is fixed.
    pub p: Option<f64>,
    /// The sign of D on real images that adaptive augmentation aims at; absent: 0.6.
    pub target: Option<f64>,
    /// Thousands of images in which its strength can go from 0 to 1; absent: by the start.
    pub ada_kimg: Option<f64>,
    /// Layers of D that are not trained, from the image on.
    pub freezed: usize,
    /// Thousands of images before the generator of given weights moves; absent: by the device.
    pub d_warmup: Option<f64>,
    /// How pictures become square.
    pub crop: Crop,
    /// Filter that scales the pictures.
    pub resize: Resize,
    /// Red, green, blue below transparent pictures and around padded ones.
    #[serde(serialize_with = "as_hex")]
    pub background: [u8; 3],
    /// Where classes come from.
    pub cond: Cond,
    /// Whether the run also writes what a later one needs to go on.
    pub state: StateKind,
    /// Time limit in minutes; absent: none.
    pub max_minutes: Option<f64>,
    /// Minutes between refreshes of the outputs.
    pub snap_minutes: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            resolution: None,
            cfg: None,
            kimg: 1000.0,
            batch: None,
            batch_gpu: None,
            gamma: None,
            mbstd_group: None,
            g_lr: None,
            d_lr: None,
            ema_kimg: None,
            pl_weight: None,
            style_mixing_prob: None,
            device: DeviceChoice::Auto,
            precision: None,
            conv: Conv::Fast,
            deterministic: false,
            seed: 0,
            mirror: false,
            mirror_y: false,
            aug: Aug::Ada,
            augpipe: AugPipe::Bgc,
            p: None,
            target: None,
            ada_kimg: None,
            freezed: 0,
            d_warmup: None,
            crop: Crop::Center,
            resize: Resize::Lanczos,
            background: [255; 3],
            cond: Cond::Off,
            state: StateKind::Off,
            max_minutes: None,
            snap_minutes: 5.0,
        }
    }
}

impl Params {
    /// Reads a parameters file; `None`: there is none.
    ///
    /// # Errors
    /// Lists every unknown or repeated key and every value that is not allowed; says so if the
    /// file is no JSON object or too large.
    pub fn from_json(bytes: Option<&[u8]>) -> Result<Self, ParamsError> {
        let bytes = bytes.unwrap_or_default();
        if bytes.len() > MAX_BYTES {
            return Err(ParamsError::TooLarge { limit: MAX_BYTES });
        }
        Self::from_given(given(bytes)?)
    }

    /// Reads names and values as they stand on a command line.
    ///
    /// # Errors
    /// As [`Params::from_json`].
    pub fn from_texts<'a>(
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, ParamsError> {
        Self::from_given(
            texts.into_iter().map(|(name, text)| (name.to_owned(), Given::Text(text.to_owned()))),
        )
    }

    fn from_given(given: impl IntoIterator<Item = (String, Given)>) -> Result<Self, ParamsError> {
        let mut params = Self::default();
        let mut problems = Vec::new();
        let mut seen = [false; PARAMETERS.len()];
        let mut num_unknown = 0;
        for (name, value) in given {
            let Some(idx) = PARAMETERS.iter().position(|parameter| parameter.name == name) else {
                match nearest(&name) {
                    Some(nearest) => problems.push(Problem::Misspelt { nearest }),
                    None => num_unknown += 1,
                }
                continue;
            };
            let parameter = &PARAMETERS[idx];
            if std::mem::replace(&mut seen[idx], true) {
                problems.push(Problem::Twice { name: parameter.name });
                continue;
            }
            let is_set = match &value {
                Given::Text(text) if text.trim().is_empty() => Some(()),
                Given::Text(text) => (parameter.set)(&mut params, text.trim()),
                Given::Absent => Some(()),
                Given::Nested(_) => None,
            };
            if is_set.is_none() {
                problems.push(Problem::value(parameter, &value));
            }
        }
        if let (Some(batch), Some(batch_gpu)) = (params.batch, params.batch_gpu) {
            problems.extend(Problem::rounds(batch, batch_gpu));
        }
        problems.extend(Problem::of_aug(&params));
        if num_unknown > 0 {
            problems.insert(0, Problem::Unknown { count: num_unknown });
        }
        if problems.is_empty() { Ok(params) } else { Err(ParamsError::Refused(problems)) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn as_hex<S: Serializer>(color: &[u8; 3], serializer: S) -> Result<S::Ok, S::Error> {
    let [r, g, b] = color;
    serializer.collect_str(&format_args!("#{r:02x}{g:02x}{b:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Params, ParamsError> {
        Params::from_json(Some(json.as_bytes()))
    }

    fn fixture(name: &str) -> Result<Params, ParamsError> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/algoCustomData");
        Params::from_json(Some(&std::fs::read(format!("{folder}/{name}.json")).unwrap()))
    }

    #[test]
    fn nothing_means_the_defaults() {
        assert_eq!(Params::from_json(None), Ok(Params::default()));
        for json in
            ["", " \n", "null", "{}", "\"\"", "\u{feff}{}", "{\"kimg\": null, \"seed\": \"\"}"]
        {
            assert_eq!(read(json), Ok(Params::default()), "{json}");
        }
    }

    #[test]
    fn every_front_end_is_understood() {
        let asked = Params { resolution: Some(64), kimg: 0.3, ..Params::default() };
        assert_eq!(fixture("legacy-no-params"), Ok(Params::default()));
        assert_eq!(fixture("node-no-params"), Ok(Params::default()));
        assert_eq!(fixture("market-form"), Ok(asked.clone()));
        assert_eq!(fixture("all-strings"), Ok(Params { mirror: true, ..asked.clone() }));
        let numbers = Params { mirror: true, gamma: Some(10.5), ..asked };
        assert_eq!(fixture("numbers"), Ok(numbers));
        assert_eq!(fixture("not-json"), Err(ParamsError::NotJson { line: 1, column: 1 }));
        let lines = fixture("unknown-keys").unwrap_err().lines();
        assert_eq!(lines[0], "parameters: 2 keys are not among them");
        assert!(lines[1].starts_with("the parameters are resolution, cfg, kimg"));
    }

    #[test]
    fn numbers_at_the_edges() {
        assert_eq!(read("{\"gamma\": -0.0}").unwrap().gamma, Some(0.0));
        assert_eq!(read("{\"seed\": 4294967295}").unwrap().seed, u64::from(u32::MAX));
        assert_eq!(read("{\"batch\": 512.0}").unwrap().batch, Some(512));
        for json in [
            "{\"kimg\": 0}",
            "{\"kimg\": 1e5000000000}",
            "{\"kimg\": \"1e99\"}",
            "{\"seed\": 18446744073709551616}",
            "{\"seed\": 0.5}",
            "{\"batch\": 0}",
            "{\"snap_minutes\": -0.0}",
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_serialized_reads_as_the_same() {
        let json = r##"{"resolution": 32, "cfg": "paper256", "cond": true, "background": "#0a0b0c",
            "gamma": 0.1, "max_minutes": 2.5, "aug": "noaug", "resize": "box", "device": "cuda"}"##;
        let params = read(json).unwrap();
        assert_eq!(read(&serde_json::to_string(&params).unwrap()), Ok(params));
    }
}
