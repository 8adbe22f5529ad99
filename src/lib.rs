//! Trains StyleGAN2 where the pictures are, and lets nothing out but generator weights and
//! generated samples.
//!
//! Modules stand in one line, and each uses those to its left only:
//!
//! ```text
//! ops -> data -> model -> augment -> train -> sample -> metrics -> audit -> convert -> latent -> job -> home
//!     -> explore -> cli -> main
//! ```
//!
//! - [`ops`]: tensors; convolution, resampling, gradients of any order, random numbers.
//! - [`data`]: bytes of any archive or picture, to a set of squares in memory.
//! - [`model`]: generator, discriminator, and the file that holds weights.
//! - [`augment`]: what is done to pictures before the discriminator sees them.
//! - [`train`]: losses, phases, the training step. Knows no folder and no clock.
//! - [`sample`]: generated pictures and grids of them.
//! - [`metrics`]: how far samples are from the data.
//! - [`audit`]: whether samples are copies of the data.
//! - [`convert`]: networks that other tools wrote, and networks for them.
//! - [`latent`]: what is done with a generator's latents: paths, mixtures, directions, projections.
//! - [`job`]: parameters, inputs, outputs, log, and the run that ties them together.
//! - [`home`]: files of the commands at home, which say where pictures come from; out of a job's reach.
//! - `explore`: the page that shows a generator in a browser; a feature that the images leave out.
//! - [`cli`]: the commands.
//!
//! The way of the data:
//!
//! ```text
//! /data/inputs/*  -- job::inputs   --> assets (files, folders), whose names go no further
//!                 -- data::scan    --> counts, resolution, classes; headers only
//!                 -- data::load    --> u8 [N, 3, R, R] in memory, ordered by content
//!                 -- data::Batches --> f32 [B, 3, R, R] in [-1, 1], labels [B, c_dim]
//!                 -- train::Trainer -> gradients, Adam, the moving average g_ema
//! job::run:  g_ema -- sample, model::weights --> /data/outputs, by rename
//! ```
//!
//! Decisions that hold the rest up: every op is closed under differentiation
//! ([`mod@ops::grad`]); every random number is a pure function of (seed, stream, step, index)
//! ([`ops::rng`]); what people write is resolved once into a configuration without "auto"
//! ([`job::params`], [`train::config`]); logs are public ([`job::log`]).

pub mod audit;
pub mod augment;
pub mod cli;
pub mod convert;
pub mod data;
#[cfg(feature = "explore")]
pub mod explore;
pub mod home;
pub mod job;
pub mod latent;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod sample;
pub mod train;
