//! `convert`: networks of other StyleGAN2 tools as weights of this program, and the other way.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use tracing::info;

use super::UsageError;
use crate::convert::{Config, Network, Target, Which, open, write};
use crate::job::outputs::write_file;
use crate::model::weights::MAX_BYTES;

/// Flags of `convert`.
#[derive(Debug, clap::Args)]
pub(super) struct ConvertArgs {
    /// A snapshot (.pkl), a checkpoint (.pt) or weights (.safetensors).
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What to write: weights of this program, an ONNX model, or a state dictionary of the
    /// StyleGAN2-ADA tools.
    #[arg(long, value_enum, default_value = "safetensors")]
    to: To,
    /// Which network of the file: the averaged generator, the one that was trained, or the
    /// discriminator.
    #[arg(long, value_enum, default_value = "g-ema")]
    network: NetworkName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum To {
    Safetensors,
    Onnx,
    Pytorch,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NetworkName {
    GEma,
    G,
    D,
}

pub(super) fn run(args: &ConvertArgs) -> Result<()> {
    let which = match args.network {
        NetworkName::GEma => Which::GEma,
        NetworkName::G => Which::G,
        NetworkName::D => Which::D,
    };
    let target = match args.to {
        To::Safetensors => Target::Safetensors,
        To::Onnx => Target::Onnx,
        To::Pytorch => Target::Pytorch,
    };
    let refused = |error| UsageError(format!("{}: {error}", args.input.display()));
    let network = open(&read(&args.input)?, which).map_err(refused)?;
    info!("{}", description(&network));
    if !network.has_own_mean {
        info!("the file has no mean of w, so truncation goes towards that of 4,096 latents");
    }
    write_file(&args.out, &write(&network, target).map_err(refused)?)?;
    info!("written to {}", args.out.display());
    Ok(())
}

/// The bytes of a file, but not more than is allowed.
fn read(path: &Path) -> Result<Vec<u8>, UsageError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
    Ok(bytes)
}

/// What was found, in one line.
fn description(network: &Network) -> String {
    let (kind, res, img_channels, c_dim) = match &network.config {
        Config::Generator(g) => ("generator", g.img_resolution, g.img_channels, g.c_dim),
        Config::Discriminator(d) => ("discriminator", d.img_resolution, d.img_channels, d.c_dim),
    };
    let architecture = network.config.architecture();
    format!(
        "a {kind} of {}: {res}x{res} pixels, {img_channels} channels, {c_dim} classes, {architecture:?}",
        network.source
    )
}
