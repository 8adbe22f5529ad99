//! What happens when numbers are not finite any more.
//!
//! A phase that finds what is not finite, a loss or a logit, is skipped: nothing of it enters anything.
//! Single ones are a matter of rounding, in 16 bits above all. Five in a row of the same phase mean
//! that weights are lost; then the networks go back to the last good ones, with optimizers that know
//! nothing and half the learning rate. After three times of that the run is lost as well.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var};

use super::draws::Phase;
use super::trainer::Trainer;
use crate::model::Store;

/// Skipped runs of one phase in a row that send the networks back.
const MAX_SKIPPED: u32 = 5;
/// How often they can go back.
const MAX_ROLLBACKS: u32 = 3;
/// The part of the learning rates that is left each time.
pub(super) const ROLLBACK_LR: f64 = 0.5;

/// Counts of trouble, and the way out of it.
#[derive(Default)]
pub(super) struct Recovery {
    /// Skipped runs in a row, by phase.
    pub(super) skipped: [u32; 4],
    pub(super) num_rollbacks: u32,
    is_lost: bool,
    good: Option<Arc<Good>>,
}

/// Values of the last good networks, in main memory: a GPU's is scarce.
struct Good {
    g: Vec<Tensor>,
    d: Vec<Tensor>,
    g_ema: Vec<Tensor>,
    pl_mean: f64,
}

impl Recovery {
    /// Counts a run of a phase.
    pub(super) fn count(&mut self, phase: Phase, is_finite: bool) {
        let skipped = &mut self.skipped[phase as usize];
        *skipped = if is_finite { 0 } else { *skipped + 1 };
    }
}

impl Trainer {
    /// Keeps the networks as they are as the good ones, unless a weight is not finite; says whether
    /// it did. Costs the memory of three more networks.
    ///
    /// # Errors
    /// Fails if there is not enough memory.
    pub fn remember(&mut self) -> Result<bool> {
        let g_ema = tensors(self.g_ema()?);
        let networks = self.networks();
        let (g, d) = (tensors(&networks.g_store), tensors(&networks.d_store));
        if !(is_finite(&g)? && is_finite(&d)? && is_finite(&g_ema)? && self.pl_mean.is_finite()) {
            return Ok(false);
        }
        self.recovery.good = None; // before more is asked for
        let (g, d, g_ema) = (copies(&g)?, copies(&d)?, copies(&g_ema)?);
        self.recovery.good = Some(Arc::new(Good { g, d, g_ema, pl_mean: self.pl_mean }));
        Ok(true)
    }

    /// Takes over what the replica `lead` remembers, without memory of its own.
    pub(super) fn remember_as(&mut self, lead: &Self) {
        self.recovery.good.clone_from(&lead.recovery.good);
    }

    /// Whether every weight of the average is a finite number.
    ///
    /// # Errors
    /// Fails if an op does.
    pub(super) fn is_average_finite(&mut self) -> Result<bool> {
        is_finite(&tensors(self.g_ema()?))
    }

    /// How often the networks went back to the last good ones.
    pub fn num_rollbacks(&self) -> u32 {
        self.recovery.num_rollbacks
    }

    /// Whether the numbers do not become finite again, whatever is tried; then the run should end.
    /// The networks are the last good ones, where there are any.
    pub fn is_lost(&self) -> bool {
        self.recovery.is_lost
    }

    /// Goes back if too many runs of a phase have been skipped.
    pub(super) fn recover(&mut self) -> Result<()> {
        if self.recovery.skipped.iter().any(|skipped| *skipped >= MAX_SKIPPED) {
            self.roll_back()?;
        }
        Ok(())
    }

    /// Goes back to the last good networks, with half the learning rates.
    ///
    /// # Errors
    /// Fails if an op does.
    pub(super) fn roll_back(&mut self) -> Result<()> {
        self.recovery.skipped = [0; 4];
        self.recovery.num_rollbacks += 1;
        self.recovery.is_lost |= self.recovery.num_rollbacks > MAX_ROLLBACKS;
        let Some(good) = self.recovery.good.take() else {
            self.recovery.is_lost = true;
            return Ok(());
        };
        self.pending_ema = None;
        set(&tensors(self.g_ema()?), &good.g_ema)?;
        set(&tensors(&self.networks.g_store), &good.g)?;
        set(&tensors(&self.networks.d_store), &good.d)?;
        self.pl_mean = good.pl_mean;
        self.recovery.good = Some(good);
        for adam in [&mut self.adam_g, &mut self.adam_d] {
            adam.restart(ROLLBACK_LR)?;
        }
        Ok(())
    }
}

fn tensors(store: &Store) -> Vec<Var> {
    store.tensors().into_iter().map(|(_, var)| var).collect()
}

/// Copies that do not follow their variables.
fn copies(vars: &[Var]) -> Result<Vec<Tensor>> {
    let copy = |var: &Var| match var.device() {
        Device::Cpu => var.copy(),
        _ => var.to_device(&Device::Cpu),
    };
    vars.iter().map(copy).collect()
}

fn set(vars: &[Var], values: &[Tensor]) -> Result<()> {
    vars.iter().zip(values).try_for_each(|(var, value)| var.set(&value.to_device(var.device())?))
}

/// Whether every value is a finite number: zero times anything else is not zero.
fn is_finite(vars: &[Var]) -> Result<bool> {
    let zeros = |var: &Var| var.affine(0.0, 0.0)?.sum_all();
    let zeros = vars.iter().map(zeros).collect::<Result<Vec<_>>>()?;
    let sum = Tensor::stack(&zeros, 0)?.sum_all()?.to_dtype(candle_core::DType::F64)?;
    Ok(sum.to_scalar::<f64>()? == 0.0)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::ops::rng::{Rng, Stream};
    use crate::train::phases::{Networks, Reals};
    use crate::train::presets::{Cfg, Overrides, train_config};
    use crate::train::trainer::StepStats;

    fn trainer() -> Trainer {
        let overrides = Overrides { batch: Some(4), ..Overrides::default() };
        Trainer::new(train_config(Cfg::Tiny, 8, 0, &overrides), &Device::Cpu).unwrap()
    }

    fn step(trainer: &mut Trainer, gain: f64) -> StepStats {
        let rng = Rng::new(0, Stream::Pictures, trainer.num_steps());
        let img = Tensor::from_vec(rng.normals(4 * 3 * 64), (4, 3, 8, 8), &Device::Cpu).unwrap();
        let img = (img.to_dtype(DType::F32).unwrap() * gain).unwrap();
        let rounds = trainer.draw(&Reals::new(img, None), None).unwrap();
        trainer.step(&rounds).unwrap()
    }

    fn values(trainer: &Trainer) -> Vec<f32> {
        let networks = trainer.networks();
        let vars = [tensors(&networks.g_store), tensors(&networks.d_store)].concat();
        let values = vars.iter().map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        values.collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_phase_without_a_finite_loss_moves_nothing() {
        let mut trainer = trainer();
        let d = |trainer: &Trainer| copies(&tensors(&trainer.networks().d_store)).unwrap();
        let before = d(&trainer);
        assert_eq!(step(&mut trainer, f64::NAN).num_skipped, 2); // Dmain and Dreg
        for (before, after) in before.iter().zip(d(&trainer)) {
            assert_eq!(
                (before - after)
                    .unwrap()
                    .abs()
                    .unwrap()
                    .max_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap(),
                0.0
            );
        }
        // nor does it count: Adam's first step is `lr * sign(grad)`
        let before = d(&trainer);
        assert_eq!(step(&mut trainer, 1.0).num_skipped, 0);
        assert!(values(&trainer).iter().all(|value| value.is_finite()));
        let moved = before.iter().zip(d(&trainer)).map(|(before, after)| {
            let moved = (before - after).unwrap().abs().unwrap().max_all().unwrap();
            moved.to_scalar::<f32>().unwrap()
        });
        let (most, lr) = (f64::from(moved.fold(0.0, f32::max)), 0.0025 * 16.0 / 17.0);
        assert!((most / lr - 1.0).abs() < 1e-3, "{most}");
    }

    /// Neither the other weights of a generator without numbers, nor the running means that it is
    /// part of.
    #[test]
    fn what_a_lost_generator_finds_enters_nothing() {
        let mut trainer = trainer();
        step(&mut trainer, 1.0);
        let (_, first) = trainer.networks().g_store.params().swap_remove(0);
        first.set(&(first.as_tensor() * f64::NAN).unwrap()).unwrap();
        let others = |trainer: &Trainer| {
            let Networks { g_store, d_store, .. } = trainer.networks();
            let vars = [tensors(g_store), tensors(d_store)].concat();
            copies(&vars.into_iter().filter(|var| var.id() != first.id()).collect::<Vec<_>>())
        };
        let (before, pl_mean) = (others(&trainer).unwrap(), trainer.pl_mean());
        for num_skipped in [2, 2, 2, 3] {
            assert_eq!(step(&mut trainer, 1.0).num_skipped, num_skipped); // Gmain, Dmain, 4th: Greg
        }
        assert_eq!((trainer.pl_mean(), pl_mean > 0.0), (pl_mean, true));
        for (before, after) in before.iter().zip(others(&trainer).unwrap()) {
            let off = (before - after).unwrap().abs().unwrap().max_all().unwrap();
            assert_eq!(off.to_scalar::<f32>().unwrap(), 0.0);
        }
    }

    /// Weights that are lost come back, and then move by half the learning rate: with fresh moments
    /// Adam's first step is `lr * sign(grad)`.
    #[test]
    fn lost_weights_come_back_and_learn_at_half_the_rate() {
        let mut trainer = trainer();
        step(&mut trainer, 1.0);
        assert!(trainer.remember().unwrap());
        let good = values(&trainer);
        step(&mut trainer, 1.0);
        let weight = trainer.networks().g_store.params().remove(0).1;
        weight.set(&weight.affine(0.0, f64::INFINITY).unwrap()).unwrap();
        assert!(!trainer.remember().unwrap());
        for _ in 0..5 {
            assert_eq!(trainer.num_rollbacks(), 0);
            assert!(step(&mut trainer, 1.0).num_skipped > 0);
        }
        assert_eq!((trainer.num_rollbacks(), trainer.is_lost()), (1, false));
        assert_eq!(values(&trainer), good);
        assert!(is_finite(&tensors(trainer.g_ema().unwrap())).unwrap());
        assert_eq!(step(&mut trainer, 1.0).num_skipped, 0);
        let (params, lr) = (&trainer.networks().d_params, 0.0025 * 16.0 / 17.0);
        let now = params.iter().map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let d_good = &trainer.recovery.good.as_ref().unwrap().d;
        let moved = now.zip(d_good).flat_map(|(now, good)| {
            let good = good.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            now.into_iter()
                .zip(good)
                .map(|(now, good)| f64::from((now - good).abs()))
                .collect::<Vec<_>>()
        });
        let most = moved.fold(0.0, f64::max);
        assert!((most / (lr / 2.0) - 1.0).abs() < 1e-3, "{most}");
    }

    #[test]
    fn a_run_that_stays_without_numbers_is_lost_after_three_times() {
        let mut trainer = trainer();
        assert!(trainer.remember().unwrap());
        let mut num_steps = 0;
        while !trainer.is_lost() {
            step(&mut trainer, f64::NAN);
            num_steps += 1;
        }
        assert_eq!((num_steps, trainer.num_rollbacks()), (20, 4));
        assert!(values(&trainer).iter().all(|value| value.is_finite()));
    }
}
