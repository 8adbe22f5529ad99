//! `verify`: whether a picture is exactly what a model makes.
//!
//! A picture that says where it comes from is made again by its own recipe; one that does not, by
//! the seed that is given. Processors of other kinds round otherwise, by one of 255 or two.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

use super::UsageError;
use super::pictures::PictureArgs;
use crate::home::verify::{Verdict, verify};

/// Flags of `verify`.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// PNG files of this program.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    pictures: PictureArgs,
    /// The seed, for pictures that do not say it; --trunc, --class and --noise-mode then count too.
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Files of latents that pictures are of; may be said again.
    #[arg(long, value_name = "FILE")]
    w: Vec<PathBuf>,
    /// Differences of values, of 255, that still count as exact.
    #[arg(long, value_name = "N", default_value_t = 0)]
    tolerance: u8,
}

pub(super) fn run(args: &VerifyArgs, stop: &AtomicBool) -> Result<()> {
    let mut studio = args.pictures.open_for_any_class(args.seed.is_none())?;
    for path in &args.w {
        studio.source_of(path)?;
    }
    let recipe = args.seed.map(|seed| studio.recipe_of_seed(seed));
    let mut out = std::io::stdout().lock();
    let mut num_wrong = 0;
    for path in &args.files {
        if stop.load(Ordering::Relaxed) {
            bail!("stopped before all pictures were looked at");
        }
        let model = &studio.maker.model;
        let verdict = verify(path, model, recipe.as_ref())
            .map_err(|error| UsageError(format!("{}: {error:#}", path.display())))?;
        let is_right = match verdict {
            Verdict::Exact => true,
            Verdict::OffBy(off) => off <= args.tolerance,
            Verdict::OtherModel(_) | Verdict::OtherShape | Verdict::NoRecipe => false,
        };
        num_wrong += usize::from(!is_right);
        writeln!(out, "{}: {}", path.display(), said(&verdict, &model.hash)).context("stdout")?;
    }
    if num_wrong > 0 {
        bail!("{num_wrong} of {} are not what these weights make", args.files.len());
    }
    Ok(())
}

/// A verdict in words.
fn said(verdict: &Verdict, model: &str) -> String {
    match verdict {
        Verdict::Exact => "exact".to_owned(),
        Verdict::OffBy(off) => format!("differs by at most {off} of 255"),
        Verdict::OtherModel(other) => {
            let begin = |hash: &str| hash.chars().take(12).collect::<String>();
            format!(
                "not this model: it says {}.., these weights are {}..",
                begin(other),
                begin(model)
            )
        }
        Verdict::OtherShape => "not this model: another size, other colors or number".to_owned(),
        Verdict::NoRecipe => "says of no seed what it is made of; give --seed".to_owned(),
    }
}
