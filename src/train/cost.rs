//! What a training step costs a GPU, phase by phase, counted without one
//! ([`crate::ops::cost`]).
//!
//! Counted at two small batches: FLOP and bytes are linear in the batch (images, and beside them
//! weights), so two points tell every other. Launches do not depend on it, up to the last folds of
//! long sums. Not in it: the transfer of the real images, the addition of D's two gradients, and
//! what a step does besides its phases.

use candle_core::{DType, Device, Result, Tensor};

use super::config::TrainConfig;
use super::draws::Round;
use super::phases::Reals;
use super::trainer::{D_REG_INTERVAL, G_REG_INTERVAL, Trainer};
use crate::model::Precision;
use crate::ops::cost::{Account, Tally, clocked, counted};

/// The parts of a step, in the order of [`StepCost`]: what passes between processor and device, the
/// random inputs and what was found; then the phases.
pub const PARTS: [&str; 5] = ["transfers", "Gmain", "Greg", "Dmain", "Dreg"];

/// The accounts of a step's parts, each as in a step that has all of them.
pub struct StepCost {
    /// Images of the step.
    pub batch: usize,
    /// By [`PARTS`].
    pub parts: [Account; 5],
}

impl StepCost {
    /// The mean over a cycle, in which the regularisers run now and then.
    pub fn mean(&self) -> Account {
        let (g_reg, d_reg) = (1.0 / G_REG_INTERVAL as f64, 1.0 / D_REG_INTERVAL as f64);
        let mut mean = Account::default();
        for (part, share) in self.parts.iter().zip([1.0, 1.0, g_reg, 1.0, d_reg]) {
            mean.add(part, share);
        }
        mean
    }
}

/// Counts a step of `batch_gpu` images in one round, all in f32.
///
/// # Errors
/// Fails if memory for the networks and two small batches cannot be had.
pub fn step_cost(config: &TrainConfig) -> Result<StepCost> {
    let group = config.d.mbstd_group_size.unwrap_or(1).max(1);
    let small = if group.is_multiple_of(2) { group } else { 2 * group }; // Greg halves it
    let batch = config.batch_gpu;
    if batch <= 2 * small {
        return count(config, batch);
    }
    let (first, second) = (count(config, small)?, count(config, 2 * small)?);
    let steps = (batch as f64 - small as f64) / small as f64;
    let mut parts = first.parts;
    for (part, second) in parts.iter_mut().zip(&second.parts) {
        for (name, to) in &second.entries {
            let from = part.entries.entry(name.clone()).or_default();
            let line = |from: f64, to: f64| from + (to - from) * steps;
            let (bytes, flop) = (line(from.bytes, to.bytes), line(from.flop, to.flop));
            *from = Tally { bytes, flop, ..*to };
        }
    }
    Ok(StepCost { batch, parts })
}

/// Counts a step of `batch` images.
fn count(config: &TrainConfig, batch: usize) -> Result<StepCost> {
    let precision = Precision::F32; // what the processor has kernels for
    let config = TrainConfig { batch, batch_gpu: batch, precision, ..config.clone() };
    let (res, channels) = (config.g.img_resolution, config.g.img_channels);
    let mut trainer = Trainer::new(config, &Device::Cpu)?;
    let img = Tensor::zeros((batch, channels, res, res), DType::F32, &Device::Cpu)?;
    let (rounds, mut transfers) = counted(|| trainer.draw(&Reals::new(img, None), None))?;
    let [g_main, g_reg, d_main, d_reg] = trainer.count(&rounds)?;
    transfers.add(&counted(|| trainer.collect())?.1, 1.0);
    Ok(StepCost { batch, parts: [transfers, g_main, g_reg, d_main, d_reg] })
}

/// Opens an account, does something, and gives the account.
type Accountant = fn(&mut dyn FnMut() -> Result<()>) -> Result<Account>;

impl Trainer {
    /// The accounts of the four phases over `rounds`. The step does not happen.
    fn count(&mut self, rounds: &[Round]) -> Result<[Account; 4]> {
        self.accounts(rounds, |work| Ok(counted(work)?.1))
    }

    /// The seconds of the four phases' ops over `rounds`; all four are run.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn clock(&mut self, rounds: &[Round]) -> Result<StepCost> {
        let [g_main, g_reg, d_main, d_reg] = self.accounts(rounds, |work| Ok(clocked(work)?.1))?;
        self.collect()?;
        let parts = [Account::default(), g_main, g_reg, d_main, d_reg];
        Ok(StepCost { batch: self.config().batch, parts })
    }

    fn accounts(&mut self, rounds: &[Round], account_of: Accountant) -> Result<[Account; 4]> {
        self.pending_ema = Some(0.0); // as after every step but the first
        let g_main = account_of(&mut || self.g_main(rounds))?;
        let g_reg = account_of(&mut || self.g_reg(rounds))?;
        let d_main = account_of(&mut || self.d_main(rounds))?;
        let d_reg = account_of(&mut || self.d_reg(rounds))?;
        Ok([g_main, g_reg, d_main, d_reg])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::AugPipe;
    use crate::train::config::{Augmentations, Strength};
    use crate::train::presets::{Cfg, Overrides, train_config};

    fn convolutions(cost: &StepCost) -> f64 {
        let mean = cost.mean();
        let of =
            |(name, tally): (&String, &Tally)| name.starts_with("conv2d").then_some(tally.flop);
        mean.entries.iter().filter_map(of).sum::<f64>() / cost.batch as f64 / 1e9
    }

    /// The published trainer's dense convolutions, counted op by op in its own dispatcher.
    #[test]
    fn convolutions_of_auto_at_32_px_are_those_of_the_published_trainer() -> Result<()> {
        let config = train_config(Cfg::Auto, 32, 0, &Overrides::default());
        let gflop = convolutions(&step_cost(&config)?);
        assert!((gflop / 106.6 - 1.0).abs() < 0.02, "{gflop}");
        Ok(())
    }

    /// Beside that of the images, however many rounds and transforms there are: all that is drawn, and
    /// all that is found.
    #[test]
    fn two_copies_pass_between_processor_and_device() -> Result<()> {
        let overrides = Overrides {
            batch: Some(8),
            batch_gpu: Some(4),
            strength: Strength::Fixed { p: 1.0 },
            augmentations: Augmentations::Pipe(AugPipe::Bgc),
            ..Overrides::default()
        };
        let mut trainer = Trainer::new(train_config(Cfg::Tiny, 16, 0, &overrides), &Device::Cpu)?;
        let img = Tensor::zeros((8, 3, 16, 16), DType::F32, &Device::Cpu)?;
        let ((), account) = counted(|| {
            let rounds = trainer.draw(&Reals::new(img, None), None)?;
            trainer.step(&rounds)?;
            Ok(())
        })?;
        assert_eq!((trainer.num_steps(), account.total().copies), (1, 2.0));
        Ok(())
    }

    /// Bytes and FLOP of a batch of 16 from those of 4 and 8.
    #[test]
    fn cost_is_linear_in_the_batch() -> Result<()> {
        let config = train_config(Cfg::Tiny, 16, 0, &Overrides::default());
        let (line, counted) = (step_cost(&config)?, count(&config, 16)?);
        assert_eq!((line.batch, counted.batch), (16, 16));
        for ((line, counted), name) in line.parts.iter().zip(&counted.parts).zip(PARTS) {
            let (line, counted) = (line.total(), counted.total());
            assert_eq!(line.copies, counted.copies, "{name}");
            let off = |line: f64, counted: f64| (line / counted - 1.0).abs();
            // folds of sums over all pixels: 64 terms each, so their number is rounded
            assert!(off(line.bytes, counted.bytes) < 1e-4, "{name}: {line:?} {counted:?}");
            assert!(off(line.flop, counted.flop) < 1e-4, "{name}: {line:?} {counted:?}");
            assert!(off(line.launches, counted.launches) < 0.02, "{name}: {line:?} {counted:?}");
        }
        Ok(())
    }
}
