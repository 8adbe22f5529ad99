//! One picture: from the bytes of a file to rows of 8-bit RGB.
//!
//! Bytes come from strangers. The header is read first and its sizes are checked before anything
//! is allocated; a decoder that panics costs its picture, not the run. Pixels stay as they were
//! decoded: orientation, depth and alpha are dealt with row by row while resizing, so that a
//! large picture is held once and not once more per step. Colour profiles are not applied:
//! values are taken as sRGB.

use std::io::Cursor;

use ::image::error::ImageError;
use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Primitive};

use super::jpeg;
use super::report::SkipReason;
use crate::ops::guard::guard;

/// Longest side of a picture, in pixels.
const MAX_SIDE: u32 = 16_384;

/// Most pixels of a picture.
const MAX_PIXELS: u64 = 64 << 20;

/// Most scans of a progressive JPEG; encoders make about ten.
const MAX_SCANS: usize = 100;

/// Widest row a resized picture has, in bytes; counts towards the memory of decoding.
const MAX_RESIZED_ROW: u64 = 3 * 1024;

/// Memory of a decoder that does not grow with the picture: tables, lists of parts.
const MAX_OVERHEAD: u64 = 8 << 20;

/// Times the bytes of a file are there: with who reads it, who decodes it, and in the library.
const NUM_COPIES: u64 = 3;

/// What the header of a picture says, after its orientation was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub width: usize,
    pub height: usize,
    /// Upper estimate of the memory decoding and resizing take, with the file's bytes.
    pub decode_bytes: u64,
}

impl Facts {
    /// Whether a picture of so many bytes that is within limits can be like that.
    pub(super) fn is_possible(&self, num_bytes: usize) -> bool {
        let (width, height) = (self.width as u64, self.height as u64);
        let is_size = |side| (1..=u64::from(MAX_SIDE)).contains(&side);
        let fits = is_size(width) && is_size(height) && width * height <= MAX_PIXELS;
        fits && self.decode_bytes >= NUM_COPIES * num_bytes as u64
    }
}

/// Reads the header only.
pub(super) fn inspect(format: ImageFormat, bytes: &[u8]) -> Result<Facts, SkipReason> {
    guarded(|| {
        let (mut decoder, decode_bytes) = open(format, bytes)?;
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        // An orientation that cannot be read leaves the picture as it is stored.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let (width, height) =
            if is_transposed(orientation) { (height, width) } else { (width, height) };
        Ok(Facts { width, height, decode_bytes })
    })
}

/// Decodes a whole picture.
pub(super) fn decode(format: ImageFormat, bytes: &[u8]) -> Result<Picture, SkipReason> {
    guarded(|| {
        let (mut decoder, _) = open(format, bytes)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let pixels = DynamicImage::from_decoder(decoder).map_err(|err| reason(&err))?;
        Ok(Picture::new(pixels, orientation))
    })
}

/// Turns a panic inside a decoder into a broken picture.
///
/// Nothing that a decoder touched outlives the call, so nothing can be left half changed.
fn guarded<T>(body: impl FnOnce() -> Result<T, SkipReason>) -> Result<T, SkipReason> {
    guard(body).unwrap_or(Err(SkipReason::BrokenImage))
}

/// A decoder whose header was read and found within limits, and an upper estimate of the memory
/// it will take.
fn open(format: ImageFormat, bytes: &[u8]) -> Result<(impl ImageDecoder + '_, u64), SkipReason> {
    let extra_per_pixel = match format {
        ImageFormat::Jpeg => inspect_jpeg(bytes)?,
        ImageFormat::WebP => 4,
        ImageFormat::Gif => 5,
        ImageFormat::Tiff => 8,
        _ => 0,
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_PIXELS * 16);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(|err| reason(&err))?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(SkipReason::BrokenImage);
    }
    let num_pixels = u64::from(width) * u64::from(height);
    // Not every decoder keeps to the limits it is given.
    if width.max(height) > MAX_SIDE || num_pixels > MAX_PIXELS {
        return Err(SkipReason::TooManyPixels);
    }
    let decode_bytes = NUM_COPIES * bytes.len() as u64
        + decoder.total_bytes()
        + num_pixels * extra_per_pixel
        + u64::from(width.max(height)) * MAX_RESIZED_ROW;
    // Sizes of the parts are claims too: none may take more than the whole has reason to.
    limits.max_alloc = Some(decode_bytes + MAX_OVERHEAD);
    decoder.set_limits(limits).map_err(|err| reason(&err))?;
    Ok((decoder, decode_bytes))
}

/// Bytes per pixel beside the output; a progressive JPEG keeps all coefficients.
fn inspect_jpeg(bytes: &[u8]) -> Result<u64, SkipReason> {
    let markers = jpeg::markers(bytes).ok_or(SkipReason::BrokenImage)?;
    let is_whole = markers.is_complete && (1..=MAX_SCANS).contains(&markers.num_scans);
    match (is_whole, markers.is_foreign) {
        (true, false) => {}
        (false, _) => return Err(SkipReason::BrokenImage),
        (true, true) => return Err(SkipReason::UnsupportedImage),
    }
    Ok(if markers.is_progressive { 2 * u64::from(markers.num_components) } else { 1 })
}

fn reason(err: &ImageError) -> SkipReason {
    match err {
        ImageError::Limits(_) => SkipReason::TooManyPixels,
        ImageError::Unsupported(_) => SkipReason::UnsupportedImage,
        _ => SkipReason::BrokenImage,
    }
}

fn is_transposed(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

/// A decoded picture, seen the right way up.
///
/// Pixel `(x, y)` of the oriented picture is stored at `origin + x * step_x + y * step_y`.
pub(super) struct Picture {
    pixels: DynamicImage,
    pub width: usize,
    pub height: usize,
    origin: usize,
    step_x: isize,
    step_y: isize,
}

impl Picture {
    pub(super) fn new(pixels: DynamicImage, orientation: Orientation) -> Self {
        let (w, h) = (pixels.width() as usize, pixels.height() as usize);
        let across = w.cast_signed();
        let (origin, step_x, step_y) = match orientation {
            Orientation::NoTransforms => (0, 1, across),
            Orientation::FlipHorizontal => (w - 1, -1, across),
            Orientation::Rotate180 => (w * h - 1, -1, -across),
            Orientation::FlipVertical => (w * (h - 1), 1, -across),
            Orientation::Rotate90FlipH => (0, across, 1),
            Orientation::Rotate90 => (w * (h - 1), -across, 1),
            Orientation::Rotate270FlipH => (w * h - 1, -across, -1),
            Orientation::Rotate270 => (w - 1, across, -1),
        };
        let (width, height) = if is_transposed(orientation) { (h, w) } else { (w, h) };
        Self { pixels, width, height, origin, step_x, step_y }
    }

    /// Writes RGB of the pixels from `(x, y)` on to the right, laid over `background`.
    pub(super) fn read_row(&self, x: usize, y: usize, background: [u8; 3], out: &mut [u8]) {
        match &self.pixels {
            DynamicImage::ImageLuma8(img) => self.row::<_, 1>(img, x, y, background, out),
            DynamicImage::ImageLumaA8(img) => self.row::<_, 2>(img, x, y, background, out),
            DynamicImage::ImageRgb8(img) => self.row::<_, 3>(img, x, y, background, out),
            DynamicImage::ImageRgba8(img) => self.row::<_, 4>(img, x, y, background, out),
            DynamicImage::ImageLuma16(img) => self.row::<_, 1>(img, x, y, background, out),
            DynamicImage::ImageLumaA16(img) => self.row::<_, 2>(img, x, y, background, out),
            DynamicImage::ImageRgb16(img) => self.row::<_, 3>(img, x, y, background, out),
            DynamicImage::ImageRgba16(img) => self.row::<_, 4>(img, x, y, background, out),
            DynamicImage::ImageRgb32F(img) => self.row::<_, 3>(img, x, y, background, out),
            DynamicImage::ImageRgba32F(img) => self.row::<_, 4>(img, x, y, background, out),
            other => {
                // A variant of a later version of the library: slow, but right.
                let rgba = other.to_rgba8();
                self.row::<_, 4>(&rgba, x, y, background, out);
            }
        }
    }

    fn row<T: Sample, const CHANNELS: usize>(
        &self,
        samples: &[T],
        x: usize,
        y: usize,
        background: [u8; 3],
        out: &mut [u8],
    ) {
        let (pixels, _) = samples.as_chunks::<CHANNELS>();
        let (x, y) = (x.cast_signed(), y.cast_signed());
        let mut at = self.origin.cast_signed() + x * self.step_x + y * self.step_y;
        for rgb in out.chunks_exact_mut(3) {
            let pixel = &pixels[at.cast_unsigned()];
            let alpha = CHANNELS.is_multiple_of(2).then(|| pixel[CHANNELS - 1]);
            for (channel, value) in rgb.iter_mut().enumerate() {
                let sample = pixel[if CHANNELS < 3 { 0 } else { channel }];
                *value = match alpha {
                    Some(alpha) => sample.over(alpha, background[channel]),
                    None => sample.to_byte(),
                };
            }
            at += self.step_x;
        }
    }
}

/// A stored sample: 8 or 16 bits over their full range, or a float in [0, 1].
trait Sample: Primitive {
    /// Nearest 8-bit value.
    fn to_byte(self) -> u8;
    /// `self * alpha + background * (1 - alpha)`, rounded to the nearest 8-bit value.
    fn over(self, alpha: Self, background: u8) -> u8;
}

impl Sample for u8 {
    fn to_byte(self) -> u8 {
        self
    }

    fn over(self, alpha: Self, background: u8) -> u8 {
        let (value, alpha, background) = (u32::from(self), u32::from(alpha), u32::from(background));
        ((value * alpha + background * (255 - alpha) + 127) / 255) as u8
    }
}

impl Sample for u16 {
    fn to_byte(self) -> u8 {
        ((u32::from(self) + 128) / 257) as u8
    }

    fn over(self, alpha: Self, background: u8) -> u8 {
        let (value, alpha) = (u64::from(self), u64::from(alpha));
        let sum = value * alpha + u64::from(background) * 257 * (65_535 - alpha); // of 65535^2
        ((sum + 257 * 65_535 / 2) / (257 * 65_535)) as u8
    }
}

impl Sample for f32 {
    fn to_byte(self) -> u8 {
        // NaN becomes 0: the cast saturates.
        (self.clamp(0.0, 1.0) * 255.0).round() as u8
    }

    fn over(self, alpha: Self, background: u8) -> u8 {
        let (value, alpha) = (self.clamp(0.0, 1.0), alpha.clamp(0.0, 1.0));
        (value * alpha * 255.0 + f32::from(background) * (1.0 - alpha)).round() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::{ExtendedColorType, GrayImage, ImageEncoder};

    fn rows(picture: &Picture) -> Vec<Vec<u8>> {
        let mut row = vec![0; picture.width * 3];
        (0..picture.height)
            .map(|y| {
                picture.read_row(0, y, [255; 3], &mut row);
                row.iter().step_by(3).copied().collect()
            })
            .collect()
    }

    #[test]
    fn the_eight_orientations_of_a_two_by_three_picture() {
        let stored = GrayImage::from_raw(2, 3, vec![1, 2, 3, 4, 5, 6]).unwrap();
        // What EXIF says of row 0 and column 0: 6 is "right, top", and so on.
        let expected: [(u8, &[&[u8]]); 8] = [
            (1, &[&[1, 2], &[3, 4], &[5, 6]]),
            (2, &[&[2, 1], &[4, 3], &[6, 5]]),
            (3, &[&[6, 5], &[4, 3], &[2, 1]]),
            (4, &[&[5, 6], &[3, 4], &[1, 2]]),
            (5, &[&[1, 3, 5], &[2, 4, 6]]),
            (6, &[&[5, 3, 1], &[6, 4, 2]]),
            (7, &[&[6, 4, 2], &[5, 3, 1]]),
            (8, &[&[2, 4, 6], &[1, 3, 5]]),
        ];
        for (exif, shown) in expected {
            let orientation = Orientation::from_exif(exif).unwrap();
            let picture = Picture::new(DynamicImage::ImageLuma8(stored.clone()), orientation);
            assert_eq!(rows(&picture), shown, "orientation {exif}");
        }
    }

    #[test]
    fn alpha_mixes_with_the_background() {
        assert_eq!(200u8.over(255, 7), 200);
        assert_eq!(200u8.over(0, 7), 7);
        assert_eq!(200u8.over(51, 100), 120); // a fifth
        assert_eq!(65_535u16.over(65_535, 0), 255);
        assert_eq!(0u16.over(0, 9), 9);
        assert_eq!(51_400u16.over(13_107, 100), 120);
        assert_eq!(1.0f32.over(0.5, 0), 128);
        for background in 0..=255 {
            assert_eq!(12_345u16.over(0, background), background);
            assert_eq!(77u8.over(0, background), background);
        }
    }

    #[test]
    fn sixteen_bits_are_rounded_not_cut() {
        assert_eq!(
            [0u16, 128, 129, 257 * 40, 257 * 40 + 129, 65_535].map(Sample::to_byte),
            [0, 0, 1, 40, 41, 255]
        );
        assert_eq!([f32::NAN, -1.0, 0.5, 2.0].map(Sample::to_byte), [0, 0, 128, 255]);
    }

    #[test]
    fn a_giant_header_is_refused_before_decoding() {
        let mut png = Vec::new();
        let encoder = ::image::codecs::png::PngEncoder::new(&mut png);
        encoder.write_image(&[0; 4], 2, 2, ExtendedColorType::L8).unwrap();
        assert!(inspect(ImageFormat::Png, &png).is_ok());
        png[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]); // 16384 x 16384
        let crc = {
            let mut crc = flate2::Crc::new();
            crc.update(&png[12..29]);
            crc.sum().to_be_bytes()
        };
        png[29..33].copy_from_slice(&crc);
        assert_eq!(inspect(ImageFormat::Png, &png), Err(SkipReason::TooManyPixels));
    }

    #[test]
    fn a_panic_is_a_broken_picture() {
        let result: Result<(), _> = guarded(|| {
            let empty: [u8; 0] = [];
            Err(if empty[std::hint::black_box(0)] > 0 { SkipReason::Link } else { SkipReason::Rar })
        });
        assert_eq!(result, Err(SkipReason::BrokenImage));
    }
}
