//! Where a picture comes from, as text in the file itself.
//!
//! Two `tEXt` chunks before the pixels: `Software`, and [`KEYWORD`] with a [`Provenance`] as JSON.
//! Numbers only, no path and no name of a person, a file or a class.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::latent::Recipe;

/// Keyword of the chunk with the recipe.
pub const KEYWORD: &str = "stylegan2_c2d";
/// Keyword of the chunk with the program, as other tools show it.
pub const SOFTWARE: &str = "Software";

/// What made a file, and what of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the program.
    pub program: String,
    /// Its version.
    pub version: String,
    /// BLAKE3 of the weights file, in hexadecimal.
    pub model: String,
    /// How the pictures lie in the file.
    pub layout: Layout,
    /// Every picture in it, row by row or frame by frame, `null` for a white place; none at all where
    /// it shows more than recipes make.
    pub pictures: Vec<Option<Recipe>>,
}

/// How pictures lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Side by side, so many in a row.
    Columns(usize),
    /// One after the other.
    Frames,
}

impl Provenance {
    /// That of a file by this program.
    pub fn new(model: &str, layout: Layout, pictures: Vec<Option<Recipe>>) -> Self {
        let program = env!("CARGO_PKG_NAME").to_owned();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { program, version, model: model.to_owned(), layout, pictures }
    }

    /// Keyword and text of each chunk.
    ///
    /// # Errors
    /// Never, for numbers that are finite.
    pub fn chunks(&self) -> serde_json::Result<[(String, String); 2]> {
        let software = format!("{} {}", self.program, self.version);
        Ok([(SOFTWARE.to_owned(), software), (KEYWORD.to_owned(), serde_json::to_string(self)?)])
    }

    /// That of one picture.
    pub fn of_one(model: &str, recipe: &Recipe) -> Self {
        Self::new(model, Layout::Columns(1), vec![Some(recipe.clone())])
    }

    /// What a PNG file says of itself, if it says something.
    ///
    /// # Errors
    /// Fails if it is no PNG file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let decoder = png::Decoder::new(BufReader::new(File::open(path)?));
        Ok(Self::of(&decoder.read_info().context("expected a PNG file")?))
    }

    /// As [`Provenance::read`], of a file that is open.
    pub fn of<R: BufRead + Seek>(file: &png::Reader<R>) -> Option<Self> {
        let texts = &file.info().uncompressed_latin1_text;
        let text = texts.iter().find(|text| text.keyword == KEYWORD)?;
        serde_json::from_str(&text.text).ok()
    }
}
