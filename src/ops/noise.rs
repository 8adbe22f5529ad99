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
use super::{cancel, cost, cuda, grad};

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
    if cuda::has_kernels(x.device()) {
        cost::own(x.contiguous()?.apply_op3(&noise.contiguous()?, strength, AddNoise))
    } else {
        reference(x, &noise, strength)
    }
}

/// The same in plain candle ops.
fn reference(x: &Tensor, noise: &Tensor, strength: &Tensor) -> Result<Tensor> {
    x.broadcast_add(&noise.broadcast_mul(strength)?)
}

/// `strength [] * noise`, over batch and channels of `shape`.
fn spread(strength: &Tensor, noise: &Tensor, shape: &Shape) -> Result<Tensor> {
    cost::own(strength.apply_op2(noise, Spread { shape: shape.clone() }))
}

/// `sum dy * noise`, a scalar.
fn dot(dy: &Tensor, noise: &Tensor) -> Result<Tensor> {
    cost::own(dy.contiguous()?.apply_op2(noise, Dot))
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

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::ops::check::{self, Draws, finite_differences, same, same_bits};

    /// `x [n, c, h, w]` and the strength, and noise for `num_noise` images.
    fn random(sizes: [usize; 4], num_noise: usize, seed: u64) -> Result<([Tensor; 2], Tensor)> {
        let ([n, c, h, w], mut draws) = (sizes, Draws::new(seed));
        let args = [draws.normals((n, c, h, w))?, draws.normals(())?];
        Ok((args, draws.normals((num_noise, 1, h, w))?))
    }

    /// The noise in the type of the other arguments.
    fn like(noise: &Tensor, args: &[Tensor]) -> Result<Tensor> {
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
            let product = check::dot(&spread(&strength, &noise, y.shape())?, &y)?;
            let other = check::dot(&strength, &dot(&y, &noise)?)?;
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
    fn unwanted_gradients_are_not_computed_and_unneeded_graphs_are_cut() -> Result<()> {
        let ([x, strength], noise) = random([2, 3, 4, 5], 1, 44)?;
        let (x, strength) = (Var::from_tensor(&x)?, Var::from_tensor(&strength)?);
        let dy = Var::from_tensor(&x)?;
        for keep_graph in [false, true] {
            let of = |var: &Var| {
                let bwd = || AddNoise.bwd(&x, &noise, &strength, &dy, &dy);
                grad::in_pass(&[var], keep_graph, bwd)
            };
            let (of_x, of_strength) = (of(&x)?, of(&strength)?);
            assert!(of_x.2.is_none() && of_strength.0.is_none());
            assert_eq!(of_x.0.map(|dx| dx.track_op()), Some(keep_graph));
            assert_eq!(of_strength.2.map(|ds| ds.track_op()), Some(keep_graph));
        }
        Ok(())
    }

    #[test]
    fn an_empty_batch_has_gradient_zero() -> Result<()> {
        let ([x, strength], noise) = random([0, 3, 4, 5], 1, 45)?;
        let (x, strength) = (Var::from_tensor(&x)?, Var::from_tensor(&strength)?);
        let y = add_noise(&x, &noise, &strength)?;
        let grads = grad::grad(&y.sum_all()?, &[&x, &strength])?;
        assert_eq!(grads[0].dims(), x.dims());
        assert_eq!(grads[1].to_scalar::<f64>()?, 0.0);
        Ok(())
    }
}
