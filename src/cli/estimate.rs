//! `estimate`: how fast this machine trains, measured on made-up images or on pictures at hand.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tracing::info;

use super::train::must_exist;
use super::{UsageError, count, profile};
use crate::data::KeepNames;
use crate::job::flags::ParamFlags;
use crate::job::gate::Level;
use crate::job::memory::peak_and_current_bytes;
use crate::job::outputs::Outputs;
use crate::job::params::Params;
use crate::job::prepare::{Start, announce, asset_at, prepare, read};
use crate::job::problem::ParamsError;
use crate::job::resolve::{Facts, Origin};
use crate::job::run::trial::{Trial, plan};
use crate::job::state::disk_bytes;
use crate::job::statistics::Audience;
use crate::job::table::Aug;
use crate::model::Precision;
use crate::ops::cancel::{self, Cancel};
use crate::ops::conv2d::set_conv;
use crate::ops::cuda::{Math, set_math};
use crate::ops::device::{DeviceKind, open, peak_device_bytes};
use crate::ops::rng::{Rng, Stream};
use crate::train::config::{Strength, TrainConfig};
use crate::train::draws::Round;
use crate::train::phases::{Draw, Reals};
use crate::train::trainer::{D_REG_INTERVAL, G_REG_INTERVAL, Trainer};

/// Side of the matrix product that states the machine's speed.
const GEMM: usize = 1024;

/// The strength at which a long training with aug ada is measured.
const USUAL_P: f64 = 0.3;
/// Width and height of made-up images.
const USUAL_RESOLUTION: usize = 64;

/// Flags of `estimate`.
#[derive(Debug, clap::Args)]
pub(super) struct EstimateArgs {
    /// Tries a training on these pictures instead of made-up ones: its first steps, with all that
    /// comes besides; writes nothing.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["cycles", "count", "profile"])]
    data: Option<PathBuf>,
    /// Measures so many whole cycles of 16 steps instead of each phase once.
    #[arg(long, value_name = "K")]
    cycles: Option<u64>,
    /// Measures nothing: counts what a step asks of a GPU, and says how long that would take one
    /// (at 256 px in two minutes and 10 GB).
    #[arg(long, conflicts_with = "cycles")]
    count: bool,
    /// Measures each op of the four phases, and how far it is from what the machine could do.
    #[arg(long, conflicts_with_all = ["cycles", "count"])]
    profile: bool,
    /// Prints one JSON object on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    params: ParamFlags,
}

/// What a training on made-up images is made of.
fn config(params: &Params, device: DeviceKind) -> Result<TrainConfig, ParamsError> {
    let facts = Facts {
        device,
        num_gpus: 1,
        origin: Origin::Fresh,
        data_resolution: params.resolution.unwrap_or(USUAL_RESOLUTION),
        label_dim: 0,
    };
    params.resolve(&facts)
}

/// `params` with the strength of augmentation that aug ada has on average: it begins with none, and
/// rises by 1 in `ada_kimg` at most.
fn at_usual_strength(params: Params) -> Params {
    let Strength::Adaptive { kimg, .. } = params.strength(false) else { return params };
    let p = USUAL_P.min(params.kimg / (2.0 * kimg));
    Params { aug: Aug::Fixed, p: Some(p), target: None, ada_kimg: None, ..params }
}

/// Wall and CPU seconds of some images.
#[derive(Clone, Copy)]
struct Measured {
    images: f64,
    wall: f64,
    cpu: f64,
    /// Gmain, Greg, Dmain, Dreg, and what else a step does: mean wall seconds of one.
    phases: [f64; 5],
}

pub(super) fn run(args: &EstimateArgs, stop: Arc<AtomicBool>, started: Instant) -> Result<()> {
    let params = at_usual_strength(args.params.params()?);
    if let Some(path) = &args.data {
        return try_out(path, &params, args.json, (stop, started));
    }
    let cancel = Cancel { flag: Some(stop), deadline: None };
    match cancel::scope(cancel.clone(), || measure(args, &params)) {
        Err(_) if cancel.is_due() => {
            info!("stopped before the measurement was done");
            Ok(())
        }
        other => other,
    }
}

/// The first steps of a training on the pictures at `path`.
fn try_out(
    path: &Path,
    params: &Params,
    json: bool,
    (stop, started): (Arc<AtomicBool>, Instant),
) -> Result<()> {
    must_exist(path)?;
    let limit = params.max_minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let params = Params { max_minutes: None, ..params.clone() };
    let device = announce(&params)?;
    let total_kimg = params.kimg;
    let folder = tempfile::tempdir().context("a temporary folder")?;
    let outputs = Outputs::open_folder(folder.path())?;
    let (class_names, gate, audience) = (KeepNames::No, Level::Report, Audience::Home);
    let start = Start { params, device, stop, started, source: None, class_names, gate, audience };
    let dataset = read(&[asset_at(path)], &start)?;
    let Some(trial) = prepare(dataset, outputs, start)?.trial()? else {
        info!("stopped before the measurement was done");
        return Ok(());
    };
    let Trial { sec_per_kimg, peak_bytes, peak_gpu_bytes } = trial;
    let mut out = std::io::stdout().lock();
    if json {
        let value = json!({
            "sec_per_kimg": sec_per_kimg,
            "peak_rss_bytes": peak_bytes,
            "peak_gpu_bytes": peak_gpu_bytes,
        });
        return writeln!(out, "{value}").context("stdout");
    }
    let plan = plan(sec_per_kimg, (0.0, total_kimg), limit);
    let bytes = peak_gpu_bytes.unwrap_or(peak_bytes);
    writeln!(out, "{plan}; {:.2} GB", bytes as f64 / 1e9).context("stdout")
}

fn measure(args: &EstimateArgs, params: &Params) -> Result<()> {
    if args.count {
        return count::run(&config(params, DeviceKind::Cuda)?, args.json);
    }
    let opened = open(params.device)?;
    let (device, kind) = (&opened.device, opened.kind);
    if args.profile && kind == DeviceKind::Cuda {
        let text = "--profile: expected the processor (--device cpu); a GPU works on unseen";
        return Err(UsageError(text.to_owned()).into());
    }
    let config = config(params, kind)?;
    info!("{}", opened.description);
    set_math(Math { tf32: config.precision == Precision::Tf32, ..Math::default() });
    set_conv(params.conv);
    let gemm_gflops = gemm_gflops(device)?;
    info!("matrix product: {gemm_gflops:.0} GFLOP/s; measuring the phases");
    let (batch, res) = (config.batch, config.g.img_resolution);
    let mut trainer = Trainer::new(config, device)?;
    let rng = Rng::new(0, Stream::Pictures, 0);
    let images =
        Tensor::from_vec(rng.normals(batch * 3 * res * res), (batch, 3, res, res), device)?;
    let images = (images.to_dtype(DType::F32)? * 0.5)?;
    trainer.remember()?; // as every run does
    warm_up(&trainer, &images)?;
    if args.profile {
        return profile::run(&mut trainer, &images, gemm_gflops, args.json);
    }
    let measured = match args.cycles {
        Some(cycles) => whole_cycles(&mut trainer, &images, cycles.max(1))?,
        None => one_of_each(&mut trainer, &images)?,
    };
    report(args, &measured, (device, gemm_gflops), disk_bytes(&trainer))
}

fn report(
    args: &EstimateArgs,
    measured: &Measured,
    (device, gemm_gflops): (&Device, f64),
    [state_bytes, state_peak_bytes]: [u64; 2],
) -> Result<()> {
    let (peak, _) = peak_and_current_bytes();
    let img_per_s = measured.images / measured.wall;
    let [g_main, g_reg, d_main, d_reg, ema] = measured.phases;
    let mut out = std::io::stdout().lock();
    if args.json {
        let value = json!({
            "img_per_s": img_per_s,
            "img_per_cpu_s": measured.images / measured.cpu,
            "sec_per_kimg": 1000.0 / img_per_s,
            "peak_rss_bytes": peak,
            "peak_gpu_bytes": peak_device_bytes(device),
            "phases": {"Gmain": g_main, "Greg": g_reg, "Dmain": d_main, "Dreg": d_reg, "ema": ema},
            "gemm_gflops": gemm_gflops,
            "state_bytes": state_bytes,
            "state_peak_bytes": state_peak_bytes,
            "device": if device.is_cpu() { "cpu" } else { "cuda" },
        });
        writeln!(out, "{value}").context("stdout")?;
        return Ok(());
    }
    writeln!(
        out,
        "{img_per_s:.2} img/s, {:.1} s per kimg, {:.2} GB",
        1000.0 / img_per_s,
        peak_device_bytes(device).unwrap_or(peak) as f64 / 1e9
    )?;
    writeln!(
        out,
        "Gmain {g_main:.3} s, Greg {g_reg:.3} s, Dmain {d_main:.3} s, Dreg {d_reg:.3} s"
    )?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    writeln!(
        out,
        "state.safetensors {:.1} MB, {:.1} MB of disk while it is replaced",
        mb(state_bytes),
        mb(state_peak_bytes)
    )?;
    for hours in [1.0, 8.0, 24.0] {
        writeln!(out, "{hours} h: {:.1} kimg", hours * 3.6 * img_per_s)?;
    }
    Ok(())
}

/// A step's random inputs.
pub(super) fn rounds(trainer: &Trainer, images: &Tensor) -> Result<Vec<Round>> {
    Ok(trainer.draw(&Reals::new(images.clone(), None), None)?)
}

/// Each phase on one minibatch-std group: pages and threads are there when it counts.
fn warm_up(trainer: &Trainer, images: &Tensor) -> Result<()> {
    let round = &rounds(trainer, images)?[0];
    let group = trainer.config().d.mbstd_group_size.unwrap_or(1).min(trainer.config().batch_gpu);
    let small = |draw: &Draw| -> Result<Draw> {
        let n = group.min(draw.z.dim(0)?);
        let mix = match &draw.mix {
            Some((cutoff, z)) => Some((*cutoff, z.narrow(0, 0, n)?)),
            None => None,
        };
        Ok(Draw { z: draw.z.narrow(0, 0, n)?, mix, augment: None, ..draw.clone() })
    };
    let networks = trainer.networks();
    let reals = Reals { img: round.reals.img.map(|img| img.narrow(0, 0, group))?, c: None };
    networks.g_main(&small(&round.g_main)?)?;
    if let Some((draw, pl_noise)) = &round.g_reg {
        let draw = small(draw)?;
        let lengths = networks.path_lengths(&draw, &pl_noise.narrow(0, 0, draw.z.dim(0)?)?)?;
        let pl_mean = Tensor::zeros(1, DType::F64, trainer.device())?;
        networks.g_reg(lengths, &pl_mean, (2.0, 4.0))?;
    }
    networks.d_main(&small(&round.d_main)?, &reals, None)?;
    networks.d_reg(&reals, None, (1.0, 16.0))?;
    Ok(())
}

/// The first step runs all four phases; a cycle is put together from their times.
fn one_of_each(trainer: &mut Trainer, images: &Tensor) -> Result<Measured> {
    let rounds = rounds(trainer, images)?;
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut phases = trainer.step(&rounds)?.seconds;
    let ema = Instant::now();
    trainer.g_ema()?;
    phases[4] = ema.elapsed().as_secs_f64();
    let cpu_share = (cpu_seconds() - cpu) / start.elapsed().as_secs_f64();
    let [g_main, g_reg, d_main, d_reg, ema] = phases;
    let (steps, regs) = (D_REG_INTERVAL as f64, (D_REG_INTERVAL / G_REG_INTERVAL) as f64);
    let wall = steps * (g_main + d_main + ema) + regs * g_reg + d_reg;
    let images = steps * trainer.config().batch as f64;
    Ok(Measured { images, wall, cpu: wall * cpu_share, phases })
}

fn whole_cycles(trainer: &mut Trainer, images: &Tensor, cycles: u64) -> Result<Measured> {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let mut sums = [0.0; 5];
    let num_steps = cycles * D_REG_INTERVAL;
    // a GPU's times are its own in the steps that have all four phases
    let every = if trainer.device().is_cpu() { 1 } else { D_REG_INTERVAL };
    for step in 0..num_steps {
        let rounds = rounds(trainer, images)?;
        let seconds = trainer.step(&rounds)?.seconds;
        if step.is_multiple_of(every) {
            sums.iter_mut().zip(seconds).for_each(|(sum, seconds)| *sum += seconds);
        }
    }
    let mut phases = sums;
    for (phase, interval) in phases.iter_mut().zip([1, G_REG_INTERVAL, 1, D_REG_INTERVAL, 1]) {
        *phase /= (num_steps / interval.max(every)) as f64;
    }
    Ok(Measured {
        images: num_steps as f64 * trainer.config().batch as f64,
        wall: start.elapsed().as_secs_f64(),
        cpu: cpu_seconds() - cpu,
        phases,
    })
}

/// Best of five f32 matrix products of 1024 x 1024.
fn gemm_gflops(device: &Device) -> Result<f64> {
    let matrix = |step: u64| -> Result<Tensor> {
        let draws = Rng::new(0, Stream::Pictures, step).normals(GEMM * GEMM);
        Ok(Tensor::from_vec(draws, (GEMM, GEMM), device)?.to_dtype(DType::F32)?)
    };
    let (a, b) = (matrix(1)?, matrix(2)?);
    let seconds = best_seconds(device, || Ok(a.matmul(&b)?))?;
    Ok(2.0 * (GEMM as f64).powi(3) / seconds / 1e9)
}

/// Seconds of `work`, the best of five, after one to warm up.
pub(super) fn best_seconds(device: &Device, work: impl Fn() -> Result<Tensor>) -> Result<f64> {
    work()?;
    device.synchronize()?;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        work()?;
        device.synchronize()?; // a GPU works on while the program goes on
        best = best.min(start.elapsed());
    }
    Ok(best.as_secs_f64())
}

/// CPU seconds of this process, all threads.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
