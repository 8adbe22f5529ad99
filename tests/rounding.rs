//! What f32 and the faster convolutions cost in accuracy, where it hurts most: gradients of
//! gradients through whole networks, against the same in f64.
//!
//! Alone in its file: the way to convolve is a setting of the whole process.

use candle_core::{DType, Device, Result, Tensor};
use stylegan2_c2d::model::Noise;
use stylegan2_c2d::ops::conv2d::{Conv, set_conv};
use stylegan2_c2d::ops::normals;
use stylegan2_c2d::ops::rng::{Rng, Stream};
use stylegan2_c2d::train::phases::{Draw, Networks, Reals};
use stylegan2_c2d::train::presets::{Cfg, Overrides, train_config};

const RES: usize = 64;
const BATCH: usize = 4;
const NUM_DRAWS: usize = 5;

/// Gradients of R1 with respect to D's weights, and of path length with respect to G's.
fn gradients(dtype: DType, seed: usize) -> Result<[Vec<Tensor>; 2]> {
    let seed = seed as u64;
    let config = train_config(Cfg::Tiny, RES, 0, &Overrides::default());
    let networks = Networks::init(&config.g, &config.d, seed, (dtype, &Device::Cpu))?;
    let draws = |part: u64, shape: &[usize]| {
        // Drawn in f32, so that either type computes with the same numbers.
        let rng = Rng::new(seed, Stream::Pictures, 0);
        normals(&rng, part, shape, (DType::F32, &Device::Cpu))?.to_dtype(dtype)
    };
    let images = [BATCH, config.g.img_channels, RES, RES];
    let reals = Reals::new((draws(0, &images)? * 0.5)?, None);
    let r1 = networks.d_reg(&reals, None, (1.0, 1.0))?.grads;
    let z = draws(1, &[BATCH, config.g.z_dim])?;
    let draw = Draw { z, c: None, mix: None, noise: Noise::Const, augment: None };
    let lengths = networks.path_lengths(&draw, &draws(2, &images)?)?;
    let pl_mean = Tensor::zeros(1, DType::F64, &Device::Cpu)?;
    Ok([r1, networks.g_reg(lengths, &pl_mean, (2.0, 1.0))?.grads])
}

/// Length of the difference, relative to the length of what is expected.
fn distance(ours: &[Tensor], expected: &[Tensor]) -> Result<f64> {
    let (mut difference, mut length) = (0.0, 0.0);
    for (ours, expected) in ours.iter().zip(expected) {
        let square = |x: Tensor| x.sqr()?.sum_all()?.to_scalar::<f64>();
        difference += square((ours.to_dtype(DType::F64)? - expected)?)?;
        length += square(expected.clone())?;
    }
    Ok((difference / length).sqrt())
}

/// The median of five draws: where an activation's sign is another in f32, a whole gradient goes
/// another way, which says nothing of its accuracy elsewhere.
#[test]
#[expect(clippy::print_stdout, reason = "errors are shown with --nocapture")]
fn regularisers_in_f32_are_those_in_f64() -> Result<()> {
    let expected = (0..NUM_DRAWS).map(|seed| gradients(DType::F64, seed));
    let expected = expected.collect::<Result<Vec<_>>>()?;
    // Of R1 and of path length, some ten times what is seen.
    for (conv, tolerances) in [(Conv::Exact, [1e-5, 1e-5]), (Conv::Fast, [1e-5, 1e-3])] {
        set_conv(conv);
        let mut errors = [Vec::new(), Vec::new()];
        for (seed, expected) in (0..).zip(&expected) {
            let ours = gradients(DType::F32, seed)?;
            for (errors, (ours, expected)) in errors.iter_mut().zip(ours.iter().zip(expected)) {
                errors.push(distance(ours, expected)?);
            }
        }
        let all = ["R1", "path length"].into_iter().zip(errors).zip(tolerances);
        for ((what, mut errors), tolerance) in all {
            errors.sort_by(f64::total_cmp);
            println!("{what}, convolutions {conv:?}: {errors:?}");
            assert!(errors[NUM_DRAWS / 2] < tolerance, "{what}, {conv:?}: {errors:?}");
        }
    }
    Ok(())
}
