//! What is drawn for one image: how far each transform goes.

use std::f64::consts::PI;

use super::config::AugmentConfig;

/// Which distribution a number is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Uniform in [0, 1).
    Uniform,
    /// N(0, 1).
    Normal,
}

/// How far each transform goes with one image. A transform that is left out has the value that
/// changes nothing: the one of [`Values::NONE`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Values {
    /// 1: flipped.
    pub xflip: f64,
    /// Quarter turns, a whole number.
    pub rotate90: f64,
    /// Shift along x and y, a share of the size, before it is rounded to pixels.
    pub xint: [f64; 2],
    /// A factor.
    pub scale: f64,
    /// In radians, before the change of aspect.
    pub rotate_before: f64,
    /// A factor along x, whose inverse is that along y.
    pub aniso: f64,
    /// In radians, after the change of aspect.
    pub rotate_after: f64,
    /// Shift along x and y, a share of the size.
    pub xfrac: [f64; 2],
    /// A number that is added.
    pub brightness: f64,
    /// A factor.
    pub contrast: f64,
    /// 1: flipped.
    pub lumaflip: f64,
    /// In radians.
    pub hue: f64,
    /// A factor.
    pub saturation: f64,
    /// A factor for each band, as drawn, lowest first.
    pub bands: [f64; 4],
    /// Deviation of the noise.
    pub noise: f64,
    /// Width and height of the cut-out, a share of the size.
    pub cutout: f64,
    /// Its centre along x and y, a share of the size.
    pub cutout_center: [f64; 2],
}

impl Values {
    /// Nothing is changed.
    pub const NONE: Self = Self {
        xflip: 0.0,
        rotate90: 0.0,
        xint: [0.0; 2],
        scale: 1.0,
        rotate_before: 0.0,
        aniso: 1.0,
        rotate_after: 0.0,
        xfrac: [0.0; 2],
        brightness: 0.0,
        contrast: 1.0,
        lumaflip: 0.0,
        hue: 0.0,
        saturation: 1.0,
        bands: [1.0; 4],
        noise: 0.0,
        cutout: 0.0,
        cutout_center: [0.5; 2],
    };

    /// Values at strength `p` from the numbers that `next` gives, for pictures of `img_channels`.
    ///
    /// Each transform with a multiplier takes its numbers and then one for whether it is left out,
    /// in this order, also where it is.
    pub fn draw(
        config: &AugmentConfig,
        img_channels: usize,
        p: f64,
        next: impl FnMut(Kind) -> f64,
    ) -> Self {
        let mut draws = Draws { p, next };
        let mut values = Self::NONE;
        values.draw_geometry(config, &mut draws);
        values.draw_color(config, img_channels, &mut draws);
        values.draw_corruptions(config, &mut draws);
        values
    }

    fn draw_geometry(&mut self, c: &AugmentConfig, draws: &mut Draws<impl FnMut(Kind) -> f64>) {
        if c.xflip > 0.0 {
            draws.gated(c.xflip, &mut self.xflip, |d| (d.uniform() * 2.0).floor());
        }
        if c.rotate90 > 0.0 {
            draws.gated(c.rotate90, &mut self.rotate90, |d| (d.uniform() * 4.0).floor());
        }
        if c.xint > 0.0 {
            draws.gated(c.xint, &mut self.xint, |d| [(); 2].map(|()| d.symmetric() * c.xint_max));
        }
        if c.scale > 0.0 {
            draws.gated(c.scale, &mut self.scale, |d| d.log2_normal(c.scale_std));
        }
        // Two turns, so that either happens with probability rotate * p.
        let rotate = draws.half_of(c.rotate);
        if c.rotate > 0.0 {
            draws.at(rotate, &mut self.rotate_before, |d| d.symmetric() * PI * c.rotate_max);
        }
        if c.aniso > 0.0 {
            draws.gated(c.aniso, &mut self.aniso, |d| d.log2_normal(c.aniso_std));
        }
        if c.rotate > 0.0 {
            draws.at(rotate, &mut self.rotate_after, |d| d.symmetric() * PI * c.rotate_max);
        }
        if c.xfrac > 0.0 {
            draws.gated(c.xfrac, &mut self.xfrac, |d| [(); 2].map(|()| d.normal() * c.xfrac_std));
        }
    }

    fn draw_color(
        &mut self,
        c: &AugmentConfig,
        img_channels: usize,
        draws: &mut Draws<impl FnMut(Kind) -> f64>,
    ) {
        let has_colors = img_channels > 1;
        if c.brightness > 0.0 {
            draws.gated(c.brightness, &mut self.brightness, |d| d.normal() * c.brightness_std);
        }
        if c.contrast > 0.0 {
            draws.gated(c.contrast, &mut self.contrast, |d| d.log2_normal(c.contrast_std));
        }
        if c.lumaflip > 0.0 {
            draws.gated(c.lumaflip, &mut self.lumaflip, |d| (d.uniform() * 2.0).floor());
        }
        if c.hue > 0.0 && has_colors {
            draws.gated(c.hue, &mut self.hue, |d| d.symmetric() * PI * c.hue_max);
        }
        if c.saturation > 0.0 && has_colors {
            draws.gated(c.saturation, &mut self.saturation, |d| d.log2_normal(c.saturation_std));
        }
    }

    fn draw_corruptions(&mut self, c: &AugmentConfig, draws: &mut Draws<impl FnMut(Kind) -> f64>) {
        if c.imgfilter > 0.0 {
            for (band, multiplier) in self.bands.iter_mut().zip(c.imgfilter_bands) {
                draws.gated(c.imgfilter * multiplier, band, |d| d.log2_normal(c.imgfilter_std));
            }
        }
        if c.noise > 0.0 {
            draws.gated(c.noise, &mut self.noise, |d| d.normal().abs() * c.noise_std);
        }
        if c.cutout > 0.0 {
            draws.gated(c.cutout, &mut self.cutout, |_| c.cutout_size);
            self.cutout_center = [(); 2].map(|()| draws.uniform());
        }
    }
}

/// Numbers as they are needed, and the strength.
struct Draws<F> {
    p: f64,
    next: F,
}

impl<F: FnMut(Kind) -> f64> Draws<F> {
    fn uniform(&mut self) -> f64 {
        (self.next)(Kind::Uniform)
    }

    fn normal(&mut self) -> f64 {
        (self.next)(Kind::Normal)
    }

    /// Uniform in [-1, 1).
    fn symmetric(&mut self) -> f64 {
        self.uniform() * 2.0 - 1.0
    }

    fn log2_normal(&mut self, std: f64) -> f64 {
        (self.normal() * std).exp2()
    }

    /// The probability of each of two, if one of them is to happen with `multiplier * p`.
    fn half_of(&self, multiplier: f64) -> f64 {
        1.0 - (1.0 - multiplier * self.p).clamp(0.0, 1.0).sqrt()
    }

    /// Draws, and sets `value` with probability `multiplier * p`.
    fn gated<T>(&mut self, multiplier: f64, value: &mut T, draw: impl FnOnce(&mut Self) -> T) {
        self.at(multiplier * self.p, value, draw);
    }

    /// As [`Draws::gated`], with that probability.
    fn at<T>(&mut self, probability: f64, value: &mut T, draw: impl FnOnce(&mut Self) -> T) {
        let drawn = draw(self);
        if self.uniform() < probability {
            *value = drawn;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::AugPipe;
    use crate::ops::rng::{Rng, Stream};

    const COUNT: usize = 40_000;

    fn many(config: &AugmentConfig, p: f64) -> Vec<Values> {
        let of_image = |image: u64| {
            let (rng, mut index) = (Rng::new(11, Stream::Augment, image), 0);
            Values::draw(config, 3, p, |kind| {
                index += 1;
                match kind {
                    Kind::Uniform => rng.uniform(index),
                    Kind::Normal => rng.normal(index),
                }
            })
        };
        (0..COUNT as u64).map(of_image).collect()
    }

    /// A quantity of each image that is 0 where the transform is left out, what it must be between,
    /// how often it is 0 though drawn, and its second moment where drawn.
    struct Fact {
        what: &'static str,
        of: fn(&Values) -> f64,
        probability: f64,
        second_moment: f64,
        bound: f64,
    }

    fn facts(p: f64) -> Vec<Fact> {
        let half = 1.0 - (1.0 - p).sqrt();
        let (third, square) = (1.0 / 3.0, |x: f64| x * x);
        let fact = |what, of: fn(&Values) -> f64, probability, second_moment, bound| Fact {
            what,
            of,
            probability,
            second_moment,
            bound,
        };
        let any = f64::INFINITY;
        vec![
            fact("xflip", |v| v.xflip, p / 2.0, 1.0, 1.0),
            fact("rotate90", |v| v.rotate90, p * 0.75, 14.0 / 3.0, 3.0),
            fact("xint", |v| v.xint[0], p, square(0.125) * third, 0.125),
            fact("xint", |v| v.xint[1], p, square(0.125) * third, 0.125),
            fact("scale", |v| v.scale.log2(), p, square(0.2), any),
            fact("rotate_before", |v| v.rotate_before, half, square(PI) * third, PI),
            fact("aniso", |v| v.aniso.log2(), p, square(0.2), any),
            fact("rotate_after", |v| v.rotate_after, half, square(PI) * third, PI),
            fact("xfrac", |v| v.xfrac[0], p, square(0.125), any),
            fact("xfrac", |v| v.xfrac[1], p, square(0.125), any),
            fact("brightness", |v| v.brightness, p, square(0.2), any),
            fact("contrast", |v| v.contrast.log2(), p, square(0.5), any),
            fact("lumaflip", |v| v.lumaflip, p / 2.0, 1.0, 1.0),
            fact("hue", |v| v.hue, p, square(PI) * third, PI),
            fact("saturation", |v| v.saturation.log2(), p, 1.0, any),
            fact("lowest band", |v| v.bands[0].log2(), p, 1.0, any),
            fact("highest band", |v| v.bands[3].log2(), p, 1.0, any),
            fact("noise", |v| v.noise, p, square(0.1), any),
            fact("cutout", |v| v.cutout, p, square(0.5), 0.5),
        ]
    }

    /// Frequencies and second moments within five deviations of their closed forms.
    #[test]
    fn draws_have_their_probabilities_and_moments() {
        for p in [0.3, 0.8] {
            let values = many(&AugPipe::Bgcfnc.config(), p);
            for Fact { what, of, probability, second_moment, bound } in facts(p) {
                let drawn: Vec<f64> = values.iter().map(of).filter(|value| *value != 0.0).collect();
                let share = drawn.len() as f64 / COUNT as f64;
                let deviation = (probability * (1.0 - probability) / COUNT as f64).sqrt();
                assert!((share - probability).abs() < 5.0 * deviation, "{what}, {p}: {share}");
                assert!(drawn.iter().all(|value| value.abs() <= bound), "{what}");
                let moment = drawn.iter().map(|x| x * x).sum::<f64>() / drawn.len() as f64;
                // The square of a normal draw has deviation sqrt(2) of its mean, others less.
                let deviation = (2.0 / drawn.len() as f64).sqrt();
                let error = (moment / second_moment - 1.0).abs();
                assert!(error < 5.0 * deviation, "{what}, {p}: {moment}");
            }
        }
    }

    /// Signed quantities have mean 0; a cut-out lies anywhere.
    #[test]
    fn draws_have_no_direction() {
        let values = many(&AugPipe::Bgcfnc.config(), 1.0);
        let mean = |of: fn(&Values) -> f64| values.iter().map(of).sum::<f64>() / COUNT as f64;
        let near = |of: fn(&Values) -> f64, expected: f64, deviation: f64| {
            assert!((mean(of) - expected).abs() < 5.0 * deviation / (COUNT as f64).sqrt());
        };
        near(|v| v.xint[0], 0.0, 0.125);
        near(|v| v.scale.log2(), 0.0, 0.2);
        near(|v| v.rotate_before, 0.0, PI);
        near(|v| v.rotate_before * v.rotate_after, 0.0, PI * PI);
        near(|v| v.xfrac[0] * v.xfrac[1], 0.0, 0.125 * 0.125);
        near(|v| v.brightness, 0.0, 0.2);
        near(|v| v.hue, 0.0, PI);
        near(|v| v.noise, 0.1 * (2.0 / PI).sqrt(), 0.1);
        near(|v| v.cutout_center[0], 0.5, 0.3);
        near(|v| v.cutout_center[1], 0.5, 0.3);
    }

    #[test]
    fn at_0_nothing_happens_and_at_1_everything() {
        let config = AugPipe::Bgcfnc.config();
        let center = |v: &Values| Values { cutout_center: [0.5; 2], ..*v };
        assert!(many(&config, 0.0).iter().all(|v| center(v) == Values::NONE));
        for v in many(&config, 1.0) {
            let angles = v.rotate_before != 0.0 && v.rotate_after != 0.0 && v.hue != 0.0;
            let shifts = v.xint[0] != 0.0 && v.xfrac[0] != 0.0 && v.brightness != 0.0;
            let factors = [v.scale, v.aniso, v.contrast, v.saturation];
            let corrupted = v.noise > 0.0 && v.cutout == 0.5;
            let all = angles && shifts && corrupted;
            assert!(all && !factors.contains(&1.0) && !v.bands.contains(&1.0), "{v:?}");
        }
    }

    #[test]
    fn what_is_not_chosen_is_not_drawn() {
        for v in many(&AugPipe::Color.config(), 1.0) {
            let Values { brightness, contrast, lumaflip, hue, saturation, .. } = v;
            let color = Values { brightness, contrast, lumaflip, hue, saturation, ..Values::NONE };
            assert_eq!(v, color);
        }
        let gray = Values::draw(&AugPipe::Color.config(), 1, 1.0, |_| 0.7);
        assert_eq!((gray.hue, gray.saturation), (0.0, 1.0));
        assert_eq!(gray.lumaflip, 1.0);
    }
}
