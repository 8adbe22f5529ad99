//! A decoder: pictures in, pixels out, until the connection ends.

use std::fs::File;
use std::io::{self, BufReader, IoSlice, Read, Write};

use super::remote::MAX_WAITING;
use super::wire::{DONE, HEADER_BYTES, Header, Target, Task, code_of, facts_to_bytes};
use super::{Limits, confine};
use crate::data::image::{decode, inspect};
use crate::data::report::SkipReason;
use crate::data::resize::square;

/// Answers requests that come by `data`. Whatever goes wrong ends this process, and costs the picture
/// that is at hand.
///
/// # Errors
/// Fails at the end of the connection.
pub(super) fn serve(data: &File, limits: Limits) -> io::Result<()> {
    let mut requests = BufReader::with_capacity(MAX_WAITING, data);
    let mut answers = data;
    loop {
        let mut header = [0; HEADER_BYTES];
        requests.read_exact(&mut header)?;
        let header = Header::of_bytes(&header).ok_or(io::ErrorKind::InvalidData)?;
        confine::allow_seconds(limits.cpu_seconds);
        let mut bytes = Vec::with_capacity(header.num_bytes as usize);
        requests.by_ref().take(header.num_bytes).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != header.num_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (first, answer) = match answer(header.task, &bytes, limits) {
            Ok(answer) => (DONE, answer),
            Err(reason) => (code_of(reason), Vec::new()),
        };
        let first = [first];
        let mut parts = &mut [IoSlice::new(&first), IoSlice::new(&answer)][..];
        while !parts.is_empty() {
            let num_written = answers.write_vectored(parts)?;
            IoSlice::advance_slices(&mut parts, num_written);
        }
    }
}

fn answer(task: Task, bytes: &[u8], limits: Limits) -> Result<Vec<u8>, SkipReason> {
    Ok(match task {
        Task::Try => vec![confine::attempt(limits)],
        Task::Inspect(format) => facts_to_bytes(inspect(format, bytes)?).to_vec(),
        Task::Decode(format, target) => {
            let Target { res, crop, resize, background } = target;
            square(&decode(format, bytes)?, res, crop, resize, background)
        }
    })
}
