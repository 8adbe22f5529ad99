//! The synthesis network: from intermediate latents to an image, block by block from 4x4 up.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, sections 2 and 3, figure 7.

use candle_core::{DType, Result, bail};
use candle_nn::{Init, VarBuilder};

use super::config::{Architecture, GeneratorConfig};
use super::layers::{
    Conv2d, Conv2dConfig, FullyConnected, FullyConnectedConfig, NORMAL, conv2d, fully_connected,
};
use super::precision::{Precision, cast};
use crate::ops::bias_act::Activation;
use crate::ops::conv2d_resample::Resample;
use crate::ops::rng::Rng;
use crate::ops::upfirdn2d::{Filter, Upfirdn2d};
use crate::ops::{Traced, add_noise, bias_act, modulated_conv2d, normals, upfirdn2d};

/// Where the noise inputs come from.
#[derive(Clone, Copy, Debug)]
pub enum Noise {
    /// The constants that belong to the weights: the same latent gives the same image.
    Const,
    /// Fresh draws per image, layer by layer.
    Random(Rng),
    /// Draws on their way to others, by an angle in radians; a whole turn is a closed loop, and on
    /// it every noise is as likely as any: `from cos(angle) + to sin(angle)`.
    Turned {
        /// Those at angle 0.
        from: Rng,
        /// Those at a quarter of a turn.
        to: Rng,
        /// Where between them.
        angle: f64,
    },
    /// None at all.
    None,
}

/// One modulated convolution with noise, bias and activation.
#[derive(Clone, Debug)]
struct SynthesisLayer {
    affine: FullyConnected,
    weight: Traced,
    noise_strength: Traced,
    /// `[res, res]`; constant, but for a projection that looks for it.
    noise_const: Traced,
    bias: Traced,
    up: usize,
    gain: f64,
    clamp: Option<f64>,
    /// Distinguishes the layers' random noise.
    layer_idx: u64,
    filter: Filter,
}

/// A 1x1 modulated convolution to the image's channels.
#[derive(Clone, Debug)]
struct ToRgb {
    affine: FullyConnected,
    weight: Traced,
    bias: Traced,
    clamp: Option<f64>,
    filter: Filter,
}

/// The layers of one resolution.
#[derive(Clone, Debug)]
struct Block {
    /// The type that it computes in; absent: that of its weights.
    dtype: Option<DType>,
    /// `const [C, 4, 4]` of the first block.
    constant: Option<Traced>,
    conv0: Option<SynthesisLayer>,
    conv1: SynthesisLayer,
    torgb: Option<ToRgb>,
    skip: Option<Conv2d>,
}

/// A synthesis network.
#[derive(Clone, Debug)]
pub struct Synthesis {
    blocks: Vec<Block>,
    num_ws: usize,
    w_dim: usize,
    filter: Filter,
}

/// A synthesis network with parameters `bRES.*`.
///
/// # Errors
/// Fails if `vb` has no such tensors.
pub fn synthesis(config: &GeneratorConfig, vb: &VarBuilder) -> Result<Synthesis> {
    let block = |&res: &usize| block(config, res, &vb.pp(format!("b{res}")));
    let blocks = config.block_resolutions().iter().map(block).collect::<Result<_>>()?;
    let (num_ws, w_dim) = (config.num_ws(), config.w_dim);
    Ok(Synthesis { blocks, num_ws, w_dim, filter: Filter::stylegan2() })
}

fn block(config: &GeneratorConfig, res: usize, vb: &VarBuilder) -> Result<Block> {
    let dim = config.channels(res);
    let is_first = res == 4;
    let is_resnet = config.architecture == Architecture::Resnet && !is_first;
    let has_rgb = config.architecture == Architecture::Skip || res == config.img_resolution;
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let in_dim = if is_first { dim } else { config.channels(res / 2) };
    let level = 2 * u64::from(res.ilog2());
    let layer = |name: &str, in_dim: usize, up: usize, gain: f64| {
        let layer_idx = level + u64::from(name == "conv1");
        let sizes = LayerSizes { in_dim, out_dim: dim, res, up, gain, layer_idx };
        synthesis_layer(config, sizes, &vb.pp(name))
    };
    let skip =
        || conv2d(in_dim, dim, Conv2dConfig { up: 2, ..Conv2dConfig::skip(half) }, &vb.pp("skip"));
    let constant = || Result::Ok(vb.get_with_hints((dim, 4, 4), "const", NORMAL)?.into());
    Ok(Block {
        dtype: None,
        constant: is_first.then(constant).transpose()?,
        conv0: (!is_first).then(|| layer("conv0", in_dim, 2, 1.0)).transpose()?,
        conv1: layer("conv1", dim, 1, if is_resnet { half } else { 1.0 })?,
        torgb: has_rgb.then(|| to_rgb(config, dim, &vb.pp("torgb"))).transpose()?,
        skip: is_resnet.then(skip).transpose()?,
    })
}

/// What distinguishes one synthesis layer from another.
#[derive(Clone, Copy)]
struct LayerSizes {
    in_dim: usize,
    out_dim: usize,
    res: usize,
    up: usize,
    gain: f64,
    layer_idx: u64,
}

/// The layer that turns a `w` into `dim` styles; styles start at 1.
fn affine(config: &GeneratorConfig, dim: usize, vb: &VarBuilder) -> Result<FullyConnected> {
    let linear = FullyConnectedConfig { bias_init: 1.0, ..FullyConnectedConfig::LINEAR };
    fully_connected(config.w_dim, dim, linear, &vb.pp("affine"))
}

fn synthesis_layer(
    config: &GeneratorConfig,
    sizes: LayerSizes,
    vb: &VarBuilder,
) -> Result<SynthesisLayer> {
    let LayerSizes { in_dim, out_dim, res, up, gain, layer_idx } = sizes;
    Ok(SynthesisLayer {
        affine: affine(config, in_dim, vb)?,
        weight: vb.get_with_hints((out_dim, in_dim, 3, 3), "weight", NORMAL)?.into(),
        noise_strength: vb.get_with_hints((), "noise_strength", Init::Const(0.0))?.into(),
        noise_const: vb.get_with_hints((res, res), "noise_const", NORMAL)?.into(),
        bias: vb.get_with_hints(out_dim, "bias", Init::Const(0.0))?.into(),
        up,
        gain: Activation::LRELU.default_gain() * gain,
        clamp: config.conv_clamp.map(|clamp| clamp * gain),
        layer_idx,
        filter: Filter::stylegan2(),
    })
}

fn to_rgb(config: &GeneratorConfig, in_dim: usize, vb: &VarBuilder) -> Result<ToRgb> {
    Ok(ToRgb {
        affine: affine(config, in_dim, vb)?,
        weight: vb.get_with_hints((config.img_channels, in_dim, 1, 1), "weight", NORMAL)?.into(),
        bias: vb.get_with_hints(config.img_channels, "bias", Init::Const(0.0))?.into(),
        clamp: config.conv_clamp,
        filter: Filter::stylegan2(),
    })
}

impl SynthesisLayer {
    /// `x [N, in, H, W]`, `w [N, w_dim]` to `[N, out, H * up, W * up]`.
    fn forward(&self, x: &Traced, w: &Traced, noise: Noise) -> Result<Traced> {
        let styles = self.affine.forward(w)?; // [N, in]
        let resample = Resample { filter: &self.filter, up: self.up, down: 1 };
        let x = modulated_conv2d(x, &self.weight, &styles, resample, true)?;
        let (n, res) = (x.dim(0)?, self.noise_const.dim(0)?);
        let strength = self.noise_strength.to_dtype(x.dtype())?;
        let draws = |rng| normals(rng, self.layer_idx, (n, 1, res, res), (x.dtype(), x.device()));
        let x = match noise {
            Noise::None => x,
            Noise::Const if self.noise_const.is_traced() => {
                let noise = self.noise_const.reshape((1, 1, res, res))?.to_dtype(x.dtype())?;
                x.broadcast_add(&noise.broadcast_mul(&strength.reshape((1, 1, 1, 1))?)?)?
            }
            Noise::Const => {
                let noise = self.noise_const.value().reshape((1, 1, res, res))?;
                add_noise(&x, &noise.to_dtype(x.dtype())?, &strength)?
            }
            Noise::Random(rng) => add_noise(&x, &draws(&rng)?, &strength)?,
            Noise::Turned { from, to, angle } => {
                let noise = ((draws(&from)? * angle.cos())? + (draws(&to)? * angle.sin())?)?;
                add_noise(&x, &noise, &strength)?
            }
        };
        let bias = self.bias.to_dtype(x.dtype())?;
        bias_act(&x, Some(&bias), Activation::LRELU, self.gain, self.clamp)
    }
}

impl ToRgb {
    /// `x [N, in, H, W]`, `w [N, w_dim]` to `[N, img_channels, H, W]`, in the type of `w`.
    fn forward(&self, x: &Traced, w: &Traced) -> Result<Traced> {
        let in_dim = self.weight.dim(1)?;
        let styles = (self.affine.forward(w)? * (1.0 / (in_dim as f64).sqrt()))?;
        let resample = Resample { filter: &self.filter, up: 1, down: 1 };
        let x = modulated_conv2d(x, &self.weight, &styles, resample, false)?;
        let bias = self.bias.to_dtype(x.dtype())?;
        bias_act(&x, Some(&bias), Activation::Linear, 1.0, self.clamp)?.to_dtype(w.dtype())
    }
}

impl Block {
    /// Features `x` (none for the first block) to features at this block's resolution.
    fn forward(&self, x: Option<&Traced>, ws: &[Traced], noise: Noise) -> Result<Traced> {
        match (x, &self.constant, &self.conv0) {
            (None, Some(constant), None) => {
                let (c, h, w) = constant.dims3()?;
                let n = ws[0].dim(0)?;
                let x = constant.broadcast_as((n, c, h, w))?;
                self.conv1.forward(&x, &ws[0], noise)
            }
            (Some(x), None, Some(conv0)) => {
                let x = &cast(x, self.dtype, &self.conv1.weight)?;
                let y = self.skip.as_ref().map(|skip| skip.forward(x)).transpose()?;
                let x = conv0.forward(x, &ws[0], noise)?;
                let x = self.conv1.forward(&x, &ws[1], noise)?;
                match y {
                    Some(y) => y + x,
                    None => Ok(x),
                }
            }
            _ => bail!("synthesis: only the first block starts without features"),
        }
    }

    fn num_convs(&self) -> usize {
        1 + usize::from(self.conv0.is_some())
    }
}

impl Synthesis {
    /// The same network with blocks of other types.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        let img_resolution = 2 << self.blocks.len();
        for (level, block) in self.blocks.iter_mut().enumerate() {
            block.dtype = precision.dtype_at(4 << level, img_resolution);
        }
        self
    }

    /// The constant noise inputs, `[res, res]` each, from the first layer on.
    pub fn noise_inputs(&self) -> Vec<Traced> {
        self.layers().map(|layer| layer.noise_const.clone()).collect()
    }

    /// The same network with other constant noise inputs; gradients reach those that are traced.
    ///
    /// # Errors
    /// Fails if they are not as many, or of other shapes.
    pub fn with_noise_inputs(mut self, inputs: &[Traced]) -> Result<Self> {
        let expected: Vec<_> =
            self.layers().map(|layer| layer.noise_const.shape().clone()).collect();
        let came: Vec<_> = inputs.iter().map(|input| input.shape().clone()).collect();
        if expected != came {
            bail!("synthesis: expected noise inputs {expected:?}, got {came:?}");
        }
        let layers = self
            .blocks
            .iter_mut()
            .flat_map(|block| block.conv0.iter_mut().chain([&mut block.conv1]));
        for (layer, input) in layers.zip(inputs) {
            layer.noise_const = input.clone();
        }
        Ok(self)
    }

    fn layers(&self) -> impl Iterator<Item = &SynthesisLayer> {
        self.blocks.iter().flat_map(|block| block.conv0.iter().chain([&block.conv1]))
    }

    /// Images `[N, img_channels, H, W]`, about [-1, 1], of `ws [N, num_ws, w_dim]`.
    ///
    /// A block's toRGB shares its `w` with the next block's first convolution.
    ///
    /// # Errors
    /// Fails if `ws` has another shape.
    pub fn forward(&self, ws: &Traced, noise: Noise) -> Result<Traced> {
        let (_, num_ws, w_dim) = ws.dims3()?;
        if (num_ws, w_dim) != (self.num_ws, self.w_dim) {
            bail!(
                "synthesis: expected ws [N, {}, {}], got {:?}",
                self.num_ws,
                self.w_dim,
                ws.shape()
            );
        }
        let ws = (0..num_ws)
            .map(|i| ws.narrow(1, i, 1)?.squeeze(1)?.contiguous())
            .collect::<Result<Vec<_>>>()?; // num_ws x [N, w_dim]
        let (mut x, mut img): (Option<Traced>, Option<Traced>) = (None, None);
        let mut w_idx = 0;
        for block in &self.blocks {
            let features = block.forward(x.as_ref(), &ws[w_idx..], noise)?;
            w_idx += block.num_convs();
            let upsampled =
                img.map(|img| upfirdn2d(&img, &Upfirdn2d::double(&self.filter))).transpose()?;
            img = match (upsampled, &block.torgb) {
                (None, None) => None,
                (Some(img), None) => Some(img),
                (None, Some(torgb)) => Some(torgb.forward(&features, &ws[w_idx])?),
                (Some(img), Some(torgb)) => Some((img + torgb.forward(&features, &ws[w_idx])?)?),
            };
            x = Some(features);
        }
        img.ok_or_else(|| candle_core::Error::msg("synthesis: expected at least one block"))
    }
}
