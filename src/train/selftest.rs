//! Training on a device against the same on the processor: the gradients of each phase, with
//! augmentations, and a few steps without.
//!
//! Adam divides a gradient by its size, so weights whose gradient is nearly zero move by the sign
//! of rounding errors; therefore after steps what the networks say is compared, not their weights.
//! With augmentations even that differs by 3e-3 in f32 after one step, so these are left to the
//! gradients.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::config::{Augmentations, Strength};
use super::phases::{Networks, Reals};
use super::presets::{Cfg, Overrides, train_config};
use super::trainer::{StepStats, Trainer};
use crate::augment::AugPipe;
use crate::model::Precision;
use crate::ops::cuda::{Math, math, set_math};
use crate::ops::normals;
use crate::ops::rng::{Rng, Stream};
use crate::ops::selftest::distance;

/// Steps that are compared; R1 is in the first, path length in the first and the last.
const NUM_STEPS: usize = 5;
/// Width and height of the images.
const RES: usize = 16;
/// Images of a step.
const BATCH: usize = 4;

/// The largest error of [`training_errors`] that rounding explains, growing from step to step.
pub fn step_tolerance(precision: Precision) -> f64 {
    if precision == Precision::F32 { 1e-4 } else { gradient_tolerance(precision) }
}

/// That of [`gradient_errors`]. In f32 that of Gmain was 4e-5 on the processor and on a GPU, and 7e-4
/// with the GPU's kernels on the processor; the others were within 1e-6.
pub fn gradient_tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 5e-3,
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
    let ours = in_math(precision, || five_steps(device, precision))?;
    let expected = five_steps(&Device::Cpu, Precision::F32)?;
    Ok(ours.iter().zip(&expected).map(|(ours, expected)| difference(ours, expected)).collect())
}

fn five_steps(device: &Device, precision: Precision) -> Result<Vec<StepStats>> {
    let overrides = Overrides { batch: Some(BATCH), precision, ..Overrides::default() };
    let mut trainer = Trainer::new(train_config(Cfg::Tiny, RES, 0, &overrides), device)?;
    let step = |step: usize| {
        let rounds = trainer.draw(&reals(step)?, None)?;
        trainer.step(&rounds)
    };
    (0..NUM_STEPS).map(step).collect()
}

/// Distances of the gradients of Gmain, Greg, Dmain and Dreg from those in f64, relative to their
/// lengths; what D sees is augmented.
///
/// # Errors
/// Fails if an op does.
pub fn gradient_errors(device: &Device, precision: Precision) -> Result<[f64; 4]> {
    let ours = in_math(precision, || gradients((DType::F32, device), precision))?;
    let expected = gradients((DType::F64, &Device::Cpu), Precision::F32)?;
    let mut errors = [0.0; 4];
    for (error, (ours, expected)) in errors.iter_mut().zip(ours.iter().zip(&expected)) {
        *error = distance(ours, expected)?;
    }
    Ok(errors)
}

fn gradients((dtype, device): (DType, &Device), precision: Precision) -> Result<[Vec<Tensor>; 4]> {
    let overrides = Overrides {
        batch: Some(BATCH),
        precision,
        augmentations: Augmentations::Pipe(AugPipe::Bgc),
        strength: Strength::Fixed { p: 0.8 },
        ..Overrides::default()
    };
    let config = train_config(Cfg::Tiny, RES, 0, &overrides);
    let networks = Networks::init(&config.g, &config.d, config.seed, (dtype, device))?;
    let trainer = Trainer::with_networks(config, networks)?;
    let round = trainer.draw(&reals(0)?, None)?.remove(0);
    let networks = trainer.networks();
    let Some((g_reg, pl_noise)) = &round.g_reg else { bail!("expected a step with all phases") };
    let path_lengths = networks.path_lengths(g_reg, pl_noise)?;
    let pl_mean = Tensor::zeros(1, DType::F64, device)?;
    let (d_main_reals, d_reg_reals) = (round.d_main_reals.as_ref(), round.d_reg_reals.as_ref());
    Ok([
        networks.g_main(&round.g_main)?.grads,
        networks.g_reg(path_lengths, &pl_mean, (1.0, 1.0))?.grads,
        networks.d_main(&round.d_main, &round.reals, d_main_reals)?.grads,
        networks.d_reg(&round.reals, d_reg_reals, (1.0, 1.0))?.grads,
    ])
}

/// The images of a step.
fn reals(step: usize) -> Result<Reals> {
    let rng = Rng::new(0, Stream::Pictures, step as u64);
    let img = normals(&rng, 0, (BATCH, 3, RES, RES), (DType::F32, &Device::Cpu))?;
    Ok(Reals::new((img * 0.5)?, None))
}

/// What `work` gives where numbers are multiplied as `precision` has it.
fn in_math<T>(precision: Precision, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let outer = math();
    set_math(Math { tf32: precision == Precision::Tf32, ..outer });
    let done = work();
    set_math(outer);
    done
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
    fn the_gradients_of_each_phase_are_those_in_f64() -> Result<()> {
        let errors = gradient_errors(&Device::Cpu, Precision::F32)?;
        let is_explained = |error: &f64| (1e-9..gradient_tolerance(Precision::F32)).contains(error);
        assert!(errors.iter().all(is_explained), "{errors:?}");
        assert!(errors.iter().filter(|error| **error < 1e-5).count() >= 3, "{errors:?}");
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
