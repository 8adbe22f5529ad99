//! A mirror at each edge of an image: what lies beyond is what lies before, the edge once.
//!
//! Two ops, each the adjoint of the other: pad, and fold (what was read as a mirror image is added
//! to where it came from).

use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::cpu::{reflect_pad as kernel, run};
use super::traced::Traced;
use super::{cancel, cost, cuda};

/// Pixels before and after, along one axis.
pub type Margin = [usize; 2];

/// `x [N, C, H, W]` with margins along H and W.
///
/// Differentiable to any order.
///
/// # Errors
/// Fails if a margin is as long as its axis or longer.
pub fn reflect_pad(x: &Traced, y: Margin, x_margin: Margin) -> Result<Traced> {
    let (_, _, h, w) = x.dims4()?;
    let pad = Pad { y, x: x_margin };
    if [(y, h), (x_margin, w)].iter().any(|(margin, len)| margin.iter().any(|m| m >= len)) {
        bail!("reflect_pad: expected margins below {h} and {w} pixels, got {y:?} and {x_margin:?}");
    }
    if !cuda::has_kernels(x.device()) {
        return pad.reference(x);
    }
    padded(x, pad)
}

fn padded(x: &Traced, pad: Pad) -> Result<Traced> {
    let y = cost::clock("reflect_pad", || x.value().contiguous()?.apply_op1_no_bwd(&pad))?;
    Ok(Traced::derived(y, [x], move |dy, _| Ok([Some(folded(dy, pad)?)])))
}

fn folded(dy: &Traced, pad: Pad) -> Result<Traced> {
    let x = cost::clock("reflect_fold", || dy.value().contiguous()?.apply_op1_no_bwd(&Fold(pad)))?;
    Ok(Traced::derived(x, [dy], move |d, _| Ok([Some(padded(d, pad)?)])))
}

#[derive(Clone, Copy)]
struct Pad {
    y: Margin,
    x: Margin,
}

struct Fold(Pad);

impl Pad {
    /// The sizes of all planes and of the padded ones, and the padded or folded shape.
    fn planes(self, layout: &Layout, is_adjoint: bool) -> Result<(kernel::Planes, Shape)> {
        let (n, c, h, w) = layout.shape().dims4()?;
        let (more_h, more_w) = (self.y[0] + self.y[1], self.x[0] + self.x[1]);
        let (h, w) = if is_adjoint { (h - more_h, w - more_w) } else { (h, w) };
        let planes = kernel::Planes { count: n * c, h, w, y: self.y, x: self.x };
        let shape = if is_adjoint { (n, c, h, w) } else { (n, c, h + more_h, w + more_w) };
        Ok((planes, shape.into()))
    }

    /// The same in plain candle ops: rows and columns by their index.
    fn reference(self, x: &Traced) -> Result<Traced> {
        let (_, _, h, w) = x.dims4()?;
        let idx = |len: usize, [before, after]: Margin| {
            let (len, before) = (len as isize, before as isize);
            let mirrored = |i: isize| (len - 1 - (len - 1 - i.abs()).abs()) as u32;
            Tensor::from_iter((-before..len + after as isize).map(mirrored), x.device())
        };
        x.index_select(&idx(h, self.y)?, 2)?.index_select(&idx(w, self.x)?, 3)
    }
}

impl CustomOp1 for Pad {
    fn name(&self) -> &'static str {
        "reflect-pad"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        cancel::check()?;
        let (planes, shape) = self.planes(layout, false)?;
        let y = run!(self.name(), (x, layout) => cuda::either!(
            (x);
            gpu => cuda::reflect_pad::pad(&gpu, x, planes);
            kernel::pad(x, planes)
        ));
        Ok((y, shape))
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cancel::check()?;
        let (planes, shape) = self.planes(layout, false)?;
        let y = cuda::launch!(self.name(), (x, layout); gpu => {
            cuda::reflect_pad::pad(&gpu, x, planes)
        });
        Ok((y, shape))
    }
}

impl CustomOp1 for Fold {
    fn name(&self) -> &'static str {
        "reflect-fold"
    }

    fn cpu_fwd(&self, dy: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        cancel::check()?;
        let (planes, shape) = self.0.planes(layout, true)?;
        let x = run!(self.name(), (dy, layout) => cuda::either!(
            (dy);
            gpu => cuda::reflect_pad::fold(&gpu, dy, planes);
            kernel::fold(dy, planes)
        ));
        Ok((x, shape))
    }

    fn cuda_fwd(&self, dy: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        cancel::check()?;
        let (planes, shape) = self.0.planes(layout, true)?;
        let x = cuda::launch!(self.name(), (dy, layout); gpu => {
            cuda::reflect_pad::fold(&gpu, dy, planes)
        });
        Ok((x, shape))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::ops::check::{Draws, finite_differences, same, same_bits};

    #[test]
    fn gradients_equal_finite_differences() -> Result<()> {
        let x = Draws::new(130).normals((2, 3, 5, 6))?;
        for (y, x_margin) in [([4, 4], [5, 5]), ([0, 2], [3, 0])] {
            finite_differences("reflect_pad", std::slice::from_ref(&x), &|x| {
                reflect_pad(&x[0], y, x_margin)
            })?;
        }
        Ok(())
    }

    #[test]
    fn the_kernels_equal_the_reference() -> Result<()> {
        let mut draws = Draws::new(131);
        for _ in 0..50 {
            let [n, c, h, w] = [(); 4].map(|()| draws.size(1, 9));
            let mut margin = |len: usize| [draws.size(0, len - 1), draws.size(0, len - 1)];
            let pad = Pad { y: margin(h), x: margin(w) };
            let x = draws.normals((n, c, h, w))?;
            let ours = |x: &[Traced]| reflect_pad(&x[0], pad.y, pad.x);
            same(&format!("{h}x{w}"), &[x], &ours, &|x| pad.reference(&x[0]))?;
        }
        Ok(())
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
        let x = Draws::new(132).normals((3, 3, 130, 133))?;
        same_bits("reflect_pad", &[x], &|x| reflect_pad(&x[0], [7, 129], [132, 5]))
    }

    #[test]
    fn edges_are_not_repeated() -> Result<()> {
        let x = Tensor::new(&[[[[1f64, 2.0, 3.0]]]], &Device::Cpu)?.into();
        let y = reflect_pad(&x, [0, 0], [2, 1])?;
        assert_eq!(y.value().flatten_all()?.to_vec1::<f64>()?, [3.0, 2.0, 1.0, 2.0, 3.0, 2.0]);
        for (y, x_margin) in [([0, 1], [0, 0]), ([0, 0], [3, 0])] {
            assert!(reflect_pad(&x, y, x_margin).is_err());
        }
        Ok(())
    }
}
