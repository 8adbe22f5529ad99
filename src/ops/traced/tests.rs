//! Every rule against finite differences, to second order.

use candle_core::Device;

use super::*;
use crate::ops::check::{Draws, finite_differences};

/// `x^2 + 1/2`, where roots and logarithms are smooth.
fn positive(x: &Traced) -> Result<Traced> {
    x.sqr()?.affine(1.0, 0.5)
}

#[test]
fn arithmetic_has_the_right_derivatives() -> Result<()> {
    type Rule = fn(&[Traced]) -> Result<Traced>;
    let rules: [(&str, Rule); 18] = [
        ("affine", |a| a[0].affine(3.0, -2.0)?.sqr()),
        ("neg", |a| a[0].neg()?.sqr()),
        ("plus", |a| (&a[0] + &a[1])?.sqr()),
        ("plus itself", |a| (&a[0] + &a[0])?.sqr()),
        ("minus", |a| (&a[0] - &a[1])?.sqr()),
        ("times", |a| &a[0] * &a[1]),
        ("powers", |a| (a[0].sqr()? * &a[0])?.sqr()? * &a[1]),
        ("numbers", |a| ((((&a[0] + 1.0)? * 2.0)? - 0.5)? / 3.0)?.sqr()),
        ("recip", |a| positive(&a[0])?.recip()),
        ("sqrt", |a| positive(&a[0])?.sqrt()),
        ("exp", |a| a[0].exp()),
        ("log", |a| positive(&a[0])?.log()),
        ("tanh", |a| a[0].tanh()),
        ("if positive", |a| a[0].if_positive(&a[1], &(&a[0] * &a[1])?)),
        ("clamp", |a| a[0].clamp(0.6)?.sqr()),
        ("sums", |a| a[0].sum((0, 2))?.sqr()?.broadcast_mul(&a[1].sum_all()?)),
        ("means", |a| a[0].mean_keepdim(1)?.broadcast_sub(&a[1].mean(0)?)?.sqr()),
        ("mean of all", |a| a[0].mean_all()?.broadcast_add(&a[1].sqr()?)),
    ];
    let mut draws = Draws::new(70);
    for (what, rule) in rules {
        let args = [draws.normals((2, 3, 4))?, draws.normals((2, 3, 4))?];
        finite_differences(what, &args, &rule)?;
    }
    Ok(())
}

#[test]
fn products_of_matrices_have_the_right_derivatives() -> Result<()> {
    let mut draws = Draws::new(71);
    let args = [draws.normals((2, 3, 4))?, draws.normals((2, 4, 5))?];
    finite_differences("batch", &args, &|a| a[0].matmul(&a[1]))?;
    let args = [draws.normals((3, 4))?, draws.normals((5, 4))?];
    finite_differences("transposed", &args, &|a| a[0].matmul(&a[1].t()?))?;
    let args = [draws.normals((2, 4, 3))?, draws.normals((4, 5))?];
    finite_differences("repeated", &args, &|a| a[0].t()?.matmul(&a[1].broadcast_left(2)?))
}

#[test]
fn rearrangements_have_the_right_derivatives() -> Result<()> {
    type Rule = fn(&[Traced]) -> Result<Traced>;
    let rules: [(&str, Rule); 14] = [
        ("reshape", |a| a[0].reshape((4, 6))?.sqr()),
        ("flatten", |a| a[0].flatten_from(1)?.matmul(&a[1].flatten_from(1)?.t()?)),
        ("unsqueeze", |a| a[0].unsqueeze(1)?.broadcast_mul(&a[1])),
        ("squeeze", |a| a[0].narrow(1, 1, 1)?.squeeze(1)?.sqr()),
        ("transpose", |a| a[0].transpose(0, 2)?.contiguous()?.sqr()),
        ("broadcast", |a| a[0].narrow(1, 0, 1)?.broadcast_as((3, 2, 3, 4))?.sqr()),
        ("repeat", |a| a[0].broadcast_left(3)?.broadcast_mul(&a[1])),
        ("quotient", |a| a[0].broadcast_div(&positive(&a[1].narrow(0, 0, 1)?)?)),
        ("narrow", |a| a[0].narrow(2, 1, 2)?.sqr()),
        ("pad", |a| a[0].pad_with_zeros(1, 2, 1)?.sqr()),
        ("cat", |a| Traced::cat(&[a[0].clone(), a[1].sqr()?, a[0].clone()], 1)?.sqr()),
        ("stack", |a| Traced::stack(&[a[0].clone(), a[1].clone()], 1)?.sqr()),
        ("select", |a| {
            let idx = Tensor::new(&[2u32, 0, 2, 1], &Device::Cpu)?;
            a[0].index_select(&idx, 1)?.sqr()
        }),
        ("type", |a| a[0].to_dtype(DType::F64)?.sqr()),
    ];
    let mut draws = Draws::new(72);
    for (what, rule) in rules {
        let args = [draws.normals((2, 3, 4))?, draws.normals((2, 3, 4))?];
        finite_differences(what, &args, &rule)?;
    }
    Ok(())
}

/// A type that is narrower on the way: derivatives in the argument's own, and rounded.
#[test]
fn a_cast_gives_gradients_in_the_type_of_its_argument() -> Result<()> {
    let x = Draws::new(73).variable(5)?;
    let y = x.to_dtype(DType::F32)?.sqr()?.sum_all()?;
    let dx = &super::super::grad(y, std::slice::from_ref(&x))?[0];
    let error = (dx - (x.value() * 2.0)?)?.abs()?.max_all()?.to_scalar::<f64>()?;
    assert!(dx.dtype() == DType::F64 && error > 0.0 && error < 1e-6, "{error}");
    Ok(())
}

/// Values are freed as soon as a last pass has used them: a chain's peak is not its length.
#[test]
fn rules_keep_what_they_need_only() -> Result<()> {
    let (x, w) = (Draws::new(74).variable(3)?, Draws::new(75).variable(3)?);
    assert!(x.kept_for(&w).get().is_ok());
    assert!(x.kept_for(&w.detach()).get().is_err());
    assert!(!untraced(|| x.sqr())?.is_traced());
    assert!(x.sqr()?.is_traced() && !x.detach().sqr()?.is_traced());
    Ok(())
}
