//! The shape of the networks: what a weights file must state to be rebuilt.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, appendix B; Karras et al. 2020, arXiv:2006.06676.

use serde::{Deserialize, Serialize};

/// How a network carries its image from block to block (arXiv:1912.04958, figure 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// One chain of convolutions; RGB only at the image's own resolution.
    Orig,
    /// RGB at every resolution: summed on the way up (G), added on the way down (D).
    Skip,
    /// Residual blocks with a 1x1 short cut.
    Resnet,
}

/// Shape of a generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Length of the latent `z`.
    pub z_dim: usize,
    /// Length of a label vector; 0: unconditional.
    pub c_dim: usize,
    /// Length of the intermediate latent `w`.
    pub w_dim: usize,
    /// Width and height of the image, a power of two, at least 4.
    pub img_resolution: usize,
    /// Channels of the image, 1 or 3.
    pub img_channels: usize,
    /// Fully connected layers from `z` to `w`.
    pub mapping_layers: usize,
    /// Channels at resolution `res` are `channel_base / res`, ..
    pub channel_base: usize,
    /// .. but at most this.
    pub channel_max: usize,
    /// Bound on the magnitude of every activation; absent: none.
    pub conv_clamp: Option<f64>,
    /// How the image is carried.
    pub architecture: Architecture,
}

/// Shape of a discriminator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Length of a label vector; 0: unconditional.
    pub c_dim: usize,
    /// Width and height of the image, a power of two, at least 4.
    pub img_resolution: usize,
    /// Channels of the image, 1 or 3.
    pub img_channels: usize,
    /// Channels at resolution `res` are `channel_base / res`, ..
    pub channel_base: usize,
    /// .. but at most this.
    pub channel_max: usize,
    /// Bound on the magnitude of every activation; absent: none.
    pub conv_clamp: Option<f64>,
    /// How the image is carried.
    pub architecture: Architecture,
    /// Images per minibatch-std group; absent: the whole batch.
    pub mbstd_group_size: Option<usize>,
    /// Channels that minibatch std appends; 0: none.
    pub mbstd_num_channels: usize,
    /// Layers of the label mapping of a conditional discriminator.
    pub mapping_layers: usize,
}

impl GeneratorConfig {
    /// Resolutions of the blocks: 4, 8, .., `img_resolution`.
    pub fn block_resolutions(&self) -> Vec<usize> {
        resolutions(self.img_resolution)
    }

    /// Channels of the features at resolution `res`.
    pub fn channels(&self, res: usize) -> usize {
        (self.channel_base / res).min(self.channel_max)
    }

    /// Number of `w` vectors that the synthesis network takes: `2 log2(img_resolution) - 2`.
    pub fn num_ws(&self) -> usize {
        2 * self.block_resolutions().len()
    }
}

impl DiscriminatorConfig {
    /// Resolutions of the blocks, the highest first, without the epilogue's 4.
    pub fn block_resolutions(&self) -> Vec<usize> {
        resolutions(self.img_resolution).into_iter().skip(1).rev().collect()
    }

    /// Channels of the features at resolution `res`.
    pub fn channels(&self, res: usize) -> usize {
        (self.channel_base / res).min(self.channel_max)
    }
}

fn resolutions(img_resolution: usize) -> Vec<usize> {
    (2..=img_resolution.ilog2()).map(|log2| 1 << log2).collect()
}
