//! Noise of one image, added to every channel with a learned strength.
//!
//! Three linear ops, each the derivative of the others: add (`x + s * noise`), spread
//! (`s -> s * noise`, over batch and channels) and dot (`dy -> sum dy * noise`).
//!
//! Reference: Karras et al. 2019, arXiv:1812.04948, section 2; one strength per layer since
//! arXiv:1912.04958.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail,
};

use super::cpu::{noise as kernel, run};
use super::traced::Traced;
use super::{cancel, cost, cuda};

/// `x [N, C, H, W] + strength [] * noise [N or 1, 1, H, W]`.
///
/// The noise is a constant; differentiable to any order in `x` and `strength`.
///
/// # Errors
/// Fails if the shapes do not fit.
pub fn add_noise(x: &Traced, noise: &Tensor, strength: &Traced) -> Result<Traced> {
    let (n, _, h, w) = x.dims4()?;
    let fits = noise.dims() == [n, 1, h, w] || noise.dims() == [1, 1, h, w];
    if !fits || strength.rank() != 0 {
        bail!(
            "add_noise: expected noise [{n} or 1, 1, {h}, {w}] and a scalar, got {:?} and {:?}",
            noise.shape(),
            strength.shape()
        );
    }
    if !cuda::has_kernels(x.device()) {
        return reference(x, noise, strength);
    }
    let noise = noise.contiguous()?;
    let y = cost::clock("add_noise", || {
        x.value().contiguous()?.apply_op3_no_bwd(&noise, strength.value(), &AddNoise)
    })?;
    Ok(Traced::derived(y, [x, strength], move |dy, wanted| {
        Ok([wanted.of(0, || Ok(dy.clone()))?, wanted.of(1, || dot(dy, &noise))?])
    }))
}

/// The same in plain candle ops.
fn reference(x: &Traced, noise: &Tensor, strength: &Traced) -> Result<Traced> {
    x.broadcast_add(&Traced::constant(noise).broadcast_mul(strength)?)
}

/// `strength [] * noise`, over batch and channels of `shape`.
fn spread(strength: &Traced, noise: &Tensor, shape: &Shape) -> Result<Traced> {
    let spread = Spread { shape: shape.clone() };
    let y = cost::clock("add_noise", || strength.value().apply_op2_no_bwd(noise, &spread))?;
    let noise = noise.clone();
    Ok(Traced::derived(y, [strength], move |dy, _| Ok([Some(dot(dy, &noise)?)])))
}

/// `sum dy * noise`, a scalar.
fn dot(dy: &Traced, noise: &Tensor) -> Result<Traced> {
    let y = cost::clock("noise_dot", || dy.value().contiguous()?.apply_op2_no_bwd(noise, &Dot))?;
    let (shape, noise) = (dy.shape().clone(), noise.clone());
    Ok(Traced::derived(y, [dy], move |d, _| Ok([Some(spread(d, &noise, &shape)?)])))
}

/// Images, channels, pixels.
fn sizes(shape: &Shape) -> Result<(usize, usize, usize)> {
    let (n, channels, h, w) = shape.dims4()?;
    Ok((n, channels, h * w))
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
        let sizes = sizes(x_layout.shape())?;
        let y = run!(self.name(), (x, x_layout), (noise, noise_layout), (strength, strength_layout) => {
            cuda::either!(
                (x, noise, strength);
                gpu => cuda::noise::add(&gpu, Some(x), (noise, strength), sizes);
                kernel::add(x, noise, (sizes.1, sizes.2), strength[0])
            )
        });
        Ok((y, x_layout.shape().clone()))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        noise: &CudaStorage,
        noise_layout: &Layout,
        strength: &CudaStorage,
        strength_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cancel::check()?;
        let sizes = sizes(x_layout.shape())?;
        let y = cuda::launch!(
            self.name(), (x, x_layout), (noise, noise_layout), (strength, strength_layout);
            gpu => cuda::noise::add(&gpu, Some(x), (noise, strength), sizes)
        );
        Ok((y, x_layout.shape().clone()))
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
        let sizes = sizes(&self.shape)?;
        let y = run!(self.name(), (strength, strength_layout), (noise, noise_layout) => {
            cuda::either!(
                (strength, noise);
                gpu => cuda::noise::add(&gpu, None, (noise, strength), sizes);
                kernel::spread(strength[0], noise, sizes)
            )
        });
        Ok((y, self.shape.clone()))
    }

    fn cuda_fwd(
        &self,
        strength: &CudaStorage,
        strength_layout: &Layout,
        noise: &CudaStorage,
        noise_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let sizes = sizes(&self.shape)?;
        let y = cuda::launch!(
            self.name(), (strength, strength_layout), (noise, noise_layout);
            gpu => cuda::noise::add(&gpu, None, (noise, strength), sizes)
        );
        Ok((y, self.shape.clone()))
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
        let y = run!(self.name(), (dy, dy_layout), (noise, noise_layout) => cuda::either!(
            (dy, noise);
            gpu => cuda::noise::dot(&gpu, dy, noise, (channels, h * w));
            vec![kernel::dot(dy, noise, (channels, h * w))]
        ));
        Ok((y, ().into()))
    }

    fn cuda_fwd(
        &self,
        dy: &CudaStorage,
        dy_layout: &Layout,
        noise: &CudaStorage,
        noise_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (_, channels, h, w) = dy_layout.shape().dims4()?;
        let y = cuda::launch!(self.name(), (dy, dy_layout), (noise, noise_layout); gpu => {
            cuda::noise::dot(&gpu, dy, noise, (channels, h * w))
        });
        Ok((y, ().into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::ops::check::{self, Draws, finite_differences, same, same_bits};
    use crate::ops::grad;

    /// `x [n, c, h, w]` and the strength, and noise for `num_noise` images.
    fn random(sizes: [usize; 4], num_noise: usize, seed: u64) -> Result<([Tensor; 2], Tensor)> {
        let ([n, c, h, w], mut draws) = (sizes, Draws::new(seed));
        let args = [draws.normals((n, c, h, w))?, draws.normals(())?];
        Ok((args, draws.normals((num_noise, 1, h, w))?))
    }

    /// The noise in the type of the other arguments.
    fn like(noise: &Tensor, args: &[Traced]) -> Result<Tensor> {
        noise.to_dtype(args[0].dtype())
    }

    /// Noise of each image, and noise that all images share.
    #[test]
    fn gradients_equal_finite_differences() -> Result<()> {
        for num_noise in [1, 3] {
            let (args, noise) = random([3, 2, 5, 4], num_noise, 40)?;
            finite_differences("add_noise", &args, &|a| add_noise(&a[0], &noise, &a[1]))?;
        }
        Ok(())
    }

    #[test]
    fn the_kernels_equal_the_reference() -> Result<()> {
        let mut draws = Draws::new(41);
        for seed in 100..120 {
            let sizes = [(); 4].map(|()| draws.size(1, 9));
            let num_noise = if draws.size(0, 1) == 0 { 1 } else { sizes[0] };
            let (args, noise) = random(sizes, num_noise, seed)?;
            let what = format!("{sizes:?}, {num_noise}");
            same(&what, &args, &|a| add_noise(&a[0], &like(&noise, a)?, &a[1]), &|a| {
                reference(&a[0], &like(&noise, a)?, &a[1])
            })?;
        }
        Ok(())
    }

    /// `<spread(s), y> = s dot(y)`.
    #[test]
    fn spread_and_dot_are_adjoint() -> Result<()> {
        for num_noise in [1, 3] {
            let ([y, strength], noise) = random([3, 5, 7, 4], num_noise, 42)?;
            let spread = spread(&(&strength).into(), &noise, y.shape())?;
            let product = check::dot(spread.value(), &y)?;
            let other = check::dot(&strength, dot(&(&y).into(), &noise)?.value())?;
            // Rounding of a sum of 420 terms of size one.
            assert!((product - other).abs() < 1e-12, "{product} {other}");
        }
        Ok(())
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
        for num_noise in [1, 5] {
            let (args, noise) = random([5, 9, 33, 65], num_noise, 43)?;
            same_bits("add_noise", &args, &|a| add_noise(&a[0], &like(&noise, a)?, &a[1]))?;
        }
        Ok(())
    }

    #[test]
    fn an_empty_batch_has_gradient_zero() -> Result<()> {
        let ([x, strength], noise) = random([0, 3, 4, 5], 1, 45)?;
        let wrt = [x, strength].map(|arg| Traced::variable(&Var::from_tensor(&arg).unwrap()));
        let y = add_noise(&wrt[0], &noise, &wrt[1])?;
        let grads = grad(y.sum_all()?, &wrt)?;
        assert_eq!(grads[0].dims(), wrt[0].dims());
        assert_eq!(grads[1].to_scalar::<f64>()?, 0.0);
        Ok(())
    }
}
