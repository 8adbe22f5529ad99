//! Noise of one image, added to every channel with a learned strength.
//!
//! Three linear ops, each the derivative of the others: add (`x + s * noise`), spread
//! (`s -> s * noise`, over batch and channels) and dot (`dy -> sum dy * noise`).
//!
//! Reference: Karras et al. 2019, arXiv:1812.04948, section 2; one strength per layer since
//! arXiv:1912.04958.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::cpu::{noise as kernel, run};
use super::{cancel, grad};

/// `x [N, C, H, W] + strength [] * noise [N or 1, 1, H, W]`.
///
/// The noise is a constant; differentiable to any order in `x` and `strength`.
///
/// # Errors
/// Fails if the shapes do not fit.
pub fn add_noise(x: &Tensor, noise: &Tensor, strength: &Tensor) -> Result<Tensor> {
    let (n, _, h, w) = x.dims4()?;
    let fits = noise.dims() == [n, 1, h, w] || noise.dims() == [1, 1, h, w];
    if !fits || strength.rank() != 0 {
        bail!(
            "add_noise: expected noise [{n} or 1, 1, {h}, {w}] and a scalar, got {:?} and {:?}",
            noise.shape(),
            strength.shape()
        );
    }
    let noise = noise.detach();
    if x.device().is_cpu() {
        x.contiguous()?.apply_op3(&noise.contiguous()?, strength, AddNoise)
    } else {
        x.broadcast_add(&noise.broadcast_mul(strength)?)
    }
}

/// `strength [] * noise`, over batch and channels of `shape`.
fn spread(strength: &Tensor, noise: &Tensor, shape: &Shape) -> Result<Tensor> {
    strength.apply_op2(noise, Spread { shape: shape.clone() })
}

/// `sum dy * noise`, a scalar.
fn dot(dy: &Tensor, noise: &Tensor) -> Result<Tensor> {
    dy.contiguous()?.apply_op2(noise, Dot)
}

struct AddNoise;

struct Spread {
    shape: Shape,
}

struct Dot;

impl CustomOp3 for AddNoise {
    fn name(&self) -> &'static str {
        "add-noise"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        noise: &CpuStorage,
        noise_layout: &Layout,
        strength: &CpuStorage,
        strength_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        cancel::check()?;
        let (_, channels, h, w) = x_layout.shape().dims4()?;
        let y = run!(self.name(), (x, x_layout), (noise, noise_layout), (strength, strength_layout) => {
            kernel::add(x, noise, (channels, h * w), strength[0])
        });
        Ok((y, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        noise: &Tensor,
        strength: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = grad::cut(dy);
        let d_strength = grad::wants(strength).then(|| dot(&dy, noise)).transpose()?;
        Ok((grad::wants(x).then_some(dy), None, d_strength))
    }
}

impl CustomOp2 for Spread {
    fn name(&self) -> &'static str {
        "noise-spread"
    }

    fn cpu_fwd(
        &self,
        strength: &CpuStorage,
        strength_layout: &Layout,
        noise: &CpuStorage,
        noise_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, channels, h, w) = self.shape.dims4()?;
        let sizes = (n, channels, h * w);
        let y = run!(self.name(), (strength, strength_layout), (noise, noise_layout) => {
            kernel::spread(strength[0], noise, sizes)
        });
        Ok((y, self.shape.clone()))
    }

    fn bwd(
        &self,
        _strength: &Tensor,
        noise: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(dot(&grad::cut(dy), noise)?), None))
    }
}

impl CustomOp2 for Dot {
    fn name(&self) -> &'static str {
        "noise-dot"
    }

    fn cpu_fwd(
        &self,
        dy: &CpuStorage,
        dy_layout: &Layout,
        noise: &CpuStorage,
        noise_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, channels, h, w) = dy_layout.shape().dims4()?;
        let y = run!(self.name(), (dy, dy_layout), (noise, noise_layout) => {
            vec![kernel::dot(dy, noise, (channels, h * w))]
        });
        Ok((y, ().into()))
    }

    fn bwd(
        &self,
        dy: &Tensor,
        noise: &Tensor,
        _y: &Tensor,
        d: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(spread(&grad::cut(d), noise, dy.shape())?), None))
    }
}
