//! The layers that both networks are made of.
//!
//! Weights are drawn from N(0, 1) and scaled at run time by `1 / sqrt(fan_in)`, so that all of
//! them learn at the same speed ("equalized learning rate").
//!
//! Reference: Karras et al. 2018, arXiv:1710.10196, section 4.1; arXiv:1912.04958.

use candle_core::{D, Result, bail};
use candle_nn::{Init, VarBuilder};

use crate::ops::bias_act::Activation;
use crate::ops::conv2d_resample::Resample;
use crate::ops::upfirdn2d::Filter;
use crate::ops::{Traced, bias_act, conv2d_resample};

/// The standard normal distribution.
pub(super) const NORMAL: Init = Init::Randn { mean: 0.0, stdev: 1.0 };

/// `x / sqrt(mean(x^2) + 1e-8)` over the last dimension of `x [N, C]`.
///
/// # Errors
/// Fails if `x` has no last dimension.
pub fn normalize_2nd_moment(x: &Traced) -> Result<Traced> {
    let norm = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-8)?.sqrt()?;
    x.broadcast_div(&norm)
}

/// Appends `num_channels` channels that hold the standard deviation of the features within groups
/// of images, so that D sees the variety of a batch.
///
/// * `x` - `[N, C, H, W]`; N a multiple of the group size, C of `num_channels`.
/// * `group_size` - at most N are used; absent: N. Members of a group are `N / group` apart.
///
/// Returns `[N, C + num_channels, H, W]`.
///
/// # Errors
/// Fails if the batch cannot be divided into groups.
///
/// Reference: Karras et al. 2018, arXiv:1710.10196, section 3.
pub fn minibatch_std(x: &Traced, group_size: Option<usize>, num_channels: usize) -> Result<Traced> {
    let (n, c, h, w) = x.dims4()?;
    let group = group_size.unwrap_or(n).min(n).max(1);
    if n % group != 0 || num_channels == 0 || c % num_channels != 0 {
        bail!(
            "minibatch std: expected a batch that is a multiple of {group} and channels of {num_channels}, got [{n}, {c}]"
        );
    }
    let (groups, features) = (n / group, c / num_channels);
    let y = x.reshape((group, groups * num_channels, features * h * w))?; // [G, n F, c H W]
    let y = y.broadcast_sub(&y.mean_keepdim(0)?)?;
    let y = (y.sqr()?.mean(0)? + 1e-8)?.sqrt()?.mean(1)?; // [n F]
    let y = y.reshape((1, groups, num_channels, 1, 1))?;
    let y = y.broadcast_as((group, groups, num_channels, h, w))?;
    Traced::cat(&[x.clone(), y.reshape((n, num_channels, h, w))?], 1)
}

/// Fully connected layer with run-time scaling.
#[derive(Clone, Debug)]
pub struct FullyConnected {
    weight: Traced,
    bias: Traced,
    weight_gain: f64,
    bias_gain: f64,
    activation: Activation,
}

/// What a fully connected layer can differ in.
#[derive(Clone, Copy, Debug)]
pub struct FullyConnectedConfig {
    /// What follows the bias.
    pub activation: Activation,
    /// Factor on weights and biases, compensated at initialisation: slows learning down.
    pub lr_multiplier: f64,
    /// Initial value of the bias.
    pub bias_init: f64,
}

impl FullyConnectedConfig {
    /// No activation, normal learning rate.
    pub const LINEAR: Self =
        Self { activation: Activation::Linear, lr_multiplier: 1.0, bias_init: 0.0 };
    /// Leaky ReLU, normal learning rate.
    pub const LRELU: Self = Self { activation: Activation::LRELU, ..Self::LINEAR };
}

/// A layer from `in_dim` to `out_dim` features: parameters `weight [out, in]` and `bias [out]`.
///
/// # Errors
/// Fails if `vb` has no such tensors.
pub fn fully_connected(
    in_dim: usize,
    out_dim: usize,
    config: FullyConnectedConfig,
    vb: &VarBuilder,
) -> Result<FullyConnected> {
    let FullyConnectedConfig { activation, lr_multiplier, bias_init } = config;
    let init = Init::Randn { mean: 0.0, stdev: 1.0 / lr_multiplier };
    Ok(FullyConnected {
        weight: vb.get_with_hints((out_dim, in_dim), "weight", init)?.into(),
        bias: vb.get_with_hints(out_dim, "bias", Init::Const(bias_init))?.into(),
        weight_gain: lr_multiplier / (in_dim as f64).sqrt(),
        bias_gain: lr_multiplier,
        activation,
    })
}

impl FullyConnected {
    /// `[N, in]` to `[N, out]`.
    ///
    /// # Errors
    /// Fails if `x` has other features.
    pub fn forward(&self, x: &Traced) -> Result<Traced> {
        let x = (x.matmul(&self.weight.t()?)? * self.weight_gain)?;
        let bias =
            if self.bias_gain == 1.0 { self.bias.clone() } else { (&self.bias * self.bias_gain)? };
        bias_act(&x, Some(&bias), self.activation, self.activation.default_gain(), None)
    }
}

/// Convolution with run-time scaling, change of resolution, bias and activation.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Traced,
    bias: Option<Traced>,
    config: Conv2dConfig,
    filter: Filter,
}

/// What a convolution can differ in.
#[derive(Clone, Copy, Debug)]
pub struct Conv2dConfig {
    /// Width and height of the kernel, odd.
    pub kernel_size: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// What follows the bias.
    pub activation: Activation,
    /// Upsampling factor.
    pub up: usize,
    /// Downsampling factor.
    pub down: usize,
    /// Bound on the magnitude of the result, before `gain`.
    pub clamp: Option<f64>,
    /// Factor on the result.
    pub gain: f64,
}

impl Conv2dConfig {
    /// A kernel of `kernel_size`, with bias, leaky ReLU and no change of resolution.
    pub fn new(kernel_size: usize) -> Self {
        Self {
            kernel_size,
            bias: true,
            activation: Activation::LRELU,
            up: 1,
            down: 1,
            clamp: None,
            gain: 1.0,
        }
    }

    /// The short cut of a residual block: 1x1, linear, without bias.
    pub fn skip(gain: f64) -> Self {
        Self { bias: false, activation: Activation::Linear, gain, ..Self::new(1) }
    }
}

/// A convolution: parameters `weight [out, in, k, k]` and, with bias, `bias [out]`.
///
/// # Errors
/// Fails if `vb` has no such tensors.
pub fn conv2d(
    in_dim: usize,
    out_dim: usize,
    config: Conv2dConfig,
    vb: &VarBuilder,
) -> Result<Conv2d> {
    let k = config.kernel_size;
    let bias = || Result::Ok(vb.get_with_hints(out_dim, "bias", Init::Const(0.0))?.into());
    Ok(Conv2d {
        weight: vb.get_with_hints((out_dim, in_dim, k, k), "weight", NORMAL)?.into(),
        bias: config.bias.then(bias).transpose()?,
        config,
        filter: Filter::stylegan2(),
    })
}

impl Conv2d {
    /// `[out, in, k, k]`
    pub(super) fn weight(&self) -> &Traced {
        &self.weight
    }
}

impl Conv2d {
    /// `[N, in, H, W]` to `[N, out, H * up / down, ..]`, in the type of `x`.
    ///
    /// # Errors
    /// Fails if `x` has other channels.
    pub fn forward(&self, x: &Traced) -> Result<Traced> {
        let Conv2dConfig { kernel_size: k, activation, up, down, clamp, gain, .. } = self.config;
        let (_, in_dim, _, _) = self.weight.dims4()?;
        let weight_gain = 1.0 / ((in_dim * k * k) as f64).sqrt();
        let resample = Resample { filter: &self.filter, up, down };
        let y = if x.dtype() == self.weight.dtype() {
            conv2d_resample(x, &self.weight, resample, k / 2, weight_gain)?
        } else {
            let weight = (&self.weight * weight_gain)?.to_dtype(x.dtype())?;
            conv2d_resample(x, &weight, resample, k / 2, 1.0)?
        };
        let bias = self.bias.as_ref().map(|bias| bias.to_dtype(x.dtype())).transpose()?;
        let act_gain = activation.default_gain() * gain;
        let clamp = clamp.map(|clamp| clamp * gain);
        bias_act(&y, bias.as_ref(), activation, act_gain, clamp)
    }
}
