//! Kernels for GPUs: `.cu` files, how they are launched, and cuDNN's convolutions.
//!
//! Each kernel (`kernels/*.cu`) is a function of one struct of arguments and a thread's index. The
//! Rust file of the same name holds the twin of that struct and computes the arguments, for any
//! `Machine`: a GPU (feature `cuda`), a ledger that notes what a GPU would do (`cost`), or in
//! tests this processor, which runs the same source compiled as C++ (feature `emulate-cuda`). In an
//! emulating build the ops' own tests, gradients of second order included, are tests of the GPU's
//! kernels.
//!
//! Convolutions are cuDNN's, and what goes from GPU to GPU is NCCL's. Where a device has no kernel
//! for an op, or the self-test did not trust one, the op's reference path in plain candle ops is
//! taken: slower, same results.
//!
//! This folder is the only place that asks which of the two features is on.

pub(super) mod adam;
pub(super) mod bias_act;
pub(super) mod channel_scale;
pub(super) mod grid_sample;
pub(super) mod image_fir;
mod machine;
pub(super) mod noise;
pub(super) mod normals;
pub(super) mod reflect_pad;
mod sum;
pub(super) mod upfirdn2d;

#[cfg(feature = "cuda")]
mod cudnn;
#[cfg(feature = "cuda")]
mod gpu;
#[cfg(feature = "cuda")]
mod nccl;
#[cfg(feature = "cuda")]
mod pool;
#[cfg(feature = "cuda")]
pub(super) use {
    cudnn::conv2d, cudnn::is_present as has_cudnn, gpu::Gpu, gpu::open, gpu::peak_bytes,
    gpu::set_gemm, nccl::Nccl,
};

#[cfg(not(feature = "cuda"))]
mod none;
#[cfg(not(feature = "cuda"))]
pub(super) use none::{Gpu, Nccl, conv2d, has_cudnn, open, peak_bytes, set_gemm};

#[cfg(feature = "emulate-cuda")]
pub(super) mod emulate;

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use candle_core::Device;

pub(super) use machine::{Element, Machine, Native, View, Work};

/// Runs kernels on the contiguous memory of arguments on a GPU, all of one type.
///
/// `launch!("name", (x, x_layout), (s, s_layout); gpu => scale(&gpu, x, s))` binds each storage as
/// a [`View`], `gpu` as the [`Gpu`], and gives the storage of the buffer that the expression makes.
macro_rules! launch {
    ($name:expr, ($first:ident, $layout:expr) $(, ($other:ident, $other_layout:expr))*;
     $gpu:ident => $body:expr) => {{
        let $gpu = $crate::ops::cuda::Gpu::of($first)?;
        macro_rules! typed {
            ($T:ty) => {{
                $(let $other = $gpu.argument::<$T>($other, $other_layout)?;)*
                let $first = $gpu.argument::<$T>($first, $layout)?;
                $gpu.storage::<$T>($body?)
            }};
        }
        match candle_core::backend::BackendStorage::dtype($first) {
            candle_core::DType::F32 => typed!(f32),
            candle_core::DType::F64 => typed!(f64),
            candle_core::DType::F16 => typed!(half::f16),
            candle_core::DType::BF16 => typed!(half::bf16),
            other => candle_core::bail!("{}: no kernel for {other:?}", $name),
        }
    }};
}
pub(super) use launch;

/// As [`launch!`], with the first argument written in place; `full` types are f32 and f64, `all`
/// types those of 16 bits as well.
macro_rules! launch_mut {
    (@half all, $typed:ident, $T:ty) => { $typed!($T) };
    (@half full, $typed:ident, $T:ty) => { candle_core::bail!("expected f32 or f64") };
    ($types:ident, $name:expr, ($first:ident, $layout:expr)
     $(, ($other:ident, $other_layout:expr))*; $gpu:ident => $body:expr) => {{
        let $gpu = $crate::ops::cuda::Gpu::of($first)?;
        macro_rules! typed {
            ($T:ty) => {{
                $(let $other = $gpu.argument::<$T>($other, $other_layout)?;)*
                let $first = $gpu.argument_mut::<$T>($first, $layout)?;
                $body
            }};
        }
        match candle_core::backend::BackendStorage::dtype($first) {
            candle_core::DType::F32 => typed!(f32),
            candle_core::DType::F64 => typed!(f64),
            candle_core::DType::F16 => $crate::ops::cuda::launch_mut!(@half $types, typed, half::f16),
            candle_core::DType::BF16 => $crate::ops::cuda::launch_mut!(@half $types, typed, half::bf16),
            other => candle_core::bail!("{}: no kernel for {other:?}", $name),
        }
    }};
}
pub(super) use launch_mut;

/// Runs `work` with the processor's own kernels, also in a build that emulates a GPU's.
pub(super) fn on_processor<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(feature = "emulate-cuda")]
    return emulate::without(work);
    #[cfg(not(feature = "emulate-cuda"))]
    work()
}

/// The slices of arguments through the processor's own kernel; in an emulating build, through the
/// GPU's: `either!((x, s); gpu => gpu_kernel(&gpu, x, s); scale(x, s))`.
///
/// While an account is open ([`cost`](super::cost)), through neither: the launch is noted.
macro_rules! either {
    ($slices:tt; $gpu:ident => $launch:expr; $body:expr) => {
        if $crate::ops::cost::is_on() {
            $crate::ops::cuda::on_machine!($crate::ops::cost::Ledger, $slices; $gpu => $launch)
        } else {
            $crate::ops::cuda::emulated!($slices; $gpu => $launch; $body)
        }
    };
}
pub(super) use either;

/// A GPU's kernel on slices of the processor, by a machine that takes them.
macro_rules! on_machine {
    ($machine:expr, ($($slice:ident),+); $gpu:ident => $launch:expr) => {{
        let $gpu = $machine;
        $(let $slice = $crate::ops::cuda::View::from($slice);)+
        $launch?
    }};
}
pub(super) use on_machine;

#[cfg(not(feature = "emulate-cuda"))]
macro_rules! emulated {
    ($slices:tt; $gpu:ident => $launch:expr; $body:expr) => {
        $body
    };
}

#[cfg(feature = "emulate-cuda")]
macro_rules! emulated {
    ($slices:tt; $gpu:ident => $launch:expr; $body:expr) => {
        if $crate::ops::cuda::emulate::is_on() {
            $crate::ops::cuda::on_machine!($crate::ops::cuda::emulate::Host, $slices; $gpu => $launch)
        } else {
            $body
        }
    };
}
pub(super) use emulated;

/// What the ops may use on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Kernels of this crate, and cuDNN.
    Fast,
    /// Candle's own ops only.
    Reference,
}

/// How numbers of f32 are multiplied on a GPU, for all GPUs of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Math {
    /// Factors are rounded to 10 bits, where the GPU is much faster that way.
    pub tf32: bool,
    /// The same numbers come out each time.
    pub deterministic: bool,
}

static TF32: AtomicBool = AtomicBool::new(false);
static DETERMINISTIC: AtomicBool = AtomicBool::new(false);

/// Decides how numbers are multiplied.
pub fn set_math(math: Math) {
    TF32.store(math.tf32, Ordering::Relaxed);
    DETERMINISTIC.store(math.deterministic, Ordering::Relaxed);
    set_gemm(math);
}

/// How numbers are multiplied.
pub fn math() -> Math {
    let (tf32, deterministic) = (&TF32, &DETERMINISTIC);
    Math {
        tf32: tf32.load(Ordering::Relaxed),
        deterministic: deterministic.load(Ordering::Relaxed),
    }
}

static KERNELS: AtomicU8 = AtomicU8::new(Path::Fast as u8);
static CONVOLUTIONS: AtomicU8 = AtomicU8::new(Path::Fast as u8);

/// Decides, for all GPUs of this process, what runs the crate's ops.
pub fn use_kernels(path: Path) {
    KERNELS.store(path as u8, Ordering::Relaxed);
}

/// Decides, for all GPUs of this process, what runs convolutions.
pub fn use_cudnn(path: Path) {
    CONVOLUTIONS.store(path as u8, Ordering::Relaxed);
}

/// Whether the ops of this crate have kernels for tensors on `device`.
pub(super) fn has_kernels(device: &Device) -> bool {
    device.is_cpu() || KERNELS.load(Ordering::Relaxed) == Path::Fast as u8
}

/// Whether convolutions of tensors on `device` have a kernel.
pub(super) fn has_convolutions(device: &Device) -> bool {
    device.is_cpu() || (CONVOLUTIONS.load(Ordering::Relaxed) == Path::Fast as u8 && has_cudnn())
}
