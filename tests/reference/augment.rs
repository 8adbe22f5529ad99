//! The transforms of pictures: files h.
//!
//! Their draws are given, one way or the other, and go through the code that training uses.

use std::f64::consts::PI;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor, Var};
use stylegan2_c2d::augment::{AugPipe, AugmentConfig, Pipeline, Transforms, Values};
use stylegan2_c2d::ops::{Traced, grad};

use crate::GRADIENT;
use crate::golden::{Check, Golden, check, files};

/// As the files' notes suggest: where a picture is read depends on rounding.
const MOVED: f64 = 1e-4;
const UNMOVED: f64 = 2e-5;

const DTYPES: [DType; 2] = [DType::F32, DType::F64];

/// Compares what comes out, and the gradient where there is one.
fn compare(
    check: &mut Check,
    what: &str,
    transforms: &Transforms,
    x: &Tensor,
    [y, dy, dx]: [Option<Tensor>; 3],
    tolerance: f64,
) -> Result<()> {
    let x = Traced::variable(&Var::from_tensor(x)?);
    let ours = transforms.apply(&x)?;
    check.close(what, ours.value(), &y.context("a result")?, tolerance)?;
    if let Some(dx) = dx {
        let dy = Traced::constant(&dy.context("a gradient of the result")?);
        let ours = grad((ours * dy)?.sum_all()?, &[x])?.remove(0);
        check.close(&format!("{what}, gradient"), &ours, &dx, GRADIENT)?;
    }
    Ok(())
}

/// `x` with `erf(x) = y`, by Newton's method; `erf` by its series.
fn erfinv(y: f64) -> f64 {
    let erf = |x: f64| {
        let term = |(sum, term): (f64, f64), n: i32| {
            let next = term * -x * x / f64::from(n);
            (sum + next / f64::from(2 * n + 1), next)
        };
        (1..60).fold((x, x), term).0 * 2.0 / PI.sqrt()
    };
    let step = |x: f64, _| x - (erf(x) - y) / (2.0 / PI.sqrt() * (-x * x).exp());
    (0..20).fold(0.0, step)
}

/// All transforms at percentile `p` of their distribution, as the published pipe does it when it is
/// debugged: its normal quantiles are those of deviation 1 / sqrt(2), the second turn is left out.
fn add_percentile(values: &mut Values, name: &str, p: f64) -> Result<()> {
    let c = AugPipe::Bgcfnc.config();
    let (symmetric, normal) = (p * 2.0 - 1.0, erfinv(p * 2.0 - 1.0));
    let log2_normal = |std: f64| (normal * std).exp2();
    match name {
        "xflip" => values.xflip = (p * 2.0).floor(),
        "rotate90" => values.rotate90 = (p * 4.0).floor(),
        "xint" => values.xint = [symmetric * c.xint_max; 2],
        "scale" => values.scale = log2_normal(c.scale_std),
        "rotate" => values.rotate_before = symmetric * PI * c.rotate_max,
        "aniso" => values.aniso = log2_normal(c.aniso_std),
        "xfrac" => values.xfrac = [normal * c.xfrac_std; 2],
        "brightness" => values.brightness = normal * c.brightness_std,
        "contrast" => values.contrast = log2_normal(c.contrast_std),
        "lumaflip" => values.lumaflip = (p * 2.0).floor(),
        "hue" => values.hue = symmetric * PI * c.hue_max,
        "saturation" => values.saturation = log2_normal(c.saturation_std),
        "imgfilter" => values.bands = [log2_normal(c.imgfilter_std); 4],
        "noise" => values.noise = erfinv(p) * c.noise_std,
        "cutout" => (values.cutout, values.cutout_center) = (c.cutout_size, [p; 2]),
        other => bail!("unknown transform {other}"),
    }
    Ok(())
}

const GEOMETRIC: [&str; 9] =
    ["xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac", "bgc", "bgcfnc"];

/// `NAME.cCHANNELS.pPERCENTILE`, if it is one.
fn parts(name: &str) -> Option<(&str, usize, f64)> {
    let (group, rest) = name.split_once(".c")?;
    let (channels, percentile) = rest.split_once(".p")?;
    Some((group, channels.parse().ok()?, percentile.parse().ok()?))
}

fn debug_case(file: &Golden, name: &str, dtype: DType, check: &mut Check) -> Result<()> {
    let (group, channels, p) = parts(name).context("a case")?;
    let y = file.get(name, dtype)?;
    let n = y.dim(0)?;
    let input = |name: &str| -> Result<Tensor> {
        Ok(file.get(&format!("{name}.c{channels}"), dtype)?.narrow(0, 0, n)?)
    };
    let mut values = Values::NONE;
    for transform in file.json("groups")?[group].as_array().context("transforms")? {
        // Colors that a gray picture does not have are not drawn for it.
        let name = transform.as_str().context("a name")?;
        if channels > 1 || !["hue", "saturation"].contains(&name) {
            add_percentile(&mut values, name, p)?;
        }
    }
    let config = AugPipe::Bgcfnc.config();
    let pipeline = Pipeline::new(&config, channels, (dtype, &Device::Cpu))?;
    let noise = input("noise")?;
    let transforms = pipeline.transforms(&vec![values; n], (32, 32), || Ok(noise))?;
    let dx = format!("{name}.grad_x");
    let dx = file.has(&dx).then(|| file.get(&dx, dtype)).transpose()?;
    let expected = [Some(y), Some(input("grad_y")?), dx];
    let tolerance = if GEOMETRIC.contains(&group) { MOVED } else { UNMOVED };
    compare(check, name, &transforms, &input("in")?, expected, tolerance)
}

#[test]
fn h_augment_debug() -> Result<()> {
    for file in files("h_augment_debug", "")? {
        check(&file, |check| {
            let names: Vec<String> = file.with_prefix("", DType::F64)?.into_keys().collect();
            let cases: Vec<_> = names.iter().filter(|name| parts(name).is_some()).collect();
            ensure!(!cases.is_empty(), "no case");
            for name in cases {
                for dtype in DTYPES {
                    debug_case(&file, name, dtype, check).with_context(|| name.clone())?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The draws of each image in the order of the calls, each call's one after the other; those for
/// the noise of all pixels apart.
fn draws_of_images(file: &Golden, case: &str, n: usize) -> Result<(Vec<Vec<f64>>, Option<Tensor>)> {
    let mut calls: Vec<_> =
        file.with_prefix(&format!("{case}.draw"), DType::F64)?.into_iter().collect();
    calls.sort_by(|a, b| a.0.cmp(&b.0));
    let (mut images, mut noise) = (vec![Vec::new(); n], None);
    for (_, call) in calls {
        if call.rank() == 4 && call.dim(3)? > 1 {
            noise = Some(call);
            continue;
        }
        for (image, row) in images.iter_mut().zip(call.reshape((n, ()))?.to_vec2::<f64>()?) {
            image.extend(row);
        }
    }
    Ok((images, noise))
}

fn config_of(transforms: &[serde_json::Value]) -> AugmentConfig {
    let is_full = transforms.iter().any(|transform| transform == "cutout");
    if is_full { AugPipe::Bgcfnc.config() } else { AugPipe::Bgc.config() }
}

#[test]
fn h_augment_draws() -> Result<()> {
    for file in files("h_augment_draws", "")? {
        check(&file, |check| {
            for (case, spec) in file.json("cases")?.as_object().context("cases")? {
                let p = spec["p"].as_f64().context("p")?;
                let config = config_of(spec["transforms"].as_array().context("transforms")?);
                for dtype in DTYPES {
                    let get = |name: &str| file.get(&format!("{case}.{name}"), dtype);
                    let x = get("x")?;
                    let (n, channels, h, w) = x.dims4()?;
                    let (images, noise) = draws_of_images(&file, case, n)?;
                    let mut values = Vec::new();
                    for image in images {
                        let mut rest = image.into_iter();
                        let next = |_| rest.next().unwrap_or(f64::NAN);
                        values.push(Values::draw(&config, channels, p, next));
                        ensure!(rest.next().is_none(), "case {case}: a draw is left over");
                    }
                    let pipeline = Pipeline::new(&config, channels, (dtype, &Device::Cpu))?;
                    let noise = || match noise {
                        Some(noise) => noise.to_dtype(dtype),
                        None => candle_core::bail!("no draws of noise"),
                    };
                    let transforms = pipeline.transforms(&values, (h, w), noise)?;
                    let expected = [get("y")?, get("grad_y")?, get("grad_x")?].map(Some);
                    compare(check, &format!("case {case}"), &transforms, &x, expected, MOVED)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
