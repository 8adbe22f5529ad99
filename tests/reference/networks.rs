//! Whole networks: files e, and the architectures of `e_arch_variants`.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor, Var};
use serde_json::Value;
use stylegan2_c2d::model::config::{Architecture, DiscriminatorConfig, GeneratorConfig};
use stylegan2_c2d::model::{Discriminator, Generator, Noise, Store, Truncation};
use stylegan2_c2d::model::{discriminator, generator};
use stylegan2_c2d::ops::{Traced, grad};

use crate::golden::{Check, Golden, check, files};
use crate::{GRADIENT, OUTPUT};

/// Both networks with the weights of a golden file.
pub struct Networks {
    pub g_config: GeneratorConfig,
    pub d_config: DiscriminatorConfig,
    pub g_store: Store,
    pub d_store: Store,
}

impl Networks {
    /// Builds what `spec` describes and loads `prefix` + `G.*`, `D.*`.
    pub fn load(file: &Golden, spec: &Value, prefix: &str, dtype: DType) -> Result<Self> {
        let (g_config, d_config) = configs(spec)?;
        let (g_store, d_store) = (Store::new(dtype, &Device::Cpu), Store::new(dtype, &Device::Cpu));
        generator(&g_config, &g_store.init(0))?;
        discriminator(&d_config, &d_store.init(0))?;
        fill(&g_store, file.with_prefix(&format!("{prefix}G."), dtype)?)?;
        fill(&d_store, file.with_prefix(&format!("{prefix}D."), dtype)?)?;
        Ok(Self { g_config, d_config, g_store, d_store })
    }

    pub fn g(&self) -> Result<Generator> {
        Ok(generator(&self.g_config, &self.g_store.tracked())?)
    }

    pub fn d(&self) -> Result<Discriminator> {
        Ok(discriminator(&self.d_config, &self.d_store.tracked())?)
    }
}

/// Sets every tensor; the constant filters are checked instead.
fn fill(store: &Store, tensors: HashMap<String, Tensor>) -> Result<()> {
    let mut missing: Vec<String> = store.tensors().into_iter().map(|(name, _)| name).collect();
    for (name, tensor) in tensors {
        if name.ends_with("resample_filter") {
            let filter = stylegan2_c2d::ops::upfirdn2d::Filter::stylegan2().values();
            let theirs = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
            ensure!(theirs == filter, "{name} differs from ours");
            continue;
        }
        store.set(&name, &tensor)?;
        missing.retain(|known| *known != name);
    }
    ensure!(missing.is_empty(), "not in the file: {missing:?}");
    Ok(())
}

fn number(spec: &Value, key: &str) -> Result<usize> {
    spec[key].as_u64().map(|n| n as usize).with_context(|| format!("spec has no {key}"))
}

/// The architecture in a group of keyword arguments; nothing else may be in there.
fn architecture(kwargs: &Value, default: Architecture) -> Result<Architecture> {
    let Some(kwargs) = kwargs.as_object() else { return Ok(default) };
    let mut architecture = default;
    for (key, value) in kwargs {
        ensure!(key == "architecture", "unknown argument {key}");
        architecture = serde_json::from_value(value.clone())?;
    }
    Ok(architecture)
}

fn configs(spec: &Value) -> Result<(GeneratorConfig, DiscriminatorConfig)> {
    const KNOWN: [&str; 19] = [
        "z_dim", "w_dim", "map", "c_dim", "res", "ch", "cbase", "cmax", "mbstd", "batch", "seed",
        "r1_gamma", "lr", "ema_nimg", "iters", "synth", "dkw", "clamp", "finals",
    ];
    for key in spec.as_object().context("spec is an object")?.keys() {
        if !KNOWN.contains(&key.as_str()) {
            bail!("unknown key {key} in spec");
        }
    }
    let g = GeneratorConfig {
        z_dim: number(spec, "z_dim")?,
        c_dim: number(spec, "c_dim")?,
        w_dim: number(spec, "w_dim")?,
        img_resolution: number(spec, "res")?,
        img_channels: number(spec, "ch")?,
        mapping_layers: number(spec, "map")?,
        channel_base: number(spec, "cbase")?,
        channel_max: number(spec, "cmax")?,
        conv_clamp: spec["clamp"].as_f64(),
        architecture: architecture(&spec["synth"], Architecture::Skip)?,
    };
    let d = DiscriminatorConfig {
        c_dim: g.c_dim,
        img_resolution: g.img_resolution,
        img_channels: g.img_channels,
        channel_base: g.channel_base,
        channel_max: g.channel_max,
        conv_clamp: g.conv_clamp,
        architecture: architecture(&spec["dkw"], Architecture::Resnet)?,
        mbstd_group_size: spec["mbstd"].as_u64().map(|n| n as usize),
        mbstd_num_channels: 1,
        mapping_layers: 8,
    };
    Ok((g, d))
}

/// The state of `f_NAME_*` and `g_NAME_*` is that of `e_NAME_networks`.
pub fn state_of(file: &Golden) -> Result<Golden> {
    let name = file.name();
    let stem = name.split('_').nth(1).context("a name of three parts")?;
    Golden::open(&file.path.with_file_name(format!("e_{stem}_networks.safetensors")))
}

/// A tensor of a golden file, or none where the network has no labels.
pub fn labels(file: &Golden, name: &str, dtype: DType) -> Result<Option<Tensor>> {
    if !file.has(name) {
        return Ok(None);
    }
    let c = file.get(name, dtype)?;
    Ok((c.dims().last() != Some(&0)).then_some(c))
}

#[test]
fn e_networks() -> Result<()> {
    let files = files("e_", "_networks")?;
    ensure!(!files.is_empty(), "no file e_*_networks");
    for file in files {
        check(&file, |check| {
            networks(&file, DType::F32, check)?;
            networks(&file, DType::F64, check)
        })?;
    }
    Ok(())
}

fn networks(file: &Golden, dtype: DType, check: &mut Check) -> Result<()> {
    let networks = Networks::load(file, &file.json("spec")?, "", dtype)?;
    let (g, d) = (networks.g()?, networks.d()?);
    let z = file.get("in.z", dtype)?;
    let c = labels(file, "in.c", dtype)?;
    let mut close = |name: &str, ours: &Tensor| {
        let key = format!("out.{name}");
        let is_variant = name.starts_with("img_") || name.starts_with("ws_");
        if is_variant && !file.has(&key) {
            return Ok(()); // not every file has every way to truncate
        }
        let tolerance = OUTPUT.max(10.0 * file.seen_error(name));
        check.close(name, ours, &file.get(&key, dtype)?, tolerance)
    };
    let psi = |psi: f64, cutoff: Option<usize>| Truncation { psi, cutoff };
    close("ws", g.ws(&z, c.as_ref(), Truncation::NONE)?.value())?;
    close("ws_psi0.7", g.ws(&z, c.as_ref(), psi(0.7, None))?.value())?;
    close("ws_psi0.5_cutoff3", g.ws(&z, c.as_ref(), psi(0.5, Some(3)))?.value())?;
    let img = g.forward(&z, c.as_ref(), Truncation::NONE, Noise::Const)?;
    close("img", &img)?;
    close("img_unfused", &img)?;
    close("img_psi0.7", &g.forward(&z, c.as_ref(), psi(0.7, None), Noise::Const)?)?;
    close("img_nonoise", &g.forward(&z, c.as_ref(), Truncation::NONE, Noise::None)?)?;
    let real_c = labels(file, "in.real_c", dtype)?;
    let real = file.get("in.real", dtype)?.into();
    close("logits_real", d.forward(&real, real_c.as_ref())?.value())?;
    close("logits_fake", d.forward(&img.into(), c.as_ref())?.value())
}

#[test]
fn e_architectures() -> Result<()> {
    let files = files("e_arch", "")?;
    ensure!(!files.is_empty() || std::env::var_os("GOLDEN_DIR").is_some(), "no file e_arch*");
    for file in files {
        check(&file, |check| {
            for (id, variant) in file.json("variants")?.as_object().context("variants")? {
                for dtype in [DType::F32, DType::F64] {
                    let networks =
                        Networks::load(&file, &variant["spec"], &format!("{id}."), dtype)?;
                    let get = |name: &str| file.get(&format!("{id}.{name}"), dtype);
                    let img =
                        networks.g()?.forward(&get("z")?, None, Truncation::NONE, Noise::Const)?;
                    check.close("img", &img, &get("img")?, OUTPUT)?;
                    let real = Traced::variable(&Var::from_tensor(&get("real")?)?);
                    let logits = networks.d()?.forward(&real, None)?;
                    check.close("logits", logits.value(), &get("logits")?, OUTPUT)?;
                    let grad_real = grad(logits.sum_all()?, &[real])?;
                    check.close("grad_real", &grad_real[0], &get("grad_real")?, GRADIENT)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
