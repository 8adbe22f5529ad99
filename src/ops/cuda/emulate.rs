//! The machine that is this processor: the kernels' sources, compiled as C++, one index at a time.
//!
//! Only for tests. Memory is filled with NaN before a kernel runs, so that what it leaves out shows.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};

use candle_core::{Result, bail};

use super::{Element, Machine, View, Work};

thread_local! {
    static IS_OFF: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's ops run the GPU's kernels in place of the processor's.
pub(in crate::ops) fn is_on() -> bool {
    !IS_OFF.get()
}

/// Runs `work` with the processor's own kernels.
pub(in crate::ops) fn without<T>(work: impl FnOnce() -> T) -> T {
    let outer = IS_OFF.replace(true);
    let result = work();
    IS_OFF.set(outer);
    result
}

/// This processor in place of a GPU.
pub(in crate::ops) struct Host;

impl Machine for Host {
    type Buffer<T: Element> = Vec<T>;

    fn alloc<T: Element>(&self, len: usize) -> Result<Vec<T>> {
        Ok(vec![T::UNWRITTEN; len])
    }

    fn view<T: Element>(&self, buffer: &Vec<T>) -> View<T> {
        View::from(buffer.as_slice())
    }

    #[expect(unsafe_code, reason = "calls C++")]
    fn launch<T: Element, A: Copy>(
        &self,
        kernel: &'static str,
        args: A,
        Work { num_threads, .. }: Work,
    ) -> Result<()> {
        unsafe extern "C" {
            fn emulate_kernel(name: *const c_char, args: *const c_void, num_threads: u64) -> c_int;
        }
        let name = format!("{kernel}_{}", T::SUFFIX);
        let c_name = CString::new(name.as_str()).map_err(candle_core::Error::wrap)?;
        let args: *const A = &raw const args;
        // SAFETY: the arguments are the kernel's twin, and the addresses in them are those of
        // slices and vectors that their holder keeps until after this call.
        if unsafe { emulate_kernel(c_name.as_ptr(), args.cast(), num_threads as u64) } != 0 {
            bail!("{name}: no such kernel");
        }
        Ok(())
    }
}
