//! A hostile file and what must come of it.

use stylegan2_c2d::data::SkipReason;

/// One file, as it lies on the disk.
pub(crate) struct Attack {
    /// For whoever reads a failure.
    pub name: String,
    pub bytes: Vec<u8>,
    /// Pictures that it brings.
    pub num_loaded: usize,
    /// Reasons for which something of it is skipped; each entry counts.
    pub skipped: Vec<SkipReason>,
}

/// Nothing of it is taken.
pub(crate) fn skips(name: impl Into<String>, bytes: Vec<u8>, reason: SkipReason) -> Attack {
    Attack { name: name.into(), bytes, num_loaded: 0, skipped: vec![reason] }
}

/// It is odd, and a picture nevertheless.
pub(crate) fn loads(name: impl Into<String>, bytes: Vec<u8>) -> Attack {
    Attack { name: name.into(), bytes, num_loaded: 1, skipped: Vec::new() }
}

/// An archive of which some is taken.
pub(crate) fn partly(
    name: impl Into<String>,
    bytes: Vec<u8>,
    num_loaded: usize,
    skipped: &[SkipReason],
) -> Attack {
    Attack { name: name.into(), bytes, num_loaded, skipped: skipped.to_vec() }
}

/// The file cut at each eighth.
pub(crate) fn cuts(format: &str, bytes: &[u8], reason: SkipReason) -> Vec<Attack> {
    let cut = |eighths| bytes[..bytes.len() * eighths / 8].to_vec();
    (1..8)
        .map(|eighths| skips(format!("{format}: {eighths}/8 of it"), cut(eighths), reason))
        .collect()
}

/// Bytes without a pattern, the same each time.
pub(crate) fn noise(num_bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..num_bytes).map(|_| next()).collect()
}

/// The bytes with some replaced, from `at` on.
pub(crate) fn patched(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}
