//! The memory that the driver keeps for a GPU's tensors.
//!
//! Freed memory goes back to a pool of the driver, and by default from there to the system whenever
//! the program waits for the GPU, which it does several times a step; asking for it again takes
//! longer than most kernels. Therefore the pool keeps what it has until the end.

use candle_core::Result;
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::result::device::get_default_mem_pool;
use candle_core::cuda_backend::cudarc::driver::result::mem_pool::{get_attribute, set_attribute};
use candle_core::cuda_backend::cudarc::driver::sys::{CUmemPool_attribute, CUmemoryPool};

/// Lets the pool keep all memory that it has once had.
pub(super) fn keep_memory(device: &CudaDevice) -> Result<()> {
    let mut all = u64::MAX;
    let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    #[expect(unsafe_code, reason = "no safe wrapper")]
    // SAFETY: this attribute is a number of 64 bits.
    let done = unsafe { set_attribute(pool(device)?, attribute, (&raw mut all).cast()) };
    done.map_err(candle_core::Error::wrap)
}

/// The most bytes that tensors on `device` have taken at once.
pub(super) fn peak_bytes(device: &CudaDevice) -> Result<u64> {
    let mut bytes = 0u64;
    let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    #[expect(unsafe_code, reason = "no safe wrapper")]
    // SAFETY: this attribute is a number of 64 bits.
    let done = unsafe { get_attribute(pool(device)?, attribute, (&raw mut bytes).cast()) };
    done.map_err(candle_core::Error::wrap)?;
    Ok(bytes)
}

#[expect(unsafe_code, reason = "no safe wrapper")]
fn pool(device: &CudaDevice) -> Result<CUmemoryPool> {
    let device = device.cuda_stream().context().cu_device();
    // SAFETY: the device is one that is open.
    unsafe { get_default_mem_pool(device) }.map_err(candle_core::Error::wrap)
}
