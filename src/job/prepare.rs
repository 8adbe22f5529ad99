//! From parameters and assets to a run that is ready to start.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::Device;
use serde_json::json;
use tracing::{info, warn};

use super::begin::Begin;
use super::gate::Level;
use super::keeper::Keeper;
use super::memory::{Room, fit_batch_gpu, training_bytes};
use super::outputs::Outputs;
use super::params::Params;
use super::problem::{ParamsError, Problem};
use super::resolve::{Facts, Origin};
use super::resume::Source;
use super::run::{Run, Setup};
use super::statistics::Audience;
use crate::data::{Asset, Dataset, KeepNames, LoadOptions, Mirror, limits, load, scan};
use crate::model::Precision;
use crate::ops::collective::{Member, connect};
use crate::ops::conv2d::set_conv;
use crate::ops::cuda::{Math, set_math};
use crate::ops::device::{self, DeviceError, DeviceKind, Opened};
use crate::ops::selftest::Verdict;
use crate::train::config::TrainConfig;
use crate::train::ranks::deal_out;

/// What every run starts with, at home and in the job.
pub struct Start {
    /// What was asked for.
    pub params: Params,
    /// What it runs on.
    pub device: Opened,
    /// Set by a signal.
    pub stop: Arc<AtomicBool>,
    /// When the program started.
    pub started: Instant,
    /// What it starts from, where that is not fresh.
    pub source: Option<Source>,
    /// Whether names of classes may be in the header of the weights.
    pub class_names: KeepNames,
    /// What is done about near-copies of the pictures.
    pub gate: Level,
    /// Who sees log and files.
    pub audience: Audience,
}

/// Opens the device, and says what this machine offers and what follows from it for the parameters.
///
/// Comes before anything that takes long: a GPU that is paid for and does not work ends a job at
/// once.
///
/// # Errors
/// Fails if a GPU was asked for that is not there, or if there is one that cannot be used.
pub fn announce(params: &Params) -> Result<Opened, DeviceError> {
    let opened = device::open(params.device)?;
    let memory = limits::memory_limit()
        .map_or("unknown".to_owned(), |bytes| format!("{:.1} GB", bytes as f64 / 1e9));
    info!(
        "stylegan2-c2d {} | {}, {} threads, memory {memory}",
        env!("CARGO_PKG_VERSION"),
        opened.description,
        rayon::current_num_threads(),
    );
    for notice in params.notices(opened.kind) {
        info!("{notice}");
    }
    if opened.kind == DeviceKind::Cuda {
        try_out(&opened, params.precision_on(opened.kind))?;
    }
    Ok(opened)
}

/// Compares the GPU with the processor, op by op, and says what came of it.
fn try_out(opened: &Opened, precision: Precision) -> Result<(), DeviceError> {
    let start = Instant::now();
    let Verdict { num_ops, distrusted } = device::examine(&opened.device, precision.into())?;
    let seconds = start.elapsed().as_secs_f64();
    if distrusted.is_empty() {
        info!("self-test: {num_ops} ops agree with the processor, {seconds:.1} s");
    } else {
        warn!("self-test: {distrusted:?} differ from the processor; a slower way is taken");
    }
    Ok(())
}

/// Reads the pictures of `assets`.
///
/// # Errors
/// Fails if there are none, they do not fit into memory, or labels are not as asked for.
pub fn read(assets: &[Asset], start: &Start) -> Result<Dataset> {
    let options = start.params.load_options(start.device.kind, limits::memory_limit());
    let options = LoadOptions { class_names: start.class_names, ..options };
    let scanned = scan(assets, &options, &start.stop)?;
    let dataset = load(assets, &options, &scanned, &start.stop)?;
    for line in dataset.report().to_string().lines() {
        info!("{line}");
    }
    Ok(dataset)
}

/// Decides what is left to decide, and makes the networks.
///
/// # Errors
/// Fails if the parameters contradict each other, or what the run begins with.
pub fn prepare(dataset: Dataset, outputs: Outputs, start: Start) -> Result<Run> {
    let Start { params, device: opened, stop, started, source, gate, audience, .. } = start;
    let kind = opened.kind;
    let (precision, deterministic) = (params.precision_on(kind), params.deterministic);
    set_math(Math { tf32: precision == Precision::Tf32, deterministic });
    set_conv(params.conv);
    let (begin, set) = Begin::of(source, &dataset, &params)?;
    let origin = begin.origin();
    let devices = [vec![opened.device.clone()], device::others(&opened)].concat();
    let facts = Facts { num_gpus: devices.len(), origin, ..Facts::of(&dataset, kind) };
    let mut config = begin.config(params.resolve(&facts)?, &params)?;
    let least = audience.min_nimg_from_given() as f64 / 1000.0;
    if origin == Origin::Weights && config.total_kimg < least {
        let problem = Problem::ShortFromGiven { least, kimg: config.total_kimg };
        return Err(ParamsError::Refused(vec![problem]).into());
    }
    let room = match kind {
        DeviceKind::Cpu => Room::in_ram(limits::memory_limit(), dataset.num_bytes()),
        DeviceKind::Cuda => Room::on_gpu(device::free_device_bytes(kind)),
    };
    let is_given = params.batch_gpu.is_some() || origin == Origin::State;
    if !is_given && fit_batch_gpu(&mut config, room) {
        info!("batch_gpu is {}: less memory, the same batch in more rounds", config.batch_gpu);
    }
    let members = members(&mut config, &devices, is_given)?;
    // Told to the byte, the memory of a set tells how many pictures it has.
    let told_bytes = match audience {
        Audience::Home => dataset.num_bytes(),
        Audience::Public => dataset.least_bytes(),
    };
    announce_training(&config, kind, told_bytes);
    refuse_too_large(&config, room, told_bytes)?;
    let setup = Setup {
        options: json!(params),
        mirror: Mirror { x: params.mirror, y: params.mirror_y },
        outputs,
        keeper: set.and_then(|set| Keeper::new(set, params.state)),
        gate,
        audience,
        stop,
        snap_interval: Duration::from_secs_f64(params.snap_minutes * 60.0),
        started,
        max_duration: params.max_minutes.map(|m| Duration::from_secs_f64(m * 60.0)),
    };
    let mut run = Run::new(dataset, &config, setup, members)?;
    begin.enter(&mut run)?;
    Ok(run)
}

/// Connects the devices that can share the work; the first alone, where they cannot be connected.
/// Fits `batch_gpu` to their number unless it `is_given`.
fn members(config: &mut TrainConfig, devices: &[Device], is_given: bool) -> Result<Vec<Member>> {
    let mut shared = config.clone();
    let num_ranks = deal_out(&mut shared, devices.len(), is_given);
    match connect(&devices[..num_ranks]) {
        Err(error) if num_ranks > 1 => {
            info!("1 of {} GPUs is used, they cannot be connected: {error}", devices.len());
            Ok(connect(&devices[..1])?)
        }
        connected => {
            if devices.len() > 1 {
                info!("{num_ranks} of {} GPUs share each batch", devices.len());
            }
            *config = shared;
            Ok(connected?)
        }
    }
}

/// Memory that is not there ends a run somewhere on its way, by a kill without a word. A GPU's is
/// estimated from above, and a step that lacks it can go on in smaller rounds.
fn refuse_too_large(config: &TrainConfig, room: Room, told_bytes: u64) -> Result<(), ParamsError> {
    if !room.is_too_small_for(config) {
        return Ok(());
    }
    if room.device == DeviceKind::Cuda {
        warn!("that may be more memory than the GPU has; cfg tiny or a lower batch_gpu need less");
        return Ok(());
    }
    let needed = training_bytes(config, room.device) + told_bytes;
    Err(ParamsError::Memory { needed, limit: room.limit.unwrap_or_default() })
}

fn announce_training(config: &TrainConfig, device: DeviceKind, dataset_bytes: u64) {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let training_bytes = training_bytes(config, device);
    let memory = match device {
        DeviceKind::Cpu => format!("memory about {:.1} GB", gb(training_bytes + dataset_bytes)),
        DeviceKind::Cuda => format!("GPU memory about {:.1} GB", gb(training_bytes)),
    };
    let res = config.g.img_resolution;
    info!(
        "training {res}x{res} for {} kimg: batch {}, batch_gpu {}, gamma {:.4}, seed {}, {memory}",
        config.total_kimg, config.batch, config.batch_gpu, config.r1_gamma, config.seed,
    );
}

/// One asset from a path at home: a folder, an archive or a picture.
pub fn asset_at(path: &Path) -> Asset {
    Asset { roots: vec![path.to_owned()] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::presets::{Cfg, Overrides, train_config};

    #[test]
    fn devices_share_a_batch_unless_batch_gpu_is_all_of_it() {
        for (is_given, num_ranks, batch_gpu) in [(false, 2, 8), (true, 1, 16)] {
            let mut config = train_config(Cfg::Tiny, 8, 0, &Overrides::default());
            let members = members(&mut config, &[Device::Cpu, Device::Cpu], is_given).unwrap();
            assert_eq!((members.len(), config.batch_gpu), (num_ranks, batch_gpu));
        }
    }
}
