//! The device: which one was asked for, opening it, and what its errors mean.
//!
//! In `auto` only the absence of a GPU means the processor. One that is there but cannot be used
//! stops the program: somebody pays for it, and a training on the processor in its place would
//! take hundreds of times as long. A build without GPU support says so and takes the processor.
//!
//! Not here: the questions to the driver (`driver`), what a run does about an error (`job`).

use std::any::Any;

use candle_core::{DType, Device, Error, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::cuda;
pub use super::driver::{Gpu, Probe, probe};
use super::driver::{free_bytes, version};
use super::guard::guard;
use super::selftest::{Verdict, Way, settle};

/// The device that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A GPU where there is one.
    #[default]
    Auto,
    /// A GPU.
    Cuda,
    /// The processor.
    Cpu,
}

/// What the training runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// A device that is ready for use.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Where tensors go.
    pub device: Device,
    /// What it is.
    pub kind: DeviceKind,
    /// The same in words, with the reason where a GPU might be expected.
    pub description: String,
}

/// Why there is no device to use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum DeviceError {
    #[error(
        "device: expected a GPU, found none ({0}); take a machine with one, or ask for auto or cpu"
    )]
    Absent(&'static str),
    #[error(
        "device: expected a GPU, but this build has no GPU support; take the image that has, or \
         ask for auto or cpu"
    )]
    NoSupport,
    #[error(
        "precision: expected a type that this build has kernels for, came bf16; take f16 or tf32, \
         or an image that is built for compute capability 8.0"
    )]
    NoBf16,
    #[error("device: a GPU is there but cannot be used: {0}; or ask for cpu, which is slow")]
    Unusable(String),
}

impl DeviceError {
    /// Whether something was asked for that is not there, which is nobody else's fault.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Unusable(_))
    }
}

/// What an error of an op means for its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The GPU has no memory left; it works on.
    OutOfMemory,
    /// The GPU answers no more, and nothing can be read from it.
    DeviceLost,
    /// Something else.
    Other,
}

/// Opens the device that `choice` means here, and tries it.
///
/// # Errors
/// Fails if a GPU was asked for that is not there, or if there is one that cannot be used.
pub fn open(choice: DeviceChoice) -> std::result::Result<Opened, DeviceError> {
    if choice == DeviceChoice::Cpu {
        return Ok(on_cpu("as asked: CPU".to_owned()));
    }
    let is_auto = choice == DeviceChoice::Auto;
    match probe() {
        Probe::Absent(why) if is_auto => Ok(on_cpu(format!("no GPU found ({why}): CPU"))),
        Probe::Absent(why) => Err(DeviceError::Absent(why)),
        Probe::Found(gpu) if has_gpu_support() => open_gpu(&gpu),
        Probe::Unusable(reason) if has_gpu_support() => Err(DeviceError::Unusable(reason)),
        _ if !is_auto => Err(DeviceError::NoSupport),
        Probe::Found(gpu) => Ok(on_cpu(format!("{}, but {NO_SUPPORT}: CPU", describe(&gpu, None)))),
        Probe::Unusable(_) => {
            Ok(on_cpu(format!("a GPU that cannot be used, and {NO_SUPPORT}: CPU")))
        }
    }
}

/// Examines a GPU before it is used, in f32 and in another way.
///
/// # Errors
/// Fails if it cannot compute in that way, or computes something else than the processor.
pub fn examine(device: &Device, way: Way) -> std::result::Result<Verdict, DeviceError> {
    let unusable = |text: &str| DeviceError::Unusable(reason(text));
    if way == Way::Bf16 && !computes_in(device, way.dtype()) {
        return Err(DeviceError::NoBf16);
    }
    let ways = if way == Way::F32 { &[way][..] } else { &[Way::F32, way] };
    match guard(|| settle(device, ways)) {
        Ok(Ok(verdict)) => Ok(verdict),
        Ok(Err(error)) => Err(unusable(&error.to_string())),
        Err(payload) => Err(unusable(panic_text(&*payload))),
    }
}

/// Whether this build can compute in `dtype` on `device`: candle has kernels for it.
pub fn computes_in(device: &Device, dtype: DType) -> bool {
    let two = || Tensor::ones(1, DType::F32, device)?.to_dtype(dtype)?.affine(1.0, 1.0);
    two().is_ok()
}

/// What `choice` will mean where a training runs, as far as this machine can tell: nothing is
/// opened, and a GPU that was asked for need not be here.
pub fn expected_kind(choice: DeviceChoice) -> DeviceKind {
    let is_gpu = match choice {
        DeviceChoice::Cuda => true,
        DeviceChoice::Cpu => false,
        DeviceChoice::Auto => has_gpu_support() && !matches!(probe(), Probe::Absent(_)),
    };
    if is_gpu { DeviceKind::Cuda } else { DeviceKind::Cpu }
}

/// Free memory of `kind`'s own, in bytes; `None` for the processor, which has the machine's.
pub fn free_device_bytes(kind: DeviceKind) -> Option<u64> {
    if kind == DeviceKind::Cuda { free_bytes() } else { None }
}

/// The most bytes that tensors on a GPU have taken at once; `None` for the processor, and where
/// the driver does not say.
pub fn peak_device_bytes(device: &Device) -> Option<u64> {
    cuda::peak_bytes(device)
}

/// What `error` means for the device.
pub fn classify(error: &Error) -> Fault {
    match error_code(&error.to_string()) {
        Some(code) if OUT_OF_MEMORY.iter().any(|end| code.ends_with(end)) => Fault::OutOfMemory,
        Some(code) if LOST.iter().any(|end| code.ends_with(end)) => Fault::DeviceLost,
        _ => Fault::Other,
    }
}

/// The code of a CUDA library in the text of an error, as `CUDA_ERROR_OUT_OF_MEMORY`.
pub fn error_code(text: &str) -> Option<&str> {
    let is_part = |char: char| char.is_ascii_uppercase() || char.is_ascii_digit() || char == '_';
    let mut words = text.split(|char: char| !is_part(char));
    words.find(|word| FAMILIES.iter().any(|family| word.starts_with(family)))
}

/// How the codes of the CUDA libraries begin ..
const FAMILIES: [&str; 4] = ["CUDA_ERROR_", "CUBLAS_STATUS_", "CUDNN_STATUS_", "CURAND_STATUS_"];
/// .. and end, where memory has run out ..
const OUT_OF_MEMORY: [&str; 4] =
    ["_OUT_OF_MEMORY", "_ALLOC_FAILED", "_ALLOCATION_FAILED", "_DEVICE_ALLOCATION_FAILED"];
/// .. or where the context is of no use from then on. A failed execution counts among these:
/// what it left in memory is unknown.
const LOST: [&str; 19] = [
    "_DEINITIALIZED",
    "_DEVICE_UNAVAILABLE",
    "_NO_DEVICE",
    "_ECC_UNCORRECTABLE",
    "_NVLINK_UNCORRECTABLE",
    "_ILLEGAL_ADDRESS",
    "_LAUNCH_TIMEOUT",
    "_CONTEXT_IS_DESTROYED",
    "_ASSERT",
    "_HARDWARE_STACK_ERROR",
    "_ILLEGAL_INSTRUCTION",
    "_MISALIGNED_ADDRESS",
    "_INVALID_ADDRESS_SPACE",
    "_INVALID_PC",
    "_LAUNCH_FAILED",
    "_CONTAINED",
    "_SYSTEM_NOT_READY",
    "_ERROR_UNKNOWN",
    "_EXECUTION_FAILED",
];

const NO_SUPPORT: &str = "this build has no GPU support";

fn has_gpu_support() -> bool {
    candle_core::utils::cuda_is_available() // of the build, not of the machine
}

fn on_cpu(description: String) -> Opened {
    Opened { device: Device::Cpu, kind: DeviceKind::Cpu, description }
}

/// Opens the GPU that the driver has found no fault with.
fn open_gpu(gpu: &Gpu) -> std::result::Result<Opened, DeviceError> {
    let device = match guard(|| tried_gpu(0)) {
        Ok(Ok(device)) => device,
        Ok(Err(error)) => return Err(DeviceError::Unusable(reason(&error.to_string()))),
        Err(payload) => return Err(DeviceError::Unusable(reason(panic_text(&*payload)))),
    };
    let description = format!("{}; CPU", describe(gpu, free_bytes()));
    Ok(Opened { device, kind: DeviceKind::Cuda, description })
}

/// The further GPUs of this machine, beside the one that was opened, as far as they can be used.
pub fn others(opened: &Opened) -> Vec<Device> {
    let num_devices = match probe() {
        Probe::Found(gpu) if opened.kind == DeviceKind::Cuda => gpu.num_devices,
        _ => 1,
    };
    let tried = |ordinal: i32| guard(|| tried_gpu(ordinal as usize)).ok()?.ok();
    (1..num_devices).filter_map(tried).collect()
}

/// A GPU, after a sum of products that must be right.
fn tried_gpu(ordinal: usize) -> Result<Device> {
    let device = cuda::open(ordinal)?;
    // Its libraries' handles panic where they are given back on a GPU that was lost, so they never
    // are: the device lives as long as the process.
    Box::leak(Box::new(device.clone()));
    let ones = Tensor::ones((64, 64), DType::F32, &device)?;
    let sum: f32 = (ones.matmul(&ones)? * 0.5)?.sum_all()?.to_scalar()?;
    let expected = 64.0 * 64.0 * 64.0 * 0.5; // exact in f32
    if sum != expected {
        bail!("the self-test expected {expected}, came {sum}");
    }
    Ok(device)
}

fn describe(gpu: &Gpu, free_bytes: Option<u64>) -> String {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let memory = match free_bytes {
        Some(free) => format!("{:.1} of {:.1} GB free", gb(free), gb(gpu.total_bytes)),
        None => format!("{:.1} GB", gb(gpu.total_bytes)),
    };
    let (major, minor) = gpu.capability;
    let others = match gpu.num_devices {
        ..=1 => String::new(),
        n => format!(", the first of {n}"),
    };
    format!(
        "GPU: {}, {memory}, compute capability {major}.{minor}, driver for CUDA {}{others}",
        gpu.name,
        version(gpu.driver),
    )
}

/// Why the GPU cannot be used, from what a library said.
fn reason(text: &str) -> String {
    // the bindings' words for a library that they do not find
    if let Some((_, rest)) = text.split_once("dynamically load the \"") {
        let name = rest.split('"').next().unwrap_or_default();
        return format!("the library lib{name} is missing; take the image that has it");
    }
    match error_code(text) {
        Some(code) if code.ends_with("_OUT_OF_MEMORY") => {
            format!("its memory is taken ({code}); end what else runs on it")
        }
        Some(code) if code.ends_with("_UNSUPPORTED_PTX_VERSION") => {
            format!("its driver is too old for this build ({code}); update the driver")
        }
        Some(code) => format!("it answers with {code}; see to driver and GPU"),
        None => text.lines().next().unwrap_or_default().chars().take(200).collect(),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref().copied()).unwrap_or("a library panicked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_libraries_are_told_apart() {
        for (text, fault) in [
            ("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")", Fault::OutOfMemory),
            ("CublasError(CUBLAS_STATUS_ALLOC_FAILED)", Fault::OutOfMemory),
            ("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", Fault::OutOfMemory),
            (
                "DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access\")",
                Fault::DeviceLost,
            ),
            ("DriverError(CUDA_ERROR_LAUNCH_FAILED, \"\") when loading x", Fault::DeviceLost),
            ("CublasError(CUBLAS_STATUS_EXECUTION_FAILED)", Fault::DeviceLost),
            ("DriverError(CUDA_ERROR_INVALID_VALUE, \"invalid argument\")", Fault::Other),
            ("shape mismatch in OUT_OF_MEMORY", Fault::Other),
            ("cancelled", Fault::Other),
        ] {
            assert_eq!(classify(&Error::Msg(text.to_owned())), fault, "{text}");
            let wrapped = Error::Msg(text.to_owned()).context("conv2d");
            assert_eq!(classify(&Error::wrap(wrapped)), fault, "{text}");
        }
    }

    #[test]
    fn reasons_name_the_cure() {
        let panic = "Unable to dynamically load the \"cublas\" shared library - searched for";
        let payload = guard(|| std::panic::panic_any(panic.to_owned())).unwrap_err();
        let missing = "the library libcublas is missing; take the image that has it";
        assert_eq!(reason(panic_text(&*payload)), missing);
        let taken = reason("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        assert!(taken.starts_with("its memory is taken (CUDA_ERROR_OUT_OF_MEMORY)"), "{taken}");
        assert_eq!(
            reason("the self-test expected 1, came 2\nmore"),
            "the self-test expected 1, came 2"
        );
    }

    #[test]
    fn a_gpu_is_described_in_one_line() {
        let gpu = Gpu {
            name: "Some GPU".to_owned(),
            total_bytes: 8_000_000_000,
            driver: 12080,
            capability: (8, 6),
            num_devices: 2,
        };
        let rest = "compute capability 8.6, driver for CUDA 12.8";
        let expected = format!("GPU: Some GPU, 7.5 of 8.0 GB free, {rest}, the first of 2");
        assert_eq!(describe(&gpu, Some(7_500_000_000)), expected);
        let one = Gpu { num_devices: 1, ..gpu };
        assert_eq!(describe(&one, None), format!("GPU: Some GPU, 8.0 GB, {rest}"));
    }

    #[test]
    fn the_processor_is_always_there() {
        let opened = open(DeviceChoice::Cpu).unwrap();
        assert_eq!((opened.kind, opened.description.as_str()), (DeviceKind::Cpu, "as asked: CPU"));
        assert!(others(&opened).is_empty());
        assert_eq!(expected_kind(DeviceChoice::Cpu), DeviceKind::Cpu);
        assert_eq!(expected_kind(DeviceChoice::Cuda), DeviceKind::Cuda);
        assert_eq!(free_device_bytes(DeviceKind::Cpu), None);
    }
}
