//! What commands that make pictures share: weights, truncation, class, device, seeds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Tensor;
use tracing::info;

use super::{UsageError, device_choice};
use crate::data::ClassNames;
use crate::latent::Model;
use crate::model::Truncation;
use crate::model::weights::Header;
use crate::ops::device::{DeviceChoice, Fault, classify, open};
use crate::sample::label_of_class;

/// Most seeds of one call.
const MAX_SEEDS: usize = 100_000;
/// Most names of classes that an error lists.
const MAX_NAMES: usize = 40;

/// Flags that say which pictures a generator makes.
#[derive(Debug, clap::Args)]
pub(super) struct WeightsArgs {
    /// A generator.safetensors.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// Truncation psi: 1 keeps all variety, 0 gives the average picture.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    trunc: f64,
    /// Class to show, for weights with labels: its number, or its name where the weights have names.
    #[arg(long, value_name = "K")]
    class: Option<String>,
    /// Where to compute: auto, cuda or cpu.
    #[arg(long, default_value = "auto", value_parser = device_choice)]
    device: DeviceChoice,
}

/// A generator at work, and what its pictures have in common.
pub(super) struct Maker {
    pub(super) model: Model,
    pub(super) class: Option<usize>,
    /// `[1, c_dim]`
    pub(super) c: Option<Tensor>,
    pub(super) truncation: Truncation,
}

impl WeightsArgs {
    /// Opens the device and loads the weights.
    ///
    /// # Errors
    /// Fails if a flag or the weights are refused, or if the device does.
    pub(super) fn open(&self) -> Result<Maker> {
        let model = self.load()?;
        let class = class(&model.header, self.class.as_deref())?;
        self.maker(model, class)
    }

    /// As [`WeightsArgs::open`], for pictures that bring their class with them: none need be said.
    ///
    /// # Errors
    /// As there.
    pub(super) fn open_for_any_class(&self) -> Result<Maker> {
        let model = self.load()?;
        let asked = self.class.as_deref().map(|asked| class(&model.header, Some(asked)));
        let class = asked.transpose()?.flatten();
        self.maker(model, class)
    }

    /// Where the weights are.
    pub(super) fn path(&self) -> &Path {
        &self.weights
    }

    fn maker(&self, model: Model, class: Option<usize>) -> Result<Maker> {
        let label = class.map(|class| label_of_class(class, model.g.config.c_dim, &model.device));
        let c = label.transpose()?;
        Ok(Maker { model, class, c, truncation: Truncation { psi: self.trunc, cutoff: None } })
    }

    fn load(&self) -> Result<Model> {
        check_psi("--trunc", self.trunc)?;
        let bytes = read(&self.weights)?;
        let opened = open(self.device)?;
        info!("{}", opened.description);
        Model::from_bytes(&bytes, &opened.device).map_err(|error| self.not_loaded(error))
    }

    /// Why weights are refused; a failing GPU is no fault of theirs.
    fn not_loaded(&self, error: candle_core::Error) -> anyhow::Error {
        match classify(&error) {
            Fault::Other => UsageError(format!("{}: {error}", self.weights.display())).into(),
            Fault::OutOfMemory | Fault::DeviceLost => error.into(),
        }
    }
}

/// The bytes of a file that was named.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, UsageError> {
    fs::read(path).map_err(|error| UsageError(format!("{}: {error}", path.display())))
}

/// Refuses a truncation that no picture survives.
pub(super) fn check_psi(flag: &str, psi: f64) -> Result<(), UsageError> {
    if (-2.0..=2.0).contains(&psi) {
        return Ok(());
    }
    Err(UsageError(format!("{flag}: expected -2 to 2, came {psi}")))
}

/// The class that is asked for, by name or by number; a name goes first, should it be a number.
fn class(header: &Header, asked: Option<&str>) -> Result<Option<usize>, UsageError> {
    let c_dim = header.model.c_dim;
    if c_dim == 0 {
        let message = "--class: these weights have no labels; leave it out".to_owned();
        return if asked.is_none() { Ok(None) } else { Err(UsageError(message)) };
    }
    let named = asked.and_then(|text| header.class_names.as_ref()?.class(text));
    let numbered = asked.and_then(|text| text.parse().ok()).filter(|class| *class < c_dim);
    named.or(numbered).map(Some).ok_or_else(|| no_class(header, asked))
}

/// The refusal of a class, which says what there is.
fn no_class(header: &Header, asked: Option<&str>) -> UsageError {
    let came = asked.map_or("none".to_owned(), |text| format!("\"{text}\""));
    let names = header.class_names.as_ref().map_or(&[][..], ClassNames::as_slice);
    let more = if names.len() > MAX_NAMES { ", .." } else { "" };
    let names = match names {
        [] => String::new(),
        names => format!(" or {}{more}", names[..names.len().min(MAX_NAMES)].join(", ")),
    };
    let last = header.model.c_dim - 1;
    UsageError(format!("--class: expected one of the classes, 0 to {last}{names}, came {came}"))
}

/// `0-2,85` as 0, 1, 2, 85.
pub(super) fn parse_seeds(text: &str) -> Result<Vec<u32>, UsageError> {
    let refused = || {
        UsageError(format!(
            "--seeds: expected numbers and ranges such as 0-15,85, at most {MAX_SEEDS} seeds below 2^32, came \"{text}\""
        ))
    };
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| refused());
    let mut seeds = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if last < first || (last - first) as usize >= MAX_SEEDS - seeds.len() {
            return Err(refused());
        }
        seeds.extend(first..=last);
    }
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::train::presets::{Cfg, Overrides, train_config};

    #[test]
    fn seeds_are_numbers_and_ranges() {
        assert_eq!(parse_seeds("0-2,85").unwrap(), [0, 1, 2, 85]);
        assert_eq!(parse_seeds(" 7 ").unwrap(), [7]);
        for bad in ["", "x", "3-1", "1,,2", "-1", "0-4294967295", "4294967296"] {
            assert!(parse_seeds(bad).is_err(), "{bad}");
        }
    }

    fn header(c_dim: usize, names: Option<&[&str]>) -> Header {
        let model = train_config(Cfg::Tiny, 8, c_dim, &Overrides::default()).g;
        let names = names.map(|names| names.iter().map(ToString::to_string).collect());
        let class_names = names.map(|names| ClassNames::new(names).unwrap());
        Header { class_names, ..Header::new(model, 0, json!({}), json!([])) }
    }

    #[test]
    fn a_class_is_a_name_or_a_number() {
        let named = header(3, Some(&["sun", "0", "tree"]));
        let of = |asked: &str| class(&named, Some(asked)).ok().flatten();
        assert_eq!(["sun", "tree", "0", "1", "2"].map(of), [0, 2, 1, 1, 2].map(Some));
        assert_eq!(["3", "-1", "Sun", ""].map(of), [None; 4]);
        assert_eq!(class(&header(0, None), None).unwrap(), None);
        assert_eq!(class(&header(3, None), Some("2")).unwrap(), Some(2));
    }

    #[test]
    fn a_class_that_is_not_there_is_refused_with_those_that_are() {
        let refused = |header: &Header, asked| class(header, asked).unwrap_err().to_string();
        let named = header(2, Some(&["sun", "old tree"]));
        assert_eq!(
            refused(&named, Some("moon")),
            "--class: expected one of the classes, 0 to 1 or sun, old tree, came \"moon\""
        );
        let plain = "--class: expected one of the classes, 0 to 1, came ";
        assert_eq!(refused(&header(2, None), Some("sun")), format!("{plain}\"sun\""));
        assert_eq!(refused(&header(2, None), None), format!("{plain}none"));
        assert!(refused(&header(0, None), Some("0")).contains("no labels"));
        let many: Vec<String> = (0..100).map(|i| format!("name{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(refused(&header(100, Some(&many)), None).contains("name39, .., came none"));
    }
}
