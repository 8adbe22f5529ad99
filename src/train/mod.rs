//! Training: losses, the lazy regularisers, the loop of steps.

pub mod config;
