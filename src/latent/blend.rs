//! Two generators of one shape as one: the form of the first, the surface of the second.
//!
//! Works where one was trained on from the other: then a layer of the one understands what a layer
//! of the other says. Layers of low resolution decide pose and form, those of high resolution color
//! and texture.
//!
//! Reference: Pinkney and Adler 2020, arXiv:2010.05334 (layer swapping).

use candle_core::{Device, Result, Tensor, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::model::Store;
use crate::model::config::GeneratorConfig;
use crate::model::weights::{Header, store_from_bytes};

/// Which share of the second generator is in a block of a resolution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// The first resolution that has any.
    pub from: usize,
    /// Over so many further resolutions the share rises to the whole; 0: at once.
    pub ramp: usize,
    /// What the whole is, from 0 to 1.
    pub amount: f64,
    /// The share in the mapping network.
    pub mapping: f64,
}

impl Shares {
    /// The share in a block.
    pub fn at(&self, res: usize) -> f64 {
        let steps = f64::from(res.max(1).ilog2()) - f64::from(self.from.max(1).ilog2()) + 1.0;
        self.amount * (steps / (self.ramp as f64 + 1.0)).clamp(0.0, 1.0)
    }

    fn of(&self, name: &str) -> f64 {
        let block = name.strip_prefix("synthesis.b").and_then(|rest| rest.split('.').next());
        block.and_then(|res| res.parse().ok()).map_or(self.mapping, |res| self.at(res))
    }
}

/// The blend of two weights files: the header of the first, and the weights.
///
/// # Errors
/// Fails if their shapes differ.
pub fn blend(a: &[u8], b: &[u8], shares: &Shares) -> Result<(Header, Store)> {
    let (header, store) = store_from_bytes(a, &Device::Cpu)?;
    let (other, others) = store_from_bytes(b, &Device::Cpu)?;
    if header.model != other.model {
        bail!(
            "expected two generators of one shape, came {}; blend weights where one was trained on from \
             the other",
            differences(&header.model, &other.model)
        );
    }
    for ((name, a), (_, b)) in store.tensors().into_iter().zip(others.tensors()) {
        store.set(&name, &mixed(&a, &b, shares.of(&name))?)?;
    }
    Ok((header, store))
}

/// Where two shapes differ: `c_dim 0 and 10, img_resolution 64 and 32`.
fn differences(a: &GeneratorConfig, b: &GeneratorConfig) -> String {
    let (a, b) = (json!(a), json!(b));
    let keys = a.as_object().into_iter().flat_map(|fields| fields.keys());
    let differing = keys.filter(|key| a[*key] != b[*key]);
    let words: Vec<_> = differing.map(|key| format!("{key} {} and {}", a[key], b[key])).collect();
    words.join(", ")
}

/// Of both, with `share` of `b`; at 0 and 1 one of them, to the bit.
fn mixed(a: &Tensor, b: &Tensor, share: f64) -> Result<Tensor> {
    match share {
        0.0 => a.copy(),
        1.0 => b.copy(),
        share => (a * (1.0 - share))? + (b * share)?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_rises_from_one_resolution_on() {
        let at = |ramp, amount| {
            let shares = Shares { from: 16, ramp, amount, mapping: 0.25 };
            [4, 8, 16, 32, 64].map(|res| shares.at(res))
        };
        assert_eq!(at(0, 1.0), [0.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(at(1, 1.0), [0.0, 0.0, 0.5, 1.0, 1.0]);
        assert_eq!(at(3, 0.5), [0.0, 0.0, 0.125, 0.25, 0.375]);
        let shares = Shares { from: 8, ramp: 0, amount: 1.0, mapping: 0.25 };
        let of = |name| shares.of(name);
        assert_eq!(
            ["mapping.fc0.weight", "synthesis.b4.const", "synthesis.b16.conv0.weight"].map(of),
            [0.25, 0.0, 1.0]
        );
    }
}
