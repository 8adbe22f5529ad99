//! Checkpoints in the layout of rosinality's StyleGAN2: `torch.save` of a dictionary whose
//! `g_ema` and `g` are state dictionaries of a generator.
//!
//! It is the generator of the architecture skip without labels, under other names and with two
//! other conventions. A modulated convolution there scales its weight by `1 / sqrt(fan_in)`
//! before it is demodulated, here that is part of the weight (a 1x1 one to RGB is scaled in both).
//! And the mean of `w` is not part of the network: where the file has none as `latent_avg`, it is
//! computed as those tools do, from 4,096 latents.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, bail};

use super::network::{Config, Named, Network, check_filter, store_of};
use super::shapes::{Shapes, Unshaped};
use super::torch::{Lazy, Storages, Weights};
use super::value::Table;
use super::{Which, printable};
use crate::model::Store;
use crate::model::config::GeneratorConfig;
use crate::model::mapping::{MappingConfig, mapping};
use crate::ops::rng::{Rng, Stream};

/// Latents whose `w` are averaged.
const NUM_LATENTS: usize = 4096;
/// Name of the mean of `w` in our networks.
const W_AVG: &str = "mapping.w_avg";

/// The generator `which` of a checkpoint.
///
/// # Errors
/// Fails, naming it, at whatever is not as in a StyleGAN2.
pub(super) fn read(
    (table, storages): (&Table, &Storages),
    which: Which,
    weights: &mut Weights,
) -> Result<Network> {
    let key = match which {
        Which::GEma => "g_ema",
        Which::G => "g",
        Which::D => {
            bail!("expected a generator to be asked for; of a .pt the discriminator is not read")
        }
    };
    let root = table.expect(table.root, key, "the checkpoint")?;
    let mut tensors = Vec::new();
    for (name, id) in table.members(root)?.unwrap_or_default() {
        let name = table.text(*name).unwrap_or("?");
        let taken = storages.tensor(table, *id).and_then(|lazy| take(name, &lazy, weights));
        let taken = taken.map_err(|error| {
            candle_core::Error::msg(format!("{key}: {}: {error}", printable(name)))
        })?;
        tensors.extend(taken);
    }
    let mean = table.member(table.root, "latent_avg")?;
    let mean = mean.map(|id| mean_of_file(storages.tensor(table, id), weights)).transpose()?;
    let has_own_mean = mean.is_some();
    let shapes = tensors.iter().map(|tensor| (tensor.name.clone(), tensor.dims.clone()));
    let shapes = Shapes(shapes.collect::<BTreeMap<_, _>>());
    let named = |error| candle_core::Error::msg(format!("{key}: {error}"));
    let config = shapes.generator(Unshaped::default()).map_err(named)?;
    let values = mean.unwrap_or_else(|| vec![0.0; config.w_dim]);
    tensors.push(Named { name: W_AVG.to_owned(), dims: vec![values.len()], values });
    let config = Config::Generator(config);
    let store = store_of(&config, tensors).map_err(named)?;
    if let (false, Config::Generator(config)) = (has_own_mean, &config) {
        store.set(W_AVG, &mean_of_latents(config, &store)?)?;
    }
    let source = "a checkpoint of rosinality's layout";
    Ok(Network { config, store, source, header: None, has_own_mean })
}

fn mean_of_file(lazy: Result<Lazy>, weights: &mut Weights) -> Result<Vec<f32>> {
    let values = lazy.and_then(|lazy| weights.values(&lazy));
    values.map_err(|error| candle_core::Error::msg(format!("latent_avg: {error}")))
}

/// The mean `w [w_dim]` of latents that are always the same.
fn mean_of_latents(config: &GeneratorConfig, store: &Store) -> Result<Tensor> {
    let GeneratorConfig { z_dim, c_dim, w_dim, mapping_layers: num_layers, .. } = *config;
    let shape = MappingConfig { z_dim, c_dim, w_dim, num_layers };
    let mapping = mapping(shape, &store.frozen().pp("mapping"))?;
    let z = Rng::new(0, Stream::Samples, 0).normals(NUM_LATENTS * z_dim);
    let z = Tensor::from_vec(z, (NUM_LATENTS, z_dim), store.device())?.to_dtype(store.dtype())?;
    mapping.forward(Some(&z), None)?.value().mean(0)
}

/// A tensor under our name, or none where it is a filter.
fn take(name: &str, lazy: &Lazy, weights: &mut Weights) -> Result<Option<Named>> {
    let mut values = weights.values(lazy)?;
    let parts: Vec<&str> = name.split('.').collect();
    let last = &parts[parts.len().saturating_sub(2)..];
    match last {
        ["blur" | "upsample", "kernel"] => {
            check_filter(name, &values, 4.0)?; // zeros between pixels take their share
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
    let Some(renamed) = renamed(&parts) else {
        bail!("expected a tensor of the generator, got one of an unknown name");
    };
    let dims = match last {
        ["noise", "weight"] => Vec::new(),
        [_, "bias"] => vec![values.len()],
        ["noises", _] => lazy.dims.iter().copied().skip(2).collect(), // [1, 1, H, W]
        ["conv", "weight"] | ["input", _] => lazy.dims.iter().copied().skip(1).collect(), // [1, ..]
        _ => lazy.dims.clone(),
    };
    Ok(Some(Named { name: renamed, dims, values }))
}

/// Our name of a tensor.
fn renamed(parts: &[&str]) -> Option<String> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number < 32);
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
            let parts: Vec<&str> = theirs.split('.').collect();
            assert_eq!(renamed(&parts).as_deref(), Some(ours), "{theirs}");
        }
        assert_eq!(renamed(&["style", "0", "weight"]), None);
    }
}
