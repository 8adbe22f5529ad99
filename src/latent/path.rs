//! Ways between latents: straight or along a circle, in `z` or in `w`, and how time passes on them.
//!
//! Reference: Shoemake 1985, Animating rotation with quaternion curves (slerp).

use std::f64::consts::PI;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// Below this angle a circle is as good as a straight line.
const MIN_ANGLE: f64 = 1e-4;

/// A kind of way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// Where it lies.
    pub space: Space,
    /// Its form.
    pub curve: Curve,
}

/// Where a way lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// Before the mapping network.
    Z,
    /// Behind it: fewer surprises on the way.
    W,
}

/// The form of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Curve {
    /// Straight.
    Linear,
    /// Along a circle around the center (0 in `z`, the mean in `w`): directions turn evenly.
    Slerp,
}

/// How time passes between two pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Easing {
    /// Evenly.
    None,
    /// Slow at both ends: a rest at every picture.
    Smooth,
}

impl Easing {
    /// Where one is at time `t`, both from 0 to 1.
    pub fn at(self, t: f64) -> f64 {
        match self {
            Self::None => t,
            Self::Smooth => (1.0 - (PI * t).cos()) / 2.0,
        }
    }
}

/// The leg and the time on it, from 0 to below 1, of each frame of a closed loop of `num_legs`.
pub fn closed_loop(num_legs: usize, frames_per_leg: usize) -> Vec<(usize, f64)> {
    let time = |frame: usize| (frame / frames_per_leg, frame % frames_per_leg);
    let frames = (0..num_legs * frames_per_leg).map(time);
    frames.map(|(leg, frame)| (leg, frame as f64 / frames_per_leg as f64)).collect()
}

/// What lies at `t` on the way from `a` to `b`, vectors of one shape; at 0 and 1 those themselves.
///
/// # Errors
/// Fails if shapes differ.
pub fn between(a: &Tensor, b: &Tensor, t: f64, curve: Curve) -> Result<Tensor> {
    if t == 0.0 || t == 1.0 {
        return Ok(if t == 0.0 { a.clone() } else { b.clone() });
    }
    let (mut of_a, mut of_b) = (1.0 - t, t);
    if curve == Curve::Slerp {
        let dot = |a: &Tensor, b: &Tensor| -> Result<f64> {
            let product = (a * b)?.to_dtype(candle_core::DType::F64)?;
            product.sum_all()?.to_scalar::<f64>()
        };
        let cosine = dot(a, b)? / (dot(a, a)? * dot(b, b)?).sqrt();
        let angle = cosine.clamp(-1.0, 1.0).acos();
        if angle > MIN_ANGLE && angle < PI - MIN_ANGLE {
            (of_a, of_b) = ((of_a * angle).sin() / angle.sin(), (of_b * angle).sin() / angle.sin());
        }
    }
    (a * of_a)? + (b * of_b)?
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn vector(values: [f32; 2]) -> Tensor {
        Tensor::new(&[values], &Device::Cpu).unwrap()
    }

    fn at(a: [f32; 2], b: [f32; 2], t: f64, curve: Curve) -> Vec<f32> {
        let point = between(&vector(a), &vector(b), t, curve).unwrap();
        point.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn between_orthogonal_latents_of_one_length_slerp_is_a_quarter_of_a_circle() {
        for t in [0.0, 0.25, 1.0 / 3.0, 0.5, 1.0] {
            let point = at([2.0, 0.0], [0.0, 2.0], t, Curve::Slerp);
            let angle = t * PI / 2.0;
            assert!((f64::from(point[0]) - 2.0 * angle.cos()).abs() < 1e-6, "{t}: {point:?}");
            assert!((f64::from(point[1]) - 2.0 * angle.sin()).abs() < 1e-6, "{t}: {point:?}");
        }
        assert_eq!(at([2.0, 0.0], [0.0, 2.0], 0.5, Curve::Linear), [1.0, 1.0]);
    }

    #[test]
    fn where_there_is_no_circle_the_way_is_straight() {
        for (a, b) in [([1.0, 2.0], [1.0, 2.0]), ([1.0, 0.0], [-1.0, 0.0]), ([0.0; 2], [4.0, 0.0])]
        {
            assert_eq!(at(a, b, 0.25, Curve::Slerp), at(a, b, 0.25, Curve::Linear));
        }
    }

    #[test]
    fn easing_keeps_both_ends_and_the_middle() {
        for easing in [Easing::None, Easing::Smooth] {
            assert_eq!([0.0, 1.0].map(|t| easing.at(t)), [0.0, 1.0]);
            assert!((easing.at(0.5) - 0.5).abs() < 1e-15);
        }
        assert!(Easing::Smooth.at(0.1) < 0.1 / 3.0);
    }

    #[test]
    fn a_loop_visits_every_picture_once() {
        let frames = closed_loop(3, 4);
        assert_eq!(frames.len(), 12);
        assert_eq!([frames[0], frames[4], frames[11]], [(0, 0.0), (1, 0.0), (2, 0.75)]);
    }
}
