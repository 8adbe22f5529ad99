//! Every op on a device against the processor: values, gradients, gradients of gradients.
//!
//! Derivatives are those of `L = sum(r * y + y^2 / 2) + sum(q * y)^2 / 2n` with random `r` and `q`,
//! and of `h`, the squared norm of L's gradient. The squares keep `h` from being constant where
//! the op is linear, and let each element's gradient depend on all others, so a second derivative
//! that was cut off or takes a wrong way cannot pass. All numbers come from the crate's own
//! generator: a failure repeats.
//!
//! The expected numbers are made by the processor in f64.

use candle_core::{DType, Device, Result, Shape, Tensor, Var};

use super::adam::{Adam, AdamConfig};
use super::bias_act::Activation;
use super::conv2d::conv_transpose2d;
use super::conv2d_resample::Resample;
use super::cuda;
use super::grad::{grad, grad_with_graph};
use super::rng::{Rng, Stream};
use super::upfirdn2d::{Axis, Filter, Upfirdn2d};
use super::{
    add_noise, bias_act, channel_scale, conv2d, conv2d_resample, modulated_conv2d, normals,
    upfirdn2d,
};

/// An op as a function of its differentiable arguments.
pub(super) type Op<'a> = &'a (dyn Fn(&[Tensor]) -> Result<Tensor> + Sync);

type BoxedOp = Box<dyn Fn(&[Tensor]) -> Result<Tensor> + Sync>;

/// Sizes and tensors of a test, each draw independent of the others.
pub(super) struct Draws {
    seed: u64,
    count: u64,
}

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    fn next(&mut self) -> Rng {
        self.count += 1;
        Rng::new(self.seed, Stream::Samples, self.count)
    }

    /// One of `low..=high`.
    #[cfg(test)]
    pub(super) fn size(&mut self, low: usize, high: usize) -> usize {
        low + self.next().below(0, high - low + 1)
    }

    /// Normally distributed f64.
    pub(super) fn normals(&mut self, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        Tensor::from_vec(self.next().normals(shape.elem_count()), shape, &Device::Cpu)
    }
}

/// Which part of the program an op needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The crate's own kernels.
    Kernels,
    /// Convolutions.
    Convolutions,
}

/// An op with arguments.
pub struct Case {
    /// What is computed, in a few words.
    pub name: &'static str,
    /// What it needs.
    pub part: Part,
    args: Vec<Tensor>,
    op: BoxedOp,
}

/// Largest differences, relative to the largest magnitude: of the value, the gradient of `L` and
/// that of `h`.
pub type Errors = [f64; 3];

impl Case {
    /// How far `device` is from the processor, computing in `dtype`.
    ///
    /// # Errors
    /// Fails if an op does.
    pub fn errors(&self, dtype: DType, device: &Device) -> Result<Errors> {
        let on_processor = || derivatives(&self.args, (DType::F64, &Device::Cpu), &self.op);
        let expected = cuda::on_processor(on_processor)?;
        let ours = derivatives(&self.args, (dtype, device), &self.op)?;
        let mut errors = [0.0; 3];
        for (error, (ours, expected)) in errors.iter_mut().zip(ours.iter().zip(&expected)) {
            *error = difference(ours, expected)?;
        }
        Ok(errors)
    }
}

/// All ops, with arguments that take every branch.
///
/// # Errors
/// Never, where there is memory.
pub fn cases() -> Result<Vec<Case>> {
    let mut draws = Draws::new(1);
    let mut cases = convolutions(&mut draws)?;
    cases.extend(filters(&mut draws)?);
    cases.extend(elementwise(&mut draws)?);
    cases.extend(layers(&mut draws)?);
    Ok(cases)
}

fn case(
    part: Part,
    name: &'static str,
    args: Vec<Tensor>,
    op: impl Fn(&[Tensor]) -> Result<Tensor> + Sync + 'static,
) -> Case {
    Case { name, part, args, op: Box::new(op) }
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
    let of =
        |name, args, op: Upfirdn2d| case(Part::Kernels, name, args, move |a| upfirdn2d(&a[0], &op));
    Ok(vec![
        of("upfirdn2d, twice the size", doubled, Upfirdn2d::double(&smooth)),
        of("upfirdn2d, half the size", halved, Upfirdn2d::halve(&smooth)),
        of("upfirdn2d, blur", blurred, Upfirdn2d::convolve(&smooth, blur, blur, 4.0)),
        of("upfirdn2d, any factors", odd, Upfirdn2d::correlate(&dense, y, x, 0.7)),
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
    let like = |noise: &Tensor, x: &Tensor| noise.to_dtype(x.dtype())?.to_device(x.device());
    let steps = vec![draws.normals(1000)?, draws.normals(1000)?, draws.normals(1000)?];
    let act = |a: &[Tensor], act, clamp| bias_act(&a[0], Some(&a[1]), act, 1.4, clamp);
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
            normals(&rng, 5, a[0].shape(), (a[0].dtype(), a[0].device()))
        }),
        case(part, "adam with average", steps, adam_steps),
    ])
}

/// Three steps along a gradient and its halves: parameters and their average, one after the other.
fn adam_steps(args: &[Tensor]) -> Result<Tensor> {
    let var = |x: &Tensor| Var::from_tensor(&x.detach().copy()?);
    let (param, ema) = (var(&args[0])?, [var(&args[2])?]);
    let config = AdamConfig { lr: 0.1, beta1: 0.5, beta2: 0.9, eps: 1e-8 };
    let mut adam = Adam::new(vec![param.clone()], config)?;
    for step in 0..3 {
        let grad = (args[1].detach() * 0.5f64.powi(step))?;
        adam.step(&[grad], Some((&ema, 0.9)))?;
    }
    Tensor::cat(&[param.as_detached_tensor(), ema[0].as_detached_tensor()], 0)
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
    let modulated = |a: &[Tensor], up: usize, demodulate: bool| {
        let filter = Filter::stylegan2();
        let resample = Resample { filter: &filter, up, down: 1 };
        modulated_conv2d(&a[0], &a[1], &a[2], resample, demodulate)
    };
    Ok(vec![
        case(part, "modulated_conv2d", kept, move |a| modulated(a, 1, true)),
        case(part, "modulated_conv2d, twice the size", doubled, move |a| modulated(a, 2, true)),
        case(part, "modulated_conv2d to RGB", rgb, move |a| modulated(a, 1, false)),
        case(part, "conv2d, half the size", halved[..2].to_vec(), |a| {
            let filter = Filter::stylegan2();
            let resample = Resample { filter: &filter, up: 1, down: 2 };
            conv2d_resample(&a[0], &a[1], resample, 1, 0.1)
        }),
    ])
}

pub(super) fn to_vars(args: &[Tensor], (dtype, device): (DType, &Device)) -> Result<Vec<Var>> {
    args.iter().map(|arg| Var::from_tensor(&arg.to_dtype(dtype)?.to_device(device)?)).collect()
}

pub(super) fn tensors(vars: &[Var]) -> Vec<Tensor> {
    vars.iter().map(|var| var.as_tensor().clone()).collect()
}

/// `L` for the output `y` of an op.
pub(super) fn loss(y: &Tensor) -> Result<Tensor> {
    let mut draws = Draws::new(0);
    let mut random = || draws.normals(y.shape())?.to_dtype(y.dtype())?.to_device(y.device());
    let (r, q) = (random()?, random()?);
    let coupled = ((q * y)?.sum_all()?.sqr()? / (2 * y.elem_count()) as f64)?;
    ((r * y)? + (y.sqr()? / 2.0)?)?.sum_all()? + coupled
}

pub(super) fn sum_of_squares(tensors: &[Tensor]) -> Result<Tensor> {
    let squares = tensors.iter().map(|t| t.sqr()?.sum_all()).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&squares, 0)?.sum_all()
}

/// `y`, the gradients of `L` and those of `h`.
pub(super) fn derivatives(
    args: &[Tensor],
    on: (DType, &Device),
    op: Op,
) -> Result<[Vec<Tensor>; 3]> {
    let vars = to_vars(args, on)?;
    let wanted: Vec<&Var> = vars.iter().collect();
    let y = op(&tensors(&vars))?;
    let loss = loss(&y)?;
    let first = grad(&loss, &wanted)?;
    let h = sum_of_squares(&grad_with_graph(&loss, &wanted)?)?;
    Ok([vec![y.detach()], first, grad(&h, &wanted)?])
}

/// Largest difference, relative to the largest magnitude expected anywhere.
pub(super) fn difference(ours: &[Tensor], expected: &[Tensor]) -> Result<f64> {
    let values = |x: &Tensor| {
        x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()
    };
    let (mut worst, mut scale) = (0.0, 0.0);
    for (ours, expected) in ours.iter().zip(expected) {
        let (ours, expected) = (values(ours)?, values(expected)?);
        for (ours, expected) in ours.iter().zip(&expected) {
            worst = larger(worst, (ours - expected).abs());
            scale = larger(scale, f64::abs(*expected));
        }
    }
    Ok(if scale > 0.0 { worst / scale } else { worst })
}

/// The maximum, or NaN if there is one: it must not get lost.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// f32 against f64 on the processor itself; in a build that emulates a GPU, its kernels
    /// against the processor's.
    #[test]
    #[expect(clippy::print_stdout, reason = "errors are shown with --nocapture")]
    fn every_op_on_this_device_is_that_of_the_processor() -> Result<()> {
        for case in cases()? {
            let errors = case.errors(DType::F32, &Device::Cpu)?;
            println!("{}: {:.1e} {:.1e} {:.1e}", case.name, errors[0], errors[1], errors[2]);
            // Some hundred roundings of f32, one upon the other in the second derivative.
            assert!(errors[0] < 2e-6 && errors[1] < 1e-5 && errors[2] < 5e-5, "{}", case.name);
        }
        Ok(())
    }
}
