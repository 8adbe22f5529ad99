//! Colors, mapped by a matrix.
//!
//! Brightness, contrast, luma flip, hue and saturation are maps of points (r, g, b), so one matrix
//! for each image does them all. Of a picture of one channel the matrix is what it does to gray:
//! the mean over the three colors that it gives.
//!
//! Reference: Karras et al. 2020, arXiv:2006.06676, appendix B.3.

use candle_core::{DType, Result, Tensor};

use super::pipeline::drawn;
use super::values::Values;
use crate::ops::Traced;

/// Rows of a map of points `(r, g, b, 1)`; the last row is (0, 0, 0, 1).
type Map = [[f64; 4]; 3];

const IDENTITY: Map = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];

/// `y = matrix x + offset` for each pixel.
#[derive(Clone, Debug)]
pub(super) struct Color {
    /// Matrices `[N, C, C]` and offsets `[N, C, 1]`.
    numbers: [Tensor; 2],
}

impl Color {
    /// Of a batch with `img_channels`; none if no color is changed.
    pub(super) fn of(values: &[Values], img_channels: usize, dtype: DType) -> Result<Option<Self>> {
        let maps: Vec<Map> = values.iter().map(map).collect();
        Self::of_maps(&maps, img_channels, dtype)
    }

    /// As [`Color::of`], of maps of (r, g, b, 1).
    pub(super) fn of_maps(maps: &[Map], img_channels: usize, dtype: DType) -> Result<Option<Self>> {
        if maps.iter().all(|map| *map == IDENTITY) {
            return Ok(None);
        }
        let (n, c) = (maps.len(), img_channels);
        let (mut matrix, mut offset) = (Vec::new(), Vec::new());
        for map in maps {
            if c == 1 {
                let mean = |column: usize| map.iter().map(|row| row[column]).sum::<f64>() / 3.0;
                matrix.push((0..3).map(mean).sum());
                offset.push(mean(3));
            } else {
                matrix.extend(map.iter().flat_map(|row| &row[..3]));
                offset.extend(map.iter().map(|row| row[3]));
            }
        }
        let numbers = [drawn(matrix, (n, c, c), dtype)?, drawn(offset, (n, c, 1), dtype)?];
        Ok(Some(Self { numbers }))
    }

    pub(super) fn numbers(&mut self) -> &mut [Tensor] {
        &mut self.numbers
    }

    pub(super) fn apply(&self, img: &Traced) -> Result<Traced> {
        let (n, c, h, w) = img.dims4()?;
        let x = img.reshape((n, c, h * w))?;
        let [matrix, offset] = self.numbers.each_ref().map(Traced::constant);
        matrix.matmul(&x)?.broadcast_add(&offset)?.reshape((n, c, h, w))
    }
}

/// All transforms, the first one innermost.
fn map(v: &Values) -> Map {
    let black = [v.brightness; 3];
    let steps = [
        of_parts(plain(1.0), black),
        of_parts(plain(v.contrast), [0.0; 3]),
        of_parts(toward_gray(1.0, 1.0 - 2.0 * v.lumaflip), [0.0; 3]),
        of_parts(around_gray(v.hue), [0.0; 3]),
        of_parts(toward_gray(v.saturation, 1.0), [0.0; 3]),
    ];
    steps.iter().fold(IDENTITY, |map, step| times(step, &map))
}

fn of_parts(matrix: [[f64; 3]; 3], offset: [f64; 3]) -> Map {
    [0, 1, 2].map(|i| [matrix[i][0], matrix[i][1], matrix[i][2], offset[i]])
}

fn plain(factor: f64) -> [[f64; 3]; 3] {
    toward_gray(factor, factor)
}

/// Distance from gray times `color`, brightness times `gray`.
fn toward_gray(color: f64, gray: f64) -> [[f64; 3]; 3] {
    let shared = (gray - color) / 3.0;
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| if i == j { color + shared } else { shared }))
}

/// Turned by `angle` around the line of grays (Rodrigues).
fn around_gray(angle: f64) -> [[f64; 3]; 3] {
    let (sin, cos) = angle.sin_cos();
    let (shared, cross) = ((1.0 - cos) / 3.0, sin / 3f64.sqrt());
    [
        [cos + shared, shared - cross, shared + cross],
        [shared + cross, cos + shared, shared - cross],
        [shared - cross, shared + cross, cos + shared],
    ]
}

fn times(a: &Map, b: &Map) -> Map {
    a.map(|row| {
        [0, 1, 2, 3].map(|j| {
            let sum: f64 = (0..3).map(|k| row[k] * b[k][j]).sum();
            if j == 3 { sum + row[3] } else { sum }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_of(v: Values, [r, g, b]: [f64; 3]) -> [f64; 3] {
        map(&v).map(|row| row[0] * r + row[1] * g + row[2] * b + row[3])
    }

    fn near(a: [f64; 3], b: [f64; 3]) {
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-14), "{a:?} {b:?}");
    }

    #[test]
    fn each_transform_does_what_its_name_says() {
        let (none, color) = (Values::NONE, [0.5, -0.25, 1.0]);
        near(image_of(Values { brightness: 0.25, ..none }, color), [0.75, 0.0, 1.25]);
        near(image_of(Values { contrast: 2.0, ..none }, color), [1.0, -0.5, 2.0]);
        near(image_of(Values { saturation: 0.0, ..none }, color), [1.25 / 3.0; 3]);
        let third = 2.0 * std::f64::consts::PI / 3.0;
        near(image_of(Values { hue: third, ..none }, color), [1.0, 0.5, -0.25]);
        near(image_of(Values { lumaflip: 1.0, ..none }, [0.5; 3]), [-0.5; 3]);
        near(image_of(Values { lumaflip: 1.0, ..none }, [1.0, -1.0, 0.0]), [1.0, -1.0, 0.0]);
        let both = Values { brightness: 0.5, contrast: 2.0, ..none };
        near(image_of(both, color), [2.0, 0.5, 3.0]);
        assert_eq!(map(&none), IDENTITY);
    }
}
