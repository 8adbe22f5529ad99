//! How pictures are compared: luminance and two opponent channels of a small square, its low
//! frequencies, and windows of it.
//!
//! A picture becomes a [`Square`] of at most 32 pixels a side. Of a real picture its inner window
//! is looked at; of a sample all windows of that size, plain and mirrored, so a copy that was
//! moved by some pixels, or mirrored, has a window that is the real one. A window is described by
//! its lowest cosine frequencies without the mean, scaled to length 1: brightness and contrast do
//! not matter, noise and compression hardly do, and the product of two descriptors is their
//! normalised correlation.
//!
//! Channels: `(r + g + b) / 3`, `(r - g) / 2`, `(b - (r + g) / 2) / 2` of values in [0, 1].
//!
//! Reference: Carlini et al. 2023, arXiv:2301.13188 (distances of copies); Ahmed, Natarajan and
//! Rao 1974 (cosine transform).

use std::f64::consts::PI;

use super::gaussian::gaussian;

/// Longest side of a square.
const MAX_SIDE: usize = 32;
/// Frequencies per axis of luminance and of the opponent channels.
const FREQUENCIES: [usize; 3] = [10, 5, 5];
/// Windows whose values deviate less than this on average, of a range of 1, are as good as flat:
/// their noise is not blown up to length 1.
const MIN_DEVIATION: f32 = 0.02;
/// So are those with less than this share of the picture's deviation: what the picture shows lies
/// at its edges, or is too fine.
const MIN_SHARE: f32 = 0.3;

/// A picture as it is compared, `[3, side, side]`.
pub(super) struct Square {
    side: usize,
    values: Vec<f32>,
    /// Windows that deviate less are as good as flat.
    min_deviation: f32,
}

/// Sizes of squares and windows for pictures of one resolution, and the frequencies.
pub(super) struct Frame {
    res: usize,
    side: usize,
    /// How far a window may lie from the middle, in pixels of the square.
    reach: usize,
    /// Side of a window.
    inner: usize,
    /// Cosines `[frequencies, inner]`, rows of length 1.
    cosines: Vec<f32>,
}

impl Frame {
    /// For pictures `[3, res, res]` with `res` a power of two from 8 on.
    pub(super) fn new(res: usize) -> Self {
        let side = res.min(MAX_SIDE);
        let reach = (side / 16).max(1);
        let inner = side - 2 * reach;
        let cosine = |(frequency, pixel): (usize, usize)| {
            let gain = if frequency == 0 { 1.0 } else { 2.0 } / inner as f64;
            let angle = PI * frequency as f64 * (pixel as f64 + 0.5) / inner as f64;
            (gain.sqrt() * angle.cos()) as f32
        };
        let num_frequencies = FREQUENCIES[0].min(inner);
        let pairs = (0..num_frequencies).flat_map(|f| (0..inner).map(move |pixel| (f, pixel)));
        Self { res, side, reach, inner, cosines: pairs.map(cosine).collect() }
    }

    /// Values of a picture, `3 * res * res`.
    pub(super) fn num_bytes(&self) -> usize {
        3 * self.res * self.res
    }

    /// Length of a descriptor.
    pub(super) fn len(&self) -> usize {
        FREQUENCIES.iter().map(|count| count.min(&self.inner).pow(2) - 1).sum()
    }

    /// How many windows [`Frame::describe_all`] looks through.
    pub(super) fn num_windows(&self) -> usize {
        2 * (2 * self.reach + 1).pow(2)
    }

    /// The square of a picture `[3, res, res]`.
    ///
    /// # Panics
    /// If the length differs.
    pub(super) fn square(&self, picture: &[u8]) -> Square {
        let (res, side) = (self.res, self.side);
        assert_eq!(picture.len(), self.num_bytes());
        let factor = res / side;
        let gain = 1.0 / (255 * factor * factor) as f32;
        let mut rgb = vec![0f32; 3 * side * side];
        for (row, values) in picture.chunks_exact(res).enumerate() {
            let (channel, y) = (row / res, row % res / factor);
            let target = &mut rgb[(channel * side + y) * side..][..side];
            for (sum, pixels) in target.iter_mut().zip(values.chunks_exact(factor)) {
                *sum += pixels.iter().map(|value| u32::from(*value)).sum::<u32>() as f32;
            }
        }
        let count = side * side;
        let mut values = vec![0f32; 3 * count];
        for i in 0..count {
            let [r, g, b] = [0, 1, 2].map(|channel| rgb[channel * count + i] * gain);
            values[i] = (r + g + b) / 3.0;
            values[count + i] = (r - g) / 2.0;
            values[2 * count + i] = (b - f32::midpoint(r, g)) / 2.0;
        }
        Square::new(side, values)
    }

    /// The descriptor of the middle window, `[len]`.
    pub(super) fn describe(&self, square: &Square) -> Vec<f32> {
        let across: Vec<_> =
            (0..3).map(|channel| self.across(square, channel, self.reach)).collect();
        let mut descriptor = Vec::with_capacity(self.len());
        self.push_down(&across, self.reach, &mut descriptor);
        normalize(&mut descriptor, square.min_deviation * self.inner as f32);
        descriptor
    }

    /// The descriptors of all windows, `[places, len]`.
    pub(super) fn describe_all(&self, square: &Square) -> Vec<f32> {
        let count = 2 * self.reach + 1;
        let across: Vec<Vec<_>> =
            (0..count).map(|x| (0..3).map(|c| self.across(square, c, x)).collect()).collect();
        let mut plain = Vec::with_capacity(2 * count * count * self.len());
        for (y, across) in (0..count).flat_map(|y| across.iter().map(move |across| (y, across))) {
            let start = plain.len();
            self.push_down(across, y, &mut plain);
            normalize(&mut plain[start..], square.min_deviation * self.inner as f32);
        }
        // Mirrored, the window at x is that at the other end.
        let mut mirrored = Vec::with_capacity(plain.len());
        for (y, x) in (0..count).flat_map(|y| (0..count).map(move |x| (y, x))) {
            let window = &plain[(y * count + count - 1 - x) * self.len()..][..self.len()];
            mirrored.extend(self.mirrored(window));
        }
        plain.extend(mirrored);
        plain
    }

    /// The descriptor of a mirrored window: every odd wave along rows is upside down.
    pub(super) fn mirrored<'a>(&self, descriptor: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        let counts = FREQUENCIES.map(|count| count.min(self.inner));
        let is_odd = counts.into_iter().flat_map(|f| (1..f * f).map(move |i| i % f % 2 == 1));
        descriptor.iter().zip(is_odd).map(|(value, is_odd)| if is_odd { -value } else { *value })
    }

    /// The waves along rows of the windows at `x`, of every row: `[side, frequencies]`.
    fn across(&self, square: &Square, channel: usize, x: usize) -> Vec<f32> {
        let frequencies = FREQUENCIES[channel].min(self.inner);
        let mut across = Vec::with_capacity(self.side * frequencies);
        for row in square.values.chunks_exact(self.side).skip(channel * self.side).take(self.side) {
            let waves = self.cosines.chunks_exact(self.inner).take(frequencies);
            across.extend(waves.map(|wave| dot(&row[x..x + self.inner], wave)));
        }
        across
    }

    /// Appends the waves of the window whose rows start at `y`.
    fn push_down(&self, across: &[Vec<f32>], y: usize, descriptors: &mut Vec<f32>) {
        for (across, frequencies) in across.iter().zip(FREQUENCIES) {
            let frequencies = frequencies.min(self.inner);
            let rows = &across[y * frequencies..][..self.inner * frequencies];
            for (idx, wave) in self.cosines.chunks_exact(self.inner).take(frequencies).enumerate() {
                let mut sums = [0f32; FREQUENCIES[0]];
                for (row, weight) in rows.chunks_exact(frequencies).zip(wave) {
                    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
                }
                // the mean of the channel is left out
                descriptors.extend(&sums[usize::from(idx == 0)..frequencies]);
            }
        }
    }
}

impl Square {
    /// Of `values [3, side, side]`.
    fn new(side: usize, values: Vec<f32>) -> Self {
        let variance: f32 = values.chunks_exact(side * side).map(variance).sum();
        let min_deviation = MIN_DEVIATION.max(MIN_SHARE * variance.sqrt());
        Self { side, values, min_deviation }
    }

    /// How much of the picture is detail: half of the mean squared step from pixel to pixel, along rows
    /// and columns of the luminance, over its variance. Noise has 1, what is smooth or flat 0.
    pub(super) fn sharpness(&self) -> f32 {
        let (side, plane) = (self.side, &self.values[..self.side * self.side]);
        let along = plane.chunks_exact(side).flat_map(|row| row.iter().zip(&row[1..]));
        let steps = along.chain(plane.iter().zip(&plane[side..]));
        let sum: f32 = steps.map(|(a, b)| (a - b).powi(2)).sum();
        let mean = sum / (2 * side * (side - 1)) as f32;
        mean / (2.0 * variance(plane)).max(f32::MIN_POSITIVE)
    }

    /// The square under a Gaussian whose deviation is a share of the side.
    pub(super) fn smooth(&self, deviation: f64) -> Self {
        let values: Vec<f64> = self.values.iter().map(|value| f64::from(*value)).collect();
        let smooth = gaussian(&values, self.side, deviation * self.side as f64);
        Self::new(self.side, smooth.into_iter().map(|value| value as f32).collect())
    }

    /// The square seen larger (`scale` above 1) or smaller, about its middle, and moved by `[dy, dx]`
    /// pixels; what lies beyond its edges is their continuation.
    pub(super) fn warped(&self, scale: f64, offset: [f64; 2]) -> Self {
        let side = self.side;
        let middle = side as f64 / 2.0 - 0.5;
        let tap = |i: usize, offset: f64| {
            let at = ((i as f64 - middle) / scale + middle + offset).clamp(0.0, (side - 1) as f64);
            let first = (at as usize).min(side - 2);
            (first, (at - first as f64) as f32)
        };
        let [taps_y, taps_x] =
            offset.map(|offset| (0..side).map(|i| tap(i, offset)).collect::<Vec<_>>());
        let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
        let mut values = Vec::with_capacity(self.values.len());
        for plane in self.values.chunks_exact(side * side) {
            for &(y, ty) in &taps_y {
                let (upper, lower) = (&plane[y * side..][..side], &plane[(y + 1) * side..][..side]);
                let mixed: Vec<f32> =
                    upper.iter().zip(lower).map(|(upper, lower)| mix(*upper, *lower, ty)).collect();
                values.extend(taps_x.iter().map(|&(x, tx)| mix(mixed[x], mixed[x + 1], tx)));
            }
        }
        Self { side, values, min_deviation: self.min_deviation }
    }
}

fn variance(values: &[f32]) -> f32 {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / values.len() as f32
}

/// Scales to length 1, or less if it is shorter than `min_length`.
fn normalize(values: &mut [f32], min_length: f32) {
    let length = dot(values, values).sqrt().max(min_length);
    for value in values {
        *value /= length;
    }
}

/// The inner product, summed in eight strands.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, b_chunks) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    let mut sums = [0f32; 8];
    for (a, b) in a_chunks.zip(b_chunks) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rng::{Rng, Stream};

    fn noise(res: usize, seed: u64) -> Vec<u8> {
        let rng = Rng::new(seed, Stream::Pictures, 0);
        (0..(3 * res * res) as u64).map(|i| rng.below(i, 256) as u8).collect()
    }

    fn mirror(picture: &[u8], res: usize) -> Vec<u8> {
        picture.chunks_exact(res).flat_map(|row| row.iter().rev()).copied().collect()
    }

    /// Pixel (y, x) of the result is (y + dy, x + dx) of the picture, wrapped around.
    fn rolled(picture: &[u8], res: usize, [dy, dx]: [usize; 2]) -> Vec<u8> {
        let source = |i: usize| {
            let (plane, y, x) = (i / (res * res), i / res % res, i % res);
            picture[(plane * res + (y + dy) % res) * res + (x + dx) % res]
        };
        (0..picture.len()).map(source).collect()
    }

    fn is_near(a: &[f32], b: &[f32]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
    }

    /// A grating of one frequency along x is that wave and no other; red alone is a third of
    /// luminance, a half of red against green and minus a quarter of blue against both.
    #[test]
    fn a_wave_is_one_number_of_each_channel() {
        let frame = Frame::new(16);
        let mut picture = vec![0u8; 3 * 256];
        for (i, value) in picture[..256].iter_mut().enumerate() {
            // the window starts at the second column and has 14 pixels
            let angle = PI * 3.0 * (i % 16) as f64 - PI * 1.5;
            *value = (128.0 + 100.0 * (angle / 14.0).cos()).round() as u8;
        }
        let descriptor = frame.describe(&frame.square(&picture));
        assert_eq!(descriptor.len(), 99 + 24 + 24);
        let length = (1.0f32 / 9.0 + 1.0 / 4.0 + 1.0 / 16.0).sqrt();
        for (start, share) in [(0, 1.0 / 3.0), (99, 0.5), (99 + 24, -0.25)] {
            assert!((descriptor[start + 2] - share / length).abs() < 2e-3, "{descriptor:?}");
        }
        let rest: f32 = descriptor.iter().map(|v| v * v).sum::<f32>();
        let waves: f32 = [2, 101, 125].iter().map(|i| descriptor[*i].powi(2)).sum();
        assert!((rest - 1.0).abs() < 1e-5 && rest - waves < 1e-4);
    }

    #[test]
    fn brightness_and_contrast_do_not_matter_and_flat_pictures_have_no_length() {
        let frame = Frame::new(8);
        let describe = |picture: &[u8]| frame.describe(&frame.square(picture));
        let picture: Vec<u8> = noise(8, 1).iter().map(|v| v / 4).collect();
        let brighter: Vec<u8> = picture.iter().map(|v| v * 3 + 20).collect();
        assert!(is_near(&describe(&picture), &describe(&brighter)));
        assert!(describe(&[77; 192]).iter().all(|v| v.abs() < 1e-3));
    }

    /// One window of a picture that was moved and mirrored is the middle one of the original, at
    /// the place that says by how much; so are pictures twice as large.
    #[test]
    fn a_moved_and_mirrored_copy_has_the_window_of_the_original() {
        for (res, pixels) in [(8, 1), (16, 1), (32, 1), (64, 2)] {
            let frame = Frame::new(res);
            let picture = noise(res, 2);
            let original = frame.describe(&frame.square(&picture));
            let reach = frame.reach;
            let moved = rolled(&picture, res, [pixels, res - pixels]);
            for (copy, place) in [(moved.clone(), 0), (mirror(&moved, res), 1)] {
                let windows = frame.describe_all(&frame.square(&copy));
                assert_eq!(windows.len(), frame.num_windows() * frame.len());
                let count = 2 * reach + 1;
                let idx = (place * count + reach - 1) * count + reach + 1;
                assert!(is_near(&windows[idx * frame.len()..][..frame.len()], &original), "{res}");
            }
        }
    }

    /// Of a ramp of n pixels along rows: steps of 1 there and of 0 along columns, variance (n^2 - 1) / 12.
    #[test]
    fn noise_is_sharp_and_a_ramp_is_not() {
        let frame = Frame::new(32);
        let sharpness = |picture: &[u8]| frame.square(picture).sharpness();
        assert!((sharpness(&noise(32, 1)) - 1.0).abs() < 0.1);
        assert_eq!(sharpness(&[90; 3 * 1024]), 0.0);
        let ramp: Vec<u8> = (0..3 * 1024).map(|i| (i % 32 * 4) as u8).collect();
        assert!((sharpness(&ramp) - 3.0 / 1023.0).abs() < 1e-5);
    }

    /// The middle of a Gaussian of deviation s is 1 / (2 pi s^2); what it loses goes to its surroundings.
    #[test]
    fn a_dot_becomes_a_gaussian_and_the_edge_goes_on() {
        let frame = Frame::new(32);
        let dot: Vec<u8> = (0..3 * 1024).map(|i| if i % 1024 == 528 { 255 } else { 0 }).collect();
        for deviation in [1.0, 2.0] {
            let smooth = frame.square(&dot).smooth(deviation / 32.0);
            let middle = 1.0 / (2.0 * PI * deviation * deviation);
            assert!(
                (f64::from(smooth.values[528]) - middle).abs() < 1e-3,
                "{}",
                smooth.values[528]
            );
            assert!((smooth.values[..1024].iter().sum::<f32>() - 1.0).abs() < 1e-4);
        }
        let flat = frame.square(&[90; 3 * 1024]).smooth(0.125);
        assert!(flat.values[..1024].iter().all(|value| (value - 90.0 / 255.0).abs() < 1e-5));
    }

    #[test]
    fn a_square_moved_by_a_pixel_or_not_scaled_is_itself() {
        let frame = Frame::new(16);
        let square = frame.square(&noise(16, 3));
        assert!(is_near(&square.warped(1.0, [0.0; 2]).values, &square.values));
        let moved = square.warped(1.0, [1.0, 0.0]);
        assert!(is_near(&moved.values[..15 * 16], &square.values[16..256]));
        // Twice as large, pixel 8 lies a quarter of a pixel beyond the middle, at 7.75.
        let across = |y: usize| 0.25 * square.values[y * 16 + 7] + 0.75 * square.values[y * 16 + 8];
        let twice = square.warped(2.0, [0.0; 2]).values[8 * 16 + 8];
        assert!((twice - (0.25 * across(7) + 0.75 * across(8))).abs() < 1e-6);
        let half_row: Vec<f32> =
            (0..15).map(|x| f32::midpoint(square.values[x], square.values[x + 1])).collect();
        assert!(is_near(&square.warped(1.0, [0.0, 0.5]).values[..15], &half_row));
    }
}
