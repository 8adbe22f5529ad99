//! Adam and the moving average, element by element in one pass.

use rayon::prelude::*;

use super::Element;
use crate::ops::adam::Rates;

/// Elements per task.
const CHUNK: usize = 16 * 1024;

/// Updates parameters `p` and moments (m, v) from gradients `g`; before that, with `ema`, the
/// average from the old parameters.
pub(in crate::ops) fn step<T: Element>(
    p: &mut [T],
    g: &[T],
    (m, v): (&mut [T], &mut [T]),
    ema: Option<(&mut [T], f64)>,
    rates: Rates,
) {
    let chunks = p
        .par_chunks_mut(CHUNK)
        .zip(g.par_chunks(CHUNK))
        .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)));
    match ema {
        None => chunks.for_each(|((p, g), (m, v))| adam(p, g, m, v, rates)),
        Some((ema, beta)) => {
            chunks.zip(ema.par_chunks_mut(CHUNK)).for_each(|(((p, g), (m, v)), ema)| {
                lerp(ema, p, beta);
                adam(p, g, m, v, rates);
            });
        }
    }
}

/// `e = p + beta (e - p)`.
pub(in crate::ops) fn blend<T: Element>(ema: &mut [T], p: &[T], beta: f64) {
    ema.par_chunks_mut(CHUNK).zip(p.par_chunks(CHUNK)).for_each(|(ema, p)| lerp(ema, p, beta));
}

fn lerp<T: Element>(ema: &mut [T], p: &[T], beta: f64) {
    let beta = T::from_f64(beta);
    ema.iter_mut().zip(p).for_each(|(e, p)| *e = *p + beta * (*e - *p));
}

fn adam<T: Element>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], rates: Rates) {
    let (beta1, beta2) = (T::from_f64(rates.beta1), T::from_f64(rates.beta2));
    let (eps, step_size) = (T::from_f64(rates.eps), T::from_f64(rates.step_size));
    let root_correction = T::from_f64(rates.root_correction);
    let (limit, zero, one) = (T::from_f64(1e5), T::zero(), T::one());
    for ((p, g), (m, v)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(v)) {
        let g = if g.is_nan() {
            zero
        } else if g.is_infinite() {
            limit * g.signum()
        } else {
            *g
        };
        *m = beta1 * *m + (one - beta1) * g;
        *v = beta2 * *v + (one - beta2) * g * g;
        *p -= step_size * *m / (v.sqrt() / root_correction + eps);
    }
}
