//! The line of modules: each may use those to its left, none to its right. Textual.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::path::{Path, PathBuf};

const LINE: [&str; 14] = [
    "ops", "data", "model", "augment", "train", "sample", "metrics", "audit", "convert", "latent",
    "job", "home", "explore", "cli",
];

/// The modules to the right of `LINE[idx]` that `source` names.
fn violations(idx: usize, source: &str) -> Vec<&'static str> {
    let mut named = Vec::new();
    for prefix in ["crate::", "stylegan2_c2d::", "super::super::"] {
        for (at, _) in source.match_indices(prefix) {
            let path = &source[at + prefix.len()..];
            // of `{a::b, c}` every word counts, which is stricter than needed
            let (end, num_words) =
                if path.starts_with('{') { (';', usize::MAX) } else { ('\n', 1) };
            let is_separator = |char: char| !char.is_alphanumeric() && char != '_';
            let words = path.split(end).next().unwrap_or_default().split(is_separator);
            let words: Vec<&str> = words.take(num_words).collect();
            named.extend(LINE[idx + 1..].iter().copied().filter(|module| words.contains(module)));
        }
    }
    named
}

/// The Rust files of a module that is a file or a folder; none if there is no such module.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Some(path.with_extension("rs")).filter(|file| file.is_file()).into_iter().collect();
    };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn no_module_uses_one_to_its_right() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut num_files = 0;
    for (idx, module) in LINE.iter().enumerate() {
        for file in files(&src.join(module)) {
            num_files += 1;
            let named = violations(idx, &fs::read_to_string(&file).unwrap());
            assert!(named.is_empty(), "{} uses {named:?}", file.display());
        }
    }
    assert!(num_files > 0);
}

/// A job, and whatever it uses, makes PNG of generated pictures by `Picture::to_png` alone.
#[test]
fn pictures_become_png_in_two_places() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let words = [
        "PngEncoder",
        "GifEncoder",
        "png::",
        "gif::",
        ".save(",
        ".save_with_format(",
        ".write_to(",
    ];
    let mut found = Vec::new();
    for module in LINE {
        for file in files(&src.join(module)) {
            let source = fs::read_to_string(&file).unwrap();
            let source = source.split("#[cfg(test)]").next().unwrap();
            let source = source.replace("home::png::", ""); // a module of that name
            if words.iter().any(|word| source.contains(word)) && !found.contains(&module) {
                found.push(module);
            }
        }
    }
    assert_eq!(found, ["sample", "home"]);
}

/// Real pictures are looked at in these files, and in no other.
#[test]
fn private_values_are_exposed_in_a_few_places() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in LINE.iter().flat_map(|module| files(&src.join(module))) {
        let source = fs::read_to_string(&file).unwrap();
        let code = source.split("#[cfg(test)]").next().unwrap().lines();
        if code.map(str::trim).any(|line| line.contains(".expose()") && !line.starts_with("//")) {
            found.push(file.strip_prefix(&src).unwrap().display().to_string());
        }
    }
    found.sort();
    let expected = [
        "audit/auditor.rs",
        "audit/calibrate.rs",
        "data/batches.rs",
        "job/quality.rs",
        "train/phases.rs",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_violation_is_seen() {
    for source in [
        "use crate::job;",
        "crate::job::run()",
        "use crate::{ops, job::{log}};",
        "super::super::job",
    ] {
        assert_eq!(violations(4, source), ["job"], "{source}");
    }
    assert_eq!(violations(0, "use crate::{\n    data::Crop,\n};"), ["data"]);
    assert!(
        violations(9, "use crate::data; use crate::jobs; use crate::ops::cli; super::log")
            .is_empty()
    );
}
