//! The conv2d family as matrix products of unfolded patches (im2col).
//!
//! The output pixels of a batch are cut into tiles: some rows of one image, or several small
//! images. A tile's patches become the columns of a matrix `[C * kh * kw, pixels]`, so that
//! forward is `W * patches`, the weight gradient `dy * patches^T`, and the input gradient spreads
//! `W^T * dy` back over the image. A stride-1 input gradient is a forward convolution with
//! flipped, transposed weights. Tiles and blocks follow from the shapes alone.
//!
//! Reference: Chellapilla et al. 2006, High Performance Convolutional Neural Networks.

use crate::ops::conv2d::Geometry;
use crate::ops::cpu::Element;
use crate::ops::cpu::gemm::{Matrix, Shared, gemm};
use crate::ops::cpu::share::share_with;

/// Output pixels per tile: the patches of a tile should stay in the second-level cache.
const TILE: usize = 512;
/// Input channels that a task of the gradients handles.
const CHANNELS: usize = 16;

/// Output pixels whose patches are unfolded together: rows `y0..y1` of images `n0..n1`, where
/// several images always come whole.
#[derive(Clone, Copy)]
struct Tile {
    n0: usize,
    n1: usize,
    y0: usize,
    y1: usize,
}

impl Tile {
    fn pixels(&self, g: &Geometry) -> usize {
        (self.n1 - self.n0) * self.pixels_per_image(g)
    }

    fn pixels_per_image(&self, g: &Geometry) -> usize {
        (self.y1 - self.y0) * g.ow()
    }
}

fn tiles(g: &Geometry) -> Vec<Tile> {
    let (oh, ow) = (g.oh(), g.ow());
    let images = (TILE / (oh * ow)).max(1);
    let rows = if images > 1 { oh } else { (TILE / ow).clamp(1, oh) };
    let mut tiles = Vec::new();
    for n0 in (0..g.n).step_by(images) {
        for y0 in (0..oh).step_by(rows) {
            tiles.push(Tile { n0, n1: (n0 + images).min(g.n), y0, y1: (y0 + rows).min(oh) });
        }
    }
    tiles
}

/// `y [N, O, oh, ow] = gain * conv(x [N, C, H, W], w [O, C, kh, kw])`.
#[expect(unsafe_code, reason = "tiles write disjoint pixels of one output")]
pub(super) fn forward<T: Element>(x: &[T], w: &[T], g: &Geometry) -> Vec<T> {
    let (plane, inner) = (g.oh() * g.ow(), g.c * g.kh * g.kw);
    let mut y = vec![T::zero(); g.n * g.o * plane];
    let out = Shared::new(&mut y);
    let gain = T::from_f64(g.gain);
    let is_pointwise = (g.kh, g.kw, g.stride, g.padding) == (1, 1, 1, 0);
    share_with(
        tiles(g).into_iter(),
        || (Vec::new(), Vec::new()),
        |(patches, pixels), tile| {
            let len = tile.pixels(g);
            let first = tile.y0 * g.ow();
            let single = tile.n1 - tile.n0 == 1;
            let rhs = if is_pointwise && single {
                Matrix::new(&x[tile.n0 * g.c * plane + first..], plane, 1)
            } else {
                unfold(x, g, tile, 0..g.c, patches);
                Matrix::new(patches, len, 1)
            };
            let (size, lhs) = ((g.o, len, inner), Matrix::new(w, inner, 1));
            if single {
                let start = tile.n0 * g.o * plane + first;
                // SAFETY: only this tile writes these rows of this image.
                unsafe { out.gemm((start, plane), size, lhs, rhs, (gain, false)) };
                return;
            }
            pixels.resize(g.o * len, T::zero());
            gemm(pixels, size, lhs, rhs, gain);
            for (o, row) in pixels.chunks_exact(len).enumerate() {
                for (n, pixels) in (tile.n0..tile.n1).zip(row.chunks_exact(plane)) {
                    // SAFETY: only this tile writes this image.
                    unsafe { out.row((n * g.o + o) * plane, plane) }.copy_from_slice(pixels);
                }
            }
        },
    );
    y
}

/// `dx [N, C, H, W]` from `dy [N, O, oh, ow]` and `w [O, C, kh, kw]`, times gain.
pub(super) fn grad_input<T: Element>(dy: &[T], w: &[T], g: &Geometry) -> Vec<T> {
    if g.stride == 1 && g.kh == g.kw && g.padding < g.kh {
        let flipped = flip_and_transpose(w, g);
        let (h, w) = (g.oh(), g.ow());
        let mirrored = Geometry { c: g.o, o: g.c, h, w, padding: g.kh - 1 - g.padding, ..*g };
        return forward(dy, &flipped, &mirrored);
    }
    spread(dy, w, g)
}

/// The input gradient of any stride: patches of gradients, added where they came from.
#[expect(unsafe_code, reason = "tasks write disjoint channels of one output")]
fn spread<T: Element>(dy: &[T], w: &[T], g: &Geometry) -> Vec<T> {
    let (kernel, plane) = (g.kh * g.kw, g.oh() * g.ow());
    let tiles = tiles(g);
    let mut dx = vec![T::zero(); g.n * g.c * g.h * g.w];
    let out = Shared::new(&mut dx);
    let blocks: Vec<usize> = (0..g.c).step_by(2 * CHANNELS).collect();
    let images: Vec<&[Tile]> = tiles.chunk_by(|a, b| a.n0 == b.n0).collect();
    let tasks: Vec<(usize, &[Tile])> =
        images.iter().flat_map(|&tiles| blocks.iter().map(move |&c| (c, tiles))).collect();
    share_with(
        tasks.into_iter(),
        || (Vec::new(), Vec::new()),
        |(patches, gathered), (c0, tiles)| {
            let c1 = (c0 + 2 * CHANNELS).min(g.c);
            let rows = (c1 - c0) * kernel;
            for &tile in tiles {
                let len = tile.pixels(g);
                let rhs = gradient_matrix(dy, g, tile, plane, gathered);
                patches.resize(rows * len, T::zero());
                let lhs = Matrix::new(&w[c0 * kernel..], 1, g.c * kernel); // W^T
                gemm(patches, (rows, len, g.o), lhs, rhs, T::from_f64(g.gain));
                let image = (c1 - c0) * g.h * g.w;
                for n in tile.n0..tile.n1 {
                    // SAFETY: only this task writes these channels of these images.
                    let dx = unsafe { out.row((n * g.c + c0) * g.h * g.w, image) };
                    fold(patches, len, g, tile, n, dx);
                }
            }
        },
    );
    dx
}

/// `dw [O, C, kh, kw]` from `x [N, C, H, W]` and `dy [N, O, oh, ow]`, times gain.
#[expect(unsafe_code, reason = "tasks write disjoint columns of one output")]
pub(super) fn grad_weight<T: Element>(x: &[T], dy: &[T], g: &Geometry) -> Vec<T> {
    let (kernel, plane) = (g.kh * g.kw, g.oh() * g.ow());
    let inner = g.c * kernel;
    let tiles = tiles(g);
    let mut dw = vec![T::zero(); g.o * inner];
    let out = Shared::new(&mut dw);
    let blocks: Vec<usize> = (0..g.c).step_by(CHANNELS).collect();
    share_with(
        blocks.into_iter(),
        || (Vec::new(), Vec::new()),
        |(patches, gathered), c0| {
            let c1 = (c0 + CHANNELS).min(g.c);
            let cols = (c1 - c0) * kernel;
            for &tile in &tiles {
                let len = tile.pixels(g);
                unfold(x, g, tile, c0..c1, patches);
                let lhs = gradient_matrix(dy, g, tile, plane, gathered);
                let rhs = Matrix::new(patches, 1, len); // patches^T
                let size = (g.o, cols, len);
                // SAFETY: only this task writes the columns of these channels.
                unsafe {
                    out.gemm((c0 * kernel, inner), size, lhs, rhs, (T::from_f64(g.gain), true));
                }
            }
        },
    );
    dw
}

/// The tile's pixels of `dy` as a matrix `[O, pixels]`, gathered only where it spans images.
fn gradient_matrix<'a, T: Element>(
    dy: &'a [T],
    g: &Geometry,
    tile: Tile,
    plane: usize,
    gathered: &'a mut Vec<T>,
) -> Matrix<'a, T> {
    if tile.n1 - tile.n0 == 1 {
        return Matrix::new(&dy[tile.n0 * g.o * plane + tile.y0 * g.ow()..], plane, 1);
    }
    gathered.clear();
    for o in 0..g.o {
        for n in tile.n0..tile.n1 {
            gathered.extend_from_slice(&dy[(n * g.o + o) * plane..][..plane]);
        }
    }
    Matrix::new(gathered, tile.pixels(g), 1)
}

/// Writes the patches of a tile as `[channels * kh * kw, pixels]`; outside the image is zero.
fn unfold<T: Element>(
    x: &[T],
    g: &Geometry,
    tile: Tile,
    channels: std::ops::Range<usize>,
    patches: &mut Vec<T>,
) {
    let ow = g.ow();
    patches.resize(channels.len() * g.kh * g.kw * tile.pixels(g), T::zero());
    let mut rows = patches.chunks_exact_mut(ow);
    for c in channels {
        for (ky, kx) in (0..g.kh).flat_map(|ky| (0..g.kw).map(move |kx| (ky, kx))) {
            let (x0, x1) = inside(kx, g.padding, g.stride, g.w, ow);
            for n in tile.n0..tile.n1 {
                let plane = &x[(n * g.c + c) * g.h * g.w..][..g.h * g.w];
                for oy in tile.y0..tile.y1 {
                    let Some(row) = rows.next() else { return };
                    let iy = oy * g.stride + ky;
                    if iy < g.padding || iy >= g.padding + g.h || x0 >= x1 {
                        row.fill(T::zero());
                        continue;
                    }
                    let first = (iy - g.padding) * g.w + x0 * g.stride + kx - g.padding;
                    row[..x0].fill(T::zero());
                    row[x1..].fill(T::zero());
                    if g.stride == 1 {
                        row[x0..x1].copy_from_slice(&plane[first..first + x1 - x0]);
                    } else {
                        let values = plane[first..].iter().step_by(g.stride);
                        row[x0..x1].iter_mut().zip(values).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
    }
}

/// Adds the patches of image `n` of a tile to `dx [channels, H, W]`: the adjoint of [`unfold`].
fn fold<T: Element>(patches: &[T], len: usize, g: &Geometry, tile: Tile, n: usize, dx: &mut [T]) {
    let ow = g.ow();
    let first_pixel = (n - tile.n0) * tile.pixels_per_image(g);
    for (row, pixels) in patches.chunks_exact(len).enumerate() {
        let (c, ky, kx) = (row / (g.kh * g.kw), row / g.kw % g.kh, row % g.kw);
        let (x0, x1) = inside(kx, g.padding, g.stride, g.w, ow);
        let plane = &mut dx[c * g.h * g.w..][..g.h * g.w];
        for oy in tile.y0..tile.y1 {
            let iy = oy * g.stride + ky;
            if iy < g.padding || iy >= g.padding + g.h || x0 >= x1 {
                continue;
            }
            let from = &pixels[first_pixel + (oy - tile.y0) * ow..][x0..x1];
            let first = (iy - g.padding) * g.w + x0 * g.stride + kx - g.padding;
            let to = plane[first..].iter_mut().step_by(g.stride);
            to.zip(from).for_each(|(to, from)| *to += *from);
        }
    }
}

/// The output columns whose tap `kx` falls inside the image.
fn inside(kx: usize, padding: usize, stride: usize, w: usize, ow: usize) -> (usize, usize) {
    let x0 = padding.saturating_sub(kx).div_ceil(stride);
    let x1 = (w + padding).saturating_sub(kx).div_ceil(stride);
    (x0.min(ow), x1.min(ow))
}

fn flip_and_transpose<T: Element>(w: &[T], g: &Geometry) -> Vec<T> {
    let kernel = g.kh * g.kw;
    let mut flipped = Vec::with_capacity(w.len());
    for c in 0..g.c {
        for o in 0..g.o {
            flipped.extend(w[(o * g.c + c) * kernel..][..kernel].iter().rev());
        }
    }
    flipped
}
