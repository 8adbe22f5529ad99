//! What follows from parameters: [`Params`] and the facts of a run give a [`TrainConfig`] without
//! anything left to decide.

use super::params::Params;
use super::problem::{ParamsError, Problem};
use super::table::Aug;
use crate::data::{Dataset, KeepNames, LoadOptions};
use crate::model::Precision;
use crate::ops::device::DeviceKind;
use crate::train::config::{Augmentations, Strength, TrainConfig};
use crate::train::presets::{Cfg, Overrides, train_config};

/// Mean sign of D on real images that adaptive augmentation aims at.
const ADA_TARGET: f64 = 0.6;

/// What a run starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Fresh weights.
    Fresh,
    /// A trained generator; D is fresh.
    Weights,
    /// Another run's whole state.
    State,
}

/// What [`Params::resolve`] must know beside the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where the training runs.
    pub device: DeviceKind,
    /// GPUs that can share a batch; 1 without one.
    pub num_gpus: usize,
    /// What the run starts from.
    pub origin: Origin,
    /// Width and height of the loaded images, a power of two.
    pub data_resolution: usize,
    /// Length of a label; 0: no classes.
    pub label_dim: usize,
}

impl Facts {
    /// The facts of a run with fresh weights on a set, by one `device`.
    pub fn of(dataset: &Dataset, device: DeviceKind) -> Self {
        Self {
            device,
            num_gpus: 1,
            origin: Origin::Fresh,
            data_resolution: dataset.resolution(),
            label_dim: dataset.label_dim(),
        }
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
}

impl Params {
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
            class_names: KeepNames::No, // no parameter may ask for them
            memory_limit,
            ..LoadOptions::default()
        }
    }

    /// Decides what is left to decide.
    ///
    /// # Errors
    /// Lists what contradicts the configuration, the start or another parameter.
    pub fn resolve(&self, facts: &Facts) -> Result<TrainConfig, ParamsError> {
        let is_transfer = facts.origin == Origin::Weights;
        let d_warmup_kimg = self.d_warmup.unwrap_or(match facts.device {
            DeviceKind::Cpu => 2.0,
            DeviceKind::Cuda => 20.0,
        });
        let overrides = Overrides {
            batch: self.batch,
            batch_gpu: self.batch_gpu,
            num_gpus: facts.num_gpus,
            mbstd_group: self.mbstd_group,
            gamma: self.gamma,
            g_lr: self.g_lr,
            d_lr: self.d_lr,
            ema_kimg: self.ema_kimg,
            pl_weight: self.pl_weight,
            style_mixing_prob: self.style_mixing_prob,
            augmentations: self.augmentations(),
            strength: self.strength(is_transfer),
            freezed: self.freezed,
            d_warmup_kimg: is_transfer.then_some(d_warmup_kimg),
            kimg: Some(self.kimg),
            precision: self.precision_on(facts.device),
            unclamped: self.precision == Some(Precision::F32), // as the published trainer's --fp32
            seed: self.seed,
        };
        let cfg = self.cfg_on(facts.device);
        let config = train_config(cfg, facts.data_resolution, facts.label_dim, &overrides);
        let problems = [
            Problem::rounds(config.batch, config.batch_gpu),
            self.mbstd_group.and_then(|group| Problem::group(config.batch_gpu, group)),
            self.filter_problem(config.g.img_resolution),
            Problem::frozen(self.freezed, &config.d.freeze_limits(), facts.origin),
        ];
        let problems: Vec<Problem> = problems.into_iter().flatten().collect();
        if problems.is_empty() { Ok(config) } else { Err(ParamsError::Refused(problems)) }
    }

    /// A problem if pictures are too small for the filters that were asked for.
    fn filter_problem(&self, resolution: usize) -> Option<Problem> {
        let is_used = matches!(self.aug, Aug::Ada | Aug::Fixed);
        let filters = is_used && self.augpipe.config().imgfilter > 0.0;
        (filters && resolution < 32).then_some(Problem::SmallForFilter { resolution })
    }

    /// Numbers of the configuration that were asked for by name, as paths.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        let given = [
            (self.batch.is_some(), "batch"),
            (self.mbstd_group.is_some(), "d.mbstd_group_size"),
            (self.gamma.is_some(), "r1_gamma"),
            (self.g_lr.is_some(), "g_lr"),
            (self.d_lr.is_some(), "d_lr"),
            (self.ema_kimg.is_some(), "ema_kimg"),
            (self.pl_weight.is_some(), "pl_weight"),
            (self.style_mixing_prob.is_some(), "style_mixing_prob"),
            (self.p.is_some(), "strength.fixed.p"),
            (self.target.is_some(), "strength.adaptive.target"),
            (self.ada_kimg.is_some(), "strength.adaptive.kimg"),
        ];
        given.into_iter().filter_map(|(is_given, path)| is_given.then_some(path))
    }

    /// What is done to images before D sees them, where that has a strength.
    pub fn augmentations(&self) -> Augmentations {
        match self.aug {
            Aug::DiffAug => Augmentations::DiffAug,
            Aug::Ada | Aug::Fixed | Aug::NoAug => Augmentations::Pipe(self.augpipe),
        }
    }

    /// How strong the augmentation is; from given weights it adapts faster, since they may
    /// overfit from the start.
    pub fn strength(&self, is_transfer: bool) -> Strength {
        match self.aug {
            Aug::NoAug => Strength::Off,
            Aug::DiffAug => Strength::Fixed { p: 1.0 },
            Aug::Fixed => Strength::Fixed { p: self.p.unwrap_or_default() },
            Aug::Ada => Strength::Adaptive {
                target: self.target.unwrap_or(ADA_TARGET),
                kimg: self.ada_kimg.unwrap_or(if is_transfer { 100.0 } else { 500.0 }),
            },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Params, ParamsError> {
        Params::from_json(Some(json.as_bytes()))
    }

    fn facts(device: DeviceKind) -> Facts {
        Facts { device, num_gpus: 1, origin: Origin::Fresh, data_resolution: 64, label_dim: 0 }
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
        assert_eq!(params.notices(cpu), [Notice::TinyOnCpu, limit]);
        let asked =
            read(r#"{"cfg": "auto", "resolution": 64, "aug": "noaug", "mirror": 1}"#).unwrap();
        assert_eq!(asked.notices(cpu), []);
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

    #[test]
    fn what_belongs_together_is_asked_for_together() {
        for (json, line) in [
            (
                r#"{"aug": "fixed"}"#,
                "p: expected a value with aug fixed, came none; 0.2 is a usual",
            ),
            (r#"{"p": 0.2}"#, "p: expected with aug fixed only, came with aug ada; leave one"),
            (r#"{"aug": "noaug", "target": 0.5}"#, "target: expected with aug ada only, came with"),
            (r#"{"aug": "fixed", "p": 0, "ada_kimg": 9}"#, "ada_kimg: expected with aug ada only"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.starts_with(line), "{error}");
        }
    }

    #[test]
    fn filters_need_32_pixels() {
        let resolve = |json: &str, data_resolution: usize| {
            read(json).unwrap().resolve(&Facts { data_resolution, ..facts(DeviceKind::Cpu) })
        };
        let filters = r#"{"augpipe": "bgcf"}"#;
        assert!(resolve(filters, 32).is_ok() && resolve("{}", 16).is_ok());
        let error = resolve(filters, 16).unwrap_err().to_string();
        assert!(error.starts_with("augpipe: expected one without filter at 16 px"), "{error}");
        assert!(resolve(r#"{"augpipe": "bgcf", "aug": "noaug"}"#, 16).is_ok());
    }

    #[test]
    fn layers_are_frozen_in_whole_blocks_of_a_trained_discriminator() {
        let resolve = |freezed: usize, origin: Origin| {
            let params = Params { freezed, ..Params::default() };
            params.resolve(&Facts { origin, ..facts(DeviceKind::Cpu) })
        };
        assert_eq!(resolve(7, Origin::State).unwrap().freezed, 7);
        let part = resolve(5, Origin::State).unwrap_err().to_string();
        assert_eq!(
            part,
            "freezed: expected whole blocks of the discriminator (4, 7, 10, 13), came 5"
        );
        for origin in [Origin::Fresh, Origin::Weights] {
            let fresh = resolve(4, origin).unwrap_err().to_string();
            assert!(fresh.contains("fresh one and frozen layers would stay noise"), "{fresh}");
        }
    }

    /// As the published trainer does on resume, and a warm-up of D besides.
    #[test]
    fn given_weights_adapt_faster_and_have_no_ramp() {
        let resolve = |origin: Origin, device: DeviceKind| {
            Params::default().resolve(&Facts { origin, ..facts(device) }).unwrap()
        };
        let fresh = resolve(Origin::Fresh, DeviceKind::Cpu);
        assert_eq!(fresh.strength, Strength::Adaptive { target: 0.6, kimg: 500.0 });
        assert_eq!((fresh.ema_rampup, fresh.d_warmup_kimg), (Some(0.05), 0.0));
        let given = resolve(Origin::Weights, DeviceKind::Cpu);
        assert_eq!(given.strength, Strength::Adaptive { target: 0.6, kimg: 100.0 });
        assert_eq!((given.ema_rampup, given.d_warmup_kimg), (None, 2.0));
        assert_eq!(resolve(Origin::Weights, DeviceKind::Cuda).d_warmup_kimg, 20.0);
    }
}
