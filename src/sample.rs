//! Pictures that a generator made: grids of samples, single pictures, PNG.
//!
//! [`Picture`] can be made from a generator's output only, and the PNG encoder takes nothing else,
//! so in a job a real picture has no way to a file, and no text has one either. (What is shown at
//! home stands beyond a job's reach: module `home`.)
//!
//! Pictures may be augmented on the way, by transforms that are drawn here: none is handed in.
//!
//! Two rounding rules, as in the StyleGAN2-ADA tools: a grid rounds to the nearest value, a single
//! picture truncates `x * 127.5 + 128`.

use candle_core::{DType, Device, Result, Tensor, bail};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

use crate::augment::Pipeline;
use crate::model::{Generator, Noise, Truncation};
use crate::ops::rng::{Rng, Stream, numpy_randn};
use crate::ops::upload;

/// No side of a grid is longer, in pixels.
const MAX_GRID_SIDE: usize = 4096;
/// Cells per side of a grid, where they fit.
const GRID_CELLS: usize = 8;

/// A generated picture as bytes: gray or RGB, row by row.
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// The picture of a latent: `psi`-truncated, with the rounding of the generate command.
    ///
    /// * `z` - `[1, z_dim]`; `c` - `[1, c_dim]` where the generator has labels.
    ///
    /// # Errors
    /// Fails if shapes do not fit.
    pub fn generate(
        g: &Generator,
        z: &Tensor,
        c: Option<&Tensor>,
        truncation: Truncation,
        noise: Noise,
    ) -> Result<Self> {
        Self::of(&g.forward(z, c, truncation, noise)?)
    }

    /// The picture of `ws [1, num_ws, w_dim]`, with the rounding of the generate command.
    ///
    /// # Errors
    /// Fails if shapes do not fit.
    pub fn of_ws(g: &Generator, ws: &Tensor, noise: Noise) -> Result<Self> {
        Self::of(g.synthesis.forward(&ws.into(), noise)?.value())
    }

    /// Width, height and channels (1 or 3).
    pub fn size(&self) -> (usize, usize, usize) {
        (self.width, self.height, self.channels)
    }

    /// Bytes `[H, W, C]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// As [`Picture::generate`] with constant noise inputs, and then the same picture augmented,
    /// once for each of `augmented`; which draws that takes, `rng` says.
    ///
    /// # Errors
    /// As there, and fails if the picture is too small for a filter.
    pub fn generate_augmented(
        g: &Generator,
        (z, c): (&Tensor, Option<&Tensor>),
        truncation: Truncation,
        rng: &Rng,
        augmented: &[Augmented],
    ) -> Result<Vec<Self>> {
        let img = g.forward(z, c, truncation, Noise::Const)?.get(0)?.unsqueeze(0)?; // [1, C, H, W]
        let (_, _, h, w) = img.dims4()?;
        let mut pictures = vec![Self::of(&img)?];
        for Augmented { pipeline, part, p } in augmented {
            let mut transforms = pipeline.draw(rng, *part, (1, h, w), *p)?;
            upload(transforms.numbers(), img.device())?;
            pictures.push(Self::of(transforms.apply(&img.clone().into())?.value())?);
        }
        Ok(pictures)
    }

    /// The first of `img [N, C, H, W]`, which a generator made.
    fn of(img: &Tensor) -> Result<Self> {
        let value = |x: f32| (x * 127.5 + 128.0).clamp(0.0, 255.0) as u8;
        let (_, channels, height, width) = img.dims4()?;
        Ok(Self { width, height, channels, pixels: interleave(&img.get(0)?, value)? })
    }

    /// Pictures of equal size side by side, `columns` in a row; missing cells are white.
    ///
    /// # Errors
    /// Fails if there is none or sizes differ.
    pub fn tile(pictures: &[Self], columns: usize) -> Result<Self> {
        let Some(first) = pictures.first() else { bail!("expected at least one picture") };
        let Self { width, height, channels, .. } = *first;
        let same = |p: &Self| (p.width, p.height, p.channels) == (width, height, channels);
        if !pictures.iter().all(same) || columns == 0 {
            bail!("expected pictures of one size and at least one column");
        }
        let rows = pictures.len().div_ceil(columns);
        let mut tiled = Self {
            width: width * columns,
            height: height * rows,
            channels,
            pixels: vec![255; width * columns * height * rows * channels],
        };
        for (i, picture) in pictures.iter().enumerate() {
            let (row, column) = (i / columns, i % columns);
            for y in 0..height {
                let line = &picture.pixels[y * width * channels..][..width * channels];
                let start = ((row * height + y) * tiled.width + column * width) * channels;
                tiled.pixels[start..start + line.len()].copy_from_slice(line);
            }
        }
        Ok(tiled)
    }

    /// The picture as a PNG file with the chunks IHDR, IDAT and IEND only.
    ///
    /// # Errors
    /// Never, for a picture of this program.
    pub fn to_png(&self) -> Result<Png> {
        let mut bytes = Vec::new();
        let color =
            if self.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive)
            .write_image(&self.pixels, self.width as u32, self.height as u32, color)
            .map_err(candle_core::Error::wrap)?;
        Ok(Png(bytes))
    }
}

/// A PNG file of a [`Picture`], which is what it can be made of.
pub struct Png(Vec<u8>);

impl Png {
    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Not a picture's, for tests of what becomes of files.
    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// One way to augment a picture.
pub struct Augmented {
    /// What may happen.
    pub pipeline: Pipeline,
    /// Which draws: two of one part differ by what they leave out.
    pub part: u64,
    /// How strongly, from 0 to 1.
    pub p: f64,
}

/// `img [C, H, W]` as bytes `[H, W, C]`.
fn interleave(img: &Tensor, value: impl Fn(f32) -> u8) -> Result<Vec<u8>> {
    let img = img.permute((1, 2, 0))?.contiguous()?.flatten_all()?.to_dtype(DType::F32)?;
    Ok(img.to_vec1::<f32>()?.into_iter().map(value).collect())
}

/// The latent that "seed K" means in the artists' tools, `[1, z_dim]`.
///
/// # Errors
/// Fails if the device does.
pub fn latent_of_seed(seed: u32, z_dim: usize, device: &Device) -> Result<Tensor> {
    Tensor::from_vec(numpy_randn(seed, z_dim), (1, z_dim), device)?.to_dtype(DType::F32)
}

/// The label of class `idx` of `c_dim`, `[1, c_dim]`.
///
/// # Errors
/// Fails if there is no such class.
pub fn label_of_class(idx: usize, c_dim: usize, device: &Device) -> Result<Tensor> {
    if idx >= c_dim {
        bail!("class {idx}: expected one below {c_dim}, the number of classes of these weights");
    }
    let one_hot = (0..c_dim).map(|i| f32::from(u8::from(i == idx)));
    Tensor::from_iter(one_hot, device)?.reshape((1, c_dim))
}

/// A grid of samples whose latents stay the same over a training.
pub struct SampleGrid {
    columns: usize,
    /// `[cells, z_dim]`
    z: Tensor,
    /// `[cells, c_dim]`, one label per row.
    c: Option<Tensor>,
}

/// Where the labels of a grid's rows come from.
pub enum GridLabels<'a> {
    /// The generator has none.
    None,
    /// So many classes.
    Classes(usize),
    /// Rows of a pool `[N, c_dim]`.
    Pool(&'a Tensor),
}

impl SampleGrid {
    /// The grid of `seed` for a generator of `z_dim` and `res`.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn new(
        seed: u64,
        z_dim: usize,
        res: usize,
        labels: &GridLabels,
        device: &Device,
    ) -> Result<Self> {
        let side = GRID_CELLS.min(MAX_GRID_SIDE / res).max(1);
        let cells = side * side;
        let rng = Rng::new(seed, Stream::Samples, 0);
        let z = Tensor::from_vec(rng.normals(cells * z_dim), (cells, z_dim), device)?;
        let row_label = |row: usize| match labels {
            GridLabels::None => Ok(None),
            GridLabels::Classes(num_classes) => {
                // Few classes come again, of many some are left out, evenly.
                let idx =
                    if *num_classes > side { row * num_classes / side } else { row % num_classes };
                label_of_class(idx, *num_classes, device).map(Some)
            }
            GridLabels::Pool(pool) => {
                let pick = Rng::new(seed, Stream::Samples, 1).below(row as u64, pool.dim(0)?);
                pool.narrow(0, pick, 1).map(Some)
            }
        };
        let rows = (0..cells).map(|i| row_label(i / side)).collect::<Result<Vec<_>>>()?;
        let rows: Vec<Tensor> = rows.into_iter().flatten().collect();
        let c =
            if rows.is_empty() { None } else { Some(Tensor::cat(&rows, 0)?.to_device(device)?) };
        Ok(Self { columns: side, z: z.to_dtype(DType::F32)?, c })
    }

    /// Pixels of the whole grid, of pictures of side `res`.
    pub fn num_pixels(&self, res: usize) -> usize {
        (self.columns * res).pow(2)
    }

    /// The grid of generator `g`, made `at_once` pictures at a time; cells that `hides` names, of
    /// images `[N, C, H, W]`, are white.
    ///
    /// # Errors
    /// Fails if an op does, or is cancelled.
    pub fn render(
        &self,
        g: &Generator,
        at_once: usize,
        mut hides: impl FnMut(&Tensor) -> Result<Vec<bool>>,
    ) -> Result<Picture> {
        let cells = self.z.dim(0)?;
        let mut pictures = Vec::with_capacity(cells);
        for start in (0..cells).step_by(at_once.max(1)) {
            let count = at_once.max(1).min(cells - start);
            let c = self.c.as_ref().map(|c| c.narrow(0, start, count)).transpose()?;
            let z = self.z.narrow(0, start, count)?;
            let img = g.forward(&z, c.as_ref(), Truncation::NONE, Noise::Const)?;
            let (_, channels, height, width) = img.dims4()?;
            let value = |x: f32| ((x + 1.0) * 127.5).round_ties_even().clamp(0.0, 255.0) as u8;
            for (i, is_hidden) in hides(&img)?.into_iter().enumerate() {
                let pixels = interleave(&img.get(i)?, |x| if is_hidden { 255 } else { value(x) })?;
                pictures.push(Picture { width, height, channels, pixels });
            }
        }
        Picture::tile(&pictures, self.columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(value: u8) -> Picture {
        Picture { width: 2, height: 1, channels: 3, pixels: vec![value; 6] }
    }

    #[test]
    fn tiles_lie_row_by_row_and_missing_cells_are_white() -> Result<()> {
        let tiled = Picture::tile(&[flat(1), flat(2), flat(3)], 2)?;
        assert_eq!((tiled.width, tiled.height), (4, 2));
        let reds: Vec<u8> = tiled.pixels.iter().step_by(3).copied().collect();
        assert_eq!(reds, [1, 1, 2, 2, 3, 3, 255, 255]);
        assert!(Picture::tile(&[], 2).is_err());
        Ok(())
    }

    #[test]
    fn a_png_decodes_to_its_pixels_and_holds_nothing_else() -> Result<()> {
        let picture = Picture { width: 2, height: 1, channels: 3, pixels: (0..6).collect() };
        let png = picture.to_png()?;
        let decoded = image::load_from_memory(png.bytes()).map_err(candle_core::Error::wrap)?;
        assert_eq!(decoded.to_rgb8().into_raw(), picture.pixels);
        let mut chunks = Vec::new();
        let mut rest = &png.bytes()[8..];
        while rest.len() >= 12 {
            let len = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            chunks.push(String::from_utf8_lossy(&rest[4..8]).into_owned());
            rest = &rest[12 + len..];
        }
        chunks.dedup();
        assert_eq!(chunks, ["IHDR", "IDAT", "IEND"]);
        Ok(())
    }

    #[test]
    fn every_row_of_a_grid_has_one_class() -> Result<()> {
        let grid = SampleGrid::new(0, 4, 64, &GridLabels::Classes(3), &Device::Cpu)?;
        let labels = grid.c.map(|c| c.to_vec2::<f32>()).transpose()?.unwrap();
        assert_eq!(labels.len(), 64);
        for row in labels.chunks(8) {
            assert!(row.iter().all(|label| label == &row[0]));
        }
        assert_ne!(labels[0], labels[8]);
        let ten = SampleGrid::new(0, 4, 64, &GridLabels::Classes(10), &Device::Cpu)?;
        let mut labels = ten.c.map(|c| c.to_vec2::<f32>()).transpose()?.unwrap();
        labels.dedup();
        assert_eq!(labels.len(), 8, "eight rows, eight different classes");
        let big = SampleGrid::new(0, 4, 1024, &GridLabels::None, &Device::Cpu)?;
        assert_eq!((big.columns, big.z.dims()), (4, [16, 4].as_slice()));
        Ok(())
    }
}
