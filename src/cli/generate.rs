//! `generate`: pictures from a generator's weights, one per seed.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::ValueEnum;
use tracing::info;

use super::UsageError;
use super::weights::{Maker, WeightsArgs, parse_seeds};
use crate::job::outputs::write_file;
use crate::model::Noise;
use crate::ops::rng::{Rng, Stream};
use crate::sample::Picture;

/// Most pictures of a grid.
pub(super) const MAX_GRID: usize = 1024;

/// Flags of `generate`.
#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Seeds and ranges of seeds, such as 0-15,85.
    #[arg(long)]
    seeds: String,
    /// Noise inputs: const gives the same picture every time.
    #[arg(long, value_enum, default_value = "const")]
    noise_mode: NoiseMode,
    /// Also writes grid.png, all pictures side by side.
    #[arg(long)]
    grid: bool,
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
    if args.grid && seeds.len() > MAX_GRID {
        return Err(UsageError(format!("--grid: expected at most {MAX_GRID} seeds")).into());
    }
    let maker = args.weights.open()?;
    fs::create_dir_all(&args.out)
        .map_err(|error| UsageError(format!("{}: {error}", args.out.display())))?;
    let mut pictures = Vec::new();
    let mut num_written = 0;
    for &seed in &seeds {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let picture = picture(&maker, seed, args.noise_mode)?;
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

fn picture(maker: &Maker, seed: u32, noise_mode: NoiseMode) -> candle_core::Result<Picture> {
    let noise = match noise_mode {
        NoiseMode::Const => Noise::Const,
        NoiseMode::Random => Noise::Random(Rng::new(u64::from(seed), Stream::LayerNoise, 0)),
        NoiseMode::None => Noise::None,
    };
    let z = maker.latent(seed)?;
    Picture::generate(&maker.g, &z, maker.c.as_ref(), maker.truncation, noise)
}
