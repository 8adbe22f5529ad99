//! Planes without their details.

/// Planes `[.., side, side]` under a Gaussian of `deviation` pixels along both axes; beyond the edges
/// the last pixel goes on.
pub(super) fn gaussian(values: &[f64], side: usize, deviation: f64) -> Vec<f64> {
    let radius = (3.0 * deviation).ceil() as usize;
    let weight = |k: usize| (-0.5 * ((k as f64 - radius as f64) / deviation).powi(2)).exp();
    let weights: Vec<f64> = (0..=2 * radius).map(weight).collect();
    let total: f64 = weights.iter().sum();
    let along = |values: &[f64], step: usize| -> Vec<f64> {
        let value = |i: usize| {
            let at = i / step % side;
            let source = |k: usize| (at + k).saturating_sub(radius).min(side - 1);
            let tap =
                |(k, weight): (usize, &f64)| weight * values[i - at * step + source(k) * step];
            weights.iter().enumerate().map(tap).sum::<f64>() / total
        };
        (0..values.len()).map(value).collect()
    };
    along(&along(values, 1), side)
}
