//! What commands that write pictures share: noise, provenance, folders, progress.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use super::UsageError;
use super::weights::{Maker, WeightsArgs, read};
use crate::home::canvas::Canvas;
use crate::home::png::{Sheet, Size, write};
use crate::home::provenance::{Layout, Provenance};
use crate::latent::recipe::{Latent, NoiseMode, Source};
use crate::latent::{Model, Recipe};
use crate::sample::Picture;

/// Most pictures of a grid.
pub(super) const MAX_GRID: usize = 1024;

/// Flags of commands that write pictures.
#[derive(Debug, clap::Args)]
pub(super) struct PictureArgs {
    #[command(flatten)]
    weights: WeightsArgs,
    /// Noise inputs: const gives the same picture every time.
    #[arg(long, value_enum, default_value = "const")]
    noise_mode: NoiseFlag,
    /// Writes into pictures nothing of where they come from.
    #[arg(long)]
    no_provenance: bool,
}

/// Noise inputs, as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum NoiseFlag {
    Const,
    Random,
    None,
}

/// Makes pictures of recipes and writes them.
pub(super) struct Studio {
    pub(super) maker: Maker,
    noise: NoiseFlag,
    pub(super) has_provenance: bool,
}

impl PictureArgs {
    /// Opens the device and loads the weights.
    ///
    /// # Errors
    /// As [`WeightsArgs::open`].
    pub(super) fn open(&self) -> Result<Studio> {
        Ok(self.studio(self.weights.open()?))
    }

    /// Where the weights are.
    pub(super) fn weights_path(&self) -> &Path {
        self.weights.path()
    }

    /// As [`PictureArgs::open`], where pictures may say their class themselves.
    ///
    /// # Errors
    /// As there.
    pub(super) fn open_for_any_class(&self, is_any: bool) -> Result<Studio> {
        Ok(self.studio(if is_any {
            self.weights.open_for_any_class()?
        } else {
            self.weights.open()?
        }))
    }

    fn studio(&self, maker: Maker) -> Studio {
        Studio::new(maker, self.noise_mode, !self.no_provenance)
    }
}

impl Studio {
    /// For a command with flags of its own for noise.
    pub(super) fn new(maker: Maker, noise: NoiseFlag, has_provenance: bool) -> Self {
        Self { maker, noise, has_provenance }
    }

    /// The recipe for latents; with random noise that is of `seed`.
    pub(super) fn recipe(&self, latent: Latent, seed: u32) -> Recipe {
        let noise_mode = match self.noise {
            NoiseFlag::Const => NoiseMode::Const,
            NoiseFlag::Random => NoiseMode::Random(seed),
            NoiseFlag::None => NoiseMode::None,
        };
        let Maker { class, truncation, .. } = &self.maker;
        Recipe { latent, trunc: truncation.psi, class: *class, noise_mode }
    }

    /// The recipe for a seed.
    pub(super) fn recipe_of_seed(&self, seed: u32) -> Recipe {
        self.recipe(Latent::Of(Source::Seed(seed)), seed)
    }

    /// Takes a file of latents in.
    ///
    /// # Errors
    /// Fails if it cannot be read or is of another network.
    pub(super) fn source_of(&mut self, path: &Path) -> Result<Source> {
        let hash = self.maker.model.add_file(&read(path)?);
        let refused = |error| UsageError(format!("{}: {error}", path.display()));
        Ok(Source::File(hash.map_err(refused)?))
    }

    /// Width, height and channels of the pictures.
    pub(super) fn size(&self) -> Size {
        let config = &self.maker.model.g.config;
        (config.img_resolution, config.img_resolution, config.img_channels)
    }

    /// What a file of these pictures says of itself, unless it is to say nothing.
    pub(super) fn provenance(
        &self,
        layout: Layout,
        recipes: Vec<Option<Recipe>>,
    ) -> Option<Provenance> {
        self.provenance_of(&self.maker.model, layout, recipes)
    }

    /// As [`Studio::provenance`], of pictures by another model.
    pub(super) fn provenance_of(
        &self,
        model: &Model,
        layout: Layout,
        recipes: Vec<Option<Recipe>>,
    ) -> Option<Provenance> {
        self.has_provenance.then(|| Provenance::new(&model.hash, layout, recipes))
    }

    /// Makes and writes one picture.
    ///
    /// # Errors
    /// Fails if the device or the volume does.
    pub(super) fn write(&self, path: &Path, recipe: &Recipe) -> Result<Picture> {
        let picture = self.maker.model.picture(recipe)?;
        let provenance = self.provenance(Layout::Columns(1), vec![Some(recipe.clone())]);
        write(path, &Canvas::from(&picture), provenance.as_ref())?;
        Ok(picture)
    }

    /// Makes and writes a sheet, `columns` pictures in a row, white where there is no recipe;
    /// `false`: it was stopped, and there is none.
    ///
    /// # Errors
    /// Fails if the device or the volume does.
    pub(super) fn write_sheet(
        &self,
        path: &Path,
        columns: usize,
        recipes: &[Option<Recipe>],
        stop: &AtomicBool,
    ) -> Result<bool> {
        let provenance = self.provenance(Layout::Columns(columns), recipes.to_vec());
        let shape = (columns, recipes.len());
        let mut sheet = Sheet::begin(path, self.size(), shape, provenance.as_ref())?;
        let bar = bar(recipes.len());
        for recipe in recipes {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let picture =
                recipe.as_ref().map(|recipe| self.maker.model.picture(recipe)).transpose()?;
            let white = || Canvas::filled(255, self.size());
            sheet.push(&picture.as_ref().map_or_else(white, Canvas::from))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        sheet.finish()?;
        Ok(true)
    }
}

/// A bar on a terminal, and nothing elsewhere.
pub(super) fn bar(len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} | left {eta}");
    let bar = ProgressBar::new(len as u64);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Makes a folder for pictures where it is missing.
pub(super) fn make_folder(folder: &Path) -> Result<(), UsageError> {
    fs::create_dir_all(folder).map_err(|error| UsageError(format!("{}: {error}", folder.display())))
}

/// Refuses a path that no file can be written to, and makes its folder.
///
/// * `example` - a name that would do.
pub(super) fn must_be_a_file(out: &Path, example: &str) -> Result<(), UsageError> {
    if out.is_dir() || out.file_name().is_none() {
        let message = format!("--out: expected a file such as {example}, came a folder");
        return Err(UsageError(message));
    }
    let folder = out.parent().unwrap_or(Path::new(""));
    if folder.as_os_str().is_empty() { Ok(()) } else { make_folder(folder) } // empty: where we are
}

/// Indices into `ws` such as `0-3,5`.
pub(super) fn parse_layers(text: &str, num_ws: usize) -> Result<Vec<usize>, UsageError> {
    let refused = || {
        let last = num_ws - 1;
        UsageError(format!(
            "--layers: expected layers from 0 to {last} such as 0-3,5, came \"{text}\""
        ))
    };
    let number =
        |text: &str| text.trim().parse().ok().filter(|idx| *idx < num_ws).ok_or_else(refused);
    let mut layers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (number(first)?, number(last)?);
        if last < first {
            return Err(refused());
        }
        layers.extend(first..=last);
    }
    layers.sort_unstable();
    layers.dedup();
    Ok(layers)
}

/// Numbers such as `0,0.5,1`, within bounds.
pub(super) fn parse_numbers(
    flag: &str,
    text: &str,
    bounds: (f64, f64),
) -> Result<Vec<f64>, UsageError> {
    let fits = |value: &f64| (bounds.0..=bounds.1).contains(value);
    let number = |text: &str| text.trim().parse().ok().filter(fits);
    let numbers: Option<Vec<f64>> = text.split(',').map(number).collect();
    numbers.ok_or_else(|| {
        let (least, most) = bounds;
        UsageError(format!(
            "{flag}: expected numbers from {least} to {most} such as 0,0.5,1, came \"{text}\""
        ))
    })
}

/// The files that a command has written, for its last line.
pub(super) fn listed(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbers_and_ranges_below_the_count() {
        assert_eq!(parse_layers("0-2, 5,1", 6).unwrap(), [0, 1, 2, 5]);
        for bad in ["", "6", "3-1", "-1", "0-6", "a"] {
            assert!(parse_layers(bad, 6).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_finite_and_within_bounds() {
        assert_eq!(parse_numbers("--p", "0, -0.5,1", (-1.0, 1.0)).unwrap(), [0.0, -0.5, 1.0]);
        for bad in ["", "0,", "1.01", "NaN", "inf", "half", "0-1"] {
            assert!(parse_numbers("--p", bad, (-1.0, 1.0)).is_err(), "{bad}");
        }
    }
}
