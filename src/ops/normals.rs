//! Draws of the normal distribution, made where they are needed.
//!
//! The numbers are those of [`Rng::normals_of_part`]; a GPU draws them itself, since a training
//! step takes more noise than is worth sending there. Its logarithms and cosines may differ from
//! the processor's in the last bit of f64.

use candle_core::{
    CpuStorage, CudaStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Tensor,
};

use super::cpu::{Element, contiguous_mut};
use super::rng::Rng;
use super::{cost, cuda};

/// The draws of `rng` for `part` as a tensor of `shape`, row by row.
///
/// # Errors
/// Fails if `dtype` is no floating point type that has kernels, or memory runs out.
pub fn normals(
    rng: &Rng,
    part: u64,
    shape: impl Into<Shape>,
    (dtype, device): (DType, &Device),
) -> Result<Tensor> {
    let shape = shape.into();
    if !cuda::has_kernels(device) {
        let draws = rng.normals_of_part(part, shape.elem_count());
        return Tensor::from_vec(draws, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device);
    }
    let draws = Tensor::zeros(shape, dtype, device)?;
    cost::clock("normals", || draws.inplace_op1(&Fill { rng, part }))?;
    Ok(draws)
}

struct Fill<'a> {
    rng: &'a Rng,
    part: u64,
}

impl Fill<'_> {
    fn fill<T: Element>(&self, y: &mut [T]) -> Result<()> {
        cuda::either!((y); gpu => cuda::normals::fill(&gpu, y, self.rng, self.part); {
            let draws = self.rng.normals_of_part(self.part, y.len());
            y.iter_mut().zip(draws).for_each(|(y, draw)| *y = T::from_f64(draw));
        });
        Ok(())
    }
}

impl InplaceOp1 for Fill<'_> {
    fn name(&self) -> &'static str {
        "normals"
    }

    fn cpu_fwd(&self, y: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match y {
            CpuStorage::F32(y) => self.fill(contiguous_mut(y, layout)?),
            CpuStorage::F64(y) => self.fill(contiguous_mut(y, layout)?),
            _ => candle_core::bail!("normals: expected f32 or f64"),
        }
    }

    fn cuda_fwd(&self, y: &mut CudaStorage, layout: &Layout) -> Result<()> {
        cuda::launch_mut!(all, self.name(), (y, layout); gpu => {
            cuda::normals::fill(&gpu, y, self.rng, self.part)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rng::Stream;

    /// Parts of any length; the last block of four is cut.
    #[test]
    fn a_tensor_holds_the_draws_of_the_generator() -> Result<()> {
        let rng = Rng::new(0x0123_4567_89ab_cdef, Stream::LayerNoise, 1 << 40 | 7);
        for (part, len) in [(0, 1), (3, 6), (1 << 20, 1023)] {
            let expected = rng.normals_of_part(part, len);
            let ours = normals(&rng, part, len, (DType::F64, &Device::Cpu))?.to_vec1::<f64>()?;
            for (ours, expected) in ours.iter().zip(&expected) {
                // A last bit of the logarithm, the root, the cosine and their product.
                assert!((ours - expected).abs() <= 4.0 * f64::EPSILON * expected.abs().max(1e-3));
            }
            let ours = normals(&rng, part, len, (DType::F32, &Device::Cpu))?.to_vec1::<f32>()?;
            let rounded = |(ours, expected): (&f32, &f64)| {
                (f64::from(*ours) - expected).abs() <= f64::from(f32::EPSILON) * expected.abs()
            };
            assert!(ours.iter().zip(&expected).all(rounded));
        }
        Ok(())
    }
}
