//! Memory that is not cleared before it is written.
//!
//! Clearing a result costs a pass over it, which for the cheap ops is a large part of their time.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::Element;

/// A result of known length whose elements tasks write, each its own, before it becomes a `Vec`.
pub(super) struct Output<T> {
    data: Vec<T>,
    start: *mut T,
}

#[expect(unsafe_code, reason = "tasks on several threads write one output")]
// SAFETY: the pointer is to the vector's memory, which lives as long as `Output`; who writes
// through it promises disjoint elements.
unsafe impl<T: Send> Sync for Output<T> {}

impl<T: Element> Output<T> {
    pub(super) fn new(len: usize) -> Self {
        let mut data = Vec::with_capacity(len);
        Self { start: data.as_mut_ptr(), data }
    }

    /// The first element; `capacity` of them may be written, none read before.
    pub(super) fn start(&self) -> *mut T {
        self.start
    }

    /// # Safety
    /// The first `len` elements have been written.
    #[expect(unsafe_code, reason = "that all is written is the caller's promise")]
    pub(super) unsafe fn finish(mut self, len: usize) -> Vec<T> {
        assert!(len <= self.data.capacity());
        // SAFETY: within the capacity, and written by the caller's promise.
        unsafe { self.data.set_len(len) };
        self.data
    }
}

/// Memory for intermediate results, as [`Output`], but aligned to cache lines.
pub(super) struct Scratch<T> {
    start: NonNull<T>,
    layout: Layout,
}

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

#[expect(unsafe_code, reason = "tasks on several threads write one buffer")]
// SAFETY: `Scratch` owns its memory; who writes through the pointer promises disjoint elements.
unsafe impl<T: Send> Send for Scratch<T> {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl<T: Send> Sync for Scratch<T> {}

impl<T: Element> Scratch<T> {
    #[expect(unsafe_code, reason = "aligned memory without clearing it")]
    pub(super) fn new(len: usize) -> Self {
        let layout = Layout::array::<T>(len.max(1)).and_then(|layout| layout.align_to(LINE));
        let layout = layout.expect("sizes of tensors in memory do not overflow");
        // SAFETY: the layout has at least one element.
        match NonNull::new(unsafe { alloc(layout) }) {
            Some(start) => Self { start: start.cast(), layout },
            None => handle_alloc_error(layout),
        }
    }

    /// The first element; `len` of them may be written, none read before.
    pub(super) fn start(&self) -> *mut T {
        self.start.as_ptr()
    }
}

impl<T> Drop for Scratch<T> {
    #[expect(unsafe_code, reason = "the other half of `new`")]
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with this layout.
        unsafe { dealloc(self.start.as_ptr().cast(), self.layout) };
    }
}
