//! The real pictures as descriptors, and the nearest of them to any other picture.
//!
//! The search is exact: every window of a sample meets every real picture. It holds one block of
//! products at a time, and the descriptors: 588 bytes a picture.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::frame::{Frame, Square, dot};
use crate::ops::cancel;

/// Neighbours that say how dense the set is around a picture.
const DENSITY: usize = 50;
/// Neighbours that are looked at closely.
const CANDIDATES: usize = 4;
/// Pictures that are searched for at once, and real ones in a block of products.
const BLOCK: (usize, usize) = (8, 2048);
/// Real pictures that correlate more are the same work.
const DUPLICATE: f32 = 0.98;

/// The descriptors of a set.
pub(super) struct Bank {
    /// `[N, len]`
    descriptors: Vec<f32>,
    len: usize,
    /// The first picture that each one is a duplicate of, or itself.
    works: Vec<u32>,
    /// The correlation of each picture's nearest two of other works, and which these are.
    nearest: Vec<[(f32, u32); 2]>,
}

/// The nearest real pictures of a picture.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Neighbours {
    /// The nearest first, at most [`CANDIDATES`].
    pub(super) candidates: Vec<u32>,
    /// Mean distance of the next [`DENSITY`] works, or of as many as there are; infinite if there
    /// is none.
    pub(super) density: f32,
}

/// The distance of unit vectors of this correlation.
pub(super) fn distance(correlation: f32) -> f32 {
    (2.0 * (1.0 - correlation)).max(0.0).sqrt()
}

impl Bank {
    /// The bank of pictures with these `descriptors [N, len]`, after a look for duplicates.
    ///
    /// # Errors
    /// Fails if memory cannot be had, or if cancelled.
    pub(super) fn new(frame: &Frame, descriptors: Vec<f32>) -> Result<Self> {
        let len = frame.len();
        let num_pictures = descriptors.len() / len;
        let none = [(-1.0, u32::MAX); 2];
        let mut bank = Self { descriptors, len, works: Vec::new(), nearest: Vec::new() };
        for start in (0..num_pictures).step_by(BLOCK.0 * 32) {
            let end = (start + BLOCK.0 * 32).min(num_pictures);
            let plain = &bank.descriptors[start * len..end * len];
            let mirrored = plain.chunks_exact(len).flat_map(|row| frame.mirrored(row));
            let both: Vec<f32> = plain.iter().copied().chain(mirrored).collect();
            let num_rows = end - start;
            let rows = bank.correlations(both, 2 * num_rows, |products, count| {
                let pairs = products.split_at(num_rows * count);
                let larger = pairs.0.iter().zip(pairs.1).map(|(a, b)| a.max(*b));
                larger.collect::<Vec<f32>>()
            })?;
            for (i, idx) in (start..end).enumerate() {
                let row: Vec<f32> = rows
                    .iter()
                    .flat_map(|part| &part[i * part.len() / num_rows..][..part.len() / num_rows])
                    .copied()
                    .collect();
                let is_work = |j: &usize| bank.works[*j] as usize == *j && row[*j] > DUPLICATE;
                let work = (0..idx).find(is_work).unwrap_or(idx);
                bank.works.push(work as u32);
                let others = row
                    .into_iter()
                    .zip(0..)
                    .filter(|(value, j)| *j as usize != idx && *value <= DUPLICATE);
                bank.nearest.push(others.fold(none, |[first, second], it| {
                    if it.0 > first.0 {
                        [it, first]
                    } else if it.0 > second.0 {
                        [first, it]
                    } else {
                        [first, second]
                    }
                }));
            }
        }
        Ok(bank)
    }

    /// Number of pictures.
    pub(super) fn num_pictures(&self) -> usize {
        self.works.len()
    }

    /// The descriptors of all pictures, `[N, len]`.
    pub(super) fn descriptors(&self) -> &[f32] {
        &self.descriptors
    }

    /// The pictures without their duplicates.
    pub(super) fn works(&self) -> Vec<u32> {
        (0..self.num_pictures() as u32).filter(|idx| self.is_work(*idx)).collect()
    }

    /// Whether a picture is no duplicate of an earlier one.
    fn is_work(&self, idx: u32) -> bool {
        self.works[idx as usize] == idx
    }

    /// The descriptor of a picture.
    pub(super) fn descriptor(&self, idx: u32) -> &[f32] {
        &self.descriptors[idx as usize * self.len..][..self.len]
    }

    /// Whether a picture is as good as flat, so that nothing of it can be found again.
    pub(super) fn is_flat(&self, idx: u32) -> bool {
        let descriptor = self.descriptor(idx);
        dot(descriptor, descriptor) < 0.999
    }

    /// Distance of a picture's nearest one of another work, `without` left out.
    pub(super) fn isolation(&self, idx: u32, without: Option<u32>) -> f32 {
        let [first, second] = self.nearest[idx as usize];
        distance(if Some(first.1) == without { second.0 } else { first.0 })
    }

    /// The nearest pictures of each of `squares`, by their best window.
    ///
    /// * `own` - which picture each is itself; then its own work, and all duplicates, are left out.
    ///
    /// # Errors
    /// Fails if memory cannot be had, or if cancelled.
    pub(super) fn search(
        &self,
        frame: &Frame,
        squares: &[Square],
        own: Option<&[u32]>,
    ) -> Result<Vec<Neighbours>> {
        let mut found = Vec::with_capacity(squares.len());
        for (block, squares) in squares.chunks(BLOCK.0).enumerate() {
            let windows: Vec<Vec<f32>> =
                squares.par_iter().map(|square| frame.describe_all(square)).collect();
            let num_windows = frame.num_windows();
            let parts = self.correlations(windows.concat(), squares.len() * num_windows, {
                |products, count| {
                    let of_query = products.par_chunks_exact(num_windows * count);
                    of_query.map(|products| largest(products, count)).collect::<Vec<_>>()
                }
            })?;
            found.par_extend((0..squares.len()).into_par_iter().map(|i| {
                let all = parts.iter().flat_map(|part| &part[i]).copied().zip(0..);
                let Some(own) = own.map(|own| own[block * BLOCK.0 + i]) else {
                    return self.neighbours(all.collect());
                };
                self.neighbours(all.filter(|(_, idx)| *idx != own && self.is_work(*idx)).collect())
            }));
        }
        Ok(found)
    }

    /// What `reduce` makes of the products of `rows [num_rows, len]` with each block of pictures.
    fn correlations<T>(
        &self,
        rows: Vec<f32>,
        num_rows: usize,
        reduce: impl Fn(&[f32], usize) -> T,
    ) -> Result<Vec<T>> {
        let rows = Tensor::from_vec(rows, (num_rows, self.len), &Device::Cpu)?;
        let blocks = self.descriptors.chunks(BLOCK.1 * self.len);
        let reduced = blocks.map(|block| {
            cancel::check()?;
            let count = block.len() / self.len;
            let block = Tensor::from_slice(block, (count, self.len), &Device::Cpu)?;
            let products = rows.matmul(&block.t()?)?.flatten_all()?.to_vec1::<f32>()?;
            Ok(reduce(&products, count))
        });
        reduced.collect()
    }

    /// What is near, of all correlations.
    fn neighbours(&self, all: Vec<(f32, u32)>) -> Neighbours {
        let candidates = highest(all.clone(), CANDIDATES);
        let own = candidates.first().map(|(_, idx)| self.works[*idx as usize]);
        let others = all.into_iter().filter(|(_, idx)| self.is_work(*idx) && Some(*idx) != own);
        let others = highest(others.collect(), DENSITY);
        let total: f32 = others.iter().map(|(value, _)| distance(*value)).sum();
        Neighbours {
            candidates: candidates.into_iter().map(|(_, idx)| idx).collect(),
            density: if others.is_empty() { f32::INFINITY } else { total / others.len() as f32 },
        }
    }
}

/// The largest value of each column of `products [rows, columns]`.
fn largest(products: &[f32], columns: usize) -> Vec<f32> {
    let mut largest = products[..columns].to_vec();
    for row in products.chunks_exact(columns).skip(1) {
        largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(*value));
    }
    largest
}

/// The `count` highest, in order; of equal ones the first.
fn highest(mut all: Vec<(f32, u32)>, count: usize) -> Vec<(f32, u32)> {
    let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if count < all.len() {
        all.select_nth_unstable_by(count, order);
        all.truncate(count);
    }
    all.sort_unstable_by(order);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rng::{Rng, Stream};

    fn noise(res: usize, seed: u64) -> Vec<u8> {
        let rng = Rng::new(seed, Stream::Pictures, 0);
        (0..(3 * res * res) as u64).map(|i| rng.below(i, 256) as u8).collect()
    }

    fn bank(frame: &Frame, pictures: &[Vec<u8>]) -> Bank {
        let describe = |picture: &Vec<u8>| frame.describe(&frame.square(picture));
        Bank::new(frame, pictures.iter().flat_map(describe).collect()).unwrap()
    }

    /// Against sums over every window and picture, one by one, for more than a block of both.
    #[test]
    fn the_search_is_exact() {
        let frame = Frame::new(8);
        let pictures: Vec<_> = (0..BLOCK.1 as u64 + 52).map(|seed| noise(8, seed)).collect();
        let bank = bank(&frame, &pictures);
        let queries: Vec<_> = (9000..9011).map(|seed| frame.square(&noise(8, seed))).collect();
        let found = bank.search(&frame, &queries, None).unwrap();
        for (query, found) in queries.iter().zip(found) {
            let windows = frame.describe_all(query);
            let best = |idx: u32| {
                let of_window = |window| dot(window, bank.descriptor(idx));
                windows.chunks_exact(frame.len()).map(of_window).fold(-1.0, f32::max)
            };
            let mut all: Vec<f32> = (0..pictures.len() as u32).map(best).collect();
            assert!(
                found.candidates.iter().map(|idx| all[*idx as usize]).is_sorted_by(|a, b| a >= b)
            );
            let nearest = all[found.candidates[0] as usize];
            all.sort_unstable_by(|a, b| b.total_cmp(a));
            assert!((nearest - all[0]).abs() < 1e-6);
            let density = all[1..=DENSITY].iter().map(|v| distance(*v)).sum::<f32>() / 50.0;
            assert!((found.density - density).abs() < 1e-5);
        }
    }

    #[test]
    fn duplicates_are_one_work_and_no_neighbours_of_each_other() {
        let frame = Frame::new(16);
        let mut pictures: Vec<_> = (0..300).map(|seed| noise(16, seed)).collect();
        let mirrored = pictures[3].chunks_exact(16).flat_map(|row| row.iter().rev());
        pictures[290] = mirrored.copied().collect();
        pictures[7] = pictures[3].iter().map(|v| v / 2 + 40).collect();
        let bank = bank(&frame, &pictures);
        assert_eq!((bank.num_pictures(), bank.works().len()), (300, 298));
        assert_eq!((bank.works[7], bank.works[290]), (3, 3));
        let own = [3];
        let found = bank.search(&frame, &[frame.square(&pictures[3])], Some(&own)).unwrap();
        assert!(!found[0].candidates.iter().any(|idx| [3, 7, 290].contains(idx)));
        let nearest = bank.nearest[3][0];
        assert!(nearest.0 < 0.9 && bank.isolation(3, Some(nearest.1)) > bank.isolation(3, None));
    }

    #[test]
    fn one_picture_has_no_density_around_it() {
        let frame = Frame::new(8);
        let bank = bank(&frame, &[noise(8, 1)]);
        let found = bank.search(&frame, &[frame.square(&noise(8, 2))], None).unwrap();
        assert_eq!((found[0].candidates.as_slice(), found[0].density), (&[0][..], f32::INFINITY));
        assert_eq!(bank.isolation(0, None), 2.0);
    }
}
