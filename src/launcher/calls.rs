//! System calls that are refused to the program, with EPERM.
//!
//! A list of what is refused, on top of the container engine's own filter: what a driver of a GPU
//! calls changes with its version, and a call that is missing on a list of what is allowed would
//! end a training. Sockets exist between processes of this machine only (`AF_UNIX`).
//!
//! Not here: exec, which the program needs once and then refuses to itself (`job::sandbox`).

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp,
    SeccompCondition, SeccompFilter, SeccompRule, apply_filter,
};

/// Calls that look into other processes, change what this one is confined to, or reach parts of the
/// kernel that a training has no use for.
const REFUSED: [c_long; 42] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
];
/// The bit of a call in x86-64's second numbering, under which most calls have the same number.
const X32: c_long = 0x4000_0000;
/// ptrace, `process_vm_readv`, `process_vm_writev` and kexec have others there.
const X32_ONLY: [c_long; 4] = [521, 539, 540, 528];

/// The filter, compiled.
pub(crate) fn filter() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = BTreeMap::new();
    for call in REFUSED.into_iter().chain(X32_ONLY.map(|call| call | X32)) {
        rules.insert(call, Vec::new());
        rules.insert(call | X32, Vec::new());
    }
    let is_foreign =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?;
    for call in [libc::SYS_socket, libc::SYS_socket | X32] {
        rules.insert(call, vec![SeccompRule::new(vec![is_foreign.clone()])?]);
    }
    let refusal = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refusal, ARCH.try_into()?)?.try_into()
}

/// Binds the calling thread and all that it starts.
pub(crate) fn restrict(filter: &BpfProgram) -> Result<(), Error> {
    apply_filter(filter)
}
