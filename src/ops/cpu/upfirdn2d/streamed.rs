//! The resamplings of training, four taps that keep, halve or double the size, in one stream.
//!
//! Each input row is filtered once, into a ring of as many rows as a column has taps;
//! each output row is a sum of rows of that ring. All of it stays in the first-level cache.

use std::ops::Range;

use super::{Planes, Polyphase};
use crate::ops::cpu::Element;
use crate::ops::cpu::tasks::{Blank, fill};

/// Rows that an output row can meet.
const RING: usize = 4;

/// One axis, where each output meets neighbours.
#[derive(Clone, Copy)]
enum Short<T> {
    /// Output i sums `taps[k] * input[first + i * step + k]`; `step` is 1 or 2.
    Four { first: isize, step: usize, taps: [T; 4] },
    /// Output `2 i + phase` sums `taps[phase][k] * input[first[phase] + i + k]`.
    Doubled { first: [isize; 2], taps: [[T; 2]; 2] },
}

impl<T: Element> Short<T> {
    fn of(axis: &Polyphase<T>) -> Option<Self> {
        match (axis.taps.as_slice(), axis.step) {
            ([taps], step @ (1 | 2)) => {
                let (first, taps) = neighbours(taps)?;
                Some(Self::Four { first, step, taps })
            }
            ([even, odd], 1) => {
                let (even, odd) = (neighbours(even)?, neighbours(odd)?);
                Some(Self::Doubled { first: [even.0, odd.0], taps: [even.1, odd.1] })
            }
            _ => None,
        }
    }

    /// The first input that output `i` meets, and the weights from there.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn at(&self, i: usize) -> (isize, &[T]) {
        match self {
            Self::Four { first, step, taps } => (first + (i * step) as isize, taps),
            Self::Doubled { first, taps } => (first[i % 2] + (i / 2) as isize, &taps[i % 2]),
        }
    }

    /// The outputs of `out_len` that meet no input outside `0..len`, pairs whole.
    fn inside(&self, len: usize, out_len: usize) -> Range<usize> {
        // Outputs come in `count`s that meet inputs from `first + j * step`, `span` of them.
        let (first, span, step, count) = match *self {
            Self::Four { first, step, .. } => (first, 4, step, 1),
            Self::Doubled { first: [a, b], .. } => (a.min(b), 2 + a.abs_diff(b), 1, 2),
        };
        let start = ((-first).max(0) as usize).div_ceil(step);
        let room = len as isize - first - span as isize;
        let end = if room < 0 { 0 } else { room as usize / step + 1 };
        let end = end.min(out_len / count);
        start.min(end) * count..end * count
    }

    /// `out` from a row `x`, where the outputs of `inside` need no zeros around it.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn filter(&self, x: &[T], out: &mut [T], inside: Range<usize>) {
        for range in [0..inside.start, inside.end..out.len()] {
            for i in range {
                let (first, taps) = self.at(i);
                out[i] = T::zero();
                for (tap, idx) in taps.iter().zip(first..) {
                    if (0..x.len() as isize).contains(&idx) {
                        out[i] += *tap * x[idx as usize];
                    }
                }
            }
        }
        if inside.is_empty() {
            return;
        }
        let odd_x = &x[self.at(inside.start + 1).0 as usize..];
        let x = &x[self.at(inside.start).0 as usize..];
        let out = &mut out[inside];
        let n = out.len();
        match *self {
            Self::Four { step: 1, taps, .. } => {
                let (a, b, c, d) = (&x[..n], &x[1..][..n], &x[2..][..n], &x[3..][..n]);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = sum([a[i], b[i], c[i], d[i]], taps);
                }
            }
            Self::Four { taps, .. } => {
                let (pairs, _) = x.as_chunks::<2>();
                let (a, b) = (&pairs[..n], &pairs[1..][..n]);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = sum([a[i][0], a[i][1], b[i][0], b[i][1]], taps);
                }
            }
            Self::Doubled { taps, .. } => {
                let (pairs, _) = out.as_chunks_mut::<2>();
                let n = pairs.len();
                let (a, b) = (&x[..n], &x[1..][..n]);
                let (c, d) = (&odd_x[..n], &odd_x[1..][..n]);
                for (i, pair) in pairs.iter_mut().enumerate() {
                    *pair = [sum([a[i], b[i]], taps[0]), sum([c[i], d[i]], taps[1])];
                }
            }
        }
    }
}

/// The offset of the first and the weights of all, if these taps meet `N` neighbours.
fn neighbours<T: Copy, const N: usize>(taps: &[(isize, T)]) -> Option<(isize, [T; N])> {
    let taps: &[(isize, T); N] = taps.try_into().ok()?;
    let first = taps.first()?.0;
    let is_run = taps.iter().zip(first..).all(|(tap, offset)| tap.0 == offset);
    is_run.then(|| (first, taps.map(|tap| tap.1)))
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
fn sum<T: Element, const N: usize>(values: [T; N], taps: [T; N]) -> T {
    let mut sum = taps[0] * values[0];
    for k in 1..N {
        sum += taps[k] * values[k];
    }
    sum
}

/// All planes of `x [count, h, w]` to `[count, oh, ow]`; `None` where an axis is not short.
pub(super) fn apply<T: Element>(
    x: &[T],
    planes: Planes,
    (column, row): (&Polyphase<T>, &Polyphase<T>),
) -> Option<Vec<T>> {
    let (column, row) = (Short::of(column)?, Short::of(row)?);
    let Planes { count, h, w, oh, ow } = planes;
    let y = fill(
        count,
        oh * ow,
        #[inline(always)]
        |range, y| {
            let mut rows = Rows {
                row,
                inside: row.inside(w, ow),
                ring: vec![T::zero(); (RING + 1) * ow],
                width: ow,
            };
            for x in x[range.start * h * w..range.end * h * w].chunks_exact(h * w) {
                filter_plane(x, (h, w, oh), column, &mut rows, y);
            }
        },
    );
    Some(y)
}

/// Filtered rows of one plane: input row i at `i % RING`, and a row of zeros behind them.
struct Rows<T> {
    row: Short<T>,
    inside: Range<usize>,
    ring: Vec<T>,
    width: usize,
}

impl<T: Element> Rows<T> {
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn filter(&mut self, idx: usize, x: &[T]) {
        let out = &mut self.ring[idx % RING * self.width..][..self.width];
        self.row.filter(x, out, self.inside.clone());
    }

    /// Filtered input row `idx` of `h`; zeros outside.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn get(&self, idx: isize, h: usize) -> &[T] {
        let is_inside = (0..h as isize).contains(&idx);
        let slot = if is_inside { idx as usize % RING } else { RING };
        &self.ring[slot * self.width..][..self.width]
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
fn filter_plane<T: Element>(
    x: &[T],
    (h, w, oh): (usize, usize, usize),
    column: Short<T>,
    rows: &mut Rows<T>,
    y: &mut Blank<T>,
) {
    let mut next = 0;
    for i in 0..oh {
        let (first, taps) = column.at(i);
        let end = (first + taps.len() as isize).clamp(0, h as isize) as usize;
        for idx in next.max(first.max(0) as usize)..end {
            rows.filter(idx, &x[idx * w..][..w]);
        }
        next = next.max(end);
        let (a, b) = (rows.get(first, h), rows.get(first + 1, h));
        match column {
            Short::Four { taps, .. } => {
                let (c, d) = (rows.get(first + 2, h), rows.get(first + 3, h));
                let values = a.iter().zip(b).zip(c.iter().zip(d));
                y.write(a.len(), values.map(move |((a, b), (c, d))| sum([*a, *b, *c, *d], taps)));
            }
            Short::Doubled { taps, .. } => {
                let taps = taps[i % 2];
                y.write(a.len(), a.iter().zip(b).map(move |(a, b)| sum([*a, *b], taps)));
            }
        }
    }
}
