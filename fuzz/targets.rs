//! What reads untrusted bytes, one function for each kind of file. A target is sound if it returns,
//! in little time and memory, and if what it accepts is as it should be.
//!
//! The fuzzers of `bin/` call these, and `tests/fuzz.rs` calls them on the files of `corpus/`.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use stylegan2_c2d::convert::{Target, Which, open, write};
use stylegan2_c2d::data::{Asset, Cond, Dataset, LoadOptions, load, scan};
use stylegan2_c2d::job::keeper::Set;
use stylegan2_c2d::job::params::Params;
use stylegan2_c2d::job::policy::Policy;
use stylegan2_c2d::job::resume::{self, Source};
use stylegan2_c2d::model::weights::from_bytes;
use tempfile::NamedTempFile;

/// A target, and the name of its fuzzer and of its part of the corpus.
type Named = (&'static str, fn(&[u8]));

/// Every target.
#[allow(dead_code, reason = "a fuzzer calls one of them by itself")]
pub(crate) const TARGETS: [Named; 8] = [
    ("image", image),
    ("zip", zip),
    ("tar", tar),
    ("parameters", parameters),
    ("policy", policy),
    ("weights", weights),
    ("state", state),
    ("snapshot", snapshot),
];

/// A picture of any format.
pub(crate) fn image(bytes: &[u8]) {
    read(bytes);
}

/// A zip, whatever it begins with.
pub(crate) fn zip(bytes: &[u8]) {
    read(&[b"PK\x03\x04", bytes.strip_prefix(b"PK\x03\x04").unwrap_or(bytes)].concat());
}

/// A tar, whatever its first header has in the place of its mark.
pub(crate) fn tar(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 512 {
        bytes[257..262].copy_from_slice(b"ustar");
    }
    read(&bytes);
}

/// Reads an asset with its labels as a job does, in little memory.
fn read(bytes: &[u8]) {
    let file = on_disk(bytes);
    let assets = [Asset { roots: vec![file.path().to_owned()] }];
    let options = LoadOptions {
        resolution: Some(8),
        cond: Cond::Auto,
        memory_limit: Some(256 << 20),
        ..LoadOptions::default()
    };
    let stop = AtomicBool::new(false);
    for options in [LoadOptions { cond: Cond::Off, ..options.clone() }, options] {
        let Ok(scanned) = scan(&assets, &options, &stop) else { continue };
        let Ok(set) = load(&assets, &options, &scanned, &stop) else { continue };
        assert!(!set.is_empty() && set.len() <= scanned.num_images());
        assert!((0..set.len()).all(|idx| set.image(idx).expose().len() == 3 * 8 * 8));
    }
}

fn on_disk(bytes: &[u8]) -> NamedTempFile {
    let in_memory = Path::new("/dev/shm");
    let file =
        if in_memory.is_dir() { NamedTempFile::new_in(in_memory) } else { NamedTempFile::new() };
    let file = file.expect("a file");
    fs::write(file.path(), bytes).expect("its content");
    file
}

/// The consumer's parameters.
pub(crate) fn parameters(bytes: &[u8]) {
    match Params::from_json(Some(bytes)) {
        Ok(params) => assert!(params.kimg > 0.0 && u32::try_from(params.seed).is_ok()),
        Err(error) => assert!(error.lines().iter().all(|line| line.is_ascii() && line.len() < 300)),
    }
}

/// The owner's policy: whatever is accepted is within the hard floors.
pub(crate) fn policy(bytes: &[u8]) {
    if let Ok(policy) = Policy::of_file(bytes) {
        assert!(policy.min_images >= 20);
        assert!(policy.max_kimg_per_image.is_none_or(|limit| limit > 0.0));
        assert_eq!(policy.meet(Policy::DEFAULT), Policy::DEFAULT.meet(policy));
    }
}

/// A weights file: whatever is accepted is finite.
pub(crate) fn weights(bytes: &[u8]) {
    if let Ok((header, _)) = from_bytes(bytes, &Device::Cpu) {
        assert!(header.model.img_resolution.is_power_of_two());
    }
}

/// A state or weights to go on from, sealed or plain.
pub(crate) fn state(bytes: &[u8]) {
    static SET: LazyLock<Set> = LazyLock::new(|| {
        let pixels = (0..8 * 192).map(|i| (i % 251) as u8).collect();
        let dataset = Dataset::from_raw(8, pixels, 0, Vec::new()).expect("eight pictures");
        Set::of(&dataset, &Params::default())
    });
    let file = on_disk(bytes);
    if let Ok(Source::State(state)) = resume::at(file.path()) {
        drop(SET.open(state));
    }
}

/// A snapshot of another tool: whatever is read can be written.
pub(crate) fn snapshot(bytes: &[u8]) {
    for which in [Which::GEma, Which::D] {
        let Ok(network) = open(bytes, which) else { continue };
        for target in [Target::Safetensors, Target::Onnx, Target::Pytorch] {
            assert!(write(&network, target).is_ok());
        }
    }
}
