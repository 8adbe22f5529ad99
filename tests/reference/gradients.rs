//! Losses and gradients of the four phases: files f.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};
use stylegan2_c2d::model::{Noise, Store};
use stylegan2_c2d::train::phases::{Draw, Networks, Reals, moved_pl_mean};

use crate::golden::{Check, Golden, check, files};
use crate::networks::{self, labels, state_of};
use crate::{F64, GRADIENT, OUTPUT, SECOND_ORDER};

#[test]
fn f_gradients_in_f32() -> Result<()> {
    check_files("_grads", DType::F32)
}

#[test]
fn f_gradients_in_f64() -> Result<()> {
    check_files("_grads_f64", DType::F64)
}

fn check_files(suffix: &str, dtype: DType) -> Result<()> {
    let files = files("f_", suffix)?;
    ensure!(!files.is_empty(), "no file f_*{suffix}");
    for file in files {
        check(&file, |check| phases(&file, dtype, check))?;
    }
    Ok(())
}

/// Fresh networks with the state of the golden file: `w_avg` is moved after every phase.
fn fresh(state: &Golden, dtype: DType) -> Result<Networks> {
    let loaded = networks::Networks::load(state, &state.json("spec")?, "", dtype)?;
    Ok(Networks::new(&loaded.g_config, &loaded.d_config, loaded.g_store, loaded.d_store)?)
}

/// Tolerance of a quantity: ours, or ten times what the reference itself loses in f32.
struct Tolerances<'a> {
    file: &'a Golden,
    dtype: DType,
}

impl Tolerances<'_> {
    fn of(&self, key: &str, f32_tolerance: f64) -> f64 {
        if self.dtype == DType::F64 {
            return F64;
        }
        f32_tolerance.max(10.0 * self.file.seen_error(key))
    }
}

fn phases(file: &Golden, dtype: DType, check: &mut Check) -> Result<()> {
    let state = state_of(file)?;
    let spec = state.json("spec")?;
    let get = |name: &str| state.get(name, dtype);
    let tolerances = Tolerances { file, dtype };
    let mut close = |name: &str, ours: &Tensor, tolerance: f64| {
        let expected = file.get(name, dtype)?;
        let ours = ours.reshape(expected.shape())?;
        check.close(name, &ours, &expected, tolerances.of(name, tolerance))
    };
    let c = labels(&state, "in.c", dtype)?;
    let draw =
        Draw { z: get("in.z")?, c: c.clone(), mix: None, noise: Noise::Const, augment: None };
    let reals = Reals::new(get("in.real")?, labels(&state, "in.real_c", dtype)?);

    let n = fresh(&state, dtype)?;
    let g_main = n.g_main(&draw)?;
    close("Gmain.Loss/scores/fake", &g_main.fake_logits, OUTPUT)?;
    close("Gmain.Loss/G/loss", &g_main.loss, OUTPUT)?;
    n.track_w_avg(&g_main.w_mean, None)?;
    close("Gmain.w_avg_after", n.w_avg()?, OUTPUT)?;
    let g_main_grads = named(&n.g_store, g_main.grads);

    let n = fresh(&state, dtype)?;
    let num_pl = draw.z.dim(0)? / 2;
    let first = |x: &Tensor| x.narrow(0, 0, num_pl);
    let half = Draw { z: first(&draw.z)?, c: c.as_ref().map(first).transpose()?, ..draw.clone() };
    let pl_mean = get("in.pl_mean0")?.to_dtype(DType::F64)?.reshape(1)?;
    let lengths = n.path_lengths(&half, &get("in.pl_noise")?)?;
    n.track_w_avg(&lengths.w_mean, None)?;
    let mean_length = lengths.lengths.value().to_dtype(DType::F64)?.mean_keepdim(0)?;
    let g_reg = n.g_reg(lengths, &pl_mean, (2.0, 1.0))?;
    close("Greg.Loss/pl_penalty", &g_reg.pl_penalty, SECOND_ORDER)?;
    close("Greg.Loss/G/reg", &(&g_reg.pl_penalty * 2.0)?, SECOND_ORDER)?;
    let moved = moved_pl_mean(&pl_mean, &mean_length)?.reshape(())?;
    close("Greg.pl_mean_after", &moved, OUTPUT)?;
    close("Greg.w_avg_after", n.w_avg()?, OUTPUT)?;
    let g_reg_grads = named(&n.g_store, g_reg.grads);

    let n = fresh(&state, dtype)?;
    let d_main = n.d_main(&draw, &reals, None)?;
    close("Dmain.Loss/scores/fake", &d_main.fake_logits, OUTPUT)?;
    close("Dmain.Loss/scores/real", &d_main.real_logits, OUTPUT)?;
    close("Dmain.Loss/D/loss", &d_main.loss, OUTPUT)?;
    n.track_w_avg(&d_main.w_mean, None)?;
    close("Dmain.w_avg_after", n.w_avg()?, OUTPUT)?;
    let d_main_grads = named(&n.d_store, d_main.grads);

    let n = fresh(&state, dtype)?;
    let r1_gamma = spec["r1_gamma"].as_f64().unwrap_or(0.0);
    let d_reg = n.d_reg(&reals, None, (r1_gamma, 1.0))?;
    close("Dreg.Loss/scores/real", &d_reg.real_logits, OUTPUT)?;
    close("Dreg.Loss/r1_penalty", &d_reg.r1_penalty, SECOND_ORDER)?;
    close("Dreg.Loss/D/reg", &(&d_reg.r1_penalty * (r1_gamma / 2.0))?, SECOND_ORDER)?;
    let d_reg_grads = named(&n.d_store, d_reg.grads);

    let all = [
        ("Gmain", g_main_grads, GRADIENT),
        ("Greg", g_reg_grads, SECOND_ORDER),
        ("Dmain", d_main_grads, GRADIENT),
        ("Dreg", d_reg_grads, SECOND_ORDER),
    ];
    for (phase, grads, tolerance) in all {
        gradients(file, phase, &grads, tolerances.of(&format!("{phase}.grad"), tolerance), check)?;
    }
    Ok(())
}

fn named(store: &Store, grads: Vec<Tensor>) -> Vec<(String, Tensor)> {
    store.params().into_iter().map(|(name, _)| name).zip(grads).collect()
}

/// Every gradient of a phase; where the file has none, ours must be zero.
fn gradients(
    file: &Golden,
    phase: &str,
    grads: &[(String, Tensor)],
    tolerance: f64,
    check: &mut Check,
) -> Result<()> {
    for (name, ours) in grads {
        let key = format!("{phase}.grad.{name}");
        let expected =
            if file.has(&key) { file.get(&key, ours.dtype())? } else { ours.zeros_like()? };
        check.close(&key, ours, &expected, tolerance)?;
    }
    Ok(())
}
