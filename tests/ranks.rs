//! Several ranks train what one rank trains. CPU ranks: threads of this process.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result};
use stylegan2_c2d::data::{Batches, Dataset};
use stylegan2_c2d::model::Store;
use stylegan2_c2d::ops::cancel::{self, Cancel};
use stylegan2_c2d::ops::collective::connect;
use stylegan2_c2d::ops::rng::{Rng, Stream};
use stylegan2_c2d::train::config::TrainConfig;
use stylegan2_c2d::train::phases::{Networks, Reals};
use stylegan2_c2d::train::presets::{Cfg, Overrides, train_config};
use stylegan2_c2d::train::ranks::Ranks;
use stylegan2_c2d::train::trainer::{StepStats, Trainer};

/// All four phases at the first step, R1 once more at the last, path lengths every fourth.
const STEPS: usize = 17;
/// Images of a step.
const BATCH: usize = 8;
/// How far values of runs in f32 may be apart, and those above 1 in relation to their size: the
/// mapping networks have weights in the hundreds, whose last bit is worth 3e-5.
const F32: f64 = 1e-5;
/// The same for runs in f64, which hide nothing behind rounding.
const F64: f64 = 1e-12;

/// 8x8 pictures with networks that train in seconds.
fn config(batch_gpu: usize, c_dim: usize) -> TrainConfig {
    let overrides = Overrides {
        batch: Some(BATCH),
        batch_gpu: Some(batch_gpu),
        seed: 3,
        ..Overrides::default()
    };
    let mut config = train_config(Cfg::Tiny, 8, c_dim, &overrides);
    (config.g.z_dim, config.g.w_dim) = (16, 16);
    (config.g.channel_max, config.d.channel_max) = (16, 16);
    config.r1_gamma = 0.1;
    config
}

/// 20 pictures of noise, so that no two rounds are alike, of `c_dim` classes.
fn batches(c_dim: usize) -> Batches {
    let rng = Rng::new(1, Stream::Pictures, 0);
    let images = (0..20 * 3 * 64).map(|i| rng.below(i, 256) as u8).collect();
    let labels = (0..20 * c_dim).map(|i| if i % c_dim == i / c_dim % c_dim { 1.0 } else { 0.0 });
    Batches::new(Dataset::from_raw(8, images, c_dim, labels.collect()).unwrap(), 3)
}

fn ranks(config: &TrainConfig, num_ranks: usize, dtype: DType) -> Result<Ranks> {
    let networks = || Networks::init(&config.g, &config.d, config.seed, (dtype, &Device::Cpu));
    let networks = (0..num_ranks).map(|_| networks()).collect::<Result<_>>()?;
    Ranks::with_networks(config, connect(&vec![Device::Cpu; num_ranks])?, networks)
}

fn step(ranks: &mut Ranks, batches: &mut Batches) -> Result<StepStats> {
    let (img, c) = batches.next(ranks.lead().cur_nimg(), BATCH, &Device::Cpu)?;
    let label_pool = batches.label_pool()?;
    ranks.step(&Reals { img, c }, label_pool.as_ref())
}

/// Values of one kind, by name.
type Kind = (&'static str, Vec<f64>);

/// What a run has come to.
struct Outcome {
    kinds: Vec<Kind>,
}

fn train(config: &TrainConfig, num_ranks: usize, dtype: DType) -> Result<(Outcome, Ranks)> {
    let (mut batches, mut ranks) = (batches(config.g.c_dim), ranks(config, num_ranks, dtype)?);
    let mut stats = Vec::new();
    for _ in 0..STEPS {
        let found = step(&mut ranks, &mut batches)?;
        stats.extend([found.g_loss, found.d_loss, found.fake_score, found.real_score]);
        stats.extend([found.real_sign, found.r1_penalty.unwrap_or(0.0)]);
        stats.push(found.pl_penalty.unwrap_or(0.0));
    }
    let mut kinds = vec![("G_ema", values(ranks.lead_mut().g_ema()?)?), ("statistics", stats)];
    kinds.extend(replica(ranks.lead())?);
    Ok((Outcome { kinds }, ranks))
}

/// What every rank has of its own. The buffers of G are `w_avg` and noise that never changes.
fn replica(trainer: &Trainer) -> Result<Vec<Kind>> {
    let networks = trainer.networks();
    Ok(vec![
        ("G", values(&networks.g_store)?),
        ("D", values(&networks.d_store)?),
        ("pl_mean", vec![trainer.pl_mean(), trainer.cur_nimg() as f64]),
    ])
}

/// All parameters and buffers.
fn values(store: &Store) -> Result<Vec<f64>> {
    let mut values = Vec::new();
    for (_, tensor) in store.tensors() {
        values.extend(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
    }
    Ok(values)
}

impl Outcome {
    /// The largest difference of each kind.
    fn differences(&self, other: &Self) -> Vec<(&'static str, f64)> {
        let difference = |(a, b): (&f64, &f64)| (a - b).abs() / a.abs().max(1.0);
        let of_kind = |((name, a), (_, b)): (&Kind, &Kind)| {
            assert!(a.len() == b.len() && a.iter().all(|value| value.is_finite()), "{name}");
            (*name, a.iter().zip(b).map(difference).fold(0.0, f64::max))
        };
        self.kinds.iter().zip(&other.kinds).map(of_kind).collect()
    }

    fn assert_close(&self, other: &Self, tolerance: f64) {
        let differences = self.differences(other);
        assert!(differences.iter().all(|(_, d)| *d <= tolerance), "{differences:?}");
    }
}

/// A loss that is no number on one rank stops the phase on all, which stay equal.
#[test]
fn what_one_rank_cannot_use_moves_no_rank() -> Result<()> {
    let config = config(4, 0);
    let (mut batches, mut ranks) = (batches(0), ranks(&config, 2, DType::F32)?);
    step(&mut ranks, &mut batches)?;
    let d = |ranks: &Ranks, rank: usize| values(&ranks.replicas()[rank].networks().d_store);
    let before = d(&ranks, 0)?;
    let (img, c) = batches.next(ranks.lead().cur_nimg(), BATCH, &Device::Cpu)?;
    let img = img.map(|img| {
        let (first, second) = (img.narrow(0, 0, 4)?, img.narrow(0, 4, 4)?);
        candle_core::Tensor::cat(&[first, (second * f64::NAN)?], 0)
    })?;
    let stats = ranks.step(&Reals { img, c }, None)?;
    assert_eq!(stats.num_skipped, 1); // Dmain
    assert!(d(&ranks, 0)? == before && d(&ranks, 1)? == before);
    assert_eq!(step(&mut ranks, &mut batches)?.num_skipped, 0);
    let after = d(&ranks, 0)?;
    assert!(after != before && after == d(&ranks, 1)?);
    Ok(())
}

#[test]
fn ranks_with_one_round_each_are_one_rank() -> Result<()> {
    for (num_ranks, c_dim) in [(2, 0), (4, 3)] {
        let config = config(BATCH / num_ranks, c_dim);
        let (one, _) = train(&config, 1, DType::F32)?;
        let (several, _) = train(&config, num_ranks, DType::F32)?;
        one.assert_close(&several, F32);
    }
    Ok(())
}

#[test]
fn ranks_with_several_rounds_each_are_one_rank() -> Result<()> {
    let config = config(2, 3);
    for (dtype, tolerance) in [(DType::F32, F32), (DType::F64, F64)] {
        let (one, _) = train(&config, 1, dtype)?;
        let (two, _) = train(&config, 2, dtype)?;
        one.assert_close(&two, tolerance);
    }
    Ok(())
}

#[test]
fn the_same_ranks_give_the_same_bits_and_replicas_stay_equal() -> Result<()> {
    let config = config(2, 0);
    let (first, ranks) = train(&config, 2, DType::F32)?;
    let (second, _) = train(&config, 2, DType::F32)?;
    first.assert_close(&second, 0.0);
    let [a, b] = ranks.replicas() else { panic!("expected two replicas") };
    Outcome { kinds: replica(a)? }.assert_close(&Outcome { kinds: replica(b)? }, 0.0);
    Ok(())
}

/// However the deadline falls, the step fails on all ranks or on none.
#[test]
fn a_deadline_ends_the_step_of_all_ranks() -> Result<()> {
    for rest in [3, 40, 150] {
        let (mut batches, mut ranks) = (batches(0), ranks(&config(2, 0), 4, DType::F32)?);
        let deadline = Instant::now() + Duration::from_millis(rest);
        let cancel = Cancel { flag: None, deadline: Some(deadline) };
        let mut num_done = 0;
        let error = cancel::scope(cancel.clone(), || {
            loop {
                match step(&mut ranks, &mut batches) {
                    Ok(_) => num_done += 1,
                    Err(error) => return error,
                }
            }
        });
        assert!(cancel.is_due(), "{error}");
        assert!(deadline.elapsed() < Duration::from_secs(5));
        let counts: Vec<u64> = ranks.replicas().iter().map(Trainer::num_steps).collect();
        assert_eq!(counts, [num_done; 4]);
    }
    Ok(())
}

/// Rank 1 has networks that want labels, which this set does not have.
#[test]
fn the_failure_of_one_rank_ends_the_step_of_all() -> Result<()> {
    let config = config(4, 0);
    let networks = |c_dim: usize| {
        let (mut g, mut d) = (config.g.clone(), config.d.clone());
        (g.c_dim, d.c_dim) = (c_dim, c_dim);
        Networks::init(&g, &d, config.seed, (DType::F32, &Device::Cpu))
    };
    let members = connect(&[Device::Cpu, Device::Cpu])?;
    let mut ranks = Ranks::with_networks(&config, members, vec![networks(0)?, networks(2)?])?;
    let mut batches = batches(0);
    let error = step(&mut ranks, &mut batches).unwrap_err().to_string();
    assert!(error.contains("mapping: expected z [N, 16] and labels [N, 2]"), "{error}");
    assert!(ranks.replicas().iter().all(|trainer| trainer.num_steps() == 0));
    let again = step(&mut ranks, &mut batches).unwrap_err().to_string();
    assert!(again.contains("rank 1 gave up") || again.contains("mapping"), "{again}");
    Ok(())
}

#[test]
fn rounds_that_cannot_be_dealt_out_evenly_are_refused() {
    assert!(ranks(&config(8, 0), 2, DType::F32).is_err());
    assert!(ranks(&config(4, 0), 2, DType::F32).is_ok());
}
