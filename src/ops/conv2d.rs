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

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::cpu::{Element, conv2d as kernel, run};
use super::{cancel, grad};

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
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
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
pub fn conv2d(x: &Tensor, w: &Tensor, stride: usize, padding: usize, gain: f64) -> Result<Tensor> {
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
    x: &Tensor,
    w: &Tensor,
    stride: usize,
    padding: usize,
    gain: f64,
) -> Result<Tensor> {
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

fn apply(a: &Tensor, b: &Tensor, op: Conv2d) -> Result<Tensor> {
    if a.device().is_cpu() {
        a.contiguous()?.apply_op2(&b.contiguous()?, op)
    } else {
        op.reference(a, b)
    }
}

impl Conv2d {
    fn member(self, kind: Kind) -> Self {
        Self { kind, ..self }
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

    /// The same in candle's own convolutions.
    fn reference(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let g = &self.geometry;
        let y = match self.kind {
            Kind::Forward => {
                // What no patch covers is cropped: candle's gradient takes it to be the same along
                // both axes.
                let (rows, cols) = ((g.oh() - 1) * g.stride + g.kh, (g.ow() - 1) * g.stride + g.kw);
                let p = g.padding;
                let x = a.pad_with_zeros(2, p, p)?.pad_with_zeros(3, p, p)?;
                let x = x.narrow(2, 0, rows)?.narrow(3, 0, cols)?.contiguous()?;
                x.conv2d(b, 0, g.stride, 1, 1)?
            }
            Kind::GradInput => {
                let full = a.conv_transpose2d(b, 0, 0, g.stride, 1)?; // [N, C, <= H + 2 padding, ..]
                let bottom = (g.h + 2 * g.padding).saturating_sub(full.dim(2)?);
                let right = (g.w + 2 * g.padding).saturating_sub(full.dim(3)?);
                let full = full.pad_with_zeros(2, 0, bottom)?.pad_with_zeros(3, 0, right)?;
                full.narrow(2, g.padding, g.h)?.narrow(3, g.padding, g.w)?
            }
            Kind::GradWeight => {
                let x = a.transpose(0, 1)?.contiguous()?; // [C, N, H, W]
                let dy = b.transpose(0, 1)?.contiguous()?; // [O, N, oh, ow]
                let dw = x.conv2d(&dy, g.padding, 1, g.stride, 1)?; // [C, O, >= kh, >= kw]
                dw.narrow(2, 0, g.kh)?.narrow(3, 0, g.kw)?.transpose(0, 1)?
            }
        };
        y.contiguous()? * g.gain
    }

    fn run<T: Element>(&self, a: &[T], b: &[T]) -> Vec<T> {
        match self.kind {
            Kind::Forward => kernel::forward(a, b, &self.geometry),
            Kind::GradInput => kernel::grad_input(a, b, &self.geometry),
            Kind::GradWeight => kernel::grad_weight(a, b, &self.geometry),
        }
    }
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

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let want = |arg: &Tensor, first: &Tensor, second: &Tensor, kind: Kind| {
            grad::wants(arg).then(|| apply(first, second, self.member(kind))).transpose()
        };
        let (ca, cb, dy) = (grad::cut(a), grad::cut(b), grad::cut(dy));
        match self.kind {
            Kind::Forward => {
                let dx = want(a, &dy, &cb, Kind::GradInput)?;
                Ok((dx, want(b, &ca, &dy, Kind::GradWeight)?))
            }
            Kind::GradInput => {
                let d_dy = want(a, &dy, &cb, Kind::Forward)?;
                Ok((d_dy, want(b, &dy, &ca, Kind::GradWeight)?))
            }
            Kind::GradWeight => {
                let dx = want(a, &cb, &dy, Kind::GradInput)?;
                Ok((dx, want(b, &ca, &dy, Kind::Forward)?))
            }
        }
    }
}

#[cfg(test)]
mod tests;
