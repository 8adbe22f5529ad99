//! Training on several devices at once: data parallel, one thread and one replica per device.
//!
//! A step is the same as on one device with the whole batch. Its rounds are dealt out in turn,
//! rank r of N does rounds r, r + N, .. of all; gradients are summed over the ranks in their
//! order, and each rank then makes the same optimizer step, so the replicas stay equal. What is
//! no gradient agrees too, where the published trainer lets each GPU go its own way: the running
//! means of `w` and of path lengths move through all rounds in their order, on every rank.
//!
//! Where each rank has one round, ranks on CPUs give the bits of one rank that does all rounds;
//! else the sum of gradients is rounded in another order.
//!
//! Not here: how ranks reach each other (`ops::collective`), and their threads (`ops::crew`).

use std::ops::Range;

use candle_core::{DType, Result, Tensor, bail};

use super::config::TrainConfig;
use super::phases::{Networks, Reals, add_to, moved_pl_mean};
use super::presets::{largest_divisor, set_batch_gpu, smaller_batch_gpu};
use super::trainer::{StepStats, Trainer};
use crate::ops::collective::Member;
use crate::ops::crew::Crew;

/// Images that a round should have: with one alone, D sees no variety within its batch.
const MIN_ROUND: usize = 2;

/// A training run on one device or several.
pub struct Ranks {
    crew: Crew,
    /// The replicas, by rank; never empty.
    pub(super) trainers: Vec<Trainer>,
}

impl Ranks {
    /// A fresh run on the devices of `members`, in f32.
    ///
    /// # Errors
    /// Fails if memory for the networks cannot be had, or as [`Ranks::with_networks`].
    pub fn new(config: &TrainConfig, members: Vec<Member>) -> Result<Self> {
        let networks = |member: &Member| {
            Networks::init(&config.g, &config.d, config.seed, (DType::F32, member.device()))
        };
        let networks = members.iter().map(networks).collect::<Result<_>>()?;
        Self::with_networks(config, members, networks)
    }

    /// A run that starts from given networks, one pair with the same values for each rank.
    ///
    /// # Errors
    /// Fails if the rounds of a step cannot be dealt out evenly, or memory for the optimizers
    /// cannot be had.
    pub fn with_networks(
        config: &TrainConfig,
        members: Vec<Member>,
        networks: Vec<Networks>,
    ) -> Result<Self> {
        let (num_ranks, num_rounds) = (members.len(), config.batch / config.batch_gpu);
        if num_ranks == 0 || networks.len() != num_ranks || !num_rounds.is_multiple_of(num_ranks) {
            bail!(
                "ranks: expected networks for each, and rounds that are a multiple of their number, \
                 got {} networks and {num_rounds} rounds for {num_ranks}",
                networks.len()
            );
        }
        let trainers = members.iter().zip(networks).map(|(member, networks)| {
            let mut trainer = Trainer::with_networks(config.clone(), networks)?;
            trainer.member = (num_ranks > 1).then(|| member.clone());
            Ok(trainer)
        });
        let trainers = trainers.collect::<Result<_>>()?;
        Ok(Self { crew: Crew::new(members)?, trainers })
    }

    /// The replica of rank 0, which stands for all.
    pub fn lead(&self) -> &Trainer {
        &self.trainers[0]
    }

    /// As [`Ranks::lead`], for what brings the average up to date.
    pub fn lead_mut(&mut self) -> &mut Trainer {
        &mut self.trainers[0]
    }

    /// All replicas, by rank.
    pub fn replicas(&self) -> &[Trainer] {
        &self.trainers
    }

    /// As [`Trainer::remember`], for all ranks, which are equal.
    ///
    /// # Errors
    /// Fails if there is not enough memory.
    pub fn remember(&mut self) -> Result<()> {
        if let [lead, others @ ..] = self.trainers.as_mut_slice() {
            lead.remember()?;
            for other in others {
                other.remember_as(lead);
            }
        }
        Ok(())
    }

    /// Makes sure that the average can be delivered: where a weight of it is not finite, all ranks go
    /// back to the last good networks.
    ///
    /// # Errors
    /// Fails if an op does.
    pub fn settle_for_good(&mut self) -> Result<()> {
        if !self.trainers[0].is_average_finite()? {
            self.trainers.iter_mut().try_for_each(Trainer::roll_back)?;
        }
        Ok(())
    }

    /// Lets a step that failed for want of memory go on in smaller rounds on every rank, and says how
    /// many images they have; `None` if that cannot be.
    ///
    /// The caller calls [`Ranks::step`] again, with the same images. Ranks that failed together were
    /// in the same phase, since each ends with an exchange.
    ///
    /// # Errors
    /// Fails if the devices cannot be connected again.
    pub fn lower_batch_gpu(&mut self) -> Result<Option<usize>> {
        let config = self.lead().config();
        let phase = self.lead().phase_to_repeat();
        let agree = |trainer: &Trainer| phase.is_some() && trainer.phase_to_repeat() == phase;
        let fits = smaller_batch_gpu(config).is_some_and(|batch_gpu| {
            (config.batch / batch_gpu).is_multiple_of(self.trainers.len())
        });
        if !fits || !self.trainers.iter().all(agree) {
            return Ok(None);
        }
        if self.trainers.len() > 1 {
            self.crew.reconnect()?;
        }
        let mut batch_gpu = None;
        for (trainer, member) in self.trainers.iter_mut().zip(self.crew.members()) {
            batch_gpu = trainer.lower_batch_gpu();
            trainer.member = (member.num_ranks() > 1).then(|| member.clone());
            // what the failed phase held is free before anything is asked for again
            trainer.device().synchronize()?;
        }
        Ok(batch_gpu)
    }

    /// One step: its random inputs, and every phase that is due.
    ///
    /// * `reals` - the `batch` images of the step, on any device.
    /// * `label_pool` - the data set's labels `[N, c_dim]`, of which generated images get some; on the
    ///   processor.
    ///
    /// # Errors
    /// As [`Trainer::step`], if any rank fails.
    pub fn step(&mut self, reals: &Reals, label_pool: Option<&Tensor>) -> Result<StepStats> {
        if let [alone] = self.trainers.as_mut_slice() {
            return step(alone, reals, label_pool);
        }
        let (reals, label_pool) = (reals.clone(), label_pool.cloned());
        let work =
            move |_: &Member, trainer: &mut Trainer| step(trainer, &reals, label_pool.as_ref());
        Ok(self.crew.on_all(&mut self.trainers, work)?[0])
    }
}

fn step(trainer: &mut Trainer, reals: &Reals, label_pool: Option<&Tensor>) -> Result<StepStats> {
    let rounds = trainer.draw(reals, label_pool)?;
    trainer.step(&rounds)
}

/// How many of `available` devices can share the work, each with rounds of its own; lowers
/// `batch_gpu` for them unless it `is_given`.
pub fn deal_out(config: &mut TrainConfig, available: usize, is_given: bool) -> usize {
    if is_given {
        return largest_divisor(config.batch / config.batch_gpu, available);
    }
    let num_ranks = largest_divisor(config.batch, available.min(config.batch / MIN_ROUND));
    let of_rank = config.batch / num_ranks;
    if config.batch_gpu > of_rank || !of_rank.is_multiple_of(config.batch_gpu) {
        set_batch_gpu(config, largest_divisor(of_rank, config.batch_gpu));
    }
    num_ranks
}

/// What this rank's rounds of a phase add up to.
#[derive(Default)]
pub(super) struct Total {
    /// Sums of gradients.
    grads: Vec<Tensor>,
    /// Means of `w [w_dim]`, one for each round, where the phase maps latents.
    pub(super) w_means: Vec<Tensor>,
    /// Means over the rounds of what the phase finds, `[K]` in f64.
    found: Option<Tensor>,
}

/// What a phase adds up to.
pub(super) struct Sums {
    /// Sums of gradients over the rounds of all ranks.
    pub(super) grads: Vec<Tensor>,
    /// Means of `w` in the rounds of all ranks, in their order.
    pub(super) w_means: Vec<Tensor>,
    /// Finite where all that was found is, on every rank; `[1]` in f64.
    pub(super) gate: Tensor,
    /// Means over the rounds of this rank, `[K]` in f64.
    pub(super) found: Tensor,
}

impl Total {
    /// Adds the gradients of a round, and its `share` of the means.
    pub(super) fn add(&mut self, grads: Vec<Tensor>, found: &Tensor, share: f64) -> Result<()> {
        let found = (found * share)?;
        let Some(sum) = self.found.take() else {
            (self.grads, self.found) = (grads, Some(found));
            return Ok(());
        };
        self.found = Some((sum + found)?);
        add_to(&mut self.grads, grads)
    }

    /// Adds numbers that are no mean over the rounds, `[K]` in f64.
    pub(super) fn add_found(&mut self, more: &Tensor) -> Result<()> {
        if let Some(found) = &mut self.found {
            *found = Tensor::cat(&[&*found, more], 0)?;
        }
        Ok(())
    }

    /// The total of all ranks' rounds.
    pub(super) fn of_all(self, member: Option<&Member>) -> Result<Sums> {
        let Self { mut grads, w_means, found: Some(found) } = self else {
            bail!("expected at least one round of a step");
        };
        let gate = found.sum_keepdim(0)?; // finite terms only have a finite sum
        let Some(member) = member else { return Ok(Sums { grads, w_means, gate, found }) };
        let num_grads = grads.len();
        grads.push(gate.to_dtype(grads[0].dtype())?);
        if let Some(first) = w_means.first() {
            // A table in which the rows of other ranks are zero: their sum has every row.
            let (rank, num_ranks, zeros) = (member.rank(), member.num_ranks(), first.zeros_like()?);
            let row = |round: usize| {
                if round % num_ranks == rank { &w_means[round / num_ranks] } else { &zeros }
            };
            let rows: Vec<&Tensor> = (0..w_means.len() * num_ranks).map(row).collect();
            grads.push(Tensor::stack(&rows, 0)?); // [rounds, w_dim]
        }
        member.all_reduce_sum(&mut grads)?;
        let mut more = grads.split_off(num_grads);
        let w_means = match more.split_off(1).pop() {
            Some(table) => {
                (0..table.dim(0)?).map(|round| table.get(round)).collect::<Result<_>>()?
            }
            None => w_means,
        };
        Ok(Sums { grads, w_means, gate: more[0].to_dtype(DType::F64)?, found })
    }
}

/// The running mean of path lengths before and after a round of every rank: where this rank's
/// round starts, and where the next ones go on; all `[1]` in f64.
pub(super) fn pl_means(
    member: Option<&Member>,
    pl_mean: &Tensor,
    lengths: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let mean_length = means([lengths])?;
    let Some(member) = member else {
        return Ok((pl_mean.clone(), moved_pl_mean(pl_mean, &mean_length)?));
    };
    let (rank, num_ranks) = (member.rank(), member.num_ranks());
    // A row in which the places of other ranks are zero: their sum has every place.
    let mut mean_lengths = [mean_length.pad_with_zeros(0, rank, num_ranks - rank - 1)?];
    member.all_reduce_sum(&mut mean_lengths)?;
    let moved = |pl_mean: &Tensor, mut ranks: Range<usize>| {
        ranks.try_fold(pl_mean.clone(), |pl_mean, rank| {
            moved_pl_mean(&pl_mean, &mean_lengths[0].narrow(0, rank, 1)?)
        })
    };
    let ours = moved(pl_mean, 0..rank)?;
    let after = moved(&ours, rank..num_ranks)?;
    Ok((ours, after))
}

/// Means over all ranks' rounds; the times are this rank's.
pub(super) fn stats_of_all(member: Option<&Member>, stats: StepStats) -> Result<StepStats> {
    let Some(member) = member else { return Ok(stats) };
    let StepStats {
        g_loss, d_loss, fake_score, real_score, real_sign, r1_penalty, pl_penalty, ..
    } = stats;
    let [r1, pl] = [r1_penalty, pl_penalty].map(Option::unwrap_or_default);
    let values = [g_loss, d_loss, fake_score, real_score, real_sign, r1, pl];
    let values = sum_over_ranks(member, &values)?;
    let mean = |idx: usize| values[idx] / member.num_ranks() as f64;
    Ok(StepStats {
        g_loss: mean(0),
        d_loss: mean(1),
        fake_score: mean(2),
        real_score: mean(3),
        real_sign: mean(4),
        r1_penalty: r1_penalty.map(|_| mean(5)),
        pl_penalty: pl_penalty.map(|_| mean(6)),
        ..stats
    })
}

fn sum_over_ranks(member: &Member, values: &[f64]) -> Result<Vec<f64>> {
    let mut sums = [Tensor::new(values, member.device())?];
    member.all_reduce_sum(&mut sums)?;
    sums[0].to_vec1()
}

/// The means of some tensors of one type and number of elements, `[N]` in f64, on their device.
pub(super) fn means<const N: usize>(tensors: [&Tensor; N]) -> Result<Tensor> {
    let rows = tensors.map(Tensor::flatten_all).into_iter().collect::<Result<Vec<_>>>()?;
    Tensor::stack(&rows, 0)?.to_dtype(DType::F64)?.mean(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::presets::{Cfg, Overrides, train_config};

    /// Ranks, `batch_gpu` and minibatch-std group for `available` devices.
    fn dealt(overrides: Overrides, available: usize) -> (usize, usize, Option<usize>) {
        let mut config = train_config(Cfg::Auto, 64, 0, &overrides);
        let num_ranks = deal_out(&mut config, available, overrides.batch_gpu.is_some());
        assert!((config.batch / config.batch_gpu).is_multiple_of(num_ranks));
        (num_ranks, config.batch_gpu, config.d.mbstd_group_size)
    }

    #[test]
    fn rounds_are_dealt_out_to_as_many_devices_as_have_work() {
        let batch = |batch: usize| Overrides { batch: Some(batch), ..Overrides::default() };
        assert_eq!(dealt(batch(16), 1), (1, 16, Some(4)));
        assert_eq!(dealt(batch(16), 2), (2, 8, Some(4)));
        assert_eq!(dealt(batch(16), 3), (2, 8, Some(4)));
        assert_eq!(dealt(batch(6), 8), (3, 2, Some(2)));
        assert_eq!(dealt(batch(4), 8), (2, 2, Some(2)));
        assert_eq!(dealt(batch(1), 2), (1, 1, Some(1)));
    }

    #[test]
    fn a_given_batch_gpu_stays() {
        let batch_gpu = |batch_gpu: usize| Overrides {
            batch: Some(16),
            batch_gpu: Some(batch_gpu),
            ..Overrides::default()
        };
        assert_eq!(dealt(batch_gpu(16), 4), (1, 16, Some(4)));
        assert_eq!(dealt(batch_gpu(4), 8), (4, 4, Some(4)));
        assert_eq!(dealt(batch_gpu(4), 3), (2, 4, Some(4)));
    }

    /// 64 images in eight rounds: two devices do four each.
    #[test]
    fn rounds_that_a_preset_has_stay() {
        let mut config = train_config(Cfg::Paper256, 256, 0, &Overrides::default());
        assert_eq!((deal_out(&mut config, 2, false), config.batch_gpu), (2, 8));
        assert_eq!((deal_out(&mut config, 16, false), config.batch_gpu), (16, 4));
    }
}
