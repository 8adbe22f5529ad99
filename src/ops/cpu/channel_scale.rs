//! Planes times numbers, and the sums of products of planes.

use rayon::prelude::*;

use super::{Element, rows_per_task};

/// `x [planes, plane] * s [planes]`.
pub(in crate::ops) fn scale<T: Element>(x: &[T], s: &[T]) -> Vec<T> {
    let plane = x.len() / s.len().max(1);
    let mut y = vec![T::zero(); x.len()];
    if plane == 0 {
        return y;
    }
    y.par_chunks_mut(plane)
        .zip(x.par_chunks(plane))
        .zip(s)
        .with_min_len(rows_per_task(plane))
        .for_each(|((y, x), s)| y.iter_mut().zip(x).for_each(|(y, x)| *y = *x * *s));
    y
}

/// `sum a * b` of each of `planes` planes.
pub(in crate::ops) fn dot<T: Element>(a: &[T], b: &[T], planes: usize, plane: usize) -> Vec<T> {
    let mut y = vec![T::zero(); planes];
    if plane == 0 {
        return y;
    }
    y.par_iter_mut()
        .zip(a.par_chunks(plane).zip(b.par_chunks(plane)))
        .with_min_len(rows_per_task(plane))
        .for_each(|(y, (a, b))| *y = pairwise_dot(a, b));
    y
}

/// Sum of products with an error that grows with the logarithm of the length.
fn pairwise_dot<T: Element>(a: &[T], b: &[T]) -> T {
    if a.len() > 1024 {
        let half = a.len() / 2;
        return pairwise_dot(&a[..half], &b[..half]) + pairwise_dot(&a[half..], &b[half..]);
    }
    let mut lanes = [T::zero(); 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        let products = a.iter().zip(b).map(|(a, b)| *a * *b);
        lanes.iter_mut().zip(products).for_each(|(lane, product)| *lane += product);
    }
    lanes.iter().fold(T::zero(), |a, b| a + *b)
}
