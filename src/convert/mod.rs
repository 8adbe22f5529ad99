//! Networks that others wrote, read without running any of it, and networks written for others.
//!
//! A pickle is a program; here it is data. [`open`] takes the bytes of a file and the network that
//! is asked for, and refuses whatever it does not know, saying what and where. The shape of the
//! network follows from the names and shapes of its tensors and from the attributes of its modules,
//! and must fit them to the last one.
//!
//! What is read: snapshots of the StyleGAN2-ADA and StyleGAN3 PyTorch tools (config stylegan2),
//! checkpoints in the layout of rosinality's StyleGAN2, and weights of this program. What is
//! written: weights of this program, the reference's state dictionary, ONNX.
//!
//! Not here: files and flags (`cli`).

mod network;
mod onnx;
mod onnx_graph;
mod pickle;
mod proto;
mod pytorch;
mod rosinality;
mod shapes;
mod stylegan2_ada;
mod tensor;
mod torch;
mod value;

use candle_core::{Device, Result, bail};
use serde_json::json;

pub use network::{Config, Network};

use crate::model::config::GeneratorConfig;
use crate::model::weights::{ENTRY, Header, MAX_BYTES, store_from_bytes, to_bytes};
use tensor::Weights;
use torch::{Opened, Storages};
use value::Span;

/// Which network of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The generator with averaged weights, which makes the pictures.
    GEma,
    /// The generator as it was trained.
    G,
    /// The discriminator.
    D,
}

impl Which {
    /// Its name among those that a tool gives to the three.
    fn of(self, [g_ema, g, d]: [&'static str; 3]) -> &'static str {
        match self {
            Self::GEma => g_ema,
            Self::G => g,
            Self::D => d,
        }
    }
}

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Weights of this program: a generator.
    Safetensors,
    /// A generator as an ONNX model.
    Onnx,
    /// The reference's state dictionary as safetensors: a generator or a discriminator.
    Pytorch,
}

/// Reads a network from the bytes of a file.
///
/// # Errors
/// Fails, naming what and where, at anything that is not understood, missing or superfluous.
pub fn open(bytes: &[u8], which: Which) -> Result<Network> {
    if bytes.len() > MAX_BYTES {
        bail!("expected a file of at most {MAX_BYTES} bytes, got {}", bytes.len());
    }
    if is_safetensors(bytes) {
        return ours(bytes, which);
    }
    if !bytes.starts_with(torch::ZIP) && bytes.first() != Some(&0x80) {
        bail!(
            "expected a snapshot (.pkl), a checkpoint (.pt) or weights (.safetensors) of StyleGAN2, got none of them"
        );
    }
    let span = Span { bytes, at: 0 };
    let mut weights = Weights::of_file(bytes.len());
    match torch::open(span)? {
        Opened::Saved(table, storages) => {
            rosinality::read((&table, &storages), which, &mut weights)
        }
        Opened::Plain(table, count) if count == bytes.len() => {
            stylegan2_ada::read((&table, &Storages::Inside), which, &mut weights)
        }
        Opened::Plain(_, count) => {
            bail!("byte {count}: expected the end of the file; it is damaged")
        }
    }
}

/// The bytes of a file that holds `network`.
///
/// # Errors
/// Fails if such a file cannot hold it.
pub fn write(network: &Network, target: Target) -> Result<Vec<u8>> {
    match (target, &network.config) {
        (Target::Pytorch, _) => pytorch::to_bytes(network),
        (Target::Safetensors, Config::Generator(config)) => {
            to_bytes(&header(network, config), &network.store)
        }
        (Target::Onnx, Config::Generator(config)) => onnx::to_bytes(config, &network.store),
        (_, Config::Discriminator(_)) => {
            bail!("expected a generator for such a file, got a discriminator; pytorch has both")
        }
    }
}

/// What our files say of a generator.
fn header(network: &Network, config: &GeneratorConfig) -> Header {
    network.header.clone().unwrap_or_else(|| {
        let training = json!({"converted_from": network.source});
        Header::new(config.clone(), 0, training, json!([]))
    })
}

/// Eight bytes of length, and then the header's JSON.
fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

fn ours(bytes: &[u8], which: Which) -> Result<Network> {
    if which != Which::GEma {
        bail!(
            "expected no choice of a network: weights of this program are the averaged generator"
        );
    }
    let (header, store) = store_from_bytes(bytes, &Device::Cpu)?;
    Ok(Network {
        config: Config::Generator(header.model.clone()),
        store,
        source: ENTRY,
        header: Some(header),
        has_own_mean: true,
    })
}

/// A text from a file, as it may be shown.
fn printable(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
