//! Convolution and its two gradients: three ops, each the derivative of the others.
//!
//! With the gain g folded in, `y = g * conv(x, w)` is linear in `x` and in `w`, so every
//! derivative of a member is a member: the whole family is closed, to any order. The transposed
//! convolution of the up-sampling path is the gradient with respect to the input, used forward.
//!
//! This is cross-correlation (no flip), as in every deep learning library. Groups and dilation
//! are not here: StyleGAN2 needs neither, since modulation scales activations instead of weights.
//!
//! Reference: Chellapilla et al. 2006 (im2col + GEMM).

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::cpu::{Element, conv2d as kernel, run};
use super::traced::Traced;
use super::{cancel, cost, cuda};

/// How the processor computes 3x3 convolutions between many channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conv {
    /// Rounding errors of up to some 2e-5 of the largest value (f32), for the fewest products.
    #[default]
    Fast,
    /// The rounding errors of a plain sum of products, up to some 2e-6.
    Exact,
}

/// Unit tests compare with sums of products, so they want these; the kernels' own tests choose.
static IS_EXACT: AtomicBool = AtomicBool::new(cfg!(test));

/// Decides how the processor convolves, in the whole process; [`Conv::Fast`] unless said.
pub fn set_conv(conv: Conv) {
    IS_EXACT.store(conv == Conv::Exact, Ordering::Relaxed);
}

/// How the processor convolves.
pub fn conv() -> Conv {
    if IS_EXACT.load(Ordering::Relaxed) { Conv::Exact } else { Conv::Fast }
}

/// Sizes and constants of a convolution `x [N, C, H, W] * w [O, C, kh, kw] -> y [N, O, oh, ow]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Geometry {
    pub(super) n: usize,
    pub(super) c: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) o: usize,
    pub(super) kh: usize,
    pub(super) kw: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) gain: f64,
}

impl Geometry {
    pub(super) fn oh(&self) -> usize {
        (self.h + 2 * self.padding - self.kh) / self.stride + 1
    }

    pub(super) fn ow(&self) -> usize {
        (self.w + 2 * self.padding - self.kw) / self.stride + 1
    }

    fn check(&self) -> Result<()> {
        let (h, w) = (self.h + 2 * self.padding, self.w + 2 * self.padding);
        if self.stride == 0 || self.kh == 0 || self.kw == 0 || h < self.kh || w < self.kw {
            bail!(
                "conv2d: expected stride, kernel >= 1 and a padded input of at least the kernel, got stride {}, kernel {}x{} and input {h}x{w}",
                self.stride,
                self.kh,
                self.kw
            );
        }
        Ok(())
    }
}

/// Which of the three an op computes, and from which two it does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// `(x, w) -> y`
    Forward,
    /// `(dy, w) -> dx`
    GradInput,
    /// `(x, dy) -> dw`
    GradWeight,
}

#[derive(Clone, Copy, Debug)]
struct Conv2d {
    kind: Kind,
    geometry: Geometry,
}

/// `gain * conv(x, w)`: correlation of `x [N, C, H, W]` with `w [O, C, kh, kw]`, zero padding.
///
/// Returns `[N, O, (H + 2 padding - kh) / stride + 1, ..]`, differentiable to any order.
///
/// # Errors
/// Fails if channels or data types differ, or if the kernel exceeds the padded input.
pub fn conv2d(x: &Traced, w: &Traced, stride: usize, padding: usize, gain: f64) -> Result<Traced> {
    let (n, c, h, width) = x.dims4()?;
    let (o, w_c, kh, kw) = w.dims4()?;
    if c != w_c {
        bail!("conv2d: expected a weight for {c} input channels, got {w_c}");
    }
    let geometry = Geometry { n, c, h, w: width, o, kh, kw, stride, padding, gain };
    geometry.check()?;
    apply(x, w, Conv2d { kind: Kind::Forward, geometry })
}

/// Transposed convolution: `x [N, O, h, w]` spread by `w [O, C, kh, kw]` over `[N, C, H, W]`,
/// `H = (h - 1) stride + kh - 2 padding`; the adjoint of [`conv2d`], times `gain`.
///
/// # Errors
/// Fails if channels or data types differ, if `x` has no pixel, or if nothing remains inside the
/// padding.
pub fn conv_transpose2d(
    x: &Traced,
    w: &Traced,
    stride: usize,
    padding: usize,
    gain: f64,
) -> Result<Traced> {
    let (n, x_o, oh, ow) = x.dims4()?;
    let (o, c, kh, kw) = w.dims4()?;
    if oh == 0 || ow == 0 {
        bail!("conv_transpose2d: expected an input of at least 1x1, got {oh}x{ow}");
    }
    let (h, width) = ((oh - 1) * stride + kh, (ow - 1) * stride + kw);
    if x_o != o || h <= 2 * padding || width <= 2 * padding {
        bail!(
            "conv_transpose2d: expected {o} input channels and an output above {0}x{0} before cropping, got {x_o} and {h}x{width}",
            2 * padding
        );
    }
    let (h, width) = (h - 2 * padding, width - 2 * padding);
    let geometry = Geometry { n, c, h, w: width, o, kh, kw, stride, padding, gain };
    geometry.check()?;
    apply(x, w, Conv2d { kind: Kind::GradInput, geometry })
}

fn apply(a: &Traced, b: &Traced, op: Conv2d) -> Result<Traced> {
    if !cuda::has_convolutions(a.device()) || op.is_better_as_product(a) {
        return op.reference(a, b);
    }
    let flop = || kernel::flop(op.kind, &op.geometry);
    let y = cost::clock_convolution(op.name(), &op.geometry, flop, || {
        a.value().contiguous()?.apply_op2_no_bwd(&b.value().contiguous()?, &op)
    })?;
    let (kept_a, kept_b) = (a.kept_for(b), b.kept_for(a));
    Ok(Traced::derived(y, [a, b], move |dy, wanted| {
        let of_a = |kind| wanted.of(0, || apply(dy, kept_b.get()?, op.member(kind)));
        let of_b = |kind| wanted.of(1, || apply(kept_a.get()?, dy, op.member(kind)));
        Ok(match op.kind {
            Kind::Forward => [of_a(Kind::GradInput)?, of_b(Kind::GradWeight)?],
            Kind::GradInput => {
                let dw = || apply(dy, kept_a.get()?, op.member(Kind::GradWeight));
                [of_a(Kind::Forward)?, wanted.of(1, dw)?]
            }
            Kind::GradWeight => {
                let dx = || apply(kept_b.get()?, dy, op.member(Kind::GradInput));
                [wanted.of(0, dx)?, of_b(Kind::Forward)?]
            }
        })
    }))
}

impl Conv2d {
    fn member(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Whether one matrix product is faster than cuDNN: in 16 bits its tensor cores want channels
    /// in eights, and the layers from and to RGB have three.
    fn is_better_as_product(&self, a: &Traced) -> bool {
        let g = &self.geometry;
        let is_pointwise = (g.kh, g.kw, g.stride, g.padding) == (1, 1, 1, 0);
        let is_odd = !g.c.is_multiple_of(8) || !g.o.is_multiple_of(8);
        is_pointwise && is_odd && a.dtype().size_in_bytes() == 2
    }

    /// Shape of the result.
    fn out_shape(&self) -> (usize, usize, usize, usize) {
        let g = &self.geometry;
        match self.kind {
            Kind::Forward => (g.n, g.o, g.oh(), g.ow()),
            Kind::GradInput => (g.n, g.c, g.h, g.w),
            Kind::GradWeight => (g.o, g.c, g.kh, g.kw),
        }
    }

    /// The same in plain candle ops: for each tap of the kernel one matrix product.
    fn reference(&self, a: &Traced, b: &Traced) -> Result<Traced> {
        let g = &self.geometry;
        let taps = (0..g.kh).flat_map(|ky| (0..g.kw).map(move |kx| (ky, kx)));
        let plane = g.oh() * g.ow();
        let y = match self.kind {
            Kind::Forward => {
                let x = pad(a, g.padding)?;
                let products = taps.map(|tap| {
                    let x = self.seen_by(tap, &x)?.reshape((g.n, g.c, plane))?;
                    let w = weights_of(tap, b)?.broadcast_left(g.n)?; // [N, O, C]
                    w.contiguous()?.matmul(&x)
                });
                sum_of(products)?.reshape((g.n, g.o, g.oh(), g.ow()))?
            }
            Kind::GradInput => {
                let dy = a.reshape((g.n, g.o, plane))?.contiguous()?;
                let products = taps.map(|tap| {
                    let w = weights_of(tap, b)?.t()?.broadcast_left(g.n)?; // [N, C, O]
                    let dx = w.contiguous()?.matmul(&dy)?.reshape((g.n, g.c, g.oh(), g.ow()))?;
                    self.put_where_seen(tap, &dx)
                });
                let dx = sum_of(products)?; // [N, C, H + 2 padding, ..]
                dx.narrow(2, g.padding, g.h)?.narrow(3, g.padding, g.w)?
            }
            Kind::GradWeight => {
                let x = pad(a, g.padding)?;
                let flat = |y: &Traced, channels: usize| {
                    y.transpose(0, 1)?.reshape((channels, g.n * plane))?.contiguous()
                };
                let dy = flat(b, g.o)?;
                let dw = taps.map(|tap| dy.matmul(&flat(&self.seen_by(tap, &x)?, g.c)?.t()?));
                let dw = Traced::stack(&dw.collect::<Result<Vec<_>>>()?, 2)?; // [O, C, kh kw]
                dw.reshape((g.o, g.c, g.kh, g.kw))?
            }
        };
        y.contiguous()? * g.gain
    }

    /// The pixels of the padded `x` that meet a tap: `[N, C, oh, ow]`.
    fn seen_by(&self, (ky, kx): (usize, usize), x: &Traced) -> Result<Traced> {
        let g = &self.geometry;
        every(&every(x, 2, (ky, g.stride, g.oh()))?, 3, (kx, g.stride, g.ow()))
    }

    /// The adjoint of `seen_by`: `[N, C, H + 2 padding, ..]`, zero elsewhere.
    fn put_where_seen(&self, (ky, kx): (usize, usize), x: &Traced) -> Result<Traced> {
        let g = &self.geometry;
        let (h, w) = (g.h + 2 * g.padding, g.w + 2 * g.padding);
        spread(&spread(x, 2, (ky, g.stride, h))?, 3, (kx, g.stride, w))
    }

    fn run<T: Element>(&self, a: &[T], b: &[T]) -> Vec<T> {
        if cost::is_on() {
            return cost::convolution(self.name(), &self.geometry, self.out_shape());
        }
        match self.kind {
            Kind::Forward => kernel::forward(a, b, &self.geometry),
            Kind::GradInput => kernel::grad_input(a, b, &self.geometry),
            Kind::GradWeight => kernel::grad_weight(a, b, &self.geometry),
        }
    }
}

/// The weights of one tap, `[O, C]`.
fn weights_of((ky, kx): (usize, usize), w: &Traced) -> Result<Traced> {
    w.narrow(2, ky, 1)?.narrow(3, kx, 1)?.squeeze(3)?.squeeze(2)
}

fn sum_of(mut terms: impl Iterator<Item = Result<Traced>>) -> Result<Traced> {
    let Some(first) = terms.next() else { bail!("conv2d: expected a kernel of at least 1x1") };
    terms.try_fold(first?, |sum, term| sum + term?)
}

fn pad(x: &Traced, padding: usize) -> Result<Traced> {
    x.pad_with_zeros(2, padding, padding)?.pad_with_zeros(3, padding, padding)
}

/// `count` entries along `dim`, `step` apart, from `first` on.
fn every(x: &Traced, dim: usize, (first, step, count): (usize, usize, usize)) -> Result<Traced> {
    if step == 1 {
        return x.narrow(dim, first, count);
    }
    let idx = (0..count).map(|i| (first + i * step) as u32);
    x.contiguous()?.index_select(&Tensor::from_iter(idx, x.device())?, dim)
}

/// The adjoint of [`every`]: `len` entries along `dim`, zero but for those.
fn spread(x: &Traced, dim: usize, (first, step, len): (usize, usize, usize)) -> Result<Traced> {
    let count = x.dim(dim)?;
    let x = if step == 1 {
        x.clone()
    } else {
        let mut dims = x.dims().to_vec();
        dims[dim] = count * step;
        x.unsqueeze(dim + 1)?.pad_with_zeros(dim + 1, 0, step - 1)?.reshape(dims)?
    };
    let x = x.narrow(dim, 0, x.dim(dim)?.min(len - first))?;
    x.pad_with_zeros(dim, first, len - first - x.dim(dim)?)
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Forward => "conv2d",
            Kind::GradInput => "conv2d-grad-input",
            Kind::GradWeight => "conv2d-grad-weight",
        }
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        cancel::check()?;
        let y = run!(self.name(), (a, a_layout), (b, b_layout) => self.run(a, b));
        Ok((y, self.out_shape().into()))
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cancel::check()?;
        let y = cuda::conv2d(self.kind, &self.geometry, (a, a_layout), (b, b_layout))?;
        Ok((y, self.out_shape().into()))
    }
}

#[cfg(test)]
mod tests;
