//! `estimate`: how fast this machine trains, measured on made-up images.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tracing::info;

use super::{UsageError, choice, count, device_choice, profile};
use crate::job::memory::peak_and_current_bytes;
use crate::job::params::Params;
use crate::job::state::disk_bytes;
use crate::job::table::Aug;
use crate::model::Precision;
use crate::ops::cancel::{self, Cancel};
use crate::ops::conv2d::{Conv, set_conv};
use crate::ops::cuda::{Math, set_math};
use crate::ops::device::{DeviceChoice, DeviceKind, open, peak_device_bytes};
use crate::ops::rng::{Rng, Stream};
use crate::train::config::TrainConfig;
use crate::train::draws::Round;
use crate::train::phases::{Draw, Reals};
use crate::train::presets::{Cfg, Overrides, train_config};
use crate::train::trainer::{D_REG_INTERVAL, G_REG_INTERVAL, Trainer};

/// Side of the matrix product that states the machine's speed.
const GEMM: usize = 1024;

/// Flags of `estimate`.
#[derive(Debug, clap::Args)]
pub(super) struct EstimateArgs {
    /// Width and height of the images, a power of two from 8 to 1024.
    #[arg(long, default_value_t = 64)]
    resolution: usize,
    /// Images per step [default: the configuration's].
    #[arg(long)]
    batch: Option<usize>,
    /// Configuration [default: auto on a GPU, tiny on the processor].
    #[arg(long)]
    cfg: Option<String>,
    /// Where to compute: auto, cuda or cpu.
    #[arg(long, default_value = "auto", value_parser = device_choice)]
    device: DeviceChoice,
    /// What a GPU computes in: f32, tf32, f16 or bf16 [default: tf32].
    #[arg(long, value_parser = precision)]
    precision: Option<Precision>,
    /// How the processor convolves: fast or exact [default: fast].
    #[arg(long, value_parser = conv)]
    conv: Option<Conv>,
    /// Augmentation: noaug, fixed or diffaug; ada changes its strength while it trains.
    #[arg(long, default_value = "noaug")]
    aug: String,
    /// What aug fixed does.
    #[arg(long, default_value = "bgc")]
    augpipe: String,
    /// Strength of aug fixed, from 0 to 1.
    #[arg(long)]
    p: Option<String>,
    /// Measures so many whole cycles of 16 steps instead of each phase once.
    #[arg(long, value_name = "K")]
    cycles: Option<u64>,
    /// Measures nothing: counts what a step asks of a GPU, and says how long that would take one
    /// (at 256 px in two minutes and 10 GB).
    #[arg(long, conflicts_with_all = ["device", "precision", "cycles"])]
    count: bool,
    /// Measures each op of the four phases, and how far it is from what the machine could do.
    #[arg(long, conflicts_with_all = ["cycles", "count"])]
    profile: bool,
    /// Prints one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

impl EstimateArgs {
    fn config(&self, device: DeviceKind) -> Result<TrainConfig, UsageError> {
        let refused = |text: String| Err(UsageError(text));
        if !self.resolution.is_power_of_two() || !(8..=1024).contains(&self.resolution) {
            return refused(format!(
                "--resolution: expected a power of two from 8 to 1024, came {}",
                self.resolution
            ));
        }
        if self.batch.is_some_and(|batch| !(1..=512).contains(&batch)) {
            return refused("--batch: expected 1 to 512".to_owned());
        }
        let p = self.p.as_deref().map(|p| ("p", p));
        let texts = [("aug", self.aug.as_str()), ("augpipe", &self.augpipe)].into_iter().chain(p);
        let aug = Params::from_texts(texts).map_err(|error| UsageError(error.to_string()))?;
        if aug.aug == Aug::Ada {
            let text =
                "--aug: expected noaug, fixed with a p, or diffaug; ada has no strength of its own";
            return refused(text.to_owned());
        }
        let strength = aug.strength(false);
        let cfg = match &self.cfg {
            None => Params::default().cfg_on(device),
            Some(name) => match serde_json::from_value::<Cfg>(json!(name)) {
                Ok(cfg) => cfg,
                Err(_) => {
                    return refused(format!(
                        "--cfg: no configuration \"{name}\"; see train --help"
                    ));
                }
            },
        };
        let params = Params { precision: self.precision, ..Params::default() };
        let precision = params.precision_on(device);
        let overrides = Overrides {
            batch: self.batch,
            precision,
            augmentations: aug.augmentations(),
            strength,
            ..Overrides::default()
        };
        Ok(train_config(cfg, self.resolution, 0, &overrides))
    }
}

/// The value of the flag `--precision`.
fn precision(text: &str) -> Result<Precision, UsageError> {
    choice(text, "f32, tf32, f16 or bf16")
}

/// The value of the flag `--conv`.
fn conv(text: &str) -> Result<Conv, UsageError> {
    choice(text, "fast or exact")
}

/// Wall and CPU seconds of some images.
#[derive(Clone, Copy)]
struct Measured {
    images: f64,
    wall: f64,
    cpu: f64,
    /// Gmain, Greg, Dmain, Dreg, ema: mean wall seconds of one.
    phases: [f64; 5],
}

pub(super) fn run(args: &EstimateArgs, stop: Arc<AtomicBool>) -> Result<()> {
    let cancel = Cancel { flag: Some(stop), deadline: None };
    match cancel::scope(cancel.clone(), || measure(args)) {
        Err(_) if cancel.is_due() => {
            info!("stopped before the measurement was done");
            Ok(())
        }
        other => other,
    }
}

fn measure(args: &EstimateArgs) -> Result<()> {
    if args.count {
        return count::run(&args.config(DeviceKind::Cuda)?, args.json);
    }
    let opened = open(args.device)?;
    let (device, kind) = (&opened.device, opened.kind);
    if args.profile && kind == DeviceKind::Cuda {
        let text = "--profile: expected the processor (--device cpu); a GPU works on unseen";
        return Err(UsageError(text.to_owned()).into());
    }
    let config = args.config(kind)?;
    info!("{}", opened.description);
    set_math(Math { tf32: config.precision == Precision::Tf32, ..Math::default() });
    set_conv(args.conv.unwrap_or_default());
    let gemm_gflops = gemm_gflops(device)?;
    info!("matrix product: {gemm_gflops:.0} GFLOP/s; measuring the phases");
    let (batch, res) = (config.batch, config.g.img_resolution);
    let mut trainer = Trainer::new(config, device)?;
    let rng = Rng::new(0, Stream::Pictures, 0);
    let images =
        Tensor::from_vec(rng.normals(batch * 3 * res * res), (batch, 3, res, res), device)?;
    let images = (images.to_dtype(DType::F32)? * 0.5)?;
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
    Ok(trainer.draw(&Reals { img: images.clone(), c: None }, None)?)
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
    let reals = Reals { img: round.reals.img.narrow(0, 0, group)?, c: None };
    networks.g_main(&small(&round.g_main)?)?;
    let (draw, pl_noise) = (small(&round.g_reg.0)?, &round.g_reg.1);
    let lengths = networks.path_lengths(&draw, &pl_noise.narrow(0, 0, draw.z.dim(0)?)?)?;
    networks.g_reg(lengths, 0.0, (2.0, 4.0))?;
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
    for _ in 0..num_steps {
        let rounds = rounds(trainer, images)?;
        let seconds = trainer.step(&rounds)?.seconds;
        sums.iter_mut().zip(seconds).for_each(|(sum, seconds)| *sum += seconds);
    }
    let counts = [1, G_REG_INTERVAL, 1, D_REG_INTERVAL, 1].map(|every| (num_steps / every) as f64);
    let mut phases = sums;
    phases.iter_mut().zip(counts).for_each(|(sum, count)| *sum /= count);
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
