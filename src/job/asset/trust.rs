//! The two checksums by which a data set's owner trusts an algorithm.
//!
//! The node compares nothing else: neither the image's name nor its tag are in them.

use std::fmt::Write as _;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// Bytes read at once.
const CHUNK: usize = 1 << 16;

/// `containerSectionChecksum`: SHA-256 of `entrypoint` and `checksum`, one right after the other.
pub fn container_section_checksum(entrypoint: &str, checksum: &str) -> String {
    hex(Sha256::new().chain_update(entrypoint).chain_update(checksum))
}

/// `filesChecksum` of an asset with one file: its SHA-256.
///
/// # Errors
/// Fails if `file` cannot be read to its end.
pub fn file_checksum(mut file: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(hex(hash)),
            Ok(num_bytes) => hash.update(&chunk[..num_bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String succeeds
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B, and the empty message.
    #[test]
    fn published_examples_of_sha256() {
        let examples = [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ];
        for (message, digest) in examples {
            assert_eq!(file_checksum(message.as_bytes()).unwrap(), digest);
            let (head, tail) = message.split_at(message.len() / 2);
            assert_eq!(container_section_checksum(head, tail), digest);
        }
        let million = io::repeat(b'a').take(1_000_000); // more than one chunk
        assert_eq!(
            file_checksum(million).unwrap(),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        );
    }
}
