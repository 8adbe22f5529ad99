//! Layers that no op stands for: file d2.

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Var};
use stylegan2_c2d::model::Store;
use stylegan2_c2d::model::layers::{
    FullyConnectedConfig, fully_connected, minibatch_std, normalize_2nd_moment,
};
use stylegan2_c2d::ops::bias_act::Activation;
use stylegan2_c2d::ops::{Traced, grad};

use crate::golden::{Check, Golden, check, files};
use crate::{GRADIENT, OUTPUT};

#[test]
fn d2_layers() -> Result<()> {
    let files = files("d2_layers", "")?;
    ensure!(!files.is_empty() || std::env::var_os("GOLDEN_DIR").is_some(), "no file d2_layers*");
    for file in files {
        check(&file, |check| {
            for dtype in [DType::F32, DType::F64] {
                let y = normalize_2nd_moment(&file.get("norm2.x", dtype)?.into())?;
                check.close("norm2", y.value(), &file.get("norm2.y", dtype)?, OUTPUT)?;
                for (name, spec) in file.json("mbstd")?.as_object().context("mbstd")? {
                    let group = spec["group"].as_u64().map(|n| n as usize);
                    let channels = spec["ch"].as_u64().context("ch")? as usize;
                    let layer = |x: &Traced| Ok(minibatch_std(x, group, channels)?);
                    layer_of(&file, name, dtype, check, &[], layer)?;
                }
                for (name, spec) in file.json("fc")?.as_object().context("fc")? {
                    full(&file, name, spec.as_str().context("a text")?, dtype, check)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// `spec` is "activation, `lr_multiplier`".
fn full(file: &Golden, name: &str, spec: &str, dtype: DType, check: &mut Check) -> Result<()> {
    let (activation, multiplier) = spec.split_once(", ").context("two words")?;
    let activation = match activation {
        "lrelu" => Activation::LRELU,
        "linear" => Activation::Linear,
        other => bail!("unknown activation {other}"),
    };
    let lr_multiplier = multiplier.split_whitespace().find_map(|word| word.parse().ok());
    let lr_multiplier = lr_multiplier.context("a number")?;
    let config = FullyConnectedConfig { activation, lr_multiplier, bias_init: 0.0 };
    let store = Store::new(dtype, &Device::Cpu);
    let (out_dim, in_dim) = file.get(&format!("{name}.weight"), dtype)?.dims2()?;
    fully_connected(in_dim, out_dim, config, &store.init(0))?;
    for part in ["weight", "bias"] {
        store.set(part, &file.get(&format!("{name}.{part}"), dtype)?)?;
    }
    let layer = fully_connected(in_dim, out_dim, config, &store.tracked())?;
    layer_of(file, name, dtype, check, &store.params(), |x| Ok(layer.forward(x)?))
}

/// Output and gradients of a layer with `params`.
fn layer_of(
    file: &Golden,
    name: &str,
    dtype: DType,
    check: &mut Check,
    params: &[(String, Var)],
    layer: impl Fn(&Traced) -> Result<Traced>,
) -> Result<()> {
    let get = |part: &str| file.get(&format!("{name}.{part}"), dtype);
    let mut wrt = vec![Traced::variable(&Var::from_tensor(&get("x")?)?)];
    let y = layer(&wrt[0])?;
    check.close(name, y.value(), &get("y")?, OUTPUT)?;
    wrt.extend(params.iter().map(|(_, var)| Traced::variable(var)));
    let grads = grad((y * Traced::from(get("grad_y")?))?.sum_all()?, &wrt)?;
    let names = std::iter::once("x").chain(params.iter().map(|(name, _)| name.as_str()));
    for (part, ours) in names.zip(&grads) {
        check.close(&format!("{name}.{part}"), ours, &get(&format!("grad_{part}"))?, GRADIENT)?;
    }
    Ok(())
}
