//! Files of latents: what a projection has found, for the commands that make pictures.
//!
//! Safetensors, all f32: `w [1, num_ws, w_dim]`, and where the noise was looked for as well
//! `noise.0`, `noise.1`, .. `[res, res]` from the first layer on. The metadata entry says which
//! model they are for.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, bail};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;

use crate::model::Generator;

/// Name of the metadata entry.
const ENTRY: &str = "stylegan2_c2d_latents";

/// Latents of one picture.
#[derive(Clone, Debug)]
pub struct Latents {
    /// `[1, num_ws, w_dim]`, not truncated.
    pub ws: Tensor,
    /// `[res, res]` for each layer; empty: those of the weights.
    pub noise_inputs: Vec<Tensor>,
}

impl Latents {
    /// The bytes of a file.
    ///
    /// * `model` - BLAKE3 of the weights that they are for.
    ///
    /// # Errors
    /// Fails if the device does.
    pub fn to_bytes(&self, model: &str) -> Result<Vec<u8>> {
        let mut tensors = vec![("w".to_owned(), &self.ws)];
        let noise = self.noise_inputs.iter().enumerate();
        tensors.extend(noise.map(|(idx, noise)| (format!("noise.{idx}"), noise)));
        let bytes = |tensor: &Tensor| -> Result<Vec<u8>> {
            let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect())
        };
        let all = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, tensor.dims().to_vec(), bytes(tensor)?)));
        let all = all.collect::<Result<Vec<_>>>()?;
        let views = all
            .iter()
            .map(|(name, dims, bytes)| {
                Ok((name, TensorView::new(Dtype::F32, dims.clone(), bytes)?))
            })
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(candle_core::Error::wrap)?;
        let json = json!({ "version": env!("CARGO_PKG_VERSION"), "model": model }).to_string();
        let metadata = HashMap::from([(ENTRY.to_owned(), json)]);
        safetensors::serialize(views, Some(metadata)).map_err(candle_core::Error::wrap)
    }

    /// Latents for generator `g` from the bytes of a file.
    ///
    /// # Errors
    /// Fails if it is no such file, or for a network of another shape.
    pub fn from_bytes(bytes: &[u8], g: &Generator, device: &Device) -> Result<Self> {
        let file = match SafeTensors::deserialize(bytes) {
            Ok(file) => file,
            Err(error) => {
                bail!("not a file of latents ({error}); expected w.safetensors of project")
            }
        };
        let expected = [1, g.config.num_ws(), g.config.w_dim];
        let ws = tensor(&file, "w", &expected, device)?;
        let inputs = g.synthesis.noise_inputs();
        let has_noise = file.tensor("noise.0").is_ok();
        let noise_inputs = inputs
            .iter()
            .enumerate()
            .filter(|_| has_noise)
            .map(|(idx, input)| tensor(&file, &format!("noise.{idx}"), input.dims(), device))
            .collect::<Result<_>>()?;
        Ok(Self { ws, noise_inputs })
    }
}

/// A tensor of a file, f32, of a shape and finite.
///
/// # Errors
/// Says, by its name, what is wrong with it.
pub(super) fn tensor(
    file: &SafeTensors,
    name: &str,
    dims: &[usize],
    device: &Device,
) -> Result<Tensor> {
    let view = match file.tensor(name) {
        Ok(view) if view.dtype() == Dtype::F32 && view.shape() == dims => view,
        Ok(view) => bail!(
            "{name}: expected F32 {dims:?}, came {:?} {:?}; the file is for another network",
            view.dtype(),
            view.shape()
        ),
        Err(_) => bail!("expected a tensor {name}; the file is of another kind"),
    };
    let (chunks, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    if values.iter().any(|value| !value.is_finite()) {
        bail!("{name}: expected finite values; the file is damaged");
    }
    Tensor::from_vec(values, dims, device)
}
