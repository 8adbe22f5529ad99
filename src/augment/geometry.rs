//! Moved, turned and scaled pictures, without flicker.
//!
//! All of it is one map for each image, executed once: mirrored margins as wide as the batch needs
//! them, twice the size by a wavelet filter, bilinear reading along the map, half the size by the
//! same filter turned round. The filter is orthogonal to its shifts by two, so a map that changes
//! nothing gives the picture back: such images are left out of it all.
//!
//! Reference: Karras et al. 2020, arXiv:2006.06676, appendix B.2 and figure 15; Daubechies 1992,
//! Ten Lectures on Wavelets, section 6.4 (symlets).

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::values::Values;
use crate::ops::grid_sample::Affine;
use crate::ops::reflect_pad::Margin;
use crate::ops::upfirdn2d::{Axis, Filter, Upfirdn2d};
use crate::ops::{Traced, grid_sample, reflect_pad, upfirdn2d};

/// The low-pass of the wavelet sym6, of sum sqrt(2): `pywt.Wavelet("sym6").dec_lo`.
const SYM6: [f64; 12] = [
    0.015_404_109_327_027_373,
    0.003_490_712_084_217_470_2,
    -0.117_990_111_148_190_57,
    -0.048_311_742_585_633,
    0.491_055_941_926_746_6,
    0.787_641_141_030_194,
    0.337_929_421_727_621_8,
    -0.072_637_522_786_462_52,
    -0.021_060_292_512_300_564,
    0.044_724_901_770_665_78,
    0.001_767_711_864_242_803_6,
    -0.007_800_708_325_034_148,
];

/// Pixels beyond an output pixel that the filter takes in, on the side where they are more.
const REACH: usize = SYM6.len() / 4;
/// What rounding may add to a margin without making it a pixel wider.
const ROUNDING: f64 = 1e-6;

/// Rows of a map of points `(x, y, 1)`.
type Map = [[f64; 3]; 3];

/// The filters that double and halve.
#[derive(Clone, Debug)]
pub(super) struct Resampling {
    double: Upfirdn2d,
    halve: Upfirdn2d,
}

impl Resampling {
    pub(super) fn new() -> Self {
        let sum: f64 = SYM6.iter().sum();
        let filter = Filter::separable(&SYM6.map(|tap| tap / sum));
        let up = Axis { up: 2, down: 1, pad: [6, 5] };
        let down = Axis { up: 1, down: 2, pad: [0, 0] };
        Self {
            double: Upfirdn2d::convolve(&filter, up, up, 4.0),
            halve: Upfirdn2d::correlate(&filter, down, down, 1.0),
        }
    }
}

/// One pass over a batch.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    resampling: Arc<Resampling>,
    y: Margin,
    x: Margin,
    maps: Arc<[Affine]>,
    /// Which images are moved, if not all; and, with the moved ones behind the whole batch, which
    /// of these is each image.
    moved: Option<[Tensor; 2]>,
}

impl Geometry {
    /// Of a batch of `h` by `w` pixels; none if no image is moved.
    pub(super) fn of(
        values: &[Values],
        (h, w): (usize, usize),
        resampling: &Arc<Resampling>,
    ) -> Result<Option<Self>> {
        let all: Vec<Map> = values.iter().map(|values| inverse_map(values, (h, w))).collect();
        let [x, y] = margins(&all, (h, w));
        let is_moved = |idx: &usize| all[*idx] != IDENTITY;
        let moved: Vec<usize> = (0..all.len()).filter(is_moved).collect();
        if moved.is_empty() {
            return Ok(None);
        }
        let map = |&idx: &usize| super_sampled(&all[idx], (h, w), [x[0], y[0]]);
        let maps = moved.iter().map(map).collect();
        let place = |idx: usize| match moved.binary_search(&idx) {
            Ok(at) => (all.len() + at) as u32,
            Err(_) => idx as u32,
        };
        let moved = if moved.len() < all.len() {
            let images = Tensor::from_iter(moved.iter().map(|&idx| idx as u32), &Device::Cpu)?;
            Some([images, Tensor::from_iter((0..all.len()).map(place), &Device::Cpu)?])
        } else {
            None
        };
        Ok(Some(Self { resampling: resampling.clone(), y, x, maps, moved }))
    }

    pub(super) fn numbers(&mut self) -> &mut [Tensor] {
        self.moved.as_mut().map_or(&mut [], |moved| moved)
    }

    pub(super) fn apply(&self, img: &Traced) -> Result<Traced> {
        let Some([images, places]) = &self.moved else { return self.execute(img) };
        let moved = self.execute(&img.index_select(images, 0)?)?;
        Traced::cat(&[img.clone(), moved], 0)?.index_select(places, 0)
    }

    fn execute(&self, img: &Traced) -> Result<Traced> {
        let (_, _, h, w) = img.dims4()?;
        let x = reflect_pad(img, self.y, self.x)?;
        let x = upfirdn2d(&x, &self.resampling.double)?;
        let x = grid_sample(&x, &self.maps, (sampled(h), sampled(w)))?;
        upfirdn2d(&x, &self.resampling.halve)
    }
}

/// Super-sampled pixels from which the filter makes `len` pixels.
fn sampled(len: usize) -> usize {
    2 * len + SYM6.len() - 2
}

const IDENTITY: Map = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

fn times(a: &Map, b: &Map) -> Map {
    let entry = |i: usize, j: usize| (0..3).map(|k| a[i][k] * b[k][j]).sum();
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| entry(i, j)))
}

fn shift([x, y]: [f64; 2]) -> Map {
    [[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]]
}

fn stretch(x: f64, y: f64) -> Map {
    [[x, 0.0, 0.0], [0.0, y, 0.0], [0.0, 0.0, 1.0]]
}

fn turn(angle: f64) -> Map {
    let (sin, cos) = angle.sin_cos();
    [[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]
}

/// As [`turn`] by so many right angles, exact.
fn quarter_turns(count: f64) -> Map {
    let (sin, cos) = [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)][count as usize % 4];
    [[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]
}

/// Where a pixel of the result comes from, both in pixels from the centre: the inverses of all
/// transforms, the first one outermost.
fn inverse_map(v: &Values, (h, w): (usize, usize)) -> Map {
    let pixels = |share: [f64; 2]| [share[0] * w as f64, share[1] * h as f64];
    let whole = pixels(v.xint).map(f64::round_ties_even);
    let inverses = [
        stretch(1.0 - 2.0 * v.xflip, 1.0),
        quarter_turns(v.rotate90),
        shift(whole.map(|pixels| -pixels)),
        stretch(1.0 / v.scale, 1.0 / v.scale),
        turn(v.rotate_before),
        stretch(1.0 / v.aniso, v.aniso),
        turn(v.rotate_after),
        shift(pixels(v.xfrac).map(|pixels| -pixels)),
    ];
    inverses.iter().fold(IDENTITY, |map, inverse| times(&map, inverse))
}

/// Mirrored pixels beside x and y that the corners of some image need, and the filter behind them;
/// a mirror shows a picture once.
fn margins(maps: &[Map], (h, w): (usize, usize)) -> [Margin; 2] {
    let centre = [w, h].map(|len| (len as f64 - 1.0) / 2.0);
    [0, 1].map(|axis| {
        let reach = maps.iter().map(|map| {
            let [a, b, c] = map[axis];
            let half = (a * centre[0]).abs() + (b * centre[1]).abs();
            [half - c, half + c]
        });
        let reach = reach.fold([f64::NEG_INFINITY; 2], |a, b| [a[0].max(b[0]), a[1].max(b[1])]);
        let largest = [w, h][axis] as f64 - 1.0;
        let beyond = |reach: f64| reach + (2 * REACH) as f64 - centre[axis] - ROUNDING;
        reach.map(|reach| beyond(reach).ceil().clamp(0.0, largest) as usize)
    })
}

/// The map from super-sampled pixels to those of the padded picture of twice the size, whose pixel
/// `2 i` is pixel `i`.
fn super_sampled(map: &Map, (h, w): (usize, usize), before: [usize; 2]) -> Affine {
    let centre = [w, h].map(|len| (len as f64 - 1.0) / 2.0);
    // Super-sampled pixel j is at half of j + 1, REACH pixels before the picture's first.
    let first = centre.map(|centre| 0.5 - REACH as f64 - centre);
    let row = |axis: usize| {
        let [a, b, c] = map[axis];
        let start = a * first[0] + b * first[1] + c;
        [a, b, 2.0 * (start + centre[axis] + before[axis] as f64)]
    };
    Affine { x: row(0), y: row(1) }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::ops::normals;
    use crate::ops::rng::{Rng, Stream};

    fn picture(n: usize, h: usize, w: usize) -> Traced {
        let rng = Rng::new(3, Stream::Augment, 0);
        normals(&rng, 0, (n, 3, h, w), (DType::F64, &Device::Cpu)).unwrap().into()
    }

    fn moved(img: &Traced, values: &[Values]) -> Result<Traced> {
        let (_, _, h, w) = img.dims4()?;
        let geometry = Geometry::of(values, (h, w), &Arc::new(Resampling::new()))?;
        geometry.map_or(Ok(img.clone()), |geometry| geometry.apply(img))
    }

    fn difference(a: &Traced, b: &Traced) -> Result<f64> {
        (a.value() - b.value())?.abs()?.max_all()?.to_scalar()
    }

    /// The wavelet is orthogonal to its shifts by two.
    #[test]
    fn twice_the_size_and_half_of_it_is_the_picture() -> Result<()> {
        for shift in [0, 2, 4, 6, 8, 10] {
            let product: f64 = SYM6.iter().zip(&SYM6[shift..]).map(|(a, b)| a * b).sum();
            assert!((product - if shift == 0 { 1.0 } else { 0.0 }).abs() < 1e-10, "{shift}");
        }
        let img = picture(2, 9, 12);
        let map = super_sampled(&IDENTITY, (9, 12), [6, 6]);
        let [y, x] = [[6, 6]; 2];
        let maps = vec![map; 2].into();
        let identity =
            Geometry { resampling: Arc::new(Resampling::new()), y, x, maps, moved: None };
        assert!(difference(&identity.apply(&img)?, &img)? < 1e-9);
        Ok(())
    }

    /// A shift by whole pixels shows what a mirror at the edge shows.
    #[test]
    fn whole_pixels_are_moved_exactly() -> Result<()> {
        let img = picture(2, 16, 24);
        let values = [Values { xint: [0.125, -0.0625], ..Values::NONE }, Values::NONE];
        let y = moved(&img, &values)?;
        let mirrored = reflect_pad(&img, [0, 1], [3, 0])?;
        let expected = mirrored.narrow(2, 1, 16)?.narrow(3, 0, 24)?.narrow(0, 0, 1)?;
        assert!(difference(&y.narrow(0, 0, 1)?, &expected)? < 1e-9);
        assert_eq!(difference(&y.narrow(0, 1, 1)?, &img.narrow(0, 1, 1)?)?, 0.0);
        Ok(())
    }

    #[test]
    fn an_unmoved_batch_is_left_alone() -> Result<()> {
        let of = |values| Geometry::of(&[values; 3], (8, 8), &Arc::new(Resampling::new()));
        assert!(of(Values::NONE)?.is_none());
        assert!(of(Values { xint: [0.01, 0.0], ..Values::NONE })?.is_none(), "less than a pixel");
        assert!(of(Values { xfrac: [0.01, 0.0], ..Values::NONE })?.is_some());
        Ok(())
    }

    /// Corners of a square of 2 c: turned by an eighth they reach c (sqrt(2) - 1) further.
    #[test]
    fn margins_reach_as_far_as_corners_and_filter() {
        let size = (33, 33);
        let of = |v: Values| margins(&[inverse_map(&v, size)], size);
        assert_eq!(of(Values::NONE), [[6, 6]; 2]);
        let eighth = Values { rotate_before: std::f64::consts::FRAC_PI_4, ..Values::NONE };
        assert_eq!(of(eighth), [[13, 13]; 2]); // 6 + 6.6
        assert_eq!(of(Values { xfrac: [1.0 / 33.0, 0.0], ..Values::NONE }), [[7, 5], [6, 6]]);
        assert_eq!(of(Values { scale: 0.1, ..Values::NONE }), [[32, 32]; 2]);
        assert_eq!(of(Values { scale: 10.0, ..Values::NONE }), [[0, 0]; 2]);
    }
}
