//! A few training steps on a device against the same steps on the processor.
//!
//! Adam divides a gradient by its size, so weights whose gradient is nearly zero move by the sign
//! of rounding errors; therefore what the networks say is compared, not their weights.

use candle_core::{DType, Device, Result};

use super::phases::Reals;
use super::presets::{Cfg, Overrides, train_config};
use super::trainer::{StepStats, Trainer};
use crate::model::Precision;
use crate::ops::cuda::{Math, math, set_math};
use crate::ops::normals;
use crate::ops::rng::{Rng, Stream};

/// Steps that are compared; R1 is in the first, path length in the first and the last.
const NUM_STEPS: usize = 5;
/// Width and height of the images.
const RES: usize = 16;
/// Images of a step.
const BATCH: usize = 4;

/// The largest difference that rounding explains, growing from step to step.
pub fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-4,
        Precision::Tf32 | Precision::F16 => 5e-2,
        Precision::Bf16 => 2e-1,
    }
}

/// Largest difference of losses, logits and penalties, relative to 1 or to their own size, for
/// each of five steps.
///
/// # Errors
/// Fails if an op does.
pub fn training_errors(device: &Device, precision: Precision) -> Result<Vec<f64>> {
    let outer = math();
    set_math(Math { tf32: precision == Precision::Tf32, ..outer });
    let ours = five_steps(device, precision);
    set_math(outer);
    let ours = ours?;
    let expected = five_steps(&Device::Cpu, Precision::F32)?;
    Ok(ours.iter().zip(&expected).map(|(ours, expected)| difference(ours, expected)).collect())
}

fn five_steps(device: &Device, precision: Precision) -> Result<Vec<StepStats>> {
    let overrides = Overrides { batch: Some(BATCH), precision, ..Overrides::default() };
    let mut trainer = Trainer::new(train_config(Cfg::Tiny, RES, 0, &overrides), device)?;
    let step = |step: usize| {
        let rng = Rng::new(0, Stream::Pictures, step as u64);
        let img = normals(&rng, 0, (BATCH, 3, RES, RES), (DType::F32, &Device::Cpu))?;
        let reals = Reals::new((img * 0.5)?.to_device(device)?, None);
        let rounds = trainer.draw(&reals, None)?;
        trainer.step(&rounds)
    };
    (0..NUM_STEPS).map(step).collect()
}

fn difference(ours: &StepStats, expected: &StepStats) -> f64 {
    let values = |stats: &StepStats| {
        let penalties = [stats.r1_penalty, stats.pl_penalty].map(|x| x.unwrap_or(0.0));
        let [r1_penalty, pl_penalty] = penalties;
        let StepStats { g_loss, d_loss, fake_score, real_score, .. } = *stats;
        [g_loss, d_loss, fake_score, real_score, r1_penalty, pl_penalty]
    };
    let pairs = values(ours).into_iter().zip(values(expected));
    let errors = pairs.map(|(ours, expected)| (ours - expected).abs() / expected.abs().max(1.0));
    errors.fold(0.0, |worst, error| if error > worst || error.is_nan() { error } else { worst })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_agrees_with_itself() -> Result<()> {
        assert_eq!(training_errors(&Device::Cpu, Precision::F32)?, [0.0; NUM_STEPS]);
        Ok(())
    }

    #[test]
    fn a_difference_of_one_number_shows() {
        let expected = StepStats { r1_penalty: Some(4.0), ..StepStats::default() };
        let ours = StepStats { r1_penalty: Some(4.4), ..expected };
        assert!((difference(&ours, &expected) - 0.1).abs() < 1e-12);
        let nan = StepStats { g_loss: f64::NAN, ..expected };
        assert!(difference(&nan, &expected).is_nan());
    }
}
