//! What a run will need, and what it has.
//!
//! The estimate counts what training keeps: parameters with their moments, averages and gradients,
//! the set, and the activations of the largest phase. R1 differentiates a gradient, so each
//! activation of D is there about [`R1_COPIES`] times; that factor was fitted to measured peaks.

use std::fs;

use crate::model::config::{DiscriminatorConfig, GeneratorConfig};
use crate::train::config::TrainConfig;
use crate::train::presets::{largest_divisor, set_batch_gpu};

/// Times an activation is kept at the peak of the largest phase.
const R1_COPIES: u64 = 6;
/// The program itself with its threads' scratch memory.
const BASE_BYTES: u64 = 80 << 20;
/// The share of the limit that may be planned with.
const USABLE: f64 = 0.85;

/// Bytes that a training of `config` is expected to take at its peak, beside the set.
pub fn training_bytes(config: &TrainConfig) -> u64 {
    let (g, d) = (g_params(&config.g), d_params(&config.d));
    // Weights, two moments, gradients and their sum over rounds; G has its average too.
    let states = 4 * (6 * g + 5 * d);
    let activations = g_activations(&config.g).max(d_activations(&config.d));
    BASE_BYTES + states + 4 * R1_COPIES * activations * config.batch_gpu as u64
}

/// Lowers `batch_gpu` until the training fits beside `dataset_bytes`; says whether it had to.
pub fn fit_batch_gpu(config: &mut TrainConfig, dataset_bytes: u64, limit: Option<u64>) -> bool {
    let Some(limit) = limit else { return false };
    let usable = (limit as f64 * USABLE) as u64;
    let asked = config.batch_gpu;
    while config.batch_gpu > 1 && training_bytes(config) + dataset_bytes > usable {
        let smaller = largest_divisor(config.batch, config.batch_gpu - 1);
        set_batch_gpu(config, smaller);
    }
    config.batch_gpu < asked
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
            let (below, dim) = (g.channels((res / 2).max(4)), g.channels(res));
            9 * dim * (below + dim) + g.w_dim * (below + dim)
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

/// Values that one image leaves behind in G: two convolutions per resolution, each with its
/// modulated input, its demodulated output and its activation.
fn g_activations(g: &GeneratorConfig) -> u64 {
    g.block_resolutions().iter().map(|&res| (5 * g.channels(res) * res * res) as u64).sum()
}

/// Values that one image leaves behind in D: input, two convolutions, the filtered images.
fn d_activations(d: &DiscriminatorConfig) -> u64 {
    d.block_resolutions().iter().map(|&res| (4 * d.channels(res) * res * res) as u64).sum()
}
