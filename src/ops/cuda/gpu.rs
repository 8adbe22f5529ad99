//! The machine that is a GPU: its memory, and launches on candle's stream.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{
    CudaStorage, Device, Layout, Result, Storage, Tensor, backend::BackendStorage, bail,
};

use super::{Element, Machine, Math, View, Work, pool};

/// All kernels for compute capability 7.5; the driver translates them for the GPU at hand.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// Threads of a block; the kernels are compiled for at most this many.
const BLOCK: u32 = 256;

thread_local! {
    /// Looking a function up by name takes longer than launching it.
    static FUNCTIONS: RefCell<HashMap<(DeviceId, String), Rc<CudaFunction>>> = RefCell::default();
}

/// A GPU, as candle has opened it.
pub(in crate::ops) struct Gpu {
    device: CudaDevice,
}

impl Gpu {
    /// The GPU that holds `storage`.
    #[expect(clippy::unnecessary_wraps, reason = "a build without GPUs has none to give")]
    pub(in crate::ops) fn of(storage: &CudaStorage) -> Result<Self> {
        Ok(Self { device: storage.device().clone() })
    }

    /// The elements of an argument, which must be contiguous.
    pub(in crate::ops) fn argument<T: Element>(
        &self,
        storage: &CudaStorage,
        layout: &Layout,
    ) -> Result<View<T>> {
        let (first, len) = contiguous(layout)?;
        let stream = self.device.cuda_stream();
        let (address, _used) = storage.as_cuda_slice::<T>()?.device_ptr(&stream);
        Ok(View::new(address + (first * size_of::<T>()) as u64, len))
    }

    /// As [`Gpu::argument`], for writing.
    pub(in crate::ops) fn argument_mut<T: Element>(
        &self,
        storage: &mut CudaStorage,
        layout: &Layout,
    ) -> Result<View<T>> {
        let (first, len) = contiguous(layout)?;
        let stream = self.device.cuda_stream();
        let (address, _used) = T::as_cuda_slice_mut(storage)?.device_ptr_mut(&stream);
        Ok(View::new(address + (first * size_of::<T>()) as u64, len))
    }

    /// The elements of a tensor, which must be contiguous and on this GPU.
    pub(in crate::ops) fn tensor<T: Element>(&self, tensor: &Tensor) -> Result<View<T>> {
        let (storage, layout) = tensor.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => self.argument(storage, layout),
            _ => bail!("expected a tensor on the GPU, got one on {:?}", tensor.device()),
        }
    }

    /// A result as candle keeps it.
    pub(in crate::ops) fn storage<T: Element>(&self, buffer: CudaSlice<T>) -> CudaStorage {
        CudaStorage::wrap_cuda_slice(buffer, self.device.clone())
    }

    fn function(&self, name: String) -> Result<Rc<CudaFunction>> {
        let key = (self.device.id(), name);
        if let Some(function) = FUNCTIONS.with_borrow(|all| all.get(&key).cloned()) {
            return Ok(function);
        }
        let function = self.device.get_or_load_custom_func(&key.1, "kernels", PTX)?;
        let function = Rc::new(function.into_cuda_function());
        FUNCTIONS.with_borrow_mut(|all| all.insert(key, function.clone()));
        Ok(function)
    }
}

/// Opens a GPU with a stream of its own, which all threads share: work follows in the order in
/// which it is asked for.
pub(in crate::ops) fn open(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    #[expect(unsafe_code, reason = "a promise about streams")]
    if let Device::Cuda(cuda) = &device {
        // SAFETY: there is one stream per GPU, so nothing needs to wait for another stream.
        unsafe { cuda.disable_event_tracking() };
        if cuda.cuda_stream().context().has_async_alloc() {
            pool::keep_memory(cuda)?;
        }
    }
    Ok(device)
}

/// The most bytes that tensors on a GPU have taken at once, where its driver says so.
pub(in crate::ops) fn peak_bytes(device: &Device) -> Option<u64> {
    let Device::Cuda(device) = device else { return None };
    pool::peak_bytes(device).ok()
}

/// Decides how candle's matrix products are computed.
pub(in crate::ops) fn set_gemm(math: Math) {
    candle_core::cuda_backend::set_gemm_reduced_precision_f32(math.tf32);
}

fn contiguous(layout: &Layout) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok((start, end - start)),
        None => bail!("expected a contiguous tensor, got {layout:?}"),
    }
}

/// A struct of arguments, passed by value.
#[repr(transparent)]
struct ByValue<A>(A);

#[expect(unsafe_code, reason = "a promise about the memory of a type")]
// SAFETY: the structs of arguments are plain numbers in C layout, twins of those of the kernels.
unsafe impl<A: Copy> DeviceRepr for ByValue<A> {}

impl Machine for Gpu {
    type Buffer<T: Element> = CudaSlice<T>;

    #[expect(unsafe_code, reason = "memory that nobody has written to")]
    fn alloc<T: Element>(&self, len: usize) -> Result<CudaSlice<T>> {
        // SAFETY: every kernel writes all of its result before anybody reads it.
        unsafe { self.device.alloc::<T>(len) }
    }

    fn view<T: Element>(&self, buffer: &CudaSlice<T>) -> View<T> {
        let stream = self.device.cuda_stream();
        let (address, _used) = buffer.device_ptr(&stream);
        View::new(address, buffer.len())
    }

    #[expect(unsafe_code, reason = "runs code on another machine")]
    fn launch<T: Element, A: Copy>(
        &self,
        kernel: &'static str,
        args: A,
        Work { num_threads, .. }: Work,
    ) -> Result<()> {
        if num_threads == 0 {
            return Ok(());
        }
        let function = self.function(format!("{kernel}_{}", T::SUFFIX))?;
        let Ok(num_blocks) = u32::try_from(num_threads.div_ceil(BLOCK as usize)) else {
            bail!("{kernel}: expected fewer elements, got {num_threads}; lower batch_gpu");
        };
        let (args, num_threads) = (ByValue(args), num_threads as u64);
        let stream = self.device.cuda_stream();
        let mut launch = stream.launch_builder(&function);
        launch.arg(&args).arg(&num_threads);
        let (grid_dim, block_dim) = ((num_blocks, 1, 1), (BLOCK, 1, 1));
        let config = LaunchConfig { grid_dim, block_dim, shared_mem_bytes: 0 };
        // SAFETY: the arguments are the kernel's twin, and whoever made them holds the memory that
        // they name; one stream runs everything in order, so memory that is freed after the
        // launch is reused after the kernel.
        match unsafe { launch.launch(config) } {
            Ok(_) => Ok(()),
            Err(error) => Err(candle_core::Error::wrap(error)),
        }
    }
}
