//! `generator.safetensors`: weights that describe themselves.
//!
//! Tensor names are those of the public PyTorch checkpoints (without the constant
//! `resample_filter`s), all f32; one metadata entry holds a [`Header`] as JSON. Nothing in the
//! file depends on clock or threads.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::GeneratorConfig;
use super::generator::{Generator, generator};
use super::store::{Store, Used};
use crate::data::ClassNames;

/// Name of the metadata entry, by which a file is known.
pub const ENTRY: &str = "stylegan2_c2d";
/// Version of the header's layout.
const FORMAT: u32 = 1;
/// Files above this are refused: a generator at 1024 pixels has about 120 MB.
pub const MAX_BYTES: usize = 2 << 30;
/// Networks above these are refused before anything is built from a file's numbers.
const MAX_DIM: usize = 4096;

/// What a weights file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of this layout.
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Shape of the network.
    pub model: GeneratorConfig,
    /// Real images shown to the discriminator.
    pub cur_nimg: u64,
    /// Options of the training.
    pub training: Value,
    /// Statistics over images shown.
    pub statistics: Value,
    /// What the search for near-copies of the pictures found among samples; null where there was none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub audit: Value,
    /// What classes are called, where that may be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_names: Option<ClassNames>,
}

impl Header {
    /// A header of this program's version, without audit and names of classes.
    pub fn new(model: GeneratorConfig, cur_nimg: u64, training: Value, statistics: Value) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (audit, class_names) = (Value::Null, None);
        Self { format: FORMAT, version, model, cur_nimg, training, statistics, audit, class_names }
    }
}

/// The bytes of a weights file.
///
/// # Errors
/// Fails if a weight is not finite.
pub fn to_bytes(header: &Header, store: &Store) -> Result<Vec<u8>> {
    let tensors = store.tensors().into_iter();
    let tensors = tensors.map(|(name, var)| (name, var.as_detached_tensor())).collect();
    let json = serde_json::to_string(header).map_err(candle_core::Error::wrap)?;
    serialize(tensors, (ENTRY, json))
}

/// A weights file that holds a generator, whole and nothing else.
pub struct GeneratorFile(Vec<u8>);

impl GeneratorFile {
    /// The file of the generator that `header` describes, of weights in `store`.
    ///
    /// # Errors
    /// Fails if the store lacks a tensor of that generator or holds another, or if a weight is not
    /// finite.
    pub fn new(header: &Header, store: &Store) -> Result<Self> {
        let (builder, used) = store.frozen_and_counted();
        generator(&header.model, &builder)?;
        must_all_be_used(store, &used)?;
        to_bytes(header, store).map(Self)
    }

    /// The file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Not a generator's, for tests of what becomes of files.
    #[cfg(test)]
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// The bytes of a safetensors file of f32 tensors with one entry of metadata.
///
/// # Errors
/// Fails if a weight is not finite.
pub fn serialize(tensors: Vec<(String, Tensor)>, entry: (&str, String)) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    for (name, tensor) in tensors {
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if values.iter().any(|value| !value.is_finite()) {
            bail!("{name}: expected finite weights");
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        contents.push((name, tensor.dims().to_vec(), bytes));
    }
    let views = contents
        .iter()
        .map(|(name, dims, bytes)| Ok((name, TensorView::new(Dtype::F32, dims.clone(), bytes)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(candle_core::Error::wrap)?;
    let metadata = HashMap::from([(entry.0.to_owned(), entry.1)]);
    safetensors::serialize(views, Some(metadata)).map_err(candle_core::Error::wrap)
}

/// A generator, as constants, and its header from the bytes of a weights file.
///
/// # Errors
/// Fails, naming the tensor, if anything is missing, superfluous, of another type or shape, or not
/// finite.
pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<(Header, Generator)> {
    let (header, _, generator) = read(bytes, device)?;
    Ok((header, generator))
}

/// The weights themselves, and their header.
///
/// # Errors
/// As [`from_bytes`].
pub fn store_from_bytes(bytes: &[u8], device: &Device) -> Result<(Header, Store)> {
    let (header, store, _) = read(bytes, device)?;
    Ok((header, store))
}

/// All of it: the header, the weights, and the generator that is made of them.
///
/// # Errors
/// As [`from_bytes`].
pub fn read(bytes: &[u8], device: &Device) -> Result<(Header, Store, Generator)> {
    if bytes.len() > MAX_BYTES {
        bail!("expected a weights file of at most {MAX_BYTES} bytes, got {}", bytes.len());
    }
    let header = read_header(bytes)?;
    let tensors = match SafeTensors::deserialize(bytes) {
        Ok(tensors) => tensors,
        Err(error) => bail!("not a whole safetensors file ({error}); copy it again"),
    };
    // The tensors first, then the network that the header describes, from nothing but them: a
    // header that lies about sizes costs no memory.
    let store = Store::new(DType::F32, device);
    for (name, view) in tensors.iter() {
        store.insert(name, Var::from_tensor(&tensor(name, &view, device)?)?)?;
    }
    let (builder, used) = store.frozen_and_counted();
    let generator = generator(&header.model, &builder)?;
    must_all_be_used(&store, &used)?;
    Ok((header, store, generator))
}

/// The values of one tensor of a file.
fn tensor(name: &str, view: &TensorView, device: &Device) -> Result<Tensor> {
    if view.dtype() != Dtype::F32 {
        bail!("{}: expected F32, got {:?}", printable(name), view.dtype());
    }
    let (chunks, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
    if values.iter().any(|value| !value.is_finite()) {
        bail!("{}: expected finite weights; the file is damaged", printable(name));
    }
    Tensor::from_vec(values, view.shape(), device)
}

fn read_header(bytes: &[u8]) -> Result<Header> {
    let metadata = match SafeTensors::read_metadata(bytes) {
        Ok((_, metadata)) => metadata,
        Err(error) => bail!(
            "not a safetensors file ({error}); expected generator.safetensors, or convert the file first"
        ),
    };
    let json = metadata.metadata().as_ref().and_then(|entries| entries.get(ENTRY));
    let Some(json) = json else {
        bail!("a safetensors file, but not of this program: expected metadata \"{ENTRY}\"");
    };
    let header: Header = match serde_json::from_str(json) {
        Ok(header) => header,
        Err(error) => bail!("metadata \"{ENTRY}\" cannot be read: {error}"),
    };
    if header.format != FORMAT {
        bail!(
            "weights of format {}; this program reads format {FORMAT}, use version {}",
            header.format,
            printable(&header.version)
        );
    }
    check(&header.model)?;
    let num_names = header.class_names.as_ref().map_or(0, |names| names.as_slice().len());
    if header.class_names.is_some() && num_names != header.model.c_dim {
        bail!("expected {} class names in the header, got {num_names}", header.model.c_dim);
    }
    Ok(header)
}

/// Refuses sizes that no network of this kind has.
///
/// # Errors
/// Fails if there is one.
pub(crate) fn check(model: &GeneratorConfig) -> Result<()> {
    let res = model.img_resolution;
    let dims = [model.w_dim, model.z_dim, model.channel_max, model.channels(res.max(1))];
    let sensible = res.is_power_of_two()
        && (4..=1024).contains(&res)
        && [1, 3].contains(&model.img_channels)
        && (1..=64).contains(&model.mapping_layers)
        && model.c_dim <= MAX_DIM
        && model.channel_base <= 1024 * MAX_DIM
        && dims.iter().all(|dim| (1..=MAX_DIM).contains(dim))
        && model.conv_clamp.is_none_or(|clamp| clamp > 0.0);
    if !sensible {
        bail!("expected a network that can be built, got {model:?}");
    }
    Ok(())
}

/// # Errors
/// Fails if a tensor was not asked for.
fn must_all_be_used(store: &Store, used: &Used) -> Result<()> {
    match store.tensors().into_iter().find(|(name, _)| !used.contains(name)) {
        None => Ok(()),
        Some((name, _)) => {
            bail!("{}: superfluous tensor; the header describes another network", printable(&name))
        }
    }
}

/// A name from a file, as it may be shown.
fn printable(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::config::Architecture;
    use crate::model::{Noise, Truncation};

    fn tiny() -> GeneratorConfig {
        GeneratorConfig {
            z_dim: 4,
            c_dim: 2,
            w_dim: 6,
            img_resolution: 8,
            img_channels: 3,
            mapping_layers: 2,
            channel_base: 32,
            channel_max: 8,
            conv_clamp: Some(256.0),
            architecture: Architecture::Skip,
        }
    }

    fn saved() -> (Generator, Vec<u8>) {
        let store = Store::new(DType::F32, &Device::Cpu);
        let g = generator(&tiny(), &store.init(3)).unwrap();
        let header = Header::new(tiny(), 4000, json!({"seed": 3}), json!([]));
        (g, to_bytes(&header, &store).unwrap())
    }

    #[test]
    fn a_loaded_generator_makes_the_same_image() -> Result<()> {
        let (g, bytes) = saved();
        let (header, loaded) = from_bytes(&bytes, &Device::Cpu)?;
        assert_eq!((header.cur_nimg, &header.model), (4000, &tiny()));
        let z = Tensor::new(&[[1f32, -2.0, 0.5, 0.1]], &Device::Cpu)?;
        let c = Tensor::new(&[[0f32, 1.0]], &Device::Cpu)?;
        let image = |g: &Generator| {
            let img = g.forward(&z, Some(&c), Truncation::NONE, Noise::Const)?;
            img.flatten_all()?.to_vec1::<f32>()
        };
        assert_eq!(image(&g)?, image(&loaded)?);
        assert_eq!(bytes, saved().1, "same seed, same bytes");
        Ok(())
    }

    #[test]
    fn names_of_classes_are_as_many_as_classes() -> Result<()> {
        let store = Store::new(DType::F32, &Device::Cpu);
        generator(&tiny(), &store.init(3))?;
        let bytes = |names: Vec<String>| {
            let class_names = Some(ClassNames::new(names).unwrap());
            let header = Header::new(tiny(), 0, json!({}), json!([]));
            to_bytes(&Header { class_names, ..header }, &store)
        };
        let (header, _) = from_bytes(&bytes(vec!["b".into(), "a".into()])?, &Device::Cpu)?;
        assert_eq!(header.class_names.unwrap().as_slice(), ["b", "a"]);
        let error = from_bytes(&bytes(vec!["b".into()])?, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("expected 2 class names in the header, got 1"), "{error}");
        assert_eq!(from_bytes(&saved().1, &Device::Cpu)?.0.class_names, None);
        Ok(())
    }

    #[test]
    fn every_truncation_and_every_broken_header_is_refused() {
        let (_, bytes) = saved();
        for len in (0..bytes.len()).step_by(97) {
            assert!(from_bytes(&bytes[..len], &Device::Cpu).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn the_message_names_the_tensor() -> Result<()> {
        let store = Store::new(DType::F32, &Device::Cpu);
        generator(&tiny(), &store.init(3))?;
        let header =
            Header::new(GeneratorConfig { mapping_layers: 3, ..tiny() }, 0, json!({}), json!([]));
        let error = from_bytes(&to_bytes(&header, &store)?, &Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("mapping.fc2"), "{error}");

        let header = Header::new(GeneratorConfig { c_dim: 3, ..tiny() }, 0, json!({}), json!([]));
        let error = from_bytes(&to_bytes(&header, &store)?, &Device::Cpu).unwrap_err();
        assert!(
            error.to_string().contains("mapping.embed.weight: expected shape [6, 3]"),
            "{error}"
        );

        let nan = Tensor::new(f32::NAN, &Device::Cpu)?;
        store.set("synthesis.b4.conv1.noise_strength", &nan)?;
        let error = to_bytes(&Header::new(tiny(), 0, json!({}), json!([])), &store).unwrap_err();
        assert!(error.to_string().contains("b4.conv1.noise_strength"), "{error}");
        Ok(())
    }
}
