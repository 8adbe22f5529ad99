//! What a run tells of itself: means over steps, as log lines and in the header of the weights.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::quality::Figures;
use crate::train::trainer::StepStats;

/// Who gets to see what a run says and writes of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Whoever has the pictures.
    Home,
    /// Everybody.
    Public,
}

impl Audience {
    /// What losses are said or written of: means over at least so many images.
    pub(super) fn min_mean_nimg(self) -> u64 {
        match self {
            Self::Home => 16,
            Self::Public => 4000,
        }
    }

    /// Images shown before weights leave that started from given ones: until then their difference
    /// to the given ones tells of a few pictures.
    pub(super) fn min_nimg_from_given(self) -> u64 {
        match self {
            Self::Home => 0,
            Self::Public => 4000,
        }
    }
}

/// Sums over the steps since the last time somebody looked.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Window {
    num_steps: u64,
    /// Steps in which a phase was skipped; they are in no mean.
    num_skipped: u64,
    sum: StepStats,
    num_r1: u64,
    num_pl: u64,
}

/// Means over steps, three digits each; R1 and path length only where a step had them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Means {
    /// Loss of the generator.
    pub g_loss: f64,
    /// Loss of the discriminator.
    pub d_loss: f64,
    /// Logit of real images.
    pub real_score: f64,
    /// Logit of generated images.
    pub fake_score: f64,
    /// Sign of the logit of real images: the signal of overfitting.
    pub real_sign: f64,
    /// `|grad D|^2`
    pub r1_penalty: Option<f64>,
    /// `(length - mean)^2`
    pub pl_penalty: Option<f64>,
}

impl Window {
    /// Counts a step.
    pub fn add(&mut self, stats: &StepStats) {
        if stats.num_skipped > 0 {
            self.num_skipped += 1;
            return;
        }
        self.num_steps += 1;
        self.sum.g_loss += stats.g_loss;
        self.sum.d_loss += stats.d_loss;
        self.sum.real_score += stats.real_score;
        self.sum.fake_score += stats.fake_score;
        self.sum.real_sign += stats.real_sign;
        if let Some(penalty) = stats.r1_penalty {
            self.num_r1 += 1;
            self.sum.r1_penalty = Some(self.sum.r1_penalty.unwrap_or(0.0) + penalty);
        }
        if let Some(penalty) = stats.pl_penalty {
            self.num_pl += 1;
            self.sum.pl_penalty = Some(self.sum.pl_penalty.unwrap_or(0.0) + penalty);
        }
    }

    /// Steps in which a phase was skipped, since what it found was not finite.
    pub fn num_skipped(&self) -> u64 {
        self.num_skipped
    }

    /// Steps that are in the means so far.
    pub fn num_steps(&self) -> u64 {
        self.num_steps
    }

    /// The means so far, if there was a step; starts anew.
    pub fn take(&mut self) -> Option<Means> {
        let Self { num_steps, sum, num_r1, num_pl, .. } = std::mem::take(self);
        let mean = |sum: f64| three_digits(sum / num_steps as f64);
        (num_steps > 0).then(|| Means {
            g_loss: mean(sum.g_loss),
            d_loss: mean(sum.d_loss),
            real_score: mean(sum.real_score),
            fake_score: mean(sum.fake_score),
            real_sign: mean(sum.real_sign),
            r1_penalty: sum.r1_penalty.map(|sum| three_digits(sum / num_r1 as f64)),
            pl_penalty: sum.pl_penalty.map(|sum| three_digits(sum / num_pl as f64)),
        })
    }
}

/// Means at fixed counts of images shown, for the header of the weights.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    entries: Vec<Value>,
}

impl History {
    /// Adds the strength of the augmentation at `cur_nimg`, what the samples were like then, and means
    /// over the steps before, where there are so many that they may be written.
    pub fn push(
        &mut self,
        (cur_nimg, p): (u64, f64),
        means: Option<&Means>,
        figures: Option<&Figures>,
    ) {
        let mut entry = json!({ "nimg": cur_nimg, "p": three_digits(p) });
        for part in [json!(means), json!(figures)] {
            let (Some(entry), Value::Object(part)) = (entry.as_object_mut(), part) else {
                continue;
            };
            entry.extend(part);
        }
        self.entries.push(entry);
    }

    /// Images shown at the last entry.
    pub fn last_nimg(&self) -> Option<u64> {
        self.entries.last()?.get("nimg")?.as_u64()
    }

    /// All entries, oldest first.
    pub fn to_json(&self) -> Value {
        Value::Array(self.entries.clone())
    }
}

/// The given weights that a run has started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ancestor {
    /// Their resolution.
    pub img_resolution: usize,
    /// Real images that had been shown for them.
    pub cur_nimg: u64,
}

/// What a run has found out about itself, as far as it goes into files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// Statistics so far.
    pub history: History,
    /// Statistics since their last entry.
    pub since_entry: Window,
    /// The smallest distance of samples and data so far.
    pub best_swd: Option<f64>,
    /// What it started from, where that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ancestor: Option<Ancestor>,
}

/// The number with three digits of its value.
pub(super) fn three_digits(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// `1d 02h 03m`, `2h 03m`, `3m 04s` or `4s`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m {rest:02}s"),
        (0, _, _) => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h {minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_over_the_steps_that_had_a_value() {
        let mut window = Window::default();
        window.add(&StepStats { g_loss: 1.0, r1_penalty: Some(6.0), ..StepStats::default() });
        window.add(&StepStats { g_loss: 3.0, ..StepStats::default() });
        window.add(&StepStats { g_loss: f64::NAN, num_skipped: 1, ..StepStats::default() });
        assert_eq!(window.num_skipped(), 1);
        let means = window.take().unwrap();
        assert_eq!((means.g_loss, means.r1_penalty, means.pl_penalty), (2.0, Some(6.0), None));
        assert!(window.take().is_none());
    }

    #[test]
    fn three_digits_are_kept() {
        let shown = [123.456, 0.987_65, 0.0, 9999.0, -0.001_234].map(three_digits);
        assert_eq!(shown, [123.0, 0.988, 0.0, 10_000.0, -0.001_23]);
    }

    #[test]
    fn an_entry_has_means_where_they_may_be_written() {
        let mut history = History::default();
        assert_eq!(history.last_nimg(), None);
        history.push((1000, 0.123_45), None, Some(&Figures { swd: 9.5, diversity: 0.5 }));
        let mut window = Window::default();
        window.add(&StepStats { g_loss: 0.123_45, ..StepStats::default() });
        history.push((2000, 0.0), window.take().as_ref(), None);
        let entries = history.to_json();
        assert_eq!(entries[0], json!({"nimg": 1000, "p": 0.123, "swd": 9.5, "diversity": 0.5}));
        assert_eq!((&entries[1]["g_loss"], &entries[1]["swd"]), (&json!(0.123), &Value::Null));
        assert_eq!(history.last_nimg(), Some(2000));
    }

    #[test]
    fn durations_read_well() {
        let shown = [4, 184, 7380, 93_780].map(|s| format_duration(Duration::from_secs(s)));
        assert_eq!(shown, ["4s", "3m 04s", "2h 03m", "1d 02h 03m"]);
    }
}
