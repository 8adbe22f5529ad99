//! What a build without the feature `cuda` has in place of a GPU: a type without values, so that
//! the code around it is checked all the same.

use candle_core::{CudaStorage, Device, Layout, Result, Tensor, bail};

use super::{Element, Machine, Math, View, Work};
use crate::ops::conv2d::{Geometry, Kind};

/// A GPU that never is.
pub(in crate::ops) enum Gpu {}

impl Gpu {
    /// Says that this build has none.
    pub(in crate::ops) fn of(_storage: &CudaStorage) -> Result<Self> {
        bail!("this build has no GPU support; build with --features cuda")
    }

    pub(in crate::ops) fn argument<T: Element>(
        &self,
        _storage: &CudaStorage,
        _layout: &Layout,
    ) -> Result<View<T>> {
        match *self {}
    }

    pub(in crate::ops) fn argument_mut<T: Element>(
        &self,
        _storage: &mut CudaStorage,
        _layout: &Layout,
    ) -> Result<View<T>> {
        match *self {}
    }

    pub(in crate::ops) fn tensor<T: Element>(&self, _tensor: &Tensor) -> Result<View<T>> {
        match *self {}
    }

    pub(in crate::ops) fn storage<T: Element>(&self, _buffer: Vec<T>) -> CudaStorage {
        match *self {}
    }
}

impl Machine for Gpu {
    type Buffer<T: Element> = Vec<T>;

    fn alloc<T: Element>(&self, _len: usize) -> Result<Vec<T>> {
        match *self {}
    }

    fn view<T: Element>(&self, _buffer: &Vec<T>) -> View<T> {
        match *self {}
    }

    fn launch<T: Element, A: Copy>(&self, _: &'static str, _args: A, _: Work) -> Result<()> {
        match *self {}
    }
}

/// Says that this build opens no GPU.
pub(in crate::ops) fn open(_ordinal: usize) -> Result<Device> {
    bail!("this build has no GPU support; build with --features cuda")
}

/// There is no GPU whose memory could be taken.
pub(in crate::ops) fn peak_bytes(_device: &Device) -> Option<u64> {
    None
}

/// There is nothing to set.
pub(in crate::ops) fn set_gemm(_math: Math) {}

/// There is no cuDNN.
pub(in crate::ops) fn has_cudnn() -> bool {
    false
}

/// Says that this build has no convolutions for GPUs.
pub(in crate::ops) fn conv2d(
    _kind: Kind,
    _geometry: &Geometry,
    (a, _): (&CudaStorage, &Layout),
    _b: (&CudaStorage, &Layout),
) -> Result<CudaStorage> {
    match Gpu::of(a)? {}
}

/// The connection of a GPU to others; there is none.
#[derive(Clone)]
pub(in crate::ops) enum Nccl {}

impl Nccl {
    /// Says that this build connects no GPUs.
    pub(in crate::ops) fn connect(_devices: &[Device]) -> Result<Vec<Self>> {
        bail!("this build has no GPU support; build with --features cuda")
    }

    pub(in crate::ops) fn all_gather(&self, _x: &Tensor) -> Result<Vec<Tensor>> {
        match *self {}
    }

    pub(in crate::ops) fn abort(&self) {
        match *self {}
    }
}
