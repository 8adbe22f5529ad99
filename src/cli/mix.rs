//! `mix`: pictures with some layers of others, as a grid.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use tracing::info;

use super::UsageError;
use super::pictures::{MAX_GRID, PictureArgs, must_be_a_file, parse_layers};
use super::weights::parse_seeds;
use crate::latent::Recipe;
use crate::latent::recipe::Latent;

/// Flags of `mix`.
#[derive(Debug, clap::Args)]
pub(super) struct MixArgs {
    #[command(flatten)]
    pictures: PictureArgs,
    /// Seeds of the pictures that are changed, one row for each.
    #[arg(long, default_value = "0-3")]
    seeds: String,
    /// Seeds of the pictures that layers are taken from, one column for each.
    #[arg(long, value_name = "SEEDS", default_value = "4-9")]
    styles: String,
    /// Those layers: low ones decide the form, high ones colors and texture [default: the upper half].
    #[arg(long, value_name = "LIST")]
    layers: Option<String>,
    /// PNG file that receives the grid; its folder is made where missing.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(args: &MixArgs, stop: &AtomicBool) -> Result<()> {
    let (rows, columns) = (parse_seeds(&args.seeds)?, parse_seeds(&args.styles)?);
    if (rows.len() + 1) * (columns.len() + 1) > MAX_GRID {
        let message = format!("--seeds, --styles: expected at most {MAX_GRID} pictures in all");
        return Err(UsageError(message).into());
    }
    let studio = args.pictures.open()?;
    let num_ws = studio.maker.model.g.config.num_ws();
    let upper = format!("{}-{}", num_ws / 2, num_ws - 1);
    let layers = parse_layers(args.layers.as_deref().unwrap_or(&upper), num_ws)?;
    must_be_a_file(&args.out, "mix.png")?;
    let plain = |seed: &u32| Some(studio.recipe_of_seed(*seed));
    let mut recipes: Vec<Option<Recipe>> = vec![None];
    recipes.extend(columns.iter().map(plain));
    for row in &rows {
        recipes.push(plain(row));
        let mixed = |style: &u32| {
            let latent = Latent::Mix { base: *row, style: *style, layers: layers.clone() };
            Some(studio.recipe(latent, *row))
        };
        recipes.extend(columns.iter().map(mixed));
    }
    if !studio.write_sheet(&args.out, columns.len() + 1, &recipes, stop)? {
        info!("stopped before the grid was done");
        return Ok(());
    }
    let (rows, columns) = (rows.len(), columns.len());
    info!("{rows} rows, {columns} columns, layers {layers:?} of 0 to {}", num_ws - 1);
    info!("written: {}", args.out.display());
    Ok(())
}
