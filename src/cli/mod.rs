//! The command line: what a person does at home, and the job when nothing is said.

mod asset;
mod audit;
mod augment;
mod blend;
mod check;
mod convert;
mod count;
mod demo;
mod demo_set;
mod directions;
mod doctor;
mod estimate;
#[cfg(feature = "explore")]
mod explore;
mod generate;
mod inspect;
mod interpolate;
mod metadata;
mod mix;
mod pictures;
mod profile;
mod project;
mod train;
mod verify;
mod weights;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::de::DeserializeOwned;

use crate::data::DataError;
use crate::job::asset::AssetError;
use crate::job::fault;
use crate::job::inputs::InputsError;
use crate::job::launched;
use crate::job::log::Stream;
use crate::job::ocean::{self, Withheld};
use crate::job::policy::{Policy, PolicyError};
use crate::job::problem::ParamsError;
use crate::job::sandbox::Launch;
use crate::job::signals::SecondInterrupt;
use crate::job::state::StateError;
use crate::ops::device::{DeviceChoice, DeviceError};

/// Trains StyleGAN2 where the pictures are. Without a command: the Ocean job on /data.
#[derive(Debug, Parser)]
#[command(version, about, subcommand_negates_reqs = true)]
pub struct Cli {
    /// Root of the job's folders, in place of /data.
    #[arg(long, value_name = "DIR", default_value = launched::ROOT)]
    root: PathBuf,
    /// Limits of the job for every data set, in the form of c2d-policy.json; they only tighten.
    #[arg(long, value_name = "JSON", value_parser = Policy::of_publisher, default_value = r#"{"version": 1}"#)]
    policy: Policy,
    /// Threads [default: the cores that the machine or container allows].
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Said by the launcher of the image, and by nobody else.
    #[arg(long = launched::NAME, hide = true)]
    launched: bool,
    /// What to do at home.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trains on any folder, archive or picture.
    Train(train::TrainArgs),
    /// Draws pictures by itself and trains on them for a few minutes.
    Demo(demo::DemoArgs),
    /// Makes pictures from a generator's weights.
    Generate(generate::GenerateArgs),
    /// Shows in a browser what a generator's weights can make.
    #[cfg(feature = "explore")]
    Explore(explore::ExploreArgs),
    /// Makes a closed loop from seed to seed: APNG, GIF, and films where there is an ffmpeg.
    Interpolate(interpolate::InterpolateArgs),
    /// Gives pictures some layers of others, as a grid.
    Mix(mix::MixArgs),
    /// Looks for the latents that make a picture like yours.
    Project(project::ProjectArgs),
    /// Shows what a generator's weights can change in pictures, and changes it.
    Directions(directions::DirectionsArgs),
    /// Makes one generator of two of the same shape, by resolution.
    Blend(blend::BlendArgs),
    /// Says what a weights file says of itself.
    Inspect(inspect::InspectArgs),
    /// Writes ERC-721 JSON beside pictures.
    Metadata(metadata::MetadataArgs),
    /// Tells whether pictures are exactly what a generator's weights make.
    Verify(verify::VerifyArgs),
    /// Shows what augmentation does, on pictures made from a generator's weights.
    Augment(augment::AugmentArgs),
    /// Reads a network of other StyleGAN2 tools, or writes one for them.
    Convert(convert::ConvertArgs),
    /// For the data owner: says what a training would read; writes nothing.
    Check(check::CheckArgs),
    /// For the data owner: says whether samples of weights are near-copies of pictures.
    Audit(audit::AuditArgs),
    /// Compares this machine's GPU with its processor, op by op, and measures it.
    Doctor(doctor::DoctorArgs),
    /// Measures how fast this machine trains.
    Estimate(estimate::EstimateArgs),
    /// Fills in algorithm.json for publishing, and checks every field of it.
    Asset(Box<asset::AssetArgs>),
}

impl Cli {
    /// Where the log goes: a job's to stdout; at home stdout is for results.
    pub fn log_stream(&self) -> Stream {
        match self.command {
            _ if self.launched => Stream::Launcher,
            None => Stream::Job,
            Some(Command::Check(_)) => Stream::Stdout,
            Some(_) => Stream::Stderr,
        }
    }

    /// What a second Ctrl-C does.
    pub fn second_interrupt(&self) -> SecondInterrupt {
        if self.command.is_some() { SecondInterrupt::Ends } else { SecondInterrupt::Ignored }
    }

    /// Who started the job.
    pub fn launch(&self) -> Launch {
        if self.launched { Launch::ByLauncher } else { Launch::Direct }
    }

    /// Whether pictures of strangers may be decoded.
    pub fn reads_pictures(&self) -> bool {
        use Command::{Audit, Check, Estimate, Train};
        matches!(self.command, None | Some(Train(_) | Check(_) | Audit(_) | Estimate(_)))
    }

    /// Threads to use, where somebody said so.
    pub fn threads(&self) -> Option<usize> {
        self.threads
    }

    /// Does what was asked for.
    ///
    /// # Errors
    /// Fails as the command does; [`exit_code`] tells whose fault it is.
    pub fn run(self, stop: Arc<AtomicBool>, started: Instant) -> Result<()> {
        match self.command {
            None => ocean::run(&self.root, self.policy, self.launch(), (stop, started)),
            Some(Command::Train(args)) => train::run(&args, stop, started),
            Some(Command::Demo(args)) => demo::run(&args, stop, started),
            Some(Command::Generate(args)) => generate::run(&args, &stop),
            #[cfg(feature = "explore")]
            Some(Command::Explore(args)) => explore::run(&args, stop),
            Some(Command::Interpolate(args)) => interpolate::run(&args, &stop),
            Some(Command::Mix(args)) => mix::run(&args, &stop),
            Some(Command::Project(args)) => project::run(&args, &stop),
            Some(Command::Directions(args)) => directions::run(&args, &stop),
            Some(Command::Blend(args)) => blend::run(&args, &stop),
            Some(Command::Inspect(args)) => inspect::run(&args),
            Some(Command::Metadata(args)) => metadata::run(&args),
            Some(Command::Verify(args)) => verify::run(&args, &stop),
            Some(Command::Augment(args)) => augment::run(&args, &stop),
            Some(Command::Convert(args)) => convert::run(&args),
            Some(Command::Check(args)) => check::run(&args, &stop),
            Some(Command::Audit(args)) => audit::run(&args, stop),
            Some(Command::Doctor(args)) => doctor::run(&args, stop),
            Some(Command::Estimate(args)) => estimate::run(&args, stop, started),
            Some(Command::Asset(args)) => asset::run(&args),
        }
    }
}

/// A command line that asks for something impossible.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// The value of a flag `--device`.
fn device_choice(text: &str) -> Result<DeviceChoice, UsageError> {
    choice(text, "auto, cuda or cpu")
}

/// The value of a flag that is one of some words.
fn choice<T: DeserializeOwned>(text: &str, words: &str) -> Result<T, UsageError> {
    let choice = serde_json::from_value(text.to_ascii_lowercase().into());
    choice.map_err(|_| UsageError(format!("expected {words}")))
}

/// 2 if the parameters or the data are refused, 3 if the weights are held back, 0 if a signal asked
/// for the end, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref() {
        Some(DataError::Stopped) => return 0,
        Some(DataError::NoDecoder) => return 1,
        _ => {}
    }
    if error.is::<Withheld>() {
        return 3;
    }
    let is_theirs = error.chain().any(|cause| {
        cause.downcast_ref().is_some_and(DeviceError::is_refusal)
            || cause.is::<ParamsError>()
            || cause.is::<InputsError>()
            || cause.is::<AssetError>()
            || cause.is::<DataError>()
            || cause.is::<PolicyError>()
            || cause.is::<UsageError>()
            || cause.downcast_ref().is_some_and(StateError::is_refusal)
    });
    if is_theirs { 2 } else { 1 }
}

/// The lines that tell a person what went wrong.
pub fn error_lines(error: &anyhow::Error) -> Vec<String> {
    if let Some(params) = error.downcast_ref::<ParamsError>() {
        return params.lines();
    }
    if let Some(asset) = error.downcast_ref::<AssetError>() {
        return asset.lines();
    }
    vec![fault::line(error).unwrap_or_else(|| format!("{error:#}"))]
}
