//! What is done to pictures before the discriminator sees them, so that few pictures do for long.
//!
//! Real and generated pictures go through the same [`Pipeline`]: random, differentiable, and each
//! transform left out often enough (strength `p`) that the generator need not imitate it. Numbers
//! go one way: a configuration and draws make [`Values`], a plain struct for each image
//! (`values`); values make matrices, taps and masks on the host in f64 (`geometry`, `color`,
//! `corrupt`); these make [`Transforms`], which work on tensors. Every step is linear in the
//! picture, apart from a constant, and differentiable to any order.
//!
//! Two kinds: that of StyleGAN2-ADA, eighteen transforms each with a probability, and
//! `DiffAugment`.
//!
//! Images are `[N, C, H, W]`, C is 1 or 3, values mostly in [-1, 1]. Not here: how `p` is chosen
//! and when it changes (`train`).
//!
//! Reference: Karras et al. 2020, arXiv:2006.06676, appendix B; Zhao et al. 2020, arXiv:2006.10738.

mod color;
mod config;
mod corrupt;
mod diffaug;
mod geometry;
mod pipeline;
mod values;

pub use config::{AugPipe, AugmentConfig};
pub use diffaug::{DiffAugConfig, DiffValues};
pub use pipeline::{Pipeline, Transforms};
pub use values::{Kind, Values};
