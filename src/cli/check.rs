//! `check`: what a training would read, for the owner of the pictures; writes nothing.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use tracing::{info, warn};

use super::train::must_exist;
use crate::data::{Dataset, Scan, limits, load, scan};
use crate::job::consent::policies;
use crate::job::flags::ParamFlags;
use crate::job::gate::Level;
use crate::job::memory::training_bytes;
use crate::job::policy::{Limits, Policy, PolicyError};
use crate::job::prepare::asset_at;
use crate::job::resolve::Facts;
use crate::ops::device::{DeviceKind, expected_kind};

/// Flags of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Folder, archive or picture to look at.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    #[command(flatten)]
    params: ParamFlags,
}

pub(super) fn run(args: &CheckArgs, stop: &AtomicBool) -> Result<()> {
    let params = args.params.params()?;
    must_exist(&args.data)?;
    let limit = limits::memory_limit();
    let device = expected_kind(params.device);
    let options = params.load_options(device, limit);
    let assets = [asset_at(&args.data)];
    let scanned = scan(&assets, &options, stop)?;
    // Headers can lie: only decoding tells which pictures are broken.
    let dataset = load(&assets, &options, &scanned, stop)?;
    for line in dataset.report().to_string().lines() {
        info!("{line}");
    }
    info!("median short side: {}", dataset.report().median_short_side);
    say_limits(&scanned, &dataset)?;
    let config = params.resolve(&Facts::of(&dataset, device))?;
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let available = limit.map_or("unknown".to_owned(), |bytes| format!("{:.1} GB", gb(bytes)));
    let training_bytes = training_bytes(&config, device);
    let (training, bytes) = match device {
        DeviceKind::Cpu => ("training on a CPU", training_bytes + dataset.num_bytes()),
        DeviceKind::Cuda => ("training on a GPU, of its own memory,", training_bytes),
    };
    info!(
        "memory: the set {:.3} GB, {training} about {:.1} GB; available here {available}",
        gb(dataset.num_bytes()),
        gb(bytes),
    );
    Ok(())
}

/// What a job would be held to if this were its data set: by the c2d-policy.json in it, or by what
/// holds without one.
fn say_limits(scanned: &Scan, dataset: &Dataset) -> Result<(), PolicyError> {
    let policies = policies(scanned, Policy::LOOSEST)?;
    let assets: Vec<_> = dataset.report().assets.iter().zip(policies).collect();
    let limits = Limits::of(&assets);
    let policy = limits.map_or_else(|_| assets[0].1, |limits| limits.policy);
    let allowed = |allowed: bool| if allowed { "allowed" } else { "not allowed" };
    let kimg = limits.ok().and_then(|limits| limits.max_kimg);
    info!("in a job: at least {} pictures, and of each class", policy.min_images);
    info!(
        "in a job: at most {} kimg",
        kimg.map_or("any number of".to_owned(), |kimg| kimg.to_string())
    );
    info!(
        "in a job: class names {}, sealed state {}, other assets beside this one {}, weights {}",
        allowed(policy.class_names),
        allowed(policy.sealed_state),
        allowed(policy.mixing),
        allowed(!policy.samples_only),
    );
    info!("in a job: {}", what_the_gate_does(policy.gate));
    if let Err(refusal) = limits {
        warn!("a job would be refused: {refusal}");
    }
    Ok(())
}

fn what_the_gate_does(gate: Level) -> &'static str {
    match gate {
        Level::Report => "near-copies among samples are counted, and hold nothing back",
        Level::Withhold => "weights whose samples are near-copies of pictures are held back",
        Level::Strict => {
            "weights are held back unless their samples are seen to be no near-copies of pictures"
        }
    }
}
