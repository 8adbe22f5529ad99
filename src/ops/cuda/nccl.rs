//! NCCL between the GPUs of one process, which moves bytes only: what is added up, and in which
//! order, is decided outside.
//!
//! The library is looked for at run time; a machine without it trains on one GPU. Whoever calls
//! has made sure that every rank is about to gather the same shape (`collective`), because a GPU
//! that waits for another inside NCCL waits forever. If one fails nevertheless, [`Nccl::abort`]
//! ends the waiting of all.
//!
//! Reference: NCCL user guide, "Fault Tolerance".

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDType;
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor,
    bail,
};
use cudarc::driver::{CudaStream, DeviceRepr, ValidAsZeroBits};
use cudarc::nccl::result::NcclError;
use cudarc::nccl::safe::{Comm, NcclType, group_end, group_start};
use cudarc::nccl::sys;

use crate::ops::guard::guard;

/// The connection of one GPU to the others.
#[derive(Clone)]
pub(in crate::ops) struct Nccl {
    rank: usize,
    comms: Arc<Comms>,
}

/// The communicator of every rank, until the connection is given up.
struct Comms(Vec<Mutex<Option<Shared>>>);

/// A communicator that a thread other than its maker's may use.
struct Shared(Comm);

// SAFETY: NCCL lets any thread use a communicator, one at a time; a mutex is around each.
#[expect(unsafe_code, reason = "the binding holds a raw pointer")]
unsafe impl Send for Shared {}

impl Nccl {
    /// Connects GPUs with each other and sends a first value around, so that later calls find
    /// every channel open.
    ///
    /// # Errors
    /// Fails if there is no NCCL on this machine, or it cannot connect them.
    pub(in crate::ops) fn connect(devices: &[Device]) -> Result<Vec<Self>> {
        if !is_present() {
            bail!("libnccl.so is not on this machine");
        }
        let streams: Vec<_> = devices.iter().map(stream).collect::<Result<_>>()?;
        let comms = Comm::from_devices(streams.clone()).map_err(nccl_error)?;
        first_exchange(&comms, &streams)?;
        let comms = comms.into_iter().map(|comm| Mutex::new(Some(Shared(comm)))).collect();
        let comms = Arc::new(Comms(comms));
        Ok((0..devices.len()).map(|rank| Self { rank, comms: Arc::clone(&comms) }).collect())
    }

    /// What each rank has in the place of `x`, by rank, on this rank's GPU.
    ///
    /// # Errors
    /// Fails if NCCL does, or another rank has given up.
    pub(in crate::ops) fn all_gather(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        let all = x.contiguous()?.apply_op1_no_bwd(&AllGather { nccl: self })?; // [ranks, ..]
        (0..self.num_ranks()).map(|rank| all.get(rank)).collect()
    }

    /// Gives the connection up: GPUs that wait in it go on, with values that mean nothing, and
    /// every later use fails.
    pub(in crate::ops) fn abort(&self) {
        self.comms.close();
    }

    fn num_ranks(&self) -> usize {
        self.comms.0.len()
    }
}

impl Comms {
    fn lock(&self, rank: usize) -> MutexGuard<'_, Option<Shared>> {
        self.0[rank].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what is open. The binding panics where NCCL cannot close, which may be the case on
    /// a GPU that has failed, and says nothing more than that.
    fn close(&self) {
        for rank in 0..self.0.len() {
            let comm = self.lock(rank).take();
            drop(guard(|| drop(comm)));
        }
    }
}

impl Drop for Comms {
    fn drop(&mut self) {
        self.close();
    }
}

/// `[..]` to `[ranks, ..]`.
struct AllGather<'a> {
    nccl: &'a Nccl,
}

impl CustomOp1 for AllGather<'_> {
    fn name(&self) -> &'static str {
        "all-gather"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("all-gather: expected a tensor on a GPU")
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let gathered = match storage.dtype() {
            DType::F32 => self.gather::<f32>(storage, layout)?,
            DType::F64 => self.gather::<f64>(storage, layout)?,
            other => bail!("all-gather: expected f32 or f64, got {other:?}"),
        };
        let mut dims = vec![self.nccl.num_ranks()];
        dims.extend(layout.dims());
        Ok((gathered, Shape::from(dims)))
    }
}

impl AllGather<'_> {
    fn gather<T>(&self, storage: &CudaStorage, layout: &Layout) -> Result<CudaStorage>
    where
        T: CudaDType + DeviceRepr + ValidAsZeroBits + NcclType,
    {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("all-gather: expected a contiguous tensor, got {layout:?}");
        };
        let device: &CudaDevice = storage.device();
        let sent = storage.as_cuda_slice::<T>()?.slice(start..end);
        let mut all = device.alloc_zeros::<T>(self.nccl.num_ranks() * (end - start))?;
        match &*self.nccl.comms.lock(self.nccl.rank) {
            Some(Shared(comm)) => comm.all_gather(&sent, &mut all).map_err(nccl_error)?,
            None => bail!("all-gather: another rank gave up"),
        };
        Ok(CudaStorage::wrap_cuda_slice(all, device.clone()))
    }
}

fn stream(device: &Device) -> Result<Arc<CudaStream>> {
    match device {
        Device::Cuda(device) => Ok(device.cuda_stream()),
        other => bail!("expected a GPU, got {:?}", other.location()),
    }
}

/// Every rank gathers one value, in one group because one thread speaks for all of them.
fn first_exchange(comms: &[Comm], streams: &[Arc<CudaStream>]) -> Result<()> {
    let buffers = |len: usize| -> Result<Vec<_>> {
        let zeros = streams.iter().map(|stream| stream.alloc_zeros::<f32>(len));
        zeros.map(|zeros| zeros.map_err(candle_core::Error::wrap)).collect()
    };
    let (sent, mut received) = (buffers(1)?, buffers(comms.len())?);
    group_start().map_err(nccl_error)?;
    for (comm, (sent, received)) in comms.iter().zip(sent.iter().zip(&mut received)) {
        comm.all_gather(sent, received).map_err(nccl_error)?;
    }
    group_end().map_err(nccl_error)?;
    streams.iter().try_for_each(|stream| stream.synchronize().map_err(candle_core::Error::wrap))
}

/// Whether the library is there: the binding panics where it is not.
fn is_present() -> bool {
    #[expect(unsafe_code, reason = "loads a library")]
    // SAFETY: loading NCCL runs nothing but its own initialisers.
    unsafe {
        sys::is_culib_present()
    }
}

fn nccl_error(NcclError(code): NcclError) -> candle_core::Error {
    candle_core::Error::Msg(format!("NCCL: {code:?}"))
}
