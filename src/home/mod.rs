//! Files of the commands at home: pictures that say where they come from, sheets, animations.
//!
//! At home a person's own picture may be shown beside generated ones ([`Canvas`]), and files carry
//! text. A job can do neither: this module stands to its right, and what a job writes goes through
//! [`crate::sample::Picture::to_png`], which knows of nothing but pixels.
//!
//! Every file appears by rename once it is whole, and is made row by row or frame by frame, so that
//! a large one costs no more memory than a small one.

pub mod animation;
pub mod canvas;
pub mod plot;
pub mod png;
pub mod provenance;
pub mod verify;
mod video;
mod whole;

pub use canvas::Canvas;
pub use provenance::Provenance;
