//! Trains StyleGAN2 where the pictures are.

pub mod model;
pub mod ops;
pub mod train;
