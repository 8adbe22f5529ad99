use candle_core::Device;

use super::*;
use crate::data::{Batches, Dataset};
use crate::ops::cancel::faults;
use crate::ops::collective::connect;
use crate::ops::rng::{Rng, Stream};
use crate::train::config::{Strength, TrainConfig};
use crate::train::phases::Reals;
use crate::train::presets::{Cfg, Overrides, train_config};

/// Path length in steps 4 and 8, R1 in step 0 and 16: not in the first steps after the stop alone.
const STOP: u64 = 7;
const END: u64 = 18;

/// 8x8 pictures of two classes with networks that train in seconds.
fn config() -> TrainConfig {
    let overrides =
        Overrides { batch: Some(8), batch_gpu: Some(4), seed: 3, ..Overrides::default() };
    let mut config = train_config(Cfg::Tiny, 8, 2, &overrides);
    (config.g.z_dim, config.g.w_dim) = (16, 16);
    (config.g.channel_max, config.d.channel_max) = (8, 8);
    config.ema_kimg = 0.05; // an average of its own after some steps
    config.strength = Strength::Adaptive { target: 0.6, kimg: 1.0 };
    config
}

fn batches() -> Batches {
    let rng = Rng::new(1, Stream::Pictures, 0);
    let images = (0..20 * 3 * 64).map(|i| rng.below(i, 256) as u8).collect();
    let labels = (0..20).flat_map(|i| [f32::from(i % 2 == 0), f32::from(i % 2 == 1)]).collect();
    Batches::new(Dataset::from_raw(8, images, 2, labels).unwrap(), 3)
}

fn ranks(num_ranks: usize) -> Ranks {
    Ranks::new(&config(), connect(&vec![Device::Cpu; num_ranks]).unwrap()).unwrap()
}

fn step(ranks: &mut Ranks) -> Result<StepStats> {
    let mut batches = batches();
    let (img, c) = batches.next(ranks.lead().cur_nimg(), 8, &Device::Cpu)?;
    let label_pool = batches.label_pool()?;
    ranks.step(&Reals { img, c }, label_pool.as_ref())
}

/// Steps until `num_steps` are finished; the statistics of the last.
fn train(ranks: &mut Ranks, num_steps: u64) -> StepStats {
    let mut stats = StepStats::default();
    while ranks.lead().num_steps() < num_steps {
        stats = step(ranks).unwrap();
    }
    StepStats { seconds: [0.0; 5], ..stats }
}

type Tensors = Vec<(String, Vec<f32>)>;

fn tensors(ranks: &Ranks) -> Tensors {
    let slots = ranks.lead().slots();
    slots.iter().map(|slot| (slot.name.clone(), slot.values().unwrap())).collect()
}

/// A moment, through JSON as in a file.
fn moment(ranks: &Ranks) -> (Counters, Tensors) {
    let json = serde_json::to_string(&ranks.counters().unwrap().unwrap()).unwrap();
    (serde_json::from_str(&json).unwrap(), tensors(ranks))
}

/// A fresh run that goes on from a moment; tensors whose name begins with `but` stay as they are.
fn restored(num_ranks: usize, (counters, tensors): &(Counters, Tensors), but: &str) -> Ranks {
    let mut ranks = ranks(num_ranks);
    let mut tensors = tensors.iter();
    let read = |slot: &Slot| {
        let (name, values) = tensors.next().unwrap();
        assert_eq!((name, values.len()), (&slot.name, slot.len()));
        if name.starts_with(but) { slot.values() } else { Ok(values.clone()) }
    };
    ranks.restore::<candle_core::Error>(counters, read).unwrap();
    ranks
}

/// What a run has come to: everything.
fn outcome(ranks: &mut Ranks) -> (Tensors, Counters, StepStats) {
    let stats = train(ranks, END);
    ranks.lead_mut().g_ema().unwrap();
    let (counters, tensors) = moment(ranks);
    (tensors, counters, stats)
}

const NONE: &str = "-";

#[test]
fn a_restored_run_is_one_that_never_stopped() {
    let mut whole = ranks(1);
    train(&mut whole, STOP);
    let kept = moment(&whole);
    assert!(kept.0.pending_ema.is_some() && kept.0.pl_mean > 0.0);
    assert_ne!(kept.0.ada, Ada::new(config().strength));
    assert!(outcome(&mut restored(1, &kept, NONE)) == outcome(&mut whole));
}

#[test]
fn every_part_of_a_moment_is_needed() {
    let mut whole = ranks(1);
    train(&mut whole, STOP);
    let kept = moment(&whole);
    let whole = outcome(&mut whole);
    for but in ["g.mapping", "g.synthesis", "g.mapping.w_avg", "d.", "ema.", "adam_g.v", "adam_d.v"]
    {
        assert!(kept.1.iter().any(|(name, _)| name.starts_with(but)), "{but}");
        assert!(outcome(&mut restored(1, &kept, but)) != whole, "{but}");
    }
    let changes: [fn(&mut Counters); 8] = [
        |counters| counters.cur_nimg += 8,
        |counters| counters.pl_mean *= 1.01,
        |counters| counters.pending_ema = None,
        |counters| counters.adam_steps[0] += 1,
        |counters| counters.adam_steps[1] += 1,
        |counters| counters.grad_gain = 0.5,
        |counters| counters.ada.p = 0.5,
        |counters| counters.num_rollbacks = 1,
    ];
    for (idx, change) in changes.iter().enumerate() {
        let (mut counters, tensors) = kept.clone();
        change(&mut counters);
        assert!(outcome(&mut restored(1, &(counters, tensors), NONE)) != whole, "change {idx}");
    }
}

/// Abandoned at many places of a step with all phases: the rest of it is made after the stop.
#[test]
fn an_abandoned_step_goes_on_in_its_middle() {
    let mut whole = ranks(1);
    train(&mut whole, 16);
    let before = moment(&whole);
    let whole = outcome(&mut whole);
    let mut phases = [false; 4];
    for num_ops in (0..).step_by(60) {
        let mut ranks = restored(1, &before, NONE);
        faults::plan(&[num_ops], "cancelled");
        if step(&mut ranks).is_ok() {
            break; // the step has no more ops
        }
        let kept = moment(&ranks);
        phases[kept.0.num_phases] = true;
        assert!(outcome(&mut restored(1, &kept, NONE)) == whole, "abandoned at op {num_ops}");
    }
    faults::plan(&[], "");
    assert_eq!(phases, [true; 4], "abandoned in every phase");
}

#[test]
fn a_moment_of_moving_weights_is_not_kept() {
    let mut ranks = ranks(1);
    ranks.trainers[0].running.moves = true;
    assert_eq!(ranks.counters().unwrap(), None);
}

/// Weights that are lost skip Gmain; a step that is abandoned after it is kept with that.
#[test]
fn an_abandoned_step_keeps_what_its_phases_found() {
    let mut ranks = ranks(1);
    train(&mut ranks, 1);
    let lead = &ranks.trainers[0];
    let weight = lead.networks.d_store.params().remove(0).1;
    weight.set(&weight.affine(f64::NAN, 0.0).unwrap()).unwrap();
    let g_steps = lead.adam_g.num_steps();
    let kept = (1..).step_by(20).find_map(|num_ops| {
        faults::plan(&[num_ops], "cancelled");
        assert!(step(&mut ranks).is_err());
        let kept = ranks.counters().unwrap().unwrap();
        (kept.num_phases > 0).then_some(kept)
    });
    faults::plan(&[], "");
    let kept = kept.unwrap();
    assert_eq!((kept.num_steps, kept.stats.num_skipped, kept.skipped[0]), (1, 1, 1));
    assert_eq!(kept.adam_steps[0], g_steps);
    assert!(!kept.stats.g_loss.is_finite());
}

#[test]
fn every_rank_gets_the_same() {
    let mut two = ranks(2);
    train(&mut two, STOP);
    let kept = moment(&two);
    let mut restored = restored(2, &kept, NONE);
    assert!(outcome(&mut restored) == outcome(&mut two));
    let values = |trainer: &Trainer| {
        let slots = trainer.slots();
        slots
            .iter()
            .filter(|slot| !slot.name.starts_with("ema"))
            .map(|slot| slot.values().unwrap())
            .collect::<Vec<_>>()
    };
    let [first, second] = restored.replicas() else { panic!("two ranks") };
    assert!(values(first) == values(second));
}

/// A frozen layer's moment is kept as zeros, so that the same tensors fit whether layers are frozen
/// or not.
#[test]
fn frozen_layers_have_the_same_tensors() {
    let mut whole = ranks(1);
    train(&mut whole, STOP);
    let (counters, kept) = moment(&whole);
    let frozen = TrainConfig { freezed: config().d.freeze_limits()[0], ..config() };
    let mut frozen = Ranks::new(&frozen, connect(&[Device::Cpu]).unwrap()).unwrap();
    let mut values = kept.iter();
    let read = |_: &Slot| Ok(values.next().unwrap().1.clone());
    frozen.restore::<candle_core::Error>(&counters, read).unwrap();
    let back = tensors(&frozen);
    assert!(back.iter().map(|(name, _)| name).eq(kept.iter().map(|(name, _)| name)));
    for ((name, back), (_, kept)) in back.iter().zip(&kept) {
        let is_frozen = back.iter().all(|value| *value == 0.0) && name.starts_with("adam_d.v.");
        assert!(back == kept || is_frozen, "{name}");
    }
    assert!(back != kept);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut ranks = ranks(1);
    let (counters, _) = moment(&ranks);
    for values in [vec![], vec![f32::NAN; 1]] {
        let read =
            |slot: &Slot| Ok(if values.is_empty() { vec![] } else { vec![values[0]; slot.len()] });
        assert!(ranks.restore::<candle_core::Error>(&counters, read).is_err());
    }
    let beyond = Counters { num_phases: 5, ..counters };
    assert!(
        ranks.restore::<candle_core::Error>(&beyond, |slot| Ok(vec![0.0; slot.len()])).is_err()
    );
}

#[test]
fn statistics_keep_what_json_cannot_say() {
    let stats = StepStats {
        g_loss: f64::NAN,
        d_loss: f64::INFINITY,
        pl_penalty: Some(0.1),
        ..StepStats::default()
    };
    let json = serde_json::to_string(&stats).unwrap();
    let back: StepStats = serde_json::from_str(&json).unwrap();
    assert!(back.g_loss.is_nan() && back.d_loss == f64::INFINITY);
    assert_eq!((back.pl_penalty, back.r1_penalty), (Some(0.1), None));
}
