//! Data copying: whether samples lie nearer to the training pictures than held-out ones do.
//!
//! Pictures fall into cells, and in each cell the distances of samples are ranked among those of
//! held-out pictures. The statistic is negative where samples are nearer; below -3 it is no chance.
//!
//! Reference: Meehan, Chaudhuri and Dasgupta 2020, arXiv:2004.05675, definition 4.1 and section 5.

/// A picture as the statistic sees it: the cell of its nearest training picture, and how far that is.
pub type Placed = (u32, f32);

/// Cells with a smaller share of the samples than this do not count.
const MIN_SHARE: f64 = 0.02;

/// The statistic `C_T` of `samples` against `held_out` pictures; `None` if no cell has enough of
/// both.
pub fn data_copying(held_out: &[Placed], samples: &[Placed]) -> Option<f64> {
    let num_cells = held_out.iter().chain(samples).map(|(cell, _)| cell + 1).max().unwrap_or(0);
    let (mut sum, mut weights) = (0.0, 0.0);
    for cell in 0..num_cells {
        let [of_held_out, of_samples] = [held_out, samples].map(|placed| {
            let inside = placed.iter().filter(|(of, _)| *of == cell);
            inside.map(|(_, distance)| *distance).collect::<Vec<f32>>()
        });
        let share = of_samples.len() as f64 / samples.len() as f64;
        if of_held_out.is_empty() || of_samples.is_empty() || share < MIN_SHARE {
            continue;
        }
        let weight = of_held_out.len() as f64 / held_out.len() as f64;
        sum += weight * standardized_rank_sum(&of_held_out, &of_samples);
        weights += weight;
    }
    (weights > 0.0).then(|| sum / weights)
}

/// Mann-Whitney U of `samples` over `held_out`, as deviations from what equal distributions give.
fn standardized_rank_sum(held_out: &[f32], samples: &[f32]) -> f64 {
    let wins = |sample: &f32| {
        let win = |other: &f32| match sample.total_cmp(other) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        };
        held_out.iter().map(win).sum::<f64>()
    };
    let u: f64 = samples.iter().map(wins).sum();
    let (n, m) = (held_out.len() as f64, samples.len() as f64);
    (u - n * m / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("../../tests/fixtures/data_copying.json");

    /// Against `scipy.stats.mannwhitneyu`, see the script beside the fixture.
    #[test]
    fn the_statistic_is_that_of_scipy() {
        let fixture: serde_json::Value = serde_json::from_str(FIXTURE).unwrap();
        for case in fixture.as_array().unwrap() {
            let [held_out, samples] = ["held_out", "samples"]
                .map(|key| serde_json::from_value::<Vec<Placed>>(case[key].clone()).unwrap());
            let statistic = data_copying(&held_out, &samples).unwrap();
            assert!((statistic - case["statistic"].as_f64().unwrap()).abs() < 1e-9, "{statistic}");
        }
    }

    #[test]
    fn cells_without_samples_or_held_out_pictures_say_nothing() {
        assert_eq!(data_copying(&[(0, 0.5)], &[(1, 0.5)]), None);
        assert_eq!(data_copying(&[], &[]), None);
        let copies: Vec<Placed> = (0..100).map(|i| (i % 2, 0.01)).collect();
        let held_out: Vec<Placed> = (0..100).map(|i| (i % 2, 0.5)).collect();
        assert!(data_copying(&held_out, &copies).unwrap() < -3.0);
        assert_eq!(data_copying(&held_out, &held_out), Some(0.0));
    }
}
