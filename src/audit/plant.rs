//! Planted copies: what an audit must find, made of the real pictures.
//!
//! Pictures are planar RGB bytes `[3, res, res]`. What is drawn is a function of the seed, the
//! kind and the picture.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageFormat};

use super::gaussian::gaussian;
use crate::ops::rng::Rng;

/// Quality of the compression from 32 pixels on, and below: four blocks are no picture.
const JPEG_QUALITY: [u8; 2] = [50, 75];
/// Deviation of the noise, at most: as a share of the range, and of the picture's own deviation.
const NOISE: [f64; 2] = [0.05, 0.25];

/// A way to copy a picture without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Left is right.
    Mirror,
    /// Up to 3 % of the side in each direction, a pixel at least.
    Shift,
    /// 5 % larger or smaller.
    Scale,
    /// A Gaussian of deviation 1 at 32 pixels, of a 32nd of the side at others.
    Blur,
    /// Each channel times 0.8 to 1.2.
    Color,
    /// Of deviation 5 % of the range, or less where the picture would drown in it.
    Noise,
    /// Compressed by `JPEG`.
    Jpeg,
}

impl Kind {
    /// Every kind.
    pub(super) const ALL: [Self; 7] =
        [Self::Mirror, Self::Shift, Self::Scale, Self::Blur, Self::Color, Self::Noise, Self::Jpeg];
}

/// A copy of `picture`, the `idx`-th of `rng`.
pub(super) fn copy(kind: Kind, picture: &[u8], rng: &Rng, idx: u64) -> Vec<u8> {
    let res = (picture.len() / 3).isqrt();
    let draw = |i: u64| rng.uniform(idx << 8 | i);
    let last = (res - 1) as f64;
    match kind {
        Kind::Mirror => {
            picture.chunks_exact(res).flat_map(|row| row.iter().rev()).copied().collect()
        }
        Kind::Shift => {
            let most = (0.03 * res as f64).round().max(1.0);
            let [dy, dx] = [0, 1].map(|i| (draw(i) * (2.0 * most + 1.0)).floor() - most);
            warped(picture, res, |y, x| ((y + dy).clamp(0.0, last), (x + dx).clamp(0.0, last)))
        }
        Kind::Scale => {
            let scale = if draw(0) < 0.5 { 0.95 } else { 1.05 };
            let at = |v: f64| ((v - last / 2.0) / scale + last / 2.0).clamp(0.0, last);
            warped(picture, res, |y, x| (at(y), at(x)))
        }
        Kind::Blur => {
            let values: Vec<f64> = picture.iter().map(|v| f64::from(*v)).collect();
            let blurred = gaussian(&values, res, (res as f64 / 32.0).max(0.5));
            blurred.into_iter().map(|v| v.round() as u8).collect()
        }
        Kind::Color => {
            let gains = [0, 1, 2].map(|i| 0.8 + 0.4 * draw(i));
            let value = |(i, v): (usize, &u8)| f64::from(*v) * gains[i / (res * res)];
            let values = picture.iter().enumerate().map(value);
            // darker as a whole where light values would become one
            let dim = values.clone().fold(255.0, f64::max) / 255.0;
            values.map(|v| (v / dim).round() as u8).collect()
        }
        Kind::Noise => {
            let deviation = (NOISE[0] * 255.0).min(NOISE[1] * deviation(picture));
            let normals = rng.normals_of_part(idx, picture.len());
            let value = |(v, n): (&u8, f64)| (f64::from(*v) + deviation * n).round();
            picture.iter().zip(normals).map(value).map(|v| v.clamp(0.0, 255.0) as u8).collect()
        }
        Kind::Jpeg => compressed(picture, res).unwrap_or_else(|| picture.to_vec()),
    }
}

/// Standard deviation of the values around the mean of their channel.
fn deviation(picture: &[u8]) -> f64 {
    let count = picture.len() as f64 / 3.0;
    let variance = picture.chunks_exact(picture.len() / 3).map(|plane| {
        let mean = plane.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
        plane.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / count
    });
    (variance.sum::<f64>() / 3.0).sqrt()
}

/// Each pixel from where `source` says, between pixels by bilinear interpolation.
fn warped(picture: &[u8], res: usize, source: impl Fn(f64, f64) -> (f64, f64)) -> Vec<u8> {
    let mut out = Vec::with_capacity(picture.len());
    for plane in picture.chunks_exact(res * res) {
        for i in 0..res * res {
            let (y, x) = source((i / res) as f64, (i % res) as f64);
            let (y0, x0) = ((y as usize).min(res - 2), (x as usize).min(res - 2));
            let (ty, tx) = (y - y0 as f64, x - x0 as f64);
            let at = |y: usize, x: usize| f64::from(plane[y * res + x]);
            let row = |y: usize| at(y, x0) * (1.0 - tx) + at(y, x0 + 1) * tx;
            out.push((row(y0) * (1.0 - ty) + row(y0 + 1) * ty).round() as u8);
        }
    }
    out
}

/// Through a `JPEG` file in memory; `None` if the encoder refuses.
fn compressed(picture: &[u8], res: usize) -> Option<Vec<u8>> {
    let count = res * res;
    let pixels: Vec<u8> = (0..3 * count).map(|i| picture[i % 3 * count + i / 3]).collect();
    let mut file = Vec::new();
    let quality = JPEG_QUALITY[usize::from(res < 32)];
    JpegEncoder::new_with_quality(&mut file, quality)
        .encode(&pixels, res as u32, res as u32, ExtendedColorType::Rgb8)
        .ok()?;
    let decoded = image::load_from_memory_with_format(&file, ImageFormat::Jpeg).ok()?.to_rgb8();
    let pixels = decoded.as_raw();
    Some((0..3 * count).map(|i| pixels[i % count * 3 + i / count]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rng::Stream;

    fn ramp(res: usize) -> Vec<u8> {
        (0..3 * res * res).map(|i| (i % res * 200 / res + i / res % res * 50 / res) as u8).collect()
    }

    fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
    }

    #[test]
    fn copies_are_other_bytes_of_the_same_picture() {
        let (rng, picture) = (Rng::new(5, Stream::Audit, 0), ramp(32));
        for kind in Kind::ALL {
            let copies = [0, 1, 0].map(|idx| copy(kind, &picture, &rng, idx));
            assert_eq!(copies[0], copies[2], "{kind:?}");
            let largest = largest_difference(&copies[0], &picture);
            assert!(largest > 0 && (largest < 80 || kind == Kind::Mirror), "{kind:?}: {largest}");
            let is_drawn = matches!(kind, Kind::Color | Kind::Noise);
            assert!(!is_drawn || copies[0] != copies[1], "{kind:?}");
        }
        let mirrored = copy(Kind::Mirror, &picture, &rng, 0);
        assert_eq!((mirrored[0], mirrored[31]), (picture[31], picture[0]));
    }

    /// A ramp stays one in its middle; a flat picture is flat under all but noise and color.
    #[test]
    fn blur_and_compression_keep_what_is_smooth() {
        let (rng, flat) = (Rng::new(5, Stream::Audit, 0), vec![90; 3 * 256]);
        for kind in [Kind::Mirror, Kind::Shift, Kind::Scale, Kind::Blur] {
            assert_eq!(copy(kind, &flat, &rng, 3), flat, "{kind:?}");
        }
        assert!(largest_difference(&copy(Kind::Jpeg, &flat, &rng, 0), &flat) <= 4);
        let (picture, blurred) = (ramp(32), copy(Kind::Blur, &ramp(32), &rng, 0));
        let middle = 15 * 32 + 8..15 * 32 + 24;
        assert!(largest_difference(&blurred[middle.clone()], &picture[middle]) <= 2);
        let dot: Vec<u8> = (0..3 * 1024).map(|i| if i == 16 * 32 + 16 { 255 } else { 0 }).collect();
        // the middle of a Gaussian of deviation 1 is 1 / (2 pi) of it
        assert_eq!(copy(Kind::Blur, &dot, &rng, 0)[16 * 32 + 16], 41);
    }
}
