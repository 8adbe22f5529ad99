//! A request to stop: SIGTERM from the node, SIGINT from a keyboard.
//!
//! As process 1 of a container a program without a handler never receives SIGTERM, so one is
//! installed everywhere. SIGPIPE needs nothing: Rust ignores it, and the log ignores the error. A
//! file that reaches the launcher's limit is an error of the write, and no end without a word.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

/// Exit code of a program that a second SIGINT ended, as a shell counts it.
const ENDED_BY_SIGINT: i32 = 130;

/// What a second SIGINT does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondInterrupt {
    /// Nothing more than the first: the outputs are being written.
    Ignored,
    /// The program ends at once, for the impatient at a keyboard.
    Ends,
}

/// Installs the handlers and returns the flag that the first signal sets.
///
/// # Errors
/// Fails if the system refuses a handler.
pub fn install(second_interrupt: SecondInterrupt) -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    if second_interrupt == SecondInterrupt::Ends {
        let interrupted = Arc::new(AtomicBool::new(false));
        // in this order: the first SIGINT must find its own flag unset
        flag::register_conditional_shutdown(SIGINT, ENDED_BY_SIGINT, Arc::clone(&interrupted))?;
        flag::register(SIGINT, interrupted)?;
    }
    flag::register(SIGINT, Arc::clone(&stop))?;
    flag::register(SIGTERM, Arc::clone(&stop))?;
    flag::register(SIGXFSZ, Arc::default())?; // with a handler the write fails instead
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::sync::atomic::Ordering;

    use signal_hook::low_level::raise;

    use super::*;

    const IN_CHILD: &str = "STYLEGAN2_C2D_TEST_SIGNALS";

    /// Signals concern the whole process, so the test runs itself in one of its own.
    fn exit_code_of_child(role: &str) -> Option<i32> {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "job::signals::tests::signals_stop_and_a_second_interrupt_ends"])
            .env(IN_CHILD, role)
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), None);
        status.code()
    }

    #[test]
    fn signals_stop_and_a_second_interrupt_ends() {
        let second_interrupt = match std::env::var(IN_CHILD).as_deref() {
            Ok("job") => SecondInterrupt::Ignored,
            Ok(_) => SecondInterrupt::Ends,
            Err(_) => {
                assert_eq!(exit_code_of_child("job"), Some(0));
                assert_eq!(exit_code_of_child("home"), Some(ENDED_BY_SIGINT));
                return;
            }
        };
        let stop = install(second_interrupt).unwrap();
        assert!(!stop.load(Ordering::Relaxed));
        raise(SIGTERM).unwrap();
        assert!(stop.swap(false, Ordering::Relaxed));
        raise(SIGXFSZ).unwrap();
        assert!(!stop.load(Ordering::Relaxed));
        raise(SIGINT).unwrap();
        assert!(stop.load(Ordering::Relaxed));
        raise(SIGINT).unwrap();
        assert_eq!(second_interrupt, SecondInterrupt::Ignored);
    }
}
