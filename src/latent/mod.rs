//! What is done with a generator's latents once it is trained: paths between them, mixtures,
//! directions, projections, and mixtures of two generators.
//!
//! A [`Recipe`] is everything that decides a picture beside the weights; [`Model`] makes the picture
//! of it, always the same and one at a time, so that what a file says of itself can be tried again.
//!
//! Not here: files and flags (`home`, `cli`).

pub mod blend;
pub mod file;
pub mod likeness;
pub mod model;
pub mod noise;
pub mod path;
pub mod perceptual;
pub mod project;
pub mod recipe;
pub mod sefa;

pub use model::Model;
pub use recipe::Recipe;
