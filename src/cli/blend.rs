//! `blend`: two models of one shape as one, by resolution.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;
use tracing::info;

use super::UsageError;
use super::pictures::{MAX_GRID, PictureArgs, bar, listed, make_folder};
use super::weights::{parse_seeds, read};
use crate::home::canvas::Canvas;
use crate::home::png::Sheet;
use crate::home::provenance::Layout;
use crate::job::outputs::write_file;
use crate::latent::Model;
use crate::latent::blend::{Shares, blend};
use crate::model::weights::{Header, to_bytes};

/// Flags of `blend`.
#[derive(Debug, clap::Args)]
pub(super) struct BlendArgs {
    #[command(flatten)]
    pictures: PictureArgs,
    /// A second generator.safetensors of the same shape, best one trained on from the first.
    #[arg(long, value_name = "FILE")]
    with: PathBuf,
    /// The first resolution that is of the second model.
    #[arg(long, value_name = "RES", default_value_t = 16)]
    from: usize,
    /// Over so many further resolutions its share rises to the whole; 0: at once.
    #[arg(long, value_name = "N", default_value_t = 0)]
    ramp: usize,
    /// What the whole is, from 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    amount: f64,
    /// Whose mapping network it has.
    #[arg(long, value_enum, default_value = "first")]
    mapping: MappingFlag,
    /// Seeds of the pictures of preview.png.
    #[arg(long, default_value = "0-5")]
    seeds: String,
    /// Folder that receives generator.safetensors and preview.png (rows: the first model, the blend,
    /// the second); made where missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MappingFlag {
    First,
    Second,
}

pub(super) fn run(args: &BlendArgs, stop: &AtomicBool) -> Result<()> {
    let (seeds, shares) = (parse_seeds(&args.seeds)?, shares(args)?);
    if 3 * seeds.len() > MAX_GRID {
        return Err(UsageError(format!("--seeds: expected at most {}", MAX_GRID / 3)).into());
    }
    let studio = args.pictures.open()?;
    let (first, second) = (read(args.pictures.weights_path())?, read(&args.with)?);
    let refused = |error| UsageError(format!("{}: {error}", args.with.display()));
    let other = Model::from_bytes(&second, &studio.maker.model.device).map_err(refused)?;
    let (header, store) = blend(&first, &second, &shares).map_err(refused)?;
    let parts = json!({"first": studio.maker.model.hash, "second": other.hash, "shares": shares});
    let training = json!({"blend": parts, "options": header.training.get("options")});
    let header = Header { training, statistics: json!([]), ..header };
    let bytes = to_bytes(&header, &store)?;
    make_folder(&args.out)?;
    let (weights, preview) = (args.out.join("generator.safetensors"), args.out.join("preview.png"));
    write_file(&weights, &bytes)?;
    let blended = Model::from_bytes(&bytes, &studio.maker.model.device)?;
    let recipes: Vec<_> = seeds.iter().map(|seed| studio.recipe_of_seed(*seed)).collect();
    let shape = (seeds.len(), 3 * seeds.len());
    let provenance = studio.provenance_of(&blended, Layout::Columns(seeds.len()), Vec::new());
    let mut sheet = Sheet::begin(&preview, studio.size(), shape, provenance.as_ref())?;
    let bar = bar(shape.1);
    for model in [&studio.maker.model, &blended, &other] {
        for recipe in &recipes {
            if stop.load(Ordering::Relaxed) {
                info!("stopped before the preview was done; written: {}", weights.display());
                return Ok(());
            }
            sheet.push(&Canvas::from(&model.picture(recipe)?))?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    sheet.finish()?;
    for res in header.model.block_resolutions() {
        info!("{res} px: {:.0} % of the second", 100.0 * shares.at(res));
    }
    info!("written: {}", listed(&[weights, preview]));
    Ok(())
}

fn shares(args: &BlendArgs) -> Result<Shares, UsageError> {
    if !(0.0..=1.0).contains(&args.amount) {
        return Err(UsageError(format!("--amount: expected 0 to 1, came {}", args.amount)));
    }
    if !(args.from.is_power_of_two() && (4..=1024).contains(&args.from)) {
        let message = format!("--from: expected 4, 8, 16, .. 1024, came {}", args.from);
        return Err(UsageError(message));
    }
    let mapping = match args.mapping {
        MappingFlag::First => 0.0,
        MappingFlag::Second => 1.0,
    };
    Ok(Shares { from: args.from, ramp: args.ramp, amount: args.amount, mapping })
}
