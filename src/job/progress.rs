//! What a run says while it goes on: a line after the first step, then every 4 kimg or minute; with the
//! losses, and one on its health, where these are means over enough pictures for those who read it.

use std::time::{Duration, Instant};

use super::health::{self, Vitals};
use super::memory::peak_and_current_bytes;
use super::quality::Figures;
use super::statistics::{Audience, Means, Window, format_duration, three_digits};
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
    audience: Audience,
    /// Images of a step.
    batch: u64,
    /// Bytes of memory that are not told: those of a private set would tell its size.
    hidden_bytes: u64,
    window: Window,
    training_since: Instant,
    last_line: Option<Instant>,
    first_nimg: u64,
    last_nimg: u64,
}

impl Reporter {
    /// * `cur_nimg` - images shown before.
    /// * `dataset_bytes` - of the set in memory.
    pub(super) fn new(
        now: Instant,
        (cur_nimg, batch): (u64, u64),
        (audience, dataset_bytes): (Audience, u64),
    ) -> Self {
        Self {
            audience,
            batch,
            hidden_bytes: if audience == Audience::Public { dataset_bytes } else { 0 },
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

    /// The lines of the moment, where they are due: progress, and health if it can be told.
    pub(super) fn lines(
        &mut self,
        progress: &Progress,
        elapsed: Duration,
        trainer: &TrainerState,
    ) -> Vec<String> {
        let cur_nimg = progress.cur_nimg;
        let is_due = cur_nimg >= self.last_nimg + LOG_NIMG
            || self.last_line.is_none_or(|last| last.elapsed() >= LOG_INTERVAL);
        if !is_due {
            return Vec::new();
        }
        let in_window = self.batch * self.window.num_steps(); // those with finite losses
        let missing = self.audience.min_mean_nimg().saturating_sub(in_window);
        let (losses, health) = self.told(cur_nimg, missing, trainer);
        let num_images = (cur_nimg - self.last_nimg).max(1);
        let since = self.last_line.unwrap_or(self.training_since);
        let memory = peak_and_current_bytes().1.saturating_sub(self.hidden_bytes);
        self.last_line = Some(Instant::now());
        self.last_nimg = cur_nimg;
        let line = format!(
            "kimg {:.2} | elapsed {} | left {} | sec/kimg {:.1} | {losses} | mem {:.1} GB",
            cur_nimg as f64 / 1000.0,
            format_duration(elapsed),
            format_duration(progress.eta),
            since.elapsed().as_secs_f64() / num_images as f64 * 1000.0,
            memory as f64 / 1e9,
        );
        std::iter::once(line).chain(health).collect()
    }

    /// Losses and health of the window, which starts anew; or when they will be told.
    fn told(
        &mut self,
        cur_nimg: u64,
        missing: u64,
        trainer: &TrainerState,
    ) -> (String, Option<String>) {
        let num_skipped = self.window.num_skipped();
        let told = if missing == 0 { self.window.take() } else { None };
        let Some(means) = told else {
            let from = (cur_nimg + missing) as f64 / 1000.0;
            return (format!("losses from kimg {from:.2} on"), None);
        };
        let vitals = Vitals {
            means: &means,
            cur_nimg,
            strength: trainer.strength,
            p: trainer.p,
            figures: trainer.figures,
            num_skipped,
            num_rollbacks: trainer.num_rollbacks,
        };
        (losses(&means, trainer.pl_mean), Some(health::line(&vitals)))
    }
}

fn losses(means: &Means, pl_mean: f64) -> String {
    let optional = |value: Option<f64>| value.map_or("-".to_owned(), |v| v.to_string());
    format!(
        "G {} D {} | real {:+} fake {:+} | r1 {} | pl {} (mean {})",
        means.g_loss,
        means.d_loss,
        means.real_score,
        means.fake_score,
        optional(means.r1_penalty),
        optional(means.pl_penalty),
        three_digits(pl_mean),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::grammar;

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

    fn stats() -> StepStats {
        StepStats { g_loss: 0.512_34, r1_penalty: Some(2.0), ..StepStats::default() }
    }

    fn reporter(audience: Audience) -> Reporter {
        Reporter::new(Instant::now(), (0, 16), (audience, 1 << 40))
    }

    #[test]
    fn at_home_lines_come_after_the_first_step_and_then_every_4_kimg() {
        let mut reporter = reporter(Audience::Home);
        let mut lines = |cur_nimg: u64| {
            reporter.add(&stats());
            reporter.lines(&progress(cur_nimg), Duration::from_secs(5), &STATE)
        };
        let first = lines(16);
        let begin = "kimg 0.02 | elapsed 5s | left 1m 30s | sec/kimg ";
        assert!(first[0].starts_with(begin), "{first:?}");
        assert!(first[0].contains("G 0.512") && first[0].contains("r1 2 "), "{first:?}");
        assert!(first[1].starts_with("health: well"), "{first:?}");
        assert!(first.iter().all(|line| grammar::has(line)), "{first:?}");
        assert!(lines(4000).is_empty());
        assert_eq!(lines(4016).len(), 2);
        assert!(lines(4032).is_empty());
    }

    /// 250 steps of 16 images; those with losses that are not finite count for nothing.
    #[test]
    fn in_public_losses_are_means_over_4_kimg() {
        let mut reporter = reporter(Audience::Public);
        let mut cur_nimg = 0;
        let mut lines_after = |num_steps: u64, stats: StepStats| {
            for _ in 0..num_steps {
                reporter.add(&stats);
                cur_nimg += 16;
            }
            reporter.last_line = None; // a minute later
            let lines = reporter.lines(&progress(cur_nimg), Duration::ZERO, &STATE);
            assert!(lines.iter().all(|line| grammar::has(line)), "{lines:?}");
            lines
        };
        let of = |g_loss: f64| StepStats { g_loss, ..StepStats::default() };
        let broken = StepStats { num_skipped: 1, ..StepStats::default() };
        for (num_steps, stats, from) in [(4, of(1.0), "4.00"), (245, of(1.0), "4.00")] {
            let lines = lines_after(num_steps, stats);
            assert_eq!(lines.len(), 1);
            assert!(lines[0].contains(&format!("| losses from kimg {from} on |")), "{lines:?}");
            assert!(lines[0].ends_with("| mem 0.0 GB"), "without those of the set: {lines:?}");
        }
        assert!(lines_after(300, broken)[0].contains("| losses from kimg 8.80 on |"));
        let told = lines_after(1, of(251.0));
        assert!(told[0].contains("G 2 D 0 |") && told.len() == 2, "{told:?}");
        assert!(lines_after(249, of(3.0))[0].contains("| losses from kimg 12.80 on |"));
    }
}
