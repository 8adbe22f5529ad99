//! The table of parameters: names, defaults, what is allowed, what they mean.
//!
//! Single source of the keys of `algoCustomData.json`, of the flags of `train`, of the README's
//! table and of algorithm.json's `consumerParameters` (`tests/parameters.rs` holds the four
//! together). Every value is read as text, so a flag and a JSON value fail in the same words.

use serde::{Deserialize, Serialize};

use self::read::{boolean, choice, color, cond, power_of_two, real, set, set_or_auto, size, whole};
use super::params::Params;

mod read;

/// How a form should ask for a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A field for a number.
    Number,
    /// A field for text: a number or `auto`, or a color.
    Text,
    /// A check box.
    Boolean,
    /// One of a list of values.
    Select,
}

/// One row of the table.
pub struct Parameter {
    /// Key in JSON.
    pub name: &'static str,
    /// Flag without its dashes: the name in kebab case.
    pub flag: &'static str,
    /// How a form should ask for it.
    pub kind: Kind,
    /// What an absent value means, in words that are themselves allowed; empty: absent.
    pub default: &'static str,
    /// What is allowed, in words.
    pub allowed: &'static str,
    /// What it does, one line.
    pub doc: &'static str,
    /// Sets the parameter from trimmed text; `None` if the text is not allowed.
    pub(in crate::job) set: fn(&mut Params, &str) -> Option<()>,
}

/// Augmentation of what the discriminator sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aug {
    /// As strong as overfitting demands.
    #[default]
    Ada,
    /// Of one strength.
    Fixed,
    /// `DiffAugment`: translation, cutout and color, always.
    DiffAug,
    /// None.
    NoAug,
}

/// Whether a run also writes what a later one needs to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateKind {
    /// It does not.
    #[default]
    Off,
    /// For those who have the same pictures.
    Sealed,
    /// For everybody: at home.
    Plain,
}

/// Every parameter, in the order in which people should meet them.
pub const PARAMETERS: [Parameter; 33] = [
    Parameter {
        name: "resolution",
        flag: "resolution",
        kind: Kind::Select,
        default: "auto",
        allowed: "a power of two from 8 to 1024, or auto",
        doc: "Width and height of the images in pixels; auto: what the pictures give, at most \
              256, without a GPU 64.",
        set: |params, text| {
            set_or_auto(&mut params.resolution, text, |text| power_of_two(text, 8, 1024))
        },
    },
    Parameter {
        name: "cfg",
        flag: "cfg",
        kind: Kind::Select,
        default: "",
        allowed: "auto, stylegan2, paper256, paper512, paper1024, cifar or tiny",
        doc: "Configuration of networks and training; empty: auto with a GPU, tiny without one.",
        set: |params, text| set(&mut params.cfg, choice(text).map(Some)),
    },
    Parameter {
        name: "kimg",
        flag: "kimg",
        kind: Kind::Number,
        default: "1000",
        allowed: "a number from 0.001 to 100000",
        doc: "Length of the training, in thousands of pictures shown to the discriminator.",
        set: |params, text| set(&mut params.kimg, real(text, 0.001, 100_000.0)),
    },
    Parameter {
        name: "batch",
        flag: "batch",
        kind: Kind::Text,
        default: "auto",
        allowed: "a whole number from 1 to 512, or auto",
        doc: "Pictures per step of the optimizer; auto: as the configuration has it.",
        set: |params, text| set_or_auto(&mut params.batch, text, |text| size(text, 1, 512)),
    },
    Parameter {
        name: "batch_gpu",
        flag: "batch-gpu",
        kind: Kind::Text,
        default: "auto",
        allowed: "a whole number from 1 to 512 that divides batch, or auto",
        doc: "Pictures computed at once; fewer need less memory and more time; auto: what fits.",
        set: |params, text| set_or_auto(&mut params.batch_gpu, text, |text| size(text, 1, 512)),
    },
    Parameter {
        name: "gamma",
        flag: "gamma",
        kind: Kind::Text,
        default: "auto",
        allowed: "a number from 0 to 1000, or auto",
        doc: "Weight of the R1 penalty; more is calmer and less varied; auto: by the resolution.",
        set: |params, text| set_or_auto(&mut params.gamma, text, |text| real(text, 0.0, 1000.0)),
    },
    Parameter {
        name: "mbstd_group",
        flag: "mbstd-group",
        kind: Kind::Text,
        default: "auto",
        allowed: "a whole number from 1 to 512 that divides batch_gpu, or auto",
        doc: "Pictures that the discriminator compares for variety; auto: as the configuration has it.",
        set: |params, text| set_or_auto(&mut params.mbstd_group, text, |text| size(text, 1, 512)),
    },
    Parameter {
        name: "g_lr",
        flag: "g-lr",
        kind: Kind::Text,
        default: "auto",
        allowed: "a number from 0 to 0.1, or auto",
        doc: "Learning rate of the generator; auto: as the configuration has it.",
        set: |params, text| set_or_auto(&mut params.g_lr, text, |text| real(text, 0.0, 0.1)),
    },
    Parameter {
        name: "d_lr",
        flag: "d-lr",
        kind: Kind::Text,
        default: "auto",
        allowed: "a number from 0 to 0.1, or auto",
        doc: "Learning rate of the discriminator; auto: as the configuration has it.",
        set: |params, text| set_or_auto(&mut params.d_lr, text, |text| real(text, 0.0, 0.1)),
    },
    Parameter {
        name: "ema_kimg",
        flag: "ema-kimg",
        kind: Kind::Text,
        default: "auto",
        allowed: "a number from 0 to 100000, or auto",
        doc: "Half-life of the average that makes the delivered weights, in thousands of pictures; auto: as the configuration has it.",
        set: |params, text| {
            set_or_auto(&mut params.ema_kimg, text, |text| real(text, 0.0, 100_000.0))
        },
    },
    Parameter {
        name: "pl_weight",
        flag: "pl-weight",
        kind: Kind::Text,
        default: "auto",
        allowed: "a number from 0 to 1000, or auto",
        doc: "Weight of the path length penalty, which makes latents smooth; 0: off; auto: as the configuration has it.",
        set: |params, text| {
            set_or_auto(&mut params.pl_weight, text, |text| real(text, 0.0, 1000.0))
        },
    },
    Parameter {
        name: "style_mixing_prob",
        flag: "style-mixing-prob",
        kind: Kind::Text,
        default: "auto",
        allowed: "a number from 0 to 1, or auto",
        doc: "Probability that two latents share a picture's layers; auto: as the configuration has it.",
        set: |params, text| {
            set_or_auto(&mut params.style_mixing_prob, text, |text| real(text, 0.0, 1.0))
        },
    },
    Parameter {
        name: "device",
        flag: "device",
        kind: Kind::Select,
        default: "auto",
        allowed: "auto, cuda or cpu",
        doc: "Where to train: on a GPU (cuda), on the processor (cpu); auto: a GPU if there is one.",
        set: |params, text| set(&mut params.device, choice(text)),
    },
    Parameter {
        name: "precision",
        flag: "precision",
        kind: Kind::Select,
        default: "auto",
        allowed: "f32, tf32, f16, bf16 or auto",
        doc: "What a GPU computes in: f32, tf32 (products rounded to 10 bits), f16 or bf16 (16 bits at the four highest resolutions); auto: tf32.",
        set: |params, text| set_or_auto(&mut params.precision, text, choice),
    },
    Parameter {
        name: "conv",
        flag: "conv",
        kind: Kind::Select,
        default: "fast",
        allowed: "fast or exact",
        doc: "How the processor convolves: with the fewest products (fast), or with the rounding of plain sums and more time (exact).",
        set: |params, text| set(&mut params.conv, choice(text)),
    },
    Parameter {
        name: "deterministic",
        flag: "deterministic",
        kind: Kind::Boolean,
        default: "false",
        allowed: "true or false",
        doc: "On a GPU: the same seed and pictures give the same weights, at some cost in speed; a CPU always does that.",
        set: |params, text| set(&mut params.deterministic, boolean(text)),
    },
    Parameter {
        name: "seed",
        flag: "seed",
        kind: Kind::Number,
        default: "0",
        allowed: "a whole number from 0 to 4294967295",
        doc: "Seeds every random stream: same seed and pictures, same weights.",
        set: |params, text| set(&mut params.seed, whole(text, 0, u64::from(u32::MAX))),
    },
    Parameter {
        name: "mirror",
        flag: "mirror",
        kind: Kind::Boolean,
        default: "false",
        allowed: "true or false",
        doc: "Show every picture mirrored as well.",
        set: |params, text| set(&mut params.mirror, boolean(text)),
    },
    Parameter {
        name: "mirror_y",
        flag: "mirror-y",
        kind: Kind::Boolean,
        default: "false",
        allowed: "true or false",
        doc: "Show every picture upside down as well.",
        set: |params, text| set(&mut params.mirror_y, boolean(text)),
    },
    Parameter {
        name: "aug",
        flag: "aug",
        kind: Kind::Select,
        default: "ada",
        allowed: "ada, fixed, diffaug or noaug",
        doc: "Augmentation against overfitting: adaptive, of one strength, DiffAugment, or none.",
        set: |params, text| set(&mut params.aug, choice(text)),
    },
    Parameter {
        name: "augpipe",
        flag: "augpipe",
        kind: Kind::Select,
        default: "bgc",
        allowed: "blit, geom, color, filter, noise, cutout, bg, bgc, bgcf, bgcfn or bgcfnc",
        doc: "What aug ada and fixed do: mirror, turn and shift by pixels (blit), scale and turn freely (geom), color, filter, noise, cutout, or those of these initials.",
        set: |params, text| set(&mut params.augpipe, choice(text)),
    },
    Parameter {
        name: "p",
        flag: "p",
        kind: Kind::Text,
        default: "",
        allowed: "a number from 0 to 1",
        doc: "Strength of the augmentation with aug fixed, which needs it; empty: none.",
        set: |params, text| set(&mut params.p, real(text, 0.0, 1.0).map(Some)),
    },
    Parameter {
        name: "target",
        flag: "target",
        kind: Kind::Text,
        default: "auto",
        allowed: "a number from -1 to 1, or auto",
        doc: "With aug ada: how often more the discriminator should be right than wrong on real pictures; auto: 0.6.",
        set: |params, text| set_or_auto(&mut params.target, text, |text| real(text, -1.0, 1.0)),
    },
    Parameter {
        name: "ada_kimg",
        flag: "ada-kimg",
        kind: Kind::Text,
        default: "auto",
        allowed: "a number from 1 to 100000, or auto",
        doc: "With aug ada: thousands of pictures in which the strength can go from 0 to 1; auto: 500, from given weights 100.",
        set: |params, text| {
            set_or_auto(&mut params.ada_kimg, text, |text| real(text, 1.0, 100_000.0))
        },
    },
    Parameter {
        name: "freezed",
        flag: "freezed",
        kind: Kind::Number,
        default: "0",
        allowed: "a whole number from 0 to 32",
        doc: "Layers of the discriminator that stay as they are, from the picture inwards: 4, 7, 10 .. for whole blocks; needs a discriminator from a state.",
        set: |params, text| set(&mut params.freezed, size(text, 0, 32)),
    },
    Parameter {
        name: "d_warmup",
        flag: "d-warmup",
        kind: Kind::Text,
        default: "auto",
        allowed: "a number from 0 to 10000, or auto",
        doc: "After a start from given weights: thousands of pictures in which only the discriminator learns, then as many until the generator learns at its full rate; auto: 2, with a GPU 20.",
        set: |params, text| {
            set_or_auto(&mut params.d_warmup, text, |text| real(text, 0.0, 10_000.0))
        },
    },
    Parameter {
        name: "crop",
        flag: "crop",
        kind: Kind::Select,
        default: "center",
        allowed: "center, pad or stretch",
        doc: "How pictures become square: cut, padded with background, or stretched.",
        set: |params, text| set(&mut params.crop, choice(text)),
    },
    Parameter {
        name: "resize",
        flag: "resize",
        kind: Kind::Select,
        default: "lanczos",
        allowed: "lanczos or box",
        doc: "Filter that scales the pictures.",
        set: |params, text| set(&mut params.resize, choice(text)),
    },
    Parameter {
        name: "background",
        flag: "background",
        kind: Kind::Text,
        default: "white",
        allowed: "white, black or #rrggbb",
        doc: "Color below transparent pictures and around padded ones.",
        set: |params, text| set(&mut params.background, color(text)),
    },
    Parameter {
        name: "cond",
        flag: "cond",
        kind: Kind::Select,
        default: "false",
        allowed: "false, true, labels, folders or assets",
        doc: "Train classes: from dataset.json, one per sub-folder or one per input asset; true: \
              the first of these that is there.",
        set: |params, text| set(&mut params.cond, cond(text)),
    },
    Parameter {
        name: "state",
        flag: "state",
        kind: Kind::Select,
        default: "off",
        allowed: "off, sealed or plain",
        doc: "Also write state.safetensors, from which a later job with the same pictures goes on: sealed so that only such a job can read it; plain: at home only.",
        set: |params, text| set(&mut params.state, choice(text)),
    },
    Parameter {
        name: "max_minutes",
        flag: "max-minutes",
        kind: Kind::Number,
        default: "",
        allowed: "a number from 0.1 to 100000",
        doc: "Stop in time to deliver within this many minutes; empty: no limit.",
        set: |params, text| set(&mut params.max_minutes, real(text, 0.1, 100_000.0).map(Some)),
    },
    Parameter {
        name: "snap_minutes",
        flag: "snap-minutes",
        kind: Kind::Number,
        default: "5",
        allowed: "a number from 0.05 to 1440",
        doc: "Refresh generator.safetensors and samples.png every so many minutes.",
        set: |params, text| set(&mut params.snap_minutes, real(text, 0.05, 1440.0)),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_agree_with_params() {
        for parameter in &PARAMETERS {
            assert_eq!(parameter.flag, parameter.name.replace('_', "-"));
            let mut params = Params::default();
            if !parameter.default.is_empty() {
                assert!((parameter.set)(&mut params, parameter.default).is_some());
            }
            assert_eq!(params, Params::default(), "{}", parameter.name);
        }
    }
}
