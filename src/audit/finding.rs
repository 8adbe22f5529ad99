//! What an audit says: a verdict and the counts behind it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Version of the method: of descriptors, thresholds and rules.
pub const METHOD: u32 = 3;

/// Whether weights may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Near-copies are too few to matter, if there are any.
    Pass,
    /// There are near-copies, or samples as a whole are too near.
    Withhold,
    /// Copies cannot be told from other pictures of the set, or there are too few samples.
    Inconclusive,
}

/// An audit's result; fit for the public: it says nothing of single pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Version of the method that found it.
    pub method: u32,
    /// Whether weights may leave.
    pub verdict: Verdict,
    /// Samples that were looked at.
    pub samples: usize,
    /// Those among them that are near-copies of a picture.
    pub near_copies: usize,
    /// The share of near-copies that is not exceeded at 95 % confidence, rounded up.
    pub bound: f64,
    /// Share of planted copies that this audit finds, rounded down.
    pub power: f64,
    /// Whether it is withheld for being as a whole nearer to the pictures than new ones would be; said
    /// in words only.
    #[serde(skip)]
    pub is_near: bool,
}

impl Finding {
    /// A finding whose shares are rounded to hundredths and thousandths of a percent.
    pub(super) fn new(
        verdict: Verdict,
        (near_copies, samples): (usize, usize),
        bound: f64,
        power: f64,
    ) -> Self {
        let bound = (bound * 1e5).ceil() / 1e5;
        let power = (power * 1e3).floor() / 1e3;
        Self { method: METHOD, verdict, samples, near_copies, bound, power, is_near: false }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.near_copies {
            0 => write!(f, "no near-copies found among {} samples", self.samples)?,
            count => write!(f, "{count} near-copies found among {} samples", self.samples)?,
        }
        let verdict = match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Withhold if self.is_near => {
                "withhold, as a whole nearer to the pictures than new ones would be"
            }
            Verdict::Withhold => "withhold",
            Verdict::Inconclusive => "inconclusive",
        };
        let [bound, power] = [self.bound, self.power].map(|share| 100.0 * share);
        write!(
            f,
            " (at most {bound:.2} % at 95 % confidence; finds {power:.1} % of planted copies): {verdict}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_what_was_found_and_comes_back_from_json() {
        let none = Finding::new(Verdict::Pass, (0, 600), 0.004_980_5, 0.998_9);
        let words = "no near-copies found among 600 samples (at most 0.50 % at 95 % confidence; \
                     finds 99.8 % of planted copies): pass";
        assert_eq!((none.bound, none.power, none.to_string()), (0.00499, 0.998, words.to_owned()));
        let some = Finding::new(Verdict::Withhold, (7, 600), 0.02, 1.0);
        assert!(
            some.to_string().starts_with("7 near-copies found among 600 samples (at most 2.00 %")
        );
        let near = Finding { is_near: true, ..some.clone() }.to_string();
        assert!(
            near.ends_with(": withhold, as a whole nearer to the pictures than new ones would be")
        );
        let json = serde_json::to_string(&some).unwrap();
        assert!(json.contains(r#""verdict":"withhold","samples":600,"near_copies":7"#), "{json}");
        assert_eq!(serde_json::from_str::<Finding>(&json).unwrap(), some);
    }
}
