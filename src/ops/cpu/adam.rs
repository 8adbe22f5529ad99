//! Adam and the moving average, element by element in one pass.

use super::Element;
use super::tasks::for_rows;
use crate::ops::adam::Rates;

/// Elements that are blended, then updated: their parameters stay in the first-level cache.
const CHUNK: usize = 2048;

/// Updates parameters `p` and moments (m, v) from gradients `g`, unless there are no `rates`; before
/// that, with `ema`, the average from the old parameters.
pub(in crate::ops) fn step<T: Element>(
    p: &mut [T],
    g: &[T],
    (m, v): (&mut [T], &mut [T]),
    ema: Option<(&mut [T], f64)>,
    rates: Option<Rates>,
) {
    let (ema, beta) = ema.unzip();
    let mut ema = ema.map(|ema| ema.chunks_mut(CHUNK));
    let chunks = p.chunks_mut(CHUNK).zip(g.chunks(CHUNK));
    let moments = m.chunks_mut(CHUNK).zip(v.chunks_mut(CHUNK));
    let mut chunks: Vec<_> = chunks
        .zip(moments)
        .map(|(chunk, moments)| (chunk, moments, ema.as_mut().and_then(Iterator::next)))
        .collect();
    for_rows(
        &mut chunks,
        CHUNK,
        #[inline(always)]
        |_, chunks| {
            for ((p, g), (m, v), ema) in chunks {
                if let (Some(ema), Some(beta)) = (ema, beta) {
                    lerp(ema, p, beta);
                }
                if let Some(rates) = rates {
                    adam(p, g, m, v, rates);
                }
            }
        },
    );
}

/// `e = p + beta (e - p)`.
pub(in crate::ops) fn blend<T: Element>(ema: &mut [T], p: &[T], beta: f64) {
    let mut chunks: Vec<_> = ema.chunks_mut(CHUNK).zip(p.chunks(CHUNK)).collect();
    for_rows(
        &mut chunks,
        CHUNK,
        #[inline(always)]
        |_, chunks| chunks.iter_mut().for_each(|(ema, p)| lerp(ema, p, beta)),
    );
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
fn lerp<T: Element>(ema: &mut [T], p: &[T], beta: f64) {
    let beta = T::from_f64(beta);
    ema.iter_mut().zip(p).for_each(|(e, p)| *e = *p + beta * (*e - *p));
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
fn adam<T: Element>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], rates: Rates) {
    let (beta1, beta2) = (T::from_f64(rates.beta1), T::from_f64(rates.beta2));
    let (eps, step_size) = (T::from_f64(rates.eps), T::from_f64(rates.step_size));
    let root_correction = T::from_f64(rates.root_correction);
    let (limit, zero, one) = (T::from_f64(1e5), T::zero(), T::one());
    for ((p, g), (m, v)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(v)) {
        // Comparisons, so that the loop has no branch: NaN is neither above nor below zero.
        let below = if *g < zero { -limit } else { zero };
        let infinite = if *g > zero { limit } else { below };
        let g = if g.abs() < T::infinity() { *g } else { infinite };
        *m = beta1 * *m + (one - beta1) * g;
        *v = beta2 * *v + (one - beta2) * g * g;
        *p -= step_size * *m / (v.sqrt() / root_correction + eps);
    }
}
