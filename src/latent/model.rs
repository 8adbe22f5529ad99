//! A generator at work: the pictures of recipes.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Tensor, bail};

use super::file::Latents;
use super::path::{Curve, Space, between};
use super::recipe::{Latent, Move, Recipe, Source, Style};
use super::sefa::{self, Directions};
use crate::model::weights::{Header, read};
use crate::model::{Generator, Store, Truncation};
use crate::ops::Traced;
use crate::ops::rng::numpy_randn;
use crate::sample::{Picture, label_of_class, latent_of_seed};

/// Latents that the spread of `w` is measured on, and their seed, as in the StyleGAN2-ADA projector.
const SPREAD_SAMPLES: usize = 10_000;
const SPREAD_SEED: u32 = 123;
/// Sets of layers whose directions are remembered.
const MAX_DIRECTIONS: usize = 16;
/// So many pass the mapping network together.
const AT_ONCE: usize = 1000;

/// A generator, its file's header and name, and files of latents for it.
pub struct Model {
    /// What the file says of itself.
    pub header: Header,
    /// Its weights.
    pub store: Store,
    /// The network.
    pub g: Generator,
    /// BLAKE3 of the file, in hexadecimal.
    pub hash: String,
    /// Where it computes.
    pub device: Device,
    files: HashMap<String, Latents>,
    /// Found once, for the layers that were asked for last; the latest at the end.
    directions: Mutex<VecDeque<(Vec<usize>, Arc<Directions>)>>,
    /// Measured once for each class.
    spreads: Mutex<HashMap<Option<usize>, Spread>>,
}

/// Where `w` lies and how far around.
#[derive(Clone)]
pub struct Spread {
    /// `[1, w_dim]`
    pub mean: Tensor,
    /// Root of the mean squared distance from it.
    pub std: f64,
}

impl Model {
    /// A model of the bytes of a weights file.
    ///
    /// # Errors
    /// Fails as [`read`] does.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self> {
        let (header, store, g) = read(bytes, device)?;
        let hash = blake3::hash(bytes).to_hex().to_string();
        let (device, directions) = (device.clone(), Mutex::default());
        let (files, spreads) = (HashMap::new(), Mutex::default());
        Ok(Self { header, store, g, hash, device, files, directions, spreads })
    }

    /// Makes a file of latents known and returns its name for recipes.
    ///
    /// # Errors
    /// Fails if it is none, or not of a network of this shape.
    pub fn add_file(&mut self, bytes: &[u8]) -> Result<String> {
        let latents = Latents::from_bytes(bytes, &self.g, &self.device)?;
        let hash = blake3::hash(bytes).to_hex().to_string();
        self.files.insert(hash.clone(), latents);
        Ok(hash)
    }

    /// The picture of a recipe.
    ///
    /// # Errors
    /// Fails if the recipe is not for this model, or an op does.
    pub fn picture(&self, recipe: &Recipe) -> Result<Picture> {
        let (ws, noise) = (self.ws(recipe)?, recipe.noise_mode.noise());
        if let Some(Latents { noise_inputs, .. }) = self.file_of(&recipe.latent)?
            && !noise_inputs.is_empty()
        {
            let inputs: Vec<Traced> = noise_inputs.iter().map(Traced::constant).collect();
            let synthesis = self.g.synthesis.clone().with_noise_inputs(&inputs)?;
            return Picture::of_ws(&Generator { synthesis, ..self.g.clone() }, &ws, noise);
        }
        Picture::of_ws(&self.g, &ws, noise)
    }

    /// `ws [1, num_ws, w_dim]` of a recipe.
    ///
    /// # Errors
    /// As [`Model::picture`].
    pub fn ws(&self, recipe: &Recipe) -> Result<Tensor> {
        let (class, psi) = (recipe.class, recipe.trunc);
        let truncated = |ws: Tensor| self.truncated(&ws, psi);
        match &recipe.latent {
            Latent::Of(source) => truncated(self.of_source(source, class)?),
            Latent::Between { from, to, at, way } => {
                let w = match way.space {
                    Space::Z => {
                        let z = between(&self.z(*from)?, &self.z(*to)?, *at, way.curve)?;
                        self.w_of(&z, class)?
                    }
                    Space::W => self.between_w(*from, *to, (*at, way.curve), class)?,
                };
                truncated(self.broadcast(&w)?)
            }
            Latent::Mix { base, style, layers } => {
                let style = Style { of: Source::Seed(*style), layers: layers.clone(), share: 1.0 };
                truncated(self.styled(&Source::Seed(*base), &style, class)?)
            }
            Latent::Moved { from, direction, layers, by } => {
                let step = Move { direction: *direction, layers: layers.clone(), by: *by };
                self.moved(&truncated(self.of_source(from, class)?)?, &step, class)
            }
            Latent::Shaped { base, style, moves } => {
                let ws = match style {
                    Some(style) => self.styled(base, style, class)?,
                    None => self.of_source(base, class)?,
                };
                moves.iter().try_fold(truncated(ws)?, |ws, step| self.moved(&ws, step, class))
            }
        }
    }

    /// `ws` of a source with layers of another; not truncated.
    fn styled(&self, base: &Source, style: &Style, class: Option<usize>) -> Result<Tensor> {
        self.check_layers(&style.layers)?;
        let (base, other) = (self.of_source(base, class)?, self.of_source(&style.of, class)?);
        self.each_layer(&base, &style.layers, |i, row| {
            between(row, &other.narrow(1, i, 1)?, style.share, Curve::Linear)
        })
    }

    /// `ws` moved along a direction.
    fn moved(&self, ws: &Tensor, step: &Move, class: Option<usize>) -> Result<Tensor> {
        let length = self.spread(class)?.std * step.by;
        let direction = (self.direction(&step.layers, step.direction)? * length)?;
        self.each_layer(ws, &step.layers, |_, row| row.broadcast_add(&direction))
    }

    /// `ws` with some layers `[1, 1, w_dim]` changed.
    fn each_layer(
        &self,
        ws: &Tensor,
        layers: &[usize],
        change: impl Fn(usize, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let row = |i: usize| {
            let row = ws.narrow(1, i, 1)?;
            if layers.contains(&i) { change(i, &row) } else { Ok(row) }
        };
        let rows = (0..self.g.config.num_ws()).map(row).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&rows, 1)
    }

    /// Mean and spread of `w` for a class.
    ///
    /// # Errors
    /// Fails if an op does.
    pub fn spread(&self, class: Option<usize>) -> Result<Spread> {
        let mut spreads = self.spreads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spread) = spreads.get(&class) {
            return Ok(spread.clone());
        }
        let spread = self.measured_spread(class)?;
        spreads.insert(class, spread.clone());
        Ok(spread)
    }

    fn measured_spread(&self, class: Option<usize>) -> Result<Spread> {
        let z_dim = self.g.config.z_dim;
        let z = numpy_randn(SPREAD_SEED, SPREAD_SAMPLES * z_dim);
        let z = Tensor::from_vec(z, (SPREAD_SAMPLES, z_dim), &self.device)?.to_dtype(DType::F32)?;
        let parts = (0..SPREAD_SAMPLES).step_by(AT_ONCE);
        let parts = parts.map(|start| self.w_of(&z.narrow(0, start, AT_ONCE)?, class));
        let w = Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)?; // [samples, w_dim]
        let mean = w.mean_keepdim(0)?;
        let squared = w.broadcast_sub(&mean)?.sqr()?.sum(1)?.mean_all()?;
        Ok(Spread { mean, std: f64::from(squared.to_scalar::<f32>()?).sqrt() })
    }

    /// `w [N, w_dim]` of latents `z [N, z_dim]`.
    ///
    /// # Errors
    /// Fails if there is no such class, or an op fails.
    pub fn w_of(&self, z: &Tensor, class: Option<usize>) -> Result<Tensor> {
        let label = |class| label_of_class(class, self.g.config.c_dim, &self.device);
        let c = class.map(label).transpose()?;
        let c = c.map(|c| c.repeat((z.dim(0)?, 1))).transpose()?;
        Ok(self.g.mapping.forward(Some(z), c.as_ref())?.value().clone())
    }

    /// The latent of a seed, `[1, z_dim]`.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn z(&self, seed: u32) -> Result<Tensor> {
        latent_of_seed(seed, self.g.config.z_dim, &self.device)
    }

    /// Refuses layers that the network does not have.
    ///
    /// # Errors
    /// Says which there are.
    pub fn check_layers(&self, layers: &[usize]) -> Result<()> {
        let num_ws = self.g.config.num_ws();
        match layers.iter().find(|layer| **layer >= num_ws) {
            Some(layer) => bail!("layer {layer}: expected one of 0 to {}", num_ws - 1),
            None => Ok(()),
        }
    }

    /// All directions of some layers, the strongest first.
    ///
    /// # Errors
    /// Fails if there are none.
    pub fn directions(&self, layers: &[usize]) -> Result<Arc<Directions>> {
        let mut found = self.directions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, directions)) = found.iter().find(|(of, _)| of == layers) {
            return Ok(Arc::clone(directions));
        }
        self.check_layers(layers)?;
        let directions = Arc::new(sefa::directions(&self.store, &self.g.config, layers)?);
        if found.len() >= MAX_DIRECTIONS {
            found.pop_front();
        }
        found.push_back((layers.to_vec(), Arc::clone(&directions)));
        Ok(directions)
    }

    /// One of them, `[1, w_dim]`.
    fn direction(&self, layers: &[usize], idx: usize) -> Result<Tensor> {
        let directions = self.directions(layers)?;
        let count = directions.vectors.len();
        let Some(vector) = directions.vectors.get(idx) else {
            bail!("direction {idx}: expected one below {count}, the length of w");
        };
        let vector: Vec<f32> = vector.iter().map(|value| *value as f32).collect();
        Tensor::from_vec(vector, (1, count), &self.device)
    }

    fn file_of(&self, latent: &Latent) -> Result<Option<&Latents>> {
        match latent {
            Latent::Of(Source::File(hash))
            | Latent::Moved { from: Source::File(hash), .. }
            | Latent::Shaped { base: Source::File(hash), .. } => self.file(hash).map(Some),
            _ => Ok(None),
        }
    }

    fn file(&self, hash: &str) -> Result<&Latents> {
        match self.files.get(hash) {
            Some(latents) => Ok(latents),
            None => bail!("expected the file of latents that the picture is of; give it with --w"),
        }
    }

    /// `ws [1, num_ws, w_dim]`, not truncated.
    fn of_source(&self, source: &Source, class: Option<usize>) -> Result<Tensor> {
        match source {
            Source::Seed(seed) => self.broadcast(&self.w_of(&self.z(*seed)?, class)?),
            Source::File(hash) => Ok(self.file(hash)?.ws.clone()),
        }
    }

    /// On the way between two seeds in `w`; a circle goes around the mean.
    fn between_w(
        &self,
        from: u32,
        to: u32,
        (at, curve): (f64, Curve),
        class: Option<usize>,
    ) -> Result<Tensor> {
        let w = |seed| self.w_of(&self.z(seed)?, class);
        if at == 0.0 || at == 1.0 {
            return w(if at == 0.0 { from } else { to });
        }
        let w_avg = self.g.mapping.w_avg()?;
        let off = |seed| w(seed)?.broadcast_sub(w_avg);
        between(&off(from)?, &off(to)?, at, curve)?.broadcast_add(w_avg)
    }

    fn broadcast(&self, w: &Tensor) -> Result<Tensor> {
        let num_ws = self.g.config.num_ws();
        let ws = self.g.mapping.broadcast(&w.into(), num_ws, Truncation::NONE)?;
        Ok(ws.value().clone())
    }

    fn truncated(&self, ws: &Tensor, psi: f64) -> Result<Tensor> {
        if psi == 1.0 {
            return Ok(ws.clone());
        }
        let w_avg = self.g.mapping.w_avg()?;
        (ws.broadcast_sub(w_avg)? * psi)?.broadcast_add(w_avg)
    }
}
