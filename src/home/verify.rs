//! Whether a file is what a model makes of the recipes in it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result};
use png::{BitDepth, ColorType, Decoder, Limits, Reader};

use super::png::Size;
use super::provenance::{Layout, Provenance};
use crate::latent::{Model, Recipe};

/// Most memory that decoding may take: one row of the pictures of a sheet, or one frame.
const MAX_BYTES: usize = 1 << 30;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every pixel is what the model makes.
    Exact,
    /// The largest difference of a value, of 255.
    OffBy(u8),
    /// It says that another model made it: BLAKE3 of that.
    OtherModel(String),
    /// It has another size, other colors or another number of frames than the model's pictures.
    OtherShape,
    /// It says nothing of a recipe, and none was given.
    NoRecipe,
}

/// Compares a PNG file with what `model` makes of the recipes in it, or of `recipe`, where given.
///
/// # Errors
/// Fails if the file is no PNG, or if a recipe cannot be followed.
pub fn verify(path: &Path, model: &Model, recipe: Option<&Recipe>) -> Result<Verdict> {
    let file = BufReader::new(File::open(path)?);
    let decoder = Decoder::new_with_limits(file, Limits { bytes: MAX_BYTES });
    let mut reader = decoder.read_info().context("expected a PNG file")?;
    let found = Provenance::of(&reader);
    let (layout, recipes) = match (recipe, found) {
        (Some(recipe), _) => (Layout::Columns(1), vec![Some(recipe.clone())]),
        (None, Some(found)) if found.model != model.hash => {
            return Ok(Verdict::OtherModel(found.model));
        }
        (None, Some(found)) if !found.pictures.is_empty() => (found.layout, found.pictures),
        (None, _) => return Ok(Verdict::NoRecipe),
    };
    let config = &model.g.config;
    let size = (config.img_resolution, config.img_resolution, config.img_channels);
    if !fits(&reader, size, layout, recipes.len()) {
        return Ok(Verdict::OtherShape);
    }
    let off = match layout {
        Layout::Columns(columns) => off_of_sheet(&mut reader, model, (columns, size), &recipes)?,
        Layout::Frames => off_of_frames(&mut reader, model, size, &recipes)?,
    };
    Ok(if off == 0 { Verdict::Exact } else { Verdict::OffBy(off) })
}

/// Whether a file can hold so many pictures of a size.
fn fits(
    reader: &Reader<BufReader<File>>,
    (width, height, channels): Size,
    layout: Layout,
    count: usize,
) -> bool {
    let info = reader.info();
    let color = if channels == 1 { ColorType::Grayscale } else { ColorType::Rgb };
    let (columns, rows, num_frames) = match layout {
        Layout::Columns(columns) if !(1..=count).contains(&columns) => return false,
        Layout::Columns(columns) => (columns, count.div_ceil(columns), 1),
        Layout::Frames => (1, 1, count),
    };
    let came = info.animation_control.as_ref().map_or(1, |control| control.num_frames as usize);
    (info.width as usize, info.height as usize) == (width * columns, height * rows)
        && (info.color_type, info.bit_depth) == (color, BitDepth::Eight)
        && !info.interlaced
        && came == num_frames
}

fn off_of_sheet(
    reader: &mut Reader<BufReader<File>>,
    model: &Model,
    (columns, (width, height, channels)): (usize, Size),
    recipes: &[Option<Recipe>],
) -> Result<u8> {
    let (line, mut worst) = (width * channels, 0);
    let white = vec![255; line];
    for row in recipes.chunks(columns) {
        let picture = |of: &Option<Recipe>| of.as_ref().map(|of| model.picture(of)).transpose();
        let pictures = row.iter().map(picture).collect::<candle_core::Result<Vec<_>>>()?;
        for y in 0..height {
            let came = reader.next_row().context("the PNG file is damaged")?;
            let came = came.context("the PNG file ends too early")?;
            // what is missing in the last row is white, as what is left out
            let all = pictures.iter().chain(std::iter::repeat(&None));
            for (came, picture) in came.data().chunks(line).zip(all) {
                let made = picture.as_ref().map(|picture| &picture.pixels()[y * line..][..line]);
                worst = worst.max(off(came, made.unwrap_or(&white)));
            }
        }
    }
    Ok(worst)
}

fn off_of_frames(
    reader: &mut Reader<BufReader<File>>,
    model: &Model,
    (width, height, channels): Size,
    recipes: &[Option<Recipe>],
) -> Result<u8> {
    let mut pixels = vec![0; width * height * channels];
    let mut worst = 0;
    for recipe in recipes.iter().flatten() {
        let frame = reader.next_frame(&mut pixels).context("the PNG file is damaged")?;
        if frame.buffer_size() != pixels.len() {
            return Ok(u8::MAX);
        }
        worst = worst.max(off(&pixels, model.picture(recipe)?.pixels()));
    }
    Ok(worst)
}

/// The largest difference.
fn off(a: &[u8], b: &[u8]) -> u8 {
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}
