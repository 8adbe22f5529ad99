//! Limits of this process, which the program inherits, and what others may see of it.
//!
//! Each is best effort: a kernel that refuses one is no reason not to train.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::set_no_new_privs;

/// Largest file: many times the largest output.
const MAX_FILE_BYTES: u64 = 16 << 30;
/// Most open files.
const MAX_FILES: u64 = 4096;

/// No core dump, no reading of the memory by others of the same user, no new privileges.
///
/// A kernel that pipes core dumps to a program ignores the limit, and asks whether a process may be
/// dumped; an exec forgets that, so the program says it again for itself.
pub(crate) fn close_to_others() {
    lower(Resource::Core, 0);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = set_no_new_privs(true);
}

/// The size of a file, and the number of open ones.
pub(crate) fn bound_files() {
    lower(Resource::Fsize, MAX_FILE_BYTES);
    lower(Resource::Nofile, MAX_FILES);
}

/// Lowers a limit for good, unless it is lower already.
fn lower(resource: Resource, limit: u64) {
    let now = getrlimit(resource);
    let least = |now: Option<u64>| Some(now.map_or(limit, |now| now.min(limit)));
    let _ =
        setrlimit(resource, Rlimit { current: least(now.current), maximum: least(now.maximum) });
}
