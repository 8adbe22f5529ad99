//! What commands that make pictures share: weights, truncation, class, device, seeds.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use candle_core::{Device, Tensor};
use tracing::info;

use super::{UsageError, device_choice};
use crate::model::weights::from_bytes;
use crate::model::{Generator, Truncation};
use crate::ops::device::{DeviceChoice, Fault, classify, open};
use crate::sample::{label_of_class, latent_of_seed};

/// Most seeds of one call.
const MAX_SEEDS: usize = 100_000;

/// Flags that say which pictures a generator makes.
#[derive(Debug, clap::Args)]
pub(super) struct WeightsArgs {
    /// A generator.safetensors.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Truncation psi: 1 keeps all variety, 0 gives the average picture.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    trunc: f64,
    /// Class to show, for weights with labels.
    #[arg(long, value_name = "K")]
    class: Option<usize>,
    /// Where to compute: auto, cuda or cpu.
    #[arg(long, default_value = "auto", value_parser = device_choice)]
    device: DeviceChoice,
}

/// A generator at work, and what its pictures have in common.
pub(super) struct Maker {
    pub(super) g: Generator,
    /// `[1, c_dim]`
    pub(super) c: Option<Tensor>,
    pub(super) truncation: Truncation,
    pub(super) device: Device,
}

impl WeightsArgs {
    /// Opens the device and loads the weights.
    ///
    /// # Errors
    /// Fails if a flag or the weights are refused, or if the device does.
    pub(super) fn open(&self) -> Result<Maker> {
        if !(-2.0..=2.0).contains(&self.trunc) {
            let message = format!("--trunc: expected -2 to 2, came {}", self.trunc);
            return Err(UsageError(message).into());
        }
        let bytes = fs::read(&self.weights)
            .map_err(|error| UsageError(format!("{}: {error}", self.weights.display())))?;
        let opened = open(self.device)?;
        info!("{}", opened.description);
        let device = opened.device;
        let (_, g) = from_bytes(&bytes, &device).map_err(|error| self.not_loaded(error))?;
        let c = label(&g, self.class, &device)?;
        Ok(Maker { g, c, truncation: Truncation { psi: self.trunc, cutoff: None }, device })
    }

    /// Why weights are refused; a failing GPU is no fault of theirs.
    fn not_loaded(&self, error: candle_core::Error) -> anyhow::Error {
        match classify(&error) {
            Fault::Other => UsageError(format!("{}: {error}", self.weights.display())).into(),
            Fault::OutOfMemory | Fault::DeviceLost => error.into(),
        }
    }
}

impl Maker {
    /// The latent of a seed, `[1, z_dim]`.
    ///
    /// # Errors
    /// Fails if the device does.
    pub(super) fn latent(&self, seed: u32) -> candle_core::Result<Tensor> {
        latent_of_seed(seed, self.g.config.z_dim, &self.device)
    }
}

/// The label that the pictures get.
fn label(g: &Generator, class: Option<usize>, device: &Device) -> Result<Option<Tensor>> {
    match (g.config.c_dim, class) {
        (0, None) => Ok(None),
        (0, Some(_)) => {
            Err(UsageError("--class: these weights have no labels; leave it out".into()).into())
        }
        (c_dim, None) => {
            let message = format!("--class: expected 0 to {}, one of the classes", c_dim - 1);
            Err(UsageError(message).into())
        }
        (c_dim, Some(class)) => {
            let label = label_of_class(class, c_dim, device);
            label.map(Some).map_err(|error| UsageError(format!("--class: {error}")).into())
        }
    }
}

/// `0-2,85` as 0, 1, 2, 85.
pub(super) fn parse_seeds(text: &str) -> Result<Vec<u32>, UsageError> {
    let refused = || {
        UsageError(format!(
            "--seeds: expected numbers and ranges such as 0-15,85, at most {MAX_SEEDS} seeds below 2^32, came \"{text}\""
        ))
    };
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| refused());
    let mut seeds = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if last < first || (last - first) as usize >= MAX_SEEDS - seeds.len() {
            return Err(refused());
        }
        seeds.extend(first..=last);
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_numbers_and_ranges() {
        assert_eq!(parse_seeds("0-2,85").unwrap(), [0, 1, 2, 85]);
        assert_eq!(parse_seeds(" 7 ").unwrap(), [7]);
        for bad in ["", "x", "3-1", "1,,2", "-1", "0-4294967295", "4294967296"] {
            assert!(parse_seeds(bad).is_err(), "{bad}");
        }
    }
}
