//! The products of tiles with weights at every point, and the passes between weights and points.

#![expect(unsafe_code, reason = "kernels behind pointers that are checked at the door")]

use std::marker::PhantomData;

use super::machine::{Machine, PANEL, Product, Stage, Vector};
use super::maps::Map;
use super::passes::{Points, in_two_dimensions};
use super::planes::Run;
use crate::ops::cpu::Element;

/// Taps of a kernel.
pub(super) const TAPS: usize = 9;

/// A panel of output channels of a weight, for all `k` input channels: `[k, 3, 3]` of each lane to
/// points. (Which channels are outputs is a matter of the strides.)
pub(super) struct GatherKernel<'a, T, A> {
    pub(super) from: &'a [T],
    pub(super) lanes: usize,
    pub(super) lane_stride: usize,
    pub(super) k: usize,
    pub(super) k_stride: usize,
    /// Rotates kernels by 180 degrees.
    pub(super) rotate: bool,
    pub(super) gain: f64,
    pub(super) to: *mut T,
    pub(super) points: Points,
    pub(super) map: PhantomData<A>,
}

impl<T: Element, A: Map> Stage<T> for GatherKernel<'_, T, A> {
    #[inline(always)]
    unsafe fn run<M: Machine<T>>(self) {
        let mut taps = [T::zero(); PANEL * TAPS * PANEL];
        // Kernels that follow each other are read together.
        let together = if self.k_stride == TAPS { PANEL } else { 1 };
        for start in (0..self.k).step_by(together) {
            let count = together.min(self.k - start);
            let len = count * TAPS;
            let (stride, row) = (self.lane_stride, len * PANEL);
            let run = Run { planes: self.lanes, stride, len, w: len, row };
            let from = &self.from[start * self.k_stride..];
            // SAFETY: the weights of the lanes lie inside the tensor; `to` has room for all points.
            unsafe {
                if count == 1 && run.planes == PANEL && from.len() >= PANEL * (stride + 1) {
                    // Also some taps of other kernels, which nobody reads.
                    M::transpose(from.as_ptr(), stride, taps.as_mut_ptr(), PANEL);
                } else {
                    run.load::<T, M>(from.as_ptr(), taps.as_mut_ptr());
                }
                for k in 0..count {
                    for lane in (0..PANEL).step_by(M::Vector::LANES) {
                        let taps = taps.as_ptr().add(k * TAPS * PANEL + lane);
                        let to = self.to.add((start + k) * PANEL + lane);
                        in_two_dimensions::<T, M::Vector, A>(
                            |i, j| {
                                let tap =
                                    if self.rotate { TAPS - 1 - i * 3 - j } else { i * 3 + j };
                                M::Vector::load(taps.add(tap * PANEL)) * self.gain
                            },
                            |i, j, v| v.store(to.add((i * A::TO + j) * self.points.stride)),
                        );
                    }
                }
            }
        }
    }
}

/// Gradients of `rows` output channels for a panel of input channels, from points to
/// `[rows, lanes, 3, 3]`.
pub(super) struct ScatterKernel<T, A> {
    pub(super) from: *const T,
    pub(super) points: Points,
    pub(super) rows: usize,
    pub(super) lanes: usize,
    pub(super) gain: f64,
    pub(super) accumulate: bool,
    pub(super) to: *mut T,
    pub(super) row_stride: usize,
    pub(super) map: PhantomData<A>,
}

impl<T: Element, A: Map> Stage<T> for ScatterKernel<T, A> {
    #[inline(always)]
    unsafe fn run<M: Machine<T>>(self) {
        let mut taps = [T::zero(); PANEL * PANEL]; // [TAPS, lanes] and some zeros
        let mut kernels = [T::zero(); PANEL * PANEL];
        for row in 0..self.rows {
            // SAFETY: the points of these rows have been written; `to` is this task's.
            unsafe {
                for lane in (0..PANEL).step_by(M::Vector::LANES) {
                    let from = self.from.add(row * PANEL + lane);
                    let taps = taps.as_mut_ptr().add(lane);
                    in_two_dimensions::<T, M::Vector, A>(
                        |i, j| M::Vector::load(from.add((i * A::FROM + j) * self.points.stride)),
                        |i, j, v| (v * self.gain).store(taps.add((i * 3 + j) * PANEL)),
                    );
                }
                M::transpose(taps.as_ptr(), PANEL, kernels.as_mut_ptr(), PANEL);
                let to = self.to.add(row * self.row_stride);
                let to = std::slice::from_raw_parts_mut(to, self.lanes * TAPS);
                for (to, kernel) in to.chunks_exact_mut(TAPS).zip(kernels.chunks_exact(PANEL)) {
                    if self.accumulate {
                        to.iter_mut().zip(kernel).for_each(|(to, tap)| *to += *tap);
                    } else {
                        to.copy_from_slice(&kernel[..TAPS]);
                    }
                }
            }
        }
    }
}

/// Points along one axis of tiles and of weights: the last value of the weights may belong to
/// several points of the tiles.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    pub(super) tiles: usize,
    pub(super) weights: usize,
}

impl Axis {
    /// The point of the weights for each of the tiles.
    fn pairs(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.tiles * self.tiles).map(move |point| {
            let of = |i: usize| i.min(self.weights - 1);
            (point, of(point / self.tiles) * self.weights + of(point % self.tiles))
        })
    }
}

/// An operand at the first point, and the elements from point to point and from panel to panel.
#[derive(Clone, Copy)]
pub(super) struct Operand<P> {
    pub(super) start: P,
    pub(super) points: Points,
}

/// Products of tiles with weights: `out[point, panel, tile] = tiles[point, .., tile] * weights`.
pub(super) struct Multiply<T> {
    pub(super) axis: Axis,
    pub(super) tiles: Operand<*const T>,
    pub(super) weights: Operand<*const T>,
    pub(super) out: Operand<*mut T>,
    /// Panels of output channels.
    pub(super) panels: usize,
}

impl<T: Element> Stage<T> for Multiply<T> {
    #[inline(always)]
    unsafe fn run<M: Machine<T>>(self) {
        let (tiles, weights, out) = (self.tiles, self.weights, self.out);
        for (point, of_weights) in self.axis.pairs() {
            // SAFETY: the operands have all points and panels.
            unsafe {
                let product = Product {
                    a: tiles.start.add(point * tiles.points.stride),
                    a_panel: tiles.points.panel(),
                    b: weights.start.add(of_weights * weights.points.stride),
                    b_panel: weights.points.panel(),
                    c: out.start.add(point * out.points.stride),
                    c_panel: out.points.panel(),
                    k: weights.points.rows,
                    accumulate: false,
                };
                multiply::<T, M, PANEL, 1>(&product, tiles.points.rows, self.panels);
            }
        }
    }
}

/// Products of gradients with tiles, summed over tiles: for the output channels of `panels.0`
/// panels and the input channels of `panels.1`, `out[point, panel of inputs, output]`.
pub(super) struct MultiplyTransposed<T> {
    pub(super) axis: Axis,
    pub(super) gradients: Operand<*const T>,
    pub(super) tiles: Operand<*const T>,
    pub(super) out: Operand<*mut T>,
    pub(super) panels: (usize, usize),
}

impl<T: Element> Stage<T> for MultiplyTransposed<T> {
    #[inline(always)]
    unsafe fn run<M: Machine<T>>(self) {
        let (gradients, tiles, out) = (self.gradients, self.tiles, self.out);
        let mut next = 0; // points of the weights come in order, each for the first time when new
        for (point, of_weights) in self.axis.pairs() {
            let accumulate = of_weights < next;
            next = next.max(of_weights + 1);
            // A panel of gradients and as many of tiles as a kernel takes stay in the first cache.
            for first in (0..self.panels.1).step_by(M::PANELS) {
                for panel in 0..self.panels.0 {
                    let gradients_at =
                        point * gradients.points.stride + panel * gradients.points.panel();
                    let tiles_at = point * tiles.points.stride + first * tiles.points.panel();
                    let out_at = of_weights * out.points.stride
                        + first * out.points.panel()
                        + panel * PANEL * PANEL;
                    // SAFETY: the operands have all points and panels.
                    unsafe {
                        let product = Product {
                            a: gradients.start.add(gradients_at),
                            a_panel: PANEL * PANEL,
                            b: tiles.start.add(tiles_at),
                            b_panel: tiles.points.panel(),
                            c: out.start.add(out_at),
                            c_panel: out.points.panel(),
                            k: tiles.points.rows,
                            accumulate,
                        };
                        let panels = M::PANELS.min(self.panels.1 - first);
                        multiply::<T, M, 1, PANEL>(&product, PANEL, panels);
                    }
                }
            }
        }
    }
}

/// A product of any number of rows and panels, in pieces that the machine has kernels for: some
/// rows stay in the first cache, while the panels come from the second one.
#[inline(always)]
unsafe fn multiply<T: Element, M: Machine<T>, const ROW: usize, const STEP: usize>(
    all: &Product<T>,
    rows: usize,
    panels: usize,
) {
    let pieces = rows.div_ceil(M::ROWS);
    for piece in 0..pieces {
        let (start, end) = (piece * rows / pieces, (piece + 1) * rows / pieces);
        let mut panel = 0;
        while panel < panels {
            let wide = M::PANELS == 2 && panel + 2 <= panels;
            // SAFETY: a part of the whole product.
            unsafe {
                let part = Product {
                    a: all.a.add(start * ROW),
                    b: all.b.add(panel * all.b_panel),
                    c: all.c.add(panel * all.c_panel + start * PANEL),
                    ..*all
                };
                if wide {
                    multiply_rows::<T, M, 2, ROW, STEP>(&part, end - start);
                } else {
                    multiply_rows::<T, M, 1, ROW, STEP>(&part, end - start);
                }
            }
            panel += if wide { 2 } else { 1 };
        }
    }
}

/// Picks the kernel for a number of rows.
#[inline(always)]
unsafe fn multiply_rows<
    T: Element,
    M: Machine<T>,
    const P: usize,
    const ROW: usize,
    const STEP: usize,
>(
    product: &Product<T>,
    rows: usize,
) {
    macro_rules! kernels {
        ($($r:literal)+) => {
            match rows {
                // SAFETY: the caller's promise.
                $($r if $r <= M::ROWS => unsafe { M::multiply::<$r, P, ROW, STEP>(product) },)+
                _ => debug_assert!(false, "more rows than the machine has kernels for"),
            }
        };
    }
    kernels!(1 2 3 4 5 6 7 8 9 10 11 12);
}
