//! Animations: APNG and GIF always, films where an `ffmpeg` is on the PATH, single frames else.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame, GrayImage, RgbImage};
use tracing::warn;

use super::canvas::Canvas;
use super::png::{Size, encoder, size_of, write};
use super::provenance::Provenance;
use super::video::{Format, Video, ffmpeg};
use super::whole::Whole;
use crate::sample::Picture;

/// Colors of a GIF's frame are chosen from so many of its pixels, or all.
const GIF_PIXELS: usize = 1 << 16;

/// An endless animation in the making, in several files.
pub struct Animation {
    apng: (Whole, png::Writer<BufWriter<File>>),
    gif: (Whole, GifEncoder<BufWriter<File>>),
    videos: Vec<Video>,
    /// A folder for single frames, where there is no film.
    frames: Option<PathBuf>,
    provenance: Option<Provenance>,
    size: Size,
    fps: u16,
    num_frames: usize,
}

impl Animation {
    /// Begins `NAME.png`, `NAME.gif` and so on in `folder`, with `num_frames` frames.
    ///
    /// # Errors
    /// Fails if the folder refuses them.
    pub fn begin(
        (folder, name): (&Path, &str),
        size: Size,
        (num_frames, fps): (usize, u16),
        provenance: Option<Provenance>,
    ) -> Result<Self> {
        let at = |extension: &str| folder.join(format!("{name}.{extension}"));
        let apng = Whole::begin(&at("png"))?;
        let mut frames = encoder(apng.writer()?, size, provenance.as_ref())?;
        frames.set_animated(u32::try_from(num_frames)?, 0)?;
        frames.set_frame_delay(1, fps)?;
        let apng = (apng, frames.write_header()?);
        let gif = Whole::begin(&at("gif"))?;
        let every = (size.0 * size.1 / GIF_PIXELS).clamp(1, 30);
        let mut encoder = GifEncoder::new_with_speed(gif.writer()?, every as i32);
        encoder.set_repeat(Repeat::Infinite)?;
        let mut videos = Vec::new();
        if let Some(program) = ffmpeg() {
            for format in [Format::Mp4, Format::WebM] {
                match Video::begin(&program, (&at(format.extension()), format), size, fps) {
                    Ok(video) => videos.push(video),
                    Err(error) => warn!("no {}: {error:#}", format.extension()),
                }
            }
        }
        let frames = videos.is_empty().then(|| folder.join(format!("{name}-frames")));
        if let Some(folder) = &frames {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        Ok(Self { apng, gif: (gif, encoder), videos, frames, provenance, size, fps, num_frames: 0 })
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// Fails if it is of another size, or if the volume does.
    pub fn push(&mut self, picture: &Picture) -> Result<()> {
        let canvas = Canvas::from(picture);
        anyhow::ensure!(size_of(&canvas) == self.size, "expected frames of one size");
        self.apng.1.write_image_data(&canvas.pixels)?;
        let pixels = rgba(&canvas)?;
        let delay = Delay::from_numer_denom_ms(1000, self.fps.into());
        self.gif.1.encode_frame(Frame::from_parts(pixels, 0, 0, delay))?;
        self.videos.retain_mut(|video| {
            let pushed = video.push(&canvas.pixels);
            pushed.as_ref().inspect_err(|error| warn!("a film is left out: {error:#}")).is_ok()
        });
        if let Some(folder) = &self.frames {
            let provenance = self.provenance.as_ref().and_then(|of| {
                let recipe = of.pictures.get(self.num_frames)?.as_ref()?;
                Some(Provenance::of_one(&of.model, recipe))
            });
            let path = folder.join(format!("{:05}.png", self.num_frames));
            write(&path, &canvas, provenance.as_ref())?;
        }
        self.num_frames += 1;
        Ok(())
    }

    /// Ends it; returns the files and the folder of frames.
    ///
    /// # Errors
    /// Fails if frames are missing, or if the volume does.
    pub fn finish(self) -> Result<Vec<PathBuf>> {
        self.apng.1.finish()?;
        drop(self.gif.1); // writes the end of the file
        let mut written = vec![self.apng.0.finish()?, self.gif.0.finish()?];
        for video in self.videos {
            match video.finish() {
                Ok(path) => written.push(path),
                Err(error) => warn!("a film is left out: {error:#}"),
            }
        }
        written.extend(self.frames);
        Ok(written)
    }
}

fn rgba(canvas: &Canvas) -> Result<image::RgbaImage> {
    let (width, height) = (canvas.width as u32, canvas.height as u32);
    let pixels = canvas.pixels.clone();
    let image: Option<DynamicImage> = if canvas.channels == 1 {
        GrayImage::from_raw(width, height, pixels).map(Into::into)
    } else {
        RgbImage::from_raw(width, height, pixels).map(Into::into)
    };
    Ok(image.context("expected as many pixels as the size says")?.to_rgba8())
}
