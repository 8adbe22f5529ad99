//! `generate`: pictures from a generator's weights, one per seed or per file of latents.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use tracing::info;

use super::UsageError;
use super::pictures::{MAX_GRID, PictureArgs, bar, make_folder, parse_numbers};
use super::weights::parse_seeds;
use crate::latent::Recipe;
use crate::latent::recipe::Latent;

/// Flags of `generate`.
#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    pictures: PictureArgs,
    /// Seeds and ranges of seeds, such as 0-15,85.
    #[arg(long, required_unless_present = "w")]
    seeds: Option<String>,
    /// Latents that project has found, in place of seeds; may be said again.
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    w: Vec<PathBuf>,
    /// Also writes grid.png, all pictures side by side.
    #[arg(long)]
    grid: bool,
    /// Also writes sweep.png: one row per seed, one column for each of these truncations
    /// (--sweep=-1,0,1 with negative ones).
    #[arg(
        long,
        value_name = "LIST",
        num_args = 0..=1,
        default_missing_value = "0,0.25,0.5,0.75,1"
    )]
    sweep: Option<String>,
    /// Folder that receives the pictures; made where missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &GenerateArgs, stop: &AtomicBool) -> Result<()> {
    let seeds = args.seeds.as_deref().map_or(Ok(Vec::new()), parse_seeds)?;
    let sweep = args.sweep.as_deref().map(|text| parse_numbers("--sweep", text, (-2.0, 2.0)));
    let sweep = sweep.transpose()?.unwrap_or_default();
    let count = seeds.len().max(args.w.len());
    if args.grid && count > MAX_GRID {
        return Err(UsageError(format!("--grid: expected at most {MAX_GRID} seeds")).into());
    }
    if count * sweep.len() > MAX_GRID {
        let most = MAX_GRID / sweep.len();
        return Err(UsageError(format!("--sweep: expected at most {most} seeds")).into());
    }
    let mut studio = args.pictures.open_for_any_class(!args.w.is_empty())?;
    let mut recipes: Vec<(String, Recipe)> = Vec::with_capacity(count);
    for &seed in &seeds {
        recipes.push((format!("seed{seed:04}.png"), studio.recipe_of_seed(seed)));
    }
    for (idx, path) in args.w.iter().enumerate() {
        let source = studio.source_of(path)?;
        recipes.push((format!("w{idx:04}.png"), studio.recipe(Latent::Of(source), 0)));
    }
    make_folder(&args.out)?;
    let (bar, mut num_written) = (bar(count), 0);
    for (name, recipe) in &recipes {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        studio.write(&args.out.join(name), recipe)?;
        num_written += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let recipes: Vec<_> = recipes.into_iter().map(|(_, recipe)| Some(recipe)).collect();
    if args.grid {
        let columns = (count as f64).sqrt().ceil() as usize;
        studio.write_sheet(&args.out.join("grid.png"), columns, &recipes, stop)?;
    }
    if !sweep.is_empty() {
        let with = |of: &Recipe, trunc| Some(Recipe { trunc, ..of.clone() });
        let row = |of: &Recipe| sweep.iter().map(|psi| with(of, *psi)).collect::<Vec<_>>();
        let all: Vec<_> = recipes.iter().flatten().flat_map(row).collect();
        studio.write_sheet(&args.out.join("sweep.png"), sweep.len(), &all, stop)?;
    }
    info!("{num_written} of {count} pictures written to {}", args.out.display());
    Ok(())
}
