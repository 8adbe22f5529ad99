//! Pad, upsample, filter and downsample a batch of images in one op.
//!
//! Every change of resolution in StyleGAN2 goes through here: insert `up - 1` zeros after each
//! pixel, pad (a negative pad crops), convolve with a FIR filter, keep every `down`-th pixel. The
//! adjoint of such an op is another such op, so the family is closed under differentiation.
//!
//! Not here: convolutions with learned weights (`conv2d`), which filter to use (`model`).
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958; `scipy.signal.upfirdn` for one axis.

use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::cpu::{run, upfirdn2d as kernel};
use super::traced::Traced;
use super::{cancel, cost, cuda};

/// A FIR filter as a sum of separable ones: term i is the outer product of its column taps and
/// its row taps. A separable filter has one term, any other one term per row.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    terms: Vec<Term>,
    height: usize,
    width: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    /// Taps along H.
    pub(super) column: Vec<f64>,
    /// Taps along W.
    pub(super) row: Vec<f64>,
}

impl Filter {
    /// The filter that changes nothing.
    pub fn identity() -> Self {
        Self::separable(&[1.0])
    }

    /// The same taps along H and along W.
    pub fn separable(taps: &[f64]) -> Self {
        let term = Term { column: taps.to_vec(), row: taps.to_vec() };
        Self { terms: vec![term], height: taps.len(), width: taps.len() }
    }

    /// Any filter, given as its rows.
    ///
    /// # Errors
    /// Fails if there is no row or if the rows differ in length.
    pub fn dense(rows: &[Vec<f64>]) -> Result<Self> {
        let (height, width) = (rows.len(), rows.first().map_or(0, Vec::len));
        if width == 0 || rows.iter().any(|row| row.len() != width) {
            bail!("filter: expected rows of one length, at least 1, got {rows:?}");
        }
        let unit = |y: usize| (0..height).map(|i| f64::from(u8::from(i == y))).collect();
        let term = |(y, row): (usize, &Vec<f64>)| Term { column: unit(y), row: row.clone() };
        Ok(Self { terms: rows.iter().enumerate().map(term).collect(), height, width })
    }

    /// The smoothing filter of StyleGAN2: `[1, 3, 3, 1] / 8` along both axes.
    pub fn stylegan2() -> Self {
        Self::separable(&[0.125, 0.375, 0.375, 0.125])
    }

    /// Taps along H and along W.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// The filter as `[H, W]` values, row by row.
    pub fn values(&self) -> Vec<f64> {
        let mut values = vec![0.0; self.height * self.width];
        for term in &self.terms {
            for (i, value) in values.iter_mut().enumerate() {
                *value += term.column[i / self.width] * term.row[i % self.width];
            }
        }
        values
    }

    fn flipped(&self) -> Self {
        let reversed = |taps: &[f64]| taps.iter().rev().copied().collect();
        let flip = |t: &Term| Term { column: reversed(&t.column), row: reversed(&t.row) };
        Self { terms: self.terms.iter().map(flip).collect(), ..*self }
    }
}

/// What happens along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// Upsampling factor, at least 1.
    pub up: usize,
    /// Downsampling factor, at least 1.
    pub down: usize,
    /// Zeros before the first and after the last (upsampled) pixel; negative: cropped.
    pub pad: [isize; 2],
}

impl Axis {
    /// Output pixels for `len` input pixels and a filter of `taps`; not positive: nothing left.
    pub(super) fn out_len(&self, len: usize, taps: usize) -> isize {
        let padded = (len * self.up) as isize + self.pad[0] + self.pad[1];
        (padded - taps as isize).div_euclid(self.down as isize) + 1
    }

    /// The axis of the adjoint, for the sizes of this one.
    fn adjoint(&self, len: usize, taps: usize) -> Self {
        let out = self.out_len(len, taps);
        let before = taps as isize - 1 - self.pad[0];
        let after = (len * self.up) as isize - out * self.down as isize + self.pad[0]
            - self.up as isize
            + 1;
        Self { up: self.down, down: self.up, pad: [before, after] }
    }
}

/// The whole operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Upfirdn2d {
    /// Correlated with the padded image, i.e. already flipped where a convolution is meant.
    filter: Filter,
    y: Axis,
    x: Axis,
    gain: f64,
}

impl Upfirdn2d {
    /// Convolution with `filter` (true convolution: the filter is flipped), times `gain`.
    pub fn convolve(filter: &Filter, y: Axis, x: Axis, gain: f64) -> Self {
        Self { filter: filter.flipped(), y, x, gain }
    }

    /// Correlation with `filter` (not flipped), times `gain`.
    pub fn correlate(filter: &Filter, y: Axis, x: Axis, gain: f64) -> Self {
        Self { filter: filter.clone(), y, x, gain }
    }

    /// Twice the size, as StyleGAN2 pads it: pixel values are kept (gain 4).
    pub fn double(filter: &Filter) -> Self {
        let axis = |taps: usize| Axis { up: 2, down: 1, pad: halves(taps, [1, -2]) };
        Self::convolve(filter, axis(filter.height), axis(filter.width), 4.0)
    }

    /// Half the size, as StyleGAN2 pads it.
    pub fn halve(filter: &Filter) -> Self {
        let axis = |taps: usize| Axis { up: 1, down: 2, pad: halves(taps, [-1, -2]) };
        Self::convolve(filter, axis(filter.height), axis(filter.width), 1.0)
    }

    fn adjoint(&self, h: usize, w: usize) -> Self {
        let (taps_y, taps_x) = self.filter.size();
        let (y, x) = (self.y.adjoint(h, taps_y), self.x.adjoint(w, taps_x));
        Self { filter: self.filter.flipped(), y, x, gain: self.gain }
    }

    fn out_dims(&self, h: usize, w: usize) -> Result<(usize, usize)> {
        if [self.y.up, self.y.down, self.x.up, self.x.down].contains(&0) {
            bail!("upfirdn2d: expected factors >= 1, got {:?} and {:?}", self.y, self.x);
        }
        let (taps_y, taps_x) = self.filter.size();
        let (oh, ow) = (self.y.out_len(h, taps_y), self.x.out_len(w, taps_x));
        if oh < 1 || ow < 1 {
            bail!("upfirdn2d: expected a result of at least 1x1, got {oh}x{ow}");
        }
        Ok((oh as usize, ow as usize))
    }

    /// The sizes of all planes, and the result's shape.
    fn planes(&self, layout: &Layout) -> Result<(kernel::Planes, Shape)> {
        let (n, c, h, w) = layout.shape().dims4()?;
        let (oh, ow) = self.out_dims(h, w)?;
        Ok((kernel::Planes { count: n * c, h, w, oh, ow }, (n, c, oh, ow).into()))
    }

    /// The same in plain candle ops: zeros by padding, then each tap's share.
    fn reference(&self, x: &Traced) -> Result<Traced> {
        let (n, c, h, w) = x.dims4()?;
        let (oh, ow) = self.out_dims(h, w)?;
        let (kh, kw) = self.filter.size();
        let x = x.reshape((n * c, h, 1, w, 1))?;
        let x = x.pad_with_zeros(2, 0, self.y.up - 1)?.pad_with_zeros(4, 0, self.x.up - 1)?;
        let x = x.reshape((n * c, h * self.y.up, w * self.x.up))?;
        let x = pad_or_crop(&pad_or_crop(&x, 1, self.y.pad)?, 2, self.x.pad)?;
        let (rows, cols) = (x.dim(1)? - kh + 1, x.dim(2)? - kw + 1);
        let values = self.filter.values();
        let share = |tap: usize| {
            let seen = x.narrow(1, tap / kw, rows)?.narrow(2, tap % kw, cols)?;
            seen * (values[tap] * self.gain)
        };
        let y = (1..kh * kw).try_fold(share(0)?, |sum, tap| sum + share(tap)?)?;
        let y = every(&every(&y, 1, self.y.down, oh)?, 2, self.x.down, ow)?;
        y.reshape((n, c, oh, ow))
    }
}

/// `(taps + offset) / 2` before and after, rounded down: filters shorter than the factor crop.
pub(super) fn halves(taps: usize, offsets: [isize; 2]) -> [isize; 2] {
    offsets.map(|offset| (taps as isize + offset).div_euclid(2))
}

fn pad_or_crop(x: &Traced, dim: usize, [before, after]: [isize; 2]) -> Result<Traced> {
    let x = x.pad_with_zeros(dim, before.max(0) as usize, after.max(0) as usize)?;
    let (first, last) = ((-before).max(0) as usize, (-after).max(0) as usize);
    x.narrow(dim, first, x.dim(dim)? - first - last)
}

/// Every `step`-th of `count` entries along `dim`.
fn every(x: &Traced, dim: usize, step: usize, count: usize) -> Result<Traced> {
    let idx: Vec<u32> = (0..count).map(|i| (i * step) as u32).collect();
    x.index_select(&Tensor::from_vec(idx, count, x.device())?, dim)
}

/// Applies `op` to each plane of `x [N, C, H, W]`.
///
/// Returns `[N, C, oh, ow]`, differentiable to any order.
///
/// # Errors
/// Fails if nothing is left after cropping.
pub fn upfirdn2d(x: &Traced, op: &Upfirdn2d) -> Result<Traced> {
    let (_, _, h, w) = x.dims4()?;
    op.out_dims(h, w)?;
    if !cuda::has_kernels(x.device()) {
        return op.reference(x);
    }
    let y = cost::clock("upfirdn2d", || x.value().contiguous()?.apply_op1_no_bwd(op))?;
    let adjoint = op.adjoint(h, w);
    Ok(Traced::derived(y, [x], move |dy, _| Ok([Some(upfirdn2d(dy, &adjoint)?)])))
}

impl CustomOp1 for Upfirdn2d {
    fn name(&self) -> &'static str {
        "upfirdn2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        cancel::check()?;
        let (planes, shape) = self.planes(layout)?;
        let (terms, axes) = (&self.filter.terms, (&self.y, &self.x));
        let y = run!(self.name(), (x, layout) => cuda::either!(
            (x);
            gpu => cuda::upfirdn2d::apply(&gpu, x, planes, (&self.filter.values(), self.filter.size()), axes, self.gain);
            kernel::apply(x, planes, terms, axes, self.gain)
        ));
        Ok((y, shape))
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cancel::check()?;
        let (planes, shape) = self.planes(layout)?;
        let axes = (&self.y, &self.x);
        let y = cuda::launch!(self.name(), (x, layout); gpu => {
            cuda::upfirdn2d::apply(&gpu, x, planes, (&self.filter.values(), self.filter.size()), axes, self.gain)
        });
        Ok((y, shape))
    }
}

#[cfg(test)]
mod tests;
