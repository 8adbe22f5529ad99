//! The set in cells of pictures that are alike, for comparisons cell by cell.

use rayon::prelude::*;

use super::frame::dot;
use crate::ops::rng::{Rng, Stream};

/// Cells of a set.
const NUM_CELLS: usize = 10;
/// Rounds of assignment: more change little.
const NUM_ROUNDS: usize = 12;

/// The cell of each of `descriptors [N, len]`, by k-means from pictures that depend on `seed`.
pub(super) fn cells(descriptors: &[f32], len: usize, seed: u64) -> Vec<u32> {
    let rows: Vec<&[f32]> = descriptors.chunks_exact(len).collect();
    let order = Rng::new(seed, Stream::Audit, 3).permutation(rows.len());
    let mut centers: Vec<Vec<f32>> =
        order.into_iter().take(NUM_CELLS).map(|idx| rows[idx].to_vec()).collect();
    let mut cells = Vec::new();
    for _ in 0..NUM_ROUNDS {
        // |x - c|^2 / 2 without |x|^2 / 2, which is the same for every center
        let offsets: Vec<f32> = centers.iter().map(|center| dot(center, center) / 2.0).collect();
        let nearest = |row: &&[f32]| {
            let far =
                centers.iter().zip(&offsets).map(|(center, offset)| offset - dot(row, center));
            let best = far.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
            best.map_or(0, |(cell, _)| cell as u32)
        };
        cells = rows.par_iter().map(nearest).collect();
        for (cell, center) in centers.iter_mut().enumerate() {
            let inside = || rows.iter().zip(&cells).filter(|(_, of)| **of as usize == cell);
            let count = inside().count();
            if count > 0 {
                center.fill(0.0);
                for (row, _) in inside() {
                    center.iter_mut().zip(*row).for_each(|(sum, value)| *sum += value);
                }
                for sum in center.iter_mut() {
                    *sum /= count as f32;
                }
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve points around each corner of a triangle: no cell has points of two corners.
    #[test]
    fn what_is_together_is_in_cells_of_its_own() {
        let corners = [[0f32, 0.0], [10.0, 0.0], [0.0, 10.0]];
        let rng = Rng::new(0, Stream::Pictures, 0);
        let point = |i: usize| {
            [0, 1].map(|axis| corners[i % 3][axis] + rng.uniform((2 * i + axis) as u64) as f32)
        };
        let points: Vec<f32> = (0..36).flat_map(point).collect();
        let cells = cells(&points, 2, 1);
        for (i, cell) in cells.iter().enumerate() {
            let same = cells.iter().enumerate().filter(|(_, other)| *other == cell);
            assert!(same.into_iter().all(|(j, _)| i % 3 == j % 3), "{cells:?}");
        }
    }
}
