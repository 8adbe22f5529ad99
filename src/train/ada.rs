//! Adaptive discriminator augmentation: as much of it as overfitting demands.
//!
//! An overfitting D is sure of the real images. So the mean sign of its logits on them, `r_t`, is
//! held at a target: above it every augmentation becomes more probable, below it less.
//!
//! Unlike in the published trainer, `p` stays in [0, 1]. It is a probability: beyond 1 nothing
//! changes any more but the way back, which a run of a small set can take thousands of kimg for.
//!
//! Reference: Karras et al. 2020, arXiv:2006.06676, section 3.

use serde::{Deserialize, Serialize};

use super::config::Strength;

/// The controller's state.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ada {
    /// Probability of each augmentation, in [0, 1].
    pub p: f64,
    /// Sum of the steps' mean signs since the last adjustment.
    sum: f64,
    num_steps: u32,
}

impl Ada {
    /// The start of a run: `p` as it is fixed, else 0.
    pub fn new(strength: Strength) -> Self {
        let p = if let Strength::Fixed { p } = strength { p } else { 0.0 };
        Self { p, sum: 0.0, num_steps: 0 }
    }

    /// Counts a step by the mean sign of its real logits; one that is no number says nothing.
    pub fn add(&mut self, real_sign: f64) {
        if real_sign.is_finite() {
            self.sum += real_sign;
            self.num_steps += 1;
        }
    }

    /// Moves `p` by the share that `num_images` have in the time from 0 to 1; starts anew.
    pub fn adjust(&mut self, strength: Strength, num_images: f64) {
        let Self { p, sum, num_steps } = *self;
        *self = Self { p, sum: 0.0, num_steps: 0 };
        if let Strength::Adaptive { target, kimg } = strength
            && num_steps > 0
        {
            let off = sum / f64::from(num_steps) - target;
            let direction = if off == 0.0 { 0.0 } else { off.signum() };
            self.p = (p + direction * num_images / (kimg * 1000.0)).clamp(0.0, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRENGTH: Strength = Strength::Adaptive { target: 0.6, kimg: 1.0 };

    fn moved(p: f64, signs: &[f64]) -> f64 {
        let mut ada = Ada { p, ..Ada::new(STRENGTH) };
        for sign in signs {
            ada.add(*sign);
        }
        ada.adjust(STRENGTH, 64.0);
        assert_eq!((ada.sum, ada.num_steps), (0.0, 0));
        ada.p
    }

    #[test]
    fn p_follows_the_mean_sign() {
        assert_eq!(moved(0.5, &[1.0, 0.5, 0.5, 1.0]), 0.5 + 0.064); // 64 of 1000 images
        assert_eq!(moved(0.5, &[1.0, 0.0, 0.5, 0.5]), 0.5 - 0.064);
        assert_eq!(moved(0.5, &[0.6]), 0.5);
        assert_eq!(moved(0.5, &[]), 0.5);
        assert_eq!(moved(0.5, &[f64::NAN, 1.0]), 0.5 + 0.064);
    }

    #[test]
    fn p_stays_a_probability() {
        assert_eq!(moved(0.01, &[-1.0]), 0.0);
        assert_eq!(moved(0.99, &[1.0]), 1.0);
    }

    #[test]
    fn a_fixed_strength_stays() {
        let strength = Strength::Fixed { p: 0.3 };
        let mut ada = Ada::new(strength);
        ada.add(1.0);
        ada.adjust(strength, 1e9);
        assert_eq!(ada.p, 0.3);
        assert_eq!(Ada::new(Strength::Off).p, 0.0);
    }
}
