//! A close look at the real pictures that a picture is most like: also larger, smaller, and moved
//! by half pixels.

use candle_core::Result;
use rayon::prelude::*;

use super::frame::{Frame, Square, dot};
use super::nearest::{Bank, Neighbours, distance};

/// A copy may be larger or smaller, and lie between pixels: factor, and `[dy, dx]` in pixels.
const VIEWS: [(f64, [f64; 2]); 6] = [
    (1.0, [0.0, 0.0]),
    (1.0, [0.5, 0.0]),
    (1.0, [0.0, 0.5]),
    (1.0, [0.5, 0.5]),
    (0.95, [0.0, 0.0]),
    (1.05, [0.0, 0.0]),
];

/// How near a picture is to the real one that it is most like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Match {
    /// The real picture.
    pub(super) idx: u32,
    /// Distance of the descriptors at the best place, from 0 to 2.
    pub(super) distance: f32,
    /// That distance over the mean distance of the next works; 0 if there is no other.
    pub(super) ratio: f32,
    /// Whether it is farther from the real picture than that is from other real ones.
    pub(super) is_authentic: bool,
    /// How much of it is detail, see [`Square::sharpness`].
    pub(super) sharpness: f32,
}

/// The match of each of `squares`.
///
/// * `own` - which picture of the set each is itself; then others than its own work are looked at.
///
/// # Errors
/// Fails if memory cannot be had, or if cancelled.
pub(super) fn matches(
    bank: &Bank,
    frame: &Frame,
    squares: &[Square],
    own: Option<&[u32]>,
) -> Result<Vec<Match>> {
    let neighbours = bank.search(frame, squares, own)?;
    let pairs = squares.par_iter().zip(neighbours).enumerate();
    let of_pair = |(i, (square, neighbours)): (usize, (&Square, Neighbours))| {
        closest(bank, frame, square, &neighbours, own.map(|own| own[i]))
    };
    Ok(pairs.filter_map(of_pair).collect())
}

/// The best of the candidates, at its best place; `None` without candidates.
fn closest(
    bank: &Bank,
    frame: &Frame,
    square: &Square,
    neighbours: &Neighbours,
    own: Option<u32>,
) -> Option<Match> {
    let mut best: Option<(f32, u32)> = None;
    for (scale, offset) in VIEWS {
        let windows = frame.describe_all(&square.warped(scale, offset));
        for &idx in &neighbours.candidates {
            let of_window = |window| dot(window, bank.descriptor(idx));
            let correlations = windows.chunks_exact(frame.len()).map(of_window);
            let correlation = correlations.fold(-1.0, f32::max);
            if best.is_none_or(|best| correlation > best.0) {
                best = Some((correlation, idx));
            }
        }
    }
    best.map(|(correlation, idx)| {
        let distance = distance(correlation);
        Match {
            idx,
            distance,
            ratio: distance / neighbours.density,
            is_authentic: distance > bank.isolation(idx, own),
            sharpness: square.sharpness(),
        }
    })
}
