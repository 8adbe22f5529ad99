//! The demo's picture set: hearts, suns, trees and houses, drawn from a seed.
//!
//! Made for a training of minutes: four kinds that outline and colour both tell apart, large and
//! flat on one light ground, so that a stranger can name them in a blurred grid of 16 pixel
//! pictures. Place, size, tilt, colour and proportions vary within a kind, so that a generator has
//! a distribution to learn and not four pictures. The set needs no mirroring and no augmentation.
//!
//! Images are planar RGB u8, `[N, 3, res, res]`. Figures are inside tests on `(u, v)`: the origin
//! at the centre, `v` down, the figure within about [-1, 1]. Colours are sRGB in [0, 255], averaged over
//! 4x4 points per pixel as they are: flat figures need no linear light.
//!
//! Not here: files, decoding and tensors (`data`); the command that trains on the set (`cli`).

use std::f64::consts::PI;

use crate::ops::rng::{Rng, Stream};

/// Points per pixel and axis.
const SUPERSAMPLING: usize = 4;

/// The ground of every picture.
const BACKGROUND: Rgb = [244.0, 244.0, 240.0];

type Rgb = [f64; 3];

/// Draws `num_images` pictures of `res` by `res` pixels; the figures are made for 16 and 32.
///
/// Returns `[N, 3, res, res]`. A picture depends on its index, `res` and `seed` alone: the first
/// pictures of a long set are those of a short one, and `res` does not change what is shown.
pub(crate) fn draw(num_images: usize, res: usize, seed: u64) -> Vec<u8> {
    let mut images = vec![0; num_images * 3 * res * res];
    for (image_idx, image) in images.chunks_exact_mut(3 * res * res).enumerate() {
        Figure::of(seed, image_idx as u64).render(image, res);
    }
    images
}

/// What a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Heart,
    Sun,
    Tree,
    House,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Heart, Self::Sun, Self::Tree, Self::House];

    /// The two ends of the range of the main colour.
    fn colors(self) -> [Rgb; 2] {
        match self {
            Self::Heart => [[196.0, 12.0, 48.0], [242.0, 36.0, 36.0]],
            Self::Sun => [[255.0, 170.0, 0.0], [255.0, 208.0, 20.0]],
            Self::Tree => [[10.0, 112.0, 44.0], [52.0, 160.0, 40.0]],
            Self::House => [[24.0, 72.0, 200.0], [40.0, 128.0, 236.0]],
        }
    }
}

/// One picture before it has pixels.
struct Figure {
    kind: Kind,
    /// Centre, in half-sides of the picture.
    center: [f64; 2],
    /// Half the figure's side, in half-sides of the picture.
    size: f64,
    /// Clockwise tilt, in radians.
    tilt: f64,
    /// Main colour.
    color: Rgb,
    /// Proportion of the outline, in [0, 1); its meaning is the kind's.
    shape: f64,
    /// Proportion of the inner part, in [0, 1); its meaning is the kind's.
    detail: f64,
}

impl Figure {
    fn of(seed: u64, image_idx: u64) -> Self {
        let range = |draw, low, high| lerp(low, high, uniform(seed, image_idx, draw));
        let kind = Kind::ALL[(range(0, 0.0, 4.0) as usize).min(3)];
        let [from, to] = kind.colors();
        let hue = range(5, 0.0, 1.0);
        Self {
            kind,
            center: [range(1, -0.08, 0.08), range(2, -0.08, 0.08)],
            size: range(3, 0.76, 0.9),
            tilt: range(4, -0.1, 0.1),
            color: mix(from, to, hue),
            shape: range(6, 0.0, 1.0),
            detail: range(7, 0.0, 1.0),
        }
    }

    /// Fills one picture, `[3, res, res]`.
    fn render(&self, image: &mut [u8], res: usize) {
        let num_points = res * SUPERSAMPLING;
        let at = |point_idx: usize| (2 * point_idx + 1) as f64 / num_points as f64 - 1.0;
        let (sin, cos) = self.tilt.sin_cos();
        for pixel in 0..res * res {
            let mut sum = [0.0; 3];
            for point in 0..SUPERSAMPLING * SUPERSAMPLING {
                let x = at(pixel % res * SUPERSAMPLING + point % SUPERSAMPLING) - self.center[0];
                let y = at(pixel / res * SUPERSAMPLING + point / SUPERSAMPLING) - self.center[1];
                let u = (x * cos + y * sin) / self.size;
                let v = (y * cos - x * sin) / self.size;
                let color = self.color_at(u, v).unwrap_or(BACKGROUND);
                sum.iter_mut().zip(color).for_each(|(sum, value)| *sum += value);
            }
            for (channel, sum) in sum.into_iter().enumerate() {
                let mean = sum / (SUPERSAMPLING * SUPERSAMPLING) as f64;
                image[channel * res * res + pixel] = mean.round() as u8;
            }
        }
    }

    /// The figure's colour at a point, or `None` beside it.
    fn color_at(&self, u: f64, v: f64) -> Option<Rgb> {
        match self.kind {
            Kind::Heart => self.heart(u, v),
            Kind::Sun => self.sun(u, v),
            Kind::Tree => self.tree(u, v),
            Kind::House => self.house(u, v),
        }
    }

    /// The sextic heart curve with its cleft deepened by 1.8; `shape` is its width.
    fn heart(&self, u: f64, v: f64) -> Option<Rgb> {
        let x = u * lerp(1.34, 1.2, self.shape);
        let y = 0.2 - v * 1.2;
        let inside = (x * x + y * y - 1.0).powi(3) <= 1.8 * x * x * y.powi(3);
        inside.then_some(self.color)
    }

    /// A disc with eight rays of a darker colour; `shape` is their length, `detail` the disc's size.
    fn sun(&self, u: f64, v: f64) -> Option<Rgb> {
        let radius = u.hypot(v);
        if radius < lerp(0.54, 0.64, self.detail) {
            return Some(self.color);
        }
        // 1 on the axis of a ray, 0 halfway between two
        let on_axis = (v.atan2(u).rem_euclid(PI / 4.0) - PI / 8.0).abs() / (PI / 8.0);
        let outline = lerp(0.5, lerp(0.92, 1.02, self.shape), on_axis);
        (radius < outline).then_some(mix(self.color, [240.0, 90.0, 0.0], 0.7))
    }

    /// Two tiers of a conifer on a trunk; `shape` is the width, `detail` the upper tier's share.
    fn tree(&self, u: f64, v: f64) -> Option<Rgb> {
        let width = lerp(0.76, 0.96, self.shape);
        let upper = in_triangle(u, v, [-1.0, lerp(-0.1, 0.15, self.detail)], 0.75 * width);
        let lower = in_triangle(u, v, [-0.6, 0.62], width);
        let trunk = u.abs() < 0.17 && (0.6..1.0).contains(&v);
        match (upper || lower, trunk) {
            (true, _) => Some(self.color),
            (_, true) => Some([112.0, 64.0, 28.0]),
            _ => None,
        }
    }

    /// Walls, a dark roof and a door; `shape` is the roof's height, `detail` the door's place.
    fn house(&self, u: f64, v: f64) -> Option<Rgb> {
        let eaves = lerp(-0.3, 0.0, self.shape);
        let door = lerp(-0.32, 0.32, self.detail);
        if (u - door).abs() < 0.2 && (0.3..0.92).contains(&v) {
            Some([255.0, 226.0, 120.0])
        } else if u.abs() < 0.76 && (eaves..0.92).contains(&v) {
            Some(self.color)
        } else {
            in_triangle(u, v, [-0.98, eaves], 1.0).then_some([28.0, 32.0, 84.0])
        }
    }
}

/// Whether a point lies in the triangle with its apex at `[top, _]`, its base at `[_, bottom]`.
fn in_triangle(u: f64, v: f64, [top, bottom]: [f64; 2], half_base: f64) -> bool {
    (top..bottom).contains(&v) && u.abs() < half_base * (v - top) / (bottom - top)
}

fn lerp(from: f64, to: f64, t: f64) -> f64 {
    from + (to - from) * t
}

fn mix(from: Rgb, to: Rgb, t: f64) -> Rgb {
    std::array::from_fn(|channel| lerp(from[channel], to[channel], t))
}

/// A number in [0, 1) that depends on its arguments alone.
fn uniform(seed: u64, image_idx: u64, draw: u64) -> f64 {
    Rng::new(seed, Stream::Pictures, image_idx).uniform(draw)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUM_IMAGES: usize = 2000;

    /// The channels of pixel `pixel` of a planar picture.
    fn rgb(image: &[u8], pixel: usize) -> Rgb {
        let num_pixels = image.len() / 3;
        std::array::from_fn(|channel| f64::from(image[channel * num_pixels + pixel]))
    }

    /// Pictures with their kinds, at seed 0.
    fn pictures(res: usize) -> Vec<(Kind, Vec<u8>)> {
        let images = draw(NUM_IMAGES, res, 0);
        let pictures = images.chunks_exact(3 * res * res).map(<[u8]>::to_vec);
        (0..).map(|image_idx| Figure::of(0, image_idx).kind).zip(pictures).collect()
    }

    fn mean(values: &[u8]) -> f64 {
        values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn a_set_depends_on_its_seed_alone() {
        let images = draw(8, 16, 3);

        assert_eq!(images.len(), 8 * 3 * 16 * 16);
        assert_eq!(images, draw(8, 16, 3));
        assert_eq!(images[..images.len() / 2], draw(4, 16, 3));
        assert_ne!(images, draw(8, 16, 4));
        assert!(draw(0, 16, 3).is_empty());
    }

    #[test]
    fn no_picture_is_drawn_twice() {
        let mut images: Vec<_> = pictures(16).into_iter().map(|(_, image)| image).collect();
        images.sort();
        images.dedup();

        assert_eq!(images.len(), NUM_IMAGES);
    }

    /// 500 of each are expected with a deviation of 19; the bounds are four deviations away.
    #[test]
    fn every_kind_has_its_share() {
        let pictures = pictures(16);

        for kind in Kind::ALL {
            let count = pictures.iter().filter(|picture| picture.0 == kind).count();
            assert!((422..=578).contains(&count), "{kind:?}: {count}");
        }
    }

    /// Red, yellow, green and blue, by the mean colour of what is not ground.
    #[test]
    fn the_colour_tells_the_kind() {
        for (kind, image) in pictures(16) {
            let figure = (0..16 * 16).map(|p| rgb(&image, p)).filter(|&rgb| rgb != BACKGROUND);
            let [r, g, b] =
                figure.fold([0.0; 3], |sum, rgb| std::array::from_fn(|i| sum[i] + rgb[i]));
            let told = match kind {
                Kind::Heart => r > 1.5 * g && r > 1.5 * b,
                Kind::Sun => r > 1.5 * b && g > 1.5 * b,
                Kind::Tree => g > r && g > 1.2 * b,
                Kind::House => b > 1.2 * r && b > 1.2 * g,
            };
            assert!(told, "{kind:?}: {r} {g} {b}");
        }
    }

    /// A figure is large, and ground is on every side of it: it reaches no corner.
    #[test]
    fn the_ground_has_a_third_to_four_fifths_of_a_picture() {
        for res in [16, 32] {
            for (kind, image) in pictures(res) {
                let num_ground = (0..res * res).filter(|&p| rgb(&image, p) == BACKGROUND).count();
                let share = num_ground as f64 / (res * res) as f64;
                assert!((0.33..0.8).contains(&share), "{kind:?}: {share}");
                for corner in [0, res - 1, (res - 1) * res, res * res - 1] {
                    assert_eq!(rgb(&image, corner), BACKGROUND, "{kind:?}");
                }
            }
        }
    }

    /// Only the points differ, 64 or 128 to a side. Edges that run along their rows move most, by
    /// half a point: a house has 2 sides of them, at most 230 from the ground, and
    /// 2 * 230 * (1/128 + 1/256) is 5.4. Two different pictures are 50 apart.
    #[test]
    fn the_resolution_does_not_change_what_is_shown() {
        for ((kind, small), (_, large)) in pictures(16).into_iter().zip(pictures(32)) {
            for (small, large) in small.chunks_exact(16 * 16).zip(large.chunks_exact(32 * 32)) {
                assert!((mean(small) - mean(large)).abs() < 5.4, "{kind:?}");
            }
        }
    }
}
