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

/// What a phase found, still on its device; in f64.
pub(super) struct Found {
    phase: Phase,
    /// Finite where the phase may move something, `[1]`.
    gate: Tensor,
    /// Means over the rounds, `[K]`, as [`Trainer::collect`] reads them.
    means: Tensor,
}

impl Trainer {
    pub(super) fn g_main(&mut self, rounds: &[Round]) -> Result<()> {
        let mut total = Total::default();
        for round in rounds {
            let result = self.networks.g_main(&round.g_main)?;
            total.add(result.grads, &means([&result.loss])?, 1.0 / rounds.len() as f64)?;
            total.w_means.push(result.w_mean);
        }
        let (grads, found) = self.settle(Phase::Gmain, total)?;
        let ema = self.pending_ema.take().map(|beta| (self.g_ema_params.as_slice(), beta));
        self.adam_g.step(&grads, ema, Some(&found.gate))?;
        self.running.found.push(found);
        Ok(())
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
        let (grads, found) = self.settle(Phase::Greg, total)?;
        self.adam_g.step(&grads, None, Some(&found.gate))?;
        self.running.found.push(found);
        Ok(())
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
        let (grads, found) = self.settle(Phase::Dmain, total)?;
        self.adam_d.step(&grads, None, Some(&found.gate))?;
        self.running.found.push(found);
        Ok(())
    }

    pub(super) fn d_reg(&mut self, rounds: &[Round]) -> Result<()> {
        let weights = (self.config.r1_gamma, D_REG_INTERVAL as f64);
        let mut total = Total::default();
        for round in rounds {
            let result = self.networks.d_reg(&round.reals, round.d_reg_reals.as_ref(), weights)?;
            // a slope of 0 where activations are no numbers must not pass for a flat D: see logits too
            let found = means([&result.r1_penalty, &result.real_logits])?;
            total.add(result.grads, &found, 1.0 / rounds.len() as f64)?;
        }
        let (grads, found) = self.settle(Phase::Dreg, total)?;
        self.adam_d.step(&grads, None, Some(&found.gate))?;
        self.running.found.push(found);
        Ok(())
    }

    /// Ends the part of a phase that can be run again: the means of `w` of all ranks' rounds enter
    /// the running one, and the sums of gradients are returned, with what the phase found.
    fn settle(&mut self, phase: Phase, total: Total) -> Result<(Vec<Tensor>, Found)> {
        let Sums { grads, w_means, gate, found } = total.of_all(self.member.as_ref())?;
        let gain = self.grad_gain;
        let scaled = |grad: Tensor| if gain == 1.0 { Ok(grad) } else { grad * gain };
        let grads = grads.into_iter().map(scaled).collect::<Result<Vec<_>>>()?;
        self.running.moves = true;
        w_means.iter().try_for_each(|w_mean| self.networks.track_w_avg(w_mean, Some(&gate)))?;
        Ok((grads, Found { phase, gate, means: found }))
    }

    /// Fetches what the phases so far have found, all of it at once. Those whose gate was shut are
    /// counted, and their steps taken back from the optimizers' counts.
    ///
    /// # Errors
    /// Fails if the device does; then all of it is still to be fetched.
    pub(super) fn collect(&mut self) -> Result<()> {
        let on_device = self.running.found.iter().flat_map(|found| [&found.gate, &found.means]);
        let on_device: Vec<&Tensor> = on_device.collect();
        if on_device.is_empty() {
            return Ok(());
        }
        cost::copied();
        let numbers: Vec<f64> = Tensor::cat(&on_device, 0)?.to_vec1()?;
        let mut rest = numbers.as_slice();
        for Found { phase, means, .. } in std::mem::take(&mut self.running.found) {
            let (of_phase, others) = rest.split_at(1 + means.elem_count());
            rest = others;
            let is_open = of_phase[0].is_finite();
            let stats = &mut self.running.stats;
            match (phase, &of_phase[1..]) {
                (Phase::Gmain, [loss]) => stats.g_loss = *loss,
                (Phase::Greg, [pl_penalty, pl_mean]) => {
                    stats.pl_penalty = Some(*pl_penalty);
                    if is_open {
                        self.pl_mean = *pl_mean;
                    }
                }
                (Phase::Dmain, [loss, fake_score, real_score, real_sign]) => {
                    (stats.d_loss, stats.real_sign) = (*loss, *real_sign);
                    (stats.fake_score, stats.real_score) = (*fake_score, *real_score);
                }
                (Phase::Dreg, [r1_penalty, _]) => stats.r1_penalty = Some(*r1_penalty),
                (_, means) => bail!("{phase:?}: unexpected number of means, {}", means.len()),
            }
            self.recovery.count(phase, is_open);
            if !is_open {
                stats.num_skipped += 1;
                let adam = match phase {
                    Phase::Gmain | Phase::Greg => &mut self.adam_g,
                    Phase::Dmain | Phase::Dreg => &mut self.adam_d,
                };
                adam.set_num_steps(adam.num_steps() - 1);
            }
        }
        Ok(())
    }
}
