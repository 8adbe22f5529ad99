//! The markers of a JPEG, read without decoding it.
//!
//! The decoder fills what is missing of a cut file with grey and takes any number of scans; both
//! are found here first. A grey half must not become training data, and every scan of a
//! progressive picture costs a pass over all of its pixels.

/// What the markers say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Markers {
    /// The end-of-image marker was met.
    pub is_complete: bool,
    pub is_progressive: bool,
    /// Lossless, hierarchical, or arithmetic coding, or other than 8 bits: no decoder here reads these.
    pub is_foreign: bool,
    pub num_components: u8,
    pub num_scans: usize,
}

/// Walks the markers of a JPEG up to its end; `None` if they make no sense.
pub(super) fn markers(bytes: &[u8]) -> Option<Markers> {
    let mut found = Markers {
        is_complete: false,
        is_progressive: false,
        is_foreign: false,
        num_components: 0,
        num_scans: 0,
    };
    let mut at = 2; // after the start-of-image marker
    loop {
        let Some(next) = next_marker(bytes, at) else { return Some(found) };
        let marker = bytes[next];
        at = next + 1;
        match marker {
            0xd9 => {
                found.is_complete = true;
                return Some(found);
            }
            0x01 | 0xd0..=0xd8 => continue, // no payload
            0xda => found.num_scans += 1,
            // Frame headers; C4, C8 and CC in between are none.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                found.is_progressive = matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce);
                found.is_foreign = !matches!(marker, 0xc0..=0xc2) || bytes.get(at + 2) != Some(&8);
                found.num_components = bytes.get(at + 7).copied().unwrap_or(0);
            }
            _ => {}
        }
        let Some(&[high, low]) = bytes.get(at..at + 2) else { return Some(found) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < 2 {
            return None;
        }
        at += length;
    }
}

/// Index of the code of the next marker, skipping coded data, stuffed bytes and restarts.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        while *bytes.get(at)? == 0xff {
            at += 1;
        }
        if !matches!(bytes[at], 0x00 | 0xd0..=0xd7) {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &[u8] = &[
        0xff, 0xd8, // start
        0xff, 0xe1, 0, 6, 0xff, 0xd9, 1, 2, // a segment that holds an end marker of its own
        0xff, 0xc2, 0, 8, 8, 0, 1, 0, 1, 3, // progressive frame of three components
        0xff, 0xda, 0, 2, 5, 0xff, 0, 0xff, 0xd3,
        7, // a scan with a stuffed byte and a restart
        0xff, 0xda, 0, 2, 9, // another
    ];

    #[test]
    fn scans_are_counted_and_the_end_is_found() {
        let whole = [BASE, &[0xff, 0xff, 0xd9, 1, 2]].concat();
        let expected = Markers {
            is_complete: true,
            is_progressive: true,
            is_foreign: false,
            num_components: 3,
            num_scans: 2,
        };
        assert_eq!(markers(&whole), Some(expected));
        assert!(!markers(BASE).unwrap().is_complete);
    }

    #[test]
    fn nonsense_ends() {
        assert_eq!(markers(&[0xff, 0xd8, 0xff, 0xe0, 0, 1]), None);
        for end in 0..BASE.len() {
            assert!(markers(&BASE[..end]).is_none_or(|found| !found.is_complete));
        }
    }
}
