//! Training: losses, the lazy regularisers, the loop of steps.
//!
//! Not here: pictures from files, outputs, clocks that end a run.

pub mod config;
pub mod continued;
pub mod cost;
pub mod draws;
pub mod loss;
pub mod phases;
pub mod presets;
pub mod ranks;
pub mod selftest;
pub mod state;
pub mod trainer;

pub use ranks::Ranks;
pub use trainer::Trainer;
