//! Properties of training as a whole.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use candle_core::{Device, Result, Tensor};
use stylegan2_c2d::data::{Batches, Dataset};
use stylegan2_c2d::model::{Noise, Truncation, generator};
use stylegan2_c2d::train::config::TrainConfig;
use stylegan2_c2d::train::phases::Reals;
use stylegan2_c2d::train::presets::{Cfg, Overrides, train_config};
use stylegan2_c2d::train::trainer::Trainer;

/// 8x8 pictures with networks that train in seconds.
fn small(batch_gpu: usize) -> TrainConfig {
    let overrides =
        Overrides { batch: Some(8), batch_gpu: Some(batch_gpu), seed: 3, ..Overrides::default() };
    let mut config = train_config(Cfg::Tiny, 8, 0, &overrides);
    (config.g.z_dim, config.g.w_dim) = (16, 16);
    (config.g.channel_max, config.d.channel_max) = (16, 16);
    config.r1_gamma = 0.1;
    config
}

/// Pictures of one colour, somewhat lighter or darker.
fn flat_set(rgb: [u8; 3]) -> Dataset {
    let mut images = Vec::new();
    for i in 0..32u8 {
        for channel in rgb {
            images.extend([channel - 16 + i; 64]);
        }
    }
    Dataset::from_raw(8, images, 0, Vec::new()).unwrap()
}

fn train(trainer: &mut Trainer, batches: &mut Batches, steps: usize) -> Result<()> {
    for _ in 0..steps {
        let batch = trainer.config().batch;
        let (img, c) = batches.next(trainer.cur_nimg(), batch, &Device::Cpu)?;
        let rounds = trainer.draw(&Reals { img, c }, None)?;
        trainer.step(&rounds)?;
    }
    Ok(())
}

/// Mean colour of the averaged generator's images, as 0 to 255.
fn mean_colour(trainer: &mut Trainer) -> Result<Vec<f32>> {
    let g = generator(&trainer.config().g.clone(), &trainer.g_ema()?.frozen())?;
    let z =
        Tensor::from_vec(stylegan2_c2d::ops::rng::numpy_randn(0, 16 * 16), (16, 16), &Device::Cpu)?;
    let z = z.to_dtype(candle_core::DType::F32)?;
    let img = g.forward(&z, None, Truncation::NONE, Noise::Const)?;
    (img.mean((0, 2, 3))? * 127.5)?.affine(1.0, 127.5)?.to_vec1()
}

#[test]
fn a_generator_learns_the_colour_of_its_set() -> Result<()> {
    let rgb = [200u8, 60, 90];
    let far = |colour: &[f32]| -> f32 {
        colour.iter().zip(rgb).map(|(a, b)| (a - f32::from(b)).abs()).fold(0.0, f32::max)
    };
    let mut trainer = Trainer::new(small(8), &Device::Cpu)?;
    let mut batches = Batches::new(flat_set(rgb), 3);
    let before = far(&mean_colour(&mut trainer)?);
    train(&mut trainer, &mut batches, 250)?;
    let after = far(&mean_colour(&mut trainer)?);
    assert!(before > 50.0 && after < before / 3.0, "from {before} to {after}");
    Ok(())
}

/// Without minibatch statistics, the gradients of two halves average to those of the whole.
#[test]
fn two_rounds_are_one_batch() -> Result<()> {
    let mut config = small(8);
    config.d.mbstd_num_channels = 0;
    let trainer = Trainer::new(config, &Device::Cpu)?;
    let (img, c) = Batches::new(flat_set([100, 150, 200]), 3).next(0, 8, &Device::Cpu)?;
    let gradients = |start: usize, len: usize| -> Result<Vec<f32>> {
        let reals = Reals { img: img.map(|img| img.narrow(0, start, len))?, c: c.clone() };
        let grads = trainer.networks().d_reg(&reals, None, (1.0, 1.0))?.grads;
        let flat: Vec<Tensor> = grads.iter().map(Tensor::flatten_all).collect::<Result<_>>()?;
        Tensor::cat(&flat, 0)?.to_vec1()
    };
    let (whole, first, second) = (gradients(0, 8)?, gradients(0, 4)?, gradients(4, 4)?);
    let scale = whole.iter().fold(0.0, |max: f32, g| max.max(g.abs()));
    assert!(scale > 0.0);
    for (whole, (first, second)) in whole.iter().zip(first.iter().zip(&second)) {
        assert!((whole - (first + second) / 2.0).abs() <= 1e-5 * scale);
    }
    Ok(())
}

#[test]
fn the_average_is_the_generator_at_first_and_lags_later() -> Result<()> {
    let mut trainer = Trainer::new(small(8), &Device::Cpu)?;
    let mut batches = Batches::new(flat_set([10 + 16, 150, 200]), 3);
    let distance = |trainer: &mut Trainer| -> Result<f32> {
        let ema = trainer.g_ema()?.params();
        let mut sum = 0.0;
        for ((_, a), (_, b)) in ema.iter().zip(trainer.networks().g_store.params()) {
            sum += (a.as_tensor() - b.as_tensor())?.abs()?.sum_all()?.to_scalar::<f32>()?;
        }
        Ok(sum)
    };
    train(&mut trainer, &mut batches, 1)?;
    assert_eq!(distance(&mut trainer)?, 0.0); // the ramp starts with a half-life of nothing
    train(&mut trainer, &mut batches, 9)?;
    assert!(distance(&mut trainer)? > 0.0);
    Ok(())
}
