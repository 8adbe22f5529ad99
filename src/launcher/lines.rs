//! Which lines are of the log's form: those of its grammar, and not too many.

use std::time::{Duration, Instant};

use crate::grammar;
use crate::launched::MAX_LINE;

/// Lines that may come at once ..
const BURST: u32 = 1000;
/// .. and how long it takes until one more may.
const INTERVAL: Duration = Duration::from_millis(50);

/// Cuts a stream into lines, and leaves out those of another form.
pub(crate) struct Lines {
    line: Vec<u8>,
    /// Whether the line so far is of another form already.
    is_odd: bool,
    /// How many may pass now.
    allowance: u32,
    /// Up to when the allowance is counted.
    counted: Instant,
    num_refused: u64,
}

impl Lines {
    /// Of a stream that begins now.
    pub(crate) fn new(now: Instant) -> Self {
        let line = Vec::with_capacity(MAX_LINE + 1);
        Self { line, is_odd: false, allowance: BURST, counted: now, num_refused: 0 }
    }

    /// The lines, with line feeds, that `bytes` complete.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Instant) -> Vec<Vec<u8>> {
        self.earn(now);
        let mut lines = Vec::new();
        for &byte in bytes {
            if byte == b'\n' {
                lines.extend(self.complete());
            } else if self.line.len() < MAX_LINE && matches!(byte, b' '..=b'~') {
                self.line.push(byte);
            } else {
                self.is_odd = true;
            }
        }
        lines
    }

    /// How many lines were left out, of a stream that has ended; a line without an end is one.
    pub(crate) fn finish(self) -> u64 {
        self.num_refused + u64::from(self.is_odd || !self.line.is_empty())
    }

    /// The line that has come to its end, if it may pass.
    fn complete(&mut self) -> Option<Vec<u8>> {
        let mut line = std::mem::take(&mut self.line);
        let is_odd = std::mem::take(&mut self.is_odd) || self.allowance == 0;
        if is_odd || !str::from_utf8(&line).is_ok_and(grammar::has) {
            self.num_refused += 1;
            return None;
        }
        self.allowance -= 1;
        line.push(b'\n');
        Some(line)
    }

    /// Adds what the time since the last call allows.
    fn earn(&mut self, now: Instant) {
        let num = now.saturating_duration_since(self.counted).as_millis() / INTERVAL.as_millis();
        let num = u32::try_from(num).unwrap_or(BURST).min(BURST);
        self.allowance = (self.allowance + num).min(BURST);
        if num == BURST {
            self.counted = now;
        } else {
            self.counted += num * INTERVAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "done: 1.0 kimg\n";

    /// What passes of `pieces`, and how many lines do not.
    fn passed(pieces: &[&[u8]]) -> (String, u64) {
        let now = Instant::now();
        let mut lines = Lines::new(now);
        let text: Vec<u8> =
            pieces.iter().flat_map(|piece| lines.push(piece, now).concat()).collect();
        (String::from_utf8(text).unwrap(), lines.finish())
    }

    #[test]
    fn plain_lines_pass_however_they_are_cut() {
        assert_eq!(
            passed(&[b"done: 1", b".0 kimg\nresolution:", b" 8x8\n"]),
            ("done: 1.0 kimg\nresolution: 8x8\n".into(), 0)
        );
    }

    #[test]
    fn lines_of_another_form_do_not() {
        let odd: [&[u8]; 7] = [
            b"\x1b[31mred",
            b"tab\tend",
            "\u{e9}".as_bytes(),
            b"nul\0",
            b"done: 1 kimg\r",
            b"secret",
            b"",
        ];
        for odd in odd {
            let text = [OK.as_bytes(), odd, b"\n", OK.as_bytes()].concat();
            assert_eq!(passed(&[&text]), (OK.repeat(2), 1), "{odd:?}");
        }
    }

    #[test]
    fn long_lines_and_lines_without_end_do_not() {
        let long = "x".repeat(1 << 20) + "\n" + OK;
        assert_eq!(passed(&[long.as_bytes()]), (OK.into(), 1));
        assert_eq!(passed(&[OK.as_bytes(), b"done: 2.0 kimg"]), (OK.into(), 1));
        assert_eq!(passed(&[OK.as_bytes(), b"\xff"]), (OK.into(), 1));
    }

    #[test]
    fn a_flood_is_cut_and_time_brings_more() {
        let start = Instant::now();
        let mut lines = Lines::new(start);
        let flood = OK.repeat(3 * BURST as usize);
        let flood = flood.as_bytes();
        assert_eq!(lines.push(flood, start).len(), BURST as usize);
        assert_eq!(lines.push(flood, start + 7 * INTERVAL + INTERVAL / 2).len(), 7);
        assert_eq!(lines.push(OK.repeat(2).as_bytes(), start + 8 * INTERVAL).len(), 1);
        assert_eq!(lines.push(flood, start + 9 * BURST * INTERVAL).len(), BURST as usize);
        let num_pushed = 9 * u64::from(BURST) + 2;
        assert_eq!(lines.finish(), num_pushed - 2 * u64::from(BURST) - 8);
    }
}
