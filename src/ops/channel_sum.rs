//! Sum over batch and pixels, per channel: the gradient of a bias.
//!
//! candle's sum over leading dimensions walks memory with a stride; this one does not, and takes
//! sums that another kernel has already made on its way.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Storage, bail};

use super::traced::Traced;

/// Where a kernel leaves the sums that it has made on its way.
#[derive(Clone, Default)]
pub(super) struct Sums(Arc<Mutex<Option<Storage>>>);

impl Sums {
    /// Leaves them, once.
    pub(super) fn leave(&self, sums: Storage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sums);
    }

    fn take(&self) -> Option<Storage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Sums of `x [N, C, ..]` over everything but C, which the kernel that made `x` has left in
/// `sums`.
///
/// Returns `[C]`, differentiable to any order.
///
/// # Errors
/// Fails if the sums are not there.
pub(super) fn with_known_sums(x: &Traced, sums: Sums) -> Result<Traced> {
    let shape = x.shape().clone();
    let y = x.value().apply_op1_no_bwd(&ChannelSum { sums })?;
    Ok(Traced::derived(y, [x], move |dy, _| {
        let mut per_channel = vec![1; shape.rank()];
        per_channel[1] = shape.dims()[1];
        Ok([Some(dy.reshape(per_channel)?.broadcast_as(&shape)?)])
    }))
}

struct ChannelSum {
    sums: Sums,
}

impl CustomOp1 for ChannelSum {
    fn name(&self) -> &'static str {
        "channel-sum"
    }

    fn cpu_fwd(&self, _x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.sums.take() {
            Some(Storage::Cpu(sums)) => Ok((sums, layout.dims()[1].into())),
            _ => bail!("channel-sum: expected the sums of the kernel before it"),
        }
    }

    fn cuda_fwd(&self, _x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        match self.sums.take() {
            Some(Storage::Cuda(sums)) => Ok((sums, layout.dims()[1].into())),
            _ => bail!("channel-sum: expected the sums of the kernel before it"),
        }
    }
}
