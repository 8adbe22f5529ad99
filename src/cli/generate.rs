//! `generate`: pictures from a generator's weights, one per seed.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use candle_core::{Device, Tensor};
use clap::ValueEnum;
use tracing::info;

use super::{UsageError, device_choice};
use crate::job::outputs::write_file;
use crate::model::weights::from_bytes;
use crate::model::{Generator, Noise, Truncation};
use crate::ops::device::{DeviceChoice, Fault, classify, open};
use crate::ops::rng::{Rng, Stream};
use crate::sample::{Picture, label_of_class, latent_of_seed};

/// Most seeds of one call.
const MAX_SEEDS: usize = 100_000;
/// Most pictures of a grid.
const MAX_GRID: usize = 1024;

/// Flags of `generate`.
#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    /// A generator.safetensors.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Seeds and ranges of seeds, such as 0-15,85.
    #[arg(long)]
    seeds: String,
    /// Truncation psi: 1 keeps all variety, 0 gives the average picture.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    trunc: f64,
    /// Class to show, for weights with labels.
    #[arg(long, value_name = "K")]
    class: Option<usize>,
    /// Noise inputs: const gives the same picture every time.
    #[arg(long, value_enum, default_value = "const")]
    noise_mode: NoiseMode,
    /// Also writes grid.png, all pictures side by side.
    #[arg(long)]
    grid: bool,
    /// Where to compute: auto, cuda or cpu.
    #[arg(long, default_value = "auto", value_parser = device_choice)]
    device: DeviceChoice,
    /// Folder that receives the pictures; made where missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NoiseMode {
    Const,
    Random,
    None,
}

pub(super) fn run(args: &GenerateArgs, stop: &AtomicBool) -> Result<()> {
    let seeds = parse_seeds(&args.seeds)?;
    if !(-2.0..=2.0).contains(&args.trunc) {
        return Err(UsageError(format!("--trunc: expected -2 to 2, came {}", args.trunc)).into());
    }
    if args.grid && seeds.len() > MAX_GRID {
        return Err(UsageError(format!("--grid: expected at most {MAX_GRID} seeds")).into());
    }
    let bytes = fs::read(&args.weights)
        .map_err(|error| UsageError(format!("{}: {error}", args.weights.display())))?;
    let opened = open(args.device)?;
    info!("{}", opened.description);
    let (_, g) = from_bytes(&bytes, &opened.device).map_err(|error| not_loaded(error, args))?;
    let label = label(&g, args.class, &opened.device)?;
    fs::create_dir_all(&args.out)
        .map_err(|error| UsageError(format!("{}: {error}", args.out.display())))?;
    let mut pictures = Vec::new();
    let mut num_written = 0;
    for &seed in &seeds {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let z = latent_of_seed(seed, g.config.z_dim, &opened.device)?;
        let picture = picture(&g, (seed, &z), label.as_ref(), args)?;
        write_file(&args.out.join(format!("seed{seed:04}.png")), &picture.to_png()?)?;
        num_written += 1;
        if args.grid {
            pictures.push(picture);
        }
    }
    if !pictures.is_empty() {
        let columns = (pictures.len() as f64).sqrt().ceil() as usize;
        write_file(&args.out.join("grid.png"), &Picture::tile(&pictures, columns)?.to_png()?)?;
    }
    info!("{num_written} of {} pictures written to {}", seeds.len(), args.out.display());
    Ok(())
}

/// Why weights are refused; a failing GPU is no fault of theirs.
fn not_loaded(error: candle_core::Error, args: &GenerateArgs) -> anyhow::Error {
    match classify(&error) {
        Fault::Other => UsageError(format!("{}: {error}", args.weights.display())).into(),
        Fault::OutOfMemory | Fault::DeviceLost => error.into(),
    }
}

fn picture(
    g: &Generator,
    (seed, z): (u32, &Tensor),
    c: Option<&Tensor>,
    args: &GenerateArgs,
) -> Result<Picture> {
    let noise = match args.noise_mode {
        NoiseMode::Const => Noise::Const,
        NoiseMode::Random => Noise::Random(Rng::new(u64::from(seed), Stream::LayerNoise, 0)),
        NoiseMode::None => Noise::None,
    };
    let truncation = Truncation { psi: args.trunc, cutoff: None };
    Ok(Picture::generate(g, z, c, truncation, noise)?)
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
fn parse_seeds(text: &str) -> Result<Vec<u32>, UsageError> {
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
