//! The passes between images and the points of a bilinear algorithm, whatever its maps.

#![expect(unsafe_code, reason = "kernels behind pointers that are checked at the door")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use super::machine::{Machine, PANEL, Stage, Vector};
use super::maps::{MOST, Map};
use super::planes::Run;
use crate::ops::cpu::Element;
use crate::ops::cpu::output::Scratch;

/// Planes of `h * w` pixels, and the patches that tiles take of them: `step` pixels apart, the
/// first `padding` pixels outside.
#[derive(Clone, Copy)]
pub(super) struct Image {
    pub(super) channels: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) step: usize,
    pub(super) padding: usize,
}

impl Image {
    /// Planes of a panel that are there.
    fn planes(&self, panel: usize) -> usize {
        PANEL.min(self.channels - panel * PANEL)
    }
}

/// Tiles that are handled together: rows `y0..y1` of `cols` tiles each, of images `n0..n1`.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) n0: usize,
    pub(super) n1: usize,
    pub(super) y0: usize,
    pub(super) y1: usize,
    pub(super) cols: usize,
    /// Which stripe of its images this is: the first, if images are whole.
    pub(super) stripe: usize,
    /// Whether these are the last rows of the images.
    pub(super) is_last: bool,
}

impl Block {
    pub(super) fn tiles(&self) -> usize {
        (self.n1 - self.n0) * self.tiles_per_image()
    }

    fn tiles_per_image(&self) -> usize {
        (self.y1 - self.y0) * self.cols
    }

    /// Cuts the tiles `(rows, cols)` of `n` images into blocks of at most `most` tiles, but at
    /// least a row, all about as large: some rows of one image, or several whole images.
    pub(super) fn cut(n: usize, (rows, cols): (usize, usize), most: usize) -> Vec<Self> {
        let per_image = rows * cols;
        if per_image <= most {
            let whole =
                |(_, (n0, n1))| Self { n0, n1, y0: 0, y1: rows, cols, stripe: 0, is_last: true };
            return pieces(n, most / per_image).map(whole).collect();
        }
        let stripe = |n, (stripe, (y0, y1))| Self {
            n0: n,
            n1: n + 1,
            y0,
            y1,
            cols,
            stripe,
            is_last: y1 == rows,
        };
        let stripes = |n| pieces(rows, most / cols).map(move |rows| stripe(n, rows));
        (0..n).flat_map(stripes).collect()
    }
}

/// Ranges of at most `most` of `count` things, all about as long, and their numbers.
fn pieces(count: usize, most: usize) -> impl Iterator<Item = (usize, (usize, usize))> {
    let pieces = count.div_ceil(most.max(1));
    (0..pieces).map(move |i| (i, (i * count / pieces, (i + 1) * count / pieces)))
}

/// Memory `[points, panels, rows, PANEL]` of tiles (or weights) at the points of an algorithm.
#[derive(Clone, Copy)]
pub(super) struct Points {
    pub(super) rows: usize,
    /// Elements from point to point: an odd number of cache lines, so that the points of a tile do
    /// not compete for the same places of a cache.
    pub(super) stride: usize,
}

impl Points {
    pub(super) fn new(panels: usize, rows: usize) -> Self {
        Self { rows, stride: ((panels * rows) | 1) * PANEL }
    }

    pub(super) fn panel(&self) -> usize {
        self.rows * PANEL
    }
}

/// Applies a map to the columns, then to the rows of a patch of vectors.
#[inline(always)]
pub(super) fn in_two_dimensions<T, V: Vector<T>, A: Map>(
    x: impl Fn(usize, usize) -> V,
    mut y: impl FnMut(usize, usize, V),
) {
    let mut half = [const { MaybeUninit::<V>::uninit() }; MOST * MOST];
    for j in 0..A::FROM {
        A::map(|i| x(i, j), |i, value| _ = half[i * MOST + j].write(value));
    }
    for i in 0..A::TO {
        // SAFETY: the loop above has written columns 0..FROM of rows 0..TO.
        A::map(|j| unsafe { half[i * MOST + j].assume_init() }, |j, value| y(i, j, value));
    }
}

/// One panel of a block: patches of `from [N, C, H, W]` to points.
pub(super) struct Gather<'a, T, A> {
    pub(super) from: &'a [T],
    pub(super) image: Image,
    pub(super) block: Block,
    pub(super) panel: usize,
    pub(super) to: *mut T,
    pub(super) points: Points,
    pub(super) map: PhantomData<A>,
}

impl<T: Element, A: Map> Stage<T> for Gather<'_, T, A> {
    #[inline(always)]
    unsafe fn run<M: Machine<T>>(self) {
        let (image, block) = (self.image, self.block);
        let plane = image.h * image.w;
        let rows = (block.y1 - block.y0 - 1) * image.step + A::FROM;
        let cols = ((block.cols - 1) * image.step + A::FROM).max(image.padding + image.w);
        let lanes = Scratch::<T>::new(rows * cols * PANEL);
        // Rows of the image that the block sees, and where the first of them lies in the scratch.
        let first = block.y0 * image.step;
        let y0 = first.saturating_sub(image.padding).min(image.h);
        let y1 = (first + rows).saturating_sub(image.padding).min(image.h);
        let above = (y0 + image.padding).saturating_sub(first).min(rows);
        // SAFETY: `to` has this panel.
        let to = unsafe { self.to.add(self.panel * self.points.panel()) };
        for n in block.n0..block.n1 {
            // SAFETY: rows `above..` and columns `padding..padding + w` are inside the scratch.
            unsafe {
                clear_margins(lanes.start(), (rows, cols), (above, y1 - y0), image);
                let run = Run {
                    planes: image.planes(self.panel),
                    stride: plane,
                    len: (y1 - y0) * image.w,
                    w: image.w,
                    row: cols * PANEL,
                };
                let from = (n * image.channels + self.panel * PANEL) * plane + y0 * image.w;
                let inner = lanes.start().add((above * cols + image.padding) * PANEL);
                if run.len > 0 {
                    run.load::<T, M>(self.from[from..].as_ptr(), inner);
                }
            }
            let tiles = (n - block.n0) * block.tiles_per_image();
            for tile in 0..block.tiles_per_image() {
                let (row, col) = (tile / block.cols, tile % block.cols);
                // SAFETY: the scratch holds the patches of all tiles; `to` is this panel's.
                unsafe {
                    let corner = (row * cols + col) * image.step * PANEL;
                    let to = to.add((tiles + tile) * PANEL);
                    for lane in (0..PANEL).step_by(M::Vector::LANES) {
                        let (x, y) = (lanes.start().add(corner + lane), to.add(lane));
                        in_two_dimensions::<T, M::Vector, A>(
                            |i, j| M::Vector::load(x.add((i * cols + j) * PANEL)),
                            |i, j, v| v.store(y.add((i * A::TO + j) * self.points.stride)),
                        );
                    }
                }
            }
        }
    }
}

/// Zero where no pixel of the image will be written.
#[inline(always)]
unsafe fn clear_margins<T: Element>(
    lanes: *mut T,
    (rows, cols): (usize, usize),
    (above, seen): (usize, usize),
    image: Image,
) {
    // SAFETY: all inside `rows * cols` pixels.
    unsafe {
        let clear = |from: usize, to: usize| {
            std::slice::from_raw_parts_mut(lanes.add(from * PANEL), (to - from) * PANEL)
                .fill(T::zero());
        };
        clear(0, above * cols);
        for row in above..above + seen {
            clear(row * cols, row * cols + image.padding);
            clear(row * cols + image.padding + image.w, (row + 1) * cols);
        }
        clear((above + seen) * cols, rows * cols);
    }
}

/// One panel of a block: points to patches of `to [N, C, H, W]`; where patches overlap, they are
/// added.
pub(super) struct Scatter<T, A> {
    pub(super) from: *const T,
    pub(super) points: Points,
    pub(super) panel: usize,
    pub(super) to: *mut T,
    pub(super) image: Image,
    pub(super) block: Block,
    /// Where the row goes that a stripe shares with the next one: `[stripes, N, C, W]`.
    pub(super) carry: *mut T,
    pub(super) carry_stride: usize,
    pub(super) map: PhantomData<A>,
}

impl<T: Element, A: Map> Stage<T> for Scatter<T, A> {
    #[inline(always)]
    unsafe fn run<M: Machine<T>>(self) {
        let (image, block) = (self.image, self.block);
        let (plane, planes) = (image.h * image.w, image.planes(self.panel));
        let overlaps = A::TO > image.step;
        let first = block.y0 * image.step;
        // Rows of the image that this block writes; the last block also those that no tile meets.
        let y0 = first.saturating_sub(image.padding);
        let end = (block.y1 * image.step).saturating_sub(image.padding);
        let y1 = if block.is_last { image.h } else { end.min(image.h) };
        let rows = ((block.y1 - block.y0 - 1) * image.step + A::TO).max(y1 + image.padding - first);
        let cols = ((block.cols - 1) * image.step + A::TO).max(image.padding + image.w);
        let lanes = Scratch::<T>::new(rows * cols * PANEL);
        for n in block.n0..block.n1 {
            if overlaps {
                // SAFETY: the length of the scratch.
                unsafe { std::slice::from_raw_parts_mut(lanes.start(), rows * cols * PANEL) }
                    .fill(T::zero());
            }
            let tiles = (n - block.n0) * block.tiles_per_image();
            for tile in 0..block.tiles_per_image() {
                let (row, col) = (tile / block.cols, tile % block.cols);
                // SAFETY: the scratch has room for the patches of all tiles.
                unsafe {
                    let corner = (row * cols + col) * image.step * PANEL;
                    let from = self.from.add((tiles + tile) * PANEL);
                    for lane in (0..PANEL).step_by(M::Vector::LANES) {
                        let (x, y) = (from.add(lane), lanes.start().add(corner + lane));
                        in_two_dimensions::<T, M::Vector, A>(
                            |i, j| M::Vector::load(x.add((i * A::FROM + j) * self.points.stride)),
                            |i, j, v| {
                                let y = y.add((i * cols + j) * PANEL);
                                let v = if overlaps { M::Vector::load(y) + v } else { v };
                                v.store(y);
                            },
                        );
                    }
                }
            }
            let run = Run {
                planes,
                stride: plane,
                len: (y1 - y0) * image.w,
                w: image.w,
                row: cols * PANEL,
            };
            let channel = n * image.channels + self.panel * PANEL;
            // SAFETY: this block's rows of this panel's planes, and its carried row.
            unsafe {
                let from = |y: usize| {
                    lanes.start().add(((y + image.padding - first) * cols + image.padding) * PANEL)
                };
                run.store::<T, M>(from(y0), self.to.add(channel * plane + y0 * image.w));
                if overlaps && !block.is_last && end < image.h {
                    let run = Run { stride: image.w, len: image.w, ..run };
                    run.store::<T, M>(
                        from(y1),
                        self.carry.add(block.stripe * self.carry_stride + channel * image.w),
                    );
                }
            }
        }
    }
}
