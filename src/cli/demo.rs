//! `demo`: the whole way on pictures that the program draws itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Result;
use tracing::info;

use super::demo_set::draw;
use super::device_choice;
use super::train::follow;
use crate::data::{Dataset, KeepNames};
use crate::job::gate::Level;
use crate::job::outputs::Outputs;
use crate::job::params::Params;
use crate::job::prepare::{Start, announce, prepare};
use crate::job::statistics::Audience;
use crate::job::table::Aug;
use crate::ops::device::DeviceChoice;
use crate::train::presets::Cfg;

/// Pictures in the set.
const NUM_IMAGES: usize = 2000;
/// Their width and height.
const RES: usize = 16;
/// Time for all of it.
const MINUTES: f64 = 3.5;
/// Small batches and a strong penalty learn shapes in few pictures; long runs do better without.
const BATCH: usize = 8;
/// Weight of the R1 penalty.
const GAMMA: f64 = 10.0;

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Folder that receives weights and samples; made where missing.
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    out: PathBuf,
    /// Where to train: auto, cuda or cpu.
    #[arg(long, default_value = "auto", value_parser = device_choice)]
    device: DeviceChoice,
}

pub(super) fn run(args: &DemoArgs, stop: Arc<AtomicBool>, started: Instant) -> Result<()> {
    let params = Params {
        cfg: Some(Cfg::Tiny),
        resolution: Some(RES),
        aug: Aug::NoAug,
        kimg: 30.0,
        batch: Some(BATCH),
        gamma: Some(GAMMA),
        device: args.device,
        max_minutes: Some(MINUTES),
        snap_minutes: 0.5,
        ..Params::default()
    };
    let device = announce(&params)?;
    info!(
        "drawing {NUM_IMAGES} pictures of {RES}x{RES}, then training for at most {MINUTES} minutes"
    );
    let dataset = Dataset::from_raw(RES, draw(NUM_IMAGES, RES, 0), 0, Vec::new())?;
    let outputs = Outputs::open_folder(&args.out)?;
    let (class_names, gate, audience) = (KeepNames::No, Level::Report, Audience::Home);
    let start = Start { params, device, stop, started, source: None, class_names, gate, audience };
    if follow(prepare(dataset, outputs, start)?)? == 0 {
        return Ok(()); // stopped before there was anything to look at
    }
    let out = args.out.display();
    info!("look at {out}/samples.png: hearts, suns, trees and houses that are not in the set;");
    info!("the numbered grids show how the same latents looked earlier");
    info!(
        "next: stylegan2-c2d generate --weights {out}/generator.safetensors --seeds 0-15 --grid --out pictures"
    );
    info!("then: stylegan2-c2d train --data YOUR_PICTURES --out RESULT");
    Ok(())
}
