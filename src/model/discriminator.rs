//! The discriminator: from an image (and its label) to one logit, real or generated.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, section 3, figure 7; the projection of the
//! label after Miyato and Koyama 2018, arXiv:1802.05637.

use candle_core::{DType, Result, Tensor, bail};
use candle_nn::VarBuilder;

use super::config::{Architecture, DiscriminatorConfig};
use super::layers::{
    Conv2d, Conv2dConfig, FullyConnected, FullyConnectedConfig, conv2d, fully_connected,
    minibatch_std,
};
use super::mapping::{Mapping, MappingConfig, mapping};
use super::precision::{Precision, cast};
use crate::ops::upfirdn2d::{Filter, Upfirdn2d};
use crate::ops::{Traced, upfirdn2d};

/// The layers of one resolution.
#[derive(Clone, Debug)]
struct Block {
    /// The type that it computes in; absent: that of its weights.
    dtype: Option<DType>,
    fromrgb: Option<Conv2d>,
    conv0: Conv2d,
    conv1: Conv2d,
    skip: Option<Conv2d>,
}

/// A discriminator.
#[derive(Clone, Debug)]
pub struct Discriminator {
    config: DiscriminatorConfig,
    blocks: Vec<Block>,
    mapping: Option<Mapping>,
    fromrgb: Option<Conv2d>,
    conv: Conv2d,
    fc: FullyConnected,
    out: FullyConnected,
    filter: Filter,
}

/// A discriminator with parameters `bRES.*` and, with labels, `mapping.*`.
///
/// # Errors
/// Fails if `vb` has no such tensors.
pub fn discriminator(config: &DiscriminatorConfig, vb: &VarBuilder) -> Result<Discriminator> {
    let block = |&res: &usize| block(config, res, &vb.pp(format!("b{res}")));
    let blocks = config.block_resolutions().iter().map(block).collect::<Result<_>>()?;
    let dim = config.channels(4);
    let cmap_dim = dim;
    let label_mapping = MappingConfig {
        z_dim: 0,
        c_dim: config.c_dim,
        w_dim: cmap_dim,
        num_layers: config.mapping_layers,
    };
    let has_labels = config.c_dim > 0;
    let vb4 = vb.pp("b4");
    let lrelu = Conv2dConfig { clamp: config.conv_clamp, ..Conv2dConfig::new(3) };
    Ok(Discriminator {
        config: config.clone(),
        blocks,
        mapping: has_labels.then(|| mapping(label_mapping, &vb.pp("mapping"))).transpose()?,
        fromrgb: has_rgb(config, 4).then(|| fromrgb(config, dim, &vb4)).transpose()?,
        conv: conv2d(dim + config.mbstd_num_channels, dim, lrelu, &vb4.pp("conv"))?,
        fc: fully_connected(dim * 16, dim, FullyConnectedConfig::LRELU, &vb4.pp("fc"))?,
        out: fully_connected(
            dim,
            if has_labels { cmap_dim } else { 1 },
            FullyConnectedConfig::LINEAR,
            &vb4.pp("out"),
        )?,
        filter: Filter::stylegan2(),
    })
}

/// Whether the image enters at this resolution.
fn has_rgb(config: &DiscriminatorConfig, res: usize) -> bool {
    config.architecture == Architecture::Skip || res == config.img_resolution
}

fn fromrgb(config: &DiscriminatorConfig, dim: usize, vb: &VarBuilder) -> Result<Conv2d> {
    let pointwise = Conv2dConfig { clamp: config.conv_clamp, ..Conv2dConfig::new(1) };
    conv2d(config.img_channels, dim, pointwise, &vb.pp("fromrgb"))
}

fn block(config: &DiscriminatorConfig, res: usize, vb: &VarBuilder) -> Result<Block> {
    let (dim, out_dim) = (config.channels(res), config.channels(res / 2));
    let is_resnet = config.architecture == Architecture::Resnet;
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let conv0 = Conv2dConfig { clamp: config.conv_clamp, ..Conv2dConfig::new(3) };
    let conv1 = Conv2dConfig { down: 2, gain: if is_resnet { half } else { 1.0 }, ..conv0 };
    let skip = Conv2dConfig { down: 2, ..Conv2dConfig::skip(half) };
    Ok(Block {
        dtype: None,
        fromrgb: has_rgb(config, res).then(|| fromrgb(config, dim, vb)).transpose()?,
        conv0: conv2d(dim, dim, conv0, &vb.pp("conv0"))?,
        conv1: conv2d(dim, out_dim, conv1, &vb.pp("conv1"))?,
        skip: is_resnet.then(|| conv2d(dim, out_dim, skip, &vb.pp("skip"))).transpose()?,
    })
}

/// What enters a resolution from the image is added to the features that come from above.
fn enter(x: Option<Traced>, fromrgb: Option<&Conv2d>, img: &Traced) -> Result<Traced> {
    match (x, fromrgb.map(|fromrgb| fromrgb.forward(img)).transpose()?) {
        (Some(x), Some(y)) => x + y,
        (Some(x), None) => Ok(x),
        (None, Some(y)) => Ok(y),
        (None, None) => bail!("discriminator: expected the image at its own resolution"),
    }
}

impl Discriminator {
    /// Its shape.
    pub fn config(&self) -> &DiscriminatorConfig {
        &self.config
    }

    /// The same network with blocks of other types; the epilogue keeps that of its weights.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        let img_resolution = self.config.img_resolution;
        for (block, res) in self.blocks.iter_mut().zip(self.config.block_resolutions()) {
            block.dtype = precision.dtype_at(res, img_resolution);
        }
        self
    }

    /// Logits `[N, 1]` of images `img [N, img_channels, H, W]` with labels `c [N, c_dim]`.
    ///
    /// # Errors
    /// Fails if shapes do not fit, or if the batch cannot be divided into minibatch-std groups.
    pub fn forward(&self, img: &Traced, c: Option<&Tensor>) -> Result<Traced> {
        let (_, channels, h, w) = img.dims4()?;
        let res = self.config.img_resolution;
        if (channels, h, w) != (self.config.img_channels, res, res) {
            bail!(
                "discriminator: expected images [N, {}, {res}, {res}], got {:?}",
                self.config.img_channels,
                img.shape()
            );
        }
        let (mut x, mut img) = (None::<Traced>, img.clone());
        for block in &self.blocks {
            let here = |x: &Traced| cast(x, block.dtype, block.conv0.weight());
            let above = x.as_ref().map(here).transpose()?;
            let features = enter(above, block.fromrgb.as_ref(), &here(&img)?)?;
            if self.config.architecture == Architecture::Skip {
                img = upfirdn2d(&img, &Upfirdn2d::halve(&self.filter))?;
            }
            let y = block.skip.as_ref().map(|skip| skip.forward(&features)).transpose()?;
            let features = block.conv1.forward(&block.conv0.forward(&features)?)?;
            x = Some(match y {
                Some(y) => (y + features)?,
                None => features,
            });
        }
        let x = x.as_ref().map(|x| cast(x, None, self.conv.weight())).transpose()?;
        let x = enter(x, self.fromrgb.as_ref(), &img)?; // [N, C, 4, 4]
        self.judge(&x, c)
    }

    /// The epilogue at 4x4.
    fn judge(&self, x: &Traced, c: Option<&Tensor>) -> Result<Traced> {
        let x = match self.config.mbstd_num_channels {
            0 => x.clone(),
            channels => minibatch_std(x, self.config.mbstd_group_size, channels)?,
        };
        let x = self.fc.forward(&self.conv.forward(&x)?.flatten_from(1)?)?; // [N, C]
        let x = self.out.forward(&x)?; // [N, 1] or [N, cmap_dim]
        match (&self.mapping, c) {
            (Some(mapping), Some(_)) => {
                let cmap = mapping.forward(None, c)?; // [N, cmap_dim]
                let scale = 1.0 / (cmap.dim(1)? as f64).sqrt();
                (x * cmap)?.sum_keepdim(1)? * scale
            }
            (None, None) => Ok(x),
            _ => bail!("discriminator: expected labels [N, {}]", self.config.c_dim),
        }
    }
}
