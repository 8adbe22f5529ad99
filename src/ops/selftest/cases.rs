//! The ops that the self-test examines, with arguments that take every branch.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{Case, Draws, Part};
use crate::ops::adam::{Adam, AdamConfig, blend};
use crate::ops::bias_act::Activation;
use crate::ops::conv2d::conv_transpose2d;
use crate::ops::conv2d_resample::Resample;
use crate::ops::grid_sample::Affine;
use crate::ops::image_fir::Along;
use crate::ops::rng::{Rng, Stream};
use crate::ops::upfirdn2d::{Axis, Filter, Upfirdn2d};
use crate::ops::{
    Traced, add_noise, bias_act, channel_scale, conv2d, conv2d_resample, grid_sample, image_fir,
    modulated_conv2d, normals, reflect_pad, upfirdn2d,
};

/// All ops.
///
/// # Errors
/// Never, where there is memory.
pub fn cases() -> Result<Vec<Case>> {
    let mut draws = Draws::new(1);
    let mut cases = convolutions(&mut draws)?;
    cases.extend(filters(&mut draws)?);
    cases.extend(pictures(&mut draws)?);
    cases.extend(elementwise(&mut draws)?);
    cases.extend(layers(&mut draws)?);
    cases.extend(by_candle(&mut draws)?);
    Ok(cases)
}

fn case(
    part: Part,
    name: &'static str,
    args: Vec<Tensor>,
    op: impl Fn(&[Traced]) -> Result<Traced> + Sync + 'static,
) -> Case {
    let op = Box::new(op);
    Case { name, part, num_narrow: args.len(), args, narrow_gain: 1.0 / 64.0, op }
}

/// As [`case`], for a layer whose weights and styles are never of 16 bits.
fn layer(
    name: &'static str,
    args: Vec<Tensor>,
    op: impl Fn(&[Traced]) -> Result<Traced> + Sync + 'static,
) -> Case {
    Case { num_narrow: 1, ..case(Part::Convolutions, name, args, op) }
}

fn convolutions(draws: &mut Draws) -> Result<Vec<Case>> {
    let mut pair = |x: [usize; 4], w: [usize; 4]| {
        Result::Ok(vec![draws.normals(&x[..])?, draws.normals(&w[..])?])
    };
    let args = [
        pair([3, 8, 12, 13], [10, 8, 3, 3])?,
        pair([2, 64, 32, 32], [48, 64, 3, 3])?,
        pair([4, 24, 9, 9], [16, 24, 1, 1])?,
        pair([2, 16, 17, 17], [24, 16, 3, 3])?,
        pair([2, 24, 8, 8], [24, 16, 3, 3])?,
        pair([4, 33, 4, 4], [32, 33, 3, 3])?,
    ];
    let [plain, wide, pointwise, halving, doubling, last] = args;
    let part = Part::Convolutions;
    Ok(vec![
        case(part, "conv2d 3x3", plain, |a| conv2d(&a[0], &a[1], 1, 1, 0.7)),
        case(part, "conv2d 3x3, 64 channels", wide, |a| conv2d(&a[0], &a[1], 1, 1, 0.05)),
        case(part, "conv2d 1x1", pointwise, |a| conv2d(&a[0], &a[1], 1, 0, 0.2)),
        case(part, "conv2d 3x3, stride 2", halving, |a| conv2d(&a[0], &a[1], 2, 0, 0.1)),
        case(part, "conv2d transposed", doubling, |a| conv_transpose2d(&a[0], &a[1], 2, 0, 0.1)),
        case(part, "conv2d 3x3 at 4x4", last, |a| conv2d(&a[0], &a[1], 1, 1, 0.06)),
    ])
}

fn filters(draws: &mut Draws) -> Result<Vec<Case>> {
    let mut x = |shape: [usize; 4]| Result::Ok(vec![draws.normals(&shape[..])?]);
    let args = [x([3, 5, 8, 9])?, x([3, 5, 16, 18])?, x([2, 3, 17, 17])?, x([2, 3, 11, 14])?];
    let [doubled, halved, blurred, odd] = args;
    let smooth = Filter::stylegan2();
    let blur = Axis { up: 1, down: 1, pad: [1, 1] };
    let (dense, y, x) = (
        Filter::dense(&[vec![0.1, -0.2, 0.3], vec![0.5, 0.7, -1.1]])?,
        Axis { up: 3, down: 2, pad: [2, -3] },
        Axis { up: 2, down: 3, pad: [-2, 4] },
    );
    // Each derivative is smaller than the last, by the filter's gain.
    let of = |name, args, op: Upfirdn2d| Case {
        narrow_gain: 1.0 / 8.0,
        ..case(Part::Kernels, name, args, move |a| upfirdn2d(&a[0], &op))
    };
    Ok(vec![
        of("upfirdn2d, twice the size", doubled, Upfirdn2d::double(&smooth)),
        of("upfirdn2d, half the size", halved, Upfirdn2d::halve(&smooth)),
        of("upfirdn2d, blur", blurred, Upfirdn2d::convolve(&smooth, blur, blur, 4.0)),
        of("upfirdn2d, any factors", odd, Upfirdn2d::correlate(&dense, y, x, 0.7)),
    ])
}

fn pictures(draws: &mut Draws) -> Result<Vec<Case>> {
    let part = Part::Kernels;
    let mut x = |shape: [usize; 4]| Result::Ok(vec![draws.normals(&shape[..])?]);
    let args = [x([3, 6, 17, 20])?, x([70, 1, 9, 8])?, x([3, 3, 12, 14])?, x([3, 3, 12, 14])?];
    let [read, many, padded, filtered] = args;
    let taps = draws.normals((3, 7))?;
    // Turned, zoomed and moved, each image further, in part beyond its edges.
    let maps = |n: usize| -> Arc<[Affine]> {
        let map = |i: usize| {
            let (i, (sin, cos)) = (i as f64, (0.3 * i as f64).sin_cos());
            let zoom = 0.4 + 0.03 * i;
            Affine { x: [zoom * cos, -zoom * sin, 3.3 - i], y: [zoom * sin, cos, 0.7 * i - 2.0] }
        };
        (0..n).map(map).collect()
    };
    let (few, more) = (maps(3), maps(70));
    Ok(vec![
        case(part, "grid_sample", read, move |a| grid_sample(&a[0], &few, (21, 19))),
        case(part, "grid_sample, many images", many, move |a| grid_sample(&a[0], &more, (5, 6))),
        case(part, "reflect_pad", padded, |a| reflect_pad(&a[0], [11, 3], [0, 13])),
        case(part, "image_fir", filtered, move |a| {
            let taps = taps.to_dtype(a[0].dtype())?.to_device(a[0].device())?;
            image_fir(&image_fir(&a[0], &taps, Along::W, 0)?, &taps, Along::H, 3)
        }),
    ])
}

fn elementwise(draws: &mut Draws) -> Result<Vec<Case>> {
    let part = Part::Kernels;
    let big = || [3, 6, 33, 40];
    let lrelu = vec![draws.normals(&big()[..])?, draws.normals(6)?];
    let clamped = vec![draws.normals(&big()[..])?, draws.normals(6)?];
    let flat = vec![draws.normals((5, 70))?, draws.normals(70)?];
    let scaled = vec![draws.normals(&big()[..])?, draws.normals((3, 6))?];
    let noisy = vec![draws.normals(&big()[..])?, draws.normals(())?];
    let shared = vec![draws.normals(&big()[..])?, draws.normals(())?];
    let noise = draws.normals((3, 1, 33, 40))?;
    let one = draws.normals((1, 1, 33, 40))?;
    let like = |noise: &Tensor, x: &Traced| noise.to_dtype(x.dtype())?.to_device(x.device());
    let steps = vec![draws.normals(1000)?, draws.normals(1000)?, draws.normals(1000)?];
    let act = |a: &[Traced], act, clamp| bias_act(&a[0], Some(&a[1]), act, 1.4, clamp);
    Ok(vec![
        case(part, "bias_act, leaky ReLU", lrelu, move |a| act(a, Activation::LRELU, None)),
        case(part, "bias_act, clamped", clamped, move |a| act(a, Activation::LRELU, Some(0.8))),
        case(part, "bias_act, linear", flat, move |a| act(a, Activation::Linear, None)),
        case(part, "channel_scale", scaled, |a| channel_scale(&a[0], &a[1])),
        case(part, "noise of each image", noisy, move |a| {
            add_noise(&a[0], &like(&noise, &a[0])?, &a[1])
        }),
        case(part, "noise of all images", shared, move |a| {
            add_noise(&a[0], &like(&one, &a[0])?, &a[1])
        }),
        case(part, "draws of N(0, 1)", vec![Tensor::zeros(1001, DType::F64, &Device::Cpu)?], |a| {
            let rng = Rng::new(7, Stream::LayerNoise, 1 << 40 | 3);
            let draws = normals(&rng, 5, a[0].shape(), (a[0].dtype(), a[0].device()))?;
            Ok(Traced::constant(&draws))
        }),
        case(Part::Optimizer, "adam with average", steps, adam_steps),
    ])
}

/// Steps along a gradient and its halves with an average and without, of which every other one is not
/// let through, and the average brought up to date, likewise: parameters and average, one after the
/// other.
fn adam_steps(args: &[Traced]) -> Result<Traced> {
    let var = |x: &Traced| Var::from_tensor(&x.value().copy()?);
    let (param, ema) = (var(&args[0])?, [var(&args[2])?]);
    let config = AdamConfig { lr: 0.1, beta1: 0.5, beta2: 0.9, eps: 1e-8 };
    let mut adam = Adam::new(vec![param.clone()], config)?;
    for (step, gate) in [1.0, f64::NAN, -2.0, f64::INFINITY, 0.0].into_iter().enumerate() {
        let grad = (args[1].value() * 0.5f64.powi(step as i32))?;
        let gate = Some(&Tensor::full(gate, 1, param.device())?);
        adam.step(std::slice::from_ref(&grad), Some((&ema, 0.9)), gate)?;
        adam.step(&[grad], None, gate)?;
        blend(&ema[0], &param, 0.75, gate)?;
    }
    let both = [param.as_detached_tensor(), ema[0].as_detached_tensor()];
    Ok(Traced::constant(&Tensor::cat(&both, 0)?))
}

fn layers(draws: &mut Draws) -> Result<Vec<Case>> {
    let mut args = |x: [usize; 4], w: [usize; 4]| {
        let styles = draws.normals((x[0], x[1]))?;
        Result::Ok(vec![draws.normals(&x[..])?, draws.normals(&w[..])?, styles])
    };
    let (kept, doubled) =
        (args([3, 12, 9, 10], [14, 12, 3, 3])?, args([2, 12, 8, 8], [10, 12, 3, 3])?);
    let (rgb, halved) = (args([3, 16, 8, 8], [3, 16, 1, 1])?, args([2, 9, 16, 16], [7, 9, 3, 3])?);
    let part = Part::Convolutions;
    let modulated = |a: &[Traced], up: usize, demodulate: bool| {
        let filter = Filter::stylegan2();
        let resample = Resample { filter: &filter, up, down: 1 };
        modulated_conv2d(&a[0], &a[1], &a[2], resample, demodulate)
    };
    Ok(vec![
        layer("modulated_conv2d", kept, move |a| modulated(a, 1, true)),
        layer("modulated_conv2d, twice the size", doubled, move |a| modulated(a, 2, true)),
        layer("modulated_conv2d to RGB", rgb, move |a| modulated(a, 1, false)),
        case(part, "conv2d, half the size", halved[..2].to_vec(), |a| {
            let filter = Filter::stylegan2();
            let resample = Resample { filter: &filter, up: 1, down: 2 };
            conv2d_resample(&a[0], &a[1], resample, 1, 0.1)
        }),
    ])
}

/// What the networks and the augmentations leave to candle.
fn by_candle(draws: &mut Draws) -> Result<Vec<Case>> {
    let part = Part::Candle;
    let colors = vec![
        draws.normals((35, 3, 12, 13))?,
        draws.normals((35, 3, 3))?,
        draws.normals((35, 3, 1))?,
    ];
    let affine = vec![draws.normals((9, 33))?, draws.normals((20, 33))?];
    let moved = vec![draws.normals((5, 3, 6, 7))?];
    let grouped = vec![draws.normals((8, 6, 4, 4))?];
    Ok(vec![
        case(part, "matrix of each image", colors, |a| {
            let x = a[0].flatten_from(2)?;
            a[1].matmul(&x)?.broadcast_add(&a[2])?.reshape(a[0].shape())
        }),
        case(part, "matrix product", affine, |a| a[0].matmul(&a[1].t()?)),
        case(part, "some images of a batch", moved, |a| {
            let indices = |idx: &[u32]| Tensor::new(idx, a[0].device());
            let doubled = (a[0].index_select(&indices(&[1, 3, 4])?, 0)? * 2.0)?;
            Traced::cat(&[a[0].clone(), doubled], 0)?.index_select(&indices(&[0, 5, 2, 6, 7])?, 0)
        }),
        case(part, "deviation within a group", grouped, |a| {
            let x = a[0].reshape((4, 2, 6, 4, 4))?;
            let x = x.broadcast_sub(&x.mean_keepdim(0)?)?;
            let deviation = (x.sqr()?.mean_keepdim(0)? + 1e-8)?.sqrt()?.mean_keepdim((2, 3, 4))?;
            deviation.broadcast_as((4, 2, 6, 4, 4))?.reshape((8, 6, 4, 4))
        }),
    ])
}
