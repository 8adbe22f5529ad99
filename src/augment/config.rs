//! Which transforms, how probable and how strong.

use serde::{Deserialize, Serialize};

/// The transforms of StyleGAN2-ADA: for each a probability, as a multiplier of `p` (0: never), and
/// for most a strength. "Log2" means that the factor is `2^N(0, std^2)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentConfig {
    /// Left and right change places, half of the time.
    pub xflip: f64,
    /// Quarter turns, any of four.
    pub rotate90: f64,
    /// Shift by whole pixels, uniform.
    pub xint: f64,
    /// The largest such shift, as a share of the size.
    pub xint_max: f64,
    /// Larger or smaller, log2.
    pub scale: f64,
    /// Of the logarithm.
    pub scale_std: f64,
    /// Turned by any angle, uniform.
    pub rotate: f64,
    /// The largest such angle, in half turns.
    pub rotate_max: f64,
    /// Wider and less high by the same factor, log2.
    pub aniso: f64,
    /// Of the logarithm.
    pub aniso_std: f64,
    /// Shift by parts of pixels, normal.
    pub xfrac: f64,
    /// As a share of the size.
    pub xfrac_std: f64,
    /// A number that is added, normal.
    pub brightness: f64,
    /// Of that number.
    pub brightness_std: f64,
    /// Times a number, log2.
    pub contrast: f64,
    /// Of the logarithm.
    pub contrast_std: f64,
    /// Light and dark change places, half of the time.
    pub lumaflip: f64,
    /// Colors turned around gray, uniform.
    pub hue: f64,
    /// The largest such angle, in half turns.
    pub hue_max: f64,
    /// Distance from gray times a number, log2.
    pub saturation: f64,
    /// Of the logarithm.
    pub saturation_std: f64,
    /// Frequency bands louder or softer, log2.
    pub imgfilter: f64,
    /// For each band, lowest first, a further multiplier.
    pub imgfilter_bands: [f64; 4],
    /// Of the logarithm.
    pub imgfilter_std: f64,
    /// Noise in every pixel, its deviation half-normal.
    pub noise: f64,
    /// Of the deviation.
    pub noise_std: f64,
    /// A rectangle is set to zero.
    pub cutout: f64,
    /// Its width and height, as a share of the size.
    pub cutout_size: f64,
}

/// Multipliers, in the order in which the transforms happen.
const MULTIPLIERS: [(&str, Multiplier); 15] = [
    ("xflip", |config| &mut config.xflip),
    ("rotate90", |config| &mut config.rotate90),
    ("xint", |config| &mut config.xint),
    ("scale", |config| &mut config.scale),
    ("rotate", |config| &mut config.rotate),
    ("aniso", |config| &mut config.aniso),
    ("xfrac", |config| &mut config.xfrac),
    ("brightness", |config| &mut config.brightness),
    ("contrast", |config| &mut config.contrast),
    ("lumaflip", |config| &mut config.lumaflip),
    ("hue", |config| &mut config.hue),
    ("saturation", |config| &mut config.saturation),
    ("imgfilter", |config| &mut config.imgfilter),
    ("noise", |config| &mut config.noise),
    ("cutout", |config| &mut config.cutout),
];

type Multiplier = fn(&mut AugmentConfig) -> &mut f64;

impl AugmentConfig {
    /// Each of its transforms alone, by name, with the multiplier that it has here.
    pub fn apart(&self) -> Vec<(&'static str, Self)> {
        let mut none = self.clone();
        for (_, multiplier) in MULTIPLIERS {
            *multiplier(&mut none) = 0.0;
        }
        let alone = |&(name, multiplier): &(&'static str, Multiplier)| {
            let mut alone = none.clone();
            *multiplier(&mut alone) = *multiplier(&mut self.clone());
            (alone != none).then_some((name, alone))
        };
        MULTIPLIERS.iter().filter_map(alone).collect()
    }
}

/// The sets of transforms that have names: b(lit), g(eom), c(olor), f(ilter), n(oise), c(utout).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AugPipe {
    /// Flips, quarter turns, whole pixels.
    Blit,
    /// Scale, angle, aspect, parts of pixels.
    Geom,
    /// Brightness, contrast, luma flip, hue, saturation.
    Color,
    /// Frequency bands.
    Filter,
    /// Noise.
    Noise,
    /// A rectangle that is left out.
    Cutout,
    /// Blit, geom.
    Bg,
    /// Blit, geom, color: what StyleGAN2-ADA trains with.
    Bgc,
    /// Blit, geom, color, filter.
    Bgcf,
    /// Blit, geom, color, filter, noise.
    Bgcfn,
    /// All of them.
    Bgcfnc,
}

impl AugPipe {
    /// The transforms, each with probability `p`, as strong as in StyleGAN2-ADA.
    pub fn config(self) -> AugmentConfig {
        use AugPipe::{Bg, Bgc, Bgcf, Bgcfn, Bgcfnc, Blit, Color, Cutout, Filter, Geom, Noise};
        let if_any = |sets: &[Self]| f64::from(u8::from(sets.contains(&self)));
        let blit = if_any(&[Blit, Bg, Bgc, Bgcf, Bgcfn, Bgcfnc]);
        let geom = if_any(&[Geom, Bg, Bgc, Bgcf, Bgcfn, Bgcfnc]);
        let color = if_any(&[Color, Bgc, Bgcf, Bgcfn, Bgcfnc]);
        AugmentConfig {
            xflip: blit,
            rotate90: blit,
            xint: blit,
            xint_max: 0.125,
            scale: geom,
            scale_std: 0.2,
            rotate: geom,
            rotate_max: 1.0,
            aniso: geom,
            aniso_std: 0.2,
            xfrac: geom,
            xfrac_std: 0.125,
            brightness: color,
            brightness_std: 0.2,
            contrast: color,
            contrast_std: 0.5,
            lumaflip: color,
            hue: color,
            hue_max: 1.0,
            saturation: color,
            saturation_std: 1.0,
            imgfilter: if_any(&[Filter, Bgcf, Bgcfn, Bgcfnc]),
            imgfilter_bands: [1.0; 4],
            imgfilter_std: 1.0,
            noise: if_any(&[Noise, Bgcfn, Bgcfnc]),
            noise_std: 0.1,
            cutout: if_any(&[Cutout, Bgcfnc]),
            cutout_size: 0.5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_say_which_transforms() {
        let sets = [
            ("blit", [1, 0, 0, 0, 0, 0]),
            ("geom", [0, 1, 0, 0, 0, 0]),
            ("color", [0, 0, 1, 0, 0, 0]),
            ("filter", [0, 0, 0, 1, 0, 0]),
            ("noise", [0, 0, 0, 0, 1, 0]),
            ("cutout", [0, 0, 0, 0, 0, 1]),
            ("bg", [1, 1, 0, 0, 0, 0]),
            ("bgc", [1, 1, 1, 0, 0, 0]),
            ("bgcf", [1, 1, 1, 1, 0, 0]),
            ("bgcfn", [1, 1, 1, 1, 1, 0]),
            ("bgcfnc", [1, 1, 1, 1, 1, 1]),
        ];
        for (name, expected) in sets {
            let pipe: AugPipe = serde_json::from_value(name.into()).unwrap();
            let config = pipe.config();
            let of = [config.xint, config.aniso, config.hue, config.imgfilter, config.noise];
            assert_eq!(of, [0, 1, 2, 3, 4].map(|i| f64::from(expected[i])), "{name}");
            assert_eq!(config.cutout, f64::from(expected[5]), "{name}");
            let json = serde_json::to_value(&config).unwrap();
            assert_eq!(serde_json::from_value::<AugmentConfig>(json).unwrap(), config);
        }
    }

    /// What the sum of the parts has, the whole has, and each part has one thing.
    #[test]
    fn apart_every_transform_stands_once() {
        let sets = [(AugPipe::Blit, 3), (AugPipe::Filter, 1), (AugPipe::Bgc, 12)];
        for (pipe, count) in sets {
            assert_eq!(pipe.config().apart().len(), count, "{pipe:?}");
        }
        let whole = AugPipe::Bgcfnc.config();
        let parts = whole.apart();
        assert_eq!(parts.len(), 15);
        for (name, part) in parts {
            let json = serde_json::to_value(&part).unwrap();
            let numbers = json.as_object().unwrap().iter();
            let kept: Vec<&str> = numbers
                .filter(|(key, value)| {
                    MULTIPLIERS.iter().any(|(name, _)| name == key) && **value == 1.0
                })
                .map(|(key, _)| key.as_str())
                .collect();
            assert_eq!(kept, [name]);
            assert_eq!((part.hue_max, part.noise_std), (whole.hue_max, whole.noise_std));
        }
    }
}
