//! Between images `[N, C, H, W]` and pixels whose lanes are a panel of channels.

#![expect(unsafe_code, reason = "kernels behind pointers that are checked at the door")]

use super::machine::{Machine, PANEL};
use crate::ops::cpu::Element;

const BLOCK: usize = PANEL * PANEL;

/// A run of `len` pixels of up to [`PANEL`] planes, `stride` elements from plane to plane, and
/// where its pixels go as lanes: rows of `w` pixels, `row` elements from row to row.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) planes: usize,
    pub(super) stride: usize,
    pub(super) len: usize,
    pub(super) w: usize,
    pub(super) row: usize,
}

impl Run {
    /// Lanes `to` from the planes at `from`; lanes without a plane become zero.
    ///
    /// # Safety
    /// Both lie in memory that may be accessed, and do not overlap.
    #[inline(always)]
    pub(super) unsafe fn load<T: Element, M: Machine<T>>(self, from: *const T, to: *mut T) {
        let mut pixels = [T::zero(); BLOCK];
        let (mut x, mut to) = (0, to);
        for start in (0..self.len).step_by(PANEL) {
            let len = PANEL.min(self.len - start);
            // SAFETY: `len` pixels from `start` on are inside the run.
            unsafe {
                let from = from.add(start);
                if len == PANEL && self.planes == PANEL {
                    if x + PANEL <= self.w {
                        M::transpose(from, self.stride, to, PANEL);
                        x += PANEL;
                        to = to.add(BLOCK);
                        if x == self.w {
                            (x, to) = (0, to.add(self.row - self.w * PANEL));
                        }
                        continue;
                    }
                    M::transpose(from, self.stride, pixels.as_mut_ptr(), PANEL);
                } else {
                    let mut some = [T::zero(); BLOCK];
                    for (plane, row) in some.chunks_exact_mut(PANEL).enumerate().take(self.planes) {
                        let from = from.add(plane * self.stride);
                        row[..len].copy_from_slice(std::slice::from_raw_parts(from, len));
                    }
                    M::transpose(some.as_ptr(), PANEL, pixels.as_mut_ptr(), PANEL);
                }
                for pixel in pixels.chunks_exact(PANEL).take(len) {
                    to.copy_from_nonoverlapping(pixel.as_ptr(), PANEL);
                    x += 1;
                    to = to.add(PANEL);
                    if x == self.w {
                        (x, to) = (0, to.add(self.row - self.w * PANEL));
                    }
                }
            }
        }
    }

    /// The planes at `to` from lanes: the inverse of [`Self::load`].
    ///
    /// # Safety
    /// As for [`Self::load`].
    #[inline(always)]
    pub(super) unsafe fn store<T: Element, M: Machine<T>>(self, from: *const T, to: *mut T) {
        let mut pixels = [T::zero(); BLOCK];
        let (mut x, mut from) = (0, from);
        for start in (0..self.len).step_by(PANEL) {
            let len = PANEL.min(self.len - start);
            // SAFETY: `len` pixels from `start` on are inside the run.
            unsafe {
                let to = to.add(start);
                let is_whole = len == PANEL && self.planes == PANEL;
                if is_whole && x + PANEL <= self.w {
                    M::transpose(from, PANEL, to, self.stride);
                    x += PANEL;
                    from = from.add(BLOCK);
                    if x == self.w {
                        (x, from) = (0, from.add(self.row - self.w * PANEL));
                    }
                    continue;
                }
                for pixel in pixels.chunks_exact_mut(PANEL).take(len) {
                    from.copy_to_nonoverlapping(pixel.as_mut_ptr(), PANEL);
                    x += 1;
                    from = from.add(PANEL);
                    if x == self.w {
                        (x, from) = (0, from.add(self.row - self.w * PANEL));
                    }
                }
                if is_whole {
                    M::transpose(pixels.as_ptr(), PANEL, to, self.stride);
                    continue;
                }
                let mut some = [T::zero(); BLOCK];
                M::transpose(pixels.as_ptr(), PANEL, some.as_mut_ptr(), PANEL);
                for (plane, row) in some.chunks_exact(PANEL).enumerate().take(self.planes) {
                    let to = to.add(plane * self.stride);
                    std::slice::from_raw_parts_mut(to, len).copy_from_slice(&row[..len]);
                }
            }
        }
    }
}
