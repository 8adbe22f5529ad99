//! From the names and shapes of tensors to the shape of the network that has them.

use std::collections::BTreeMap;

use candle_core::{Result, bail};

use crate::model::config::{Architecture, DiscriminatorConfig, GeneratorConfig};
use crate::model::weights::check;

/// Largest picture and most layers that are read.
const MAX_RES: usize = 1024;
const MAX_LAYERS: usize = 64;

/// Shapes of a network's tensors by the reference's names.
pub(super) struct Shapes(pub(super) BTreeMap<String, Vec<usize>>);

/// What shapes do not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unshaped {
    pub(super) conv_clamp: Option<f64>,
    pub(super) mbstd_group_size: Option<usize>,
}

impl Shapes {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Size of one dimension.
    fn dim(&self, name: &str, idx: usize) -> Result<usize> {
        match self.0.get(name).map(|dims| dims.get(idx)) {
            Some(Some(dim)) => Ok(*dim),
            Some(None) => bail!("{name}: expected more than {idx} dimensions"),
            None => bail!("{name}: missing tensor; expected a StyleGAN2 of the usual names"),
        }
    }

    /// Resolutions of the blocks that have `prefix` + `bRES` + `suffix`: every power of two from
    /// `first` on.
    fn resolutions(&self, prefix: &str, suffix: &str, first: usize) -> Vec<usize> {
        let all = std::iter::successors(Some(first), |res| Some(res * 2));
        let all = all.take_while(|res| *res <= MAX_RES);
        all.take_while(|res| self.has(&format!("{prefix}b{res}{suffix}"))).collect()
    }

    /// Number of layers `mapping.fcK`.
    fn mapping_layers(&self) -> usize {
        (0..MAX_LAYERS).take_while(|k| self.has(&format!("mapping.fc{k}.weight"))).count()
    }

    fn c_dim(&self) -> Result<usize> {
        let name = "mapping.embed.weight";
        if self.has(name) { self.dim(name, 1) } else { Ok(0) }
    }

    /// The shape of the generator that has these tensors.
    ///
    /// # Errors
    /// Fails if no generator of StyleGAN2 has them.
    pub(super) fn generator(&self, unshaped: Unshaped) -> Result<GeneratorConfig> {
        if self.0.keys().any(|name| name.starts_with("synthesis.input.")) {
            bail!(
                "this is StyleGAN3's own generator (config stylegan3-t or stylegan3-r); expected config stylegan2"
            );
        }
        let resolutions = self.resolutions("synthesis.", ".conv1.weight", 4);
        let Some(img_resolution) = resolutions.last().copied() else {
            bail!("synthesis.b4.conv1.weight: missing tensor; expected a generator of StyleGAN2");
        };
        let channels =
            |res: &usize| Ok((*res, self.dim(&format!("synthesis.b{res}.conv1.weight"), 0)?));
        let channels: Vec<_> = resolutions.iter().map(channels).collect::<Result<_>>()?;
        let (channel_base, channel_max) = channel_rule(&channels)?;
        let c_dim = self.c_dim()?;
        let embed_dim = if c_dim > 0 { self.dim("mapping.embed.weight", 0)? } else { 0 };
        let top = format!("synthesis.b{img_resolution}");
        let architecture = if self.has(&format!("{top}.skip.weight")) {
            Architecture::Resnet
        } else if self.has("synthesis.b4.torgb.weight") {
            Architecture::Skip
        } else {
            Architecture::Orig
        };
        let Some(z_dim) = self.dim("mapping.fc0.weight", 1)?.checked_sub(embed_dim) else {
            bail!("mapping.fc0.weight: expected room for z and the label");
        };
        let config = GeneratorConfig {
            z_dim,
            c_dim,
            w_dim: self.dim("mapping.fc0.weight", 0)?,
            img_resolution,
            img_channels: self.dim(&format!("{top}.torgb.weight"), 0)?,
            mapping_layers: self.mapping_layers(),
            channel_base,
            channel_max,
            conv_clamp: unshaped.conv_clamp,
            architecture,
        };
        check(&config)?;
        Ok(config)
    }

    /// The shape of the discriminator that has these tensors.
    ///
    /// # Errors
    /// Fails if no discriminator of StyleGAN2 has them.
    pub(super) fn discriminator(&self, unshaped: Unshaped) -> Result<DiscriminatorConfig> {
        let resolutions = self.resolutions("", ".conv0.weight", 8);
        let img_resolution = resolutions.last().copied().unwrap_or(4);
        let dim = self.dim("b4.conv.weight", 0)?;
        let mut channels = vec![(4, dim)];
        for res in resolutions {
            channels.push((res, self.dim(&format!("b{res}.conv0.weight"), 0)?));
        }
        let (channel_base, channel_max) = channel_rule(&channels)?;
        let top = format!("b{img_resolution}");
        let architecture = if self.has(&format!("{top}.skip.weight")) {
            Architecture::Resnet
        } else if self.has("b4.fromrgb.weight") {
            Architecture::Skip
        } else {
            Architecture::Orig
        };
        let c_dim = self.c_dim()?;
        let Some(mbstd_num_channels) = self.dim("b4.conv.weight", 1)?.checked_sub(dim) else {
            bail!("b4.conv.weight: expected at least as many inputs as outputs");
        };
        Ok(DiscriminatorConfig {
            c_dim,
            img_resolution,
            img_channels: self.dim(&format!("{top}.fromrgb.weight"), 1)?,
            channel_base,
            channel_max,
            conv_clamp: unshaped.conv_clamp,
            architecture,
            mbstd_group_size: unshaped.mbstd_group_size,
            mbstd_num_channels,
            mapping_layers: if c_dim > 0 { self.mapping_layers() } else { 8 },
        })
    }
}

/// `channel_base` and `channel_max` that give the channels of each resolution:
/// `min(channel_base / res, channel_max)`.
fn channel_rule(channels: &[(usize, usize)]) -> Result<(usize, usize)> {
    let max = channels.iter().map(|(_, dim)| *dim).max().unwrap_or_default();
    // Each resolution allows a range of bases; without a remainder each gives the same.
    let base = channels.iter().map(|(res, dim)| dim.saturating_mul(*res)).max().unwrap_or_default();
    match channels.iter().find(|(res, dim)| (base / res).min(max) != *dim) {
        None => Ok((base, max)),
        Some((res, dim)) => bail!(
            "{res}x{res}: expected channels that halve with each doubling of the resolution or stay below a limit, got {dim}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_follow_from_a_base_and_a_limit() {
        for (base, max) in [(32768, 512), (16384, 512), (1000, 64), (777, 777)] {
            let resolutions = [4, 8, 16, 32, 64, 128];
            let channels = resolutions.map(|res| (res, (base / res).min(max)));
            let (found_base, found_max) = channel_rule(&channels).unwrap();
            let found = resolutions.map(|res| (res, (found_base / res).min(found_max)));
            assert_eq!(found, channels, "{base}, {max}");
        }
        assert!(channel_rule(&[(4, 16), (8, 32)]).is_err());
        assert!(channel_rule(&[(4, 16), (8, 8), (16, 8)]).is_err());
    }

    #[test]
    fn another_generator_is_refused_in_words() {
        let of = |name: &str| Shapes(BTreeMap::from([(name.to_owned(), vec![8, 8])]));
        let refusal = |name| of(name).generator(Unshaped::default()).unwrap_err().to_string();
        assert!(refusal("synthesis.input.weight").contains("StyleGAN3's own generator"));
        assert!(
            refusal("synthesis.b4.conv0.weight").starts_with("synthesis.b4.conv1.weight: missing")
        );
    }
}
