//! How kernels are run: rows in tasks, compiled for wide vectors, into memory that is not zeroed.
//!
//! A kernel is a closure over some rows, written in plain loops. Here it becomes tasks of a size
//! that pays for a thread, or one plain call where there is too little to do; here, too, its loops
//! are compiled twice, for any processor and for one with AVX2. Both do the same operations in
//! the same order (products and sums are never contracted), so both give the same bits.

use std::mem::MaybeUninit;

use super::share::share;

/// Elements that are worth a task of their own: below, waking a thread takes longer.
const MIN_TASK: usize = 64 * 1024;

/// How many rows of `len` elements make a task.
fn rows_per_task(len: usize) -> usize {
    MIN_TASK.div_ceil(len.max(1))
}

/// Runs `work` with wide vectors where the processor has them, for loops inlined into it.
#[inline]
#[expect(unsafe_code, reason = "the processor is asked first")]
pub(super) fn with_wide_vectors<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: this processor has AVX2.
            return unsafe { with_avx2(work) };
        }
    }
    work()
}

/// Memory that is written once, front to back.
pub(super) struct Blank<'a, T> {
    slots: &'a mut [MaybeUninit<T>],
    num_written: usize,
}

impl<T: Copy> Blank<'_, T> {
    /// Writes the next `count` elements and shows them.
    ///
    /// # Panics
    /// Panics if there are fewer values, or less room.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "to be compiled for the caller's vectors")]
    #[expect(unsafe_code, reason = "counts what it writes")]
    pub(super) fn write(&mut self, count: usize, values: impl Iterator<Item = T>) -> &[T] {
        let slots = &mut self.slots[self.num_written..][..count];
        let mut num_values = 0;
        for (slot, value) in slots.iter_mut().zip(values) {
            slot.write(value);
            num_values += 1;
        }
        assert!(num_values == count, "expected {count} values, got {num_values}");
        self.num_written += count;
        // SAFETY: the loop has written as many slots from the front as there are.
        unsafe { slots.assume_init_ref() }
    }
}

/// A vector of `len` elements for each row in `rows`, made by `fill`.
///
/// `fill` gets some rows, the index of the first, and the memory of all their elements, which it
/// must write to the end. It runs with wide vectors (see [`with_wide_vectors`]), on any thread.
///
/// # Panics
/// Panics if `fill` leaves something out.
#[expect(unsafe_code, reason = "each task is asserted to have written its part")]
pub(super) fn fill_rows<T: Copy + Send, R: Send>(
    rows: &mut [R],
    len: usize,
    fill: impl Fn(usize, &mut [R], &mut Blank<T>) + Sync,
) -> Vec<T> {
    let total = rows.len() * len;
    let mut y = Vec::with_capacity(total);
    let slots = &mut y.spare_capacity_mut()[..total];
    let run = |first: usize, rows: &mut [R], slots: &mut [MaybeUninit<T>]| {
        let mut blank = Blank { slots, num_written: 0 };
        with_wide_vectors(
            #[inline(always)]
            || fill(first, rows, &mut blank),
        );
        assert!(blank.num_written == blank.slots.len(), "a task left elements unwritten");
    };
    let count = rows_per_task(len);
    if total == 0 {
        return y;
    }
    if rows.len() <= count {
        run(0, rows, slots);
    } else {
        let parts = rows.chunks_mut(count).zip(slots.chunks_mut(count * len)).enumerate();
        share(parts, |(idx, (rows, slots))| run(idx * count, rows, slots));
    }
    // SAFETY: the parts cover all elements, and `run` has seen each part written to its end.
    unsafe { y.set_len(total) };
    y
}

/// As [`fill_rows`], with rows that are nothing but a number of elements.
pub(super) fn fill<T: Copy + Send>(
    num_rows: usize,
    len: usize,
    fill: impl Fn(std::ops::Range<usize>, &mut Blank<T>) + Sync,
) -> Vec<T> {
    let mut rows = vec![(); num_rows];
    fill_rows(
        &mut rows,
        len,
        #[inline(always)]
        |first, rows, blank| fill(first..first + rows.len(), blank),
    )
}

/// Runs `work` on some rows and the index of the first, where each row takes `len` elements.
pub(super) fn for_rows<R: Send>(rows: &mut [R], len: usize, work: impl Fn(usize, &mut [R]) + Sync) {
    let run = |first: usize, rows: &mut [R]| {
        with_wide_vectors(
            #[inline(always)]
            || work(first, rows),
        );
    };
    let count = rows_per_task(len);
    if rows.len() <= count {
        run(0, rows);
    } else {
        share(rows.chunks_mut(count).enumerate(), |(idx, rows)| run(idx * count, rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that fill one task, less, more, and none at all.
    #[test]
    fn every_row_is_made_once_and_in_its_place() {
        for len in [0, 1, 3, 1000, MIN_TASK, MIN_TASK + 1] {
            for num_rows in [0, 1, 2, rows_per_task(len), rows_per_task(len) + 1] {
                let mut firsts = vec![0; num_rows];
                let y = fill_rows(&mut firsts, len, |first, firsts, y| {
                    for (row, it) in (first..).zip(firsts) {
                        *it += y.write(len, (row..).take(len)).first().copied().unwrap_or(row);
                    }
                });
                let of_row = |row: usize| (row..).take(len);
                assert!(y.into_iter().eq((0..num_rows).flat_map(of_row)), "{num_rows} of {len}");
                assert!(len == 0 || firsts.into_iter().eq(0..num_rows), "{num_rows} of {len}");
                let mut rows = vec![0; num_rows];
                for_rows(&mut rows, len, |first, rows| {
                    (first..).zip(rows).for_each(|(row, it)| *it += row);
                });
                assert!(rows.into_iter().eq(0..num_rows), "{num_rows} of {len}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "a task left elements unwritten")]
    fn a_row_that_is_left_out_is_noticed() {
        fill(2, 3, |_, y| {
            y.write(3, 0..3);
        });
    }

    #[test]
    #[should_panic(expected = "expected 3 values, got 2")]
    fn a_short_row_is_noticed() {
        fill(1, 3, |_, y| {
            y.write(3, 0..2);
        });
    }
}
