//! Sums of many numbers in one fixed order.
//!
//! A block is summed in lanes, as wide as two vectors, and blocks in f64: the error stays that of
//! some dozen roundings for any length.

use super::Element;

/// Elements that are summed in their own type.
pub(super) const BLOCK: usize = 1024;
const LANES: usize = 16;

/// `sum values` of at most [`BLOCK`] elements.
#[inline(always)]
#[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
pub(super) fn sum_block<T: Element>(values: &[T]) -> f64 {
    let mut lanes = [T::zero(); LANES];
    let (groups, rest) = values.as_chunks::<LANES>();
    for group in groups {
        lanes.iter_mut().zip(group).for_each(|(lane, value)| *lane += *value);
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, value)| *lane += *value);
    fold(lanes)
}

/// `sum a * b`, of slices of one length.
#[inline(always)]
#[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
pub(super) fn dot<T: Element>(a: &[T], b: &[T]) -> f64 {
    if a.len() < LANES {
        return a.iter().zip(b).fold(T::zero(), |sum, (a, b)| sum + *a * *b).to_f64();
    }
    let mut total = 0.0;
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let mut lanes = [T::zero(); LANES];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            let products = a.iter().zip(b).map(|(a, b)| *a * *b);
            lanes.iter_mut().zip(products).for_each(|(lane, product)| *lane += product);
        }
        let products = a_rest.iter().zip(b_rest).map(|(a, b)| *a * *b);
        lanes.iter_mut().zip(products).for_each(|(lane, product)| *lane += product);
        total += fold(lanes);
    }
    total
}

/// The sum of the lanes, by halves.
#[inline(always)]
#[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
fn fold<T: Element>(mut lanes: [T; LANES]) -> f64 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0].to_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers, whose sums are exact in any order.
    #[test]
    fn sums_of_any_length() {
        for len in (0..70).chain([BLOCK - 1, BLOCK, BLOCK + 1, 5000]) {
            let (a, b): (Vec<f32>, Vec<f32>) =
                (0..len).map(|i| ((i % 7) as f32 - 2.0, (i % 5) as f32)).unzip();
            let expected: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert_eq!(dot(&a, &b), f64::from(expected), "{len}");
            let a = &a[..len.min(BLOCK)];
            assert_eq!(sum_block(a), f64::from(a.iter().sum::<f32>()), "{len}");
        }
    }

    /// A plain sum of a million times 0.1 is off by 1 %.
    #[test]
    fn a_long_sum_keeps_its_digits() {
        let ones = vec![1f32; 1 << 20];
        let sum = dot(&ones, &vec![0.1; 1 << 20]) / f64::from(1 << 20);
        assert!((sum / f64::from(0.1f32) - 1.0).abs() < 1e-6, "{sum}");
    }
}
