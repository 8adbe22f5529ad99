//! From a picture of any size to a square: what is kept of it, and the two filters.
//!
//! The arithmetic is Pillow's for 8-bit pictures: filters widened by the scale when reducing,
//! 22-bit fixed-point weights, rows first, rounded to bytes, then columns. So results agree with
//! the tools most sets are made with, bit by bit. Bytes are filtered as they are stored (sRGB),
//! after alpha was laid over the background: no colour bleeds from transparent pixels.
//!
//! Reference: Pillow, `src/libImaging/Resample.c`.

use super::image::Picture;
use super::{Crop, Resize};

/// Bits of fraction of a weight: 32 less 8 of the value less 2 for overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Half the width of the Lanczos window, in output pixels when reducing.
const LANCZOS_A: f64 = 3.0;

/// The part of a picture that is kept, and the size it is brought to.
struct Plan {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    out_width: usize,
    out_height: usize,
}

/// Brings `picture` to planar RGB `[3, res, res]`.
///
/// `background` fills what `Crop::Pad` leaves open and lies under transparent pixels.
pub(super) fn square(
    picture: &Picture,
    res: usize,
    crop: Crop,
    resize: Resize,
    background: [u8; 3],
) -> Vec<u8> {
    let plan = plan(picture.width, picture.height, res, crop);
    let rows = resample_rows(picture, &plan, resize, background); // [height, out_width, 3]
    let mut out: Vec<u8> =
        background.iter().flat_map(|&value| std::iter::repeat_n(value, res * res)).collect();
    let (left, top) = ((res - plan.out_width) / 2, (res - plan.out_height) / 2);

    let stride = plan.out_width * 3;
    let mut sums = vec![0i32; stride];
    for (y, taps) in all_taps(plan.height, plan.out_height, resize).iter().enumerate() {
        sums.fill(1 << (PRECISION_BITS - 1));
        for (tap, &weight) in taps.weights.iter().enumerate() {
            let row = &rows[(taps.first + tap) * stride..][..stride];
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        for (channel, plane) in out.chunks_exact_mut(res * res).enumerate() {
            let row = &mut plane[(top + y) * res + left..][..plan.out_width];
            for (value, sum) in row.iter_mut().zip(sums[channel..].iter().step_by(3)) {
                *value = to_byte(*sum);
            }
        }
    }
    out
}

fn plan(width: usize, height: usize, res: usize, crop: Crop) -> Plan {
    let (short, long) = (width.min(height), width.max(height));
    // Rounded to nearest; a sliver keeps one pixel.
    let fit = |side: usize| ((2 * side * res + long) / (2 * long)).max(1);
    match crop {
        Crop::Center => Plan {
            left: (width - short) / 2,
            top: (height - short) / 2,
            width: short,
            height: short,
            out_width: res,
            out_height: res,
        },
        Crop::Pad => {
            let (out_width, out_height) = (fit(width), fit(height));
            Plan { left: 0, top: 0, width, height, out_width, out_height }
        }
        Crop::Stretch => Plan { left: 0, top: 0, width, height, out_width: res, out_height: res },
    }
}

/// Filters along the rows: `[height, out_width, 3]`.
fn resample_rows(picture: &Picture, plan: &Plan, resize: Resize, background: [u8; 3]) -> Vec<u8> {
    let taps = all_taps(plan.width, plan.out_width, resize);
    let mut rows = vec![0; plan.height * plan.out_width * 3];
    let mut row = vec![0; plan.width * 3];
    for (y, out) in rows.chunks_exact_mut(plan.out_width * 3).enumerate() {
        picture.read_row(plan.left, plan.top + y, background, &mut row);
        for (pixel, taps) in out.chunks_exact_mut(3).zip(&taps) {
            let mut sums = [1 << (PRECISION_BITS - 1); 3];
            for (value, &weight) in row[taps.first * 3..].chunks_exact(3).zip(&taps.weights) {
                for (sum, &value) in sums.iter_mut().zip(value) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, sum) in pixel.iter_mut().zip(sums) {
                *value = to_byte(sum);
            }
        }
    }
    rows
}

/// Input pixels that make one output pixel, and their fixed-point weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

fn all_taps(in_size: usize, out_size: usize, resize: Resize) -> Vec<Taps> {
    let scale = in_size as f64 / out_size as f64;
    let filter_scale = scale.max(1.0);
    let (filter, support): (fn(f64) -> f64, f64) = match resize {
        Resize::Lanczos => (lanczos, LANCZOS_A),
        Resize::Box => (box_filter, 0.5),
    };
    let support = support * filter_scale;
    (0..out_size)
        .map(|x| {
            let center = (x as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(in_size);
            let weights: Vec<f64> = (first..last)
                .map(|tap| filter((tap as f64 - center + 0.5) / filter_scale))
                .collect();
            let total: f64 = weights.iter().sum();
            let fixed = |weight: f64| (weight / total * f64::from(1 << PRECISION_BITS)).round();
            Taps {
                first,
                weights: weights.into_iter().map(|weight| fixed(weight) as i32).collect(),
            }
        })
        .collect()
}

fn box_filter(x: f64) -> f64 {
    if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }
}

fn lanczos(x: f64) -> f64 {
    if (-LANCZOS_A..LANCZOS_A).contains(&x) { sinc(x) * sinc(x / LANCZOS_A) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::{DynamicImage, GrayImage, RgbImage};

    fn gray(width: u32, height: u32, values: &[u8]) -> Picture {
        let pixels = GrayImage::from_raw(width, height, values.to_vec()).unwrap();
        Picture::new(DynamicImage::ImageLuma8(pixels), ::image::metadata::Orientation::NoTransforms)
    }

    #[test]
    fn box_halving_is_the_mean_of_four() {
        let picture = gray(4, 4, &[0, 10, 1, 1, 20, 30, 1, 2, 7, 7, 0, 255, 7, 7, 255, 0]);
        let out = square(&picture, 2, Crop::Center, Resize::Box, [0; 3]);
        // 15, 1.25, 7, 127.5 (rounded up along columns: rows first give 127.5 -> 128)
        assert_eq!(out[..4], [15, 2, 7, 128]);
        assert_eq!(out[..4], out[4..8]);
    }

    #[test]
    fn box_doubling_repeats() {
        let out = square(&gray(2, 1, &[3, 9]), 4, Crop::Stretch, Resize::Box, [0; 3]);
        assert_eq!(out[..4], [3, 3, 9, 9]);
    }

    #[test]
    fn same_size_changes_nothing() {
        let values: Vec<u8> = (0..64).map(|i| (i * 37 % 256) as u8).collect();
        for resize in [Resize::Box, Resize::Lanczos] {
            let out = square(&gray(8, 8, &values), 8, Crop::Center, resize, [0; 3]);
            assert_eq!(out[..64], values);
        }
    }

    #[test]
    fn a_flat_picture_stays_flat() {
        for (w, h) in [(1, 1), (3, 50), (100, 7)] {
            let picture = gray(w, h, &vec![201; (w * h) as usize]);
            for resize in [Resize::Box, Resize::Lanczos] {
                for crop in [Crop::Center, Crop::Stretch] {
                    let out = square(&picture, 16, crop, resize, [0; 3]);
                    assert!(out.iter().all(|&value| value == 201));
                }
            }
        }
    }

    #[test]
    fn pad_centres_over_the_background() {
        let pixels = RgbImage::from_pixel(4, 2, ::image::Rgb([9, 8, 7]));
        let picture = Picture::new(
            DynamicImage::ImageRgb8(pixels),
            ::image::metadata::Orientation::NoTransforms,
        );
        let out = square(&picture, 4, Crop::Pad, Resize::Box, [1, 2, 3]);
        assert_eq!(out[..16], [1, 1, 1, 1, 9, 9, 9, 9, 9, 9, 9, 9, 1, 1, 1, 1]);
        assert_eq!(out[32..36], [3, 3, 3, 3]);
    }

    #[test]
    fn center_keeps_the_middle() {
        let out =
            square(&gray(4, 2, &[1, 2, 3, 4, 5, 6, 7, 8]), 2, Crop::Center, Resize::Box, [0; 3]);
        assert_eq!(out[..4], [2, 3, 6, 7]);
    }
}
