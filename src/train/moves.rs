//! What each phase moves: the gradients of its rounds become a step of an optimizer.

use std::time::Instant;

use candle_core::{Result, Tensor};

use super::draws::{Phase, Round};
use super::ranks::{Total, means, pl_means};
use super::trainer::{D_REG_INTERVAL, G_REG_INTERVAL, StepStats, Trainer};

impl Trainer {
    pub(super) fn g_main(&mut self, rounds: &[Round], stats: &mut StepStats) -> Result<()> {
        let start = Instant::now();
        let mut total = Total::default();
        for round in rounds {
            let result = self.networks.g_main(&round.g_main)?;
            total.add(result.grads)?;
            total.w_means.push(result.w_mean);
            let [loss] = means([&result.loss])?;
            total.loss += loss / rounds.len() as f64;
        }
        stats.g_loss = total.loss;
        if let Some(grads) = self.settle(Phase::Gmain, total, stats)? {
            let ema = self.pending_ema.take().map(|beta| (self.g_ema_params.as_slice(), beta));
            self.adam_g.step(&grads, ema)?;
        } else {
            self.g_ema()?; // what is pending is of the last step, which stands
        }
        stats.seconds[Phase::Gmain as usize] = start.elapsed().as_secs_f64();
        Ok(())
    }

    pub(super) fn g_reg(&mut self, rounds: &[Round], stats: &mut StepStats) -> Result<()> {
        let start = Instant::now();
        let weights = (self.config.pl_weight, G_REG_INTERVAL as f64);
        let mut total = Total::default();
        let mut pl_mean = self.pl_mean;
        for round in rounds {
            let (draw, pl_noise) = &round.g_reg;
            let lengths = self.networks.path_lengths(draw, pl_noise)?;
            let (before, after) = pl_means(self.member.as_ref(), pl_mean, lengths.lengths.value())?;
            pl_mean = after;
            total.w_means.push(lengths.w_mean.clone());
            let result = self.networks.g_reg(lengths, before, weights)?;
            total.add(result.grads)?;
            let [pl_penalty] = means([&result.pl_penalty])?;
            total.loss += pl_penalty / rounds.len() as f64;
        }
        stats.pl_penalty = Some(total.loss);
        if let Some(grads) = self.settle(Phase::Greg, total, stats)? {
            self.adam_g.step(&grads, None)?;
            self.pl_mean = pl_mean;
        }
        stats.seconds[Phase::Greg as usize] = start.elapsed().as_secs_f64();
        Ok(())
    }

    pub(super) fn d_main(&mut self, rounds: &[Round], stats: &mut StepStats) -> Result<()> {
        let start = Instant::now();
        let mut total = Total::default();
        for round in rounds {
            let result =
                self.networks.d_main(&round.d_main, &round.reals, round.d_main_reals.as_ref())?;
            total.add(result.grads)?;
            total.w_means.push(result.w_mean);
            let share = 1.0 / rounds.len() as f64;
            let (fake_logits, real_logits) = (&result.fake_logits, &result.real_logits);
            let [loss, fake_score, real_score, real_sign] =
                means([&result.loss, fake_logits, real_logits, &real_logits.sign()?])?;
            total.loss += loss * share;
            stats.fake_score += fake_score * share;
            stats.real_score += real_score * share;
            stats.real_sign += real_sign * share;
        }
        stats.d_loss = total.loss;
        if let Some(grads) = self.settle(Phase::Dmain, total, stats)? {
            self.adam_d.step(&grads, None)?;
        }
        stats.seconds[Phase::Dmain as usize] = start.elapsed().as_secs_f64();
        Ok(())
    }

    pub(super) fn d_reg(&mut self, rounds: &[Round], stats: &mut StepStats) -> Result<()> {
        let start = Instant::now();
        let mut total = Total::default();
        for round in rounds {
            let weights = (self.config.r1_gamma, D_REG_INTERVAL as f64);
            let augment = round.d_reg_reals.as_ref();
            let result = self.networks.d_reg(&round.reals, augment, weights)?;
            total.add(result.grads)?;
            let [r1_penalty, real_score] = means([&result.r1_penalty, &result.real_logits])?;
            // a slope of 0 where activations are no numbers must not pass for a flat D
            total.loss += r1_penalty / rounds.len() as f64 + real_score * 0.0;
        }
        stats.r1_penalty = Some(total.loss);
        if let Some(grads) = self.settle(Phase::Dreg, total, stats)? {
            self.adam_d.step(&grads, None)?;
        }
        stats.seconds[Phase::Dreg as usize] = start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Ends the part of a phase that can be run again: the means of `w` of all ranks' rounds enter
    /// the running one, and the sums of gradients are returned.
    ///
    /// `None` where the loss of a round is not finite: the phase is skipped then, and nothing of it
    /// enters anything.
    fn settle(
        &mut self,
        phase: Phase,
        total: Total,
        stats: &mut StepStats,
    ) -> Result<Option<Vec<Tensor>>> {
        let Total { grads, w_means, loss } = total.of_all(self.member.as_ref())?;
        let is_finite = loss.is_finite();
        self.recovery.count(phase, is_finite);
        if !is_finite {
            stats.num_skipped += 1;
            return Ok(None);
        }
        let gain = self.grad_gain;
        let scaled = |grad: Tensor| if gain == 1.0 { Ok(grad) } else { grad * gain };
        let grads = grads.into_iter().map(scaled).collect::<Result<Vec<_>>>()?;
        self.running.moves = true;
        w_means.iter().try_for_each(|w_mean| self.networks.track_w_avg(w_mean))?;
        Ok(Some(grads))
    }
}
