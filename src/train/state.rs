//! What a run is made of at one moment, to be kept and put back: it then goes on as if nothing had
//! happened, bit by bit on one processor.
//!
//! All that is random follows from seed and counters, so [`Counters`] and the tensors behind
//! [`Trainer::slots`] are everything. A step that was abandoned counts its finished phases: a phase
//! moves anything in its last act only, so a step can go on from there.
//!
//! Left out are the good networks to which a run goes back in trouble: they would double a state, and
//! a run that goes on has good ones to begin with.
//!
//! Not here: files, encryption, what may change in between ([`super::continued`]).

use candle_core::{DType, Result, Tensor, Var, bail};
use serde::{Deserialize, Serialize};

use super::ada::Ada;
use super::ranks::Ranks;
use super::recovery::ROLLBACK_LR;
use super::trainer::{PHASES, Running, StepStats, Trainer};
use crate::ops::adam::Adam;

/// The numbers beside the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Finished steps.
    pub num_steps: u64,
    /// Real images shown to D.
    pub cur_nimg: u64,
    /// Running mean of the path lengths.
    pub pl_mean: f64,
    /// Decay with which the last finished step still has to enter the average.
    pub pending_ema: Option<f64>,
    /// Steps of the optimizers of G and D.
    pub adam_steps: [u64; 2],
    /// Factor on summed gradients.
    pub grad_gain: f64,
    /// Strength of the augmentation, and what it follows.
    pub ada: Ada,
    /// Runs of a phase in a row that were skipped, by phase.
    pub skipped: [u32; 4],
    /// How often the networks went back to good ones.
    pub num_rollbacks: u32,
    /// Phases of an abandoned step that have been run, or skipped.
    pub num_phases: usize,
    /// What they found.
    pub stats: StepStats,
}

/// Statistics with every bit, also of what is not finite, which JSON cannot say. Times are left out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct StatsBits([Option<u64>; 7], u32);

impl From<StepStats> for StatsBits {
    fn from(stats: StepStats) -> Self {
        let StepStats {
            g_loss,
            d_loss,
            fake_score,
            real_score,
            real_sign,
            r1_penalty,
            pl_penalty,
            seconds: _,
            num_skipped,
        } = stats;
        let always = [g_loss, d_loss, fake_score, real_score, real_sign].map(Some);
        let [g_loss, d_loss, fake_score, real_score, real_sign] = always;
        let all = [g_loss, d_loss, fake_score, real_score, real_sign, r1_penalty, pl_penalty];
        Self(all.map(|value| value.map(f64::to_bits)), num_skipped)
    }
}

impl From<StatsBits> for StepStats {
    fn from(StatsBits(bits, num_skipped): StatsBits) -> Self {
        let [g_loss, d_loss, fake_score, real_score, real_sign, r1_penalty, pl_penalty] =
            bits.map(|bits| bits.map(f64::from_bits));
        let always = Option::unwrap_or_default;
        Self {
            g_loss: always(g_loss),
            d_loss: always(d_loss),
            fake_score: always(fake_score),
            real_score: always(real_score),
            real_sign: always(real_sign),
            r1_penalty,
            pl_penalty,
            seconds: [0.0; 5],
            num_skipped,
        }
    }
}

/// A tensor of a run: its name, its shape and the place where its values are.
pub struct Slot<'a> {
    /// `g.`, `d.` or `ema.` and the name in the network; `adam_g.v.` or `adam_d.v.` and the name of
    /// the parameter.
    pub name: String,
    /// Its shape.
    pub dims: Vec<usize>,
    place: Place<'a>,
}

enum Place<'a> {
    Variable(Var),
    SecondMoment(&'a Adam, usize),
    /// Of a parameter that is not trained: zeros, which stay.
    NoMoment,
}

impl Slot<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values of the moment, flat.
    ///
    /// # Errors
    /// Fails unless they are f32 and finite.
    pub fn values(&self) -> Result<Vec<f32>> {
        let values = match &self.place {
            Place::Variable(var) if var.dtype() == DType::F32 => var.flatten_all()?.to_vec1()?,
            Place::Variable(var) => bail!("{}: expected f32, got {:?}", self.name, var.dtype()),
            Place::SecondMoment(adam, idx) => adam.second_moment(*idx)?,
            Place::NoMoment => vec![0.0; self.len()],
        };
        self.check(&values)?;
        Ok(values)
    }

    /// Replaces the values.
    ///
    /// # Errors
    /// Fails for another number of values, and for values that are not finite.
    pub fn set(&self, values: &[f32]) -> Result<()> {
        self.check(values)?;
        match &self.place {
            Place::Variable(var) => {
                var.set(&Tensor::from_slice(values, var.shape(), var.device())?)
            }
            Place::SecondMoment(adam, idx) => adam.set_second_moment(*idx, values),
            Place::NoMoment => Ok(()),
        }
    }

    fn check(&self, values: &[f32]) -> Result<()> {
        if values.len() != self.len() || values.iter().any(|value| !value.is_finite()) {
            bail!("{}: expected {} finite values, got {}", self.name, self.len(), values.len());
        }
        Ok(())
    }
}

impl Trainer {
    /// Every tensor of the run, in an order that follows from its configuration.
    pub fn slots(&self) -> Vec<Slot<'_>> {
        let networks = &self.networks;
        let stores = [("g", &networks.g_store), ("d", &networks.d_store), ("ema", &self.g_ema)];
        let variables = stores.into_iter().flat_map(|(prefix, store)| {
            store.tensors().into_iter().map(move |(name, var)| Slot {
                name: format!("{prefix}.{name}"),
                dims: var.dims().to_vec(),
                place: Place::Variable(var),
            })
        });
        let optimizers = [
            ("adam_g", &self.adam_g, &networks.g_store),
            ("adam_d", &self.adam_d, &networks.d_store),
        ];
        let moments = optimizers.into_iter().flat_map(|(prefix, adam, store)| {
            store.params().into_iter().map(move |(name, var)| {
                let idx = adam.params().iter().position(|param| param.id() == var.id());
                Slot {
                    name: format!("{prefix}.v.{name}"),
                    dims: var.dims().to_vec(),
                    place: idx.map_or(Place::NoMoment, |idx| Place::SecondMoment(adam, idx)),
                }
            })
        });
        variables.chain(moments).collect()
    }

    /// The numbers beside [`Trainer::slots`]; `None` while weights have begun to move, or where the
    /// device does not say what phases have found.
    ///
    /// # Errors
    /// Fails if the run has diverged.
    fn counters(&self) -> Result<Option<Counters>> {
        if self.running.moves || !self.running.found.is_empty() {
            return Ok(None);
        }
        if !self.pl_mean.is_finite() {
            bail!("expected a finite mean of path lengths, got {}", self.pl_mean);
        }
        Ok(Some(Counters {
            num_steps: self.num_steps,
            cur_nimg: self.cur_nimg,
            pl_mean: self.pl_mean,
            pending_ema: self.pending_ema,
            adam_steps: [self.adam_g.num_steps(), self.adam_d.num_steps()],
            grad_gain: self.grad_gain,
            ada: self.ada,
            skipped: self.recovery.skipped,
            num_rollbacks: self.recovery.num_rollbacks,
            num_phases: self.running.num_phases,
            stats: self.running.stats,
        }))
    }

    /// Comes before the tensors: it empties the optimizers.
    fn set_counters(&mut self, counters: &Counters) -> Result<()> {
        let Counters { num_steps, cur_nimg, pl_mean, pending_ema, .. } = *counters;
        let [g_steps, d_steps] = counters.adam_steps;
        let num_phases = counters.num_phases;
        if num_phases > PHASES.len() {
            bail!("expected at most {} phases of a step, got {num_phases}", PHASES.len());
        }
        (self.num_steps, self.cur_nimg, self.pl_mean) = (num_steps, cur_nimg, pl_mean);
        (self.pending_ema, self.grad_gain) = (pending_ema, counters.grad_gain);
        self.ada = counters.ada;
        (self.recovery.skipped, self.recovery.num_rollbacks) =
            (counters.skipped, counters.num_rollbacks);
        for (adam, num_steps) in [(&mut self.adam_g, g_steps), (&mut self.adam_d, d_steps)] {
            adam.restart(ROLLBACK_LR.powi(counters.num_rollbacks as i32))?;
            adam.set_num_steps(num_steps);
        }
        self.running = Running { num_phases, stats: counters.stats, ..Running::default() };
        Ok(())
    }
}

impl Ranks {
    /// The numbers beside the tensors of the lead; `None` where a step was abandoned at a point from
    /// which it cannot go on. Statistics of a step in progress are those of the lead.
    ///
    /// # Errors
    /// Fails if the run has diverged.
    pub fn counters(&self) -> Result<Option<Counters>> {
        let phase = self.lead().phase_to_repeat();
        let agree = self.trainers.iter().all(|trainer| trainer.phase_to_repeat() == phase);
        if agree { self.lead().counters() } else { Ok(None) }
    }

    /// Puts a moment back on every rank.
    ///
    /// * `read` - called for each of [`Trainer::slots`] in their order; returns its values.
    ///
    /// # Errors
    /// Fails as `read` does, or if what comes does not fit; the run cannot be used then.
    pub fn restore<E: From<candle_core::Error>>(
        &mut self,
        counters: &Counters,
        mut read: impl FnMut(&Slot) -> std::result::Result<Vec<f32>, E>,
    ) -> std::result::Result<(), E> {
        for trainer in &mut self.trainers {
            trainer.set_counters(counters)?;
        }
        let slots: Vec<Vec<Slot>> = self.trainers.iter().map(Trainer::slots).collect();
        for (idx, slot) in slots[0].iter().enumerate() {
            let values = read(slot)?;
            slots.iter().try_for_each(|of_rank| of_rank[idx].set(&values))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
