use std::path::Path;

use candle_core::Tensor;

use super::*;
use crate::job::outputs::faults::{self, Fault};
use crate::model::weights::from_bytes;
use crate::ops::collective::connect;
use crate::ops::rng::{Rng, Stream};
use crate::train::presets::{Cfg, Overrides, train_config};

/// A run of 25 steps on made-up pictures that refreshes its files after each.
fn run(folder: &Path, seed: u64) -> Run {
    run_of(folder, seed, 0.2)
}

fn run_of(folder: &Path, seed: u64, kimg: f64) -> Run {
    let overrides = Overrides { batch: Some(8), kimg: Some(kimg), seed, ..Overrides::default() };
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

/// Images shown of the generator in a folder, which must be whole; `None` where there is none.
fn shown(folder: &Path) -> Option<u64> {
    let bytes = std::fs::read(folder.join("generator.safetensors")).ok()?;
    let (header, _) = from_bytes(&bytes, &Device::Cpu).unwrap();
    if folder.join("samples.png").exists() {
        image::open(folder.join("samples.png")).unwrap();
    }
    Some(header.cur_nimg)
}

/// Three steps to the end on a volume that fails; what is left is whole, and of the end where the run
/// says that it got there.
fn end_on(fault: Fault) -> (Option<u64>, bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut run = run_of(folder.path(), 0, 0.024);
    faults::plan(Some(fault));
    let ended = loop {
        match run.advance() {
            Ok(Some(_)) => shown(folder.path()),
            Ok(None) => break run.finish(),
            Err(error) => break Err(error),
        };
    };
    let is_pending = faults::is_pending();
    faults::plan(None);
    let nimg = shown(folder.path());
    assert!(ended.is_err() || nimg == Some(24), "{fault:?}: {nimg:?}");
    let names = std::fs::read_dir(folder.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{names:?}");
    (nimg, is_pending)
}

/// Each call to the disk of a whole run fails once, by a fault of it or for want of space.
#[test]
fn a_fault_of_the_disk_leaves_whole_files_and_no_false_success() {
    let mut num_lost = 0;
    for call in 0.. {
        let code = [libc::EIO, libc::ENOSPC][call % 2];
        let (nimg, is_pending) = end_on(Fault::Call(call, code));
        num_lost += usize::from(nimg != Some(24));
        if is_pending {
            assert!(call > 40 && num_lost > 0, "{call} calls, {num_lost} of them fatal");
            break;
        }
    }
}

/// The volume fills up, at each quarter of a MiB of what the run writes.
#[test]
fn a_volume_that_fills_up_keeps_the_files_of_before() {
    let at = |quarter: u64| end_on(Fault::Full(quarter << 18)).0;
    let kept: Vec<Option<u64>> = (0..40).map(at).take_while(|nimg| *nimg != Some(24)).collect();
    assert!(kept[0].is_none() && kept.contains(&Some(8)) && kept.len() < 40, "{kept:?}");
}
