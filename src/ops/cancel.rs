//! Abandoning work from inside: a long step must end within seconds of a stop signal.
//!
//! The caller runs its work in [`scope`]; every op that may take long asks before it starts and fails once
//! the flag is up or the deadline has passed. The scope belongs to the calling thread; who starts
//! others for its work passes it on.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::{Result, bail};

use super::device::{Fault, classify};

/// What ends the work of a scope.
#[derive(Clone, Default)]
pub struct Cancel {
    /// Ends it when set; shared with whoever may set it.
    pub flag: Option<Arc<AtomicBool>>,
    /// Ends it when passed.
    pub deadline: Option<Instant>,
}

thread_local! {
    static CURRENT: RefCell<Cancel> = RefCell::default();
}

impl Cancel {
    /// Whether the work should end.
    pub fn is_due(&self) -> bool {
        self.flag.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Runs `work`; its ops fail as soon as `cancel` is due.
pub fn scope<T>(cancel: Cancel, work: impl FnOnce() -> T) -> T {
    let outer = CURRENT.replace(cancel);
    let result = work();
    CURRENT.replace(outer);
    result
}

/// Runs `work` as [`scope`] does; `None` where it fails because `cancel` is due.
///
/// # Errors
/// Fails as `work` does otherwise, and always where a device was lost.
pub fn unless_due<T>(
    cancel: &Cancel,
    work: impl FnOnce() -> Result<T>,
) -> anyhow::Result<Option<T>> {
    match scope(cancel.clone(), work) {
        Ok(done) => Ok(Some(done)),
        Err(error) if classify(&error) == Fault::DeviceLost => Err(error.into()),
        Err(_) if cancel.is_due() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The running scope's, to pass it on to another thread.
pub(super) fn current() -> Cancel {
    CURRENT.with_borrow(Cancel::clone)
}

/// Fails if the running scope's end is due.
///
/// # Errors
/// Fails with "cancelled"; [`Cancel::is_due`] tells the caller that this was the reason.
pub fn check() -> Result<()> {
    if CURRENT.with_borrow(Cancel::is_due) {
        bail!("cancelled");
    }
    #[cfg(test)]
    faults::check()?;
    Ok(())
}

/// Errors at chosen ops of this thread, as a GPU would raise them.
#[cfg(test)]
pub(crate) mod faults {
    use super::{RefCell, Result, bail};

    thread_local! {
        static PLAN: RefCell<(Vec<usize>, &'static str)> = const { RefCell::new((Vec::new(), "")) };
    }

    /// Lets so many ops pass before each failure with `text`; no numbers end the plan.
    pub(crate) fn plan(passes: &[usize], text: &'static str) {
        PLAN.set((passes.iter().rev().copied().collect(), text));
    }

    /// Whether failures are still to come.
    pub(crate) fn is_pending() -> bool {
        PLAN.with_borrow(|(passes, _)| !passes.is_empty())
    }

    pub(super) fn check() -> Result<()> {
        PLAN.with_borrow_mut(|(passes, text)| {
            match passes.last_mut() {
                None => return Ok(()),
                Some(0) => passes.pop(),
                Some(left) => {
                    *left -= 1;
                    return Ok(());
                }
            };
            bail!("{text}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_fails_only_inside_a_scope_that_is_due() {
        let flag = Arc::new(AtomicBool::new(false));
        let cancel = Cancel { flag: Some(flag.clone()), deadline: None };
        assert!(scope(cancel.clone(), check).is_ok());
        flag.store(true, Ordering::Relaxed);
        assert!(scope(cancel, check).is_err());
        assert!(check().is_ok());
        let past = Cancel { flag: None, deadline: Some(Instant::now()) };
        assert!(scope(past, check).is_err());
    }
}
