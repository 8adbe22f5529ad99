//! Closed forms, finite differences, the reference path, threads and refusals.

use candle_core::{Device, Var};

use super::*;
use crate::ops::check::{Draws, finite_differences, same, same_bits};
use crate::ops::grad;

const PIECEWISE: [Activation; 4] =
    [Activation::Linear, Activation::LRELU, Activation::Lrelu { alpha: 0.5 }, Activation::Relu];
const SMOOTH: [Activation; 6] = [
    Activation::Tanh,
    Activation::Sigmoid,
    Activation::Elu,
    Activation::Selu,
    Activation::Softplus,
    Activation::Swish,
];

/// `x [2, 3, 4, 5]` and `b [3]` with `x + b` at least 0.1 away from every whole number up to
/// 3: finite differences must not step over the kinks at 0 and at the clamp.
fn away_from_kinks(draws: &mut Draws) -> Result<[Tensor; 2]> {
    let b = draws.normals(3)?;
    let whole = (0..120).map(|_| draws.size(0, 5) as f64 - 3.0).collect();
    let whole = Tensor::from_vec(whole, (2, 3, 4, 5), &Device::Cpu)?;
    let normals = draws.normals((2, 3, 4, 5))?;
    let rest = (normals.sin()?.sqr()? * 0.8)?.affine(1.0, 0.1)?; // in 0.1..=0.9
    Ok([(whole + rest)?.broadcast_sub(&b.reshape((1, 3, 1, 1))?)?, b])
}

/// Limits are one gain, so that `x + b = 1` is where the clamp begins (and -2 or -1).
#[test]
fn gradients_equal_finite_differences() -> Result<()> {
    let mut draws = Draws::new(30);
    for act in PIECEWISE.into_iter().chain(SMOOTH) {
        let limits = if act.slope().is_some() { &[None, Some(1.5)][..] } else { &[None] };
        for &limit in limits {
            let args = away_from_kinks(&mut draws)?;
            let what = format!("{act:?}, clamp {limit:?}");
            finite_differences(&what, &args, &|a| bias_act(&a[0], Some(&a[1]), act, 1.5, limit))?;
            finite_differences(
                &what,
                &[args[0].broadcast_add(&args[1].reshape((1, 3, 1, 1))?)?],
                &|a| bias_act(&a[0], None, act, 1.5, limit),
            )?;
        }
    }
    Ok(())
}

#[test]
fn the_kernel_equals_the_reference() -> Result<()> {
    let mut draws = Draws::new(31);
    for act in PIECEWISE {
        for limit in [f64::INFINITY, 0.8] {
            for rank in 2..=4 {
                let shape: Vec<usize> = (0..rank).map(|_| draws.size(1, 9)).collect();
                let args = [draws.normals(shape.as_slice())?, draws.normals(shape[1])?];
                let op = |a: &[Traced], kernel: bool| {
                    let (x, b) = (&a[0], a.get(1));
                    if kernel {
                        let clamp = limit.is_finite().then_some(limit);
                        bias_act(x, b, act, 1.4, clamp)
                    } else {
                        reference(x, b, act, 1.4, limit)
                    }
                };
                let what = format!("{act:?}, limit {limit}, {shape:?}");
                same(&what, &args, &|a| op(a, true), &|a| op(a, false))?;
                same(&what, &args[..1], &|a| op(a, true), &|a| op(a, false))?;
            }
        }
    }
    Ok(())
}

/// At zero, the slope is the one below, as everywhere else (`torch.nn.functional`).
#[test]
fn slopes_at_zero() -> Result<()> {
    let x = Traced::variable(&Var::new(&[[0f64]], &Device::Cpu)?);
    let wrt = std::slice::from_ref(&x);
    let slope_of = |y: Traced| grad(y.sum_all()?, wrt)?[0].sum_all()?.to_scalar();
    for (act, slope) in [
        (Activation::Linear, 1.0),
        (Activation::LRELU, 0.2),
        (Activation::Relu, 0.0),
        (Activation::Elu, 1.0),
        (Activation::Selu, 1.758_099_340_847_376_6),
        (Activation::Softplus, 0.5),
        (Activation::Swish, 0.5),
    ] {
        let slopes: [f64; 2] = [
            slope_of(bias_act(&x, None, act, 1.0, None)?)?,
            slope_of(reference(&x, None, act, 1.0, f64::INFINITY)?)?,
        ];
        assert!(slopes.iter().all(|s| (s - slope).abs() < 1e-15), "{act:?}: {slopes:?}");
    }
    Ok(())
}

/// Infinities and NaN as the functions have them.
#[test]
fn softplus_and_elu_of_what_is_not_finite() -> Result<()> {
    let x = Tensor::new(&[[f64::INFINITY, f64::NEG_INFINITY, f64::NAN]], &Device::Cpu)?.into();
    let [softplus, elu] = [Activation::Softplus, Activation::Elu].map(|act| act.reference(&x));
    for (y, below) in [(softplus?, 0.0), (elu?, -1.0)] {
        let y = y.value().flatten_all()?.to_vec1::<f64>()?;
        assert!(y[0] == f64::INFINITY && y[1] == below && y[2].is_nan(), "{y:?}");
    }
    Ok(())
}

#[test]
fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
    let mut draws = Draws::new(32);
    let args = [draws.normals((5, 9, 33, 65))?, draws.normals(9)?];
    same_bits("bias_act", &args, &|a| {
        bias_act(&a[0], Some(&a[1]), Activation::LRELU, 1.4, Some(1.0))
    })
}

#[test]
fn an_empty_batch_has_gradient_zero() -> Result<()> {
    let (x, b) = (Draws::new(34).variable((0, 3, 4))?, Draws::new(35).variable(3)?);
    let y = bias_act(&x, Some(&b), Activation::LRELU, 1.0, None)?;
    let grads = grad(y.sum_all()?, &[x.clone(), b])?;
    assert_eq!(grads[0].dims(), x.dims());
    assert_eq!(grads[1].to_vec1::<f64>()?, [0.0; 3]);
    Ok(())
}

#[test]
fn impossible_constants_are_refused() -> Result<()> {
    let x = Draws::new(36).variable((2, 3))?;
    let of = |act, gain, clamp| bias_act(&x, None, act, gain, clamp).is_err();
    assert!(of(Activation::Lrelu { alpha: -0.1 }, 1.0, None));
    assert!(of(Activation::LRELU, 0.0, None));
    assert!(of(Activation::LRELU, 1.0, Some(0.0)));
    assert!(bias_act(&x, Some(&x), Activation::LRELU, 1.0, None).is_err());
    Ok(())
}
