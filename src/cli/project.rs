//! `project`: the latents that make a picture like a given one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use tracing::info;

use super::UsageError;
use super::pictures::{NoiseFlag, Studio, bar, listed, make_folder};
use super::weights::{WeightsArgs, read};
use crate::home::canvas::Canvas;
use crate::home::png::Sheet;
use crate::home::provenance::Layout;
use crate::job::outputs::write_file;
use crate::latent::Recipe;
use crate::latent::perceptual::Perceptual;
use crate::latent::project::{NoiseInputs, Options, Projection};
use crate::latent::recipe::{Latent, NoiseMode};

/// Pictures of the way, in the strip.
const NUM_PROGRESS: usize = 6;
/// A line at least so often.
const LOG_INTERVAL: Duration = Duration::from_secs(15);

/// Flags of `project`.
#[derive(Debug, clap::Args)]
pub(super) struct ProjectArgs {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Your picture; its middle square is taken.
    #[arg(long, value_name = "FILE")]
    target: PathBuf,
    /// Steps; more come nearer.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    steps: u32,
    /// Looks for one w for each layer (w+): nearer to any picture, less of a picture of the model.
    #[arg(long)]
    w_plus: bool,
    /// Pictures that the start is the best of; 0: the average picture.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    candidates: u32,
    /// LPIPS weights (VGG16, safetensors) that judge too: nearer to what people see, and slower.
    #[arg(long, value_name = "FILE")]
    lpips: Option<PathBuf>,
    /// Noise inputs: learn looks for them as well, const are those of the weights.
    #[arg(long, value_enum, default_value = "learn")]
    noise_mode: ProjectNoise,
    /// Seeds the start.
    #[arg(long, value_name = "N", default_value_t = 303)]
    seeds: u64,
    /// Writes into pictures nothing of where they come from.
    #[arg(long)]
    no_provenance: bool,
    /// Folder that receives w.safetensors, result.png and strip.png (target, result, the way there).
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProjectNoise {
    Learn,
    Const,
    None,
}

pub(super) fn run(args: &ProjectArgs, stop: &AtomicBool) -> Result<()> {
    let maker = args.weights.open()?;
    if maker.truncation.psi != 1.0 {
        let message = "--trunc: a projection has none; give it to generate --w";
        return Err(UsageError(message.to_owned()).into());
    }
    let noise =
        if args.noise_mode == ProjectNoise::None { NoiseFlag::None } else { NoiseFlag::Const };
    let mut studio = Studio::new(maker, noise, !args.no_provenance);
    let (res, _, channels) = studio.size();
    let target = Canvas::read(&args.target, res, channels)
        .map_err(|error| UsageError(format!("{error:#}")))?;
    let perceptual = args.lpips.as_deref().map(|path| -> Result<Perceptual> {
        let refused = |error| UsageError(format!("{}: {error}", path.display()));
        let device = &studio.maker.model.device;
        Ok(Perceptual::from_bytes(&read(path)?, device).map_err(refused)?)
    });
    let perceptual = perceptual.transpose()?;
    make_folder(&args.out)?;
    let (bytes, way) = {
        let model = &studio.maker.model;
        let options = options(args, studio.maker.class);
        let wanted = target.to_tensor(&model.device)?;
        let projection = Projection::new(model, &wanted, perceptual.as_ref(), options)?;
        let (projection, way) = follow(projection, args.steps, &target, stop)?;
        (projection.latents()?.to_bytes(&model.hash)?, way)
    };
    let w = args.out.join("w.safetensors");
    write_file(&w, &bytes)?;
    let source = studio.source_of(&w)?;
    let noise_mode =
        if args.noise_mode == ProjectNoise::None { NoiseMode::None } else { NoiseMode::Const };
    let recipe = Recipe { latent: Latent::Of(source), trunc: 1.0, class: None, noise_mode };
    let (result, strip) = (args.out.join("result.png"), args.out.join("strip.png"));
    let canvas = Canvas::from(&studio.write(&result, &recipe)?);
    let mut sheet = Sheet::begin(
        &strip,
        studio.size(),
        (2 + way.len(), 2 + way.len()),
        studio.provenance(Layout::Columns(2 + way.len()), Vec::new()).as_ref(),
    )?;
    for picture in [&target, &canvas].into_iter().chain(&way) {
        sheet.push(picture)?;
    }
    sheet.finish()?;
    info!("PSNR {:.1} dB", target.psnr(&canvas));
    info!("written: {}", listed(&[w, result, strip]));
    Ok(())
}

fn options(args: &ProjectArgs, class: Option<usize>) -> Options {
    Options {
        num_steps: args.steps as usize,
        num_candidates: args.candidates as usize,
        each_layer: args.w_plus,
        noise: match args.noise_mode {
            ProjectNoise::Learn => NoiseInputs::Learned,
            ProjectNoise::Const => NoiseInputs::Const,
            ProjectNoise::None => NoiseInputs::None,
        },
        class,
        seed: args.seeds,
    }
}

/// Goes all the way, or until it is stopped; returns some pictures of it.
fn follow<'a>(
    mut projection: Projection<'a>,
    num_steps: u32,
    target: &Canvas,
    stop: &AtomicBool,
) -> Result<(Projection<'a>, Vec<Canvas>)> {
    let bar = bar(num_steps as usize);
    let interval = (num_steps as usize).div_ceil(NUM_PROGRESS);
    let (mut way, mut last_line) = (Vec::new(), Instant::now());
    let mut step = 0;
    while !projection.is_done() && !stop.load(Ordering::Relaxed) {
        if step % interval == 0 {
            way.push(Canvas::from(&projection.picture()?));
        }
        let unlike = projection.step()?;
        step += 1;
        bar.inc(1);
        if last_line.elapsed() >= LOG_INTERVAL {
            last_line = Instant::now();
            let psnr = target.psnr(&Canvas::from(&projection.picture()?));
            info!("step {step} of {num_steps} | unlike {unlike:.4} | PSNR {psnr:.1} dB");
        }
    }
    bar.finish_and_clear();
    Ok((projection, way))
}
