//! Where kernels run, seen from the code that launches them.

use std::marker::PhantomData;

use candle_core::Result;

/// What a GPU's memory can hold.
#[cfg(feature = "cuda")]
pub(in crate::ops) trait Storable:
    candle_core::cuda_backend::CudaDType + candle_core::cuda_backend::cudarc::driver::DeviceRepr
{
}

#[cfg(feature = "cuda")]
impl<T> Storable for T where
    T: candle_core::cuda_backend::CudaDType + candle_core::cuda_backend::cudarc::driver::DeviceRepr
{
}

/// What the emulated memory can hold.
#[cfg(not(feature = "cuda"))]
pub(in crate::ops) trait Storable {}

#[cfg(not(feature = "cuda"))]
impl<T> Storable for T {}

/// The element types that have kernels.
pub(in crate::ops) trait Element: Storable + Copy + 'static {
    /// What kernels compute in; 16-bit types are for storage only.
    type Compute: Element<Compute = Self::Compute>;
    /// Zero, as memory holds it.
    const ZERO: Self;
    /// The end of the kernels' names.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "emulate-cuda")),
        expect(dead_code, reason = "no kernels")
    )]
    const SUFFIX: &'static str;
    /// A constant in the type that is computed in.
    fn constant(value: f64) -> Self::Compute;
    /// The nearest number that this type can store, in the type that is computed in: what a result
    /// must be compared with.
    fn stored(value: f64) -> Self::Compute;
    /// What memory holds before anything is written to it, where that is known.
    #[cfg_attr(
        not(feature = "emulate-cuda"),
        expect(dead_code, reason = "a GPU's memory is not filled")
    )]
    const UNWRITTEN: Self;
}

/// The types that are computed in as they are.
pub(in crate::ops) trait Native: Element<Compute = Self> {}

impl<T: Element<Compute = T>> Native for T {}

/// An element type: what it is computed in, the end of its kernels' names, and the way of a number
/// into it and from it into the type that is computed in.
macro_rules! element {
    ($T:ty, $Compute:ty, $suffix:literal, $zero:expr, $store:expr, $load:expr) => {
        impl Element for $T {
            type Compute = $Compute;
            const ZERO: Self = $zero;
            const SUFFIX: &'static str = $suffix;
            const UNWRITTEN: Self = <$T>::NAN;

            fn constant(value: f64) -> $Compute {
                value as $Compute
            }

            fn stored(value: f64) -> $Compute {
                $load($store(value))
            }
        }
    };
}

element!(f32, f32, "f32", 0.0, |value| value as f32, std::convert::identity);
element!(f64, f64, "f64", 0.0, std::convert::identity, std::convert::identity);
element!(half::f16, f32, "f16", half::f16::ZERO, half::f16::from_f64, half::f16::to_f32);
element!(half::bf16, f32, "bf16", half::bf16::ZERO, half::bf16::from_f64, half::bf16::to_f32);

/// Memory of a machine that somebody else keeps alive: its address there, and its length.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct View<T> {
    pub(in crate::ops) address: u64,
    pub(in crate::ops) len: usize,
    pub(in crate::ops) element: PhantomData<T>,
}

impl<T> View<T> {
    pub(in crate::ops) fn new(address: u64, len: usize) -> Self {
        Self { address, len, element: PhantomData }
    }

    pub(in crate::ops) fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<'a, T> From<&'a [T]> for View<T> {
    fn from(slice: &'a [T]) -> Self {
        Self::new(slice.as_ptr() as u64, slice.len())
    }
}

impl<'a, T> From<&'a mut [T]> for View<T> {
    fn from(slice: &'a mut [T]) -> Self {
        Self::new(slice.as_mut_ptr() as u64, slice.len())
    }
}

/// What a launch asks of a machine.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Work {
    /// Indices that the kernel runs for.
    pub(in crate::ops) num_threads: usize,
    /// Read from memory and written to it, each element once.
    pub(in crate::ops) bytes: usize,
    /// Additions and multiplications of numbers.
    pub(in crate::ops) flop: usize,
}

/// A GPU, or what stands in for one.
pub(in crate::ops) trait Machine {
    /// Memory that is given back when dropped.
    type Buffer<T: Element>;

    /// Memory for `len` elements, which hold anything.
    fn alloc<T: Element>(&self, len: usize) -> Result<Self::Buffer<T>>;

    /// The memory of a buffer, which must outlive the launches that use it.
    fn view<T: Element>(&self, buffer: &Self::Buffer<T>) -> View<T>;

    /// Runs a kernel for elements `T`: `args` is the twin of its arguments, whose addresses must
    /// hold what they say. Later launches and copies see its results.
    fn launch<T: Element, A: Copy>(&self, kernel: &'static str, args: A, work: Work) -> Result<()>;
}
