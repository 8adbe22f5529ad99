//! What a run will need, and what it has.
//!
//! The estimate counts what training keeps: parameters with their moments, averages, gradients and
//! the last good ones, the set, and the activations of the largest phase, which differentiates a
//! gradient and so holds each of them several times. The constants were fitted to measured peaks
//! (32 to 256 pixels, `tiny` and `auto`, batches of 2 to 16), which they meet within 10 %. Those of
//! a GPU (64 to 256 pixels, `auto`) exceed what its tensors take by up to 15 %, since its libraries
//! take some as well. What they leave out is met while training ([`super::fault`]).

use std::fs;

use crate::model::Precision;
use crate::model::config::{DiscriminatorConfig, GeneratorConfig};
use crate::ops::device::DeviceKind;
use crate::train::config::TrainConfig;
use crate::train::presets::{largest_divisor, set_batch_gpu, smaller_batch_gpu};

/// Times an activation is there at the peak of the largest phase ..
const ACTIVATION_COPIES: f64 = 2.0;
/// .. and on a GPU, whose convolutions need scratch memory.
const ACTIVATION_COPIES_ON_GPU: f64 = 2.6;
/// Times a weight of G is there, and one of D: itself, two moments and its gradient, G's average,
/// and the last good ones ..
const WEIGHT_COPIES: [u64; 2] = [7, 5];
/// .. which a GPU does not hold.
const WEIGHT_COPIES_ON_GPU: [u64; 2] = [5, 4];
/// The program itself with its threads' scratch memory.
const BASE_BYTES: u64 = 48 << 20;
/// Scratch memory of a GPU's libraries, and what its allocator keeps.
const BASE_BYTES_ON_GPU: u64 = 256 << 20;
/// The share of the limit that may be planned with ..
const USABLE: f64 = 0.85;
/// .. and of what is free on a GPU, which holds nothing else of ours.
const USABLE_ON_GPU: f64 = 0.9;

/// What a training may be planned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Whose memory it is.
    pub device: DeviceKind,
    /// All of it that this process may take; absent where nothing is known.
    pub limit: Option<u64>,
    /// What the set takes of it.
    pub dataset_bytes: u64,
}

impl Room {
    /// Of the machine's memory, with the set in it.
    pub fn in_ram(limit: Option<u64>, dataset_bytes: u64) -> Self {
        Self { device: DeviceKind::Cpu, limit, dataset_bytes }
    }

    /// Of a GPU's memory, which the set never enters as a whole.
    pub fn on_gpu(free_bytes: Option<u64>) -> Self {
        Self { device: DeviceKind::Cuda, limit: free_bytes, dataset_bytes: 0 }
    }

    /// Whether a training of `config` is expected to need more than `share` of it.
    fn is_exceeded_by(&self, config: &TrainConfig, share: f64) -> bool {
        let needed = training_bytes(config, self.device) + self.dataset_bytes;
        self.limit.is_some_and(|limit| needed > (limit as f64 * share) as u64)
    }

    /// Whether a training of `config` is expected to need more than there is.
    pub fn is_too_small_for(&self, config: &TrainConfig) -> bool {
        self.is_exceeded_by(config, 1.0)
    }
}

/// Bytes that a training of `config` is expected to take of the memory of `device` at its peak,
/// beside the set.
pub fn training_bytes(config: &TrainConfig, device: DeviceKind) -> u64 {
    let (base_bytes, copies) = match device {
        DeviceKind::Cpu => (BASE_BYTES, ACTIVATION_COPIES),
        DeviceKind::Cuda => (BASE_BYTES_ON_GPU, ACTIVATION_COPIES_ON_GPU),
    };
    let value_bytes = match (device, config.precision) {
        (DeviceKind::Cpu, _) | (DeviceKind::Cuda, Precision::F32 | Precision::Tf32) => 4,
        (DeviceKind::Cuda, Precision::F16 | Precision::Bf16) => 2,
    };
    let [g_copies, d_copies] = match device {
        DeviceKind::Cpu => WEIGHT_COPIES,
        DeviceKind::Cuda => WEIGHT_COPIES_ON_GPU,
    };
    let states = g_copies * g_params(&config.g) + d_copies * d_params(&config.d);
    let activations = value_bytes * activations(&config.d) * config.batch_gpu as u64;
    base_bytes + 4 * states + (copies * activations as f64) as u64
}

/// Lowers `batch_gpu` until the training fits into `room`; says whether it had to.
///
/// On a GPU it ends at the mini-batch std group, since only the training itself can tell whether
/// that is still too much.
pub fn fit_batch_gpu(config: &mut TrainConfig, room: Room) -> bool {
    let asked = config.batch_gpu;
    let share = match room.device {
        DeviceKind::Cpu => USABLE,
        DeviceKind::Cuda => USABLE_ON_GPU,
    };
    while room.is_exceeded_by(config, share) {
        let smaller = match room.device {
            DeviceKind::Cpu => smaller_divisor(config),
            DeviceKind::Cuda => smaller_batch_gpu(config),
        };
        let Some(smaller) = smaller else { break };
        set_batch_gpu(config, smaller);
    }
    config.batch_gpu < asked
}

/// The next lower `batch_gpu`; fewer images than a mini-batch std group make the group smaller.
fn smaller_divisor(config: &TrainConfig) -> Option<usize> {
    let is_more = config.batch_gpu > 1;
    is_more.then(|| largest_divisor(config.batch, config.batch_gpu - 1))
}

/// The most memory this process has held so far (`VmHWM`), and holds now (`VmRSS`), in bytes;
/// 0 where the system does not say.
pub fn peak_and_current_bytes() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let bytes = |name: &str| field(name).unwrap_or(0) * 1024;
    (bytes("VmHWM:"), bytes("VmRSS:"))
}

fn g_params(g: &GeneratorConfig) -> u64 {
    let convs: usize = g
        .block_resolutions()
        .iter()
        .map(|&res| {
            // The first block has one convolution; each has an affine layer, and so has toRGB.
            let below = if res == 4 { 0 } else { g.channels(res / 2) };
            let dim = g.channels(res);
            9 * dim * (below + dim) + g.w_dim * (below + 2 * dim)
        })
        .sum();
    (convs + g.mapping_layers * g.w_dim * g.w_dim) as u64
}

fn d_params(d: &DiscriminatorConfig) -> u64 {
    let convs: usize = d
        .block_resolutions()
        .iter()
        .map(|&res| {
            let (dim, below) = (d.channels(res), d.channels(res / 2));
            9 * dim * (dim + below) + dim * below
        })
        .sum();
    let dim = d.channels(4);
    (convs + 9 * dim * dim + 16 * dim * dim) as u64
}

/// Values that one image leaves behind in D: the input of each resolution, two convolutions, the
/// filtered images. G leaves about as many.
fn activations(d: &DiscriminatorConfig) -> u64 {
    d.block_resolutions().iter().map(|&res| (4 * d.channels(res) * res * res) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::presets::{Cfg, Overrides, train_config};

    fn config(cfg: Cfg, res: usize, batch: usize) -> TrainConfig {
        train_config(cfg, res, 0, &Overrides { batch: Some(batch), ..Overrides::default() })
    }

    /// Peaks of `estimate --cfg CFG --resolution RES --batch B`, in megabytes.
    #[test]
    fn estimates_meet_measured_peaks() {
        let measured = [
            (Cfg::Tiny, 32, 16, 112),
            (Cfg::Tiny, 64, 8, 121),
            (Cfg::Tiny, 64, 16, 198),
            (Cfg::Auto, 32, 4, 1128),
            (Cfg::Auto, 64, 4, 1296),
            (Cfg::Auto, 64, 8, 1613),
            (Cfg::Auto, 128, 2, 1326),
            (Cfg::Auto, 256, 2, 1687),
        ];
        for (cfg, res, batch, peak) in measured {
            let estimate = training_bytes(&config(cfg, res, batch), DeviceKind::Cpu) as f64 / 1e6;
            let ratio = estimate / f64::from(peak);
            assert!((0.9..1.1).contains(&ratio), "{cfg:?} {res} {batch}: {estimate:.0} MB");
        }
    }

    /// Peaks of the same on a GPU (`--precision`), in gigabytes.
    #[test]
    fn estimates_meet_measured_peaks_of_a_gpu() {
        let measured = [
            (Precision::F32, 64, 32, 3.38),
            (Precision::F32, 128, 32, 5.84),
            (Precision::Tf32, 64, 32, 3.04),
            (Precision::Tf32, 128, 32, 5.77),
            (Precision::Tf32, 256, 16, 5.97),
            (Precision::F16, 64, 32, 1.96),
            (Precision::F16, 128, 32, 3.33),
            (Precision::F16, 256, 16, 3.44),
        ];
        for (precision, res, batch, peak) in measured {
            let config = TrainConfig { precision, ..config(Cfg::Auto, res, batch) };
            let estimate = training_bytes(&config, DeviceKind::Cuda) as f64 / 1e9;
            let ratio = estimate / peak;
            assert!((1.0..1.16).contains(&ratio), "{precision:?} {res} {batch}: {estimate:.2} GB");
        }
    }

    /// The reference counts 19.95 M and 21.51 M at 32 pixels.
    #[test]
    fn parameters_are_counted() {
        let config = config(Cfg::Auto, 32, 4);
        assert!((g_params(&config.g) as f64 / 19.95e6 - 1.0).abs() < 0.05);
        assert!((d_params(&config.d) as f64 / 21.51e6 - 1.0).abs() < 0.05);
    }

    #[test]
    fn batch_gpu_is_lowered_until_it_fits() {
        let mut fits = config(Cfg::Tiny, 64, 16);
        assert!(!fit_batch_gpu(&mut fits, Room::in_ram(Some(8 << 30), 0)) && fits.batch_gpu == 16);
        let mut tight = config(Cfg::Tiny, 64, 16);
        assert!(fit_batch_gpu(&mut tight, Room::in_ram(Some(200_000_000), 40_000_000)));
        assert!(tight.batch_gpu < 16 && tight.batch.is_multiple_of(tight.batch_gpu));
        assert!(training_bytes(&tight, DeviceKind::Cpu) <= 130_000_000);
        let mut unknown = config(Cfg::Tiny, 64, 16);
        assert!(!fit_batch_gpu(&mut unknown, Room::in_ram(None, 0)));
    }

    #[test]
    fn on_a_gpu_the_mbstd_group_is_kept() {
        let mut tight = config(Cfg::Tiny, 64, 24);
        assert!(fit_batch_gpu(&mut tight, Room::on_gpu(Some(1))));
        assert_eq!((tight.batch_gpu, tight.d.mbstd_group_size), (4, Some(4)));
        assert!(!fit_batch_gpu(&mut tight, Room::on_gpu(Some(1))));
        let mut fits = config(Cfg::Tiny, 64, 24);
        assert!(!fit_batch_gpu(&mut fits, Room::on_gpu(Some(8 << 30))) && fits.batch_gpu == 24);
    }
}
