//! Single ops: files a to d.

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Tensor, Var};
use serde_json::Value;
use stylegan2_c2d::ops::bias_act::Activation;
use stylegan2_c2d::ops::conv2d_resample::Resample;
use stylegan2_c2d::ops::upfirdn2d::{Axis, Filter, Upfirdn2d};
use stylegan2_c2d::ops::{
    Traced, add_noise, bias_act, conv2d_resample, grad, grad_with_graph, modulated_conv2d,
    upfirdn2d,
};

use crate::golden::{Check, Golden, check, files};
use crate::{GRADIENT, OUTPUT, SECOND_ORDER};

const DTYPES: [DType; 2] = [DType::F32, DType::F64];

fn variable(value: &Tensor) -> Result<Traced> {
    Ok(Traced::variable(&Var::from_tensor(value)?))
}

/// `w` turned by 180 degrees.
fn turned(w: &Traced) -> Result<Traced> {
    let back = |len: usize| Tensor::from_iter((0..len as u32).rev(), w.device());
    Ok(w.index_select(&back(w.dim(2)?)?, 2)?.index_select(&back(w.dim(3)?)?, 3)?)
}

/// Runs `case` over all cases of all files with `prefix`, in f32 and in f64.
fn for_each_case(
    prefix: &str,
    case: impl Fn(&Golden, &Value, DType, &mut Check) -> Result<()>,
) -> Result<()> {
    let files = files(prefix, "")?;
    ensure!(!files.is_empty() || std::env::var_os("GOLDEN_DIR").is_some(), "no file {prefix}*");
    for file in files {
        check(&file, |check| {
            for value in file.json("cases")?.as_array().context("cases are a list")? {
                for dtype in DTYPES {
                    case(&file, value, dtype, check).with_context(|| value.to_string())?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// One number for both axes or `[x, y]`, as `[y, x]`.
fn pair(value: &Value) -> Result<[usize; 2]> {
    let number = |value: &Value| value.as_u64().context("a number").map(|n| n as usize);
    match value {
        Value::Null => Ok([1, 1]),
        Value::Array(xy) => Ok([number(&xy[1])?, number(&xy[0])?]),
        one => Ok([number(one)?; 2]),
    }
}

/// One number, `[x, y]` or `[x0, x1, y0, y1]`, as `[[y0, y1], [x0, x1]]`.
fn padding(value: &Value) -> Result<[[isize; 2]; 2]> {
    let number = |value: &Value| value.as_i64().context("a number").map(|n| n as isize);
    match value {
        Value::Null => Ok([[0; 2]; 2]),
        Value::Array(p) if p.len() == 2 => Ok([[number(&p[1])?; 2], [number(&p[0])?; 2]]),
        Value::Array(p) => Ok([[number(&p[2])?, number(&p[3])?], [number(&p[0])?, number(&p[1])?]]),
        one => Ok([[number(one)?; 2]; 2]),
    }
}

fn filter(file: &Golden, name: &str) -> Result<Filter> {
    if name == "none" {
        return Ok(Filter::identity());
    }
    let taps = file.get(&format!("filter.{name}"), DType::F64)?;
    if taps.rank() == 1 {
        return Ok(Filter::separable(&taps.to_vec1()?));
    }
    Ok(Filter::dense(&taps.to_vec2()?)?)
}

/// The wrappers of the reference pad so that the filter is centred.
fn upfirdn2d_of_case(file: &Golden, case: &Value) -> Result<Upfirdn2d> {
    let filter = filter(file, case["filter"].as_str().context("a filter")?)?;
    let (taps_y, taps_x) = filter.size();
    let (mut up, mut down) = (pair(&case["up"])?, pair(&case["down"])?);
    let mut pad = padding(&case["padding"])?;
    let mut gain = case["gain"].as_f64().unwrap_or(1.0);
    let mut centre = |before: &dyn Fn(usize) -> usize, after: &dyn Fn(usize) -> usize| {
        for (pad, taps) in pad.iter_mut().zip([taps_y, taps_x]) {
            *pad = [pad[0] + before(taps) as isize, pad[1] + after(taps) as isize];
        }
    };
    match case["fn"].as_str() {
        Some("upfirdn2d") => {}
        Some("filter2d") => centre(&|taps| taps / 2, &|taps| (taps - 1) / 2),
        Some("upsample2d") => {
            up = pair(case.get("up").unwrap_or(&Value::from(2)))?;
            centre(&|taps| taps.div_ceil(2), &|taps| (taps - 2) / 2);
            gain *= (up[0] * up[1]) as f64;
        }
        Some("downsample2d") => {
            down = pair(case.get("down").unwrap_or(&Value::from(2)))?;
            centre(&|taps| (taps - 1) / 2, &|taps| (taps - 2) / 2);
        }
        other => bail!("unknown function {other:?}"),
    }
    let axis = |i: usize| Axis { up: up[i], down: down[i], pad: pad[i] };
    Ok(match case["flip_filter"].as_bool() {
        Some(true) => Upfirdn2d::correlate(&filter, axis(0), axis(1), gain),
        _ => Upfirdn2d::convolve(&filter, axis(0), axis(1), gain),
    })
}

#[test]
fn a_upfirdn2d() -> Result<()> {
    for_each_case("a_upfirdn2d", |file, case, dtype, check| {
        let id = case["id"].as_str().context("an id")?;
        let x = variable(&file.get("x", dtype)?)?;
        let y = upfirdn2d(&x, &upfirdn2d_of_case(file, case)?)?;
        check.close("y", y.value(), &file.get(&format!("{id}.y"), dtype)?, OUTPUT)?;
        let dy = Traced::from(file.get(&format!("{id}.grad_y"), dtype)?);
        let grads = grad((y * dy)?.sum_all()?, &[x])?;
        check.close("dx", &grads[0], &file.get(&format!("{id}.grad_x"), dtype)?, GRADIENT)
    })
}

#[test]
fn b_bias_act() -> Result<()> {
    for_each_case("b_bias_act", |file, case, dtype, check| {
        let id = case["id"].as_str().context("an id")?;
        let x = variable(&file.get(case["x"].as_str().context("x")?, dtype)?)?;
        let b = variable(&file.get("b", dtype)?)?;
        let has_bias = case["bias"].as_bool() == Some(true);
        let act = match case["act"].as_str() {
            Some("lrelu") => Activation::Lrelu { alpha: case["alpha"].as_f64().unwrap_or(0.2) },
            Some("linear") => Activation::Linear,
            Some("relu") => Activation::Relu,
            Some("tanh") => Activation::Tanh,
            Some("sigmoid") => Activation::Sigmoid,
            Some("elu") => Activation::Elu,
            Some("selu") => Activation::Selu,
            Some("softplus") => Activation::Softplus,
            Some("swish") => Activation::Swish,
            other => bail!("unknown activation {other:?}"),
        };
        let gain = case["gain"].as_f64().unwrap_or(act.default_gain());
        let bias = has_bias.then_some(&b);
        let y = bias_act(&x, bias, act, gain, case["clamp"].as_f64())?;
        check.close("y", y.value(), &file.get(&format!("{id}.y"), dtype)?, OUTPUT)?;
        let dy = Traced::from(file.get(&format!("{id}.grad_y"), dtype)?);
        let grads = grad((y * dy)?.sum_all()?, &[x, b])?;
        check.close("dx", &grads[0], &file.get(&format!("{id}.grad_x"), dtype)?, GRADIENT)?;
        if has_bias {
            check.close("db", &grads[1], &file.get(&format!("{id}.grad_b"), dtype)?, GRADIENT)?;
        }
        Ok(())
    })
}

#[test]
fn c_modulated_conv2d() -> Result<()> {
    for_each_case("c_modulated_conv2d", |file, case, dtype, check| {
        let id = case["id"].as_str().context("an id")?;
        let (k, up) = (case["k"].as_u64().context("k")?, pair(&case["up"])?[0]);
        let filter = Filter::dense(&file.get("filter", DType::F64)?.to_vec2()?)?;
        let [x, w, styles] = ["x", &format!("w{k}"), "styles"].map(|name| file.get(name, dtype));
        let (x, w, styles) = (variable(&x?)?, variable(&w?)?, variable(&styles?)?);
        let demodulate = case["demodulate"].as_bool().context("demodulate")?;
        let resample = Resample { filter: &filter, up, down: 1 };
        let expected = |name: &str| file.get(&format!("{id}.{name}"), dtype);
        let strength = Traced::from(Tensor::ones((), dtype, x.device())?);
        let layer = || -> Result<Traced> {
            let y = modulated_conv2d(&x, &w, &styles, resample, demodulate)?;
            if !file.has(&format!("{id}.noise")) {
                return Ok(y);
            }
            let noise = expected("noise")?;
            let (h, w) = (noise.dim(noise.rank() - 2)?, noise.dim(noise.rank() - 1)?);
            let noise = noise.reshape((noise.elem_count() / (h * w), 1, h, w))?;
            Ok(add_noise(&y, &noise, &strength)?)
        };
        let y = layer()?;
        check.close("y", y.value(), &expected("y")?, OUTPUT)?;
        check.close("y against the fused form", y.value(), &expected("y_fused")?, OUTPUT)?;
        let dy = Traced::from(expected("grad_y")?);
        let wrt = [x.clone(), w.clone(), styles.clone()];
        let grads = grad((y * &dy)?.sum_all()?, &wrt)?;
        for (name, grad) in ["grad_x", "grad_w", "grad_styles"].iter().zip(&grads) {
            check.close(name, grad, &expected(name)?, GRADIENT)?;
        }
        if case["second_order"].as_bool() == Some(true) {
            let loss = (layer()? * dy)?.sum_all()?;
            let first = grad_with_graph(&loss, &[styles.clone(), x.clone()])?;
            let h = (first[0].sqr()?.sum_all()? + first[1].sqr()?.sum_all()?)?;
            check.close("h", h.value(), &expected("h")?, GRADIENT)?;
            let grads = grad(h, &wrt)?;
            for (name, grad) in ["h_grad_x", "h_grad_w", "h_grad_styles"].iter().zip(&grads) {
                check.close(name, grad, &expected(name)?, SECOND_ORDER)?;
            }
        }
        Ok(())
    })
}

#[test]
fn d_conv2d_resample() -> Result<()> {
    for_each_case("d_conv2d_resample", |file, case, dtype, check| {
        let id = case["id"].as_str().context("an id")?;
        let k = case["k"].as_u64().context("k")?;
        let (up, down) = (pair(&case["up"])?[0], pair(&case["down"])?[0]);
        let filter = Filter::dense(&file.get("filter", DType::F64)?.to_vec2()?)?;
        let x = variable(&file.get("x", dtype)?)?;
        let w = variable(&file.get(&format!("w{k}"), dtype)?)?;
        // Ours correlates without upsampling and convolves with it; the files have all four.
        let correlates = case["flip_weight"].as_bool().context("flip_weight")?;
        let oriented = if correlates == (up == 1) { w.clone() } else { turned(&w)? };
        let padding = case["padding"].as_u64().context("padding")? as usize;
        let resample = Resample { filter: &filter, up, down };
        let y = conv2d_resample(&x, &oriented, resample, padding, 1.0)?;
        let expected = |name: &str| file.get(&format!("{id}.{name}"), dtype);
        check.close("y", y.value(), &expected("y")?, OUTPUT)?;
        let grads = grad((y * Traced::from(expected("grad_y")?))?.sum_all()?, &[x, w])?;
        check.close("dx", &grads[0], &expected("grad_x")?, GRADIENT)?;
        check.close("dw", &grads[1], &expected("grad_w")?, GRADIENT)
    })
}
