//! Bias, piecewise linear activation, gain and clamp, forward and backward, in one pass each.

use rayon::prelude::*;

use super::{Element, rows_per_task};
use crate::ops::bias_act::BiasAct;

/// `y = clamp(act(x + b) * gain)` for `x [N, C, plane]`.
pub(in crate::ops) fn forward<T: Element>(x: &[T], b: &[T], plane: usize, act: BiasAct) -> Vec<T> {
    let (above, below) = (T::from_f64(act.gain), T::from_f64(act.gain * act.slope));
    let limit = T::from_f64(act.limit);
    let mut y = vec![T::zero(); x.len()];
    y.par_chunks_mut(plane)
        .zip(x.par_chunks(plane))
        .enumerate()
        .with_min_len(rows_per_task(plane))
        .for_each(|(row, (y, x))| {
            let b = b[row % b.len()];
            for (y, x) in y.iter_mut().zip(x) {
                let x = *x + b;
                let value = x * if x > T::zero() { above } else { below };
                // Comparisons, not min and max: those would turn NaN into the limit.
                *y = if value > limit {
                    limit
                } else if value < -limit {
                    -limit
                } else {
                    value
                };
            }
        });
    y
}

/// `dx` from `dy` and the output `y [N, C, plane]`, and with `with_sums` the sum of `dx` over each
/// channel. `sizes` is (C, plane, `with_sums`).
pub(in crate::ops) fn backward<T: Element>(
    dy: &[T],
    y: &[T],
    (channels, plane, with_sums): (usize, usize, bool),
    act: BiasAct,
) -> (Vec<T>, Option<Vec<T>>) {
    let (above, below) = (T::from_f64(act.gain), T::from_f64(act.gain * act.slope));
    let limit = T::from_f64(act.limit);
    let mut dx = vec![T::zero(); y.len()];
    let mut row_sums = vec![T::zero(); y.len() / plane];
    dx.par_chunks_mut(plane)
        .zip(dy.par_chunks(plane).zip(y.par_chunks(plane)))
        .zip(&mut row_sums)
        .with_min_len(rows_per_task(plane))
        .for_each(|((dx, (dy, y)), sum)| {
            for (dx, (dy, y)) in dx.iter_mut().zip(dy.iter().zip(y)) {
                let slope = if *y > T::zero() { above } else { below };
                *dx = if y.abs() < limit { *dy * slope } else { T::zero() };
            }
            if with_sums {
                *sum = pairwise_sum(dx);
            }
        });
    let rows_of = |c: usize| row_sums.iter().skip(c).step_by(channels);
    let sum_of = |c: usize| rows_of(c).fold(T::zero(), |a, b| a + *b);
    (dx, with_sums.then(|| (0..channels).map(sum_of).collect()))
}

/// Sum with an error that grows with the logarithm of the length, in eight independent lanes.
pub(super) fn pairwise_sum<T: Element>(values: &[T]) -> T {
    if values.len() > 1024 {
        let (left, right) = values.split_at(values.len() / 2);
        return pairwise_sum(left) + pairwise_sum(right);
    }
    let mut lanes = [T::zero(); 8];
    for chunk in values.chunks(8) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += *value);
    }
    lanes.iter().fold(T::zero(), |a, b| a + *b)
}
