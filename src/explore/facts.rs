//! What the page must know of the model before it asks for a picture.

use serde_json::{Value, json};

use super::state::{BY, MAX_MOVES, PSI, SHARE};
use crate::data::ClassNames;
use crate::latent::Model;
use crate::latent::recipe::NoiseMode;

/// So many figures of the BLAKE3 tell models apart.
const KEY_LEN: usize = 16;
/// Directions that the page offers.
const NUM_DIRECTIONS: usize = 8;

/// Where the page starts.
#[derive(Clone, Debug)]
pub struct Start {
    /// The weights file, as it was named.
    pub weights: String,
    /// Truncation psi.
    pub trunc: f64,
    /// The class, where one was asked for.
    pub class: Option<usize>,
    /// Noise inputs.
    pub noise_mode: NoiseMode,
    /// Whether pictures say where they come from.
    pub has_provenance: bool,
}

/// The parameter `model` of requests.
pub(super) fn key(model: &Model) -> String {
    model.hash.chars().take(KEY_LEN).collect()
}

/// The answer to `/api/facts`.
pub(super) fn facts(model: &Model, start: &Start) -> Value {
    let (config, header) = (&model.g.config, &model.header);
    let blocks = config.block_resolutions();
    // the last w goes to toRGB alone, at the picture's own resolution
    let resolution = |idx: usize| blocks.get(idx.div_ceil(2)).or(blocks.last());
    let noise = match start.noise_mode {
        NoiseMode::Random(_) | NoiseMode::Turned { .. } => "random",
        NoiseMode::None => "none",
        NoiseMode::Const => "const",
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": key(model),
        "weights": start.weights,
        "resolution": config.img_resolution,
        "channels": config.img_channels,
        "cur_nimg": header.cur_nimg,
        "num_classes": config.c_dim,
        "class_names": header.class_names.as_ref().map_or(&[][..], ClassNames::as_slice),
        "layers": (0..config.num_ws()).map(resolution).collect::<Vec<_>>(),
        "num_directions": NUM_DIRECTIONS.min(MAX_MOVES).min(config.w_dim),
        "bounds": { "psi": PSI, "mix_share": SHARE, "by": BY },
        "start": { "psi": start.trunc, "class": start.class.unwrap_or(0), "noise": noise },
    })
}
