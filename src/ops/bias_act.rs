//! Bias, activation, gain and clamp in one pass.
//!
//! `y = clamp(act(x + b) * gain, -limit, limit)`. Linear, ReLU and leaky ReLU (all that the
//! networks here use) are fused: their slope depends on the sign of the output only, so the
//! backward pass needs nothing else, sums the bias gradient on the way, and is linear in the
//! incoming gradient: its own derivative is itself. The smooth activations are plain candle ops.
//!
//! Reference: the op of the same name in the StyleGAN2-ADA trainer (arXiv:2006.06676).

use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Storage, Tensor, WithDType, bail,
};

use super::channel_sum::{self, Sums};
use super::cpu::{bias_act as kernel, run};
use super::traced::Traced;
use super::{cancel, cost, cuda};

/// Activation functions, each with the gain that keeps the variance of its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x`
    Linear,
    /// `x` where positive, else `alpha x`; 0.2 in StyleGAN2.
    Lrelu {
        /// Slope below zero, in `0..=1`.
        alpha: f64,
    },
    /// `max(x, 0)`
    Relu,
    /// `tanh(x)`
    Tanh,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x` where positive, else `exp(x) - 1`
    Elu,
    /// The self-normalising variant of ELU (arXiv:1706.02515).
    Selu,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x sigmoid(x)`
    Swish,
}

impl Activation {
    /// StyleGAN2's leaky ReLU.
    pub const LRELU: Self = Self::Lrelu { alpha: 0.2 };

    /// The gain that goes with it: square root of 2 for those that drop half of their input.
    pub fn default_gain(self) -> f64 {
        match self {
            Self::Lrelu { .. } | Self::Relu | Self::Swish => std::f64::consts::SQRT_2,
            _ => 1.0,
        }
    }

    /// Slope below zero of the piecewise linear ones.
    fn slope(self) -> Option<f64> {
        match self {
            Self::Linear => Some(1.0),
            Self::Lrelu { alpha } => Some(alpha),
            Self::Relu => Some(0.0),
            _ => None,
        }
    }

    /// The function in candle ops.
    fn reference(self, x: &Traced) -> Result<Traced> {
        const SELU: (f64, f64) = (1.050_700_987_355_480_5, 1.673_263_242_354_377_2);
        let above_or = |below: &Traced| x.if_positive(x, below);
        let exponential = |alpha: f64| {
            let nonpositive = x.if_positive(&zeros_like(x)?, x)?;
            above_or(&nonpositive.exp()?.affine(alpha, -alpha)?)
        };
        match self {
            Self::Linear => Ok(x.clone()),
            Self::Lrelu { alpha } => above_or(&(x * alpha)?),
            Self::Relu => above_or(&(x * 0.0)?), // keeps NaN
            Self::Tanh => x.tanh(),
            Self::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip(),
            Self::Elu => exponential(1.0),
            Self::Selu => exponential(SELU.1)? * SELU.0,
            Self::Softplus => softplus(x),
            Self::Swish => x * Self::Sigmoid.reference(x)?,
        }
    }
}

/// `ln(1 + exp(x))`, element by element, without overflow: `max(x, 0) + ln(1 + exp(-|x|))`.
///
/// # Errors
/// Fails if candle does.
pub fn softplus(x: &Traced) -> Result<Traced> {
    let positive = x.if_positive(x, &zeros_like(x)?)?;
    let minus_abs = x.if_positive(&x.neg()?, x)?;
    positive + (minus_abs.exp()? + 1.0)?.log()?
}

fn zeros_like(x: &Traced) -> Result<Traced> {
    Ok(Traced::constant(&x.value().zeros_like()?))
}

/// `clamp(act(x + b) * gain)` for `x [N, C, ..]` and `b [C]`; `clamp` bounds the magnitude.
///
/// Returns the shape of `x`, differentiable to any order.
///
/// # Errors
/// Fails if `b` does not have one value per channel, if gain or clamp are not positive, or if the
/// slope of a leaky ReLU is negative.
pub fn bias_act(
    x: &Traced,
    b: Option<&Traced>,
    act: Activation,
    gain: f64,
    clamp: Option<f64>,
) -> Result<Traced> {
    let c = x.dim(1)?;
    if act.slope().is_some_and(|slope| slope < 0.0) {
        bail!("bias_act: expected a slope of at least 0, got {act:?}"); // output tells the sign
    }
    if b.is_some_and(|b| b.dims() != [c]) || gain <= 0.0 || clamp.is_some_and(|limit| limit <= 0.0)
    {
        bail!(
            "bias_act: expected a bias [{c}], gain > 0 and clamp > 0, got {:?}, {gain} and {clamp:?}",
            b.map(Traced::shape)
        );
    }
    let limit = clamp.unwrap_or(f64::INFINITY);
    match act.slope() {
        Some(slope) if cuda::has_kernels(x.device()) => {
            let zeros = || Ok(Traced::constant(&Tensor::zeros(c, x.dtype(), x.device())?));
            let b = b.map_or_else(zeros, Traced::contiguous)?;
            fused(x, &b, BiasAct { slope, gain, limit })
        }
        _ => reference(x, b, act, gain, limit),
    }
}

fn fused(x: &Traced, b: &Traced, act: BiasAct) -> Result<Traced> {
    let y = cost::clock("bias_act", || x.value().contiguous()?.apply_op2_no_bwd(b.value(), &act))?;
    let kept_y = y.clone();
    Ok(Traced::derived(y, [x, b], move |dy, wanted| {
        let is_bias_wanted = wanted.is(1);
        let sums = Sums::default();
        let dx = backward(dy, &kept_y, act, is_bias_wanted.then(|| sums.clone()))?;
        let db = wanted.of(1, || channel_sum::with_known_sums(&dx, sums))?;
        Ok([wanted.of(0, || Ok(dx))?, db])
    }))
}

/// `dx` from `dy`, linear in it; the sums of `dx` over each channel are left in `sums`.
fn backward(dy: &Traced, y: &Tensor, act: BiasAct, sums: Option<Sums>) -> Result<Traced> {
    let op = BiasActGrad { act, sums };
    let dx = cost::clock("bias_act_grad", || dy.value().contiguous()?.apply_op2_no_bwd(y, &op))?;
    let y = y.clone();
    Ok(Traced::derived(dx, [dy], move |ddx, _| Ok([Some(backward(ddx, &y, act, None)?)])))
}

/// The same in plain candle ops.
fn reference(
    x: &Traced,
    b: Option<&Traced>,
    act: Activation,
    gain: f64,
    limit: f64,
) -> Result<Traced> {
    let mut shape = vec![1; x.rank()];
    shape[1] = x.dim(1)?;
    let x = match b {
        Some(b) => x.broadcast_add(&b.reshape(shape)?)?,
        None => x.clone(),
    };
    let y = (act.reference(&x)? * gain)?;
    if limit.is_finite() { y.clamp(limit) } else { Ok(y) }
}

/// Constants of the fused op: slope below zero, gain, bound on the magnitude.
#[derive(Clone, Copy, Debug)]
pub(super) struct BiasAct {
    pub(super) slope: f64,
    pub(super) gain: f64,
    pub(super) limit: f64,
}

impl CustomOp2 for BiasAct {
    fn name(&self) -> &'static str {
        "bias-act"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        cancel::check()?;
        let plane = plane_len(x_layout);
        let y = run!(self.name(), (x, x_layout), (b, b_layout) => cuda::either!(
            (x, b);
            gpu => cuda::bias_act::forward(&gpu, (x, b), plane, *self);
            kernel::forward(x, b, plane, *self)
        ));
        Ok((y, x_layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cancel::check()?;
        let plane = plane_len(x_layout);
        let y = cuda::launch!(self.name(), (x, x_layout), (b, b_layout); gpu => {
            cuda::bias_act::forward(&gpu, (x, b), plane, *self)
        });
        Ok((y, x_layout.shape().clone()))
    }
}

/// `(dy, y) -> dx = dy * slope(y)`; linear in `dy`, and `y` only decides signs.
struct BiasActGrad {
    act: BiasAct,
    /// Receives the sum of `dx` over each channel, from the same pass.
    sums: Option<Sums>,
}

impl BiasActGrad {
    /// Channels, elements per image and channel, and whether sums are wanted.
    fn sizes(&self, layout: &Layout) -> (usize, usize, bool) {
        (layout.dims()[1], plane_len(layout), self.sums.is_some())
    }
}

impl CustomOp2 for BiasActGrad {
    fn name(&self) -> &'static str {
        "bias-act-grad"
    }

    fn cpu_fwd(
        &self,
        dy: &CpuStorage,
        dy_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.sizes(y_layout);
        let dx = run!(self.name(), (dy, dy_layout), (y, y_layout) => {
            let (dx, sums) = cuda::either!(
                (dy, y);
                gpu => cuda::bias_act::backward(&gpu, (dy, y), sizes, self.act);
                kernel::backward(dy, y, sizes, self.act)
            );
            if let (Some(left), Some(sums)) = (&self.sums, sums) {
                left.leave(Storage::Cpu(WithDType::to_cpu_storage_owned(sums)));
            }
            dx
        });
        Ok((dx, y_layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        dy: &CudaStorage,
        dy_layout: &Layout,
        y: &CudaStorage,
        y_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let dx = cuda::launch!(self.name(), (dy, dy_layout), (y, y_layout); gpu => {
            let (dx, sums) =
                cuda::bias_act::backward(&gpu, (dy, y), self.sizes(y_layout), self.act)?;
            if let (Some(left), Some(sums)) = (&self.sums, sums) {
                left.leave(Storage::Cuda(gpu.storage(sums)));
            }
            Result::Ok(dx)
        });
        Ok((dx, y_layout.shape().clone()))
    }
}

/// Elements per image and channel.
fn plane_len(layout: &Layout) -> usize {
    layout.dims()[2..].iter().product()
}

#[cfg(test)]
mod tests;
