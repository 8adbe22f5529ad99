//! What a run does when its GPU runs out of memory or is lost.
//!
//! Out of memory, a step goes on in smaller rounds, down to the mini-batch std group. A GPU that
//! was lost (a fault of memory, a kernel that failed, a driver that went) ends the run: nothing can
//! be read from it any more, and the files of the last refresh are whole, as they are always.

use candle_core::{Result, Tensor};
use tracing::warn;

use crate::ops::device::{Fault, classify, error_code};
use crate::train::phases::Reals;
use crate::train::ranks::Ranks;
use crate::train::trainer::StepStats;

/// A step of `ranks`, with a lower `batch_gpu` from then on where memory runs out.
///
/// # Errors
/// Fails if an op does, or is cancelled.
pub(super) fn step(
    ranks: &mut Ranks,
    reals: &Reals,
    label_pool: Option<&Tensor>,
) -> Result<StepStats> {
    loop {
        let error = match ranks.step(reals, label_pool) {
            Ok(stats) => return Ok(stats),
            Err(error) => error,
        };
        if classify(&error) != Fault::OutOfMemory {
            return Err(error);
        }
        let Some(batch_gpu) = ranks.lower_batch_gpu()? else { return Err(error) };
        warn!(
            "out of GPU memory: batch_gpu is {batch_gpu} from now on, the same batch in more rounds"
        );
    }
}

/// The line that tells a person of a failing GPU; `None` if `error` has another cause.
pub fn line(error: &anyhow::Error) -> Option<String> {
    let error = error.chain().find_map(|cause| cause.downcast_ref::<candle_core::Error>())?;
    let text = error.to_string();
    let code = error_code(&text)?;
    match classify(error) {
        Fault::OutOfMemory => Some(format!(
            "out of GPU memory ({code}), where batch_gpu does not help; ask for a lower resolution or \
             a smaller cfg, or take a GPU with more memory"
        )),
        Fault::DeviceLost => Some(format!(
            "the GPU was lost ({code}); the files written so far are whole; start again, on another \
             GPU if it comes back"
        )),
        Fault::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use anyhow::Context;
    use candle_core::{DType, Device};
    use serde_json::Value;

    use super::*;
    use crate::data::{Dataset, Mirror};
    use crate::job::gate::Level;
    use crate::job::outputs::Outputs;
    use crate::job::run::{Run, Setup};
    use crate::job::statistics::Audience;
    use crate::ops::cancel::faults;
    use crate::ops::collective::connect;
    use crate::ops::rng::{Rng, Stream};
    use crate::train::config::TrainConfig;
    use crate::train::phases::Networks;
    use crate::train::presets::{Cfg, Overrides, train_config};

    const FULL: &str = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
    const LOST: &str = "DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access\")";

    fn config() -> TrainConfig {
        let overrides = Overrides { batch: Some(8), kimg: Some(1.0), ..Overrides::default() };
        train_config(Cfg::Tiny, 8, 0, &overrides)
    }

    fn ranks(num_ranks: usize) -> Result<Ranks> {
        Ranks::new(&config(), connect(&vec![Device::Cpu; num_ranks])?)
    }

    fn reals() -> Reals {
        let rng = Rng::new(0, Stream::Pictures, 0);
        let img = Tensor::from_vec(rng.normals(8 * 3 * 64), (8, 3, 8, 8), &Device::Cpu).unwrap();
        Reals::new(img.to_dtype(DType::F32).unwrap(), None)
    }

    /// Every number that a step moves.
    fn state(ranks: &Ranks) -> Vec<f64> {
        let trainer = ranks.lead();
        let Networks { g_store, d_store, .. } = trainer.networks();
        let tensors = [g_store.tensors(), d_store.tensors()].concat();
        let values =
            tensors.iter().map(|(_, var)| var.flatten_all()?.to_dtype(DType::F64)?.to_vec1());
        let mut values = values.collect::<Result<Vec<_>>>().unwrap().concat();
        values.push(trainer.pl_mean());
        values
    }

    /// The first step, all four phases, with `faults` for want of memory.
    fn first_step(ranks: &mut Ranks, faults_at: &[usize]) -> Result<StepStats> {
        faults::plan(faults_at, FULL);
        step(ranks, &reals(), None)
    }

    #[test]
    fn a_phase_that_ran_out_of_memory_is_run_again_and_those_before_it_stand() -> Result<()> {
        let mut from_start = ranks(1)?;
        assert_eq!(from_start.lower_batch_gpu()?, Some(4));
        let from_start_stats = first_step(&mut from_start, &[])?;
        let mut states = Vec::new();
        for num_ops in (0..).step_by(11) {
            let mut ranks = ranks(1)?;
            let stats = first_step(&mut ranks, &[num_ops])?;
            if faults::is_pending() {
                break; // the step has no more ops
            }
            assert_eq!((ranks.lead().config().batch_gpu, ranks.lead().num_steps()), (4, 1));
            if num_ops == 0 {
                assert_eq!(stats.g_loss, from_start_stats.g_loss);
            }
            states.push(state(&ranks));
        }
        assert!(states[0] == state(&from_start));
        states.dedup();
        assert_eq!(states.len(), 4, "a failure anywhere in a phase has one result");
        Ok(())
    }

    /// Twice the rounds, of half the images each, sum to gradients of twice the size; unscaled, they
    /// would move weights by 2 / sqrt((5 + 4) / 6) = 1.6 times as much after five steps.
    #[test]
    fn smaller_rounds_keep_the_size_of_a_step() -> Result<()> {
        let step_size = |faults_at: &[usize]| {
            let mut ranks = ranks(1)?;
            for _ in 0..5 {
                step(&mut ranks, &reals(), None)?;
            }
            let before = state(&ranks);
            faults::plan(faults_at, FULL);
            step(&mut ranks, &reals(), None)?;
            let moved = before.iter().zip(state(&ranks)).map(|(a, b)| (a - b).abs());
            Ok::<f64, candle_core::Error>(moved.sum())
        };
        let ratio = step_size(&[0])? / step_size(&[])?;
        assert!((0.8..1.25).contains(&ratio), "{ratio}");
        Ok(())
    }

    /// Rank 0 fails, and both go on in rounds of four: as one rank that has failed in that phase, in
    /// f64, where rounding cannot look like a step of Adam.
    #[test]
    fn all_ranks_go_on_in_smaller_rounds() -> Result<()> {
        let overrides = Overrides {
            batch: Some(16),
            batch_gpu: Some(8),
            kimg: Some(1.0),
            ..Overrides::default()
        };
        let config = train_config(Cfg::Tiny, 8, 0, &overrides);
        let reals = reals();
        let twice = |img: &Tensor| Tensor::cat(&[img, img], 0);
        let reals = Reals { img: reals.img.map(twice)?, c: None };
        let first_step = |num_ranks: usize, num_ops: usize| -> Result<Vec<f64>> {
            let members = connect(&vec![Device::Cpu; num_ranks])?;
            let init = |_| Networks::init(&config.g, &config.d, 0, (DType::F64, &Device::Cpu));
            let networks = (0..num_ranks).map(init).collect::<Result<_>>()?;
            let mut ranks = Ranks::with_networks(&config, members, networks)?;
            faults::plan(&[num_ops], FULL);
            step(&mut ranks, &reals, None)?;
            assert!(!faults::is_pending());
            for trainer in ranks.replicas() {
                assert_eq!((trainer.config().batch_gpu, trainer.num_steps()), (4, 1));
            }
            Ok(state(&ranks))
        };
        let distance = |a: &[f64], b: &[f64]| {
            let pairs = a.iter().zip(b);
            pairs.map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f64::max)
        };
        // One rank has twice the ops, so it fails about where the first of two does.
        let places = [0, 30, 60, 90];
        let of_one = places.map(|num_ops| first_step(1, 2 * num_ops).unwrap());
        assert!(distance(&of_one[0], &of_one[3]) > 1e-6, "failures in different phases differ");
        for num_ops in places {
            let of_two = first_step(2, num_ops)?;
            let nearest = of_one.iter().map(|of_one| distance(of_one, &of_two)).fold(1.0, f64::min);
            assert!(nearest < 1e-10, "{num_ops}: {nearest}");
        }
        Ok(())
    }

    #[test]
    fn a_group_that_does_not_fit_ends_the_run() -> Result<()> {
        let mut ranks = ranks(1)?;
        let error = first_step(&mut ranks, &[40, 3]).unwrap_err();
        assert_eq!((classify(&error), ranks.lead().config().batch_gpu), (Fault::OutOfMemory, 4));
        Ok(())
    }

    /// A run on made-up pictures, after its first step.
    fn run(folder: &Path) -> Run {
        let dataset = Dataset::from_raw(8, vec![128; 8 * 3 * 64], 0, Vec::new()).unwrap();
        let setup = Setup {
            mirror: Mirror::default(),
            keeper: None,
            options: Value::Null,
            outputs: Outputs::open_folder(folder).unwrap(),
            stop: Arc::default(),
            snap_interval: Duration::from_hours(1),
            started: Instant::now(),
            max_duration: None,
            gate: Level::Report,
            audience: Audience::Home,
        };
        let members = connect(&[Device::Cpu]).unwrap();
        let mut run = Run::new(dataset, &config(), setup, members).unwrap();
        faults::plan(&[], "");
        assert!(run.advance().unwrap().is_some());
        run
    }

    #[test]
    fn nothing_is_read_from_a_gpu_that_was_lost() {
        for (text, is_written) in [(LOST, false), (FULL, true), ("another fault", true)] {
            let folder = tempfile::tempdir().unwrap();
            let mut run = run(folder.path());
            let (weights, grid) =
                (folder.path().join("generator.safetensors"), folder.path().join("samples.png"));
            assert!(grid.is_file());
            std::fs::remove_file(&weights).unwrap();
            faults::plan(&[30, 0], text); // the second ends a run that may have been lowered
            let error = run.advance().unwrap_err();
            assert_eq!(weights.exists(), is_written, "{text}");
            assert!(grid.is_file());
            assert_eq!(line(&error).is_some(), text.contains("CUDA"), "{text}");
            faults::plan(&[], "");
        }
    }

    fn line_of(text: &str) -> Option<String> {
        let error: Result<()> = Err(candle_core::Error::Msg(text.to_owned()));
        line(&error.context("a training step failed").unwrap_err())
    }

    #[test]
    fn a_failing_gpu_is_told_in_one_line() {
        let lost = line_of("DriverError(CUDA_ERROR_ECC_UNCORRECTABLE, \"uncorrectable\")").unwrap();
        assert!(lost.starts_with("the GPU was lost (CUDA_ERROR_ECC_UNCORRECTABLE); "), "{lost}");
        let full = line_of("CublasError(CUBLAS_STATUS_ALLOC_FAILED)").unwrap();
        assert!(full.starts_with("out of GPU memory (CUBLAS_STATUS_ALLOC_FAILED)"), "{full}");
        assert_eq!(line_of("conv2d: expected a contiguous kernel"), None);
        assert_eq!(line(&anyhow::anyhow!("CUDA_ERROR_LAUNCH_FAILED in a file's name")), None);
    }
}
