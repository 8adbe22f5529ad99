//! Each channel of each image times a number of its own: how styles modulate.
//!
//! Two ops, each the derivative of the other: scale (`x * s`) and dot (`sum over pixels of a * b`),
//! both linear in each argument, so the pair is closed under differentiation.
//!
//! Reference: Karras et al. 2020, arXiv:1912.04958, equation 1.

use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, bail};

use super::cpu::{channel_scale as kernel, run};
use super::traced::Traced;
use super::{cancel, cost, cuda};

/// `x [N, C, H, W] * s [N, C]`, the same factor for every pixel of a plane.
///
/// Differentiable to any order in both.
///
/// # Errors
/// Fails if batch or channels differ.
pub fn channel_scale(x: &Traced, s: &Traced) -> Result<Traced> {
    let (n, c, _, _) = x.dims4()?;
    if s.dims() != [n, c] {
        bail!("channel_scale: expected factors [{n}, {c}], got {:?}", s.shape());
    }
    if !cuda::has_kernels(x.device()) {
        return x.broadcast_mul(&s.reshape((n, c, 1, 1))?);
    }
    let y = cost::clock("channel_scale", || {
        x.value().contiguous()?.apply_op2_no_bwd(&s.value().contiguous()?, &Scale)
    })?;
    let (kept_x, kept_s) = (x.kept_for(s), s.kept_for(x));
    Ok(Traced::derived(y, [x, s], move |dy, wanted| {
        let dx = wanted.of(0, || channel_scale(dy, kept_s.get()?))?;
        Ok([dx, wanted.of(1, || channel_dot(kept_x.get()?, dy))?])
    }))
}

/// Sums of squares over H and W, `[N, C]`, for `x [N, C, H, W]`: twice one argument of
/// [`channel_dot`], and differentiated as such in one pass.
///
/// # Errors
/// Fails if `x` has no four dimensions.
pub(super) fn channel_energy(x: &Traced) -> Result<Traced> {
    let energy = channel_dot(&x.detach(), &x.detach())?.value().clone();
    let kept_x = x.clone();
    Ok(Traced::derived(energy, [x], move |dy, _| Ok([Some(channel_scale(&kept_x, &(dy * 2.0)?)?)])))
}

/// `sum over H, W of a * b`, `[N, C]`, for `a` and `b` `[N, C, H, W]`.
fn channel_dot(a: &Traced, b: &Traced) -> Result<Traced> {
    if !cuda::has_kernels(a.device()) {
        return (a * b)?.sum((2, 3));
    }
    let y = cost::clock("channel_dot", || {
        a.value().contiguous()?.apply_op2_no_bwd(&b.value().contiguous()?, &Dot)
    })?;
    let (kept_a, kept_b) = (a.kept_for(b), b.kept_for(a));
    Ok(Traced::derived(y, [a, b], move |dy, wanted| {
        let da = wanted.of(0, || channel_scale(kept_b.get()?, dy))?;
        Ok([da, wanted.of(1, || channel_scale(kept_a.get()?, dy))?])
    }))
}

struct Scale;

struct Dot;

impl CustomOp2 for Scale {
    fn name(&self) -> &'static str {
        "channel-scale"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        s: &CpuStorage,
        s_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        cancel::check()?;
        let y = run!(self.name(), (x, x_layout), (s, s_layout) => cuda::either!(
            (x, s);
            gpu => cuda::channel_scale::scale(&gpu, x, s);
            kernel::scale(x, s)
        ));
        Ok((y, x_layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        s: &CudaStorage,
        s_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cancel::check()?;
        let y = cuda::launch!(self.name(), (x, x_layout), (s, s_layout); gpu => {
            cuda::channel_scale::scale(&gpu, x, s)
        });
        Ok((y, x_layout.shape().clone()))
    }
}

impl CustomOp2 for Dot {
    fn name(&self) -> &'static str {
        "channel-dot"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, c, h, w) = a_layout.shape().dims4()?;
        let y = run!(self.name(), (a, a_layout), (b, b_layout) => cuda::either!(
            (a, b);
            gpu => cuda::channel_scale::dot(&gpu, a, b, (n * c, h * w));
            kernel::dot(a, b, n * c, h * w)
        ));
        Ok((y, (n, c).into()))
    }

    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        a_layout: &Layout,
        b: &CudaStorage,
        b_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (n, c, h, w) = a_layout.shape().dims4()?;
        let y = cuda::launch!(self.name(), (a, a_layout), (b, b_layout); gpu => {
            cuda::channel_scale::dot(&gpu, a, b, (n * c, h * w))
        });
        Ok((y, (n, c).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{Draws, finite_differences, same, same_bits};

    #[test]
    fn gradients_equal_finite_differences() -> Result<()> {
        let mut draws = Draws::new(80);
        let args = [draws.normals((3, 2, 5, 4))?, draws.normals((3, 2))?];
        finite_differences("channel_scale", &args, &|a| channel_scale(&a[0], &a[1]))?;
        let args = [draws.normals((3, 2, 5, 4))?, draws.normals((3, 2, 5, 4))?];
        finite_differences("channel_dot", &args, &|a| channel_dot(&a[0], &a[1]))?;
        finite_differences("channel_energy", &args[..1], &|a| channel_energy(&a[0]))
    }

    #[test]
    fn the_kernels_equal_the_reference() -> Result<()> {
        let mut draws = Draws::new(81);
        for _ in 0..10 {
            let [n, c, h, w] = [(); 4].map(|()| draws.size(1, 40));
            let args = [draws.normals((n, c, h, w))?, draws.normals((n, c))?];
            same(&format!("{n} {c} {h} {w}"), &args, &|a| channel_scale(&a[0], &a[1]), &|a| {
                a[0].broadcast_mul(&a[1].reshape((n, c, 1, 1))?)
            })?;
            let args = [draws.normals((n, c, h, w))?, draws.normals((n, c, h, w))?];
            same("dot", &args, &|a| channel_dot(&a[0], &a[1]), &|a| (&a[0] * &a[1])?.sum((2, 3)))?;
            let energy = |a: &[Traced]| channel_energy(&a[0]);
            same("energy", &args[..1], &energy, &|a| a[0].sqr()?.sum((2, 3)))?;
        }
        Ok(())
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
        let mut draws = Draws::new(82);
        let args = [draws.normals((4, 16, 64, 64))?, draws.normals((4, 16))?];
        same_bits("channel_scale", &args, &|a| channel_scale(&a[0], &a[1]))
    }
}
