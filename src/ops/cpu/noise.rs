//! Adding one image of noise to every channel, and its adjoint.

use super::Element;
use super::sum;
use super::tasks::{fill, for_rows};

/// `x [N, C, plane] + strength * noise [N or 1, plane]`; `sizes` is (C, plane).
pub(in crate::ops) fn add<T: Element>(
    x: &[T],
    noise: &[T],
    (channels, plane): (usize, usize),
    strength: T,
) -> Vec<T> {
    fill(
        x.len() / plane,
        plane,
        #[inline(always)]
        |rows, y| {
            let x = x[rows.start * plane..].chunks_exact(plane);
            for (row, x) in rows.zip(x) {
                let noise = noise_of(noise, row / channels, plane);
                y.write(plane, x.iter().zip(noise).map(move |(x, noise)| *x + strength * *noise));
            }
        },
    )
}

/// `strength * noise`, repeated over C; `sizes` is (N, C, plane).
pub(in crate::ops) fn spread<T: Element>(
    strength: T,
    noise: &[T],
    (n, channels, plane): (usize, usize, usize),
) -> Vec<T> {
    fill(
        n * channels,
        plane,
        #[inline(always)]
        |rows, y| {
            for row in rows {
                let noise = noise_of(noise, row / channels, plane);
                y.write(plane, noise.iter().map(move |noise| strength * *noise));
            }
        },
    )
}

/// `sum x * noise`; `sizes` is (C, plane).
pub(in crate::ops) fn dot<T: Element>(
    x: &[T],
    noise: &[T],
    (channels, plane): (usize, usize),
) -> T {
    let mut sums = vec![0.0; x.len() / plane];
    for_rows(
        &mut sums,
        plane,
        #[inline(always)]
        |first, sums| {
            let x = x[first * plane..].chunks_exact(plane);
            for ((row, x), sum) in (first..).zip(x).zip(sums) {
                *sum = sum::dot(x, noise_of(noise, row / channels, plane));
            }
        },
    );
    T::from_f64(sums.iter().sum())
}

/// The noise of image `n`; all images may share one.
#[inline]
fn noise_of<T>(noise: &[T], n: usize, plane: usize) -> &[T] {
    if noise.len() == plane { noise } else { &noise[n * plane..][..plane] }
}
