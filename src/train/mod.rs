//! Training: losses, the lazy regularisers, the loop of steps.
//!
//! Not here: pictures from files, outputs, clocks that end a run.

pub mod ada;
pub mod config;
pub mod continued;
pub mod cost;
pub mod draws;
pub mod loss;
mod moves;
pub mod phases;
pub mod presets;
pub mod ranks;
mod recovery;
pub mod selftest;
pub mod state;
pub mod trainer;
pub mod transfer;

pub use ranks::Ranks;
pub use trainer::Trainer;
