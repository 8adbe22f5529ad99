//! LPIPS: how unlike two pictures look to a network that knows photographs, where somebody brings it.
//!
//! The network is VGG16. Its weights are a safetensors file with the names of the `lpips` package:
//! `net.sliceS.L.weight` and `.bias` for the 13 convolutions, and `lin0.model.1.weight` to
//! `lin4.model.1.weight`, f32. Nothing is downloaded.
//!
//! Reference: Zhang et al. 2018, arXiv:1801.03924; Simonyan and Zisserman 2015, arXiv:1409.1556.

use candle_core::{Device, Result, Tensor, bail};
use safetensors::SafeTensors;

use super::file::tensor;
use crate::ops::{Traced, conv2d};

/// Inputs and outputs of the convolutions of each slice, and where they stand in VGG16.
const SLICES: [&[(usize, usize, usize)]; 5] = [
    &[(0, 3, 64), (2, 64, 64)],
    &[(5, 64, 128), (7, 128, 128)],
    &[(10, 128, 256), (12, 256, 256), (14, 256, 256)],
    &[(17, 256, 512), (19, 512, 512), (21, 512, 512)],
    &[(24, 512, 512), (26, 512, 512), (28, 512, 512)],
];
/// What pictures in [-1, 1] are shifted and scaled by.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// Larger pictures are made smaller first, as in the StyleGAN2-ADA projector.
const MAX_RES: usize = 256;
/// Smaller ones have nothing left for the last slice.
const MIN_RES: usize = 16;
/// Keeps features of length 0 apart from a division by 0.
const TINY: f64 = 1e-20;

/// The network.
pub struct Perceptual {
    slices: Vec<Slice>,
    shift: Tensor,
    scale: Tensor,
}

struct Slice {
    /// `[O, I, 3, 3]` and `[1, O, 1, 1]`
    convs: Vec<(Traced, Traced)>,
    /// What each feature counts, `[1, O, 1, 1]`.
    lin: Traced,
}

/// What the network sees in a picture: features `[N, C, h, w]` of each slice, of length 1.
pub struct Seen(Vec<Traced>);

impl Perceptual {
    /// The network from the bytes of a file.
    ///
    /// # Errors
    /// Fails, naming the tensor, if one is missing or of another shape.
    pub fn from_bytes(bytes: &[u8], device: &Device) -> Result<Self> {
        let file = match SafeTensors::deserialize(bytes) {
            Ok(file) => file,
            Err(error) => bail!("not a safetensors file ({error}); expected LPIPS of VGG16"),
        };
        let slice = |(idx, convs): (usize, &&[(usize, usize, usize)])| {
            let conv = |&(layer, inputs, outputs): &(usize, usize, usize)| {
                let name = format!("net.slice{}.{layer}", idx + 1);
                let dims = [outputs, inputs, 3, 3];
                let weight = tensor(&file, &format!("{name}.weight"), &dims, device)?;
                let bias = tensor(&file, &format!("{name}.bias"), &[outputs], device)?;
                Ok((weight.into(), bias.reshape((1, outputs, 1, 1))?.into()))
            };
            let read = convs.iter().map(conv).collect::<Result<_>>()?;
            let outputs = convs.last().map_or(0, |conv| conv.2);
            let lin = format!("lin{idx}.model.1.weight");
            let lin = tensor(&file, &lin, &[1, outputs, 1, 1], device)?.into();
            Ok(Slice { convs: read, lin })
        };
        let slices = SLICES.iter().enumerate().map(slice).collect::<Result<_>>()?;
        let of = |values: [f32; 3]| Tensor::new(&values, device)?.reshape((1, 3, 1, 1));
        Ok(Self { slices, shift: of(SHIFT)?, scale: of(SCALE)? })
    }

    /// What it sees in `img [N, 1 or 3, R, R]`, values in [-1, 1].
    ///
    /// # Errors
    /// Fails if the picture is too small.
    pub fn see(&self, img: &Traced) -> Result<Seen> {
        let (n, channels, res, _) = img.dims4()?;
        if res < MIN_RES {
            bail!("lpips: expected pictures of {MIN_RES} pixels at least, came {res}");
        }
        let mut x = if channels == 1 {
            Traced::cat(&[img.clone(), img.clone(), img.clone()], 1)?
        } else {
            img.clone()
        };
        if res > MAX_RES {
            let times = res / MAX_RES;
            x = x.reshape((n, 3, MAX_RES, times, MAX_RES, times))?.mean((3, 5))?;
        }
        let x = x.broadcast_sub(&(&self.shift).into())?;
        let mut x = x.broadcast_div(&(&self.scale).into())?;
        let mut seen = Vec::with_capacity(self.slices.len());
        for (idx, Slice { convs, .. }) in self.slices.iter().enumerate() {
            if idx > 0 {
                x = halved(&x)?;
            }
            for (weight, bias) in convs {
                let y = conv2d(&x, weight, 1, 1, 1.0)?.broadcast_add(bias)?;
                x = y.if_positive(&y, &Traced::constant(&y.value().zeros_like()?))?;
            }
            let length = (x.sqr()?.sum_keepdim(1)? + TINY)?.sqrt()?;
            seen.push(x.broadcast_div(&length)?);
        }
        Ok(Seen(seen))
    }

    /// How unlike what is seen is: `[N]`, for one of both `N` may be 1.
    ///
    /// # Errors
    /// Fails if sizes differ.
    pub fn distance(&self, a: &Seen, b: &Seen) -> Result<Traced> {
        let mut parts = Vec::with_capacity(self.slices.len());
        for ((a, b), Slice { lin, .. }) in a.0.iter().zip(&b.0).zip(&self.slices) {
            let off = a.broadcast_sub(b)?.sqr()?.broadcast_mul(lin)?.sum_keepdim(1)?;
            parts.push(off.mean((1, 2, 3))?);
        }
        Traced::stack(&parts, 0)?.sum(0)
    }
}

/// The largest of each 2 x 2 pixels.
fn halved(x: &Traced) -> Result<Traced> {
    let (n, c, h, w) = x.dims4()?;
    let larger = |a: &Traced, b: &Traced| (a - b)?.if_positive(a, b);
    let halves = |x: &Traced, dim: usize| -> Result<Traced> {
        let part = |start| x.narrow(dim, start, 1)?.squeeze(dim)?.contiguous();
        larger(&part(0)?, &part(1)?)
    };
    let rows = halves(&x.reshape((n, c, h / 2, 2, w))?, 3)?; // [N, C, h / 2, w]
    halves(&rows.reshape((n, c, h / 2, w / 2, 2))?, 4)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::{Dtype, TensorView};

    use super::*;
    use crate::ops::grad::grad;

    /// Values that any program can make: `scale * sin(0.7 i + 13 t)` for the tensor `t`.
    fn waves(count: usize, t: usize, scale: f64) -> Vec<f32> {
        let at = |i: usize| (scale * (0.7 * i as f64 + 13.0 * t as f64).sin()) as f32;
        (0..count).map(at).collect()
    }

    fn network() -> Perceptual {
        let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
        for (idx, convs) in SLICES.iter().enumerate() {
            for &(layer, inputs, outputs) in *convs {
                let name = format!("net.slice{}.{layer}", idx + 1);
                let scale = 2.0 / ((inputs * 9) as f64).sqrt();
                let weight = waves(outputs * inputs * 9, layer, scale);
                tensors.push((format!("{name}.weight"), vec![outputs, inputs, 3, 3], weight));
                let bias = waves(outputs, layer + 1, 0.1);
                tensors.push((format!("{name}.bias"), vec![outputs], bias));
            }
            let outputs = convs[convs.len() - 1].2;
            let lin = waves(outputs, 100 + idx, 1.0).into_iter().map(f32::abs).collect();
            tensors.push((format!("lin{idx}.model.1.weight"), vec![1, outputs, 1, 1], lin));
        }
        let bytes: HashMap<String, (Vec<usize>, Vec<u8>)> = tensors
            .into_iter()
            .map(|(name, dims, values)| {
                (name, (dims, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            })
            .collect();
        let views = bytes.iter().map(|(name, (dims, bytes))| {
            (name, TensorView::new(Dtype::F32, dims.clone(), bytes).unwrap())
        });
        let file = safetensors::serialize(views, None).unwrap();
        Perceptual::from_bytes(&file, &Device::Cpu).unwrap()
    }

    fn picture(t: usize) -> Traced {
        let pixels = waves(3 * 32 * 32, t, 1.0);
        Traced::constant(&Tensor::from_vec(pixels, (1, 3, 32, 32), &Device::Cpu).unwrap())
    }

    /// Numbers of `tests/fixtures/lpips.py`, which does the same in PyTorch.
    #[test]
    fn distance_and_slope_are_those_of_pytorch() -> Result<()> {
        let network = network();
        let var = candle_core::Var::from_tensor(picture(1).value())?;
        let img = Traced::variable(&var);
        let target = network.see(&picture(2))?;
        let distance = network.distance(&network.see(&img)?, &target)?;
        let value = distance.value().to_vec1::<f32>()?[0];
        let expected = include_str!("../../tests/fixtures/lpips.json");
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        let expected = |name: &str| expected[name].as_f64().unwrap();
        let value_off = f64::from(value) / expected("distance") - 1.0;
        assert!(value_off.abs() < 1e-4, "{value}");
        let slope = grad(distance.sum_all()?, &[img])?.remove(0).flatten_all()?.to_vec1::<f32>()?;
        let norm = slope.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        assert!((norm / expected("slope_norm") - 1.0).abs() < 1e-3, "{norm}");
        let same = network.distance(&network.see(&picture(2))?, &target)?;
        assert_eq!(same.value().to_vec1::<f32>()?, [0.0]);
        Ok(())
    }

    #[test]
    fn a_file_without_a_layer_is_refused_by_name() {
        let file = safetensors::serialize(HashMap::<String, TensorView>::new(), None).unwrap();
        let error = Perceptual::from_bytes(&file, &Device::Cpu).err().unwrap().to_string();
        assert!(error.contains("net.slice1.0.weight"), "{error}");
    }
}
