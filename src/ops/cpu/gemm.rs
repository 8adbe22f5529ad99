//! Matrix product on strided slices: a checked door to the `gemm` crate.

use std::marker::PhantomData;

use super::Element;

/// A matrix that is read: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    data: &'a [T],
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    pub(super) fn new(data: &'a [T], row_stride: usize, col_stride: usize) -> Self {
        Self { data, row_stride, col_stride }
    }

    fn check(&self, rows: usize, cols: usize) {
        assert!(fits(0, (rows, self.row_stride), (cols, self.col_stride), self.data.len()));
    }
}

/// Whether a matrix that starts at `start` and is given as (count, stride) of its rows and of its
/// columns, none of them zero, ends inside `len` elements. Nothing here may wrap around.
fn fits(
    start: usize,
    (rows, row_stride): (usize, usize),
    (cols, col_stride): (usize, usize),
    len: usize,
) -> bool {
    let last_row = (rows - 1).checked_mul(row_stride);
    let last_col = (cols - 1).checked_mul(col_stride);
    let last =
        last_row.zip(last_col).and_then(|(row, col)| row.checked_add(col)?.checked_add(start));
    last.is_some_and(|last| last < len)
}

/// An output that several tasks write at the same time, each its own elements.
pub(super) struct Shared<'a, T> {
    ptr: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

#[expect(unsafe_code, reason = "tasks on several threads write one output")]
// SAFETY: the pointer comes from an exclusive borrow that lasts as long as `Shared`; who writes
// through it promises disjoint elements (see `row` and `gemm`).
unsafe impl<T: Send> Send for Shared<'_, T> {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T: Element> Shared<'a, T> {
    pub(super) fn new(data: &'a mut [T]) -> Self {
        Self { ptr: data.as_mut_ptr(), len: data.len(), owner: PhantomData }
    }

    /// A row of the output, starting at `start`.
    ///
    /// # Safety
    /// No other task may touch these elements while the slice lives.
    #[expect(unsafe_code, reason = "disjointness is the caller's promise")]
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(super) unsafe fn row(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: inside the borrowed slice, and exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }

    /// `self[start + i * row_stride + j] = alpha * (lhs * rhs)[i, j]`, or added to it.
    ///
    /// `size` is (rows, columns, inner length).
    ///
    /// # Safety
    /// No other task may touch these elements during the call.
    #[expect(unsafe_code, reason = "disjointness is the caller's promise")]
    pub(super) unsafe fn gemm(
        &self,
        (start, row_stride): (usize, usize),
        (m, n, k): (usize, usize, usize),
        lhs: Matrix<T>,
        rhs: Matrix<T>,
        (alpha, accumulate): (T, bool),
    ) {
        if m == 0 || n == 0 || k == 0 {
            return;
        }
        assert!(fits(start, (m, row_stride), (n, 1), self.len));
        lhs.check(m, k);
        rhs.check(k, n);
        // SAFETY: all three matrices lie inside their slices (checked above), `lhs` and `rhs` are
        // borrowed from other data than the output, and the output's elements are exclusive by
        // the caller's promise.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                self.ptr.add(start),
                1,
                row_stride as isize,
                accumulate,
                lhs.data.as_ptr(),
                lhs.col_stride as isize,
                lhs.row_stride as isize,
                rhs.data.as_ptr(),
                rhs.col_stride as isize,
                rhs.row_stride as isize,
                T::one(),
                alpha,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

/// `out = alpha * lhs * rhs` into a matrix of `n` columns that this task owns.
#[expect(unsafe_code, reason = "`Shared` over an exclusive slice")]
pub(super) fn gemm<T: Element>(
    out: &mut [T],
    size: (usize, usize, usize),
    lhs: Matrix<T>,
    rhs: Matrix<T>,
    alpha: T,
) {
    // SAFETY: `out` is borrowed exclusively, so no other task can touch it.
    unsafe { Shared::new(out).gemm((0, size.1), size, lhs, rhs, (alpha, false)) }
}
