use std::path::Path;

use candle_core::Tensor;

use super::*;
use crate::model::weights::from_bytes;
use crate::ops::collective::connect;
use crate::ops::rng::{Rng, Stream};
use crate::train::presets::{Cfg, Overrides, train_config};

/// A run of 25 steps on made-up pictures that refreshes its files after each.
fn run(folder: &Path, seed: u64) -> Run {
    let overrides = Overrides { batch: Some(8), kimg: Some(0.2), seed, ..Overrides::default() };
    let config = train_config(Cfg::Tiny, 8, 0, &overrides);
    let dataset =
        Dataset::from_raw(8, (0..8 * 3 * 64).map(|i| (i % 251) as u8).collect(), 0, vec![]);
    let setup = Setup {
        options: Value::Null,
        mirror: Mirror::default(),
        outputs: Outputs::open_folder(folder).unwrap(),
        keeper: None,
        stop: Arc::default(),
        snap_interval: Duration::ZERO,
        started: Instant::now(),
        max_duration: None,
        gate: Level::Report,
        audience: Audience::Home,
    };
    Run::new(dataset.unwrap(), &config, setup, connect(&[Device::Cpu]).unwrap()).unwrap()
}

/// Sets one value of a network to `value`; which, is drawn.
fn inject(run: &Run, rng: &Rng, value: f32) {
    let networks = run.ranks.lead().networks();
    let tensors = [networks.g_store.tensors(), networks.d_store.tensors()].concat();
    let (_, var) = &tensors[rng.below(0, tensors.len())];
    let mut values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let at = rng.below(1, values.len());
    values[at] = value;
    var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
}

/// Reads the weights, which refuses what is not finite, and the grid.
fn must_be_whole(folder: &Path) {
    let bytes = std::fs::read(folder.join("generator.safetensors")).unwrap();
    from_bytes(&bytes, &Device::Cpu).unwrap();
    image::open(folder.join("samples.png")).unwrap();
}

/// One broken value, at a step of its own in each of 30 runs: the run comes back and ends as it
/// should, or the value does no harm; every file is whole after every step.
#[test]
fn a_value_that_is_not_finite_does_not_reach_a_file() {
    let mut num_rollbacks = 0;
    for seed in 0..30 {
        let folder = tempfile::tempdir().unwrap();
        let mut run = run(folder.path(), seed);
        let rng = Rng::new(seed, Stream::Pictures, 1);
        let at = 1 + rng.below(2, 18) as u64;
        let value = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX][rng.below(3, 4)];
        while run.advance().unwrap().is_some() {
            must_be_whole(folder.path());
            if run.ranks.lead().num_steps() == at {
                inject(&run, &rng, value);
            }
        }
        num_rollbacks += run.num_rollbacks;
        assert_eq!(run.finish().unwrap(), Ended::Done);
        must_be_whole(folder.path());
    }
    assert!(num_rollbacks >= 15, "{num_rollbacks}: most of the values should have done harm");
}

/// A value that breaks again after every step: the run says that it is lost, with whole files.
#[test]
fn a_run_that_does_not_come_back_ends_with_good_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = run(folder.path(), 0);
    while run.advance().unwrap().is_some() {
        let (_, var) = run.ranks.lead().networks().g_store.params().remove(0);
        var.set(&var.affine(0.0, f64::NAN).unwrap()).unwrap();
    }
    assert!(run.ranks.lead().is_lost());
    assert_eq!(run.finish().unwrap(), Ended::Lost);
    must_be_whole(folder.path());
}
