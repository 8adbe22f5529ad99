//! What the fast convolutions ask of a processor, and the processor that is asked at run time.
//!
//! A binary is built for the oldest processor; a [`Stage`] is compiled once for each machine and
//! the best that is there runs it. Channels come in panels of [`PANEL`], so that a lane is a
//! channel and no operation goes across lanes, but for the transposition from and to images.

#![expect(unsafe_code, reason = "kernels behind pointers that are checked at the door")]

use std::ops::{Add, Mul, Sub};

/// Channels that lie side by side.
pub(in crate::ops) const PANEL: usize = 16;

/// Some lanes of a panel in registers.
pub(in crate::ops) trait Vector<T>:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<f64, Output = Self>
{
    const LANES: usize;

    /// # Safety
    /// `from` starts [`Self::LANES`] readable elements.
    unsafe fn load(from: *const T) -> Self;

    /// # Safety
    /// `to` starts [`Self::LANES`] writable elements.
    unsafe fn store(self, to: *mut T);
}

/// A product `c [rows, panels * PANEL] (+)= a [rows, k] * b [k, panels * PANEL]` of panels.
///
/// Element (i, k) of `a` is at `k / PANEL * a_panel + i * ROW + k % PANEL * STEP`, where the last
/// two strides are constants of the kernel. Rows of a panel of `b` and `c` follow each other.
pub(in crate::ops) struct Product<T> {
    pub(in crate::ops) a: *const T,
    pub(in crate::ops) a_panel: usize,
    pub(in crate::ops) b: *const T,
    pub(in crate::ops) b_panel: usize,
    pub(in crate::ops) c: *mut T,
    pub(in crate::ops) c_panel: usize,
    pub(in crate::ops) k: usize,
    /// Whether the product is added to what `c` holds.
    pub(in crate::ops) accumulate: bool,
}

/// A kind of processor. Its functions may only be called where it is known to be there.
pub(in crate::ops) trait Machine<T> {
    type Vector: Vector<T>;
    /// Rows of the largest product.
    const ROWS: usize;
    /// Panels of columns of the largest product: one or two.
    const PANELS: usize;

    /// One product: every element is summed in the order of k, whatever the sizes.
    ///
    /// # Safety
    /// All elements of the operands lie in memory that may be accessed.
    unsafe fn multiply<const R: usize, const P: usize, const ROW: usize, const STEP: usize>(
        product: &Product<T>,
    );

    /// Transposes `PANEL` rows of `PANEL` elements.
    ///
    /// # Safety
    /// Both lie in memory that may be accessed, and do not overlap.
    unsafe fn transpose(from: *const T, from_stride: usize, to: *mut T, to_stride: usize);
}

/// A piece of work that is compiled for each machine.
pub(in crate::ops) trait Stage<T> {
    /// # Safety
    /// The machine is there, and the pointers of the stage hold what they promise.
    unsafe fn run<M: Machine<T>>(self);
}

/// Which machine runs a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Level {
    Portable,
    Avx2,
    Avx512,
}

/// Elements for which there are machines.
pub(in crate::ops) trait Lane: Copy + Send + Sync + Sized + 'static {
    /// The levels that this processor has, the best one last.
    fn levels() -> &'static [Level];

    /// # Safety
    /// As for [`Stage::run`]; the level is one of [`Self::levels`].
    unsafe fn run<S: Stage<Self>>(level: Level, stage: S);
}
