//! How far generated images are from real ones, without a pretrained network.
//!
//! Not here: where images come from, and what is done with a figure.

pub mod spread;
pub mod swd;

pub use spread::Spread;
pub use swd::{Projected, Sketch};
