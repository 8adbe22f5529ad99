//! Adding one image of noise to every channel, and its adjoint.

use rayon::prelude::*;

use super::bias_act::pairwise_sum;
use super::{Element, rows_per_task};

/// `x [N, C, plane] + strength * noise [N or 1, plane]`; `sizes` is (C, plane).
pub(in crate::ops) fn add<T: Element>(
    x: &[T],
    noise: &[T],
    (channels, plane): (usize, usize),
    strength: T,
) -> Vec<T> {
    let mut y = vec![T::zero(); x.len()];
    y.par_chunks_mut(plane)
        .zip(x.par_chunks(plane))
        .enumerate()
        .with_min_len(rows_per_task(plane))
        .for_each(|(row, (y, x))| {
            let noise = noise_of(noise, row / channels, plane);
            for (y, (x, noise)) in y.iter_mut().zip(x.iter().zip(noise)) {
                *y = *x + strength * *noise;
            }
        });
    y
}

/// `strength * noise`, repeated over C; `sizes` is (N, C, plane).
pub(in crate::ops) fn spread<T: Element>(
    strength: T,
    noise: &[T],
    (n, channels, plane): (usize, usize, usize),
) -> Vec<T> {
    let mut y = vec![T::zero(); n * channels * plane];
    y.par_chunks_mut(plane).enumerate().with_min_len(rows_per_task(plane)).for_each(|(row, y)| {
        let noise = noise_of(noise, row / channels, plane);
        y.iter_mut().zip(noise).for_each(|(y, noise)| *y = strength * *noise);
    });
    y
}

/// `sum x * noise`; `sizes` is (C, plane).
pub(in crate::ops) fn dot<T: Element>(
    x: &[T],
    noise: &[T],
    (channels, plane): (usize, usize),
) -> T {
    let mut rows = vec![T::zero(); x.len() / plane];
    rows.par_iter_mut()
        .zip(x.par_chunks(plane))
        .enumerate()
        .with_min_len(rows_per_task(plane))
        .for_each_init(Vec::new, |products, (row, (sum, x))| {
            let noise = noise_of(noise, row / channels, plane);
            products.clear();
            products.extend(x.iter().zip(noise).map(|(x, noise)| *x * *noise));
            *sum = pairwise_sum(products);
        });
    pairwise_sum(&rows)
}

/// The noise of image `n`; all images may share one.
fn noise_of<T>(noise: &[T], n: usize, plane: usize) -> &[T] {
    if noise.len() == plane { noise } else { &noise[n * plane..][..plane] }
}
