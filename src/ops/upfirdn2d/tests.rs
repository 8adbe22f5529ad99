//! Closed forms, finite differences, the reference path, threads and refusals.

use super::*;
use crate::ops::check::{Draws, dot, finite_differences, same, same_bits};
use crate::ops::grad;

fn random_axis(draws: &mut Draws) -> Axis {
    let mut pad = || draws.size(0, 7) as isize - 3;
    let pad = [pad(), pad()];
    Axis { up: draws.size(1, 3), down: draws.size(1, 3), pad }
}

/// Any factors, paddings, crops and filters, separable or not, that leave a pixel.
fn random(draws: &mut Draws, h: usize, w: usize) -> Result<Upfirdn2d> {
    loop {
        let (height, width) = (draws.size(1, 5), draws.size(1, 5));
        let taps: Vec<Vec<f64>> = draws.normals((height, width))?.to_vec2()?;
        let filter = match draws.size(0, 1) {
            0 => Filter::separable(&taps[0]),
            _ => Filter::dense(&taps)?,
        };
        let (y, x) = (random_axis(draws), random_axis(draws));
        let op = match draws.size(0, 1) {
            0 => Upfirdn2d::convolve(&filter, y, x, 1.3),
            _ => Upfirdn2d::correlate(&filter, y, x, 1.3),
        };
        if op.out_dims(h, w).is_ok() {
            return Ok(op);
        }
    }
}

#[test]
fn gradients_equal_finite_differences() -> Result<()> {
    let mut draws = Draws::new(20);
    let filter = Filter::stylegan2();
    let mut ops = vec![Upfirdn2d::double(&filter), Upfirdn2d::halve(&filter)];
    for _ in 0..20 {
        ops.push(random(&mut draws, 6, 9)?);
    }
    for op in ops {
        let x = draws.normals((2, 3, 6, 9))?;
        finite_differences(&format!("{op:?}"), &[x], &|x| upfirdn2d(&x[0], &op))?;
    }
    Ok(())
}

#[test]
fn the_kernel_equals_the_reference() -> Result<()> {
    let mut draws = Draws::new(21);
    for _ in 0..100 {
        let (h, w) = (draws.size(1, 12), draws.size(1, 12));
        let (n, c) = (draws.size(1, 3), draws.size(1, 3));
        let x = draws.normals((n, c, h, w))?;
        let op = random(&mut draws, h, w)?;
        same(&format!("{h}x{w}, {op:?}"), &[x], &|x| upfirdn2d(&x[0], &op), &|x| {
            op.reference(&x[0])
        })?;
    }
    Ok(())
}

/// `<A x, y> = <x, A* y>`.
#[test]
fn the_adjoint_is_one() -> Result<()> {
    let mut draws = Draws::new(22);
    for _ in 0..100 {
        let (h, w) = (draws.size(1, 12), draws.size(1, 12));
        let op = random(&mut draws, h, w)?;
        let (oh, ow) = op.out_dims(h, w)?;
        let (x, y) = (draws.normals((2, 2, h, w))?, draws.normals((2, 2, oh, ow))?);
        let product = dot(upfirdn2d(&(&x).into(), &op)?.value(), &y)?;
        let other = dot(&x, upfirdn2d(&(&y).into(), &op.adjoint(h, w))?.value())?;
        // Rounding of sums of some thousand terms of size one, times 25 taps.
        assert!((product - other).abs() < 1e-10, "{op:?}: {product} {other}");
    }
    Ok(())
}

#[test]
fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
    let x = Draws::new(23).normals((3, 7, 65, 66))?;
    for op in [Upfirdn2d::double, Upfirdn2d::halve] {
        let op = op(&Filter::stylegan2());
        same_bits("upfirdn2d", std::slice::from_ref(&x), &|x| upfirdn2d(&x[0], &op))?;
    }
    Ok(())
}

/// The filter that changes nothing repeats pixels as zeros, or drops them.
#[test]
fn resampling_without_a_filter() -> Result<()> {
    let x = Tensor::new(&[[[[1f64, 2.0], [3.0, 4.0]]]], &candle_core::Device::Cpu)?.into();
    let doubled = upfirdn2d(&x, &Upfirdn2d::double(&Filter::identity()))?;
    let rows = doubled.value().squeeze(0)?.squeeze(0)?.to_vec2::<f64>()?;
    let expected = [[0.0; 4], [0.0, 4.0, 0.0, 8.0], [0.0; 4], [0.0, 12.0, 0.0, 16.0]];
    assert_eq!(rows, expected);
    let halved = upfirdn2d(&x, &Upfirdn2d::halve(&Filter::identity()))?;
    assert_eq!(halved.value().flatten_all()?.to_vec1::<f64>()?, [1.0]);
    Ok(())
}

#[test]
fn an_empty_batch_stays_empty() -> Result<()> {
    let x = Draws::new(26).variable((0, 2, 3, 4))?;
    let y = upfirdn2d(&x, &Upfirdn2d::double(&Filter::stylegan2()))?;
    assert_eq!(y.dims(), [0, 2, 6, 8]);
    assert_eq!(grad(y.sum_all()?, std::slice::from_ref(&x))?[0].dims(), x.dims());
    Ok(())
}

#[test]
fn impossible_sizes_are_refused() -> Result<()> {
    let x = Draws::new(27).variable((1, 1, 4, 4))?;
    let plain = Axis { up: 1, down: 1, pad: [0, 0] };
    let axes = [
        Axis { up: 0, ..plain },
        Axis { down: 0, ..plain },
        Axis { pad: [-2, -2], ..plain },
        Axis { pad: [-9, 0], ..plain },
    ];
    for axis in axes {
        let op = Upfirdn2d::convolve(&Filter::identity(), plain, axis, 1.0);
        assert!(upfirdn2d(&x, &op).is_err(), "{axis:?}");
    }
    Ok(())
}
