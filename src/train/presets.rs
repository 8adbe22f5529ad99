//! The reference's named configurations, and `tiny` for CPUs and trials.
//!
//! A preset decides every number of a run from the resolution; what a person wrote replaces
//! single numbers afterwards. As in the reference, a batch that was asked for changes neither
//! gamma nor the half-life of the average: those follow the preset's own batch.
//!
//! A preset that was made for several GPUs has the rounds of several also on one; `auto` grows its
//! batch with the GPUs that there are.
//!
//! Reference: Karras et al. 2020, arXiv:2006.06676, appendix B; checked against the dry-run
//! configurations of its implementation (`tests/fixtures/train_configs.json`).

use serde::{Deserialize, Serialize};

use super::config::{Augmentations, Strength, TrainConfig};
use crate::model::Precision;
use crate::model::config::{Architecture, DiscriminatorConfig, GeneratorConfig};

/// Name of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cfg {
    /// Batch, width, learning rate and gamma by the resolution.
    Auto,
    /// `StyleGAN2` config F for 1024 px (8 GPUs).
    Stylegan2,
    /// The paper's settings for FFHQ and LSUN at 256 px (8 GPUs).
    Paper256,
    /// The paper's settings for `BreCaHAD` and AFHQ at 512 px (8 GPUs).
    Paper512,
    /// The paper's settings for `MetFaces` at 1024 px (8 GPUs).
    Paper1024,
    /// The paper's settings for CIFAR-10 at 32 px (2 GPUs).
    Cifar,
    /// `Auto` with narrow networks, for CPUs and trials.
    Tiny,
}

/// Numbers that replace those of a preset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Images per optimizer step.
    pub batch: Option<usize>,
    /// Images per forward pass; must divide the batch. Absent: the preset's, or all of a
    /// batch that was asked for.
    pub batch_gpu: Option<usize>,
    /// GPUs that share a batch, of which `auto` makes use; 0 is 1.
    pub num_gpus: usize,
    /// Images per minibatch-std group.
    pub mbstd_group: Option<usize>,
    /// Weight of the R1 penalty.
    pub gamma: Option<f64>,
    /// Learning rate of the generator.
    pub g_lr: Option<f64>,
    /// Learning rate of the discriminator.
    pub d_lr: Option<f64>,
    /// Half-life of the weight average, in thousands of images.
    pub ema_kimg: Option<f64>,
    /// Weight of the path length penalty.
    pub pl_weight: Option<f64>,
    /// Probability that two latents share an image's layers.
    pub style_mixing_prob: Option<f64>,
    /// What is done to images before D sees them.
    pub augmentations: Augmentations,
    /// How strong that is.
    pub strength: Strength,
    /// Layers of D that are not trained.
    pub freezed: usize,
    /// The run starts from a trained generator: the average needs no ramp, D some time.
    pub d_warmup_kimg: Option<f64>,
    /// Length of the training, in thousands of real images.
    pub kimg: Option<f64>,
    /// The types that the networks' blocks compute in.
    pub precision: Precision,
    /// Activations are not clamped, which only 16 bits need.
    pub unclamped: bool,
    /// Seeds weights, latents and order.
    pub seed: u64,
}

/// The numbers in which presets differ.
struct Preset {
    kimg: f64,
    batch: usize,
    batch_gpu: usize,
    mbstd_group_size: usize,
    channel_base: usize,
    channel_max: usize,
    latent_dim: usize,
    mapping_layers: usize,
    lr: f64,
    gamma: f64,
    ema_kimg: f64,
    ema_rampup: Option<f64>,
}

/// Resolves `cfg` for RGB images of `res` x `res` pixels with labels of length `c_dim`.
///
/// The mini-batch std group is the preset's; where the reference would stop because the group
/// does not divide `batch_gpu`, it is the largest smaller one that does.
pub fn train_config(cfg: Cfg, res: usize, c_dim: usize, overrides: &Overrides) -> TrainConfig {
    let preset = preset(cfg, res, overrides.num_gpus.max(1));
    let is_cifar = cfg == Cfg::Cifar;
    let conv_clamp = (!overrides.unclamped).then_some(256.0);
    let g = GeneratorConfig {
        z_dim: preset.latent_dim,
        c_dim,
        w_dim: preset.latent_dim,
        img_resolution: res,
        img_channels: 3,
        mapping_layers: preset.mapping_layers,
        channel_base: preset.channel_base,
        channel_max: preset.channel_max,
        conv_clamp,
        architecture: Architecture::Skip,
    };
    let d = DiscriminatorConfig {
        c_dim,
        img_resolution: res,
        img_channels: 3,
        channel_base: preset.channel_base,
        channel_max: preset.channel_max,
        conv_clamp,
        architecture: if is_cifar { Architecture::Orig } else { Architecture::Resnet },
        mbstd_group_size: Some(overrides.mbstd_group.unwrap_or(preset.mbstd_group_size)),
        mbstd_num_channels: 1,
        mapping_layers: 8,
    };
    let mut config = TrainConfig {
        g,
        d,
        batch: overrides.batch.unwrap_or(preset.batch),
        batch_gpu: 0, // set below, with the group that depends on it
        g_lr: overrides.g_lr.unwrap_or(preset.lr),
        d_lr: overrides.d_lr.unwrap_or(preset.lr),
        r1_gamma: overrides.gamma.unwrap_or(preset.gamma),
        pl_weight: overrides.pl_weight.unwrap_or(if is_cifar { 0.0 } else { 2.0 }),
        style_mixing_prob: overrides.style_mixing_prob.unwrap_or(if is_cifar { 0.0 } else { 0.9 }),
        ema_kimg: overrides.ema_kimg.unwrap_or(preset.ema_kimg),
        ema_rampup: preset.ema_rampup.filter(|_| overrides.d_warmup_kimg.is_none()),
        augmentations: overrides.augmentations,
        strength: overrides.strength,
        freezed: overrides.freezed,
        d_warmup_kimg: overrides.d_warmup_kimg.unwrap_or_default(),
        total_kimg: overrides.kimg.unwrap_or(preset.kimg),
        precision: overrides.precision,
        seed: overrides.seed,
    };
    let share = overrides
        .batch
        .map(|batch| largest_divisor(batch, batch.div_ceil(overrides.num_gpus.max(1))));
    let batch_gpu = overrides.batch_gpu.or(share).unwrap_or(preset.batch_gpu);
    set_batch_gpu(&mut config, batch_gpu);
    config
}

/// Sets the images per forward pass and fits the mini-batch std group to them.
pub fn set_batch_gpu(config: &mut TrainConfig, batch_gpu: usize) {
    config.batch_gpu = batch_gpu;
    config.d.mbstd_group_size =
        config.d.mbstd_group_size.map(|group_size| largest_divisor(batch_gpu, group_size));
}

/// At most half of `batch_gpu` that divides the batch and keeps the mini-batch std group whole.
pub fn smaller_batch_gpu(config: &TrainConfig) -> Option<usize> {
    let group_size = config.d.mbstd_group_size.unwrap_or(1).max(1);
    let fits = |n: &usize| config.batch.is_multiple_of(*n) && n.is_multiple_of(group_size);
    (1..=config.batch_gpu / 2).rev().find(fits)
}

/// The largest divisor of `n` that is at most `at_most`; 1 if `at_most` is 0.
pub fn largest_divisor(n: usize, at_most: usize) -> usize {
    (1..=at_most.min(n)).rev().find(|divisor| n.is_multiple_of(*divisor)).unwrap_or(1)
}

fn preset(cfg: Cfg, res: usize, num_gpus: usize) -> Preset {
    match cfg {
        Cfg::Auto => {
            let batch = (num_gpus * (4096 / res).min(32)).min(64).max(num_gpus);
            auto(res, batch, num_gpus)
        }
        Cfg::Tiny => {
            Preset { channel_base: 2048, channel_max: 64, latent_dim: 128, ..auto(res, 16, 1) }
        }
        Cfg::Stylegan2 => paper(32, 10.0),
        Cfg::Paper256 => Preset { channel_base: 16384, ..paper(64, 1.0) },
        Cfg::Paper512 => paper(64, 0.5),
        Cfg::Paper1024 => paper(32, 2.0),
        Cfg::Cifar => Preset {
            kimg: 100_000.0,
            batch_gpu: 32,
            mbstd_group_size: 32,
            mapping_layers: 2,
            ema_kimg: 500.0,
            ema_rampup: Some(0.05),
            ..paper(64, 0.01)
        },
    }
}

/// The heuristic for a batch that GPUs share.
fn auto(res: usize, batch: usize, num_gpus: usize) -> Preset {
    let batch_gpu = batch / num_gpus;
    Preset {
        kimg: 25_000.0,
        batch,
        batch_gpu,
        mbstd_group_size: batch_gpu.min(4),
        channel_base: if res >= 512 { 32768 } else { 16384 },
        channel_max: 512,
        latent_dim: 512,
        mapping_layers: 2,
        lr: if res >= 1024 { 0.002 } else { 0.0025 },
        gamma: 0.0002 * (res * res) as f64 / batch as f64,
        ema_kimg: batch as f64 * 10.0 / 32.0,
        ema_rampup: Some(0.05),
    }
}

/// A preset made for 8 GPUs: its batch decides the group, the learning rate and the average.
fn paper(batch: usize, gamma: f64) -> Preset {
    Preset {
        kimg: 25_000.0,
        batch,
        batch_gpu: batch / 8,
        mbstd_group_size: batch / 8,
        channel_base: 32768,
        channel_max: 512,
        latent_dim: 512,
        mapping_layers: 8,
        lr: if batch == 32 { 0.002 } else { 0.0025 },
        gamma,
        ema_kimg: batch as f64 * 10.0 / 32.0,
        ema_rampup: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::augment::{AugPipe, AugmentConfig};

    const FIXTURE: &str = include_str!("../../tests/fixtures/train_configs.json");

    /// What a key of the fixture asks for: `resR.CFG.gpusN[.opt_X]`.
    fn asked(key: &str) -> (Cfg, usize, Overrides) {
        let parts: Vec<&str> = key.split('.').collect();
        let cfg: Cfg = serde_json::from_value(Value::from(parts[1])).unwrap();
        let res = parts[0].strip_prefix("res").unwrap().parse().unwrap();
        let num_gpus = parts[2].strip_prefix("gpus").unwrap().parse().unwrap();
        let ada = |target: f64, kimg: f64| Strength::Adaptive { target, kimg };
        let usual = Overrides { num_gpus, strength: ada(0.6, 500.0), ..Overrides::default() };
        let overrides = match parts.get(3).copied() {
            None | Some("opt_mirror" | "opt_snap") => usual, // nothing of these is here
            Some("opt_blit") => {
                Overrides { augmentations: Augmentations::Pipe(AugPipe::Blit), ..usual }
            }
            Some("opt_fp32") => Overrides { unclamped: true, ..usual },
            Some("opt_batch") => Overrides { batch: Some(16), ..usual },
            Some("opt_gamma") => Overrides { gamma: Some(2.5), ..usual },
            Some("opt_kimg") => Overrides { kimg: Some(1000.0), ..usual },
            Some("opt_freezed") => Overrides { freezed: 4, ..usual },
            Some("opt_noaug") => Overrides { strength: Strength::Off, ..usual },
            Some("opt_fixed") => Overrides { strength: Strength::Fixed { p: 0.3 }, ..usual },
            Some("opt_target") => Overrides { strength: ada(0.7, 500.0), ..usual },
            Some("opt_resume") => {
                Overrides { strength: ada(0.6, 100.0), d_warmup_kimg: Some(0.0), ..usual }
            }
            Some(other) => panic!("{other}: not known"),
        };
        (cfg, res, overrides)
    }

    /// The configuration in the fixture's terms.
    fn row(config: &TrainConfig) -> BTreeMap<String, Value> {
        let (p, ada_target, ada_kimg) = match config.strength {
            Strength::Off => (None, None, None),
            Strength::Fixed { p } => (Some(p), None, None),
            Strength::Adaptive { target, kimg } => {
                (None, Some(target), Some(kimg).filter(|kimg| *kimg != 500.0)) // its default
            }
        };
        let augment = match (config.strength, config.augmentations) {
            (Strength::Off, _) => String::new(),
            (_, Augmentations::Pipe(pipe)) => names(&pipe.config()),
            (_, Augmentations::DiffAug) => panic!("not in the published trainer"),
        };
        let row = serde_json::json!({
            "augment": augment,
            "resolution": config.g.img_resolution,
            "batch": config.batch,
            "batch_gpu": config.batch_gpu,
            "z_dim": config.g.z_dim,
            "w_dim": config.g.w_dim,
            "g_mapping_layers": config.g.mapping_layers,
            "g_channel_base": config.g.channel_base,
            "g_conv_clamp": config.g.conv_clamp,
            "d_architecture": config.d.architecture,
            "d_channel_base": config.d.channel_base,
            "d_conv_clamp": config.d.conv_clamp,
            "channel_max": config.d.channel_max,
            "mbstd_group_size": config.d.mbstd_group_size,
            "g_lr": config.g_lr,
            "d_lr": config.d_lr,
            "freezed": config.freezed,
            "p": p,
            "ada_target": ada_target,
            "ada_kimg": ada_kimg,
            "r1_gamma": config.r1_gamma,
            "pl_weight": config.pl_weight,
            "style_mixing_prob": config.style_mixing_prob,
            "ema_kimg": config.ema_kimg,
            "ema_rampup": config.ema_rampup,
            "total_kimg": config.total_kimg,
            "seed": config.seed,
        });
        serde_json::from_value(row).unwrap()
    }

    /// The transforms whose probability is `p`, not 0, by name.
    fn names(config: &AugmentConfig) -> String {
        let Value::Object(fields) = serde_json::to_value(config).unwrap() else { panic!() };
        let mut names: Vec<&str> = fields
            .iter()
            .filter(|(name, value)| !name.contains('_') && value.as_f64() == Some(1.0))
            .map(|(name, _)| name.as_str())
            .collect();
        names.sort_unstable();
        names.join(" ")
    }

    fn equal(a: &Value, b: &Value) -> bool {
        match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * b.abs(), // rounding of one division
            _ => a == b,
        }
    }

    #[test]
    fn every_preset_is_the_reference_s() {
        let fixture: BTreeMap<String, BTreeMap<String, Value>> =
            serde_json::from_str(FIXTURE).unwrap();
        for (key, expected) in &fixture {
            let (cfg, res, overrides) = asked(key);
            let row = row(&train_config(cfg, res, 0, &overrides));
            assert_eq!(row.len(), expected.len(), "{key}");
            for (field, value) in expected {
                assert!(equal(&row[field], value), "{key}.{field}: {} != {value}", row[field]);
            }
        }
        assert_eq!(fixture.len(), 120);
    }

    #[test]
    fn tiny_is_a_narrow_auto_of_batch_16() {
        let config = train_config(Cfg::Tiny, 32, 5, &Overrides::default());
        assert_eq!(
            (config.g.z_dim, config.g.w_dim, config.g.c_dim, config.d.c_dim),
            (128, 128, 5, 5)
        );
        assert_eq!((config.g.channels(4), config.g.channels(64)), (64, 32));
        assert_eq!((config.batch, config.batch_gpu, config.d.mbstd_group_size), (16, 16, Some(4)));
        assert_eq!(config.r1_gamma, 0.0128); // 0.0002 * 32^2 / 16
        assert_eq!(config.ema_kimg, 5.0);
        assert_eq!(train_config(Cfg::Tiny, 512, 0, &Overrides::default()).g.channel_base, 2048);
    }

    #[test]
    fn the_mbstd_group_divides_batch_gpu() {
        for (batch_gpu, group_size) in [(1, 1), (2, 2), (3, 3), (4, 4), (6, 3), (7, 1), (8, 4)] {
            let overrides = Overrides { batch_gpu: Some(batch_gpu), ..Overrides::default() };
            let config = train_config(Cfg::Auto, 64, 0, &overrides);
            assert_eq!(config.d.mbstd_group_size, Some(group_size), "batch_gpu {batch_gpu}");
        }
    }

    #[test]
    fn a_smaller_batch_gpu_keeps_the_group() {
        let smaller = |batch: usize| {
            let overrides = Overrides { batch: Some(batch), ..Overrides::default() };
            let mut config = train_config(Cfg::Tiny, 64, 0, &overrides);
            let next = || {
                let smaller = smaller_batch_gpu(&config)?;
                set_batch_gpu(&mut config, smaller);
                Some(config.batch_gpu)
            };
            std::iter::from_fn(next).collect::<Vec<_>>()
        };
        assert_eq!(smaller(16), [8, 4]);
        assert_eq!(smaller(24), [12, 4]);
        assert_eq!(smaller(4), [0; 0]);
        assert_eq!(smaller(6), [3]); // in groups of 3
        assert_eq!(smaller(7), [1]); // without groups
    }

    #[test]
    fn largest_divisors() {
        assert_eq!(largest_divisor(16, 5), 4);
        assert_eq!(largest_divisor(5, 4), 1);
        assert_eq!(largest_divisor(8, 100), 8);
        assert_eq!(largest_divisor(8, 0), 1);
    }
}
