//! What people write: the parameters of a run, from `algoCustomData.json` or from flags.
//!
//! Everything is optional, and an empty text, `null` or no file at all means the default. What
//! is wrong is refused all at once, by field, with what came and what is allowed: a typing
//! error would otherwise cost a paid job. [`Params::resolve`] turns the rest, with the facts of
//! the data set, into a [`TrainConfig`] without anything left to decide.
//!
//! Not here: the parameters themselves, which are rows of [`super::table`].

use serde::{Serialize, Serializer};

use super::problem::{Given, ParamsError, Problem, given, nearest};
use super::table::{Aug, PARAMETERS};
use crate::data::{Cond, Crop, Dataset, LoadOptions, Resize};
use crate::model::Precision;
use crate::ops::conv2d::Conv;
use crate::ops::device::{DeviceChoice, DeviceKind};
use crate::train::config::TrainConfig;
use crate::train::presets::{Cfg, Overrides, train_config};

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
    /// Augmentation of what the discriminator sees.
    pub aug: Aug,
    /// How pictures become square.
    pub crop: Crop,
    /// Filter that scales the pictures.
    pub resize: Resize,
    /// Red, green, blue below transparent pictures and around padded ones.
    #[serde(serialize_with = "as_hex")]
    pub background: [u8; 3],
    /// Where classes come from.
    pub cond: Cond,
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
            device: DeviceChoice::Auto,
            precision: None,
            conv: Conv::Fast,
            deterministic: false,
            seed: 0,
            mirror: false,
            aug: Aug::Ada,
            crop: Crop::Center,
            resize: Resize::Lanczos,
            background: [255; 3],
            cond: Cond::Off,
            max_minutes: None,
            snap_minutes: 5.0,
        }
    }
}

/// What [`Params::resolve`] must know beside the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where the training runs.
    pub device: DeviceKind,
    /// Width and height of the loaded images, a power of two.
    pub data_resolution: usize,
    /// Length of a label; 0: no classes.
    pub label_dim: usize,
}

impl Facts {
    /// The facts of a set that is trained on by `device`.
    pub fn of(dataset: &Dataset, device: DeviceKind) -> Self {
        Self { device, data_resolution: dataset.resolution(), label_dim: dataset.label_dim() }
    }
}

/// Something that a run says once at its start, since a person might expect otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum Notice {
    #[error("no GPU: cfg tiny")]
    TinyOnCpu,
    #[error("GPU: cfg auto")]
    AutoOnGpu,
    #[error("no GPU: precision is f32")]
    FullOnCpu,
    #[error("no GPU: automatic resolution is at most {limit}; ask for more with resolution")]
    ResolutionLimit { limit: usize },
    #[error("augmentation is not built yet: aug is off")]
    AugOff,
    #[error("mirroring is not built yet: mirror is off")]
    MirrorOff,
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
        for (name, value) in given {
            let Some(idx) = PARAMETERS.iter().position(|parameter| parameter.name == name) else {
                problems.push(Problem::unknown(&name, nearest(&name)));
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
        if problems.is_empty() { Ok(params) } else { Err(ParamsError::Refused(problems)) }
    }

    /// The configuration: what was asked for, else by the device.
    pub fn cfg_on(&self, device: DeviceKind) -> Cfg {
        self.cfg.unwrap_or(match device {
            DeviceKind::Cpu => Cfg::Tiny,
            DeviceKind::Cuda => Cfg::Auto,
        })
    }

    /// The types to compute in: those that were asked for, of which the processor has one only.
    pub fn precision_on(&self, device: DeviceKind) -> Precision {
        match device {
            DeviceKind::Cpu => Precision::F32,
            DeviceKind::Cuda => self.precision.unwrap_or(Precision::Tf32),
        }
    }

    /// How the pictures are to be loaded; `memory_limit` is in bytes.
    pub fn load_options(&self, device: DeviceKind, memory_limit: Option<u64>) -> LoadOptions {
        LoadOptions {
            resolution: self.resolution,
            max_auto_resolution: max_auto_resolution(device),
            crop: self.crop,
            resize: self.resize,
            background: self.background,
            cond: self.cond,
            memory_limit,
        }
    }

    /// Decides what is left to decide.
    ///
    /// # Errors
    /// Fails if `batch_gpu` does not divide the batch of the configuration.
    pub fn resolve(&self, facts: &Facts) -> Result<TrainConfig, ParamsError> {
        let overrides = Overrides {
            batch: self.batch,
            batch_gpu: self.batch_gpu,
            gamma: self.gamma,
            kimg: Some(self.kimg),
            precision: self.precision_on(facts.device),
            seed: self.seed,
        };
        let cfg = self.cfg_on(facts.device);
        let config = train_config(cfg, facts.data_resolution, facts.label_dim, &overrides);
        match Problem::rounds(config.batch, config.batch_gpu) {
            Some(problem) => Err(ParamsError::Refused(vec![problem])),
            None => Ok(config),
        }
    }

    /// What to say at the start of a run on `device`.
    pub fn notices(&self, device: DeviceKind) -> Vec<Notice> {
        let is_cpu = device == DeviceKind::Cpu;
        let limit = max_auto_resolution(device);
        [
            (self.cfg.is_none() && is_cpu, Notice::TinyOnCpu),
            (self.cfg.is_none() && !is_cpu, Notice::AutoOnGpu),
            (self.resolution.is_none() && is_cpu, Notice::ResolutionLimit { limit }),
            (self.precision.is_some_and(|p| p != Precision::F32) && is_cpu, Notice::FullOnCpu),
            (self.aug != Aug::NoAug, Notice::AugOff),
            (self.mirror, Notice::MirrorOff),
        ]
        .into_iter()
        .filter_map(|(applies, notice)| applies.then_some(notice))
        .collect()
    }
}

/// The highest resolution that a run without the parameter takes.
fn max_auto_resolution(device: DeviceKind) -> usize {
    match device {
        DeviceKind::Cpu => 64,
        DeviceKind::Cuda => 256,
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

    fn facts(device: DeviceKind) -> Facts {
        Facts { device, data_resolution: 64, label_dim: 0 }
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
        assert_eq!(lines[..2], ["\"outdir\": not a parameter", "\"dump_reals\": not a parameter"]);
        assert!(lines[2].starts_with("the parameters are resolution, cfg, kimg"));
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

    #[test]
    fn the_device_decides_what_is_absent() {
        let params = Params::default();
        let (cpu, cuda) = (DeviceKind::Cpu, DeviceKind::Cuda);
        assert_eq!(params.resolve(&facts(cpu)).unwrap().g.z_dim, 128);
        let on_gpu = params.resolve(&facts(cuda)).unwrap();
        assert_eq!((on_gpu.g.z_dim, on_gpu.batch, on_gpu.total_kimg), (512, 32, 1000.0));
        assert_eq!(params.load_options(cpu, None).max_auto_resolution, 64);
        assert_eq!(params.load_options(cuda, None).max_auto_resolution, 256);
        let limit = Notice::ResolutionLimit { limit: 64 };
        assert_eq!(params.notices(cpu), [Notice::TinyOnCpu, limit, Notice::AugOff]);
        let asked =
            read(r#"{"cfg": "auto", "resolution": 64, "aug": "noaug", "mirror": 1}"#).unwrap();
        assert_eq!(asked.notices(cpu), [Notice::MirrorOff]);
        assert_eq!(asked.resolve(&facts(cpu)).unwrap().g.z_dim, 512);
    }

    #[test]
    fn batch_gpu_divides_the_configuration_s_batch() {
        let params = Params { batch_gpu: Some(5), ..Params::default() };
        let error = params.resolve(&facts(DeviceKind::Cpu)).unwrap_err();
        let line = "batch_gpu: expected a divisor of batch, which is 16, came 5; 4 would do";
        assert_eq!(error.to_string(), line);
        let params = Params { batch_gpu: Some(8), batch: Some(24), ..Params::default() };
        let config = params.resolve(&facts(DeviceKind::Cpu)).unwrap();
        assert_eq!((config.batch, config.batch_gpu), (24, 8));
    }
}
