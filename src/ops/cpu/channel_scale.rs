//! Planes times numbers, and the sums of products of planes.

use super::Element;
use super::sum;
use super::tasks::{fill, for_rows};

/// `x [planes, plane] * s [planes]`.
pub(in crate::ops) fn scale<T: Element>(x: &[T], s: &[T]) -> Vec<T> {
    let plane = x.len() / s.len().max(1);
    fill(
        s.len(),
        plane,
        #[inline(always)]
        |rows, y| {
            let x = x[rows.start * plane..].chunks_exact(plane);
            for (x, &s) in x.zip(&s[rows]) {
                y.write(plane, x.iter().map(move |x| *x * s));
            }
        },
    )
}

/// `sum a * b` of each of `planes` planes.
pub(in crate::ops) fn dot<T: Element>(a: &[T], b: &[T], planes: usize, plane: usize) -> Vec<T> {
    let mut sums = vec![T::zero(); planes];
    for_rows(
        &mut sums,
        plane,
        #[inline(always)]
        |first, sums| {
            for (row, y) in (first..).zip(sums) {
                let (a, b) = (&a[row * plane..][..plane], &b[row * plane..][..plane]);
                *y = T::from_f64(sum::dot(a, b));
            }
        },
    );
    sums
}
