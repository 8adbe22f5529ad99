//! The networks of StyleGAN2 and the file that holds their weights.
//!
//! A network is a struct of tensors built from a [`candle_nn::VarBuilder`]; [`store::Store`] owns
//! the variables behind it. Images are `[N, C, H, W]` in [-1, 1], labels `[N, c_dim]`.
//!
//! Not here: losses, optimizers, where files lie.

pub mod config;
pub mod discriminator;
pub mod generator;
pub mod layers;
pub mod mapping;
pub mod precision;
pub mod store;
pub mod synthesis;
pub mod transfer;
pub mod weights;

pub use discriminator::{Discriminator, discriminator};
pub use generator::{Generator, generator};
pub use mapping::Truncation;
pub use precision::Precision;
pub use store::Store;
pub use synthesis::Noise;
