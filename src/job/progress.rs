//! What a run says while it goes on: one line after the first step, then every 4 kimg or minute.

use std::time::{Duration, Instant};

use super::health::{self, Vitals};
use super::memory::peak_and_current_bytes;
use super::quality::Figures;
use super::statistics::{MIN_MEAN_NIMG, Means, Window, format_duration};
use crate::train::config::Strength;
use crate::train::trainer::StepStats;

/// A line at least so often ..
const LOG_INTERVAL: Duration = Duration::from_mins(1);
/// .. or after so many images.
const LOG_NIMG: u64 = 4000;

/// Where a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Real images shown so far.
    pub cur_nimg: u64,
    /// Real images to show in all.
    pub total_nimg: u64,
    /// Estimated time until the end.
    pub eta: Duration,
}

/// What lines tell of a trainer besides the means of its steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct TrainerState {
    pub(super) pl_mean: f64,
    pub(super) strength: Strength,
    pub(super) p: f64,
    pub(super) figures: Option<Figures>,
    pub(super) num_rollbacks: u32,
}

/// Collects steps and makes lines of them.
pub(super) struct Reporter {
    window: Window,
    training_since: Instant,
    last_line: Option<Instant>,
    first_nimg: u64,
    last_nimg: u64,
}

impl Reporter {
    /// * `cur_nimg` - images shown before.
    pub(super) fn new(now: Instant, cur_nimg: u64) -> Self {
        Self {
            window: Window::default(),
            training_since: now,
            last_line: None,
            first_nimg: cur_nimg,
            last_nimg: cur_nimg,
        }
    }

    /// Counts a step.
    pub(super) fn add(&mut self, stats: &StepStats) {
        self.window.add(stats);
    }

    /// Mean time of an image so far.
    pub(super) fn seconds_per_image(&self, cur_nimg: u64) -> f64 {
        let num_images = (cur_nimg - self.first_nimg).max(1);
        self.training_since.elapsed().as_secs_f64() / num_images as f64
    }

    /// The lines of the moment, progress and health, where they are due.
    pub(super) fn lines(
        &mut self,
        progress: &Progress,
        elapsed: Duration,
        trainer: &TrainerState,
    ) -> Option<[String; 2]> {
        let is_due = progress.cur_nimg >= self.last_nimg + LOG_NIMG
            || self.last_line.is_none_or(|last| last.elapsed() >= LOG_INTERVAL);
        if !is_due {
            return None;
        }
        let num_skipped = self.window.num_skipped();
        let means = self.window.take()?;
        let num_images = (progress.cur_nimg - self.last_nimg).max(1);
        let since = self.last_line.unwrap_or(self.training_since);
        let (_, memory) = peak_and_current_bytes();
        self.last_line = Some(Instant::now());
        self.last_nimg = progress.cur_nimg;
        let vitals = Vitals {
            means: &means,
            cur_nimg: progress.cur_nimg,
            strength: trainer.strength,
            p: trainer.p,
            figures: trainer.figures,
            num_skipped,
            num_rollbacks: trainer.num_rollbacks,
        };
        // the sign of D on a few pictures is not said, as their losses are not
        let health = if num_images < MIN_MEAN_NIMG {
            "health: follows".to_owned()
        } else {
            health::line(&vitals)
        };
        let line = format!(
            "kimg {:.2} | elapsed {} | left {} | sec/kimg {:.1} | {} | mem {:.2} GB",
            progress.cur_nimg as f64 / 1000.0,
            format_duration(elapsed),
            format_duration(progress.eta),
            since.elapsed().as_secs_f64() / num_images as f64 * 1000.0,
            losses(&means, num_images, trainer.pl_mean),
            memory as f64 / 1e9,
        );
        Some([line, health])
    }
}

/// The losses of a line; the log is public, so a mean over few pictures is not said.
fn losses(means: &Means, num_images: u64, pl_mean: f64) -> String {
    if num_images < MIN_MEAN_NIMG {
        return format!("losses follow, first over {MIN_MEAN_NIMG} images");
    }
    let optional = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
    format!(
        "G {:.3} D {:.3} | real {:+.2} fake {:+.2} | r1 {} | pl {} (mean {pl_mean:.3})",
        means.g_loss,
        means.d_loss,
        means.real_score,
        means.fake_score,
        optional(means.r1_penalty),
        optional(means.pl_penalty),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(cur_nimg: u64) -> Progress {
        Progress { cur_nimg, total_nimg: 100_000, eta: Duration::from_secs(90) }
    }

    const STATE: TrainerState = TrainerState {
        pl_mean: 0.1,
        strength: Strength::Off,
        p: 0.0,
        figures: None,
        num_rollbacks: 0,
    };

    #[test]
    fn a_line_comes_after_the_first_step_and_then_every_4_kimg() {
        let mut reporter = Reporter::new(Instant::now(), 0);
        let mut line = |cur_nimg: u64| {
            reporter.add(&StepStats { g_loss: 0.5, r1_penalty: Some(2.0), ..StepStats::default() });
            Some(reporter.lines(&progress(cur_nimg), Duration::from_secs(5), &STATE)?[0].clone())
        };
        let first = line(16).unwrap();
        assert!(first.starts_with("kimg 0.02 | elapsed 5s | left 1m 30s | sec/kimg "), "{first}");
        assert!(first.contains("G 0.500") && first.contains("r1 2.000"), "{first}");
        assert_eq!(line(4000), None);
        assert!(line(4016).is_some());
        assert_eq!(line(4032), None);
    }

    #[test]
    fn losses_of_few_images_are_not_said() {
        let mut reporter = Reporter::new(Instant::now(), 0);
        reporter.add(&StepStats { g_loss: 0.123, ..StepStats::default() });
        let [line, health] = reporter.lines(&progress(4), Duration::ZERO, &STATE).unwrap();
        assert!(!line.contains("0.123") && line.contains("losses follow"), "{line}");
        assert_eq!(health, "health: follows");
    }
}
