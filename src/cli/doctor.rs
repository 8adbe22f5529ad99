//! `doctor`: whether this machine's GPU computes what the processor does, and how fast it is.

use std::io::Write;
use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::device_choice;
use crate::model::Precision;
use crate::ops::cuda::{Math, set_math};
use crate::ops::device::{DeviceChoice, open};
use crate::ops::rng::{Rng, Stream};
use crate::ops::selftest::cases;
use crate::ops::{conv2d, normals};
use crate::train::selftest::training_errors;

/// Flags of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Device to examine.
    #[arg(long, default_value = "auto", value_parser = device_choice)]
    device: DeviceChoice,
}

pub(super) fn run(args: &DoctorArgs) -> Result<()> {
    let opened = open(args.device)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}\n", opened.description)?;
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        writeln!(
            out,
            "{:38} {:>9} {:>9} {:>9}",
            format!("{dtype:?}"),
            "value",
            "gradient",
            "2nd order"
        )?;
        for case in cases()? {
            match case.errors(dtype, &opened.device) {
                Ok([value, first, second]) => {
                    writeln!(out, "{:38} {value:9.1e} {first:9.1e} {second:9.1e}", case.name)?;
                }
                Err(error) => writeln!(out, "{:38} {error}", case.name)?,
            }
        }
    }
    for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
        let steps = training_errors(&opened.device, precision)?;
        let steps: Vec<_> = steps.iter().map(|error| format!("{error:.1e}")).collect();
        writeln!(out, "\nfive training steps in {precision:?}: {}", steps.join(" "))?;
    }
    speeds(&mut out, &opened.device)
}

fn speeds(out: &mut impl Write, device: &Device) -> Result<()> {
    for tf32 in [false, true] {
        set_math(Math { tf32, ..Math::default() });
        let name = if tf32 { "TF32" } else { "f32" };
        let n = 4096;
        let draw = |part: u64, shape: &[usize]| {
            normals(&Rng::new(0, Stream::Pictures, 0), part, shape, (DType::F32, device))
        };
        let (a, b) = (draw(0, &[n, n])?, draw(1, &[n, n])?);
        let seconds = time(device, &|| Ok(a.matmul(&b)?))?;
        writeln!(
            out,
            "matrix product 4096, {name}: {:.1} TFLOP/s",
            2.0 * (n as f64).powi(3) / seconds / 1e12
        )?;
        for (c, res) in [(512, 16), (256, 64), (64, 256)] {
            let (x, w) = (draw(0, &[16, c, res, res])?, draw(1, &[c, c, 3, 3])?);
            let seconds = time(device, &|| Ok(conv2d(&x, &w, 1, 1, 1.0)?))?;
            let flop = 2.0 * (16 * c * c * 9 * res * res) as f64;
            writeln!(
                out,
                "convolution {c} x {res}x{res}, {name}: {:.1} TFLOP/s",
                flop / seconds / 1e12
            )?;
        }
    }
    set_math(Math::default());
    Ok(())
}

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
