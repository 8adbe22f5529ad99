//! `directions`: what the weights themselves can change in a picture, and doing it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use tracing::info;

use super::UsageError;
use super::pictures::{MAX_GRID, PictureArgs, Studio, make_folder, parse_layers, parse_numbers};
use super::weights::parse_seeds;
use crate::latent::Recipe;
use crate::latent::recipe::{Latent, Source};

/// Farther than so many standard deviations no picture is one.
const MAX_BY: f64 = 20.0;

/// Flags of `directions`.
#[derive(Debug, clap::Args)]
pub(super) struct DirectionsArgs {
    #[command(flatten)]
    pictures: PictureArgs,
    /// Seeds and ranges of seeds, one row for each.
    #[arg(long, default_value = "0-3")]
    seeds: String,
    /// Latents that project has found, in place of seeds; may be said again.
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    w: Vec<PathBuf>,
    /// Layers that directions are of and that move: low ones change the form, high ones colors
    /// [default: all].
    #[arg(long, value_name = "LIST")]
    layers: Option<String>,
    /// How many directions are shown, the strongest first.
    #[arg(long, value_name = "N", default_value_t = 6, conflicts_with = "apply")]
    count: usize,
    /// Goes along this direction only, and writes each picture by itself.
    #[arg(long, value_name = "K")]
    apply: Option<usize>,
    /// How far, in standard deviations of w: one column, or one picture, for each.
    #[arg(
        long,
        value_name = "LIST",
        default_value = "-1,-0.5,0,0.5,1",
        allow_hyphen_values = true
    )]
    by: String,
    /// Folder that receives directionK.png, or pictures; made where missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &DirectionsArgs, stop: &AtomicBool) -> Result<()> {
    let seeds = if args.w.is_empty() { parse_seeds(&args.seeds)? } else { Vec::new() };
    let by = parse_numbers("--by", &args.by, (-MAX_BY, MAX_BY))?;
    let num_rows = seeds.len().max(args.w.len());
    if num_rows * by.len() > MAX_GRID {
        let most = MAX_GRID / by.len();
        return Err(UsageError(format!("--seeds: expected at most {most} rows")).into());
    }
    let mut studio = args.pictures.open_for_any_class(!args.w.is_empty())?;
    let num_ws = studio.maker.model.g.config.num_ws();
    let all = format!("0-{}", num_ws - 1);
    let layers = parse_layers(args.layers.as_deref().unwrap_or(&all), num_ws)?;
    let mut rows: Vec<(String, Source, u32)> = Vec::with_capacity(num_rows);
    for seed in seeds {
        rows.push((format!("seed{seed:04}"), Source::Seed(seed), seed));
    }
    for (idx, path) in args.w.iter().enumerate() {
        rows.push((format!("w{idx:04}"), studio.source_of(path)?, 0));
    }
    let found = studio
        .maker
        .model
        .directions(&layers)
        .map_err(|error| UsageError(format!("--layers: {error}")))?;
    let most = found.vectors.len();
    if args.apply.is_some_and(|direction| direction >= most) {
        return Err(
            UsageError(format!("--apply: expected a direction from 0 to {}", most - 1)).into()
        );
    }
    make_folder(&args.out)?;
    let moved = |studio: &Studio, row: &(String, Source, u32), direction, by| {
        let (_, from, seed) = row;
        let (from, layers) = (from.clone(), layers.clone());
        studio.recipe(Latent::Moved { from, direction, layers, by }, *seed)
    };
    if let Some(direction) = args.apply {
        for row in &rows {
            for &by in &by {
                let path = args.out.join(format!("{}-direction{direction}-by{by}.png", row.0));
                studio.write(&path, &moved(&studio, row, direction, by))?;
            }
        }
        info!("{} pictures written to {}", rows.len() * by.len(), args.out.display());
        return Ok(());
    }
    for (direction, strength) in found.strengths.iter().enumerate().take(args.count.min(most)) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let of = |row| by.iter().map(move |by| (row, *by));
        let recipes: Vec<Option<Recipe>> = rows
            .iter()
            .flat_map(of)
            .map(|(row, by)| Some(moved(&studio, row, direction, by)))
            .collect();
        let path = args.out.join(format!("direction{direction}.png"));
        studio.write_sheet(&path, by.len(), &recipes, stop)?;
        info!("direction {direction} of strength {strength:.2}: {}", path.display());
    }
    Ok(())
}
