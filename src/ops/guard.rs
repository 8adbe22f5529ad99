//! Panics of libraries that are an answer, not a fault: a hostile file, a missing CUDA library.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`, and gives what it panicked with, if it did; what it changed must stay valid half
/// way.
///
/// Decoders of hostile bytes do panic (overflow, index): that costs their file, no more. The
/// bindings of CUDA panic where a library of theirs is missing.
///
/// # Errors
/// Fails with what `body` panicked with.
pub fn guard<T>(body: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body));
    GUARDED.set(outer);
    result
}

/// Whether the panics of this thread are somebody's answer, and not told.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_guard_ends_with_it() {
        assert!(guard(is_guarded).unwrap());
        let payload = guard(|| -> u8 { std::panic::panic_any("hostile") }).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"hostile"));
        assert!(!is_guarded());
    }
}
