//! Planes with mirrors at their edges, and the adjoint.

use super::Element;
use super::tasks::{fill, for_rows};
use crate::ops::reflect_pad::Margin;

/// Sizes of `count` planes and their margins.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Planes {
    pub(in crate::ops) count: usize,
    pub(in crate::ops) h: usize,
    pub(in crate::ops) w: usize,
    pub(in crate::ops) y: Margin,
    pub(in crate::ops) x: Margin,
}

impl Planes {
    pub(in crate::ops) fn padded(&self) -> (usize, usize) {
        (self.h + self.y[0] + self.y[1], self.w + self.x[0] + self.x[1])
    }

    /// The row that padded row `row` mirrors.
    fn source(&self, row: usize) -> usize {
        let row = row.abs_diff(self.y[0]);
        row.min(2 * (self.h - 1) - row.min(2 * (self.h - 1)))
    }
}

/// `x [count, h, w]` to the padded size.
pub(in crate::ops) fn pad<T: Element>(x: &[T], planes: Planes) -> Vec<T> {
    let Planes { count, h, w, x: [before, after], .. } = planes;
    let (padded_h, padded_w) = planes.padded();
    fill(
        count * padded_h,
        padded_w,
        #[inline(always)]
        |rows, y| {
            for row in rows {
                let source = row / padded_h * h + planes.source(row % padded_h);
                let x = &x[source * w..][..w];
                y.write(before, x[1..=before].iter().rev().copied());
                y.write(w, x.iter().copied());
                y.write(after, x[w - 1 - after..w - 1].iter().rev().copied());
            }
        },
    )
}

/// `dy` of the padded size to `[count, h, w]`; one task for a plane, row after row.
pub(in crate::ops) fn fold<T: Element>(dy: &[T], planes: Planes) -> Vec<T> {
    let Planes { count, h, w, x: [before, after], .. } = planes;
    let (padded_h, padded_w) = planes.padded();
    let mut x = vec![T::zero(); count * h * w];
    let mut outputs: Vec<&mut [T]> = x.chunks_exact_mut((h * w).max(1)).collect();
    for_rows(
        &mut outputs,
        padded_h * padded_w,
        #[inline(always)]
        |first, outputs| {
            let add = |x: &mut T, dy: &T| *x += *dy;
            for (plane, x) in (first..).zip(outputs) {
                let dy = &dy[plane * padded_h * padded_w..][..padded_h * padded_w];
                for (row, dy) in dy.chunks_exact(padded_w).enumerate() {
                    let x = &mut x[planes.source(row) * w..][..w];
                    let ((left, dy), right) = (dy.split_at(before), &dy[before + w..]);
                    x.iter_mut().zip(dy).for_each(|(x, dy)| add(x, dy));
                    x[1..=before].iter_mut().zip(left.iter().rev()).for_each(|(x, dy)| add(x, dy));
                    let mirrored = x[w - 1 - after..w - 1].iter_mut().rev();
                    mirrored.zip(right).for_each(|(x, dy)| add(x, dy));
                }
            }
        },
    );
    x
}
