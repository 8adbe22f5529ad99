//! The reference's state dictionary, as safetensors: every name that `load_state_dict` expects of
//! a network of the StyleGAN2-ADA and StyleGAN3 tools, buffers included, and no other.

use candle_core::{DType, Device, Result, Tensor};

use super::network::{Config, Network};
use crate::model::config::{Architecture, DiscriminatorConfig, GeneratorConfig};
use crate::model::weights::serialize;
use crate::ops::upfirdn2d::Filter;

/// The bytes of the file.
///
/// # Errors
/// Fails if a tensor cannot be copied.
pub(super) fn to_bytes(network: &Network) -> Result<Vec<u8>> {
    let mut tensors: Vec<(String, Tensor)> = network
        .store
        .tensors()
        .into_iter()
        .map(|(name, var)| (name, var.as_detached_tensor()))
        .collect();
    let (filter, side) = (Filter::stylegan2(), Filter::stylegan2().size());
    let filter = Tensor::from_vec(filter.values(), side, &Device::Cpu)?.to_dtype(DType::F32)?;
    let modules = match &network.config {
        Config::Generator(config) => modules_of_generator(config),
        Config::Discriminator(config) => modules_of_discriminator(config),
    };
    tensors.extend(modules.into_iter().map(|m| (format!("{m}.resample_filter"), filter.clone())));
    serialize(tensors, ("format", "pt".to_owned()))
}

/// Modules of a generator that keep a filter.
fn modules_of_generator(config: &GeneratorConfig) -> Vec<String> {
    let is_resnet = config.architecture == Architecture::Resnet;
    let of_block = |res: usize| {
        let layers = [
            Some(""),
            (res > 4).then_some(".conv0"),
            Some(".conv1"),
            (res > 4 && is_resnet).then_some(".skip"),
        ];
        layers.into_iter().flatten().map(move |layer| format!("synthesis.b{res}{layer}"))
    };
    config.block_resolutions().into_iter().flat_map(of_block).collect()
}

/// Modules of a discriminator that keep a filter.
fn modules_of_discriminator(config: &DiscriminatorConfig) -> Vec<String> {
    let layers = config.freezable_layers().into_iter();
    let layers = layers.map(|layer| layer.trim_end_matches('.').to_owned());
    let blocks = config.block_resolutions().into_iter().map(|res| format!("b{res}"));
    let has_rgb = config.architecture == Architecture::Skip || config.img_resolution == 4;
    let epilogue = [Some("b4.conv"), has_rgb.then_some("b4.fromrgb")];
    let epilogue = epilogue.into_iter().flatten().map(str::to_owned);
    layers.chain(blocks).chain(epilogue).collect()
}
