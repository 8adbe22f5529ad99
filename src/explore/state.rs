//! What the page asks for: a state of its controls, as a query, and the recipe that it means.

use std::collections::HashSet;

use crate::latent::Recipe;
use crate::latent::recipe::{Latent, Move, NoiseMode, Source, Style};
use crate::model::config::GeneratorConfig;

/// Truncation psi of a picture.
pub(super) const PSI: (f64, f64) = (-2.0, 2.0);
/// Share of the second seed in its layers.
pub(super) const SHARE: (f64, f64) = (0.0, 1.0);
/// Way along a direction, in standard deviations of `w`.
pub(super) const BY: (f64, f64) = (-20.0, 20.0);
/// Most directions at a time.
pub(super) const MAX_MOVES: usize = 32;

/// A parameter that is refused; says what was expected and what came.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) String);

/// The parameters of a query, each once.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    /// Fails if one comes twice or is none of `known`.
    pub(super) fn parse(text: &str, known: &[&str]) -> Result<Self, Refused> {
        let parts: Vec<(String, String)> =
            form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let mut names = HashSet::new();
        for (name, _) in &parts {
            if !known.contains(&name.as_str()) {
                let name: String = name.escape_debug().take(40).collect();
                return Err(Refused(format!("{name}: expected one of {}", known.join(", "))));
            }
            if !names.insert(name.as_str()) {
                return Err(Refused(format!("{name}: expected once, came again")));
            }
        }
        Ok(Self(parts))
    }

    /// The text of a parameter, where it is there.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(of, _)| of == name).map(|(_, text)| text.as_str())
    }

    /// A number, or `absent`.
    pub(super) fn whole<T>(&self, name: &str, absent: T, below: u64) -> Result<T, Refused>
    where
        T: TryFrom<u64>,
    {
        let Some(text) = self.text(name) else { return Ok(absent) };
        let number = text.parse::<u64>().ok().filter(|number| *number < below);
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            refused(name, &format!("a whole number from 0 to {}", below.saturating_sub(1)), text)
        })
    }

    /// A number within bounds, or `absent`.
    pub(super) fn number(&self, name: &str, absent: f64, in_: (f64, f64)) -> Result<f64, Refused> {
        self.text(name).map_or(Ok(absent), |text| number(name, text, in_))
    }

    /// Indices into `ws` such as `4-7`, or all.
    pub(super) fn layers(&self, name: &str, num_ws: usize) -> Result<Vec<usize>, Refused> {
        let Some(text) = self.text(name) else { return Ok((0..num_ws).collect()) };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < num_ws => Ok((first..=last).collect()),
            _ => Err(refused(name, &format!("layers from 0 to {} such as 0-3", num_ws - 1), text)),
        }
    }
}

fn number(name: &str, text: &str, (least, most): (f64, f64)) -> Result<f64, Refused> {
    let fits = |value: &f64| (least..=most).contains(value);
    let value = text.parse().ok().filter(fits);
    value.ok_or_else(|| refused(name, &format!("a number from {least} to {most}"), text))
}

fn refused(name: &str, expected: &str, came: &str) -> Refused {
    let came: String = came.escape_debug().take(60).collect();
    Refused(format!("{name}: expected {expected}, came \"{came}\""))
}

/// Names of the parameters of a state.
pub(super) const NAMES: [&str; 10] = [
    "seed",
    "psi",
    "class",
    "noise",
    "noise_seed",
    "mix",
    "mix_layers",
    "mix_share",
    "layers",
    "by",
];

/// The recipe of a state: the plainest that makes its picture, so that `generate`, `mix` and
/// `directions` say the same of the same picture.
///
/// # Errors
/// Names the parameter that is refused.
pub(super) fn recipe(query: &Query, config: &GeneratorConfig) -> Result<Recipe, Refused> {
    const SEEDS: u64 = 1 << 32;
    let num_ws = config.num_ws();
    let seed = query.whole("seed", 0, SEEDS)?;
    let class = match (config.c_dim, query.text("class")) {
        (0, None) => None,
        (0, Some(text)) => return Err(refused("class", "none, as these weights have none", text)),
        (c_dim, _) => Some(query.whole("class", 0, c_dim as u64)?),
    };
    let noise_seed = query.whole("noise_seed", seed, SEEDS)?;
    let noise_mode = match query.text("noise") {
        None | Some("const") => NoiseMode::Const,
        Some("random") => NoiseMode::Random(noise_seed),
        Some("none") => NoiseMode::None,
        Some(text) => return Err(refused("noise", "const, random or none", text)),
    };
    let other = query.text("mix").map(|_| query.whole("mix", 0, SEEDS)).transpose()?;
    let mix_layers = query.layers("mix_layers", num_ws)?;
    let share = query.number("mix_share", 1.0, SHARE)?;
    let style = other.filter(|_| share != 0.0).map(|seed| Style {
        of: Source::Seed(seed),
        layers: mix_layers,
        share,
    });
    let moves = moves(query, config)?;
    let latent = latent(seed, style, moves);
    Ok(Recipe { latent, trunc: query.number("psi", 1.0, PSI)?, class, noise_mode })
}

/// Ways along the first directions, those of length 0 left out.
fn moves(query: &Query, config: &GeneratorConfig) -> Result<Vec<Move>, Refused> {
    let layers = query.layers("layers", config.num_ws())?;
    let text = query.text("by").unwrap_or_default();
    let by: Vec<f64> = match text {
        "" => Vec::new(),
        text => text.split(',').map(|text| number("by", text, BY)).collect::<Result<_, _>>()?,
    };
    let most = MAX_MOVES.min(config.w_dim);
    if by.len() > most {
        return Err(refused("by", &format!("at most {most} numbers"), text));
    }
    let ways = by.into_iter().enumerate().filter(|(_, by)| *by != 0.0);
    let moves: Vec<Move> =
        ways.map(|(direction, by)| Move { direction, layers: layers.clone(), by }).collect();
    if !moves.is_empty() && layers == [config.num_ws() - 1] {
        let last = config.num_ws() - 2;
        let expected = format!("a layer of a convolution, 0 to {last}, for directions");
        return Err(refused("layers", &expected, query.text("layers").unwrap_or_default()));
    }
    Ok(moves)
}

fn latent(seed: u32, style: Option<Style>, mut moves: Vec<Move>) -> Latent {
    match style {
        None if moves.is_empty() => Latent::Of(Source::Seed(seed)),
        None if moves.len() == 1 => {
            let Move { direction, layers, by } = moves.remove(0);
            Latent::Moved { from: Source::Seed(seed), direction, layers, by }
        }
        Some(Style { of: Source::Seed(style), layers, share: 1.0 }) if moves.is_empty() => {
            Latent::Mix { base: seed, style, layers }
        }
        style => Latent::Shaped { base: Source::Seed(seed), style, moves },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::presets::{Cfg, Overrides, train_config};

    fn of(text: &str, c_dim: usize) -> Result<Recipe, Refused> {
        let config = train_config(Cfg::Tiny, 16, c_dim, &Overrides::default()).g;
        recipe(&Query::parse(text, &NAMES)?, &config)
    }

    #[test]
    fn the_plainest_recipe_is_taken() {
        let latent = |text: &str| of(text, 0).unwrap().latent;
        assert_eq!(latent("seed=7"), Latent::Of(Source::Seed(7)));
        assert_eq!(latent("seed=7&mix=3&mix_share=0&by=0,0"), Latent::Of(Source::Seed(7)));
        let mixed = Latent::Mix { base: 7, style: 3, layers: vec![2, 3] };
        assert_eq!(latent("seed=7&mix=3&mix_layers=2-3"), mixed);
        let from = Source::Seed(7);
        let moved = Latent::Moved { from, direction: 1, layers: vec![0, 1], by: -2.0 };
        assert_eq!(latent("seed=7&layers=0-1&by=0,-2"), moved);
        assert!(matches!(latent("mix=3&mix_share=0.5"), Latent::Shaped { .. }));
        assert!(matches!(latent("by=1,1"), Latent::Shaped { style: None, .. }));
    }

    #[test]
    fn noise_has_the_seed_of_the_picture_or_one_of_its_own() {
        let noise = |text: &str| of(text, 0).unwrap().noise_mode;
        assert_eq!(noise("seed=4"), NoiseMode::Const);
        assert_eq!(noise("seed=4&noise=random"), NoiseMode::Random(4));
        assert_eq!(noise("seed=4&noise=random&noise_seed=9"), NoiseMode::Random(9));
        assert_eq!(of("seed=4", 3).unwrap().class, Some(0));
    }

    #[test]
    fn every_parameter_is_held_to_its_bounds() {
        for (text, c_dim, expected) in [
            ("seed=4294967296", 0, "seed: expected a whole number from 0 to 4294967295, came"),
            ("seed=-1", 0, "seed: expected a whole number"),
            ("seed=1&seed=2", 0, "seed: expected once, came again"),
            ("psi=NaN", 0, "psi: expected a number from -2 to 2, came \"NaN\""),
            ("psi=2.01", 0, "psi: expected"),
            ("psi=", 0, "psi: expected"),
            ("class=0", 0, "class: expected none, as these weights have none, came \"0\""),
            ("class=2", 2, "class: expected a whole number from 0 to 1, came \"2\""),
            ("noise=some", 0, "noise: expected const, random or none, came \"some\""),
            ("mix=x", 0, "mix: expected"),
            ("mix_layers=3-2", 0, "mix_layers: expected layers from 0 to 5 such as 0-3, came"),
            ("mix_layers=0-6", 0, "mix_layers: expected"),
            ("mix_share=1.1", 0, "mix_share: expected a number from 0 to 1"),
            ("by=1,inf", 0, "by: expected a number from -20 to 20, came \"inf\""),
            ("layers=5&by=1", 0, "layers: expected a layer of a convolution, 0 to 4"),
            ("sed=1", 0, "sed: expected one of seed, psi"),
        ] {
            let error = of(text, c_dim).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let many = format!("by={}", vec!["1"; 33].join(","));
        assert!(of(&many, 0).unwrap_err().to_string().starts_with("by: expected at most 32"));
    }
}
