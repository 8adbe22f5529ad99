//! Our numbers against those of the published implementation.
//!
//! `GOLDEN_DIR=PATH cargo test --release --test reference -- --nocapture` checks other files.
#![expect(unreachable_pub, reason = "a test crate has no interface")]

mod augment;
mod golden;
mod gradients;
mod layers;
mod networks;
mod ops;
mod trajectories;

/// Relative to the largest magnitude of a tensor, in f32: outputs, first-order gradients, and
/// gradients of gradients. Each is some ten times what f32 rounding gives the reference itself.
const OUTPUT: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;
const SECOND_ORDER: f64 = 2e-4;
/// In f64, against the reference's f64.
const F64: f64 = 1e-6;
