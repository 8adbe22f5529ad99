//! Training, step by step: files g.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor, Var};
use serde_json::Value;
use stylegan2_c2d::model::{Noise, Precision, Store};
use stylegan2_c2d::train::config::{Augmentations, Strength, TrainConfig};
use stylegan2_c2d::train::draws::Round;
use stylegan2_c2d::train::phases::{Draw, Networks, Reals};
use stylegan2_c2d::train::trainer::{StepStats, Trainer};

use crate::golden::{Check, Golden, check, files};
use crate::networks::{self, labels, state_of};
use crate::{F64, GRADIENT, OUTPUT};

#[test]
fn g_trajectories() -> Result<()> {
    let files = files("g_", "_trajectory")?;
    ensure!(!files.is_empty(), "no file g_*_trajectory");
    for file in files {
        check(&file, |check| {
            trajectory(&file, DType::F32, "traj.", check)?;
            trajectory(&file, DType::F64, "traj64.", check)
        })?;
    }
    Ok(())
}

fn trainer(state: &Golden, dtype: DType) -> Result<Trainer> {
    let spec = state.json("spec")?;
    let number = |key: &str| spec[key].as_f64().with_context(|| format!("spec has no {key}"));
    let loaded = networks::Networks::load(state, &spec, "", dtype)?;
    let batch = number("batch")? as usize;
    let config = TrainConfig {
        g: loaded.g_config.clone(),
        d: loaded.d_config.clone(),
        batch,
        batch_gpu: batch,
        g_lr: number("lr")?,
        d_lr: number("lr")?,
        r1_gamma: number("r1_gamma")?,
        pl_weight: 2.0,
        style_mixing_prob: 0.0,
        ema_kimg: number("ema_nimg")? / 1000.0,
        ema_rampup: None,
        augmentations: Augmentations::default(),
        strength: Strength::Off,
        freezed: 0,
        d_warmup_kimg: 0.0,
        total_kimg: 1.0,
        precision: Precision::F32,
        seed: 0,
    };
    let networks =
        Networks::new(&loaded.g_config, &loaded.d_config, loaded.g_store, loaded.d_store)?;
    Ok(Trainer::with_networks(config, networks)?)
}

/// The inputs of iteration `it`; phases are numbered Gmain, Greg, Dmain, Dreg.
fn round(file: &Golden, dtype: DType, it: usize) -> Result<Round> {
    let z = file.get("in.traj.z", dtype)?.get(it)?;
    let c = labels(file, "in.traj.c", dtype)?.map(|c| c.get(it)).transpose()?;
    let draw = |phase: usize| -> Result<Draw> {
        let c = c.as_ref().map(|c| c.get(phase)).transpose()?;
        Ok(Draw { z: z.get(phase)?, c, mix: None, noise: Noise::Const, augment: None })
    };
    let pl_noise = file.get("in.traj.pl_noise", dtype)?.get(it)?;
    let num_pl = pl_noise.dim(0)?;
    let all = draw(1)?;
    let first = |x: &Tensor| x.narrow(0, 0, num_pl);
    let half = Draw { z: first(&all.z)?, c: all.c.as_ref().map(first).transpose()?, ..all };
    let real_c = labels(file, "in.traj.real_c", dtype)?.map(|c| c.get(it)).transpose()?;
    Ok(Round {
        reals: Reals::new(file.get("in.traj.real", dtype)?.get(it)?, real_c),
        g_main: draw(0)?,
        g_reg: Some((half, pl_noise)),
        d_main: draw(2)?,
        d_main_reals: None,
        d_reg_reals: None,
    })
}

/// Norms of a network's parameters, in the order of the file.
fn norms(store: &Store, order: &Value) -> Result<Vec<f64>> {
    let params = store.params();
    let find = |name: &str| -> Result<&Var> {
        let found = params.iter().find(|(known, _)| known == name);
        Ok(&found.with_context(|| format!("no parameter {name}"))?.1)
    };
    let names = order.as_array().context("an order")?;
    ensure!(names.len() == params.len(), "expected {} parameters", params.len());
    names.iter().map(|name| norm(find(name.as_str().context("a name")?)?)).collect()
}

fn norm(x: &Tensor) -> Result<f64> {
    Ok(x.to_dtype(DType::F64)?.sqr()?.sum_all()?.sqrt()?.to_scalar()?)
}

fn trajectory(file: &Golden, dtype: DType, prefix: &str, check: &mut Check) -> Result<()> {
    let state = state_of(file)?;
    let order = file.json("param_order")?;
    let mut trainer = trainer(&state, dtype)?;
    let iterations = file.get("in.traj.z", dtype)?.dim(0)?;
    let tolerance = |name: &str, f32_tolerance: f64| match dtype {
        DType::F64 => F64,
        _ => f32_tolerance.max(10.0 * file.seen_error(&format!("traj.{name}"))),
    };
    for it in 0..iterations {
        let stats = trainer.step(&[round(file, dtype, it)?])?;
        let g_ema = norms(trainer.g_ema()?, &order["G"])?;
        let networks = trainer.networks();
        let (g, d) =
            (norms(&networks.g_store, &order["G"])?, norms(&networks.d_store, &order["D"])?);
        for (name, ours) in [("G.norms", g), ("D.norms", d), ("G_ema.norms", g_ema)] {
            let expected = file.get(&format!("{prefix}{name}"), DType::F64)?.get(it)?;
            let ours = Tensor::new(ours, expected.device())?;
            check.close(&format!("{it}: {name}"), &ours, &expected, tolerance(name, OUTPUT))?;
        }
        let w_avg_norm = norm(networks.w_avg()?)?;
        for (name, ours) in scalars(&stats, w_avg_norm, trainer.pl_mean()) {
            let expected = file.get(&format!("{prefix}{name}"), DType::F64)?.get(it)?.mean_all()?;
            let ours = Tensor::new(ours, expected.device())?;
            check.close(&format!("{it}: {name}"), &ours, &expected, tolerance(name, GRADIENT))?;
        }
        for (name, ours) in [("pl_penalty", stats.pl_penalty), ("r1_penalty", stats.r1_penalty)] {
            let name = format!("it{it}.{name}");
            if !file.has(&format!("{prefix}{name}")) {
                ensure!(ours.is_none(), "{name}: the file has none");
                continue;
            }
            let expected = file.get(&format!("{prefix}{name}"), DType::F64)?.mean_all()?;
            let ours = Tensor::new(ours.context("expected a penalty")?, expected.device())?;
            check.close(&name, &ours, &expected, tolerance(&name, GRADIENT))?;
        }
    }
    if dtype == DType::F32 {
        finals(file, &mut trainer, check)?; // the file's are those of its f32 run
    }
    Ok(())
}

fn scalars(stats: &StepStats, w_avg_norm: f64, pl_mean: f64) -> [(&'static str, f64); 6] {
    [
        ("w_avg_norm", w_avg_norm),
        ("pl_mean", pl_mean),
        ("G_loss", stats.g_loss),
        ("D_loss", stats.d_loss),
        ("score_fake_D", stats.fake_score),
        ("score_real", stats.real_score),
    ]
}

/// Final parameters, where the file has them. A single element whose gradient is almost zero may
/// move by the learning rate either way (first steps of Adam), so means are compared.
fn finals(file: &Golden, trainer: &mut Trainer, check: &mut Check) -> Result<()> {
    let stores = [
        ("G", trainer.networks().g_store.clone()),
        ("D", trainer.networks().d_store.clone()),
        ("G_ema", trainer.g_ema()?.clone()),
    ];
    for (network, store) in stores {
        for (name, ours) in store.params() {
            let key = format!("traj.final.{network}.{name}");
            if !file.has(&key) {
                continue;
            }
            let expected = file.get(&key, DType::F64)?;
            let difference = (ours.to_dtype(DType::F64)? - &expected)?.abs()?.mean_all()?;
            let scale = expected.abs()?.max_all()?;
            let error = (difference / &scale)?;
            let tolerance = GRADIENT.max(10.0 * file.seen_error(&format!("traj.final.{network}")));
            check.close(&key, &(&error + 1.0)?, &error.ones_like()?, tolerance)?;
        }
    }
    Ok(())
}
