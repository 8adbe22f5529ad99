//! Whether a training is well, in a line for people who cannot see it.

use super::quality::Figures;
use super::statistics::{Means, three_digits};
use crate::train::config::Strength;

/// D is this sure of real images when it has learned them by heart.
const SURE: f64 = 0.9;
/// Samples that differ less than this share of what pictures do are alike.
const ALIKE: f64 = 0.25;
/// Before so many images samples are alike in every run.
const ALIKE_FROM_NIMG: u64 = 20_000;

/// What health is judged by.
pub(super) struct Vitals<'a> {
    /// Means since the last line.
    pub(super) means: &'a Means,
    /// Real images shown so far.
    pub(super) cur_nimg: u64,
    /// How augmentation is controlled, and how strong it is.
    pub(super) strength: Strength,
    /// Probability of each augmentation.
    pub(super) p: f64,
    /// The last comparison of samples and data.
    pub(super) figures: Option<Figures>,
    /// Steps in which a phase was skipped, since the last line.
    pub(super) num_skipped: u64,
    /// How often the networks went back to good ones.
    pub(super) num_rollbacks: u32,
}

/// The line: `well`, or what is wrong with the cure; then the figures behind it.
pub(super) fn line(vitals: &Vitals) -> String {
    let found = findings(vitals);
    let verdict = if found.is_empty() { "well".to_owned() } else { found.join("; ") };
    let figures = vitals.figures.map_or_else(String::new, |Figures { swd, diversity }| {
        format!(" | swd {swd} | diversity {diversity}")
    });
    let (r_t, p) = (vitals.means.real_sign, three_digits(vitals.p));
    format!("health: {verdict} | r_t {r_t:+} | p {p}{figures}")
}

fn findings(vitals: &Vitals) -> Vec<String> {
    let is_capped = matches!(vitals.strength, Strength::Adaptive { .. }) && vitals.p >= 1.0;
    let can_adapt = matches!(vitals.strength, Strength::Adaptive { .. }) && !is_capped;
    let is_sure = vitals.means.real_sign > SURE && !can_adapt;
    let is_old = vitals.cur_nimg >= ALIKE_FROM_NIMG;
    let is_alike = is_old && vitals.figures.is_some_and(|figures| figures.diversity < ALIKE);
    let (num_skipped, num_rollbacks) = (vitals.num_skipped, vitals.num_rollbacks);
    [
        (
            is_capped,
            "augmentation is at its limit (more pictures would help, or mirror)".to_owned(),
        ),
        (
            is_sure,
            "the discriminator is too strong (more pictures, aug ada or more gamma)".to_owned(),
        ),
        (is_alike, "samples are alike (more gamma, or earlier weights)".to_owned()),
        (num_skipped > 0, format!("{num_skipped} steps were not finite and skipped")),
        (num_rollbacks > 0, format!("went back {num_rollbacks} times, slower since")),
    ]
    .into_iter()
    .filter_map(|(applies, text)| applies.then_some(text))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: Strength = Strength::Adaptive { target: 0.6, kimg: 500.0 };

    fn means(real_sign: f64) -> Means {
        Means {
            g_loss: 1.0,
            d_loss: 1.0,
            real_score: 1.0,
            fake_score: -1.0,
            real_sign,
            r1_penalty: None,
            pl_penalty: None,
        }
    }

    fn vitals(means: &Means) -> Vitals<'_> {
        Vitals {
            means,
            cur_nimg: 40_000,
            strength: ADA,
            p: 0.25,
            figures: Some(Figures { swd: 123.0, diversity: 0.9 }),
            num_skipped: 0,
            num_rollbacks: 0,
        }
    }

    #[test]
    fn a_run_that_is_well_says_so_with_its_figures() {
        let means = means(0.55);
        let text = line(&vitals(&means));
        assert_eq!(text, "health: well | r_t +0.55 | p 0.25 | swd 123 | diversity 0.9");
        let new = Vitals { figures: None, ..vitals(&means) };
        assert_eq!(line(&new), "health: well | r_t +0.55 | p 0.25");
    }

    #[test]
    fn each_trouble_is_found_and_nothing_else() {
        let (usual, sure) = (means(0.5), means(0.95));
        let alike = Some(Figures { swd: 900.0, diversity: 0.1 });
        let found = |vitals: Vitals| findings(&vitals);
        assert!(found(vitals(&sure)).is_empty()); // augmentation will see to it
        let fixed = Strength::Fixed { p: 0.1 };
        let unchecked = found(Vitals { strength: fixed, ..vitals(&sure) });
        assert!(
            unchecked.len() == 1 && unchecked[0].starts_with("the discriminator is too strong")
        );
        assert_eq!(found(Vitals { p: 1.0, ..vitals(&sure) }).len(), 2);
        assert!(found(Vitals { strength: fixed, p: 1.0, ..vitals(&usual) }).is_empty());
        assert!(
            found(Vitals { figures: alike, ..vitals(&usual) })[0].starts_with("samples are alike")
        );
        assert!(found(Vitals { figures: alike, cur_nimg: 1000, ..vitals(&usual) }).is_empty());
        let broken = found(Vitals { num_skipped: 2, num_rollbacks: 1, ..vitals(&usual) });
        assert_eq!(
            broken,
            ["2 steps were not finite and skipped", "went back 1 times, slower since"]
        );
    }
}
