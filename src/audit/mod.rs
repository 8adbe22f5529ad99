//! Whether a generator gives back pictures that it was trained on: near-copies among its samples,
//! found without a pretrained network.
//!
//! [`Auditor`] knows the set and what a copy is in it, [`Audit`] looks at samples, and [`Finding`]
//! is what it says. What it finds are copies of whole pictures: moved, mirrored, a little larger or
//! smaller, blurred, noisy, compressed, in other light. What it does not find are copied parts, a
//! style, or what somebody could dig out of the weights with latents that no sample has. "No
//! near-copies found" is all that it says, and never that anything is private.
//!
//! Not here: where samples come from, how many there are, what is done with a finding.

mod auditor;
pub mod bound;
mod calibrate;
mod cells;
pub mod copying;
mod finding;
mod frame;
mod gaussian;
mod matching;
mod nearest;
mod plant;

pub use auditor::{Audit, Auditor, MIN_HELD_OUT};
pub use calibrate::Calibration;
pub use finding::{Finding, METHOD, Verdict};
