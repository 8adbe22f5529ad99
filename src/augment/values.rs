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
