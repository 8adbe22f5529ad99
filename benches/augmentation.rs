//! What augmentation adds to a training cycle.
//!
//! The pipe's share is timed by itself, between the phases that it is part of: whole cycles with it
//! and without differ by more for other reasons than for this one.
//!
//! `cargo bench --bench augmentation -- [RESOLUTION BATCH ROUNDS]` prints medians for the `auto`
//! configuration and `bgc` at p 0.3.

#![expect(clippy::unwrap_used, reason = "a bench has nobody to report to")]
#![expect(clippy::print_stdout, reason = "what a bench is for")]

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor, Var};
use stylegan2_c2d::augment::{AugPipe, Pipeline, Transforms};
use stylegan2_c2d::ops::rng::{Rng, Stream};
use stylegan2_c2d::ops::{self, Traced};
use stylegan2_c2d::train::phases::{Draw, Reals};
use stylegan2_c2d::train::presets::{Cfg, Overrides, train_config};
use stylegan2_c2d::train::trainer::{D_REG_INTERVAL, Trainer};

/// Strength of the augmentation.
const P: f64 = 0.3;

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let [res, batch, num_rounds] = *numbers.as_slice() else { return measure(64, 4, 5) };
    measure(res, batch, num_rounds);
}

fn measure(res: usize, batch: usize, num_rounds: usize) {
    let overrides = Overrides { batch: Some(batch), ..Overrides::default() };
    let config = train_config(Cfg::Auto, res, 0, &overrides);
    let pipeline = Pipeline::new(&AugPipe::Bgc.config(), 3, (DType::F32, &Device::Cpu)).unwrap();
    let trainer = Trainer::new(config, &Device::Cpu).unwrap();
    let pixels = Rng::new(0, Stream::Pictures, 0).normals(batch * 3 * res * res);
    let img = Tensor::from_vec(pixels, (batch, 3, res, res), &Device::Cpu).unwrap();
    let img = (img.to_dtype(DType::F32).unwrap() * 0.5).unwrap();
    let round = &trainer.draw(&Reals::new(img.clone(), None), None).unwrap()[0];
    let plain = |draw: &Draw| Draw { augment: None, ..draw.clone() };
    let (g_main, d_main) = (plain(&round.g_main), plain(&round.d_main));
    let networks = trainer.networks();
    let [mut cycles, mut shares] = [(); 2].map(|()| Vec::new());
    for turn in 0..=num_rounds {
        let phases = [
            seconds(|| networks.g_main(&g_main)),
            seconds(|| networks.d_main(&d_main, &round.reals, None)),
            seconds(|| networks.d_reg(&round.reals, None, (1.0, 1.0))) / D_REG_INTERVAL as f64,
        ];
        let draw = |phase: u64| {
            let rng = Rng::new(phase, Stream::Augment, turn as u64);
            pipeline.draw(&rng, 0, (batch, res, res), P)
        };
        let pipe = [
            seconds(|| gradient(&draw(0)?, &img)),
            seconds(|| draw(1)?.apply(&(&img).into())),
            seconds(|| draw(2)?.apply(&(&img).into())),
            seconds(|| second_order(&draw(3)?, &img)) / D_REG_INTERVAL as f64,
        ];
        if turn > 0 {
            cycles.push(phases.iter().sum::<f64>());
            shares.push(pipe.iter().sum::<f64>());
        }
    }
    let [step, pipe] = [cycles, shares].map(median);
    println!(
        "{res} px, batch {batch}: a step without Greg {step:.3} s, augmentation {pipe:.4} s, {:+.2} %",
        pipe / step * 100.0
    );
}

/// Gmain: forward, and back to the images.
fn gradient(transforms: &Transforms, img: &Tensor) -> Result<Vec<Traced>> {
    let img = Traced::variable(&Var::from_tensor(img)?);
    let loss = transforms.apply(&img)?.sqr()?.sum_all()?;
    ops::grad_with_graph(&loss, std::slice::from_ref(&img))
}

/// Dreg: forward, back, and what the gradient depends on.
fn second_order(transforms: &Transforms, img: &Tensor) -> Result<Vec<Traced>> {
    let img = Traced::variable(&Var::from_tensor(img)?);
    let loss = transforms.apply(&img)?.sqr()?.sum_all()?;
    let grads = ops::grad_with_graph(&loss, std::slice::from_ref(&img))?;
    ops::grad_with_graph(&grads[0].sqr()?.sum_all()?, std::slice::from_ref(&img))
}

fn seconds<T>(work: impl FnOnce() -> Result<T>) -> f64 {
    let start = Instant::now();
    let result = work().unwrap();
    let seconds = start.elapsed().as_secs_f64();
    drop(result);
    seconds
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
