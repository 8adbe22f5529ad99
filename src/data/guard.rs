//! Panics of decoders: one hostile file must not end a job, nor fill its log.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`; `None` if it panicked. What it changed must stay valid half way.
///
/// Decoders of hostile bytes do panic (overflow, index): that costs their file, no more.
pub(super) fn guard<T>(body: impl FnOnce() -> T) -> Option<T> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body)).ok();
    GUARDED.set(outer);
    result
}

/// Whether this thread is reading a file whose panics are counted, not told.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_none_and_the_guard_ends_with_it() {
        assert_eq!(guard(is_guarded), Some(true));
        assert_eq!(guard(|| -> u8 { std::panic::panic_any("hostile") }), None);
        assert!(!is_guarded());
    }
}
