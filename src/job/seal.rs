//! Sealing: what a job keeps for itself, in a file that the buyer carries from job to job.
//!
//! The discriminator and the moments remember the pictures, so they must not be read outside. The
//! key is derived from the files of the set (BLAKE3, [`Dataset::key`]), the content is encrypted and
//! authenticated with XChaCha20-Poly1305 in chunks (Hoang et al.'s STREAM), and the header before it
//! is authenticated with every chunk.
//!
//! Promised, as far as these two primitives hold: only who has every file of the set, byte by byte,
//! can read the content; a change of any byte, a cut, a chunk moved or repeated is noticed before the
//! bytes in question are used.
//!
//! Not promised: secrecy for a set that can be guessed (public, or of few tiny drawings), since
//! whoever guesses it all can try the key; secrecy of the length, of the version and of the images
//! shown, which are written in the clear; that the state is the newest, or that of this job; and that
//! two files are equal, since each has a nonce of its own: with a key that returns whenever the set
//! does, a nonce from a counter could be used for two contents.
//!
//! Reference: Hoang, Reyhanitabar, Rogaway, Vizar 2015, "Online Authenticated-Encryption and its
//! Nonce-Reuse Misuse-Resistance".

use std::io::{self, Read, Write};

use chacha20poly1305::aead::generic_array::GenericArray;
use chacha20poly1305::aead::stream::{DecryptorBE32, EncryptorBE32};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use zeroize::Zeroizing;

use crate::data::Dataset;

/// What the keys are for; a version has keys of its own.
const SEALING: &str = concat!("stylegan2-c2d ", env!("CARGO_PKG_VERSION"), " state 1: sealing");
/// As above.
const CHECKING: &str = concat!("stylegan2-c2d ", env!("CARGO_PKG_VERSION"), " state 1: checking");

/// Bytes that are encrypted at once; what is kept of the content beside itself.
const CHUNK_BYTES: usize = 1 << 20;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 19;
const CHECK_BYTES: usize = 16;

/// Why sealed bytes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key is another.
    #[error("sealed with another key")]
    OtherKey,
    /// A byte was changed, added or cut off.
    #[error("damaged")]
    Damaged,
}

/// The keys that follow from a set.
pub struct Key {
    sealing: Zeroizing<[u8; 32]>,
    checking: Zeroizing<[u8; 32]>,
}

impl Key {
    /// The keys of whoever has this set.
    pub fn of(dataset: &Dataset) -> Self {
        Self { sealing: dataset.key(SEALING), checking: dataset.key(CHECKING) }
    }

    /// Tells a wrong key from damage; says no more of the key than a sealed chunk does.
    fn check(&self, nonce: &[u8; NONCE_BYTES]) -> [u8; CHECK_BYTES] {
        let mut check = [0; CHECK_BYTES];
        let hash = blake3::keyed_hash(&self.checking, nonce);
        check.copy_from_slice(&hash.as_bytes()[..CHECK_BYTES]);
        check
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(GenericArray::from_slice(self.sealing.as_slice()))
    }
}

/// Length of so many bytes when they are sealed.
pub fn sealed_bytes(num_bytes: u64) -> u64 {
    let num_chunks = num_bytes.div_ceil(CHUNK_BYTES as u64).max(1);
    (NONCE_BYTES + CHECK_BYTES) as u64 + num_bytes + num_chunks * TAG_BYTES as u64
}

/// Seals what is written to it, a chunk at a time, in place.
pub struct Sealer<'a, W: Write> {
    to: W,
    header: &'a [u8],
    stream: EncryptorBE32<XChaCha20Poly1305>,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Sealer<'a, W> {
    /// Starts with a fresh nonce.
    ///
    /// * `header` - what is authenticated with the content; written by the caller.
    ///
    /// # Errors
    /// Fails if the system has no random numbers, or `to` fails.
    pub fn new(mut to: W, key: &Key, header: &'a [u8]) -> io::Result<Self> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        to.write_all(&nonce)?;
        to.write_all(&key.check(&nonce))?;
        let stream = EncryptorBE32::from_aead(key.cipher(), GenericArray::from_slice(&nonce));
        let buffer = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
        Ok(Self { to, header, stream, buffer })
    }

    /// Writes the last chunk, which is marked as such.
    ///
    /// # Errors
    /// Fails if the file does.
    pub fn finish(mut self) -> io::Result<()> {
        self.stream.encrypt_last_in_place(self.header, &mut self.buffer).map_err(too_long)?;
        self.to.write_all(&self.buffer)
    }
}

impl<W: Write> Write for Sealer<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == CHUNK_BYTES {
            self.stream.encrypt_next_in_place(self.header, &mut self.buffer).map_err(too_long)?;
            self.to.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        let len = bytes.len().min(CHUNK_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush() // a chunk waits until it is known whether it is the last
    }
}

/// 2^32 chunks are four petabytes.
fn too_long(_: chacha20poly1305::aead::Error) -> io::Error {
    io::Error::other("too many chunks for one nonce")
}

/// Opens what was sealed, a chunk at a time: no byte comes out that was not authenticated.
pub struct Opener<R: Read> {
    from: R,
    header: Vec<u8>,
    /// Absent after the last chunk.
    stream: Option<DecryptorBE32<XChaCha20Poly1305>>,
    /// Sealed bytes that are left.
    num_left: u64,
    chunk: Vec<u8>,
    at: usize,
}

impl<R: Read> Opener<R> {
    /// Reads the nonce, and whether the key fits.
    ///
    /// * `num_bytes` - how many sealed bytes `from` has.
    ///
    /// # Errors
    /// Fails if the key is another, or `from` fails.
    pub fn new(mut from: R, key: &Key, header: Vec<u8>, num_bytes: u64) -> io::Result<Self> {
        let (mut nonce, mut check) = ([0; NONCE_BYTES], [0; CHECK_BYTES]);
        from.read_exact(&mut nonce)?;
        from.read_exact(&mut check)?;
        let expected = blake3::hash(&key.check(&nonce)); // compared as hashes, in constant time
        if expected != blake3::hash(&check) {
            return Err(refused(Refusal::OtherKey));
        }
        let stream = DecryptorBE32::from_aead(key.cipher(), GenericArray::from_slice(&nonce));
        let num_left = num_bytes
            .checked_sub((NONCE_BYTES + CHECK_BYTES) as u64)
            .ok_or_else(|| refused(Refusal::Damaged))?;
        Ok(Self { from, header, stream: Some(stream), num_left, chunk: Vec::new(), at: 0 })
    }

    /// Opens the next chunk, if there is one.
    fn advance(&mut self) -> io::Result<()> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        let len = self.num_left.min((CHUNK_BYTES + TAG_BYTES) as u64);
        self.num_left -= len;
        (self.at, self.chunk) = (0, vec![0; len as usize]);
        self.from.read_exact(&mut self.chunk)?;
        let opened = if self.num_left == 0 {
            stream.decrypt_last_in_place(&self.header, &mut self.chunk)
        } else {
            let opened = stream.decrypt_next_in_place(&self.header, &mut self.chunk);
            self.stream = opened.is_ok().then_some(stream);
            opened
        };
        opened.map_err(|_| {
            self.chunk.clear();
            refused(Refusal::Damaged)
        })
    }
}

impl<R: Read> Read for Opener<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            self.advance()?;
        }
        let len = out.len().min(self.chunk.len() - self.at);
        out[..len].copy_from_slice(&self.chunk[self.at..][..len]);
        self.at += len;
        Ok(len)
    }
}

fn refused(refusal: Refusal) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: u8) -> Key {
        Key::of(&Dataset::from_raw(8, vec![value; 192], 0, Vec::new()).ok().unwrap())
    }

    fn sealed(content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut sealer = Sealer::new(&mut bytes, &key(1), b"header").unwrap();
        sealer.write_all(content).unwrap();
        sealer.finish().unwrap();
        bytes
    }

    fn opened(bytes: &[u8], key: &Key, header: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let mut opener = Opener::new(bytes, key, header.to_vec(), bytes.len() as u64)?;
        opener.read_to_end(&mut content)?;
        Ok(content)
    }

    fn refusal(result: io::Result<Vec<u8>>) -> Refusal {
        *result.unwrap_err().into_inner().unwrap().downcast().unwrap()
    }

    #[test]
    fn what_was_sealed_can_be_opened() {
        for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES] {
            let content: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let bytes = sealed(&content);
            assert_eq!(bytes.len() as u64, sealed_bytes(len as u64));
            assert!(opened(&bytes, &key(1), b"header").unwrap() == content, "{len}");
            assert!(len < 100 || !bytes.windows(100).any(|part| part == &content[..100]));
        }
        assert_ne!(sealed(b"same"), sealed(b"same"), "each file has its own nonce");
    }

    #[test]
    fn another_key_and_another_header_are_told_apart() {
        let bytes = sealed(b"content");
        assert_eq!(refusal(opened(&bytes, &key(2), b"header")), Refusal::OtherKey);
        assert_eq!(refusal(opened(&bytes, &key(1), b"headed")), Refusal::Damaged);
    }

    #[test]
    fn chunks_stay_in_their_order_and_number() {
        let bytes = sealed(&vec![7; 3 * CHUNK_BYTES]);
        let begin = NONCE_BYTES + CHECK_BYTES;
        let (head, chunks) = bytes.split_at(begin);
        let chunks: Vec<&[u8]> = chunks.chunks(CHUNK_BYTES + TAG_BYTES).collect();
        for order in [&[1, 0, 2][..], &[0, 1], &[0, 0, 1, 2], &[0, 1, 2, 2], &[2]] {
            let moved: Vec<&[u8]> = order.iter().map(|idx| chunks[*idx]).collect();
            let moved = [head, &moved.concat()].concat();
            assert_eq!(refusal(opened(&moved, &key(1), b"header")), Refusal::Damaged, "{order:?}");
        }
        assert_eq!(chunks.len(), 3);
    }
}
