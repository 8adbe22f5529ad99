//! How much memory this process may use.
//!
//! A container's limit is set in its control group or in one above it, and the tightest counts.
//! Both versions of cgroups are asked, then the machine's own memory; whatever is missing or
//! unreadable sets no limit. Files of the kernel are small, yet read with a cap like all else.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Longest kernel file that is read; `/proc/self/mountinfo` is the long one.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Bytes this process may use: the tightest of all cgroup limits and the physical memory.
///
/// `None` where nothing is known, as outside Linux.
pub fn memory_limit() -> Option<u64> {
    memory_limit_below(Path::new("/"))
}

/// As [`memory_limit`], with `/proc` and `/sys` looked up below `root`.
pub fn memory_limit_below(root: &Path) -> Option<u64> {
    let membership = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let unified = group_limit(
        &[root.join("sys/fs/cgroup"), root.join("sys/fs/cgroup/unified")],
        membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/"),
        "memory.max",
    );
    let legacy = group_limit(
        &[root.join("sys/fs/cgroup/memory")],
        membership.lines().find_map(legacy_group).unwrap_or("/"),
        "memory.limit_in_bytes",
    );
    [unified, legacy, physical_memory(root)].into_iter().flatten().min()
}

/// The group of a line such as `4:cpu,memory:/docker/abc`, if it is about memory.
fn legacy_group(line: &str) -> Option<&str> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
    controllers.split(',').any(|controller| controller == "memory").then_some(group)
}

/// The tightest limit of `group` and all groups above it, under any of `mounts`.
///
/// Inside a container the group is often named as the host sees it while the mount shows only
/// the container's own; then the named folder is missing and the mount's root has the limit.
fn group_limit(mounts: &[PathBuf], group: &str, file: &str) -> Option<u64> {
    let mut tightest: Option<u64> = None;
    for mount in mounts {
        let mut dir = mount.clone();
        let names = Path::new(group).components().filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        for name in std::iter::once(None).chain(names.map(Some)) {
            if let Some(name) = name {
                dir.push(name);
            }
            // "max" stands for no limit and does not parse; so does v1's huge number, which the
            // physical memory undercuts.
            let limit = read(&dir.join(file)).and_then(|text| text.trim().parse::<u64>().ok());
            tightest = [tightest, limit].into_iter().flatten().min();
        }
    }
    tightest
}

fn physical_memory(root: &Path) -> Option<u64> {
    let meminfo = read(&root.join("proc/meminfo"))?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn nothing_known_is_no_limit() {
        assert_eq!(memory_limit_below(tree(&[]).path()), None);
    }

    #[test]
    fn the_tightest_ancestor_of_a_v2_group_counts() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/a/b/c\n"),
            ("proc/meminfo", "MemFree: 1 kB\nMemTotal:       8 kB\n"),
            ("sys/fs/cgroup/a/memory.max", "3000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "2000\n"),
            ("sys/fs/cgroup/a/b/c/memory.max", "max\n"),
        ]);
        assert_eq!(memory_limit_below(root.path()), Some(2000));
    }

    #[test]
    fn a_v1_group_counts_where_the_container_sees_only_its_own() {
        let root = tree(&[
            ("proc/self/cgroup", "5:cpu,memory:/docker/abc\n1:name=systemd:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n"),
            ("proc/meminfo", "MemTotal: 1024 kB\n"),
        ]);
        assert_eq!(memory_limit_below(root.path()), Some(4096));
    }

    #[test]
    fn an_unlimited_group_leaves_the_physical_memory() {
        let root = tree(&[
            ("proc/self/cgroup", "4:memory:/x\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory.max", "max"),
            ("proc/meminfo", "MemTotal: 2 kB\n"),
        ]);
        assert_eq!(memory_limit_below(root.path()), Some(2048));
    }

    #[test]
    fn a_group_with_dots_stays_below_the_mount() {
        let root = tree(&[("proc/self/cgroup", "0::/../../etc\n"), ("etc/memory.max", "1\n")]);
        assert_eq!(memory_limit_below(root.path()), None);
    }
}
