//! Checkpoints in the layout of rosinality's StyleGAN2: `torch.save` of a dictionary whose
//! `g_ema`, `g` and `d` are state dictionaries.
//!
//! They are the generator of the architecture skip and the discriminator resnet, without labels,
//! under other names and with two other conventions. A modulated convolution there scales its
//! weight by `1 / sqrt(fan_in)` before it is demodulated, here that is part of the weight (a 1x1 one
//! to RGB is scaled in both). And the mean of `w` is not part of the network: where the file has
//! none as `latent_avg`, it is computed as those tools do, from 4,096 latents.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, bail};

use super::network::{Config, Named, Network, check_filter, store_of};
use super::shapes::{Shapes, Unshaped};
use super::tensor::{Lazy, Weights};
use super::torch::Storages;
use super::value::Table;
use super::{Which, printable};
use crate::model::Store;
use crate::model::config::GeneratorConfig;
use crate::model::mapping::{MappingConfig, mapping};
use crate::ops::rng::{Rng, Stream};

/// Latents whose `w` are averaged.
const NUM_LATENTS: usize = 4096;
/// What such a file is called.
const SOURCE: &str = "a checkpoint of rosinality's layout";
/// Name of the mean of `w` in our networks.
const W_AVG: &str = "mapping.w_avg";

/// Images per group whose variety the discriminators of those tools see.
const MBSTD_GROUP_SIZE: usize = 4;

/// The network `which` of a checkpoint.
///
/// # Errors
/// Fails, naming it, at whatever is not as in a StyleGAN2.
pub(super) fn read(
    (table, storages): (&Table, &Storages),
    which: Which,
    weights: &mut Weights,
) -> Result<Network> {
    let key = which.of(["g_ema", "g", "d"]);
    let root = table.expect(table.root, key, "the checkpoint")?;
    let mut found = Vec::new();
    for (name, id) in table.members(root)?.unwrap_or_default() {
        found.push((table.name(*name).unwrap_or("?"), *id));
    }
    let num_blocks = found.iter().filter(|(name, _)| name.ends_with(".conv1.0.weight")).count();
    let mut tensors = Vec::new();
    for (name, id) in found {
        let taken = Lazy::find(table, storages, id).and_then(|lazy| {
            let parts: Vec<&str> = name.split('.').collect();
            let renamed =
                if which == Which::D { renamed_d(&parts, num_blocks) } else { renamed_g(&parts) };
            take(name, renamed, &lazy, weights)
        });
        let taken = taken.map_err(|error| {
            candle_core::Error::msg(format!("{key}: {}: {error}", printable(name)))
        })?;
        tensors.extend(taken);
    }
    let shapes = tensors.iter().map(|tensor| (tensor.name.clone(), tensor.dims.clone()));
    let shapes = Shapes(shapes.collect::<BTreeMap<_, _>>());
    let mean = table.member(table.root, "latent_avg")?;
    let mean = mean.map(|id| mean_of_file(Lazy::find(table, storages, id), weights)).transpose()?;
    let network = if which == Which::D { d(&shapes, tensors) } else { g(&shapes, tensors, mean) };
    network.map_err(|error| candle_core::Error::msg(format!("{key}: {error}")))
}

fn d(shapes: &Shapes, tensors: Vec<Named>) -> Result<Network> {
    let mbstd_group_size = Some(MBSTD_GROUP_SIZE);
    let config = shapes.discriminator(Unshaped { mbstd_group_size, ..Unshaped::default() })?;
    let config = Config::Discriminator(config);
    let store = store_of(&config, tensors)?;
    Ok(Network { config, store, source: SOURCE, header: None, has_own_mean: true })
}

fn g(shapes: &Shapes, mut tensors: Vec<Named>, mean: Option<Vec<f32>>) -> Result<Network> {
    let config = shapes.generator(Unshaped::default())?;
    let has_own_mean = mean.is_some();
    let values = mean.unwrap_or_else(|| vec![0.0; config.w_dim]);
    tensors.push(Named { name: W_AVG.to_owned(), dims: vec![values.len()], values });
    let store = store_of(&Config::Generator(config.clone()), tensors)?;
    if !has_own_mean {
        store.set(W_AVG, &mean_of_latents(&config, &store)?)?;
    }
    let config = Config::Generator(config);
    Ok(Network { config, store, source: SOURCE, header: None, has_own_mean })
}

fn mean_of_file(lazy: Result<Lazy>, weights: &mut Weights) -> Result<Vec<f32>> {
    let values = lazy.and_then(|lazy| weights.values(&lazy));
    values.map_err(|error| candle_core::Error::msg(format!("latent_avg: {error}")))
}

/// The mean `w [w_dim]` of latents that are always the same.
///
/// # Errors
/// Fails if it is not finite: weights can be finite and too large for each other.
fn mean_of_latents(config: &GeneratorConfig, store: &Store) -> Result<Tensor> {
    let GeneratorConfig { z_dim, c_dim, w_dim, mapping_layers: num_layers, .. } = *config;
    let shape = MappingConfig { z_dim, c_dim, w_dim, num_layers };
    let mapping = mapping(shape, &store.frozen().pp("mapping"))?;
    let z = Rng::new(0, Stream::Samples, 0).normals(NUM_LATENTS * z_dim);
    let z = Tensor::from_vec(z, (NUM_LATENTS, z_dim), store.device())?.to_dtype(store.dtype())?;
    let mean = mapping.forward(Some(&z), None)?.value().mean(0)?;
    if mean.to_vec1::<f32>()?.iter().any(|value| !value.is_finite()) {
        bail!(
            "expected a latent_avg, or weights from which it can be computed; the network is broken"
        );
    }
    Ok(mean)
}

/// A tensor under our name, or none where it is a filter.
fn take(
    name: &str,
    renamed: Option<String>,
    lazy: &Lazy,
    weights: &mut Weights,
) -> Result<Option<Named>> {
    let mut values = weights.values(lazy)?;
    let parts: Vec<&str> = name.split('.').collect();
    let last = &parts[parts.len().saturating_sub(2)..];
    match last {
        // Where zeros come between pixels, the filter makes up for them.
        [before, "kernel"] => {
            let gain = if matches!(*before, "blur" | "upsample") { 4.0 } else { 1.0 };
            check_filter(name, &values, gain)?;
            return Ok(None);
        }
        ["conv", "weight"] if !name.starts_with("to_rgb") => {
            let fan_in: usize = lazy.dims.iter().skip(2).product();
            let gain = 1.0 / (fan_in as f64).sqrt();
            for value in &mut values {
                *value = (f64::from(*value) * gain) as f32;
            }
        }
        _ => {}
    }
    let Some(name) = renamed else {
        bail!("expected a tensor of a StyleGAN2, got one of an unknown name");
    };
    let dims = match last {
        ["noise", "weight"] => Vec::new(),
        [_, "bias"] => vec![values.len()],
        ["noises", _] => lazy.dims.iter().copied().skip(2).collect(), // [1, 1, H, W]
        ["conv", "weight"] | ["input", _] => lazy.dims.iter().copied().skip(1).collect(), // [1, ..]
        _ => lazy.dims.clone(),
    };
    Ok(Some(Named { name, dims, values }))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number < 32)
}

/// Our name of a discriminator's tensor; blocks are counted from the image on.
fn renamed_d(parts: &[&str], num_blocks: usize) -> Option<String> {
    let block = |k: u32| Some(format!("b{}", 4u64 << (num_blocks as u32).checked_sub(k)?.min(32)));
    let (module, what) = match parts {
        ["convs", "0", "0" | "1", what] => (format!("{}.fromrgb", block(0)?), what),
        ["convs", k, layer, "0" | "1" | "2", what] => {
            let layer = match *layer {
                "conv1" => "conv0",
                "conv2" => "conv1",
                other => other,
            };
            (format!("{}.{layer}", block(number(k)?.checked_sub(1)?)?), what)
        }
        ["final_conv", "0" | "1", what] => ("b4.conv".to_owned(), what),
        ["final_linear", "0", what] => ("b4.fc".to_owned(), what),
        ["final_linear", "1", what] => ("b4.out".to_owned(), what),
        _ => return None,
    };
    Some(format!("{module}.{what}"))
}

/// Our name of a generator's tensor.
fn renamed_g(parts: &[&str]) -> Option<String> {
    // Two layers to a resolution, from 8 pixels on.
    let layer = |k: u32| format!("synthesis.b{}.conv{}", 8u64 << (k / 2), k % 2);
    let (module, rest) = match parts {
        ["style", k, what] => {
            return Some(format!("mapping.fc{}.{what}", number(k)?.checked_sub(1)?));
        }
        ["input", "input"] => return Some("synthesis.b4.const".to_owned()),
        ["noises", noise] => {
            let k = number(noise.strip_prefix("noise_")?)?;
            let layer = k.checked_sub(1).map_or("synthesis.b4.conv1".to_owned(), layer);
            return Some(format!("{layer}.noise_const"));
        }
        ["conv1", rest @ ..] => ("synthesis.b4.conv1".to_owned(), rest),
        ["convs", k, rest @ ..] => (layer(number(k)?), rest),
        ["to_rgb1", rest @ ..] => ("synthesis.b4.torgb".to_owned(), rest),
        ["to_rgbs", k, rest @ ..] => (format!("synthesis.b{}.torgb", 8u64 << number(k)?), rest),
        _ => return None,
    };
    let what = match rest {
        ["conv", "weight"] => "weight".to_owned(),
        ["conv", "modulation", what] => format!("affine.{what}"),
        ["noise", "weight"] => "noise_strength".to_owned(),
        ["activate", "bias"] | ["bias"] => "bias".to_owned(),
        _ => return None,
    };
    Some(format!("{module}.{what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_meet_by_their_resolution() {
        let parts = |name: &'static str| name.split('.').collect::<Vec<_>>();
        for (theirs, ours) in [
            ("style.1.weight", "mapping.fc0.weight"),
            ("input.input", "synthesis.b4.const"),
            ("conv1.conv.modulation.bias", "synthesis.b4.conv1.affine.bias"),
            ("convs.0.conv.weight", "synthesis.b8.conv0.weight"),
            ("convs.3.activate.bias", "synthesis.b16.conv1.bias"),
            ("to_rgb1.bias", "synthesis.b4.torgb.bias"),
            ("to_rgbs.1.conv.weight", "synthesis.b16.torgb.weight"),
            ("noises.noise_0", "synthesis.b4.conv1.noise_const"),
            ("noises.noise_4", "synthesis.b16.conv1.noise_const"),
        ] {
            assert_eq!(renamed_g(&parts(theirs)).as_deref(), Some(ours), "{theirs}");
        }
        assert_eq!(renamed_g(&parts("style.0.weight")), None);
        for (theirs, ours) in [
            ("convs.0.0.weight", "b32.fromrgb.weight"),
            ("convs.0.1.bias", "b32.fromrgb.bias"),
            ("convs.1.conv1.0.weight", "b32.conv0.weight"),
            ("convs.1.conv1.1.bias", "b32.conv0.bias"),
            ("convs.2.conv2.1.weight", "b16.conv1.weight"),
            ("convs.3.skip.1.weight", "b8.skip.weight"),
            ("final_conv.1.bias", "b4.conv.bias"),
            ("final_linear.1.weight", "b4.out.weight"),
        ] {
            assert_eq!(renamed_d(&parts(theirs), 3).as_deref(), Some(ours), "{theirs}");
        }
        assert_eq!(renamed_d(&parts("convs.9.skip.1.weight"), 3), None);
    }
}
