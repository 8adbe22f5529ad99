//! The Ocean job: what comes in on `/data`, what may leave it, and what is said meanwhile.
//!
//! Three rules hold here. Logs are public, so every line is one of a closed set, without a path, a
//! file name or anything of a picture (`grammar`); what leaves is a fixed list of files ([`outputs`]); no variable of the
//! environment changes either. [`asset`] publishes the job; it runs at home.

pub mod asset;
mod begin;
pub mod consent;
pub mod fault;
pub mod flags;
pub mod gate;
pub(crate) mod grammar;
mod health;
pub mod inputs;
pub mod keeper;
pub(crate) mod launched;
pub mod log;
pub mod memory;
pub mod ocean;
pub mod outputs;
pub mod params;
pub mod policy;
pub mod prepare;
pub mod problem;
pub mod progress;
pub mod quality;
pub mod resolve;
pub mod resume;
pub mod run;
pub mod sandbox;
pub mod seal;
pub mod signals;
pub mod state;
pub mod statistics;
pub mod table;
