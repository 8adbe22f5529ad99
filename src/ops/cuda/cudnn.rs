//! The three convolutions on cuDNN.
//!
//! For each shape cuDNN is asked once which algorithm is fastest by its own heuristics. All share
//! one workspace per GPU, since one stream runs them in order.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType,
    CudnnError, FilterDescriptor, TensorDescriptor, sys,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaView, ValidAsZeroBits};
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{CudaStorage, DType, Layout, Result, WithDType, backend::BackendStorage, bail};

use super::{Element, Math, math};
use crate::ops::conv2d::{Geometry, Kind};

/// Algorithms that want more workspace than this are passed over.
const MAX_WORKSPACE: usize = 1 << 30;

thread_local! {
    static HANDLES: RefCell<HashMap<DeviceId, &'static Handle>> = RefCell::default();
}

/// Whether the library is there.
pub(in crate::ops) fn is_present() -> bool {
    static IS_PRESENT: OnceLock<bool> = OnceLock::new();
    #[expect(unsafe_code, reason = "loads a library")]
    // SAFETY: loading cuDNN runs nothing but its own initialisers.
    *IS_PRESENT.get_or_init(|| unsafe { sys::is_culib_present() })
}

/// cuDNN on one GPU.
struct Handle {
    cudnn: Arc<Cudnn>,
    workspace: RefCell<Option<CudaSlice<u8>>>,
    algorithms: RefCell<HashMap<Key, Algorithm>>,
}

/// What an algorithm is chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    dtype: DType,
    sizes: [usize; 9],
    tf32: bool,
    deterministic: bool,
}

/// The number of an algorithm within its kind, and the bytes that it needs.
#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t, usize),
    GradInput(sys::cudnnConvolutionBwdDataAlgo_t, usize),
    GradWeight(sys::cudnnConvolutionBwdFilterAlgo_t, usize),
}

/// One of the three convolutions of `a` and `b`, which are contiguous and of one type.
///
/// The gain is applied in that type: in 16 bits, scale the weight before it is rounded.
pub(in crate::ops) fn conv2d(
    kind: Kind,
    geometry: &Geometry,
    (a, a_layout): (&CudaStorage, &Layout),
    (b, b_layout): (&CudaStorage, &Layout),
) -> Result<CudaStorage> {
    let call = Call { kind, geometry, device: a.device().clone() };
    match a.dtype() {
        DType::F32 => call.run::<f32, f32>((a, a_layout), (b, b_layout)),
        DType::F64 => call.run::<f64, f64>((a, a_layout), (b, b_layout)),
        DType::F16 => call.run::<half::f16, f32>((a, a_layout), (b, b_layout)),
        DType::BF16 => call.run::<half::bf16, f32>((a, a_layout), (b, b_layout)),
        other => bail!("conv2d: no kernel for {other:?}"),
    }
}

/// Of a call of cuDNN.
type Outcome<T> = std::result::Result<T, CudnnError>;

struct Call<'a> {
    kind: Kind,
    geometry: &'a Geometry,
    device: CudaDevice,
}

/// The descriptors of a call: `x`, `w` and `y` of `y = conv(x, w)`.
struct Descriptors<T, C> {
    conv: ConvDescriptor<C>,
    x: TensorDescriptor<T>,
    w: FilterDescriptor<T>,
    y: TensorDescriptor<T>,
}

impl Call<'_> {
    fn run<T, C>(
        &self,
        (a, a_layout): (&CudaStorage, &Layout),
        (b, b_layout): (&CudaStorage, &Layout),
    ) -> Result<CudaStorage>
    where
        T: Element + WithDType + CudnnDataType + ValidAsZeroBits,
        C: CudnnDataType,
    {
        let (a, b) = (view::<T>(a, a_layout)?, view::<T>(b, b_layout)?);
        let len: usize = self.out_dims().iter().product();
        if a.len() == 0 || b.len() == 0 || len == 0 {
            return Ok(CudaStorage::wrap_cuda_slice(
                self.device.alloc_zeros::<T>(len)?,
                self.device.clone(),
            ));
        }
        #[expect(unsafe_code, reason = "memory that nobody has written to")]
        // SAFETY: with beta = 0 cuDNN writes all of the result and reads none of it.
        let mut out = unsafe { self.device.alloc::<T>(len) }?;
        let handle = handle(&self.device)?;
        self.convolve::<T, C>(handle, &a, &b, &mut out)?;
        Ok(CudaStorage::wrap_cuda_slice(out, self.device.clone()))
    }

    fn out_dims(&self) -> [usize; 4] {
        let g = self.geometry;
        match self.kind {
            Kind::Forward => [g.n, g.o, g.oh(), g.ow()],
            Kind::GradInput => [g.n, g.c, g.h, g.w],
            Kind::GradWeight => [g.o, g.c, g.kh, g.kw],
        }
    }

    fn describe<T: CudnnDataType, C: CudnnDataType>(
        &self,
        cudnn: &Arc<Cudnn>,
    ) -> Outcome<Descriptors<T, C>> {
        let g = self.geometry;
        let dims = |dims: [usize; 4]| dims.map(|dim| dim as i32);
        let format = sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW;
        let mut conv = cudnn.create_conv2d::<C>(
            [g.padding as i32; 2],
            [g.stride as i32; 2],
            [1; 2],
            sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION,
        )?;
        let is_half = size_of::<T>() == 2;
        conv.set_math_type(match is_half || math().tf32 {
            true => sys::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            false => sys::cudnnMathType_t::CUDNN_FMA_MATH,
        })?;
        Ok(Descriptors {
            conv,
            x: cudnn.create_4d_tensor::<T>(format, dims([g.n, g.c, g.h, g.w]))?,
            w: cudnn.create_4d_filter::<T>(format, dims([g.o, g.c, g.kh, g.kw]))?,
            y: cudnn.create_4d_tensor::<T>(format, dims([g.n, g.o, g.oh(), g.ow()]))?,
        })
    }

    #[expect(unsafe_code, reason = "runs code on another machine")]
    fn convolve<T, C>(
        &self,
        handle: &Handle,
        a: &CudaView<T>,
        b: &CudaView<T>,
        out: &mut CudaSlice<T>,
    ) -> Result<()>
    where
        T: Element + WithDType + CudnnDataType,
        C: CudnnDataType,
    {
        let d = self.describe::<T, C>(&handle.cudnn).map_err(candle_core::Error::wrap)?;
        let algorithm = self.algorithm(handle, T::DTYPE, &d).map_err(candle_core::Error::wrap)?;
        let scale = (T::from_f64(self.geometry.gain), T::from_f64(0.0));
        let Descriptors { conv, x, w, y } = &d;
        let mut workspace = handle.workspace(&self.device, algorithm.bytes())?;
        let workspace = workspace.as_mut();
        // SAFETY: the descriptors are those of the slices, whose lengths candle has checked
        // against the same shapes.
        let done = unsafe {
            match algorithm {
                Algorithm::Forward(algo, _) => {
                    ConvForward { conv, x, w, y }.launch(algo, workspace, scale, a, b, out)
                }
                Algorithm::GradInput(algo, _) => ConvBackwardData { conv, dx: x, w, dy: y }
                    .launch(algo, workspace, scale, out, b, a),
                Algorithm::GradWeight(algo, _) => ConvBackwardFilter { conv, x, dw: w, dy: y }
                    .launch(algo, workspace, scale, a, out, b),
            }
        };
        done.map_err(candle_core::Error::wrap)
    }

    fn algorithm<T: CudnnDataType, C: CudnnDataType>(
        &self,
        handle: &Handle,
        dtype: DType,
        descriptors: &Descriptors<T, C>,
    ) -> Outcome<Algorithm> {
        let g = self.geometry;
        let Math { tf32, deterministic } = math();
        let key = Key {
            kind: self.kind,
            dtype,
            sizes: [g.n, g.c, g.h, g.w, g.o, g.kh, g.kw, g.stride, g.padding],
            tf32,
            deterministic,
        };
        if let Some(algorithm) = handle.algorithms.borrow().get(&key) {
            return Ok(*algorithm);
        }
        let algorithm = choose(self.kind, descriptors, deterministic)?;
        handle.algorithms.borrow_mut().insert(key, algorithm);
        Ok(algorithm)
    }
}

/// The fastest algorithm by cuDNN's heuristics, or the one that is always there and always sums in
/// the same order.
fn choose<T: CudnnDataType, C: CudnnDataType>(
    kind: Kind,
    descriptors: &Descriptors<T, C>,
    deterministic: bool,
) -> Outcome<Algorithm> {
    use sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1 as DATA_1;
    use sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1 as FILTER_1;
    use sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM as GEMM;
    macro_rules! choose {
        ($call:expr, $steady:expr) => {{
            let fastest = if deterministic { $steady } else { $call.pick_algorithm()? };
            match $call.get_workspace_size(fastest)? {
                bytes if bytes <= MAX_WORKSPACE => (fastest, bytes),
                _ => ($steady, $call.get_workspace_size($steady)?),
            }
        }};
    }
    let Descriptors { conv, x, w, y } = descriptors;
    Ok(match kind {
        Kind::Forward => {
            let (algo, bytes) = choose!(ConvForward { conv, x, w, y }, GEMM);
            Algorithm::Forward(algo, bytes)
        }
        Kind::GradInput => {
            let (algo, bytes) = choose!(ConvBackwardData { conv, dx: x, w, dy: y }, DATA_1);
            Algorithm::GradInput(algo, bytes)
        }
        Kind::GradWeight => {
            let (algo, bytes) = choose!(ConvBackwardFilter { conv, x, dw: w, dy: y }, FILTER_1);
            Algorithm::GradWeight(algo, bytes)
        }
    })
}

impl Algorithm {
    fn bytes(self) -> usize {
        match self {
            Self::Forward(_, bytes) | Self::GradInput(_, bytes) | Self::GradWeight(_, bytes) => {
                bytes
            }
        }
    }
}

impl Handle {
    /// At least so many bytes that nobody else uses until the next call.
    fn workspace(
        &self,
        device: &CudaDevice,
        bytes: usize,
    ) -> Result<std::cell::RefMut<'_, Option<CudaSlice<u8>>>> {
        let mut workspace = self.workspace.borrow_mut();
        if workspace.as_ref().map_or(0, CudaSlice::len) < bytes {
            *workspace = None; // give the old one back first
            *workspace = Some(device.alloc_zeros::<u8>(bytes)?);
        }
        Ok(workspace)
    }
}

/// The handle of a GPU, which lives as long as the process: giving one back panics where the GPU
/// has been lost.
fn handle(device: &CudaDevice) -> Result<&'static Handle> {
    let id = device.id();
    if let Some(handle) = HANDLES.with_borrow(|handles| handles.get(&id).copied()) {
        return Ok(handle);
    }
    let cudnn = Cudnn::new(device.cuda_stream()).map_err(candle_core::Error::wrap)?;
    let (workspace, algorithms) = (RefCell::default(), RefCell::default());
    let handle: &'static Handle = Box::leak(Box::new(Handle { cudnn, workspace, algorithms }));
    HANDLES.with_borrow_mut(|handles| handles.insert(id, handle));
    Ok(handle)
}

fn view<'a, T: Element>(storage: &'a CudaStorage, layout: &Layout) -> Result<CudaView<'a, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<T>()?.slice(start..end)),
        None => bail!("conv2d: expected a contiguous tensor, got {layout:?}"),
    }
}
