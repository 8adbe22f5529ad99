//! upfirdn2d plane by plane: along the rows first, then down the columns.
//!
//! An upsampled row is never built: output pixel i meets only every `up`-th tap, so each output
//! phase has its own short list of taps (a polyphase filter).
//!
//! Reference: Crochiere and Rabiner 1983, Multirate Digital Signal Processing, chapter 3.

mod streamed;

use super::Element;
use super::tasks::for_rows;
use crate::ops::upfirdn2d::{Axis, Term};

/// Sizes of `count` planes before and after.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Planes {
    pub(in crate::ops) count: usize,
    pub(in crate::ops) h: usize,
    pub(in crate::ops) w: usize,
    pub(in crate::ops) oh: usize,
    pub(in crate::ops) ow: usize,
}

/// One axis of one term, by output phase: output `phase + j * period` sums
/// `weight * input[offset + j * step]` over the taps of its phase.
struct Polyphase<T> {
    /// For each phase: (offset, weight) of its taps.
    taps: Vec<Vec<(isize, T)>>,
    /// Input pixels from one output of a phase to its next.
    step: usize,
}

impl<T: Element> Polyphase<T> {
    fn new(axis: &Axis, taps: &[f64], gain: f64) -> Self {
        // Output i reads upsampled pixels i * down - pad + k; those divisible by `up` exist.
        let period = axis.up / gcd(axis.up, axis.down);
        let phase = |i: usize| {
            let start = (i * axis.down) as isize - axis.pad[0];
            let tap = |(k, &tap): (usize, &f64)| {
                let at = start + k as isize;
                let exists = at.rem_euclid(axis.up as isize) == 0 && tap != 0.0;
                exists.then(|| (at.div_euclid(axis.up as isize), T::from_f64(tap * gain)))
            };
            taps.iter().enumerate().filter_map(tap).collect()
        };
        let step = period * axis.down / axis.up;
        Self { taps: (0..period).map(phase).collect(), step }
    }

    /// The runs of one axis from `len` inputs to `out_len` outputs, each inside both.
    fn runs(&self, len: usize, out_len: usize) -> impl Iterator<Item = Run<T>> + '_ {
        let (period, step) = (self.taps.len(), self.step as isize);
        self.taps.iter().enumerate().flat_map(move |(phase, taps)| {
            let outputs = out_len.saturating_sub(phase).div_ceil(period) as isize;
            taps.iter().filter_map(move |&(offset, weight)| {
                // The phase's j-th output meets input offset + j * step.
                let j0 = ((-offset).max(0) + step - 1) / step;
                let j1 = (((len as isize - offset).max(0) + step - 1) / step).min(outputs);
                (j0 < j1).then(|| Run {
                    input: (offset + j0 * step) as usize,
                    output: phase + j0 as usize * period,
                    count: (j1 - j0) as usize,
                    weight,
                })
            })
        })
    }
}

/// One tap's share: `output + j * period` receives `weight` times `input + j * step`, j < count.
struct Run<T> {
    input: usize,
    output: usize,
    count: usize,
    weight: T,
}

/// All planes of `x [count, h, w]` to `[count, oh, ow]`.
pub(in crate::ops) fn apply<T: Element>(
    x: &[T],
    planes: Planes,
    terms: &[Term],
    (y_axis, x_axis): (&Axis, &Axis),
    gain: f64,
) -> Vec<T> {
    let axes: Vec<_> = terms
        .iter()
        .map(|t| (Polyphase::new(y_axis, &t.column, gain), Polyphase::new(x_axis, &t.row, 1.0)))
        .collect();
    let streamed = match axes.as_slice() {
        [(column, row)] => streamed::apply(x, planes, (column, row)),
        _ => None,
    };
    streamed.unwrap_or_else(|| add_terms(x, planes, &axes))
}

/// As [`apply`], for any (column, row) of each term.
fn add_terms<T: Element>(
    x: &[T],
    Planes { count, h, w, oh, ow }: Planes,
    axes: &[(Polyphase<T>, Polyphase<T>)],
) -> Vec<T> {
    let mut y = vec![T::zero(); count * oh * ow];
    let mut outputs: Vec<&mut [T]> = y.chunks_exact_mut(oh * ow).collect();
    for_rows(&mut outputs, oh * ow, |first, outputs| {
        let mut rows = Vec::new();
        for (x, y) in x[first * h * w..].chunks_exact(h * w).zip(outputs) {
            for (column, row) in axes {
                rows.clear();
                rows.resize(h * ow, T::zero());
                for (x, out) in x.chunks_exact(w).zip(rows.chunks_exact_mut(ow)) {
                    filter_row(x, out, row);
                }
                filter_columns(&rows, y, column, (h, oh, ow));
            }
        }
    });
    y
}

fn filter_row<T: Element>(x: &[T], y: &mut [T], row: &Polyphase<T>) {
    let (period, step) = (row.taps.len(), row.step);
    for Run { input, output, count, weight } in row.runs(x.len(), y.len()) {
        let (x, y) = (&x[input..], &mut y[output..]);
        if period == 1 && step == 1 {
            y[..count].iter_mut().zip(x).for_each(|(y, x)| *y += weight * *x);
        } else {
            let pairs = y.iter_mut().step_by(period).zip(x.iter().step_by(step));
            pairs.take(count).for_each(|(y, x)| *y += weight * *x);
        }
    }
}

fn filter_columns<T: Element>(
    x: &[T],
    y: &mut [T],
    column: &Polyphase<T>,
    (h, oh, w): (usize, usize, usize),
) {
    let (period, step) = (column.taps.len(), column.step);
    for Run { input, output, count, weight } in column.runs(h, oh) {
        for j in 0..count {
            let from = &x[(input + j * step) * w..][..w];
            let to = &mut y[(output + j * period) * w..][..w];
            to.iter_mut().zip(from).for_each(|(y, x)| *y += weight * *x);
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
