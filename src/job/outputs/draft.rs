//! A file on its way to its name: written, pushed to the disk and read back before it gets it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

/// A new file.
pub(super) struct Draft {
    file: File,
    written: blake3::Hasher,
    /// Bytes that it may still take.
    left: u64,
}

impl Draft {
    /// * `limit` - the most bytes that it may have.
    pub(super) fn new(file: File, limit: u64) -> Self {
        Self { file, written: blake3::Hasher::new(), left: limit }
    }

    /// Ends the writing.
    ///
    /// # Errors
    /// Fails if the disk does not take it, or gives back something else.
    pub(super) fn finish(mut self) -> io::Result<()> {
        #[cfg(test)]
        super::faults::meet()?;
        self.file.sync_all()?;
        self.file.rewind()?;
        let mut read = blake3::Hasher::new();
        let mut bytes = vec![0; 1 << 20];
        loop {
            #[cfg(test)]
            super::faults::meet()?;
            match self.file.read(&mut bytes)? {
                0 => break,
                count => read.update(&bytes[..count]),
            };
        }
        if read.finalize() != self.written.finalize() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        #[cfg(test)]
        let bytes = &bytes[..super::faults::taken(bytes.len())?];
        let count = self.file.write(bytes)?;
        self.written.update(&bytes[..count]);
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
