//! `doctor`: whether this machine's GPU computes what the processor does, and how fast it is.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor};
use tracing::info;

use super::device_choice;
use crate::model::Precision;
use crate::ops::cancel::{self, Cancel};
use crate::ops::cuda::{Math, set_math};
use crate::ops::device::{DeviceChoice, DeviceKind, computes_in, open};
use crate::ops::rng::{Rng, Stream};
use crate::ops::selftest::{Way, cases};
use crate::ops::{conv2d, normals};
use crate::train::selftest::{
    gradient_errors, gradient_tolerance, step_tolerance, training_errors,
};

/// Side of the matrix product that is timed.
const GEMM: usize = 4096;
/// Images of the convolutions that are timed, and their channels and resolutions.
const CONV_BATCH: usize = 16;
const CONVS: [(usize, usize); 3] = [(512, 16), (256, 64), (64, 256)];
/// Values of the tensor that is copied.
const COPY: usize = 1 << 26;

/// What a GPU may be asked to compute in; the processor has the first only.
const PRECISIONS: [Precision; 4] =
    [Precision::F32, Precision::Tf32, Precision::F16, Precision::Bf16];

/// Flags of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Device to examine: auto, cuda or cpu.
    #[arg(long, default_value = "auto", value_parser = device_choice)]
    device: DeviceChoice,
}

pub(super) fn run(args: &DoctorArgs, stop: Arc<AtomicBool>) -> Result<()> {
    let cancel = Cancel { flag: Some(stop), deadline: None };
    match cancel::scope(cancel.clone(), || examine(args)) {
        Err(_) if cancel.is_due() => {
            info!("stopped before the examination was done");
            Ok(())
        }
        other => other,
    }
}

fn examine(args: &DoctorArgs) -> Result<()> {
    let opened = open(args.device)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", opened.description)?;
    let is_gpu = opened.kind == DeviceKind::Cuda;
    let mut num_bad = 0;
    for precision in if is_gpu { &PRECISIONS[..] } else { &PRECISIONS[..1] } {
        let way = Way::from(*precision);
        if !computes_in(&opened.device, way.dtype()) {
            writeln!(out, "\n{way:?}: this build has no kernels for it")?;
            continue;
        }
        num_bad += ops(&mut out, &opened.device, way)?;
        num_bad += training(&mut out, &opened.device, *precision)?;
    }
    if is_gpu {
        speeds(&mut out, &opened.device)?;
    }
    if num_bad > 0 {
        bail!("{num_bad} lines differ from the processor by more than rounding explains");
    }
    writeln!(out, "\nall agree with the processor")?;
    Ok(())
}

/// One line for each op; says how many differ.
fn ops(out: &mut impl Write, device: &Device, way: Way) -> Result<usize> {
    let title = format!("op in {way:?}");
    writeln!(out, "\n{title:38} {:>9} {:>9} {:>9}", "value", "gradient", "2nd order")?;
    let mut num_bad = 0;
    for case in cases()?.iter().filter(|case| case.takes(way)) {
        let errors = case.errors(way, device)?;
        let [value, first, second] = errors;
        let verdict = if way.explains(errors) { "" } else { "  DIFFERS" };
        num_bad += usize::from(!verdict.is_empty());
        writeln!(out, "{:38} {value:9.1e} {first:9.1e} {second:9.1e}{verdict}", case.name)?;
    }
    Ok(num_bad)
}

/// A line for the gradients of a tiny network's phases and one for a few of its steps; says how many
/// differ.
fn training(out: &mut impl Write, device: &Device, precision: Precision) -> Result<usize> {
    let mut line = |title: &str, errors: &[f64], tolerance: f64| -> Result<usize> {
        let list: Vec<_> = errors.iter().map(|error| format!("{error:.1e}")).collect();
        let is_bad = !errors.iter().all(|error| *error <= tolerance);
        let verdict = if is_bad { "  DIFFERS" } else { "" };
        writeln!(out, "{title}: {}{verdict}", list.join(" "))?;
        Ok(usize::from(is_bad))
    };
    let gradients = format!("gradients of Gmain, Greg, Dmain, Dreg in {precision:?}");
    let steps = format!("training in {precision:?}, step by step");
    let of_gradients = gradient_errors(device, precision)?;
    let of_steps = training_errors(device, precision)?;
    Ok(line(&gradients, &of_gradients, gradient_tolerance(precision))?
        + line(&steps, &of_steps, step_tolerance(precision))?)
}

fn speeds(out: &mut impl Write, device: &Device) -> Result<()> {
    let draw = |part: u64, shape: &[usize], dtype: DType| {
        let rng = Rng::new(0, Stream::Pictures, 0);
        normals(&rng, part, shape, (DType::F32, device))?.to_dtype(dtype)
    };
    let x = draw(0, &[COPY], DType::F32)?;
    let seconds = time(device, &|| Ok(x.copy()?))?;
    writeln!(out, "\ncopy: {:.0} GB/s read and written", 8.0 * COPY as f64 / seconds / 1e9)?;
    let header = format!("{:22} {:>8} {:>8} {:>8}", "TFLOP/s", "f32", "TF32", "f16");
    writeln!(out, "{header}")?;
    let ways = [(false, DType::F32), (true, DType::F32), (false, DType::F16)];
    let row = |flop: f64, work: &dyn Fn(DType) -> Result<f64>| -> Result<String> {
        let speed = |(tf32, dtype)| {
            set_math(Math { tf32, ..Math::default() });
            Ok(format!(" {:8.1}", flop / work(dtype)? / 1e12))
        };
        let speeds: Result<Vec<_>> = ways.into_iter().map(speed).collect();
        set_math(Math::default());
        Ok(speeds?.concat())
    };
    let products = row(2.0 * (GEMM as f64).powi(3), &|dtype| {
        let (a, b) = (draw(0, &[GEMM, GEMM], dtype)?, draw(1, &[GEMM, GEMM], dtype)?);
        time(device, &|| Ok(a.matmul(&b)?))
    })?;
    writeln!(out, "{:22}{products}", format!("matrix product {GEMM}"))?;
    for (c, res) in CONVS {
        let flop = 2.0 * (CONV_BATCH * c * c * 9 * res * res) as f64;
        let convolutions = row(flop, &|dtype| {
            let (x, w) =
                (draw(0, &[CONV_BATCH, c, res, res], dtype)?, draw(1, &[c, c, 3, 3], dtype)?);
            let (x, w) = (x.into(), w.into());
            time(device, &|| Ok(conv2d(&x, &w, 1, 1, 1.0)?.value().clone()))
        })?;
        writeln!(out, "{:22}{convolutions}", format!("conv 3x3 {c} x {res}x{res}"))?;
    }
    Ok(())
}

/// Seconds of one of ten, after two to warm up.
fn time(device: &Device, work: &dyn Fn() -> Result<Tensor>) -> Result<f64> {
    for _ in 0..2 {
        work()?;
    }
    device.synchronize()?;
    let start = Instant::now();
    for _ in 0..10 {
        work()?;
    }
    device.synchronize()?;
    Ok(start.elapsed().as_secs_f64() / 10.0)
}
