//! A trained generator's weights in a network of another shape: what fits is copied.
//!
//! Layers meet by name, so blocks of the same resolution meet, whatever the resolution of the image.
//! Where a layer has another number of inputs or outputs, the part that both have is copied and the
//! rest stays fresh. Weights are scaled at run time by `1 / sqrt(fan_in)`; with another fan-in the
//! copied part is scaled the other way, so that it has the effect that it had. (Not in convolutions
//! with demodulation, which undo any scale.)
//!
//! Labels: `mapping.fc0` takes `z` and the embedded label side by side, and each part meets its own.
//! Where labels are new, the weights of their part start at 0: at first a label changes nothing, and
//! the network makes the pictures that it made. Where there are none any more, their part is left out.
//!
//! Blocks of a higher resolution than there was begin with a toRGB layer of 0, and fade in as it learns
//! (as in progressive growing, Karras et al. 2018): at first the pictures are the old ones, enlarged.
//!
//! A mapping network of another depth stays fresh as a whole, with its mean: what a layer does is
//! told by those behind it.
//!
//! Not here: discriminators, which no file holds.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::config::{Architecture, GeneratorConfig};
use super::store::Store;

/// What became of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it was copied.
    Copied,
    /// The part that both networks have was copied.
    Sliced,
    /// It stays as it was initialised.
    Fresh,
}

/// A tensor of the network, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
}

/// Copies weights of a generator into another one; what is there must be freshly initialised.
///
/// Returns a row for each tensor of the network, by name.
///
/// # Errors
/// Fails if a device does.
pub fn transfer(
    (from_config, from): (&GeneratorConfig, &Store),
    (config, into): (&GeneratorConfig, &Store),
) -> Result<Vec<Row>> {
    let sources: HashMap<String, Var> = from.tensors().into_iter().collect();
    let has_mapping = from_config.mapping_layers == config.mapping_layers;
    let rows = into.tensors().into_iter().map(|(name, var)| {
        let source = sources.get(&name).filter(|_| has_mapping || !name.starts_with("mapping."));
        let Some(source) = source.filter(|source| source.rank() == var.rank()) else {
            if is_fading_in(&name, from_config, config) {
                into.set(&name, &var.zeros_like()?)?;
            }
            return Ok(Row { name, fate: Fate::Fresh });
        };
        if source.dims() == var.dims() && !is_rearranged(&name, from_config, config) {
            into.set(&name, source)?;
            return Ok(Row { name, fate: Fate::Copied });
        }
        let segments = segments(&name, (from_config, config), (source, &var));
        let value = sliced(&name, source, &var, &segments)?;
        into.set(&name, &value)?;
        Ok(Row { name, fate: Fate::Sliced })
    });
    rows.collect()
}

/// The rows as a table of a few lines: for each part of the network, how many tensors were copied,
/// sliced and left fresh.
pub fn table(rows: &[Row]) -> Vec<String> {
    let mut parts: Vec<(&str, [usize; 3])> = Vec::new();
    for row in rows {
        let name = row.name.strip_prefix("synthesis.").unwrap_or(&row.name);
        let part = name.split('.').next().unwrap_or(name);
        let idx = parts.iter().position(|(other, _)| *other == part).unwrap_or_else(|| {
            parts.push((part, [0; 3]));
            parts.len() - 1
        });
        parts[idx].1[row.fate as usize] += 1;
    }
    parts.sort_by_key(|(part, _)| part.strip_prefix('b').and_then(|res| res.parse::<usize>().ok()));
    let lines = parts.iter().map(|(part, [copied, sliced, fresh])| {
        format!("{part:<8} {copied:>6} {sliced:>6} {fresh:>6}")
    });
    let head = format!("{:<8} {:>6} {:>6} {:>6}", "weights", "copied", "sliced", "fresh");
    std::iter::once(head).chain(lines).collect()
}

/// Places along the inputs of a weight that meet: where they begin in the source and in the network,
/// and how many they are.
struct Segment {
    from: usize,
    into: usize,
    len: usize,
}

/// Whether a weight turns the features of a block that is new into a part of the picture.
fn is_fading_in(name: &str, from: &GeneratorConfig, into: &GeneratorConfig) -> bool {
    let is_sum = [from, into].iter().all(|config| config.architecture == Architecture::Skip);
    let res = name.strip_prefix("synthesis.b").and_then(|rest| rest.strip_suffix(".torgb.weight"));
    let res = res.and_then(|res| res.parse::<usize>().ok());
    is_sum && res.is_some_and(|res| res > from.img_resolution)
}

/// Whether a weight of one shape means another thing in the other network.
fn is_rearranged(name: &str, from: &GeneratorConfig, into: &GeneratorConfig) -> bool {
    name == "mapping.fc0.weight" && from.z_dim != into.z_dim
}

fn segments(
    name: &str,
    (from, into): (&GeneratorConfig, &GeneratorConfig),
    (source, var): (&Var, &Var),
) -> Vec<Segment> {
    if name != "mapping.fc0.weight" {
        let len = |var: &Var| var.dims().get(1).copied().unwrap_or(1);
        return vec![Segment { from: 0, into: 0, len: len(source).min(len(var)) }];
    }
    let z = Segment { from: 0, into: 0, len: from.z_dim.min(into.z_dim) };
    let has_labels = from.c_dim > 0 && into.c_dim > 0;
    let len = if has_labels { from.w_dim.min(into.w_dim) } else { 0 };
    vec![z, Segment { from: from.z_dim, into: into.z_dim, len }]
}

/// The value of a tensor `[out, in, ..]`, of which the part in `segments` comes from `source`.
fn sliced(name: &str, source: &Var, var: &Var, segments: &[Segment]) -> Result<Tensor> {
    let flat = |var: &Var| -> Result<Vec<f32>> {
        var.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    };
    let (from, mut into) = (flat(source)?, flat(var)?);
    let [from_dims, into_dims] = [source, var].map(|var| [var.dims(), &[1, 1]].concat());
    let (from_in, into_in) = (from_dims[1], into_dims[1]);
    let rest = into_dims[2..].iter().product::<usize>(); // the same in both: kernel, or pixels
    let is_demodulated = var.rank() == 4 && name.contains(".conv");
    let gain = if is_demodulated { 1.0 } else { (into_in as f32 / from_in as f32).sqrt() };
    let labels_are_new = name == "mapping.fc0.weight" && segments[1].len == 0;
    if labels_are_new {
        let z_dim = segments[1].into;
        into.chunks_exact_mut(into_in).for_each(|row| row[z_dim..].fill(0.0));
    }
    for out in 0..from_dims[0].min(into_dims[0]) {
        for segment in segments {
            for at in 0..segment.len {
                let from_at = (out * from_in + segment.from + at) * rest;
                let into_at = (out * into_in + segment.into + at) * rest;
                let values = from[from_at..][..rest].iter().map(|value| value * gain);
                into[into_at..][..rest].iter_mut().zip(values).for_each(|(to, value)| *to = value);
            }
        }
    }
    Tensor::from_vec(into, var.shape(), &Device::Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Noise, Truncation, generator};
    use crate::ops::Traced;
    use crate::ops::upfirdn2d::{Filter, Upfirdn2d, upfirdn2d};

    fn config(img_resolution: usize, c_dim: usize) -> GeneratorConfig {
        GeneratorConfig {
            z_dim: 6,
            c_dim,
            w_dim: 8,
            img_resolution,
            img_channels: 3,
            mapping_layers: 2,
            channel_base: 128,
            channel_max: 8,
            conv_clamp: Some(256.0),
            architecture: Architecture::Skip,
        }
    }

    /// A generator drawn from `seed`, with biases, noise and a mean that are not 0, as after training.
    fn trained(config: &GeneratorConfig, seed: u64) -> Store {
        let store = Store::new(DType::F32, &Device::Cpu);
        generator(config, &store.init(seed)).unwrap();
        for (name, var) in store.tensors() {
            let is_moved = name.ends_with("bias") || name.ends_with("noise_strength");
            if is_moved || name.ends_with("w_avg") {
                var.set(&var.affine(1.0, 0.05).unwrap()).unwrap();
            }
        }
        store
    }

    fn fresh(config: &GeneratorConfig) -> Store {
        let store = Store::new(DType::F32, &Device::Cpu);
        generator(config, &store.init(99)).unwrap();
        store
    }

    /// The store that a trained generator was transferred into, and the rows.
    fn moved(from: &GeneratorConfig, into: &GeneratorConfig) -> (Store, Store, Vec<Row>) {
        let (trained, store) = (trained(from, 1), fresh(into));
        let rows = transfer((from, &trained), (into, &store)).unwrap();
        assert_eq!(rows.len(), store.tensors().len());
        (trained, store, rows)
    }

    /// Pictures of two latents, of class `class` where there are classes.
    fn images(config: &GeneratorConfig, store: &Store, class: usize) -> Vec<f32> {
        let g = generator(config, &store.frozen()).unwrap();
        let z = crate::ops::rng::numpy_randn(5, 2 * config.z_dim);
        let z = Tensor::from_vec(z, (2, config.z_dim), &Device::Cpu).unwrap();
        let z = z.to_dtype(DType::F32).unwrap();
        let label: Vec<f32> =
            (0..2 * config.c_dim).map(|i| f32::from(i % config.c_dim == class)).collect();
        let c = Tensor::from_vec(label, (2, config.c_dim), &Device::Cpu);
        let c = (config.c_dim > 0).then(|| c.unwrap());
        let truncation = Truncation { psi: 0.7, cutoff: None };
        let img = g.forward(&z, c.as_ref(), truncation, Noise::Const).unwrap();
        img.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn assert_close(a: &[f32], b: &[f32]) {
        let scale = a.iter().fold(0.0, |max: f32, value| max.max(value.abs()));
        assert!(scale > 0.1 && a.len() == b.len());
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4 * scale, "{worst} of {scale}");
    }

    fn fates(rows: &[Row], fate: Fate) -> Vec<&str> {
        rows.iter().filter(|row| row.fate == fate).map(|row| row.name.as_str()).collect()
    }

    fn values(store: &Store, name: &str) -> Vec<f32> {
        let tensors = store.tensors();
        let (_, var) = tensors.iter().find(|(other, _)| other == name).unwrap();
        var.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_same_shape_makes_the_same_pictures_to_the_bit() {
        for config in [config(16, 0), config(16, 3)] {
            let (trained, store, rows) = moved(&config, &config);
            assert_eq!(fates(&rows, Fate::Copied).len(), rows.len());
            assert_eq!(images(&config, &trained, 1), images(&config, &store, 1));
        }
    }

    #[test]
    fn blocks_that_both_resolutions_have_are_equal() {
        for (from, into) in [(32, 64), (64, 32)] {
            let (trained, store, rows) = moved(&config(from, 0), &config(into, 0));
            for row in &rows {
                let is_new = row.name.contains("b64");
                assert_eq!(
                    row.fate,
                    if is_new { Fate::Fresh } else { Fate::Copied },
                    "{}",
                    row.name
                );
                assert!(is_new || values(&trained, &row.name) == values(&store, &row.name));
            }
            assert_eq!(rows.iter().any(|row| row.name.contains("b64")), into == 64);
        }
    }

    #[test]
    fn more_resolution_makes_the_pictures_that_were_enlarged() {
        let (from, into) = (config(8, 0), config(32, 0));
        let (trained, store, _) = moved(&from, &into);
        let small = Tensor::from_vec(images(&from, &trained, 0), (2, 3, 8, 8), &Device::Cpu);
        let mut img = Traced::constant(&small.unwrap());
        for _ in 0..2 {
            img = upfirdn2d(&img, &Upfirdn2d::double(&Filter::stylegan2())).unwrap();
        }
        let enlarged: Vec<f32> = img.value().flatten_all().unwrap().to_vec1().unwrap();
        assert_close(&enlarged, &images(&into, &store, 0));
    }

    #[test]
    fn classes_that_were_there_make_the_pictures_that_they_made() {
        let (three, five) = (config(16, 3), config(16, 5));
        for (from, into) in [(&three, &five), (&five, &three)] {
            let (trained, store, rows) = moved(from, into);
            assert_eq!(fates(&rows, Fate::Sliced), ["mapping.embed.weight"]);
            for class in 0..3 {
                assert_close(&images(from, &trained, class), &images(into, &store, class));
            }
            assert_ne!(images(into, &store, 0), images(into, &store, 2));
        }
    }

    #[test]
    fn new_labels_change_nothing_at_first_and_old_ones_are_left_out() {
        let (without, with) = (config(16, 0), config(16, 3));
        let (trained, store, rows) = moved(&without, &with);
        assert_eq!(fates(&rows, Fate::Sliced), ["mapping.fc0.weight"]);
        assert_eq!(fates(&rows, Fate::Fresh), ["mapping.embed.bias", "mapping.embed.weight"]);
        for class in 0..3 {
            assert_close(&images(&without, &trained, 0), &images(&with, &store, class));
        }
        let (trained, store, rows) = moved(&with, &without);
        assert_eq!(fates(&rows, Fate::Sliced), ["mapping.fc0.weight"]);
        let (from, into) =
            (values(&trained, "mapping.fc0.weight"), values(&store, "mapping.fc0.weight"));
        let gain = (6.0f32 / 14.0).sqrt();
        for (row, into) in from.chunks(14).zip(into.chunks(6)) {
            assert!(row[..6].iter().zip(into).all(|(from, into)| from * gain == *into));
        }
    }

    #[test]
    fn what_narrower_and_wider_layers_share_is_copied() {
        let wide = GeneratorConfig { channel_max: 12, ..config(16, 0) };
        let narrow = config(16, 0);
        for (from, into) in [(&narrow, &wide), (&wide, &narrow)] {
            let (trained, store, rows) = moved(from, into);
            assert!(fates(&rows, Fate::Fresh).is_empty());
            let name = "synthesis.b8.conv1.weight"; // [out, in, 3, 3]
            assert!(fates(&rows, Fate::Sliced).contains(&name));
            let fresh = values(&fresh(into), name);
            let (theirs, ours) = (values(&trained, name), values(&store, name));
            let (from_dim, into_dim) = (from.channels(8), into.channels(8));
            for (at, value) in ours.iter().enumerate() {
                let (out, input, tap) = (at / 9 / into_dim, at / 9 % into_dim, at % 9);
                let is_shared = out < from_dim && input < from_dim;
                let source = || theirs[(out * from_dim + input) * 9 + tap];
                assert_eq!(*value, if is_shared { source() } else { fresh[at] });
            }
        }
    }

    #[test]
    fn latents_of_another_length_meet_at_their_begin() {
        let longer = GeneratorConfig { z_dim: 10, ..config(8, 2) };
        let (trained, store, _) = moved(&config(8, 2), &longer);
        let (from, into) =
            (values(&trained, "mapping.fc0.weight"), values(&store, "mapping.fc0.weight"));
        let gain = (18.0f32 / 14.0).sqrt();
        assert_eq!(into[5], from[5] * gain); // the last of z
        assert_eq!(into[10], from[6] * gain); // the first of the embedded label
        // 6 + 8 inputs are 14 + 0 inputs, but they are others
        let all_z = GeneratorConfig { z_dim: 14, ..config(8, 0) };
        let (trained, store, rows) = moved(&config(8, 2), &all_z);
        assert!(fates(&rows, Fate::Sliced).contains(&"mapping.fc0.weight"));
        let (from, into) =
            (values(&trained, "mapping.fc0.weight"), values(&store, "mapping.fc0.weight"));
        assert!(from[..6] == into[..6] && from[6..14] != into[6..14]);
    }

    #[test]
    fn a_mapping_of_another_depth_stays_fresh() {
        let deeper = GeneratorConfig { mapping_layers: 4, ..config(8, 0) };
        let (_, store, rows) = moved(&config(8, 0), &deeper);
        assert_eq!(fates(&rows, Fate::Fresh).len(), 9);
        assert!(values(&store, "mapping.w_avg").iter().all(|value| *value == 0.0));
    }

    #[test]
    fn the_table_has_a_line_for_each_part() {
        let (_, _, rows) = moved(&config(8, 0), &config(16, 3));
        let lines = table(&rows);
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0], "weights  copied sliced  fresh");
        assert_eq!(lines[1], "mapping       4      1      2");
        assert!(lines[2].starts_with("b4  ") && lines[4].starts_with("b16 "), "{lines:?}");
    }
}
