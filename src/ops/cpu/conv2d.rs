//! The conv2d family: which algorithm computes a convolution or its gradients.
//!
//! Most time of a step goes into 3x3 convolutions between many channels; these have fewer products
//! with Winograd's algorithm. Everything else is a matrix product of patches.

#![expect(clippy::inline_always, reason = "on each machine, a stage is one function")]

mod correlate;
mod im2col;
mod machine;
mod maps;
mod passes;
mod planes;
mod portable;
mod products;
mod winograd;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use self::machine::Lane;
use self::winograd::{Tile, Way};
use super::Element;
use crate::ops::conv2d::{Conv, Geometry, Kind, conv};

/// Channels on both sides from which transforms cost less than the products they save.
const MIN_CHANNELS: usize = 16;

/// Output pixels, of all images, from which the products outweigh the transforms of the weights: at
/// 512 channels, im2col is up to twice as fast for 16 of them, as fast for 32, and Winograd's
/// algorithm twice as fast for 128.
const MIN_PIXELS: usize = 64;

/// Output channels from which the input gradient of stride 2 is faster with tiles of two: the 81
/// points of a tile of four, of that many channels, leave the cache.
const MANY_CHANNELS: usize = 256;

/// Winograd's algorithm where it is faster than im2col. Tiles of four are faster than tiles of two
/// nearly wherever either pays, even if an image is a single tile.
fn way<T: Element>(kind: Kind, g: &Geometry) -> Option<Way> {
    let is_3x3 = (g.kh, g.kw) == (3, 3) && (1..=2).contains(&g.stride) && g.padding <= 2;
    if !is_3x3 || g.c.min(g.o) < MIN_CHANNELS || g.n * g.oh() * g.ow() < MIN_PIXELS {
        return None;
    }
    let is_large = kind == Kind::GradInput && g.stride == 2 && g.o >= MANY_CHANNELS;
    let tile = if conv() == Conv::Exact || is_large { Tile::Two } else { Tile::Four };
    Some(Way { tile, level: *T::levels().last()? })
}

/// Multiplications and additions of the products that a convolution takes here; without transforms.
pub(in crate::ops) fn flop(kind: Kind, g: &Geometry) -> f64 {
    let tile = way::<f32>(kind, g).map(|way| way.tile as usize);
    2.0 * (g.n * g.c * g.o * products(tile, kind, g)) as f64
}

/// Products of an image and a pair of channels, with tiles of this side or directly (where, at stride
/// 1, the output is taken to be as large as the input).
fn products(tile: Option<usize>, kind: Kind, g: &Geometry) -> usize {
    let Some(tile) = tile else { return g.oh() * g.ow() * g.kh * g.kw };
    let is_mirrored = kind == Kind::GradInput && g.stride == 1;
    let (h, w) = if is_mirrored { (g.h, g.w) } else { (g.oh(), g.ow()) };
    let (rows, cols) = winograd::grid(h, w, tile);
    rows * cols * (g.stride * (tile - 1) + 3).pow(2)
}

/// `y [N, O, oh, ow] = gain * conv(x [N, C, H, W], w [O, C, kh, kw])`.
pub(in crate::ops) fn forward<T: Element>(x: &[T], w: &[T], g: &Geometry) -> Vec<T> {
    match way::<T>(Kind::Forward, g) {
        Some(way) => winograd::forward(way, x, w, g),
        None => im2col::forward(x, w, g),
    }
}

/// `dx [N, C, H, W]` from `dy [N, O, oh, ow]` and `w [O, C, kh, kw]`, times gain.
pub(in crate::ops) fn grad_input<T: Element>(dy: &[T], w: &[T], g: &Geometry) -> Vec<T> {
    match way::<T>(Kind::GradInput, g) {
        Some(way) => winograd::grad_input(way, dy, w, g),
        None => im2col::grad_input(dy, w, g),
    }
}

/// `dw [O, C, kh, kw]` from `x [N, C, H, W]` and `dy [N, O, oh, ow]`, times gain.
pub(in crate::ops) fn grad_weight<T: Element>(x: &[T], dy: &[T], g: &Geometry) -> Vec<T> {
    match way::<T>(Kind::GradWeight, g) {
        Some(way) => winograd::grad_weight(way, x, dy, g),
        None => im2col::grad_weight(x, dy, g),
    }
}

#[cfg(test)]
mod tests;
