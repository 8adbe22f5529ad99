//! CPU kernels: plain slices in, plain vectors out, threads over independent outputs.
//!
//! Each result element is summed in an order that the shapes alone decide, so any number of
//! threads gives the same bits.

pub(super) mod adam;
pub(super) mod bias_act;
pub(super) mod channel_scale;
pub(super) mod conv2d;
mod gemm;
pub(super) mod grid_sample;
pub(super) mod image_fir;
pub(super) mod noise;
mod output;
pub(super) mod reflect_pad;
mod share;
mod sum;
mod tasks;
pub(super) mod upfirdn2d;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, WithDType, bail};

use super::cuda;

/// The element types that have kernels: f32 to train with, f64 to check against.
pub(super) trait Element:
    WithDType + num_traits::Float + num_traits::NumAssign + Send + Sync + cuda::Native + conv2d::Lane
{
    /// All elements of a storage of this type.
    fn as_mut_slice(storage: &mut CpuStorage) -> Result<&mut [Self]>;
}

impl Element for f32 {
    fn as_mut_slice(storage: &mut CpuStorage) -> Result<&mut [Self]> {
        match storage {
            CpuStorage::F32(data) => Ok(data),
            _ => bail!("expected f32, got {:?}", storage.dtype()),
        }
    }
}

impl Element for f64 {
    fn as_mut_slice(storage: &mut CpuStorage) -> Result<&mut [Self]> {
        match storage {
            CpuStorage::F64(data) => Ok(data),
            _ => bail!("expected f64, got {:?}", storage.dtype()),
        }
    }
}

/// Runs a kernel on the contiguous slices of its arguments, all f32 or all f64.
///
/// `run!("name", (x, x_layout), (w, w_layout) => kernel(x, w))` binds each storage as a slice and
/// gives the storage of the `Vec` that the expression makes.
macro_rules! run {
    ($name:expr, $(($storage:ident, $layout:expr)),+ => $body:expr) => {{
        use candle_core::CpuStorage::{F32, F64};
        match ($($storage,)+) {
            ($(F32($storage),)+) => {
                $(let $storage = $crate::ops::cpu::contiguous($storage, $layout)?;)+
                F32($body)
            }
            ($(F64($storage),)+) => {
                $(let $storage = $crate::ops::cpu::contiguous($storage, $layout)?;)+
                F64($body)
            }
            _ => candle_core::bail!("{}: expected f32 or f64, the same for every argument", $name),
        }
    }};
}
pub(super) use run;

/// The elements of a tensor whose layout is contiguous.
pub(super) fn contiguous<'a, T>(data: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("expected a contiguous tensor, got {layout:?}"),
    }
}

/// As [`contiguous`], for writing.
pub(super) fn contiguous_mut<'a, T>(data: &'a mut [T], layout: &Layout) -> Result<&'a mut [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut data[start..end]),
        None => bail!("expected a contiguous tensor, got {layout:?}"),
    }
}

/// Keeps freed memory of big tensors in the process: training frees and allocates the same sizes
/// over and over, and giving them back each time costs more than the arithmetic on them.
///
/// Call once, first thing in `main`.
pub fn raise_allocator_thresholds() {
    set_allocator_thresholds(1 << 30, i32::MAX);
}

/// Has the allocator take blocks of `own_bytes` or more from the system each by itself, and keep up to
/// about `kept_bytes` of what was freed of the others.
pub fn set_allocator_thresholds(own_bytes: i32, kept_bytes: i32) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
    // SAFETY: mallopt takes two integers and changes settings of the allocator only.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, own_bytes);
        libc::mallopt(libc::M_TRIM_THRESHOLD, kept_bytes);
    }
}
