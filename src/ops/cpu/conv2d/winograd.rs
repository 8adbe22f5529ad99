//! 3x3 convolutions of stride 1 and 2 with fewer products: Winograd's minimal filtering.
//!
//! The output is cut into tiles. Patches of the input and kernels are transformed to points
//! ([`maps`](super::maps)), at each point tiles `[tiles, C]` are multiplied with weights `[C, O]`,
//! and the products are transformed to patches of the output. The input gradient of stride 1 is
//! such a convolution with rotated kernels; that of stride 2, and every weight gradient
//! ([`correlate`](super::correlate)), is the same algorithm transposed.
//!
//! Tiles are worked on in blocks, so that a block's points stay in the cache. Blocks and the order
//! of every sum follow from the shapes alone.
//!
//! Reference: Lavin & Gray 2015, arXiv:1509.09308.

#![expect(unsafe_code, reason = "kernels behind pointers that are checked at the door")]

use std::marker::PhantomData;

use super::correlate::correlate;
use super::machine::{Level, PANEL};
use super::maps::{
    InputF2, InputF4, InputS2, InputS2T, InputS4, InputS4T, KernelF2, KernelF2T, KernelF4,
    KernelF4T, KernelS2, KernelS2T, KernelS4, KernelS4T, Map, OutputF2, OutputF2T, OutputF4,
    OutputF4T, OutputS2, OutputS2T, OutputS4, OutputS4T,
};
use super::passes::{Block, Gather, Image, Points, Scatter};
use super::products::{Axis, GatherKernel, Multiply, Operand, TAPS};
use crate::ops::conv2d::Geometry;
use crate::ops::cpu::Element;
use crate::ops::cpu::output::{Output, Scratch};
use crate::ops::cpu::share::share;

/// Outputs of a tile along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tile {
    /// As accurate as the sums of products themselves: 2.25 times fewer products at stride 1, 1.44
    /// at stride 2.
    Two = 2,
    /// More rounding for fewer products: 4 times at stride 1, 1.78 at stride 2.
    Four = 4,
}

/// Which algorithm, and which machine runs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) tile: Tile,
    pub(super) level: Level,
}

/// Bytes of transformed weights up to which all are kept, and blocks of tiles are tasks. Above, a
/// task is some output channels of a block: it transforms their weights, which stay in the cache.
const KEPT_WEIGHTS: usize = 3 << 20;
/// Tiles of a block with kept weights: two such blocks of points fit the second-level cache.
const TILES: usize = 96;
/// Tiles of a block whose channels are tasks: enough work for weights that are transformed again.
const SHARED_TILES: usize = 128;
/// Panels of output channels whose products are made together: with kept weights, and without.
const PANELS: [usize; 2] = [8, 2];

/// What a convolution reads and writes, as tiles see it.
struct Job {
    n: usize,
    from: Image,
    to: Image,
    /// Rows and columns of tiles of an image.
    grid: (usize, usize),
    /// Elements of the weight from one output channel to the next, and from one input channel.
    strides: (usize, usize),
    rotate: bool,
    gain: f64,
}

/// Rows and columns of tiles for an output.
pub(super) fn grid(h: usize, w: usize, outputs: usize) -> (usize, usize) {
    (h.div_ceil(outputs), w.div_ceil(outputs))
}

/// `y [N, O, oh, ow]`.
pub(super) fn forward<T: Element>(way: Way, x: &[T], w: &[T], g: &Geometry) -> Vec<T> {
    let step = way.tile as usize;
    let job = Job {
        n: g.n,
        from: Image { channels: g.c, h: g.h, w: g.w, step: step * g.stride, padding: g.padding },
        to: Image { channels: g.o, h: g.oh(), w: g.ow(), step, padding: 0 },
        grid: grid(g.oh(), g.ow(), step),
        strides: (g.c * TAPS, TAPS),
        rotate: false,
        gain: g.gain,
    };
    match (g.stride, way.tile) {
        (1, Tile::Two) => convolve::<T, InputF2, KernelF2, OutputF2>(way.level, x, w, &job),
        (1, Tile::Four) => convolve::<T, InputF4, KernelF4, OutputF4>(way.level, x, w, &job),
        (_, Tile::Two) => convolve::<T, InputS2, KernelS2, OutputS2>(way.level, x, w, &job),
        (_, Tile::Four) => convolve::<T, InputS4, KernelS4, OutputS4>(way.level, x, w, &job),
    }
}

/// `dx [N, C, H, W]`.
pub(super) fn grad_input<T: Element>(way: Way, dy: &[T], w: &[T], g: &Geometry) -> Vec<T> {
    let step = way.tile as usize;
    let from = Image { channels: g.o, h: g.oh(), w: g.ow(), step, padding: 0 };
    let to = Image { channels: g.c, h: g.h, w: g.w, step, padding: 0 };
    let strides = (TAPS, g.c * TAPS);
    let job = if g.stride == 1 {
        let from = Image { padding: 2 - g.padding, ..from };
        let grid = grid(g.h, g.w, step);
        Job { n: g.n, from, to, grid, strides, rotate: true, gain: g.gain }
    } else {
        let to = Image { step: 2 * step, padding: g.padding, ..to };
        let grid = grid(g.oh(), g.ow(), step);
        Job { n: g.n, from, to, grid, strides, rotate: false, gain: g.gain }
    };
    match (g.stride, way.tile) {
        (1, Tile::Two) => convolve::<T, InputF2, KernelF2, OutputF2>(way.level, dy, w, &job),
        (1, Tile::Four) => convolve::<T, InputF4, KernelF4, OutputF4>(way.level, dy, w, &job),
        (_, Tile::Two) => convolve::<T, OutputS2T, KernelS2, InputS2T>(way.level, dy, w, &job),
        (_, Tile::Four) => convolve::<T, OutputS4T, KernelS4, InputS4T>(way.level, dy, w, &job),
    }
}

/// `dw [O, C, 3, 3]`.
pub(super) fn grad_weight<T: Element>(way: Way, x: &[T], dy: &[T], g: &Geometry) -> Vec<T> {
    match (g.stride, way.tile) {
        (1, Tile::Two) => correlate::<T, InputF2, OutputF2T, KernelF2T>(way.level, x, dy, g),
        (1, Tile::Four) => correlate::<T, InputF4, OutputF4T, KernelF4T>(way.level, x, dy, g),
        (_, Tile::Two) => correlate::<T, InputS2, OutputS2T, KernelS2T>(way.level, x, dy, g),
        (_, Tile::Four) => correlate::<T, InputS4, OutputS4T, KernelS4T>(way.level, x, dy, g),
    }
}

/// Does `task` for each index: each a task of its own, or one after the other.
fn for_each(as_tasks: bool, count: usize, task: impl Fn(usize) + Send + Sync) {
    if as_tasks {
        share(0..count, task);
    } else {
        (0..count).for_each(task);
    }
}

/// A convolution at work.
struct Convolution<'a, T, I, K, O> {
    level: Level,
    from: &'a [T],
    weight: &'a [T],
    job: &'a Job,
    to: Output<T>,
    /// Rows that stripes share with the next stripe, see [`Scatter::carry`].
    carry: Scratch<T>,
    carry_stride: usize,
    maps: PhantomData<(I, K, O)>,
}

fn convolve<T: Element, I: Map, K: Map, O: Map>(
    level: Level,
    from: &[T],
    weight: &[T],
    job: &Job,
) -> Vec<T> {
    let (input, output) = (job.from, job.to);
    let len = job.n * output.channels * output.h * output.w;
    assert!(T::levels().contains(&level));
    assert!(from.len() == job.n * input.channels * input.h * input.w);
    assert!(weight.len() == input.channels * output.channels * TAPS);
    let points = K::TO * K::TO;
    let weights = Points::new(output.channels.div_ceil(PANEL), input.channels);
    let keep = points * weights.stride * size_of::<T>() <= KEPT_WEIGHTS;
    let blocks = Block::cut(job.n, job.grid, if keep { TILES } else { SHARED_TILES });
    let stripes = blocks.iter().filter(|block| block.n0 == 0).count();
    let carry_stride = job.n * output.channels * output.w;
    let overlaps = O::TO > output.step;
    let convolution = Convolution {
        level,
        from,
        weight,
        job,
        to: Output::new(len),
        carry: Scratch::new(if overlaps { (stripes - 1) * carry_stride } else { 0 }),
        carry_stride,
        maps: PhantomData::<(I, K, O)>,
    };
    if keep {
        let kept = Scratch::<T>::new(points * weights.stride);
        for_each(true, output.channels.div_ceil(PANEL), |panel| {
            // SAFETY: each task has a panel of its own.
            unsafe {
                let to = kept.start().add(panel * weights.panel());
                convolution.transform_weights(panel, to, weights);
            }
        });
        let kept = Operand { start: kept.start().cast_const(), points: weights };
        let kept = Kept(kept);
        for_each(true, blocks.len(), |i| convolution.run(blocks[i], Some(&kept)));
    } else {
        for &block in &blocks {
            convolution.run(block, None);
        }
    }
    if overlaps && stripes > 1 {
        convolution.add_carried(&blocks[..stripes]);
    }
    // SAFETY: blocks and panels cover all rows of all planes.
    unsafe { convolution.to.finish(len) }
}

/// Transformed weights of all output channels, for any task to read.
struct Kept<T>(Operand<*const T>);

// SAFETY: nobody writes the weights any more.
unsafe impl<T: Sync> Sync for Kept<T> {}

impl<T: Element, I: Map, K: Map, O: Map> Convolution<'_, T, I, K, O> {
    /// Transforms the weights of a panel of output channels.
    ///
    /// # Safety
    /// `to` has room for all points, and no other task touches them.
    unsafe fn transform_weights(&self, panel: usize, to: *mut T, points: Points) {
        let (job, first) = (self.job, panel * PANEL);
        let stage = GatherKernel::<T, K> {
            from: &self.weight[first * job.strides.0..],
            lanes: PANEL.min(job.to.channels - first),
            lane_stride: job.strides.0,
            k: job.from.channels,
            k_stride: job.strides.1,
            rotate: job.rotate,
            gain: job.gain,
            to,
            points,
            map: PhantomData,
        };
        // SAFETY: the level was checked, the weight too, and the caller promises the rest.
        unsafe { T::run(self.level, stage) };
    }

    /// All output channels of a block of tiles: one task with kept weights, else many.
    fn run(&self, block: Block, kept: Option<&Kept<T>>) {
        let job = self.job;
        let (panels_in, panels_out) =
            (job.from.channels.div_ceil(PANEL), job.to.channels.div_ceil(PANEL));
        let points = Points::new(panels_in, block.tiles());
        let tiles = Scratch::<T>::new(I::TO * I::TO * points.stride);
        for_each(kept.is_none(), panels_in, |panel| {
            let (from, image, to) = (self.from, job.from, tiles.start());
            let stage = Gather::<T, I> { from, image, block, panel, to, points, map: PhantomData };
            // SAFETY: the level and the sizes were checked; each task has a panel of its own.
            unsafe { T::run(self.level, stage) };
        });
        let most = PANELS[usize::from(kept.is_none())];
        for_each(kept.is_none(), panels_out.div_ceil(most), |i| {
            let (first, panels) = (i * most, most.min(panels_out - i * most));
            let tiles = Operand { start: tiles.start().cast_const(), points };
            // SAFETY: the tiles have been gathered, and each task has panels of its own.
            unsafe {
                if let Some(Kept(kept)) = kept {
                    let start = kept.start.add(first * kept.points.panel());
                    self.multiply(block, tiles, Operand { start, ..*kept }, (first, panels));
                } else {
                    let weights = Points::new(panels, job.from.channels);
                    let own = Scratch::<T>::new(K::TO * K::TO * weights.stride);
                    for panel in 0..panels {
                        let to = own.start().add(panel * weights.panel());
                        self.transform_weights(first + panel, to, weights);
                    }
                    let own = Operand { start: own.start().cast_const(), points: weights };
                    self.multiply(block, tiles, own, (first, panels));
                }
            }
        });
    }

    /// `panels` panels of output channels from `first` on.
    ///
    /// # Safety
    /// All points of tiles and weights have been written, and no other task writes these panels.
    unsafe fn multiply(
        &self,
        block: Block,
        tiles: Operand<*const T>,
        weights: Operand<*const T>,
        (first, panels): (usize, usize),
    ) {
        let points = Points::new(panels, block.tiles());
        let products = Scratch::<T>::new(I::TO * I::TO * points.stride);
        let axis = Axis { tiles: I::TO, weights: K::TO };
        let out = Operand { start: products.start(), points };
        // SAFETY: the level was checked; the products have room for all points and panels; the
        // sizes of the output were checked, and its panels are this task's.
        unsafe {
            T::run(self.level, Multiply { axis, tiles, weights, out, panels });
            for panel in 0..panels {
                let stage = Scatter::<T, O> {
                    from: products.start().add(panel * points.panel()).cast_const(),
                    points,
                    panel: first + panel,
                    to: self.to.start(),
                    image: self.job.to,
                    block,
                    carry: self.carry.start(),
                    carry_stride: self.carry_stride,
                    map: PhantomData,
                };
                T::run(self.level, stage);
            }
        }
    }

    /// Adds the rows that stripes share, in the order of the stripes.
    fn add_carried(&self, stripes: &[Block]) {
        let (n, image) = (self.job.n, self.job.to);
        for_each(true, n * image.channels, |plane| {
            for block in &stripes[..stripes.len() - 1] {
                let y = block.y1 * image.step - image.padding;
                if y >= image.h {
                    continue;
                }
                let carried = block.stripe * self.carry_stride + plane * image.w;
                // SAFETY: both rows have been written; each task has a plane of its own.
                let (row, carried) = unsafe {
                    let row = self.to.start().add((plane * image.h + y) * image.w);
                    let carried = self.carry.start().add(carried);
                    (
                        std::slice::from_raw_parts_mut(row, image.w),
                        std::slice::from_raw_parts(carried, image.w),
                    )
                };
                row.iter_mut().zip(carried).for_each(|(to, from)| *to += *from);
            }
        });
    }
}
