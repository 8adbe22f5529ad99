//! `interpolate`: a closed loop from seed to seed, as an animation.

use std::f64::consts::TAU;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::ValueEnum;
use tracing::info;

use super::UsageError;
use super::pictures::{PictureArgs, Studio, bar, listed, make_folder};
use super::weights::parse_seeds;
use crate::home::animation::Animation;
use crate::home::provenance::Layout;
use crate::latent::Recipe;
use crate::latent::path::{Curve, Easing, Space, Way, closed_loop};
use crate::latent::recipe::{Latent, NoiseMode};

/// Most frames of a loop.
const MAX_FRAMES: usize = 100_000;

/// Flags of `interpolate`.
#[derive(Debug, clap::Args)]
pub(super) struct InterpolateArgs {
    #[command(flatten)]
    pictures: PictureArgs,
    /// Seeds and ranges of seeds that the loop visits, such as 0-3,85.
    #[arg(long, default_value = "0-3")]
    seeds: String,
    /// Frames from one seed to the next.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,
    /// Frames per second; GIF counts hundredths of a second.
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..=100))]
    fps: u16,
    /// Where the way lies: w has fewer surprises, z passes through more kinds of pictures.
    #[arg(long, value_enum, default_value = "w")]
    space: SpaceFlag,
    /// Its form; absent: linear in w, slerp in z.
    #[arg(long, value_enum)]
    curve: Option<CurveFlag>,
    /// How time passes between two seeds: smooth rests at each.
    #[arg(long, value_enum, default_value = "none")]
    easing: EasingFlag,
    /// Noise moves too, in a loop of so many turns; the only motion with one seed.
    #[arg(
        long,
        value_name = "TURNS",
        num_args = 0..=1,
        default_missing_value = "1",
        conflicts_with = "noise_mode",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    noise_loop: Option<u32>,
    /// Folder that receives loop.png (APNG), loop.gif, and loop.mp4 and loop.webm where an ffmpeg is
    /// on the PATH, or else single frames; made where missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SpaceFlag {
    Z,
    W,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CurveFlag {
    Linear,
    Slerp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EasingFlag {
    None,
    Smooth,
}

pub(super) fn run(args: &InterpolateArgs, stop: &AtomicBool) -> Result<()> {
    let seeds = parse_seeds(&args.seeds)?;
    if seeds.len() < 2 && args.noise_loop.is_none() {
        let message = "--seeds: expected two seeds at least; one alone moves with --noise-loop";
        return Err(UsageError(message.to_owned()).into());
    }
    if seeds.len().saturating_mul(args.frames as usize) > MAX_FRAMES {
        let message = format!("--frames: expected at most {MAX_FRAMES} frames in all");
        return Err(UsageError(message).into());
    }
    let studio = args.pictures.open()?;
    let recipes = recipes(args, &studio, &seeds);
    make_folder(&args.out)?;
    let count = recipes.len();
    let provenance = studio.provenance(Layout::Frames, recipes.iter().cloned().map(Some).collect());
    let into = (args.out.as_path(), "loop");
    let mut animation = Animation::begin(into, studio.size(), (count, args.fps), provenance)?;
    let bar = bar(count);
    for recipe in &recipes {
        if stop.load(Ordering::Relaxed) {
            info!("stopped before the loop was done");
            return Ok(());
        }
        animation.push(&studio.maker.model.picture(recipe)?)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let seconds = count as f64 / f64::from(args.fps);
    info!("{count} frames, {seconds:.1} s, written: {}", listed(&animation.finish()?));
    Ok(())
}

/// A recipe for each frame.
fn recipes(args: &InterpolateArgs, studio: &Studio, seeds: &[u32]) -> Vec<Recipe> {
    let (space, curve) = match (args.space, args.curve) {
        (SpaceFlag::Z, Some(CurveFlag::Linear)) => (Space::Z, Curve::Linear),
        (SpaceFlag::Z, _) => (Space::Z, Curve::Slerp),
        (SpaceFlag::W, Some(CurveFlag::Slerp)) => (Space::W, Curve::Slerp),
        (SpaceFlag::W, _) => (Space::W, Curve::Linear),
    };
    let easing = match args.easing {
        EasingFlag::None => Easing::None,
        EasingFlag::Smooth => Easing::Smooth,
    };
    let times = closed_loop(seeds.len(), args.frames as usize);
    let count = times.len() as f64;
    let recipe = |(frame, (leg, time)): (u32, (usize, f64))| {
        let (from, to) = (seeds[leg], seeds[(leg + 1) % seeds.len()]);
        let way = Way { space, curve };
        let recipe = studio.recipe(Latent::Between { from, to, at: easing.at(time), way }, frame);
        match args.noise_loop {
            None => recipe,
            Some(turns) => {
                let angle = TAU * f64::from(turns) * f64::from(frame) / count;
                Recipe { noise_mode: NoiseMode::Turned { seed: seeds[0], angle }, ..recipe }
            }
        }
    };
    (0..).zip(times).map(recipe).collect()
}
