//! Trains StyleGAN2 where the pictures are.

pub mod cli;
pub mod data;
pub mod job;
pub mod model;
pub mod ops;
pub mod sample;
pub mod train;
