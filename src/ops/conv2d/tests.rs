//! Closed forms, finite differences, the reference path, threads and refusals.

use candle_core::Tensor;

use super::*;
use crate::ops::check::{Draws, dot, finite_differences, same, same_bits};
use crate::ops::grad;

/// A convolution of random sizes: any stride and padding, also those that leave a rest.
fn random(draws: &mut Draws) -> Geometry {
    let kernel = draws.size(1, 4);
    let kw = if draws.size(0, 1) == 0 { kernel } else { draws.size(1, 4) };
    Geometry {
        n: draws.size(1, 4),
        c: draws.size(1, 37),
        h: draws.size(4, 13),
        w: draws.size(4, 13),
        o: draws.size(1, 21),
        kh: kernel,
        kw,
        stride: draws.size(1, 3),
        padding: draws.size(0, 4),
        gain: 0.7,
    }
}

/// Its image, weight and output, filled at random.
fn tensors(g: &Geometry, draws: &mut Draws) -> Result<[Tensor; 3]> {
    let x = draws.normals((g.n, g.c, g.h, g.w))?;
    let w = draws.normals((g.o, g.c, g.kh, g.kw))?;
    Ok([x, w, draws.normals((g.n, g.o, g.oh(), g.ow()))?])
}

/// 24x31 pixels need two tiles; of 5x6 pixels, a tile holds all images.
#[test]
fn gradients_equal_finite_differences() -> Result<()> {
    let mut draws = Draws::new(10);
    for (stride, padding, k) in
        [1, 2].into_iter().flat_map(|s| (0..=2).flat_map(move |p| [1, 3].map(|k| (s, p, k))))
    {
        for (n, c, o, h, w) in [(3, 2, 3, 5, 6), (1, 3, 1, 24, 31)] {
            let x = draws.normals((n, c, h, w))?;
            let weight = draws.normals((o, c, k, k))?;
            let what = format!("stride {stride}, padding {padding}, {k}x{k}, {h}x{w}");
            finite_differences(&format!("conv2d, {what}"), &[x.clone(), weight], &|a| {
                conv2d(&a[0], &a[1], stride, padding, 0.7)
            })?;
            let weight = draws.normals((c, o, k, k))?;
            finite_differences(&format!("conv_transpose2d, {what}"), &[x, weight], &|a| {
                conv_transpose2d(&a[0], &a[1], stride, padding, 0.7)
            })?;
        }
    }
    Ok(())
}

#[test]
fn kernels_equal_the_reference() -> Result<()> {
    let mut draws = Draws::new(11);
    for case in 0..40 {
        let geometry = random(&mut draws);
        let geometry = match case {
            // Several tiles an image, for both ways of the input gradient.
            0 => Geometry { n: 2, h: 41, w: 30, kh: 3, kw: 3, stride: 1, padding: 1, ..geometry },
            1 => Geometry { n: 2, h: 62, w: 51, stride: 2, padding: 1, ..geometry },
            // Several images a tile, and more than one such tile.
            2 => Geometry { n: 45, h: 6, w: 7, ..geometry },
            _ => geometry,
        };
        let [x, w, dy] = tensors(&geometry, &mut draws)?;
        for (kind, a, b) in
            [(Kind::Forward, &x, &w), (Kind::GradInput, &dy, &w), (Kind::GradWeight, &x, &dy)]
        {
            let op = Conv2d { kind, geometry };
            same(
                &format!("{op:?}"),
                &[a.clone(), b.clone()],
                &|a| apply(&a[0], &a[1], op),
                &|a| op.reference(&a[0], &a[1]),
            )?;
        }
    }
    Ok(())
}

/// `<conv(x, w), y> = <x, grad_input(y, w)> = <w, grad_weight(x, y)>`.
#[test]
fn the_three_are_adjoint() -> Result<()> {
    let mut draws = Draws::new(12);
    for _ in 0..40 {
        let geometry = random(&mut draws);
        let [x, w, y] = tensors(&geometry, &mut draws)?;
        let of = |kind, a: &Tensor, b: &Tensor| {
            let y = apply(&a.into(), &b.into(), Conv2d { kind, geometry })?;
            Result::Ok(y.value().clone())
        };
        let product = dot(&of(Kind::Forward, &x, &w)?, &y)?;
        let others =
            [dot(&x, &of(Kind::GradInput, &y, &w)?)?, dot(&w, &of(Kind::GradWeight, &x, &y)?)?];
        // Of some 1e4 terms with random signs; 1e-12 of the largest possible sum of each.
        let scale = (dot(&y, &y)? * dot(&x, &x)? * dot(&w, &w)?).sqrt();
        for other in others {
            assert!((product - other).abs() < 1e-12 * scale, "{geometry:?}");
        }
    }
    Ok(())
}

#[test]
fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
    let mut draws = Draws::new(13);
    for (stride, n, h) in [(1, 3, 33), (2, 3, 33), (1, 70, 5), (2, 70, 5)] {
        let x = draws.normals((n, 35, h, h + 1))?;
        let w = draws.normals((18, 35, 3, 3))?;
        same_bits("conv2d", &[x, w], &|a| conv2d(&a[0], &a[1], stride, 1, 1.0))?;
    }
    Ok(())
}

#[test]
fn an_empty_batch_has_gradient_zero() -> Result<()> {
    let x = Draws::new(16).variable((0, 3, 4, 5))?;
    let w = Draws::new(17).variable((3, 3, 3, 3))?;
    for stride in [1, 2] {
        let y = conv2d(&conv_transpose2d(&x, &w, stride, 1, 1.0)?, &w, stride, 1, 1.0)?;
        assert_eq!(y.dims(), [0, 3, 4, 5]);
        let grads = grad(y.sum_all()?, &[x.clone(), w.clone()])?;
        assert_eq!(grads[0].dims(), x.dims());
        assert_eq!(dot(&grads[1], &grads[1])?, 0.0);
    }
    Ok(())
}

#[test]
fn impossible_sizes_are_refused() -> Result<()> {
    let mut draws = Draws::new(18);
    let (x, none) = (draws.variable((1, 2, 3, 4))?, draws.variable((1, 2, 0, 4))?);
    let (w, empty) = (draws.variable((2, 2, 3, 3))?, draws.variable((2, 2, 0, 3))?);
    for conv in [conv2d, conv_transpose2d] {
        assert!(conv(&x, &w, 0, 1, 1.0).is_err(), "stride 0");
        assert!(conv(&x, &empty, 1, 1, 1.0).is_err(), "no taps");
        assert!(conv(&none, &w, 1, 0, 1.0).is_err(), "no pixels");
    }
    assert!(conv_transpose2d(&x, &w, 1, 3, 1.0).is_err(), "cropped to nothing");
    Ok(())
}
