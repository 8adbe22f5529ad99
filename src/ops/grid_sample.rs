//! Images read along an affine map: bilinear between pixels, zero outside.
//!
//! Each image has a map of its own, six numbers, from which kernels compute where a pixel reads: a
//! tensor of coordinates would be two thirds as large as a picture in color, and coordinates in f32
//! are off by 1e-4 pixels in large ones. Two ops, each the adjoint of the other, since the result
//! is linear in the image: sample (a gather) and splat (a scatter, within one plane in a fixed
//! order; on a GPU a gather as well, along the inverse map). So the pair is closed under
//! differentiation; the map is a constant.
//!
//! Not here: which map, and what keeps a picture from flickering under it (`augment`).
//!
//! Reference: Jaderberg et al. 2015, arXiv:1506.02025, equation 5.

use std::sync::Arc;

use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::cpu::{grid_sample as kernel, run};
use super::traced::Traced;
use super::{cancel, cost, cuda};

/// Where an output pixel reads: the rows of `[x, y] = A [column, row, 1]`, in pixels of the input,
/// whose centres are whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Column of the input.
    pub x: [f64; 3],
    /// Row of the input.
    pub y: [f64; 3],
}

impl Affine {
    /// The coordinates that output pixel (`row`, `column`) reads at.
    #[inline]
    pub fn at(&self, row: f64, column: f64) -> (f64, f64) {
        let along = |[a, b, c]: [f64; 3]| a * column + (b * row + c);
        (along(self.x), along(self.y))
    }
}

/// Reads `x [N, C, H, W]` along a map for each image, `[N, C, oh, ow]`.
///
/// Differentiable to any order in `x`.
///
/// # Errors
/// Fails if there are more or fewer maps than images.
pub fn grid_sample(x: &Traced, maps: &Arc<[Affine]>, size: (usize, usize)) -> Result<Traced> {
    let (n, _, h, w) = x.dims4()?;
    check("grid_sample", n, maps)?;
    if !cuda::has_kernels(x.device()) {
        return reference(x, maps, size);
    }
    let op = Sample { maps: maps.clone(), size };
    let y = cost::clock("grid_sample", || x.value().contiguous()?.apply_op1_no_bwd(&op))?;
    let maps = maps.clone();
    Ok(Traced::derived(y, [x], move |dy, _| Ok([Some(splat(dy, &maps, (h, w))?)])))
}

/// The adjoint of [`grid_sample`]: what was read is added to where it was read, `[N, C, h, w]`.
fn splat(dy: &Traced, maps: &Arc<[Affine]>, size: (usize, usize)) -> Result<Traced> {
    let (n, _, oh, ow) = dy.dims4()?;
    check("grid_splat", n, maps)?;
    let op = Splat { maps: maps.clone(), size };
    let x = cost::clock("grid_splat", || dy.value().contiguous()?.apply_op1_no_bwd(&op))?;
    let maps = maps.clone();
    Ok(Traced::derived(x, [dy], move |d, _| Ok([Some(grid_sample(d, &maps, (oh, ow))?)])))
}

fn check(op: &str, num_images: usize, maps: &[Affine]) -> Result<()> {
    if maps.len() != num_images {
        bail!("{op}: expected a map for each of {num_images} images, got {}", maps.len());
    }
    Ok(())
}

/// The same in plain candle ops: the four neighbours, each picked by its index and weighted.
fn reference(x: &Traced, maps: &[Affine], (oh, ow): (usize, usize)) -> Result<Traced> {
    let (n, c, h, w) = x.dims4()?;
    let pixels = x.transpose(0, 1)?.reshape((c, n * h * w))?;
    let neighbour = |dx: f64, dy: f64| {
        let (mut idx, mut weights) = (Vec::new(), Vec::new());
        for (image, map) in maps.iter().enumerate() {
            for pixel in 0..oh * ow {
                let (x, y) = map.at((pixel / ow) as f64, (pixel % ow) as f64);
                let (left, top) = (x.floor() + dx, y.floor() + dy);
                let is_inside = left >= 0.0 && top >= 0.0 && left < w as f64 && top < h as f64;
                let (left, top) = if is_inside { (left, top) } else { (x, y) };
                let at = if is_inside { top as usize * w + left as usize } else { 0 };
                idx.push((image * h * w + at) as u32);
                let weight = (1.0 - (x - left).abs()) * (1.0 - (y - top).abs());
                weights.push(if is_inside { weight } else { 0.0 });
            }
        }
        let len = n * oh * ow;
        let weights = Tensor::from_vec(weights, (1, len), x.device())?.to_dtype(x.dtype())?;
        let seen = pixels.index_select(&Tensor::from_vec(idx, len, x.device())?, 1)?;
        seen.broadcast_mul(&Traced::constant(&weights)) // [C, N oh ow]
    };
    let upper = (neighbour(0.0, 0.0)? + neighbour(1.0, 0.0)?)?;
    let lower = (neighbour(0.0, 1.0)? + neighbour(1.0, 1.0)?)?;
    (upper + lower)?.reshape((c, n, oh, ow))?.transpose(0, 1)?.contiguous()
}

struct Sample {
    maps: Arc<[Affine]>,
    /// Of the result, as in [`Splat`].
    size: (usize, usize),
}

struct Splat {
    maps: Arc<[Affine]>,
    size: (usize, usize),
}

/// The sizes of all planes, the image's and those of what is read from it, and the result's shape.
fn planes(
    layout: &Layout,
    (oh, ow): (usize, usize),
    is_adjoint: bool,
) -> Result<(kernel::Planes, Shape)> {
    let (n, channels, h, w) = layout.shape().dims4()?;
    let ((h, w), (oh, ow), shape) = if is_adjoint {
        ((oh, ow), (h, w), (n, channels, oh, ow))
    } else {
        ((h, w), (oh, ow), (n, channels, oh, ow))
    };
    Ok((kernel::Planes { channels, h, w, oh, ow }, shape.into()))
}

impl CustomOp1 for Sample {
    fn name(&self) -> &'static str {
        "grid-sample"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        cancel::check()?;
        let (planes, shape) = planes(layout, self.size, false)?;
        let y = run!(self.name(), (x, layout) => cuda::either!(
            (x);
            gpu => cuda::grid_sample::sample(&gpu, x, &self.maps, planes);
            kernel::sample(x, &self.maps, planes)
        ));
        Ok((y, shape))
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cancel::check()?;
        let (planes, shape) = planes(layout, self.size, false)?;
        let y = cuda::launch!(self.name(), (x, layout); gpu => {
            cuda::grid_sample::sample(&gpu, x, &self.maps, planes)
        });
        Ok((y, shape))
    }
}

impl CustomOp1 for Splat {
    fn name(&self) -> &'static str {
        "grid-splat"
    }

    fn cpu_fwd(&self, dy: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        cancel::check()?;
        let (planes, shape) = planes(layout, self.size, true)?;
        let x = run!(self.name(), (dy, layout) => cuda::either!(
            (dy);
            gpu => cuda::grid_sample::splat(&gpu, dy, &self.maps, planes);
            kernel::splat(dy, &self.maps, planes)
        ));
        Ok((x, shape))
    }

    fn cuda_fwd(&self, dy: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cancel::check()?;
        let (planes, shape) = planes(layout, self.size, true)?;
        let x = cuda::launch!(self.name(), (dy, layout); gpu => {
            cuda::grid_sample::splat(&gpu, dy, &self.maps, planes)
        });
        Ok((x, shape))
    }
}

#[cfg(test)]
mod tests;
