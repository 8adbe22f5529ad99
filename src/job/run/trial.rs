//! How long a run takes, found by its own first steps.

use std::time::{Duration, Instant};

use anyhow::Result;
use tracing::info;

use super::Run;
use crate::job::memory::peak_and_current_bytes;
use crate::job::statistics::format_duration;
use crate::ops::cancel::Cancel;
use crate::ops::device::peak_device_bytes;
use crate::train::config::TrainConfig;
use crate::train::trainer::{D_REG_INTERVAL, G_REG_INTERVAL, StepStats};

/// A step that takes longer than this tells enough by itself.
const LONG_STEP: Duration = Duration::from_secs(20);
/// A trial of short steps goes on for so long ..
const TRIAL: Duration = Duration::from_secs(10);
/// .. or for so many cycles.
const TRIAL_CYCLES: u64 = 8;

/// What a trial found.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Seconds for a thousand real images, with what is done at each count of images.
    pub sec_per_kimg: f64,
    /// The most memory that the process has held, in bytes.
    pub peak_bytes: u64,
    /// The most memory of a GPU that it has held, in bytes.
    pub peak_gpu_bytes: Option<u64>,
}

impl Run {
    /// Makes the first steps of a run that is not to go on, whose files are thrown away.
    ///
    /// Whole cycles after the first step, unless steps are long; then the first one, which has all
    /// four phases. Comparison and grid are added as often as they come.
    ///
    /// # Errors
    /// As [`Run::advance`].
    pub fn trial(mut self) -> Result<Option<Trial>> {
        let start = Instant::now();
        if self.advance()?.is_none() {
            return Ok(None);
        }
        let seconds = if start.elapsed() < LONG_STEP {
            let Some(seconds) = self.time_cycles()? else { return Ok(None) };
            seconds
        } else {
            seconds_per_image(self.ranks.lead().config(), &self.last_stats)
        };
        let start = Instant::now();
        self.judge(&Cancel { flag: None, deadline: None })?;
        let at_counts = start.elapsed() + self.grid_time;
        let sec_per_kimg = 1000.0 * (seconds + at_counts.as_secs_f64() / self.grid_nimg as f64);
        Ok(Some(Trial {
            sec_per_kimg,
            peak_bytes: peak_and_current_bytes().0,
            peak_gpu_bytes: peak_device_bytes(self.ranks.lead().device()),
        }))
    }

    /// Mean seconds of an image over some cycles, without the steps at whose end more is done.
    fn time_cycles(&mut self) -> Result<Option<f64>> {
        let (begin, batch) = (Instant::now(), self.ranks.lead().config().batch as f64);
        let (mut seconds, mut num_images) = (0.0, 0.0);
        for _ in 0..TRIAL_CYCLES {
            for _ in 0..D_REG_INTERVAL {
                let start = Instant::now();
                if self.advance()?.is_none() {
                    return Ok(None);
                }
                if !self.is_at_count() {
                    seconds += start.elapsed().as_secs_f64();
                    num_images += batch;
                }
            }
            if begin.elapsed() > TRIAL {
                break;
            }
        }
        Ok(Some(seconds / num_images))
    }

    /// Says once what the time allows: after a cycle, since a first step also makes memory and
    /// kernels ready, or after a first step that takes long.
    pub(super) fn announce_plan(&mut self, stats: &StepStats) {
        let config = self.ranks.lead().config();
        let seconds = match self.ranks.lead().num_steps() - self.num_steps_before {
            1 if stats.seconds.iter().sum::<f64>() < LONG_STEP.as_secs_f64() => {
                self.first_step_at = Some(Instant::now());
                return;
            }
            1 => seconds_per_image(config, stats),
            num_steps if num_steps > D_REG_INTERVAL => {
                let Some(first) = self.first_step_at.take() else { return };
                first.elapsed().as_secs_f64() / (D_REG_INTERVAL as usize * config.batch) as f64
            }
            _ => return,
        };
        let left =
            self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let done_kimg = self.cur_nimg() as f64 / 1000.0;
        info!("plan: {}", plan(1000.0 * seconds, (done_kimg, config.total_kimg), left));
    }
}

/// What can be done at a speed, where `(done, total)` kimg are shown and asked for.
pub fn plan(sec_per_kimg: f64, (done, total): (f64, f64), left: Option<Duration>) -> String {
    let needed = Duration::from_secs_f64((total - done).max(0.0) * sec_per_kimg);
    let whole =
        format!("about {sec_per_kimg:.1} sec/kimg, {} for the rest", format_duration(needed));
    match left {
        Some(left) if left < needed => {
            let reached = done + left.as_secs_f64() / sec_per_kimg;
            format!("{whole}; the time limit allows about {reached:.1} of {total} kimg")
        }
        _ => format!("{whole} of {total} kimg"),
    }
}

/// A mean over a cycle, from the times of a step that had all phases.
fn seconds_per_image(config: &TrainConfig, stats: &StepStats) -> f64 {
    let [g_main, g_reg, d_main, d_reg, rest] = stats.seconds;
    let regularisers = g_reg / G_REG_INTERVAL as f64 + d_reg / D_REG_INTERVAL as f64;
    (g_main + d_main + rest + regularisers) / config.batch as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::presets::{Cfg, Overrides, train_config};

    #[test]
    fn a_plan_says_what_the_time_allows() {
        let minutes = |minutes: u64| Some(Duration::from_mins(minutes));
        let free = "about 30.0 sec/kimg, 49m 59s for the rest of 100 kimg";
        assert_eq!(plan(30.0, (0.016, 100.0), None), free);
        assert_eq!(plan(30.0, (0.016, 100.0), minutes(60)), free);
        let limited = "about 30.0 sec/kimg, 49m 59s for the rest; the time limit allows about 20.0 of 100 kimg";
        assert_eq!(plan(30.0, (0.0, 100.0), minutes(10)), limited.replace("49m 59s", "50m 00s"));
    }

    #[test]
    fn a_cycle_has_each_phase_as_often_as_it_is_due() {
        let config = train_config(Cfg::Tiny, 8, 0, &Overrides::default());
        let stats = StepStats { seconds: [1.0, 4.0, 2.0, 16.0, 3.0], ..StepStats::default() };
        assert_eq!(seconds_per_image(&config, &stats), 8.0 / 16.0);
    }
}
