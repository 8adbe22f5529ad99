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
    /// Layers of the blocks in the order in which they can be frozen, from the image on: the
    /// begins of their parameters' names. The epilogue at 4x4 always learns.
    pub fn freezable_layers(&self) -> Vec<String> {
        self.blocks().into_iter().flatten().collect()
    }

    /// Numbers of layers that are whole blocks.
    pub fn freeze_limits(&self) -> Vec<usize> {
        let ends = self.blocks().into_iter().scan(0, |end, block| {
            *end += block.len();
            Some(*end)
        });
        ends.collect()
    }

    /// The layers of each block, the highest resolution first.
    fn blocks(&self) -> Vec<Vec<String>> {
        let layers = |(idx, res): (usize, usize)| {
            let has_rgb = idx == 0 || self.architecture == Architecture::Skip;
            let names = [
                has_rgb.then_some("fromrgb"),
                Some("conv0"),
                Some("conv1"),
                (self.architecture == Architecture::Resnet).then_some("skip"),
            ];
            names.into_iter().flatten().map(|name| format!("b{res}.{name}.")).collect()
        };
        self.block_resolutions().into_iter().enumerate().map(layers).collect()
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_of_a_resnet_end_at_4_7_10() {
        let d = |architecture: Architecture| DiscriminatorConfig {
            c_dim: 0,
            img_resolution: 32,
            img_channels: 3,
            channel_base: 16384,
            channel_max: 512,
            conv_clamp: None,
            architecture,
            mbstd_group_size: Some(4),
            mbstd_num_channels: 1,
            mapping_layers: 8,
        };
        assert_eq!(d(Architecture::Resnet).freeze_limits(), [4, 7, 10]);
        assert_eq!(d(Architecture::Orig).freeze_limits(), [3, 5, 7]);
        assert_eq!(d(Architecture::Skip).freeze_limits(), [3, 6, 9]);
        let layers = d(Architecture::Resnet).freezable_layers();
        let first = ["b32.fromrgb.", "b32.conv0.", "b32.conv1.", "b32.skip.", "b16.conv0."];
        assert_eq!(layers[..5], first);
    }
}
