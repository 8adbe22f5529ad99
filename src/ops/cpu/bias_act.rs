//! Bias, piecewise linear activation, gain and clamp, forward and backward, in one pass each.

use super::Element;
use super::sum::{BLOCK, sum_block};
use super::tasks::{fill, fill_rows};
use crate::ops::bias_act::BiasAct;

/// `y = clamp(act(x + b) * gain)` for `x [N, C, plane]`.
pub(in crate::ops) fn forward<T: Element>(x: &[T], b: &[T], plane: usize, act: BiasAct) -> Vec<T> {
    let (above, below) = (T::from_f64(act.gain), T::from_f64(act.gain * act.slope));
    let limit = T::from_f64(act.limit);
    fill(
        x.len() / plane,
        plane,
        #[inline(always)]
        |rows, y| {
            let x = x[rows.start * plane..rows.end * plane].chunks_exact(plane);
            for (x, &b) in x.zip(b.iter().cycle().skip(rows.start % b.len())) {
                let values = x.iter().map(move |x| {
                    let x = *x + b;
                    let value = x * if x > T::zero() { above } else { below };
                    // Comparisons, not min and max: those would turn NaN into the limit.
                    let value = if value > limit { limit } else { value };
                    if value < -limit { -limit } else { value }
                });
                y.write(plane, values);
            }
        },
    )
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
    let mut row_sums = vec![0.0; y.len() / plane];
    let dx = fill_rows(
        &mut row_sums,
        plane,
        #[inline(always)]
        |first, sums, dx| {
            let dy = dy[first * plane..].chunks_exact(plane);
            let y = y[first * plane..].chunks_exact(plane);
            for ((dy, y), sum) in dy.zip(y).zip(sums) {
                for (dy, y) in dy.chunks(BLOCK).zip(y.chunks(BLOCK)) {
                    let values = dy.iter().zip(y).map(move |(dy, y)| {
                        let slope = if *y > T::zero() { above } else { below };
                        if y.abs() < limit { *dy * slope } else { T::zero() }
                    });
                    let dx = dx.write(dy.len(), values);
                    if with_sums {
                        *sum += sum_block(dx);
                    }
                }
            }
        },
    );
    let rows_of = |c: usize| row_sums.iter().skip(c).step_by(channels);
    let sum_of = |c: usize| T::from_f64(rows_of(c).sum());
    (dx, with_sums.then(|| (0..channels).map(sum_of).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACT: BiasAct = BiasAct { slope: 0.25, gain: 2.0, limit: 8.0 };

    /// Planes that are no multiple of any vector, element by element; powers of two are exact.
    #[test]
    fn planes_of_any_length() {
        for (n, channels, plane) in
            (1..=40).flat_map(|plane| [(1, 1, plane), (3, 2, plane)]).chain([(2, 3, 2500)])
        {
            let value = |i: usize| (i * i % 23) as f32 - 11.0;
            let x: Vec<f32> = (0..n * channels * plane).map(value).collect();
            let b: Vec<f32> = (0..channels).map(|c| c as f32).collect();
            let y = forward(&x, &b, plane, ACT);
            let of = |i: usize| {
                let x = x[i] + b[i / plane % channels];
                (x * if x > 0.0 { 2.0 } else { 0.5 }).clamp(-8.0, 8.0)
            };
            assert!(y.iter().copied().eq((0..x.len()).map(of)), "{n} {channels} {plane}");

            let (dx, db) = backward(&x, &y, (channels, plane, true), ACT);
            let slope = |y: f32| if y > 0.0 { 2.0 } else { 0.5 };
            let of = |i: usize| if y[i].abs() < 8.0 { x[i] * slope(y[i]) } else { 0.0 };
            assert!(dx.iter().copied().eq((0..x.len()).map(of)), "{n} {channels} {plane}");
            let mut sums = vec![0.0; channels];
            dx.iter().enumerate().for_each(|(i, dx)| sums[i / plane % channels] += dx);
            assert_eq!(db, Some(sums), "{n} {channels} {plane}");
            assert_eq!(backward(&x, &y, (channels, plane, false), ACT), (dx, None));
        }
    }

    /// NaN is not clamped, nor is a gradient that is NaN.
    #[test]
    fn not_a_number_stays() {
        for plane in 1..=40 {
            for at in 0..plane {
                let mut x = vec![1f32; plane];
                x[at] = f32::NAN;
                let y = forward(&x, &[0.0], plane, ACT);
                assert!(y.iter().enumerate().all(|(i, y)| y.is_nan() == (i == at)));
                let (dx, _) = backward(&x, &vec![1.0; plane], (1, plane, false), ACT);
                assert!(dx.iter().enumerate().all(|(i, dx)| dx.is_nan() == (i == at)));
            }
        }
    }
}
