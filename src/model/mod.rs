//! The networks of StyleGAN2 and the file that holds their weights.

pub mod config;
