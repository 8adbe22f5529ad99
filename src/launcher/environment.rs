//! The variables that reach the program: a short list, each of a checked form.
//!
//! Anything else is the buyer's to set, and much of it is read by libraries: what to load first
//! (`LD_*`, `CUDA_INJECTION64_PATH`), where to write (`CUDA_COREDUMP_*`, `TMPDIR`, `HOME`), how much
//! to say (`RUST_*`), how to compute (`CUDA_*`, `CUBLAS_*`, `MALLOC_*`, `GLIBC_TUNABLES`).

use std::ffi::OsString;

/// What the program always gets. Some engines put a GPU's libraries where NVIDIA's base images look
/// for them by a variable only; the cache of compiled kernels would need a home.
const FIXED: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LD_LIBRARY_PATH", "/usr/local/nvidia/lib:/usr/local/nvidia/lib64"),
    ("CUDA_CACHE_DISABLE", "1"),
];

/// A variable that may pass.
struct Kept {
    name: &'static str,
    max_len: usize,
    /// What it may hold beside letters and digits.
    signs: &'static [u8],
}

const KEPT: [Kept; 3] = [
    // a JSON list of ids: 200 of the longest
    Kept { name: "DIDS", max_len: 32 << 10, signs: b"[]\",: " },
    Kept { name: "NVIDIA_VISIBLE_DEVICES", max_len: 4 << 10, signs: b"-_,:./" },
    Kept { name: "NVIDIA_DRIVER_CAPABILITIES", max_len: 256, signs: b"-_," },
];

/// The variables for the program, of those that `variable` knows, and the names of those that are
/// left out for their form.
pub(crate) fn kept(
    variable: impl Fn(&'static str) -> Option<OsString>,
) -> (Vec<(&'static str, String)>, Vec<&'static str>) {
    let mut variables: Vec<_> =
        FIXED.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let mut refused = Vec::new();
    for kept in &KEPT {
        let Some(value) = variable(kept.name) else { continue };
        match value.into_string() {
            Ok(value) if is_fine(&value, kept) => variables.push((kept.name, value)),
            _ => refused.push(kept.name),
        }
    }
    (variables, refused)
}

fn is_fine(value: &str, kept: &Kept) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || kept.signs.contains(&byte);
    value.len() <= kept.max_len && value.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_list_passes() {
        let (variables, refused) = kept(|name| Some(OsString::from(name.replace('_', ""))));
        let names: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
        let passed = ["DIDS", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"];
        assert_eq!(names, [&FIXED.map(|(name, _)| name)[..], &passed].concat());
        assert!(refused.is_empty());
        assert!(FIXED.iter().zip(&variables).all(|(fixed, (_, value))| fixed.1 == value));
    }

    #[test]
    fn values_are_checked() {
        for (name, value, passes) in [
            ("DIDS", r#"["17feb697", "7ddb:4c3a"]"#, true),
            ("DIDS", "[\"../x\"]", false),
            ("DIDS", "[\"a\"]\n", false),
            ("DIDS", "\u{e9}", false),
            ("DIDS", &"a".repeat((32 << 10) + 1), false),
            ("NVIDIA_VISIBLE_DEVICES", "GPU-294c6802-bb2f,MIG-1:0", true),
            ("NVIDIA_VISIBLE_DEVICES", "$(x)", false),
            ("NVIDIA_DRIVER_CAPABILITIES", "compute,utility", true),
            ("NVIDIA_DRIVER_CAPABILITIES", "compute utility", false),
        ] {
            let (variables, refused) = kept(|asked| (asked == name).then(|| value.into()));
            assert_eq!(variables.iter().any(|(kept, _)| *kept == name), passes, "{name}");
            assert_eq!(refused.contains(&name), !passes, "{name}");
        }
    }
}
