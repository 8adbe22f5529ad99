//! Each image filtered along one axis by taps of its own.
//!
//! Outside of an image are zeros. The adjoint of such a filter is another one, with its taps
//! turned round, so the op is closed under differentiation; the taps are constants.
//!
//! Not here: one filter for all images and changes of resolution (`upfirdn2d`).

use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::cpu::{image_fir as kernel, run};
use super::traced::Traced;
use super::{cancel, cost, cuda};

/// Along which axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// Down the columns.
    H,
    /// Along the rows.
    W,
}

/// `x [N, C, H, W]` correlated with `taps [N, K]` along an axis, `pad` zeros at either end, so that
/// the axis grows by `2 pad - K + 1`.
///
/// Differentiable to any order in `x`.
///
/// # Errors
/// Fails if the taps are not one row for each image, of the type of `x`, if `pad` is K or more, or
/// if nothing is left.
pub fn image_fir(x: &Traced, taps: &Tensor, along: Along, pad: usize) -> Result<Traced> {
    let op = ImageFir { along, pad };
    let (n, _, h, w) = x.dims4()?;
    let (rows, num_taps) = taps.dims2()?;
    let len = if along == Along::H { h } else { w };
    if rows != n || num_taps <= pad || len + 2 * pad < num_taps {
        bail!(
            "image_fir: expected taps [{n}, K], {pad} < K <= {}, got {:?}",
            len + 2 * pad,
            taps.shape()
        );
    }
    if !cuda::has_kernels(x.device()) {
        return op.reference(x, taps);
    }
    let taps = taps.contiguous()?;
    let y = cost::clock("image_fir", || x.value().contiguous()?.apply_op2_no_bwd(&taps, &op))?;
    let turned = taps.flip(&[1])?;
    Ok(Traced::derived(y, [x], move |dy, _| {
        Ok([Some(image_fir(dy, &turned, along, num_taps - 1 - pad)?)])
    }))
}

struct ImageFir {
    along: Along,
    pad: usize,
}

impl ImageFir {
    /// The same in plain candle ops: each tap's share.
    fn reference(&self, x: &Traced, taps: &Tensor) -> Result<Traced> {
        let dim = if self.along == Along::H { 2 } else { 3 };
        let (n, num_taps) = taps.dims2()?;
        let x = x.pad_with_zeros(dim, self.pad, self.pad)?;
        let len = x.dim(dim)? + 1 - num_taps;
        let share = |tap: usize| {
            let weights = taps.narrow(1, tap, 1)?.reshape((n, 1, 1, 1))?;
            x.narrow(dim, tap, len)?.broadcast_mul(&Traced::constant(&weights))
        };
        (1..num_taps).try_fold(share(0)?, |sum, tap| sum + share(tap)?)
    }

    fn sizes(&self, x: &Layout, taps: &Layout) -> Result<(kernel::Sizes, Shape)> {
        let (n, channels, h, w) = x.shape().dims4()?;
        let (_, num_taps) = taps.shape().dims2()?;
        let filtered = |len: usize| len + 2 * self.pad + 1 - num_taps;
        let (oh, ow) = match self.along {
            Along::H => (filtered(h), w),
            Along::W => (h, filtered(w)),
        };
        let sizes = kernel::Sizes { channels, h, w, oh, ow, pad: self.pad, along: self.along };
        Ok((sizes, (n, channels, oh, ow).into()))
    }
}

impl CustomOp2 for ImageFir {
    fn name(&self) -> &'static str {
        "image-fir"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        taps: &CpuStorage,
        taps_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        cancel::check()?;
        let (sizes, shape) = self.sizes(x_layout, taps_layout)?;
        let num_images = shape.dims()[0];
        let y = run!(self.name(), (x, x_layout), (taps, taps_layout) => cuda::either!(
            (x, taps);
            gpu => cuda::image_fir::apply(&gpu, x, taps, num_images, sizes);
            kernel::apply(x, taps, num_images, sizes)
        ));
        Ok((y, shape))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        taps: &CudaStorage,
        taps_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        cancel::check()?;
        let (sizes, shape) = self.sizes(x_layout, taps_layout)?;
        let num_images = shape.dims()[0];
        let y = cuda::launch!(self.name(), (x, x_layout), (taps, taps_layout); gpu => {
            cuda::image_fir::apply(&gpu, x, taps, num_images, sizes)
        });
        Ok((y, shape))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::ops::check::{Draws, finite_differences, same, same_bits};

    fn like(taps: &Tensor, x: &Traced) -> Result<Tensor> {
        taps.to_dtype(x.dtype())
    }

    #[test]
    fn gradients_equal_finite_differences() -> Result<()> {
        let mut draws = Draws::new(140);
        let (x, taps) = (draws.normals((3, 2, 6, 7))?, draws.normals((3, 5))?);
        for along in [Along::H, Along::W] {
            for pad in [0, 1, 4] {
                finite_differences("image_fir", std::slice::from_ref(&x), &|x| {
                    image_fir(&x[0], &taps, along, pad)
                })?;
            }
        }
        Ok(())
    }

    #[test]
    fn the_kernel_equals_the_reference() -> Result<()> {
        let mut draws = Draws::new(141);
        for _ in 0..50 {
            let [n, c] = [(); 2].map(|()| draws.size(1, 3));
            let [h, w] = [(); 2].map(|()| draws.size(3, 12));
            let (num_taps, along) = (draws.size(1, 9), [Along::H, Along::W][draws.size(0, 1)]);
            let least = num_taps.saturating_sub(if along == Along::H { h } else { w }).div_ceil(2);
            let pad = draws.size(least, num_taps - 1);
            let (x, taps) = (draws.normals((n, c, h, w))?, draws.normals((n, num_taps))?);
            let op = ImageFir { along, pad };
            let ours = |x: &[Traced]| image_fir(&x[0], &like(&taps, &x[0])?, along, pad);
            same(&format!("{h}x{w}, {num_taps} {along:?} {pad}"), &[x], &ours, &|x| {
                op.reference(&x[0], &like(&taps, &x[0])?)
            })?;
        }
        Ok(())
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
        let mut draws = Draws::new(142);
        let (x, taps) = (draws.normals((3, 3, 130, 133))?, draws.normals((3, 9))?);
        for along in [Along::H, Along::W] {
            same_bits("image_fir", std::slice::from_ref(&x), &|x| {
                image_fir(&x[0], &like(&taps, &x[0])?, along, 4)
            })?;
        }
        Ok(())
    }

    #[test]
    fn each_image_has_its_own_taps_and_the_wrong_ones_are_refused() -> Result<()> {
        let x: Traced =
            Tensor::new(&[[[[1f64, 2.0, 4.0]]], [[[1.0, 2.0, 4.0]]]], &Device::Cpu)?.into();
        let taps = Tensor::new(&[[1f64, 10.0], [-1.0, 1.0]], &Device::Cpu)?;
        let y = image_fir(&x, &taps, Along::W, 1)?;
        let expected = [10.0, 21.0, 42.0, 4.0, 1.0, 1.0, 2.0, -4.0];
        assert_eq!(y.value().flatten_all()?.to_vec1::<f64>()?, expected);
        assert!(image_fir(&x, &taps, Along::H, 0).is_err(), "two taps on one row");
        assert!(image_fir(&x, &taps, Along::W, 2).is_err(), "more zeros than taps");
        assert!(image_fir(&x, &taps.narrow(0, 0, 1)?, Along::W, 1).is_err(), "one row of taps");
        Ok(())
    }
}
