//! Weight gradients of 3x3 convolutions: Winograd's algorithm, transposed.
//!
//! `dw = G^T (sum over tiles of (A dy) * (B^T x)) G` with the maps of [`maps`](super::maps): at each
//! point the gradients `[O, tiles]` are multiplied with the input `[tiles, C]`.

#![expect(unsafe_code, reason = "kernels behind pointers that are checked at the door")]

use std::marker::PhantomData;

use super::machine::{Level, PANEL};
use super::maps::Map;
use super::passes::{Block, Gather, Image, Points};
use super::products::{Axis, MultiplyTransposed, Operand, ScatterKernel, TAPS};
use super::winograd::grid;
use crate::ops::conv2d::Geometry;
use crate::ops::cpu::Element;
use crate::ops::cpu::output::{Output, Scratch};
use crate::ops::cpu::share::share;

/// Elements of a block's points: what the last-level cache holds.
const ELEMENTS: usize = 4 << 20;
/// Products for a pair of channels in a block; fewer are not worth a pass over the weight, and
/// more gain nothing.
const PRODUCTS: usize = 9216;
/// Panels of output channels, and of input channels, of a task.
const PANELS: (usize, usize) = (4, 4);
/// Tasks of a block below which they get fewer output channels.
const TASKS: usize = 8;

/// Panels of a task, by those of the outputs and of the inputs: the shapes alone decide.
fn panels_of_a_task(panels_o: usize, panels_c: usize) -> (usize, usize) {
    let (mut o, c) = PANELS;
    while o > 1 && panels_o.div_ceil(o) * panels_c.div_ceil(c) < TASKS {
        o /= 2;
    }
    (o, c)
}

/// A correlation at work.
struct Correlation<'a, T, I, D, K> {
    level: Level,
    x: &'a [T],
    dy: &'a [T],
    input: Image,
    output: Image,
    gain: f64,
    dw: Output<T>,
    maps: PhantomData<(I, D, K)>,
}

pub(super) fn correlate<T: Element, I: Map, D: Map, K: Map>(
    level: Level,
    x: &[T],
    dy: &[T],
    g: &Geometry,
) -> Vec<T> {
    let (step, len) = (D::FROM, g.o * g.c * TAPS);
    let input = Image { channels: g.c, h: g.h, w: g.w, step: step * g.stride, padding: g.padding };
    let output = Image { channels: g.o, h: g.oh(), w: g.ow(), step, padding: 0 };
    assert!(T::levels().contains(&level));
    assert!(x.len() == g.n * g.c * g.h * g.w && dy.len() == g.n * g.o * g.oh() * g.ow());
    let (gain, dw, maps) = (g.gain, Output::new(len), PhantomData::<(I, D, K)>);
    let correlation = Correlation { level, x, dy, input, output, gain, dw, maps };
    let most = PRODUCTS.min(ELEMENTS / (g.c + g.o)) / (I::TO * I::TO);
    for (i, block) in Block::cut(g.n, grid(g.oh(), g.ow(), step), most).into_iter().enumerate() {
        correlation.add(block, i > 0);
    }
    // SAFETY: the tasks of the first block cover all channels.
    unsafe { correlation.dw.finish(len) }
}

impl<T: Element, I: Map, D: Map, K: Map> Correlation<'_, T, I, D, K> {
    /// What a block of tiles contributes: written, or added.
    fn add(&self, block: Block, accumulate: bool) {
        let panels_c = self.input.channels.div_ceil(PANEL);
        let panels_o = self.output.channels.div_ceil(PANEL);
        let of_x = Points::new(panels_c, block.tiles());
        let of_dy = Points::new(panels_o, block.tiles());
        let points = I::TO * I::TO;
        let (tiles, gradients) =
            (Scratch::new(points * of_x.stride), Scratch::new(points * of_dy.stride));
        share(0..panels_c + panels_o, |panel| {
            // SAFETY: the level and the sizes were checked; each task has a panel of its own.
            unsafe {
                if panel < panels_c {
                    self.gather::<I>((self.x, self.input), block, panel, tiles.start(), of_x);
                } else {
                    let (from, panel) = ((self.dy, self.output), panel - panels_c);
                    self.gather::<D>(from, block, panel, gradients.start(), of_dy);
                }
            }
        });
        let most = panels_of_a_task(panels_o, panels_c);
        let chunks_c = panels_c.div_ceil(most.1);
        let tasks = panels_o.div_ceil(most.0) * chunks_c;
        share(0..tasks, |i| {
            let (first_o, first_c) = (i / chunks_c * most.0, i % chunks_c * most.1);
            // SAFETY: all points have been gathered.
            let (gradients, tiles) = unsafe {
                let gradients = gradients.start().add(first_o * of_dy.panel()).cast_const();
                let tiles = tiles.start().add(first_c * of_x.panel()).cast_const();
                (
                    Operand { start: gradients, points: of_dy },
                    Operand { start: tiles, points: of_x },
                )
            };
            // SAFETY: each task has panels of its own.
            unsafe { self.multiply(gradients, tiles, (first_o, first_c), accumulate) };
        });
    }

    /// Transforms one panel of a block.
    ///
    /// # Safety
    /// `to` has room for all points, and no other task touches them.
    unsafe fn gather<A: Map>(
        &self,
        (from, image): (&[T], Image),
        block: Block,
        panel: usize,
        to: *mut T,
        points: Points,
    ) {
        let stage = Gather::<T, A> { from, image, block, panel, to, points, map: PhantomData };
        // SAFETY: the level and the sizes were checked; the rest is the caller's promise.
        unsafe { T::run(self.level, stage) };
    }

    /// Some panels of output channels and of input channels, from the given panels on.
    ///
    /// # Safety
    /// All points of the operands have been written, and no other task writes these panels.
    unsafe fn multiply(
        &self,
        gradients: Operand<*const T>,
        tiles: Operand<*const T>,
        (first_o, first_c): (usize, usize),
        accumulate: bool,
    ) {
        let (o, c) = (first_o * PANEL, first_c * PANEL);
        let (channels_o, channels_c) = (self.output.channels, self.input.channels);
        let most = panels_of_a_task(channels_o.div_ceil(PANEL), channels_c.div_ceil(PANEL));
        let panels = (
            most.0.min((channels_o - o).div_ceil(PANEL)),
            most.1.min((channels_c - c).div_ceil(PANEL)),
        );
        let axis = Axis { tiles: I::TO, weights: K::FROM };
        let points = Points::new(panels.1, panels.0 * PANEL);
        let sums = Scratch::<T>::new(K::FROM * K::FROM * points.stride);
        let out = Operand { start: sums.start(), points };
        // SAFETY: the level was checked; the sums have room for all points and panels; the
        // gradient's size follows from the channels, and these channels are this task's.
        unsafe {
            T::run(self.level, MultiplyTransposed { axis, gradients, tiles, out, panels });
            for panel in 0..panels.1 {
                let c = c + panel * PANEL;
                let stage = ScatterKernel::<T, K> {
                    from: sums.start().add(panel * points.panel()).cast_const(),
                    points,
                    rows: (panels.0 * PANEL).min(channels_o - o),
                    lanes: PANEL.min(channels_c - c),
                    gain: self.gain,
                    accumulate,
                    to: self.dw.start().add((o * channels_c + c) * TAPS),
                    row_stride: channels_c * TAPS,
                    map: PhantomData,
                };
                T::run(self.level, stage);
            }
        }
    }
}
