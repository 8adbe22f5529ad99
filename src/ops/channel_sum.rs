//! Sum over batch and pixels, per channel: the gradient of a bias.
//!
//! candle's sum over leading dimensions walks memory with a stride; this one does not, and takes
//! sums that another kernel has already made on its way.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::grad;

/// Sums of `x [N, C, ..]` over everything but C, which the kernel that made `x` has left in
/// `sums`.
///
/// Returns `[C]`, differentiable to any order.
///
/// # Errors
/// Fails if the sums are not there.
pub(super) fn with_known_sums(x: &Tensor, sums: Arc<OnceLock<CpuStorage>>) -> Result<Tensor> {
    x.apply_op1(ChannelSum { sums })
}

struct ChannelSum {
    sums: Arc<OnceLock<CpuStorage>>,
}

impl CustomOp1 for ChannelSum {
    fn name(&self) -> &'static str {
        "channel-sum"
    }

    fn cpu_fwd(&self, _x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.sums.get() {
            Some(sums) => Ok((sums.clone(), layout.dims()[1].into())),
            None => candle_core::bail!("channel-sum: expected the sums of the kernel before it"),
        }
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let mut shape = vec![1; x.rank()];
        shape[1] = x.dim(1)?;
        Ok(Some(grad::cut(dy).reshape(shape)?.broadcast_as(x.shape())?))
    }
}
