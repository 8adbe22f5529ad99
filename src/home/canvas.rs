//! Pixels that may be shown at home, also those of a person's own picture.

use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use crate::sample::Picture;

/// Longest side of a picture that is read, and the memory that decoding may take.
const MAX_SIDE: u32 = 16_384;
const MAX_ALLOC: u64 = 1 << 30;

/// A picture as bytes, gray or RGB, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canvas {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
    /// `[H, W, C]`
    pub pixels: Vec<u8>,
}

impl From<&Picture> for Canvas {
    fn from(picture: &Picture) -> Self {
        let (width, height, channels) = picture.size();
        Self { width, height, channels, pixels: picture.pixels().to_vec() }
    }
}

impl Canvas {
    /// A canvas of one value.
    pub fn filled(value: u8, (width, height, channels): (usize, usize, usize)) -> Self {
        Self { width, height, channels, pixels: vec![value; width * height * channels] }
    }

    /// A person's own picture as the network would see it: the right way up, its middle square, of
    /// `res` pixels, transparent parts white.
    ///
    /// # Errors
    /// Fails if it cannot be read.
    pub fn read(path: &Path, res: usize, channels: usize) -> Result<Self> {
        let name = || format!("{}: expected a picture", path.display());
        let mut reader = ImageReader::open(path).with_context(name)?.with_guessed_format()?;
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
        limits.max_alloc = Some(MAX_ALLOC);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().with_context(name)?;
        let orientation = decoder.orientation().with_context(name)?;
        let mut image = DynamicImage::from_decoder(decoder).with_context(name)?;
        image.apply_orientation(orientation);
        let side = image.width().min(image.height());
        if side == 0 {
            bail!("{}: expected a picture with pixels", path.display());
        }
        let (left, top) = ((image.width() - side) / 2, (image.height() - side) / 2);
        let mut image = image.crop_imm(left, top, side, side);
        if side as usize != res {
            image = image.resize_exact(res as u32, res as u32, FilterType::Lanczos3);
        }
        let mut white = image::RgbaImage::from_pixel(res as u32, res as u32, [255; 4].into());
        image::imageops::overlay(&mut white, &image.to_rgba8(), 0, 0);
        let opaque = DynamicImage::from(white);
        let pixels =
            if channels == 1 { opaque.to_luma8().into_raw() } else { opaque.to_rgb8().into_raw() };
        Ok(Self { width: res, height: res, channels, pixels })
    }

    /// `[1, C, H, W]`, values in [-1, 1]: the middle of what a generated picture rounds to a byte.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn to_tensor(&self, device: &Device) -> candle_core::Result<Tensor> {
        let Self { width, height, channels, .. } = *self;
        let bytes = Tensor::from_slice(&self.pixels, (1, height, width, channels), device)?;
        let values = bytes.permute((0, 3, 1, 2))?.contiguous()?.to_dtype(DType::F32)?;
        values.affine(1.0 / 127.5, -1.0)
    }

    /// How near another picture of the same size is, in decibels; equal pictures: infinite.
    pub fn psnr(&self, other: &Self) -> f64 {
        let squared: f64 = self
            .pixels
            .iter()
            .zip(&other.pixels)
            .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
            .sum();
        10.0 * (255.0 * 255.0 * self.pixels.len() as f64 / squared).log10()
    }

    /// Sets a pixel to a color, if it lies on the canvas; gray canvases take the first value.
    pub fn set(&mut self, x: usize, y: usize, color: [u8; 3]) {
        if x < self.width && y < self.height {
            let start = (y * self.width + x) * self.channels;
            let channels = self.channels;
            self.pixels[start..start + channels].copy_from_slice(&color[..channels]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_off_everywhere_is_28_decibels() {
        let (a, b) = (Canvas::filled(100, (4, 4, 3)), Canvas::filled(110, (4, 4, 3)));
        assert!((a.psnr(&b) - 20.0 * 25.5f64.log10()).abs() < 1e-12);
        assert_eq!(a.psnr(&a), f64::INFINITY);
    }

    #[test]
    fn a_picture_is_cut_square_and_lies_on_white() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("wide.png");
        let color =
            |x: u32| if x < 4 { [255, 0, 0, 255] } else { [0, 0, 255, u8::from(x < 8) * 255] };
        image::RgbaImage::from_fn(12, 4, |x, _| color(x).into()).save(&path)?;
        let middle = Canvas::read(&path, 4, 3)?;
        assert_eq!(middle.pixels, [0, 0, 255].repeat(16));
        let values = middle.to_tensor(&Device::Cpu)?;
        assert_eq!(values.dims(), [1, 3, 4, 4]);
        assert_eq!(values.flatten_all()?.to_vec1::<f32>()?[15..17], [-1.0, -1.0]);
        image::RgbaImage::from_pixel(4, 4, [9, 9, 9, 0].into()).save(&path)?;
        assert_eq!(Canvas::read(&path, 4, 1)?.pixels, [255; 16]);
        std::fs::write(&path, "no picture")?;
        assert!(Canvas::read(&path, 4, 1).is_err());
        Ok(())
    }
}
