//! Volumes that fail, in tests.

use std::cell::Cell;
use std::io;

/// What a volume does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Call number so much fails with this code of the system, those before and after it do not.
    Call(usize, i32),
    /// So many bytes can be written to all files together.
    Full(u64),
    /// It takes so many bytes at once at most.
    Short(usize),
}

thread_local! {
    static PLAN: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// What this thread's volumes do from now on.
pub(crate) fn plan(fault: Option<Fault>) {
    PLAN.set(fault);
}

/// Whether a call that was to fail has not come yet.
pub(crate) fn is_pending() -> bool {
    matches!(PLAN.get(), Some(Fault::Call(..)))
}

/// A call that may fail.
pub(super) fn meet() -> io::Result<()> {
    match PLAN.get() {
        Some(Fault::Call(0, code)) => {
            PLAN.set(None);
            Err(io::Error::from_raw_os_error(code))
        }
        Some(Fault::Call(count, code)) => {
            PLAN.set(Some(Fault::Call(count - 1, code)));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// How many of `count` bytes are taken.
pub(super) fn taken(count: usize) -> io::Result<usize> {
    meet()?;
    match PLAN.get() {
        Some(Fault::Full(left)) => {
            let taken = count.min(usize::try_from(left).unwrap_or(count));
            PLAN.set(Some(Fault::Full(left - taken as u64)));
            if taken == 0 && count > 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(taken)
        }
        Some(Fault::Short(most)) => Ok(count.min(most)),
        _ => Ok(count),
    }
}
