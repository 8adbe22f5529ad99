//! The log: one short plain line per event of this crate, in one write.
//!
//! Events of other crates are dropped, no variable (`RUST_LOG`) is read, and a panic tells its place
//! but never its message, which may hold data. A job's log is public: of its lines those are written
//! that `grammar.txt` has; of others the part that it has, or else the place that they come from.
//! A stream that is closed or full is no reason to stop: such lines are lost.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::panic;
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use super::grammar;
use super::launched::MAX_LINE;
use crate::ops::guard::is_guarded;

/// Where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// A job's.
    Job,
    /// A launched job's: a pipe to the launcher in place of stdin, since libraries may write on the
    /// other two, and what they write does not become public.
    Launcher,
    /// That of a command at home whose result is its log.
    Stdout,
    /// That of other commands at home, whose stdout may be data.
    Stderr,
}

impl Stream {
    fn is_public(self) -> bool {
        match self {
            Self::Job | Self::Launcher => true,
            Self::Stdout | Self::Stderr => false,
        }
    }
}

/// Installs the log for the whole process; a second call changes nothing.
pub fn install(stream: Stream) {
    // refused only where there is a log already
    let log = Log { file: open(stream), is_public: stream.is_public() };
    let _ = tracing_subscriber::registry().with(log).try_init();
}

/// Makes a panic say its place in this crate, and nothing else.
///
/// `P1` is a panic in this program, `P2` one in a library that it uses.
pub fn install_panic_hook(stream: Stream) {
    let file = open(stream);
    panic::set_hook(Box::new(move |info| {
        if is_guarded() {
            return; // a hostile file, or what probing a device met: told elsewhere
        }
        let place = info.location().map(|location| (location.file(), location.line()));
        write_line(file.as_ref(), &panic_line(place));
    }));
}

/// One line per event, for a [`tracing_subscriber::registry`].
struct Log {
    /// `None` where the process has no such stream.
    file: Option<File>,
    is_public: bool,
}

impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_ours(metadata.target()) && *metadata.level() <= Level::INFO
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        match *event.metadata().level() {
            Level::ERROR => text.0.push_str("ERROR "),
            Level::WARN => text.0.push_str("WARN "),
            _ => (),
        }
        event.record(&mut text);
        let line = if self.is_public { public(text.0, event.metadata()) } else { Some(text.0) };
        if let Some(line) = line {
            write_line(self.file.as_ref(), &line);
        }
    }
}

/// What may be said of a line: all of it, or what comes before one of its colons, or where it is from.
fn public(text: String, metadata: &Metadata<'_>) -> Option<String> {
    if grammar::has(&text) {
        return Some(text);
    }
    let colons = text.rmatch_indices(": ").map(|(colon, _)| &text[..colon]);
    if let Some(part) = colons.into_iter().find(|part| grammar::has(part)) {
        return Some(part.to_owned());
    }
    let (file, line) = metadata.file().zip(metadata.line())?;
    let level = text.split(' ').next().filter(|word| ["ERROR", "WARN"].contains(word));
    let level = level.map_or_else(String::new, |level| format!("{level} "));
    Some(format!(
        "{level}L1 not said, since logs are public, is the line of {file}:{line}; please report this one"
    ))
}

/// The message, then ` name=value` for each field.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        }; // writing to a String succeeds
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

fn is_ours(target: &str) -> bool {
    let rest = target.strip_prefix("stylegan2_c2d");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// A handle of its own, without the standard library's buffer and lock: a line that fails half
/// way leaves nothing behind for the next.
fn open(stream: Stream) -> Option<File> {
    let fd = match stream {
        Stream::Job | Stream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
        Stream::Launcher => io::stdin().as_fd().try_clone_to_owned(),
        Stream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
    };
    fd.ok().map(File::from)
}

fn write_line(file: Option<&File>, text: &str) {
    if let Some(mut file) = file {
        // On a terminal a progress bar may stand in this line; it is drawn again below.
        let clear = if file.is_terminal() { "\r\u{1b}[2K" } else { "" };
        let line = format!("{clear}{}", line(text));
        let _ = file.write(line.as_bytes()); // lost where the stream is closed or full
    }
}

/// `text` as one plain line of at most [`MAX_LINE`] characters and a line feed.
fn line(text: &str) -> String {
    let mut line: String = text.chars().filter(|char| is_plain(*char)).take(MAX_LINE).collect();
    line.push('\n');
    line
}

/// Whether `char` shows as itself: no control, no line break, no change of direction.
fn is_plain(char: char) -> bool {
    let is_format = matches!(char,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !char.is_control() && !is_format
}

/// Our own files are named from the root of the crate; those of libraries by absolute paths of
/// the machine that built the program, which are nobody's business.
fn panic_line(place: Option<(&str, u32)>) -> String {
    match place {
        Some((file, line)) if Path::new(file).starts_with("src") => {
            format!("ERROR P1 internal error at {file}:{line}; please report this line")
        }
        _ => "ERROR P2 internal error in a library; please report what was run".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tracing::subscriber::with_default;

    use super::*;

    /// What the log writes of `events`.
    fn logged(events: impl FnOnce()) -> String {
        logged_on(Stream::Stderr, events)
    }

    fn logged_on(stream: Stream, events: impl FnOnce()) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = Some(File::create(&path).unwrap());
        let log = Log { file, is_public: stream.is_public() };
        with_default(tracing_subscriber::registry().with(log), events);
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn one_plain_line_per_event() {
        let text = logged(|| {
            tracing::info!("kimg {:.1}", 4.0);
            tracing::warn!(skipped = 3, reason = "two\nlines", "\u{1b}[31mred\u{202e}");
            tracing::error!("tab\tend");
            tracing::debug!("hidden");
        });
        assert_eq!(text, "kimg 4.0\nWARN [31mred skipped=3 reason=twolines\nERROR tabend\n");
    }

    #[test]
    fn other_crates_are_not_heard() {
        let text = logged(|| {
            tracing::error!(target: "candle_core::device", "secret");
            tracing::error!(target: "stylegan2_c2d_plugin", "secret");
            tracing::info!(target: "stylegan2_c2d::job", "ours");
        });
        assert_eq!(text, "ours\n");
    }

    #[test]
    fn a_public_log_says_what_its_grammar_has() {
        for stream in [Stream::Job, Stream::Launcher] {
            let text = logged_on(stream, || {
                tracing::info!("done: {:.3} kimg", 4.0);
                tracing::error!("a training step failed: conv2d: expected secret: secret");
                tracing::warn!("odd: secret");
                tracing::info!(name = "secret", "kimg");
            });
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), 4);
            assert_eq!(lines[..2], ["done: 4.000 kimg", "ERROR a training step failed"]);
            assert!(lines[2].starts_with("WARN L1 not said, "), "{}", lines[2]);
            assert!(lines[3].starts_with("L1 not said, "), "{}", lines[3]);
            assert!(lines.iter().all(|line| grammar::has(line)), "{text}");
        }
    }

    #[test]
    fn parts_of_a_gpu_that_differ_are_named() {
        use crate::ops::selftest::Part::{Convolutions, Kernels};
        for parts in [vec![Kernels], vec![Convolutions], vec![Kernels, Convolutions]] {
            let words = "differ from the processor; a slower way is taken";
            let line = format!("WARN self-test: {parts:?} {words}");
            assert!(grammar::has(&line), "{line}");
        }
    }

    #[test]
    fn lines_are_cut() {
        let line = line(&"\u{e9}".repeat(MAX_LINE + 1));
        assert_eq!(line.chars().count(), MAX_LINE + 1);
        assert!(line.ends_with('\n'));
    }

    #[test]
    fn a_full_or_closed_stream_is_no_panic() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        write_line(Some(&full), "lost");
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        write_line(Some(&File::from(std::os::fd::OwnedFd::from(writer))), "lost");
        write_line(None, "lost");
    }

    #[test]
    fn a_panic_tells_only_its_place() {
        let ours = panic_line(Some((file!(), 12)));
        assert_eq!(ours, "ERROR P1 internal error at src/job/log.rs:12; please report this line");
        for place in [None, Some(("/registry/src/library/src/lib.rs", 3))] {
            assert!(panic_line(place).starts_with("ERROR P2 internal error in a library"));
        }
    }
}
