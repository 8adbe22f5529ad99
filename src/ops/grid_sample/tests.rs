//! Closed forms, finite differences, the reference path, threads and refusals.

use candle_core::Device;

use super::*;
use crate::ops::check::{Draws, dot, finite_differences, same, same_bits};
use crate::ops::grad;

/// Any maps: turned, sheared, mirrored, shifted out of the picture.
fn random(draws: &mut Draws, n: usize) -> Result<Arc<[Affine]>> {
    let rows: Vec<Vec<f64>> = draws.normals((n, 6))?.to_vec2()?;
    let map = |r: Vec<f64>| Affine {
        x: [r[0], r[1], 4.0 + 4.0 * r[2]],
        y: [r[3], r[4], 4.0 + 4.0 * r[5]],
    };
    Ok(rows.into_iter().map(map).collect())
}

fn shifts(n: usize, [x, y]: [f64; 2]) -> Arc<[Affine]> {
    vec![Affine { x: [1.0, 0.0, x], y: [0.0, 1.0, y] }; n].into()
}

#[test]
fn gradients_equal_finite_differences() -> Result<()> {
    let mut draws = Draws::new(120);
    for _ in 0..5 {
        let x = draws.normals((3, 2, 7, 9))?;
        let maps = random(&mut draws, 3)?;
        finite_differences("grid_sample", &[x], &|x| grid_sample(&x[0], &maps, (8, 6)))?;
    }
    Ok(())
}

#[test]
fn the_kernels_equal_the_reference() -> Result<()> {
    let mut draws = Draws::new(121);
    for _ in 0..50 {
        let [n, c] = [(); 2].map(|()| draws.size(1, 3));
        let [h, w, oh, ow] = [(); 4].map(|()| draws.size(1, 12));
        let x = draws.normals((n, c, h, w))?;
        let maps = random(&mut draws, n)?;
        same(
            &format!("{h}x{w} to {oh}x{ow}"),
            &[x],
            &|x| grid_sample(&x[0], &maps, (oh, ow)),
            &|x| reference(&x[0], &maps, (oh, ow)),
        )?;
    }
    Ok(())
}

/// More images than one launch on a GPU takes.
#[test]
fn many_images_have_maps_of_their_own() -> Result<()> {
    let mut draws = Draws::new(122);
    let (x, maps) = (draws.normals((130, 1, 5, 4))?, random(&mut draws, 130)?);
    same("130 images", &[x], &|x| grid_sample(&x[0], &maps, (3, 4)), &|x| {
        reference(&x[0], &maps, (3, 4))
    })
}

/// `<A x, y> = <x, A* y>`.
#[test]
fn sample_and_splat_are_adjoint() -> Result<()> {
    let mut draws = Draws::new(123);
    for _ in 0..50 {
        let [h, w, oh, ow] = [(); 4].map(|()| draws.size(1, 14));
        let maps = random(&mut draws, 2)?;
        let (x, y) = (draws.normals((2, 3, h, w))?, draws.normals((2, 3, oh, ow))?);
        let product = dot(grid_sample(&(&x).into(), &maps, (oh, ow))?.value(), &y)?;
        let other = dot(&x, splat(&(&y).into(), &maps, (h, w))?.value())?;
        // Rounding of sums of some hundred terms of size one.
        assert!((product - other).abs() < 1e-11, "{maps:?}: {product} {other}");
    }
    Ok(())
}

#[test]
fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
    let mut draws = Draws::new(124);
    let (x, maps) = (draws.normals((3, 3, 130, 133))?, random(&mut draws, 3)?);
    same_bits("grid_sample", &[x], &|x| grid_sample(&x[0], &maps, (140, 150)))
}

/// Whole shifts move pixels, half a pixel takes means, and outside is zero.
#[test]
fn shifts_by_pixels_and_halves() -> Result<()> {
    let x = Tensor::new(&[[[[1f64, 2.0, 4.0], [8.0, 16.0, 32.0]]]], &Device::Cpu)?.into();
    let rows = |shift: [f64; 2]| -> Result<Vec<Vec<f64>>> {
        grid_sample(&x, &shifts(1, shift), (2, 3))?.value().squeeze(0)?.squeeze(0)?.to_vec2()
    };
    assert_eq!(rows([0.0, 0.0])?, [[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]);
    assert_eq!(rows([1.0, -1.0])?, [[0.0; 3], [2.0, 4.0, 0.0]]);
    assert_eq!(rows([0.5, 0.0])?, [[1.5, 3.0, 2.0], [12.0, 24.0, 16.0]]);
    assert_eq!(rows([0.0, 0.5])?, [[4.5, 9.0, 18.0], [4.0, 8.0, 16.0]]);
    assert_eq!(rows([-0.5, -0.25])?, [[0.375, 1.125, 2.25], [3.125, 9.375, 18.75]]);
    Ok(())
}

/// Maps that read nothing, that read one point only, and that are no maps.
#[test]
fn maps_without_an_inverse_are_followed_too() -> Result<()> {
    let x = Draws::new(125).normals((4, 1, 4, 5))?;
    let still = |x: f64, y: f64| Affine { x: [0.0, 0.0, x], y: [0.0, 0.0, y] };
    let maps = [still(1.5, 2.25), still(1e300, 0.0), still(f64::NAN, 1.0), still(4.5, -0.5)];
    same("still", &[x.clone()], &|x| grid_sample(&x[0], &maps.into(), (3, 3)), &|x| {
        reference(&x[0], &maps, (3, 3))
    })?;
    let y = grid_sample(&(&x).into(), &maps.into(), (3, 3))?;
    let sums = y.value().sum((1, 2, 3))?.to_vec1::<f64>()?;
    assert!(sums[0] != 0.0 && sums[1] == 0.0 && sums[2] == 0.0, "{sums:?}");
    Ok(())
}

#[test]
fn an_empty_batch_stays_empty_and_missing_maps_are_refused() -> Result<()> {
    let x = Draws::new(126).variable((0, 2, 3, 4))?;
    let y = grid_sample(&x, &shifts(0, [0.0; 2]), (5, 6))?;
    assert_eq!(y.dims(), [0, 2, 5, 6]);
    assert_eq!(grad(y.sum_all()?, std::slice::from_ref(&x))?[0].dims(), x.dims());
    assert!(grid_sample(&x, &shifts(1, [0.0; 2]), (5, 6)).is_err());
    Ok(())
}
