//! `augment`: what augmentation does to pictures, shown on pictures that a generator made.
//!
//! One row for each seed: the plain picture, and then the same one augmented at each strength `p`,
//! always with the same draws, so that with a larger `p` transforms come in and none changes; or,
//! apart, by one transform at a time. Real pictures have no way here: [`Picture`] takes none.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use candle_core::DType;
use tracing::info;

use super::UsageError;
use super::pictures::{MAX_GRID, must_be_a_file};
use super::weights::{Maker, WeightsArgs, parse_seeds};
use crate::augment::{AugPipe, DiffAugConfig, Pipeline};
use crate::job::outputs::write_file;
use crate::job::params::Params;
use crate::job::problem::{ParamsError, Problem};
use crate::ops::rng::{Rng, Stream};
use crate::sample::{Augmented, Picture};

/// The least resolution, of the powers of two, that filters can be applied to.
const MIN_FILTER_RES: usize = 32;

/// Flags of `augment`.
#[derive(Debug, clap::Args)]
pub(super) struct AugmentArgs {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Seeds and ranges of seeds, one row for each.
    #[arg(long, default_value = "0-3")]
    seeds: String,
    /// The transforms, as the parameter of this name has them.
    #[arg(long, default_value = "bgc", value_parser = augpipe)]
    augpipe: AugPipe,
    /// Those of aug diffaug instead.
    #[arg(long, conflicts_with = "augpipe")]
    diffaug: bool,
    /// Strengths, numbers from 0 to 1, one column for each.
    #[arg(long, value_name = "LIST", default_value = "0,0.2,0.4,0.6,0.8,1")]
    p: String,
    /// One column for each transform alone, at strength 1.
    #[arg(long, conflicts_with = "p")]
    apart: bool,
    /// Seeds the draws of the transforms.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// PNG file that receives the grid; its folder is made where missing.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// The value of `--augpipe`, judged as the parameter.
fn augpipe(text: &str) -> Result<AugPipe, ParamsError> {
    Ok(Params::from_texts([("augpipe", text)])?.augpipe)
}

pub(super) fn run(args: &AugmentArgs, stop: &AtomicBool) -> Result<()> {
    let (seeds, strengths) = (parse_seeds(&args.seeds)?, parse_strengths(&args.p)?);
    let maker = args.weights.open()?;
    let res = maker.model.g.config.img_resolution;
    if !args.diffaug && args.augpipe.config().imgfilter > 0.0 && res < MIN_FILTER_RES {
        let problem = Problem::SmallForFilter { resolution: res };
        return Err(ParamsError::Refused(vec![problem]).into());
    }
    let (names, augmented) = columns(args, &strengths, &maker)?;
    let num_columns = 1 + augmented.len();
    if seeds.len() * num_columns > MAX_GRID {
        let most = MAX_GRID / num_columns;
        return Err(UsageError(format!("--seeds: expected at most {most} rows")).into());
    }
    must_be_a_file(&args.out, "augmented.png")?;
    let mut pictures = Vec::with_capacity(seeds.len() * num_columns);
    for &seed in &seeds {
        if stop.load(Ordering::Relaxed) {
            info!("stopped before the grid was done");
            return Ok(());
        }
        let (z, rng) = (maker.model.z(seed)?, Rng::new(args.seed, Stream::Augment, seed.into()));
        let of = (&z, maker.c.as_ref());
        pictures.extend(Picture::generate_augmented(
            &maker.model.g,
            of,
            maker.truncation,
            &rng,
            &augmented,
        )?);
    }
    write_file(&args.out, Picture::tile(&pictures, num_columns)?.to_png()?.bytes())?;
    info!("columns: plain, {}", names.join(", "));
    info!("{} rows of {num_columns} pictures written to {}", seeds.len(), args.out.display());
    Ok(())
}

/// The columns after the first, and what they are called.
fn columns(
    args: &AugmentArgs,
    strengths: &[f64],
    maker: &Maker,
) -> candle_core::Result<(Vec<String>, Vec<Augmented>)> {
    let (img_channels, place) =
        (maker.model.g.config.img_channels, (DType::F32, &maker.model.device));
    let of_pipe = |config: &_| Pipeline::new(config, img_channels, place);
    let of_diffaug = |config: &_| Pipeline::diffaug(config, img_channels, place);
    if !args.apart {
        let pipeline = if args.diffaug {
            of_diffaug(&DiffAugConfig::PUBLISHED)?
        } else {
            of_pipe(&args.augpipe.config())?
        };
        let column =
            |&p: &f64| (format!("p {p}"), Augmented { pipeline: pipeline.clone(), part: 0, p });
        return Ok(strengths.iter().map(column).unzip());
    }
    let apart: Vec<(&str, Pipeline)> = if args.diffaug {
        let apart = DiffAugConfig::PUBLISHED.apart();
        let apart = apart.iter().map(|(name, config)| Ok((*name, of_diffaug(config)?)));
        apart.collect::<candle_core::Result<_>>()?
    } else {
        let apart = args.augpipe.config().apart();
        let apart = apart.iter().map(|(name, config)| Ok((*name, of_pipe(config)?)));
        apart.collect::<candle_core::Result<_>>()?
    };
    // Draws of its own for each, else all that are flipped half of the time are flipped together.
    let columns = (0..)
        .zip(apart)
        .map(|(part, (name, pipeline))| (name.to_owned(), Augmented { pipeline, part, p: 1.0 }));
    Ok(columns.unzip())
}

/// `0,0.5,1` as numbers from 0 to 1.
fn parse_strengths(text: &str) -> Result<Vec<f64>, UsageError> {
    let strength = |text: &str| text.trim().parse().ok().filter(|p| (0.0..=1.0).contains(p));
    let strengths: Option<Vec<f64>> = text.split(',').map(strength).collect();
    strengths.ok_or_else(|| {
        UsageError(format!("--p: expected numbers from 0 to 1 such as 0,0.2,1, came \"{text}\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strengths_are_numbers_from_0_to_1() {
        assert_eq!(parse_strengths("0, 0.25,1").unwrap(), [0.0, 0.25, 1.0]);
        for bad in ["", "0,", "-0.1", "1.01", "NaN", "inf", "half", "0-1"] {
            assert!(parse_strengths(bad).is_err(), "{bad}");
        }
    }
}
