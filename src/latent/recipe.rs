//! Everything that decides a picture beside the weights, as it stands in files.

use serde::{Deserialize, Serialize};

use super::path::Way;
use crate::model::Noise;
use crate::ops::rng::{Rng, Stream};

/// How to make one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Where its latents come from.
    pub latent: Latent,
    /// Truncation psi.
    pub trunc: f64,
    /// Its class, where the weights have labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    /// Its noise inputs.
    pub noise_mode: NoiseMode,
}

/// A seed, or a file of latents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// As numpy's `RandomState` means it.
    Seed(u32),
    /// BLAKE3 of a file that a projection has written.
    File(String),
}

/// Latents of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Latent {
    /// Those of a seed or a file.
    Of(Source),
    /// On the way from one to another seed.
    Between {
        /// Where the way begins.
        from: u32,
        /// Where it ends.
        to: u32,
        /// How far along, from 0 to 1.
        at: f64,
        /// Which way.
        way: Way,
    },
    /// One picture with some layers of another.
    Mix {
        /// The seed that most layers are of.
        base: u32,
        /// The seed that `layers` are of.
        style: u32,
        /// Indices into `ws`.
        layers: Vec<usize>,
    },
    /// Moved along a direction that the weights themselves have.
    Moved {
        /// Where from.
        from: Source,
        /// Which direction, the strongest first.
        direction: usize,
        /// Layers that the direction is of and that move: indices into `ws`.
        layers: Vec<usize>,
        /// How far, in standard deviations of `w`.
        by: f64,
    },
    /// Several changes of one picture: first its style, then the moves, one after the other.
    Shaped {
        /// What is changed.
        base: Source,
        /// What it takes from another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        style: Option<Style>,
        /// Where it goes.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        moves: Vec<Move>,
    },
}

/// What a picture takes from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Style {
    /// The other.
    pub of: Source,
    /// Indices into `ws`.
    pub layers: Vec<usize>,
    /// How much of these layers, from 0 to 1; beyond, it is exaggerated.
    pub share: f64,
}

/// A way along a direction that the weights themselves have, as in [`Latent::Moved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// Which direction, the strongest first.
    pub direction: usize,
    /// Layers that the direction is of and that move: indices into `ws`.
    pub layers: Vec<usize>,
    /// How far, in standard deviations of `w`.
    pub by: f64,
}

/// Noise inputs of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NoiseMode {
    /// Those that belong to the weights, or to a file of latents.
    Const,
    /// None.
    None,
    /// Draws of a seed.
    Random(u32),
    /// Draws of a seed, turned by an angle in radians.
    Turned {
        /// The seed.
        seed: u32,
        /// The angle.
        angle: f64,
    },
}

impl NoiseMode {
    /// What the generator is told.
    pub fn noise(self) -> Noise {
        let draws = |seed: u32, step| Rng::new(seed.into(), Stream::LayerNoise, step);
        match self {
            Self::Const => Noise::Const,
            Self::None => Noise::None,
            Self::Random(seed) => Noise::Random(draws(seed, 0)),
            Self::Turned { seed, angle } => {
                Noise::Turned { from: draws(seed, 0), to: draws(seed, 1), angle }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_keeps_every_bit_through_json() {
        let moved = Latent::Moved {
            from: Source::File("00ff".into()),
            direction: 2,
            layers: vec![0, 3],
            by: -1.0 / 3.0,
        };
        let recipe = Recipe {
            latent: moved,
            trunc: 0.1 + 0.2,
            class: None,
            noise_mode: NoiseMode::Turned { seed: 4, angle: std::f64::consts::PI / 7.0 },
        };
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
        let shaped = r#"{"latent":{"shaped":{"base":{"seed":1},"style":{"of":{"seed":2},"layers":[4],"share":0.5},"moves":[{"direction":0,"layers":[1],"by":-2.0}]}},"trunc":0.7,"noise_mode":"none"}"#;
        let recipe: Recipe = serde_json::from_str(shaped).unwrap();
        assert_eq!(serde_json::to_string(&recipe).unwrap(), shaped);
        let plain = r#"{"latent":{"of":{"seed":85}},"trunc":1.0,"noise_mode":"const"}"#;
        let recipe: Recipe = serde_json::from_str(plain).unwrap();
        assert_eq!(serde_json::to_string(&recipe).unwrap(), plain);
    }
}
