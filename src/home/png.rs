//! PNG files at home: single pictures, and sheets that are written row by row.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use png::{BitDepth, ColorType, Compression, Encoder, StreamWriter};

use super::canvas::Canvas;
use super::provenance::Provenance;
use super::whole::Whole;

/// Width, height and channels (1 or 3).
pub type Size = (usize, usize, usize);

/// Writes one picture.
///
/// # Errors
/// Fails if the volume does.
pub fn write(path: &Path, canvas: &Canvas, provenance: Option<&Provenance>) -> Result<()> {
    let mut sheet = Sheet::begin(path, size_of(canvas), (1, 1), provenance)?;
    sheet.push(canvas)?;
    sheet.finish().map(drop)
}

/// One picture as bytes: larger than a file of [`write()`] and ready sooner.
///
/// # Errors
/// Never, for a picture of this program.
pub fn to_bytes(canvas: &Canvas, provenance: Option<&Provenance>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = encoder(&mut bytes, size_of(canvas), provenance)?;
    encoder.set_compression(Compression::Fastest);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&canvas.pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// Pictures of one size side by side; missing ones are white.
pub struct Sheet {
    file: Whole,
    writer: StreamWriter<'static, BufWriter<File>>,
    size: Size,
    columns: usize,
    num_left: usize,
    /// The row in the making, and how many pictures are in it.
    row: Vec<u8>,
    num_in_row: usize,
}

impl Sheet {
    /// Begins a sheet of `count` pictures, `columns` in a row.
    ///
    /// # Errors
    /// Fails if the folder refuses the file.
    pub fn begin(
        path: &Path,
        size: Size,
        (columns, count): (usize, usize),
        provenance: Option<&Provenance>,
    ) -> Result<Self> {
        if columns == 0 || count == 0 {
            bail!("expected at least one picture and one column");
        }
        let file = Whole::begin(path)?;
        let (width, height, channels) = size;
        let rows = count.div_ceil(columns);
        let encoder =
            encoder(file.writer()?, (width * columns, height * rows, channels), provenance)?;
        let writer = encoder.write_header()?.into_stream_writer()?;
        let row = vec![255; width * columns * height * channels];
        Ok(Self { file, writer, size, columns, num_left: count, row, num_in_row: 0 })
    }

    /// Adds the next picture.
    ///
    /// # Errors
    /// Fails if it is of another size or one too many, or if the volume does.
    pub fn push(&mut self, canvas: &Canvas) -> Result<()> {
        let (width, height, channels) = self.size;
        if size_of(canvas) != self.size || self.num_left == 0 {
            bail!("expected {} pictures of {width} x {height}", self.num_left);
        }
        let line = width * channels;
        for y in 0..height {
            let start = (y * self.columns + self.num_in_row) * line;
            self.row[start..start + line].copy_from_slice(&canvas.pixels[y * line..][..line]);
        }
        self.num_in_row += 1;
        self.num_left -= 1;
        if self.num_in_row == self.columns || self.num_left == 0 {
            self.writer.write_all(&self.row)?;
            self.row.fill(255);
            self.num_in_row = 0;
        }
        Ok(())
    }

    /// Ends the sheet.
    ///
    /// # Errors
    /// Fails if pictures are missing, or if the volume does.
    pub fn finish(self) -> Result<PathBuf> {
        if self.num_left > 0 {
            bail!("expected {} more pictures", self.num_left);
        }
        self.writer.finish()?;
        self.file.finish()
    }
}

/// An encoder with the text chunks in place.
pub(super) fn encoder<W: Write>(
    writer: W,
    (width, height, channels): Size,
    provenance: Option<&Provenance>,
) -> Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(writer, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(if channels == 1 { ColorType::Grayscale } else { ColorType::Rgb });
    encoder.set_depth(BitDepth::Eight);
    if let Some(provenance) = provenance {
        for (keyword, text) in provenance.chunks()? {
            encoder.add_text_chunk(keyword, text)?;
        }
    }
    Ok(encoder)
}

/// Width, height and channels of a canvas.
pub(super) fn size_of(canvas: &Canvas) -> Size {
    (canvas.width, canvas.height, canvas.channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_lies_row_by_row_and_missing_cells_are_white() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("sheet.png");
        let mut sheet = Sheet::begin(&path, (2, 1, 3), (2, 3), None)?;
        for value in 1..=3 {
            assert!(!path.exists());
            sheet.push(&Canvas::filled(value, (2, 1, 3)))?;
        }
        assert!(sheet.push(&Canvas::filled(4, (2, 1, 3))).is_err());
        sheet.finish()?;
        let reds: Vec<u8> =
            image::open(&path)?.to_rgb8().pixels().map(|pixel| pixel.0[0]).collect();
        assert_eq!(reds, [1, 1, 2, 2, 3, 3, 255, 255]);
        Ok(())
    }

    #[test]
    fn a_sheet_that_is_not_finished_leaves_nothing() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut sheet = Sheet::begin(&folder.path().join("a.png"), (1, 1, 1), (1, 2), None)?;
        sheet.push(&Canvas::filled(0, (1, 1, 1)))?;
        assert!(sheet.push(&Canvas::filled(0, (1, 1, 3))).is_err());
        assert!(sheet.finish().is_err());
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
        Ok(())
    }
}
