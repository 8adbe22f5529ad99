//! What each phase moves: the gradients of its rounds become a step of an optimizer.
//!
//! A phase asks its device for everything and waits for nothing. What it finds stays there until the
//! step ends ([`Trainer::collect`]), and so does the answer to whether it may move anything: its
//! gate, the sum of all that it found. Where that is not finite the phase is skipped.

use candle_core::{Result, Tensor, bail};

use super::draws::{Phase, Round};
use super::ranks::{Sums, Total, means, pl_means};
use super::trainer::{D_REG_INTERVAL, G_REG_INTERVAL, Trainer};
use crate::ops::cost;

/// What a phase found, still on its device.
pub(super) struct Found {
    phase: Phase,
    /// The gate, then the means of [`Trainer::collect`]; in f64.
    numbers: Tensor,
}

impl Trainer {
    pub(super) fn g_main(&mut self, rounds: &[Round]) -> Result<()> {
        let mut total = Total::default();
        for round in rounds {
            let result = self.networks.g_main(&round.g_main)?;
            total.add(result.grads, &means([&result.loss])?, 1.0 / rounds.len() as f64)?;
            total.w_means.push(result.w_mean);
        }
        let (grads, gate) = self.settle(Phase::Gmain, total)?;
        let ema = self.pending_ema.take().map(|beta| (self.g_ema_params.as_slice(), beta));
        self.adam_g.step(&grads, ema, Some(&gate))
    }

    pub(super) fn g_reg(&mut self, rounds: &[Round]) -> Result<()> {
        let weights = (self.config.pl_weight, G_REG_INTERVAL as f64);
        let mut total = Total::default();
        let mut pl_mean = Tensor::full(self.pl_mean, 1, self.device())?;
        for round in rounds {
            let Some((draw, pl_noise)) = &round.g_reg else {
                bail!("expected latents for a path length");
            };
            let lengths = self.networks.path_lengths(draw, pl_noise)?;
            let values = lengths.lengths.value();
            let (before, after) = pl_means(self.member.as_ref(), &pl_mean, values)?;
            pl_mean = after;
            total.w_means.push(lengths.w_mean.clone());
            let result = self.networks.g_reg(lengths, &before, weights)?;
            total.add(result.grads, &means([&result.pl_penalty])?, 1.0 / rounds.len() as f64)?;
        }
        total.add_found(&pl_mean)?;
        let (grads, gate) = self.settle(Phase::Greg, total)?;
        self.adam_g.step(&grads, None, Some(&gate))
    }

    pub(super) fn d_main(&mut self, rounds: &[Round]) -> Result<()> {
        let mut total = Total::default();
        for round in rounds {
            let result =
                self.networks.d_main(&round.d_main, &round.reals, round.d_main_reals.as_ref())?;
            let (fake_logits, real_logits) = (&result.fake_logits, &result.real_logits);
            let found = means([&result.loss, fake_logits, real_logits, &real_logits.sign()?])?;
            total.add(result.grads, &found, 1.0 / rounds.len() as f64)?;
            total.w_means.push(result.w_mean);
        }
        let (grads, gate) = self.settle(Phase::Dmain, total)?;
        self.adam_d.step(&grads, None, Some(&gate))
    }

    pub(super) fn d_reg(&mut self, rounds: &[Round]) -> Result<()> {
        let weights = (self.config.r1_gamma, D_REG_INTERVAL as f64);
        let mut total = Total::default();
        for round in rounds {
            let result = self.networks.d_reg(&round.reals, round.d_reg_reals.as_ref(), weights)?;
            let found = means([&result.r1_penalty, &result.real_logits])?;
            total.add(result.grads, &found, 1.0 / rounds.len() as f64)?;
        }
        let (grads, gate) = self.settle(Phase::Dreg, total)?;
        self.adam_d.step(&grads, None, Some(&gate))
    }

    /// Ends the part of a phase that can be run again: the means of `w` of all ranks' rounds enter
    /// the running one, and the sums of gradients are returned, with the gate of what they move.
    fn settle(&mut self, phase: Phase, total: Total) -> Result<(Vec<Tensor>, Tensor)> {
        let Sums { grads, w_means, gate, found } = total.of_all(self.member.as_ref())?;
        let gain = self.grad_gain;
        let scaled = |grad: Tensor| if gain == 1.0 { Ok(grad) } else { grad * gain };
        let grads = grads.into_iter().map(scaled).collect::<Result<Vec<_>>>()?;
        self.running.moves = true;
        let numbers = Tensor::cat(&[&gate, &found], 0)?;
        self.running.found.push(Found { phase, numbers });
        w_means.iter().try_for_each(|w_mean| self.networks.track_w_avg(w_mean, Some(&gate)))?;
        Ok((grads, gate))
    }

    /// Fetches what the phases so far have found, all of it at once, and counts those whose gate was
    /// shut.
    ///
    /// # Errors
    /// Fails if the device does; then the step cannot go on.
    pub(super) fn collect(&mut self) -> Result<()> {
        let all = std::mem::take(&mut self.running.found);
        let numbers: Vec<&Tensor> = all.iter().map(|found| &found.numbers).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        cost::copied();
        let numbers = Tensor::cat(&numbers, 0)?.to_vec1::<f64>();
        let mut numbers = match numbers {
            Ok(numbers) => numbers.into_iter(),
            Err(error) => {
                self.running.moves = true; // whether weights have moved nobody knows
                return Err(error);
            }
        };
        let mut next = || numbers.next().unwrap_or(f64::NAN);
        for Found { phase, .. } in all {
            let is_open = next().is_finite();
            let stats = &mut self.running.stats;
            match phase {
                Phase::Gmain => stats.g_loss = next(),
                Phase::Greg => {
                    let (pl_penalty, pl_mean) = (next(), next());
                    stats.pl_penalty = Some(pl_penalty);
                    if is_open {
                        self.pl_mean = pl_mean;
                    }
                }
                Phase::Dmain => {
                    stats.d_loss = next();
                    (stats.fake_score, stats.real_score) = (next(), next());
                    stats.real_sign = next();
                }
                // a slope of 0 where activations are no numbers must not pass for a flat D
                Phase::Dreg => stats.r1_penalty = Some(next() + 0.0 * next()),
            }
            stats.num_skipped += u32::from(!is_open);
            self.recovery.count(phase, is_open);
        }
        Ok(())
    }
}
