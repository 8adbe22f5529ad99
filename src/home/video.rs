//! Films by an `ffmpeg` that is on the PATH: frames go to it as raw bytes, and nothing else does.
//!
//! It is started with a fixed list of arguments, never by a shell; what it says is not shown.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::png::Size;
use super::whole::Whole;

/// A kind of film.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    /// H.264, for nearly everything.
    Mp4,
    /// VP9.
    WebM,
}

impl Format {
    /// The end of its files' names.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::WebM => "webm",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Mp4 => &[
                "-c:v",
                "libx264",
                "-crf",
                "16",
                "-preset",
                "slow",
                "-pix_fmt",
                "yuv420p",
                "-movflags",
                "+faststart",
                "-f",
                "mp4",
            ],
            Self::WebM => &[
                "-c:v",
                "libvpx-vp9",
                "-crf",
                "20",
                "-b:v",
                "0",
                "-pix_fmt",
                "yuv420p",
                "-f",
                "webm",
            ],
        }
    }
}

/// The `ffmpeg` that the PATH leads to.
pub(super) fn ffmpeg() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join("ffmpeg")).find(|file| file.is_file())
}

/// A film in the making.
pub(super) struct Video {
    file: Whole,
    child: Child,
}

impl Video {
    /// Begins a film.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub(super) fn begin(
        program: &Path,
        (path, format): (&Path, Format),
        (width, height, channels): Size,
        fps: u16,
    ) -> Result<Self> {
        let file = Whole::begin(path)?;
        let pixels = if channels == 1 { "gray" } else { "rgb24" };
        let child = Command::new(program)
            .args(["-y", "-nostdin", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", pixels])
            .args(["-s", &format!("{width}x{height}"), "-r", &fps.to_string(), "-i", "pipe:0"])
            .arg("-an")
            .args(format.arguments())
            .arg(absolute(file.temporary())?)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("ffmpeg does not start")?;
        Ok(Self { file, child })
    }

    /// Adds a frame `[H, W, C]`.
    ///
    /// # Errors
    /// Fails if the program has ended.
    pub(super) fn push(&mut self, pixels: &[u8]) -> Result<()> {
        let Some(stdin) = &mut self.child.stdin else { bail!("ffmpeg takes no frames") };
        stdin.write_all(pixels).context("ffmpeg has ended")
    }

    /// Ends the film.
    ///
    /// # Errors
    /// Fails if the program says that it is none.
    pub(super) fn finish(mut self) -> Result<PathBuf> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if !status.success() {
            bail!("ffmpeg made no {} ({status})", self.file.temporary().display());
        }
        self.file.finish()
    }
}

/// A path that cannot be taken for an option or an address.
fn absolute(path: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}
