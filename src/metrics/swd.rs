//! Sliced Wasserstein distance between two sets of images, on the levels of a Laplacian pyramid.
//!
//! Each level is seen through patches of 7 x 7 pixels. Projected on a direction, the patches of
//! a set are numbers, and the distance between two sets of numbers is that of their sorted lists;
//! the mean over many directions is the distance of the level. It sees colors, textures and their
//! frequency by scale, but no shapes larger than a patch of the lowest level, and it needs nothing
//! that was learned elsewhere.
//!
//! Sets of equal size only: the distance of finite sets shrinks with their size. The patches of
//! each set are centered and scaled by channel, as in the paper's own tool, so a tint does not
//! outweigh everything else.
//!
//! Reference: Karras et al. 2018, arXiv:1710.10196, section 5; Rabin et al. 2011 (sliced
//! distance); Burt and Adelson 1983 (the pyramid).

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use crate::ops::rng::{Rng, Stream};

/// Side of a patch.
const PATCH: usize = 7;
/// Patches of an image on each level.
const PATCHES: usize = 64;
/// Directions that patches are projected on.
const DIRECTIONS: usize = 128;
/// The pyramid ends at this resolution.
const MIN_RES: usize = 16;
/// The binomial filter, applied along both axes.
const BINOMIAL: [f32; 5] = [0.0625, 0.25, 0.375, 0.25, 0.0625];

/// Patches of a growing set of images.
pub struct Sketch {
    channels: usize,
    res: usize,
    seed: u64,
    num_images: usize,
    /// By level, the highest resolution first: `[num_images * PATCHES, channels * PATCH * PATCH]`.
    levels: Vec<Vec<f32>>,
}

/// A set of images as sorted projections.
pub struct Projected {
    /// By level: `[DIRECTIONS, num_images * PATCHES]`, each row sorted.
    levels: Vec<Vec<f32>>,
    num_patches: usize,
}

impl Sketch {
    /// An empty set of images `[channels, res, res]`; where patches lie depends on `seed`.
    ///
    /// # Errors
    /// Fails if a patch is larger than an image.
    pub fn new(channels: usize, res: usize, seed: u64) -> Result<Self> {
        if res < PATCH + 1 || !res.is_power_of_two() {
            bail!("swd: expected a resolution that is a power of two from 8 on, got {res}");
        }
        let num_levels = (res / MIN_RES.min(res)).ilog2() as usize + 1;
        Ok(Self { channels, res, seed, num_images: 0, levels: vec![Vec::new(); num_levels] })
    }

    /// Adds `images [N, C, H, W]` in [-1, 1], rounded to 256 values as in a file.
    ///
    /// # Errors
    /// Fails if the shape differs.
    pub fn add(&mut self, images: &Tensor) -> Result<()> {
        let (n, channels, h, w) = images.dims4()?;
        if (channels, h, w) != (self.channels, self.res, self.res) {
            bail!(
                "swd: expected images [N, {}, {res}, {res}], got {:?}",
                self.channels,
                images.dims(),
                res = self.res
            );
        }
        let values = images.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?;
        let values = values.to_vec1::<f32>()?;
        let round = |x: &f32| (x * 127.5 + 127.5).clamp(0.0, 255.0).round();
        let patches = values.par_chunks_exact(channels * h * w).enumerate().map(|(i, image)| {
            let image = image.iter().map(round).collect();
            self.patches(self.num_images + i, image)
        });
        for of_image in patches.collect::<Vec<_>>() {
            for (level, patches) in self.levels.iter_mut().zip(of_image) {
                level.extend(patches);
            }
        }
        self.num_images += n;
        Ok(())
    }

    /// The patches of one image, by level.
    fn patches(&self, image_idx: usize, image: Vec<f32>) -> Vec<Vec<f32>> {
        let pyramid = pyramid(image, self.channels, self.res, self.levels.len());
        let of_level = |(level, image): (usize, Vec<f32>)| {
            let res = self.res >> level;
            let rng = Rng::new(self.seed, Stream::Metric, level as u64);
            let mut patches = Vec::with_capacity(PATCHES * self.channels * PATCH * PATCH);
            for idx in 0..PATCHES {
                let draw = (image_idx * PATCHES + idx) as u64 * 2;
                let [x, y] = [0, 1].map(|axis| rng.below(draw + axis, res - PATCH + 1));
                for plane in image.chunks_exact(res * res) {
                    for row in y..y + PATCH {
                        patches.extend_from_slice(&plane[row * res + x..][..PATCH]);
                    }
                }
            }
            patches
        };
        pyramid.into_iter().enumerate().map(of_level).collect()
    }

    /// The set as it is compared.
    ///
    /// # Errors
    /// Fails if it is empty.
    pub fn project(self) -> Result<Projected> {
        let (channels, num_patches) = (self.channels, self.num_images * PATCHES);
        if num_patches == 0 {
            bail!("swd: expected at least one image");
        }
        let project = |(level, mut patches): (usize, Vec<f32>)| {
            normalize(&mut patches, channels);
            let len = channels * PATCH * PATCH;
            let patches = Tensor::from_vec(patches, (num_patches, len), &Device::Cpu)?;
            let directions = directions(self.seed, level, len)?; // [DIRECTIONS, len]
            let mut rows = directions.matmul(&patches.t()?)?.flatten_all()?.to_vec1::<f32>()?;
            rows.par_chunks_mut(num_patches).for_each(|row| row.sort_unstable_by(f32::total_cmp));
            Ok(rows) // [DIRECTIONS, num_patches]
        };
        let levels = self.levels.into_iter().enumerate().map(project).collect::<Result<_>>()?;
        Ok(Projected { levels, num_patches })
    }
}

impl Projected {
    /// The distance to another set: the mean over levels and directions, times 1000 as usual.
    ///
    /// # Errors
    /// Fails if the sets differ in size, resolution or channels.
    pub fn distance(&self, other: &Self) -> Result<f64> {
        if self.num_patches != other.num_patches || self.levels.len() != other.levels.len() {
            bail!(
                "swd: expected sets of equal size and resolution, got {} and {} patches",
                self.num_patches,
                other.num_patches
            );
        }
        let levels = self.levels.iter().zip(&other.levels);
        let sum: f64 = levels.map(|(a, b)| mean_distance(a, b)).sum();
        Ok(1000.0 * sum / self.levels.len() as f64)
    }
}

/// Mean distance of values in equal places.
fn mean_distance(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum();
    sum / a.len() as f64
}

/// Unit vectors `[DIRECTIONS, len]`.
fn directions(seed: u64, level: usize, len: usize) -> Result<Tensor> {
    let rng = Rng::new(seed, Stream::Metric, 1 << 32 | level as u64);
    let draws = Tensor::from_vec(rng.normals(DIRECTIONS * len), (DIRECTIONS, len), &Device::Cpu)?;
    let norms = draws.sqr()?.sum_keepdim(1)?.sqrt()?;
    draws.broadcast_div(&norms)?.to_dtype(DType::F32)
}

/// Centers and scales each channel of patches `[M, channels, PATCH * PATCH]`.
fn normalize(patches: &mut [f32], channels: usize) {
    for channel in 0..channels {
        let planes = || patches.chunks_exact(PATCH * PATCH).skip(channel).step_by(channels);
        let count = (planes().len() * PATCH * PATCH) as f64;
        let mean = planes().flatten().map(|v| f64::from(*v)).sum::<f64>() / count;
        let squares = planes().flatten().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>();
        // a channel of one value has no scale
        let scale = if squares > 0.0 { (squares / count).sqrt().recip() } else { 0.0 };
        let planes = patches.chunks_exact_mut(PATCH * PATCH).skip(channel).step_by(channels);
        for value in planes.flatten() {
            *value = ((f64::from(*value) - mean) * scale) as f32;
        }
    }
}

/// The Laplacian pyramid of an image `[channels, res, res]`: what each level has beyond the next
/// one, and the last as it is.
fn pyramid(image: Vec<f32>, channels: usize, res: usize, num_levels: usize) -> Vec<Vec<f32>> {
    let mut levels = vec![image];
    for level in 1..num_levels {
        let res = res >> (level - 1);
        let above = &mut levels[level - 1];
        let below = half(above, channels, res);
        let again = double(&below, channels, res / 2);
        above.iter_mut().zip(again).for_each(|(above, again)| *above -= again);
        levels.push(below);
    }
    levels
}

/// Filters and keeps every other pixel.
fn half(image: &[f32], channels: usize, res: usize) -> Vec<f32> {
    let filtered = filter(image, channels, res);
    let rows = filtered.chunks_exact(res).step_by(2); // `res` is even, so planes stay apart
    rows.flat_map(|row| row.iter().copied().step_by(2)).collect()
}

/// Inserts a zero after each pixel in both directions, filters, and makes up for the zeros.
fn double(image: &[f32], channels: usize, res: usize) -> Vec<f32> {
    let mut sparse = vec![0.0; image.len() * 4];
    for (row, pixels) in image.chunks_exact(res).enumerate() {
        let target = sparse[row * 4 * res..].iter_mut().step_by(2);
        target.zip(pixels).for_each(|(target, pixel)| *target = 4.0 * pixel);
    }
    filter(&sparse, channels, 2 * res)
}

/// The binomial filter along both axes; beyond its edges the image is mirrored at the last pixel.
fn filter(image: &[f32], channels: usize, res: usize) -> Vec<f32> {
    let mirrored = |i: isize| {
        let i = i.unsigned_abs();
        if i < res { i } else { 2 * (res - 1) - i }
    };
    let at = |i: usize, tap: usize| mirrored((i + tap) as isize - 2);
    let mut out = Vec::with_capacity(image.len());
    for plane in image.chunks_exact(res * res).take(channels) {
        let across = plane.chunks_exact(res).flat_map(|row| {
            let value = move |x: usize| (0..5).map(|tap| BINOMIAL[tap] * row[at(x, tap)]).sum();
            (0..res).map(value).collect::<Vec<f32>>()
        });
        let across: Vec<f32> = across.collect();
        for (y, x) in (0..res).flat_map(|y| (0..res).map(move |x| (y, x))) {
            out.push((0..5).map(|tap| BINOMIAL[tap] * across[at(y, tap) * res + x]).sum());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXTURE: &str = include_str!("../../tests/fixtures/swd.json");

    fn values(fixture: &serde_json::Value, key: &str) -> Vec<f32> {
        serde_json::from_value(fixture[key].clone()).unwrap()
    }

    fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
        assert_eq!(a.len(), b.len());
        let most = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most <= tolerance, "{most}");
    }

    fn noise(n: usize, res: usize, step: u64) -> Tensor {
        let draws = Rng::new(0, Stream::Pictures, step).normals(n * 3 * res * res);
        let noise = Tensor::from_vec(draws, (n, 3, res, res), &Device::Cpu).unwrap();
        (noise.to_dtype(DType::F32).unwrap() * 0.3).unwrap()
    }

    fn projected(images: &Tensor) -> Projected {
        let mut sketch = Sketch::new(3, images.dims()[3], 1).unwrap();
        sketch.add(images).unwrap();
        sketch.project().unwrap()
    }

    /// Against scipy's filters (`tests/fixtures/swd.py`).
    #[test]
    fn the_pyramid_is_scipy_s() {
        let fixture: serde_json::Value = serde_json::from_str(FIXTURE).unwrap();
        let levels = pyramid(values(&fixture, "image"), 2, 32, 3);
        assert_eq!(levels.len(), 3);
        for (level, name) in levels.iter().zip(["level0", "level1", "level2"]) {
            assert_close(level, &values(&fixture, name), 1e-3); // of 255
        }
    }

    /// Patches, directions and the distance by numpy; what is drawn is in the fixture.
    #[test]
    fn normalized_patches_are_as_far_apart_as_numpy_says() {
        let fixture: serde_json::Value = serde_json::from_str(FIXTURE).unwrap();
        let (mut a, mut b) = (values(&fixture, "a"), values(&fixture, "b"));
        let directions = values(&fixture, "directions"); // [3, 98]
        normalize(&mut a, 2);
        normalize(&mut b, 2);
        let sorted = |patches: &[f32]| {
            let dot = |direction: &[f32], patch: &[f32]| -> f32 {
                direction.iter().zip(patch).map(|(d, p)| d * p).sum()
            };
            let row = |direction: &[f32]| {
                let mut row: Vec<f32> =
                    patches.chunks_exact(98).map(|patch| dot(direction, patch)).collect();
                row.sort_unstable_by(f32::total_cmp);
                row
            };
            directions.chunks_exact(98).flat_map(row).collect::<Vec<_>>()
        };
        let expected = fixture["distance"].as_f64().unwrap();
        let distance = mean_distance(&sorted(&a), &sorted(&b));
        assert!((distance / expected - 1.0).abs() < 1e-5, "{distance} {expected}");
    }

    #[test]
    fn directions_have_length_one() {
        let norms = directions(3, 0, 147).unwrap().sqr().unwrap().sum(1).unwrap();
        assert_close(&norms.to_vec1::<f32>().unwrap(), &[1.0; DIRECTIONS], 1e-5);
    }

    #[test]
    fn a_set_has_no_distance_to_itself_and_little_to_one_like_it() {
        let (a, b) = (noise(16, 32, 0), noise(16, 32, 1));
        let flat = a.avg_pool2d(32).unwrap().upsample_nearest2d(32, 32).unwrap();
        let (a, b, flat) = (projected(&a), projected(&b), projected(&flat));
        assert_eq!(a.distance(&a).unwrap(), 0.0);
        let (alike, apart) = (a.distance(&b).unwrap(), a.distance(&flat).unwrap());
        assert!(alike < 100.0 && apart > 5.0 * alike, "{alike} {apart}");
    }

    #[test]
    fn images_may_come_one_by_one() {
        let images = noise(3, 16, 0);
        let mut sketch = Sketch::new(3, 16, 1).unwrap();
        for i in 0..3 {
            sketch.add(&images.narrow(0, i, 1).unwrap()).unwrap();
        }
        assert_eq!(projected(&images).distance(&sketch.project().unwrap()).unwrap(), 0.0);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        assert!(Sketch::new(3, 4, 0).is_err());
        assert!(Sketch::new(3, 8, 0).unwrap().add(&noise(1, 16, 0)).is_err());
        assert!(Sketch::new(3, 8, 0).unwrap().project().is_err());
        assert!(projected(&noise(2, 8, 0)).distance(&projected(&noise(3, 8, 0))).is_err());
    }
}
