//! Pictures made worse: frequency bands louder or softer, noise, a rectangle left out.
//!
//! Reference: Karras et al. 2020, arXiv:2006.06676, appendices B.4 and B.5; Daubechies 1988,
//! Orthonormal bases of compactly supported wavelets (sym2).

use candle_core::{DType, Result, Tensor, bail};

use super::pipeline::drawn;
use super::values::Values;
use crate::ops::image_fir::Along;
use crate::ops::{Traced, image_fir, reflect_pad};

/// Power that natural pictures have in each band.
const EXPECTED_POWER: [f64; 4] = [10.0 / 13.0, 1.0 / 13.0, 1.0 / 13.0, 1.0 / 13.0];

/// The filters of four bands, lowest first, each of as many taps around its middle; together they
/// are the filter that changes nothing.
#[derive(Clone, Debug)]
pub(super) struct Bands([Vec<f64>; 4]);

impl Bands {
    pub(super) fn new() -> Self {
        let low = sym2();
        // The mirror image in frequency: every other tap negative.
        let sign = |k: usize| if k.is_multiple_of(2) { 1.0 } else { -1.0 };
        let high = autocorrelation([0, 1, 2, 3].map(|k| low[k] * sign(k)));
        let low = autocorrelation(low);
        let (low, high) = (&low, &high);
        let spread = |octave: u32, taps: &[f64]| stretched(taps, 1 << octave);
        // A band is what each higher one has left over, and none of the lower ones.
        let lows: Vec<Vec<f64>> = (0..3).map(|octave| spread(octave, low)).collect();
        let above = |count: usize| {
            lows[..count].iter().fold(vec![1.0], |product, low| convolution(&product, low))
        };
        let band = |octave: u32| convolution(&above(octave as usize), &spread(octave, high));
        let bands = [above(3), band(2), band(1), band(0)];
        let len = bands.iter().map(Vec::len).max().unwrap_or(0);
        Self(bands.map(|taps| {
            let rest = vec![0.0; (len - taps.len()) / 2];
            [rest.clone(), taps, rest].concat()
        }))
    }

    fn num_taps(&self) -> usize {
        self.0[0].len()
    }

    /// The sum of the bands, each as loud as `values` say: made louder or softer one after the
    /// other, and all together back to the power that is expected of a picture.
    fn taps(&self, values: &Values) -> Vec<f64> {
        let mut gains = [1.0; 4];
        for (i, &drawn) in values.bands.iter().enumerate() {
            let power = EXPECTED_POWER.iter().sum::<f64>() - EXPECTED_POWER[i];
            let norm = (power + EXPECTED_POWER[i] * drawn * drawn).sqrt();
            for (j, gain) in gains.iter_mut().enumerate() {
                *gain *= if i == j { drawn } else { 1.0 } / norm;
            }
        }
        let tap = |k: usize| self.0.iter().zip(gains).map(|(taps, gain)| taps[k] * gain).sum();
        (0..self.num_taps()).map(tap).collect()
    }
}

/// The low-pass of the wavelet sym2, of sum sqrt(2).
fn sym2() -> [f64; 4] {
    let root = 3f64.sqrt();
    [1.0 - root, 3.0 - root, 3.0 + root, 1.0 + root].map(|tap| tap / 32f64.sqrt())
}

/// Half the correlation of `taps` with themselves, which makes a filter of sum 1 of a wavelet's.
fn autocorrelation(taps: [f64; 4]) -> Vec<f64> {
    let turned: Vec<f64> = taps.iter().rev().map(|tap| tap / 2.0).collect();
    convolution(&taps, &turned)
}

/// `step - 1` zeros between taps.
fn stretched(taps: &[f64], step: usize) -> Vec<f64> {
    let mut stretched = vec![0.0; (taps.len() - 1) * step + 1];
    stretched.iter_mut().step_by(step).zip(taps).for_each(|(to, tap)| *to = *tap);
    stretched
}

fn convolution(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0; a.len() + b.len() - 1];
    for (i, a) in a.iter().enumerate() {
        sums[i..].iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
    }
    sums
}

/// Taps for each image, `[N, K]`, along both axes.
#[derive(Clone, Debug)]
pub(super) struct BandFilter(pub(super) Tensor);

impl BandFilter {
    /// Of a batch of `h` by `w` pixels; none if no band is changed.
    pub(super) fn of(
        values: &[Values],
        (h, w): (usize, usize),
        bands: &Bands,
        dtype: DType,
    ) -> Result<Option<Self>> {
        if values.iter().all(|values| values.bands == Values::NONE.bands) {
            return Ok(None);
        }
        let half = bands.num_taps() / 2;
        if h.min(w) <= half {
            bail!(
                "augment: expected pictures of more than {half} pixels to filter, got {h}x{w}; \
                 choose a set of transforms without filters"
            );
        }
        let taps: Vec<f64> = values.iter().flat_map(|values| bands.taps(values)).collect();
        Ok(Some(Self(drawn(taps, (values.len(), bands.num_taps()), dtype)?)))
    }

    pub(super) fn apply(&self, img: &Traced) -> Result<Traced> {
        let half = self.0.dim(1)? / 2;
        let x = reflect_pad(img, [half; 2], [half; 2])?;
        image_fir(&image_fir(&x, &self.0, Along::W, 0)?, &self.0, Along::H, 0)
    }
}

/// Zeros inside, ones outside of a rectangle of each image, `[N, 1, h, w]`; none if there is no
/// rectangle.
pub(super) fn mask(
    values: &[Values],
    (h, w): (usize, usize),
    dtype: DType,
) -> Result<Option<Tensor>> {
    if values.iter().all(|values| values.cutout == 0.0) {
        return Ok(None);
    }
    let mut mask = Vec::with_capacity(values.len() * h * w);
    for &Values { cutout, cutout_center: [x, y], .. } in values {
        let is_in = |idx: usize, len: usize, center: f64| {
            ((idx as f64 + 0.5) / len as f64 - center).abs() < cutout / 2.0
        };
        for row in 0..h {
            let keeps = |column: usize| !(is_in(row, h, y) && is_in(column, w, x));
            mask.extend((0..w).map(|column| f64::from(u8::from(keeps(column)))));
        }
    }
    drawn(mask, (values.len(), 1, h, w), dtype).map(Some)
}

/// Noise of its own for each pixel, added.
#[derive(Clone, Debug)]
pub(super) struct PixelNoise {
    /// Of N(0, 1), `[N, C, h, w]`, where the pictures are.
    pub(super) draws: Tensor,
    /// How loud it is in each image, `[N, 1, 1, 1]`.
    pub(super) sigma: Tensor,
}

impl PixelNoise {
    /// Made of `draws [N, C, h, w]` of N(0, 1); none if no image has noise.
    pub(super) fn of(
        values: &[Values],
        draws: impl FnOnce() -> Result<Tensor>,
        dtype: DType,
    ) -> Result<Option<Self>> {
        if values.iter().all(|values| values.noise == 0.0) {
            return Ok(None);
        }
        let sigma: Vec<f64> = values.iter().map(|values| values.noise).collect();
        Ok(Some(Self { draws: draws()?, sigma: drawn(sigma, (values.len(), 1, 1, 1), dtype)? }))
    }

    pub(super) fn apply(&self, img: &Traced) -> Result<Traced> {
        img + Traced::constant(&self.draws.broadcast_mul(&self.sigma)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of some dozen products and sums.
    const ROUNDING: f64 = 1e-14;

    #[test]
    fn the_bands_together_change_nothing() {
        let Bands(bands) = Bands::new();
        assert_eq!(bands[0].len(), 43);
        for k in 0..43 {
            let sum: f64 = bands.iter().map(|taps| taps[k]).sum();
            assert!((sum - if k == 21 { 1.0 } else { 0.0 }).abs() < ROUNDING, "{k}: {sum}");
        }
        let sums = bands.map(|taps| taps.iter().sum::<f64>());
        let of_constants = [1.0, 0.0, 0.0, 0.0];
        assert!(sums.iter().zip(of_constants).all(|(a, b)| (a - b).abs() < ROUNDING), "{sums:?}");
    }

    /// One band twice as loud: 13 / (10 * 4 + 3) of the power for all.
    #[test]
    fn the_expected_power_stays() {
        let bands = Bands::new();
        let louder = Values { bands: [2.0, 1.0, 1.0, 1.0], ..Values::NONE };
        let sum: f64 = bands.taps(&louder).iter().sum();
        assert!((sum - 2.0 / (43f64 / 13.0).sqrt()).abs() < ROUNDING, "{sum}");
        let taps = bands.taps(&Values::NONE);
        assert!((taps[21] - 1.0).abs() < ROUNDING && taps[20].abs() < ROUNDING);
    }
}
