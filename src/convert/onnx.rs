//! A generator as an ONNX model: mapping, truncation and synthesis with constant noise.
//!
//! Inputs: `z [N, z_dim]`, `c [N, c_dim]` where the generator has labels, and the number
//! `truncation_psi` (1: no truncation). Output: `img [N, img_channels, H, W]`, about [-1, 1].
//!
//! A modulated convolution is written as it is computed here, one weight for the batch with styles
//! before and demodulation behind it; upsampling is a transposed convolution and a filter, each of
//! which any runtime has. The energies of weights are constants of the model.

use candle_core::{Result, Tensor};
use prost::Message;

use super::onnx_graph::{Builder, float, int, ints};
use crate::model::Store;
use crate::model::config::{Architecture, GeneratorConfig};
use crate::ops::bias_act::Activation;
use crate::ops::upfirdn2d::Filter;

/// Learning rate multiplier of the mapping network, as in `model::mapping`.
const MAPPING_LR: f64 = 0.01;

/// The bytes of the model.
///
/// # Errors
/// Fails if a tensor is missing.
pub(super) fn to_bytes(config: &GeneratorConfig, store: &Store) -> Result<Vec<u8>> {
    let mut export = Export { config, store, graph: Builder::default() };
    let w = export.mapping()?;
    let img = export.synthesis(&w)?;
    let res = config.img_resolution as i64;
    export.graph.rename(&img, "img");
    export.graph.output("img", &[None, Some(config.img_channels as i64), Some(res), Some(res)]);
    Ok(export.graph.into_model().encode_to_vec())
}

struct Export<'a> {
    config: &'a GeneratorConfig,
    store: &'a Store,
    graph: Builder,
}

/// A convolution with styles: its name, its input and what it does to the resolution.
struct Layer<'a> {
    name: String,
    x: &'a str,
    up: bool,
    gain: f64,
}

impl Export<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        Ok(self.store.find(name)?.as_detached_tensor())
    }

    /// `x [N, in]` to `[N, out]`: factors on weights and biases are the op's own.
    fn fully_connected(&mut self, x: &str, name: &str, factor: f64, lr: f64) -> Result<String> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let alpha = factor * lr / (weight.dim(1)? as f64).sqrt();
        let bias = self.tensor(&format!("{name}.bias"))?;
        let weight = self.graph.tensor(&format!("{name}.weight"), &weight)?;
        let bias = self.graph.tensor(&format!("{name}.bias"), &bias)?;
        let attributes = vec![float("alpha", alpha), float("beta", factor * lr), int("transB", 1)];
        Ok(self.graph.op("Gemm", &[x, &weight, &bias], attributes))
    }

    /// `x / sqrt(mean(x^2) + 1e-8)`, row by row.
    fn normalize(&mut self, x: &str) -> String {
        let squares = self.graph.op("Mul", &[x, x], vec![]);
        let mean = self.graph.op("ReduceMean", &[&squares], vec![ints("axes", &[1])]);
        let epsilon = self.graph.scalar(1e-8);
        let sum = self.graph.op("Add", &[&mean, &epsilon], vec![]);
        let norm = self.graph.op("Sqrt", &[&sum], vec![]);
        self.graph.op("Div", &[x, &norm], vec![])
    }

    fn leaky_relu(&mut self, x: &str, gain: f64) -> String {
        let x = self.graph.op("LeakyRelu", &[x], vec![float("alpha", 0.2)]);
        let gain = self.graph.scalar(gain * Activation::LRELU.default_gain());
        self.graph.op("Mul", &[&x, &gain], vec![])
    }

    /// The truncated `w [N, w_dim]`, which is the same for all layers.
    fn mapping(&mut self) -> Result<String> {
        self.graph.input("z", &[None, Some(self.config.z_dim as i64)]);
        let mut x = self.normalize("z");
        if self.config.c_dim > 0 {
            self.graph.input("c", &[None, Some(self.config.c_dim as i64)]);
            let embedded = self.fully_connected("c", "mapping.embed", 1.0, 1.0)?;
            let embedded = self.normalize(&embedded);
            x = self.graph.op("Concat", &[&x, &embedded], vec![int("axis", 1)]);
        }
        for k in 0..self.config.mapping_layers {
            x = self.fully_connected(&x, &format!("mapping.fc{k}"), 1.0, MAPPING_LR)?;
            x = self.leaky_relu(&x, 1.0);
        }
        let w_avg = self.tensor("mapping.w_avg")?;
        let w_avg = self.graph.tensor("mapping.w_avg", &w_avg)?;
        self.graph.input("truncation_psi", &[]);
        let from_mean = self.graph.op("Sub", &[&x, &w_avg], vec![]);
        let truncated = self.graph.op("Mul", &[&from_mean, "truncation_psi"], vec![]);
        Ok(self.graph.op("Add", &[&truncated, &w_avg], vec![]))
    }

    /// Block by block, as in `model::synthesis`.
    fn synthesis(&mut self, w: &str) -> Result<String> {
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let constant = self.tensor("synthesis.b4.const")?.unsqueeze(0)?;
        let mut x = self.graph.tensor("synthesis.b4.const", &constant)?;
        let mut img: Option<String> = None;
        for res in self.config.block_resolutions() {
            let block = format!("synthesis.b{res}");
            let is_resnet = self.config.architecture == Architecture::Resnet && res > 4;
            let entered = x.clone();
            if res > 4 {
                let name = format!("{block}.conv0");
                x = self.layer(w, &Layer { name, x: &x, up: true, gain: 1.0 })?;
            }
            let gain = if is_resnet { half } else { 1.0 };
            let name = format!("{block}.conv1");
            x = self.layer(w, &Layer { name, x: &x, up: false, gain })?;
            if is_resnet {
                let skipped = self.skip(&entered, &format!("{block}.skip"), half)?;
                x = self.graph.op("Add", &[&skipped, &x], vec![]);
            }
            let upsampled = img.map(|img| self.upsample(&img, self.config.img_channels));
            let has_rgb =
                self.config.architecture == Architecture::Skip || res == self.config.img_resolution;
            let rgb = has_rgb.then(|| self.torgb(w, &x, &format!("{block}.torgb"))).transpose()?;
            img = match (upsampled.transpose()?, rgb) {
                (Some(img), Some(rgb)) => Some(self.graph.op("Add", &[&img, &rgb], vec![])),
                (img, rgb) => img.or(rgb),
            };
        }
        img.ok_or_else(|| candle_core::Error::msg("expected a generator with a picture"))
    }

    fn styled(&mut self, x: &str, styles: &str, channels: usize) -> String {
        let shape = self.graph.numbers(&[0, channels as i64, 1, 1]);
        let styles = self.graph.op("Reshape", &[styles, &shape], vec![]);
        self.graph.op("Mul", &[x, &styles], vec![])
    }

    /// A convolution with styles, demodulation, noise, bias and activation.
    fn layer(&mut self, w: &str, layer: &Layer) -> Result<String> {
        let Layer { name, x, up, gain } = layer;
        let weight = self.tensor(&format!("{name}.weight"))?; // [O, I, k, k]
        let (out_dim, in_dim, ..) = weight.dims4()?;
        let styles = self.fully_connected(w, &format!("{name}.affine"), 1.0, 1.0)?;
        let x = self.styled(x, &styles, in_dim);
        let x = if *up {
            let weight = weight.transpose(0, 1)?.contiguous()?; // [I, O, k, k]
            let weight = self.graph.tensor(&format!("{name}.weight"), &weight)?;
            let strides = vec![ints("strides", &[2, 2])];
            let x = self.graph.op("ConvTranspose", &[&x, &weight], strides);
            let filter = self.filter(out_dim)?;
            let attributes = vec![int("group", out_dim as i64), ints("pads", &[1; 4])];
            self.graph.op("Conv", &[&x, &filter], attributes)
        } else {
            let weight = self.graph.tensor(&format!("{name}.weight"), &weight)?;
            self.graph.op("Conv", &[&x, &weight], vec![ints("pads", &[1; 4])])
        };
        let energy = weight.sqr()?.sum((2, 3))?.t()?.contiguous()?; // [I, O]
        let energy = self.graph.tensor(&format!("{name}.energy"), &energy)?;
        let squares = self.graph.op("Mul", &[&styles, &styles], vec![]);
        let sum = self.graph.op("MatMul", &[&squares, &energy], vec![]);
        let epsilon = self.graph.scalar(1e-8);
        let sum = self.graph.op("Add", &[&sum, &epsilon], vec![]);
        let norm = self.graph.op("Sqrt", &[&sum], vec![]);
        let dcoefs = self.graph.op("Reciprocal", &[&norm], vec![]);
        let x = self.styled(&x, &dcoefs, out_dim);
        let noise = self.tensor(&format!("{name}.noise_const"))?;
        let noise = noise.broadcast_mul(&self.tensor(&format!("{name}.noise_strength"))?)?;
        let noise = self.graph.tensor(&format!("{name}.noise"), &noise)?;
        let x = self.graph.op("Add", &[&x, &noise], vec![]);
        let x = self.biased(&x, name)?;
        let x = self.leaky_relu(&x, *gain);
        Ok(self.clamped(&x, *gain))
    }

    fn torgb(&mut self, w: &str, x: &str, name: &str) -> Result<String> {
        let weight = self.tensor(&format!("{name}.weight"))?; // [O, I, 1, 1]
        let in_dim = weight.dim(1)?;
        let factor = 1.0 / (in_dim as f64).sqrt();
        let styles = self.fully_connected(w, &format!("{name}.affine"), factor, 1.0)?;
        let x = self.styled(x, &styles, in_dim);
        let weight = self.graph.tensor(&format!("{name}.weight"), &weight)?;
        let x = self.graph.op("Conv", &[&x, &weight], vec![]);
        let x = self.biased(&x, name)?;
        Ok(self.clamped(&x, 1.0))
    }

    /// The short cut of a residual block.
    fn skip(&mut self, x: &str, name: &str, gain: f64) -> Result<String> {
        let weight = self.tensor(&format!("{name}.weight"))?; // [O, I, 1, 1]
        let (out_dim, in_dim, ..) = weight.dims4()?;
        let weight = (weight * (gain / (in_dim as f64).sqrt()))?;
        let weight = self.graph.tensor(&format!("{name}.weight"), &weight)?;
        let x = self.graph.op("Conv", &[x, &weight], vec![]);
        self.upsample(&x, out_dim)
    }

    fn biased(&mut self, x: &str, name: &str) -> Result<String> {
        let bias = self.tensor(&format!("{name}.bias"))?;
        let bias = bias.reshape((1, bias.elem_count(), 1, 1))?;
        let bias = self.graph.tensor(&format!("{name}.bias"), &bias)?;
        Ok(self.graph.op("Add", &[x, &bias], vec![]))
    }

    fn clamped(&mut self, x: &str, gain: f64) -> String {
        let Some(clamp) = self.config.conv_clamp else { return x.to_owned() };
        let (min, max) = (self.graph.scalar(-clamp * gain), self.graph.scalar(clamp * gain));
        self.graph.op("Clip", &[x, &min, &max], vec![])
    }

    /// Twice as wide and high, filtered.
    fn upsample(&mut self, x: &str, channels: usize) -> Result<String> {
        let filter = self.filter(channels)?;
        let attributes =
            vec![int("group", channels as i64), ints("strides", &[2, 2]), ints("pads", &[1; 4])];
        Ok(self.graph.op("ConvTranspose", &[x, &filter], attributes))
    }

    /// The filter that follows zeros between pixels, once for each channel.
    fn filter(&mut self, channels: usize) -> Result<String> {
        let filter = Filter::stylegan2();
        let (h, w) = filter.size();
        let values = filter.values().into_iter().map(|value| (value * 4.0) as f32);
        let values = values.collect::<Vec<_>>().repeat(channels);
        let filter = Tensor::from_vec(values, (channels, 1, h, w), self.store.device())?;
        self.graph.tensor(&format!("filter{channels}"), &filter)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use candle_core::{DType, Device};

    use super::super::proto::Model;
    use super::*;
    use crate::model::generator;

    /// Whatever a runtime asks of any graph: each value is made once, before it is used.
    #[test]
    fn values_are_made_before_they_are_used() -> Result<()> {
        for architecture in [Architecture::Orig, Architecture::Skip, Architecture::Resnet] {
            let config = GeneratorConfig {
                z_dim: 4,
                c_dim: 2,
                w_dim: 6,
                img_resolution: 16,
                img_channels: 1,
                mapping_layers: 2,
                channel_base: 64,
                channel_max: 8,
                conv_clamp: Some(256.0),
                architecture,
            };
            let store = Store::new(DType::F32, &Device::Cpu);
            generator(&config, &store.init(0))?;
            let model = Model::decode(to_bytes(&config, &store)?.as_slice()).unwrap();
            let graph = model.graph.unwrap();
            let inputs: Vec<_> = graph.input.into_iter().map(|input| input.name).collect();
            assert_eq!(inputs, ["z", "c", "truncation_psi"]);
            let mut made: HashSet<String> = inputs.into_iter().collect();
            for constant in graph.initializer {
                let count: i64 = constant.dims.iter().product();
                let size = if constant.data_type == super::super::proto::FLOAT { 4 } else { 8 };
                assert_eq!(constant.raw_data.len() as i64, count * size, "{}", constant.name);
                assert!(made.insert(constant.name));
            }
            let mut used = HashSet::new();
            for node in graph.node {
                for input in node.input {
                    assert!(made.contains(&input), "{}: {input}", node.name);
                    used.insert(input);
                }
                assert!(node.output.into_iter().all(|output| made.insert(output)));
            }
            used.insert(graph.output[0].name.clone());
            assert_eq!(made, used, "nothing is made in vain");
        }
        Ok(())
    }
}
