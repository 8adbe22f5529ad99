//! What a count among samples says of the share behind it: Clopper-Pearson bounds, one-sided, 95 %.
//!
//! Reference: Clopper and Pearson 1934, Biometrika 26.

/// One minus the confidence.
const ALPHA: f64 = 0.05;

/// The largest share that `count` of `total` is not too few for; 1 without samples.
pub fn upper(count: usize, total: usize) -> f64 {
    if count >= total { 1.0 } else { share(|p| at_most(count, total, p) > ALPHA) }
}

/// The smallest share that `count` of `total` is not too many for; 0 without samples.
pub fn lower(count: usize, total: usize) -> f64 {
    lower_of_many(count, total, 1)
}

/// As [`lower`], where `num_bounds` of them are to hold together (Bonferroni).
pub fn lower_of_many(count: usize, total: usize, num_bounds: usize) -> f64 {
    let alpha = ALPHA / num_bounds as f64;
    if count == 0 { 0.0 } else { share(|p| 1.0 - at_most(count - 1, total, p) < alpha) }
}

/// Where `is_below` turns from true to false, in [0, 1].
fn share(is_below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if is_below(middle) { low = middle } else { high = middle }
    }
    low
}

/// Probability of at most `count` successes in `total` trials of probability `p`, below 1.
fn at_most(count: usize, total: usize, p: f64) -> f64 {
    // logarithms: the first term may be smaller than any number
    let (mut term, odds) = (total as f64 * (-p).ln_1p(), p.ln() - (-p).ln_1p());
    let mut sum = term.exp();
    for i in 0..count {
        term += odds + ((total - i) as f64 / (i + 1) as f64).ln();
        sum += term.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a hit the bound is 1 - 0.05^(1 / M), with nothing but hits 0.05^(1 / M).
    #[test]
    fn bounds_of_none_and_of_all() {
        for total in [1, 8, 600, 4096] {
            let root = 0.05f64.powf(1.0 / total as f64);
            assert!((upper(0, total) - (1.0 - root)).abs() < 1e-12, "{total}");
            assert!((lower(total, total) - root).abs() < 1e-12, "{total}");
            assert_eq!((lower(0, total), upper(total, total)), (0.0, 1.0));
        }
        let of_ten = 0.005f64.powf(1.0 / 8.0);
        assert!((lower_of_many(8, 8, 10) - of_ten).abs() < 1e-12);
        assert!((upper(0, 600) - 0.00498).abs() < 5e-6, "0 of 600 is 0.498 %");
        assert!(upper(0, 598) <= 0.005 && upper(0, 597) > 0.005);
        assert_eq!((lower(0, 0), upper(0, 0)), (0.0, 1.0));
    }

    /// `scipy.stats.binomtest(k, n).proportion_ci(0.9, "exact")`, scipy 1.17.
    #[test]
    fn bounds_known_from_scipy() {
        let known = [
            (1, 600, 8.548_516_977e-5, 0.007_881_816_463),
            (13, 4096, 0.001_878_327_412, 0.005_041_313_276),
            (300, 600, 0.465_646_000_274, 0.534_353_999_726),
            (3, 8, 0.111_112_706_607, 0.710_759_183_498),
        ];
        for (count, total, low, high) in known {
            assert!((lower(count, total) - low).abs() < 1e-10, "{count} of {total}");
            assert!((upper(count, total) - high).abs() < 1e-10, "{count} of {total}");
        }
    }
}
