//! A network that was read: its shape and its tensors, which fit each other.

use candle_core::{DType, Device, Result, Var, bail};

use super::printable;
use crate::model::config::{Architecture, DiscriminatorConfig, GeneratorConfig};
use crate::model::weights::Header;
use crate::model::{Store, discriminator, generator};
use crate::ops::upfirdn2d::Filter;

/// Difference of two filters that are one, as far as f32 can tell.
const FILTER_TOLERANCE: f64 = 1e-6;

/// Shape of a network.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// Makes pictures.
    Generator(GeneratorConfig),
    /// Judges pictures.
    Discriminator(DiscriminatorConfig),
}

impl Config {
    /// How the image is carried.
    pub fn architecture(&self) -> Architecture {
        match self {
            Self::Generator(config) => config.architecture,
            Self::Discriminator(config) => config.architecture,
        }
    }
}

/// A network that was read.
#[derive(Clone)]
pub struct Network {
    /// Its shape.
    pub config: Config,
    /// Its parameters and buffers under the reference's names, without the filters.
    pub store: Store,
    /// The kind of file that it comes from.
    pub source: &'static str,
    /// What the file says of itself, where it is one of ours.
    pub header: Option<Header>,
    /// Whether the file has the mean of `w`; else it was computed from 4,096 latents.
    pub has_own_mean: bool,
}

/// A tensor under its final name.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// A store of tensors that are exactly those of the network `config`.
///
/// # Errors
/// Fails, naming the tensor, if one is missing, superfluous, of another shape or not finite.
pub(super) fn store_of(config: &Config, tensors: Vec<Named>) -> Result<Store> {
    let store = Store::new(DType::F32, &Device::Cpu);
    for Named { name, dims, values } in tensors {
        if values.iter().any(|value| !value.is_finite()) {
            bail!("{}: expected finite weights; the network is broken", printable(&name));
        }
        store.insert(&name, Var::from_vec(values, dims, &Device::Cpu)?)?;
    }
    let (builder, used) = store.frozen_and_counted();
    match config {
        Config::Generator(config) => _ = generator(config, &builder)?,
        Config::Discriminator(config) => _ = discriminator(config, &builder)?,
    }
    if let Some((name, _)) = store.tensors().into_iter().find(|(name, _)| !used.contains(name)) {
        bail!("{}: superfluous tensor; expected a StyleGAN2 without it", printable(&name));
    }
    Ok(store)
}

/// Refuses a filter of other taps than all networks here have, times `gain`.
///
/// # Errors
/// Fails, naming the filter.
pub(super) fn check_filter(name: &str, values: &[f32], gain: f64) -> Result<()> {
    let expected = Filter::stylegan2().values();
    let is_close = |(a, b): (&f32, &f64)| (f64::from(*a) - b * gain).abs() < FILTER_TOLERANCE;
    if values.len() != expected.len() || !values.iter().zip(&expected).all(is_close) {
        bail!("{}: expected the filter 1, 3, 3, 1; others are not known here", printable(name));
    }
    Ok(())
}
