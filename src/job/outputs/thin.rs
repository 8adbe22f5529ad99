//! Which of many grids stay: few, evenly spread over the run.

use super::MAX_GRIDS;

/// Which of the grids at `places` (0, 1, .. in the order of the run, ascending) to delete so that
/// [`MAX_GRIDS`] stay.
///
/// The first and the last stay; of the others the one whose place, counted from the first, is
/// divisible by the fewest twos goes first, the earlier before the later. Called after every
/// grid this leaves gaps of one power of two and its double, apart from the last gap, which may
/// be shorter.
pub(super) fn thin(places: &[u64]) -> Vec<u64> {
    let Some(first) = places.first() else { return Vec::new() };
    let mut kept = places.to_vec();
    let mut deleted = Vec::new();
    while kept.len() > MAX_GRIDS {
        let inner = 1..kept.len() - 1;
        let Some(idx) = inner.min_by_key(|idx| (kept[*idx] - first).trailing_zeros()) else {
            break;
        };
        deleted.push(kept.remove(idx));
    }
    deleted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_thinned_evenly() {
        let mut kept = Vec::new();
        for place in 0..2000u64 {
            kept.push(place);
            let deleted = thin(&kept);
            kept.retain(|place| !deleted.contains(place));
            assert_eq!(kept.len() as u64, (place + 1).min(MAX_GRIDS as u64));
            assert_eq!((kept[0], kept[kept.len() - 1]), (0, place));
            let mut gaps: Vec<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let last = gaps.pop().unwrap_or_default();
            let (min, max) = (gaps.iter().min(), gaps.iter().max());
            if let (Some(min), Some(max)) = (min, max) {
                assert!(*max <= 2 * min && last <= *max, "{kept:?}");
            }
        }
        assert!(thin(&[]).is_empty());
        assert_eq!(thin(&(0..13).collect::<Vec<_>>()), [1]);
    }
}
