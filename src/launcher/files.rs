//! Files that the program may reach: its libraries, the kernel's own, a GPU's, and the job's folders.
//!
//! What is missing is left out, since it must not void the rest; what a kernel does not know yet is
//! not enforced, and the program finds that out by trying.
//!
//! Reference: the kernel's `Documentation/userspace-api/landlock.rst`.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use crate::launched;

/// Libraries and what the loader knows of them; the folders whose names begin with [`CUDA`] come on
/// top.
const LIBRARIES: [&str; 8] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/nvidia",
    "/usr/share/nvidia",
    "/etc/ld.so.cache",
];
const CUDA: (&str, [&str; 1]) = ("/usr/local", ["cuda"]);
/// The loader is executed with the program, so it needs the same right.
const LOADERS: [&str; 2] = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
/// What the kernel tells: memory, processors, control groups, and the many files that a GPU's driver
/// asks for. Of other processes that excludes all that is secret, also without a rule.
const KERNEL: [&str; 4] = ["/proc", "/sys", "/dev/urandom", "/dev/random"];
/// A GPU, natively and below Windows.
const DEVICES: (&str, [&str; 2]) = ("/dev", ["nvidia", "dxg"]);
/// Where a driver writes the names of its threads, without which it does not start.
const THREADS: &str = "/proc/self/task";
/// Data sets, below the root.
const INPUTS: [&str; 2] = ["inputs", "persistentStorage"];

/// The folders of a job.
#[derive(Clone)]
pub(crate) struct Folders {
    root: PathBuf,
}

impl Folders {
    /// Makes what is missing of the folders that are written to; where that is refused the program
    /// does without, or says what is wrong.
    pub(crate) fn prepare(root: &Path) -> Self {
        let folders = Self { root: root.to_owned() };
        let _ = fs::create_dir_all(folders.outputs());
        let _ = fs::DirBuilder::new().mode(0o700).create(folders.staging());
        folders
    }

    fn outputs(&self) -> PathBuf {
        self.root.join("outputs")
    }

    fn staging(&self) -> PathBuf {
        self.root.join(launched::STAGING)
    }

    /// Removes what was made for a time.
    pub(crate) fn clean_up(&self) {
        let _ = fs::remove_dir_all(self.staging()); // does not follow a link
    }
}

/// Confines the calling thread, and all that it starts, to `program` and to `folders`.
///
/// # Errors
/// Fails by a mistake of ours; an older kernel is no failure.
pub(crate) fn restrict(program: &Path, folders: &Folders) -> Result<(), RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile | AccessFs::Truncate;
    // What is written is read back.
    let replace = write | read | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Refer;
    let mut rules = Rules(
        Ruleset::default()
            .handle_access(AccessFs::from_all(ABI::V5))?
            .handle_access(AccessNet::from_all(ABI::V4))?
            .scope(Scope::from_all(ABI::V6))?
            .create()?,
    );
    for path in [program].into_iter().chain(LOADERS.map(Path::new)) {
        rules = rules.allow(path, read | AccessFs::Execute)?;
    }
    for path in LIBRARIES.iter().chain(&KERNEL) {
        rules = rules.allow(Path::new(path), read)?;
    }
    for path in named(&CUDA) {
        rules = rules.allow(&path, read)?;
    }
    for path in named(&DEVICES) {
        rules = rules.allow(&path, read | write | AccessFs::IoctlDev)?;
    }
    for path in [THREADS, "/dev/null"] {
        rules = rules.allow(Path::new(path), read | write)?;
    }
    for folder in INPUTS {
        rules = rules.allow(&folders.root.join(folder), read)?;
    }
    for folder in [folders.outputs(), folders.staging()] {
        if is_real_folder(&folder) {
            rules = rules.allow(&folder, replace)?;
        }
    }
    rules.0.restrict_self()?;
    Ok(())
}

/// A set of rules in the making.
struct Rules(RulesetCreated);

impl Rules {
    /// Allows `access` to a file, or to a folder and all below it; nothing if there is none.
    fn allow(self, path: &Path, access: BitFlags<AccessFs>) -> Result<Self, RulesetError> {
        let (Ok(fd), Ok(metadata)) = (PathFd::new(path), fs::metadata(path)) else {
            return Ok(self);
        };
        let of_files = AccessFs::from_file(ABI::V5);
        let access = if metadata.is_dir() { access } else { access & of_files };
        Ok(Self(self.0.add_rule(PathBeneath::new(fd, access))?))
    }
}

/// The entries of a folder whose names begin with one of some words.
fn named<const N: usize>((folder, begins): &(&str, [&str; N])) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        begins.iter().any(|begin| name.starts_with(begin))
    };
    entries.map(|entry| entry.path()).filter(is_named).collect()
}

/// Whether `path` is a folder itself; a link might lead anywhere.
fn is_real_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Keeps what the kernel knows of process `pid` in its memory: a rule about a file of `/proc` holds
/// for as long as that is not made anew.
///
/// # Errors
/// Fails if there is no `/proc`.
pub(crate) fn pin(pid: u32) -> io::Result<fs::File> {
    let folder = format!("/proc/{pid}/task");
    fs::File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(folder)
}
