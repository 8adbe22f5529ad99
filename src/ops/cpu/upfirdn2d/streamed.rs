//! The resamplings of training, four taps that keep, halve or double the size, and those of
//! augmentation, twelve taps, in one stream.
//!
//! Each input row is filtered once, into a ring of as many rows as a column has taps;
//! each output row is a sum of rows of that ring. All of it stays in the first-level cache, of
//! pictures of usual size.

use std::ops::Range;

use super::{Planes, Polyphase};
use crate::ops::cpu::Element;
use crate::ops::cpu::tasks::{Blank, fill};

/// One axis, where each output meets neighbours: `TAPS` of them, `HALF` where the size is doubled.
#[derive(Clone, Copy)]
enum Short<T, const TAPS: usize, const HALF: usize> {
    /// Output i sums `taps[k] * input[first + i * step + k]`; `step` is 1 or 2.
    Kept { first: isize, step: usize, taps: [T; TAPS] },
    /// Output `2 i + phase` sums `taps[phase][k] * input[first[phase] + i + k]`.
    Doubled { first: [isize; 2], taps: [[T; HALF]; 2] },
}

impl<T: Element, const TAPS: usize, const HALF: usize> Short<T, TAPS, HALF> {
    fn of(axis: &Polyphase<T>) -> Option<Self> {
        match (axis.taps.as_slice(), axis.step) {
            ([taps], step @ (1 | 2)) => {
                let (first, taps) = neighbours(taps)?;
                Some(Self::Kept { first, step, taps })
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
            Self::Kept { first, step, taps } => (first + (i * step) as isize, taps),
            Self::Doubled { first, taps } => (first[i % 2] + (i / 2) as isize, &taps[i % 2]),
        }
    }

    /// The outputs of `out_len` that meet no input outside `0..len`, pairs whole.
    fn inside(&self, len: usize, out_len: usize) -> Range<usize> {
        // Outputs come in `count`s that meet inputs from `first + j * step`, `span` of them.
        let (first, span, step, count) = match *self {
            Self::Kept { first, step, .. } => (first, TAPS, step, 1),
            Self::Doubled { first: [a, b], .. } => (a.min(b), HALF + a.abs_diff(b), 1, 2),
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
            Self::Kept { step: 1, taps, .. } => {
                let windows: [_; TAPS] = windows(x, n);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = sum(|k| windows[k][i], taps);
                }
            }
            Self::Kept { taps, .. } => {
                let (pairs, _) = x.as_chunks::<2>();
                let windows: [_; HALF] = windows(pairs, n);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = sum(|k| windows[k / 2][i][k % 2], taps);
                }
            }
            Self::Doubled { taps, .. } => {
                let (pairs, _) = out.as_chunks_mut::<2>();
                let n = pairs.len();
                let (even, odd): ([_; HALF], [_; HALF]) = (windows(x, n), windows(odd_x, n));
                for (i, pair) in pairs.iter_mut().enumerate() {
                    *pair = [sum(|k| even[k][i], taps[0]), sum(|k| odd[k][i], taps[1])];
                }
            }
        }
    }
}

/// The `n` values from each of the first `N` places on.
#[inline(always)]
#[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
fn windows<T, const N: usize>(x: &[T], n: usize) -> [&[T]; N] {
    let mut windows = [&x[..n]; N];
    for (k, window) in windows.iter_mut().enumerate() {
        *window = &x[k..][..n];
    }
    windows
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
fn sum<T: Element, const N: usize>(value: impl Fn(usize) -> T, taps: [T; N]) -> T {
    let mut sum = taps[0] * value(0);
    for (k, &tap) in taps.iter().enumerate().skip(1) {
        sum += tap * value(k);
    }
    sum
}

/// All planes of `x [count, h, w]` to `[count, oh, ow]`; `None` where an axis is not short.
pub(super) fn apply<T: Element>(
    x: &[T],
    planes: Planes,
    axes: (&Polyphase<T>, &Polyphase<T>),
) -> Option<Vec<T>> {
    apply_short::<T, 4, 2>(x, planes, axes).or_else(|| apply_short::<T, 12, 6>(x, planes, axes))
}

/// As [`apply`], where the axes have `TAPS` taps, `HALF` of which meet an input each time if they
/// double it.
fn apply_short<T: Element, const TAPS: usize, const HALF: usize>(
    x: &[T],
    planes: Planes,
    (column, row): (&Polyphase<T>, &Polyphase<T>),
) -> Option<Vec<T>> {
    let (column, row) = (Short::<T, TAPS, HALF>::of(column)?, Short::of(row)?);
    let Planes { count, h, w, oh, ow } = planes;
    let y = fill(
        count,
        oh * ow,
        #[inline(always)]
        |range, y| {
            let mut rows = Rows {
                row,
                inside: row.inside(w, ow),
                ring: vec![T::zero(); (TAPS + 1) * ow],
                width: ow,
            };
            for x in x[range.start * h * w..range.end * h * w].chunks_exact(h * w) {
                filter_plane(x, (h, w, oh), column, &mut rows, y);
            }
        },
    );
    Some(y)
}

/// Filtered rows of one plane: input row i at `i % TAPS`, and a row of zeros behind them.
struct Rows<T, const TAPS: usize, const HALF: usize> {
    row: Short<T, TAPS, HALF>,
    inside: Range<usize>,
    ring: Vec<T>,
    width: usize,
}

impl<T: Element, const TAPS: usize, const HALF: usize> Rows<T, TAPS, HALF> {
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn filter(&mut self, idx: usize, x: &[T]) {
        let out = &mut self.ring[idx % TAPS * self.width..][..self.width];
        self.row.filter(x, out, self.inside.clone());
    }

    /// Filtered input row `idx` of `h`; zeros outside.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn get(&self, idx: isize, h: usize) -> &[T] {
        let is_inside = (0..h as isize).contains(&idx);
        let slot = if is_inside { idx as usize % TAPS } else { TAPS };
        &self.ring[slot * self.width..][..self.width]
    }

    /// The output row that meets filtered rows from `first` on.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    fn write_sum<const N: usize>(&self, first: isize, h: usize, taps: [T; N], y: &mut Blank<T>) {
        let width = self.width;
        let mut rows = [&self.get(first, h)[..width]; N];
        for (row, idx) in rows.iter_mut().zip(first..) {
            *row = &self.get(idx, h)[..width];
        }
        if let ([a, b, c, d], &[p, q, r, s]) = (rows.as_slice(), taps.as_slice()) {
            // as iterators, these four are read in place
            let values = a.iter().zip(*b).zip(c.iter().zip(*d));
            y.write(width, values.map(move |((a, b), (c, d))| p * *a + q * *b + r * *c + s * *d));
            return;
        }
        y.write(
            width,
            (0..width).map(
                #[inline(always)]
                move |i| sum(|k| rows[k][i], taps),
            ),
        );
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
fn filter_plane<T: Element, const TAPS: usize, const HALF: usize>(
    x: &[T],
    (h, w, oh): (usize, usize, usize),
    column: Short<T, TAPS, HALF>,
    rows: &mut Rows<T, TAPS, HALF>,
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
        match column {
            Short::Kept { taps, .. } => rows.write_sum(first, h, taps, y),
            Short::Doubled { taps, .. } => rows.write_sum(first, h, taps[i % 2], y),
        }
    }
}
