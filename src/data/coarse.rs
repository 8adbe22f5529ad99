//! Counts of pictures, said so coarsely that nobody can tell one picture more or less.

use std::fmt;

use super::report::{Report, thousands};

/// Where the steps of coarse counts begin.
const STEPS: [usize; 9] = [1, 10, 50, 200, 500, 1000, 2000, 5000, 10_000];

/// A report for those who must not know the set: counts in steps, classes only as far as they differ.
pub struct Coarse<'a>(pub(super) &'a Report);

impl fmt::Display for Coarse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        report.write_with(f, coarse)?;
        let classes = &report.class_counts;
        if let (Some(least), Some(most)) = (classes.iter().min(), classes.iter().max()) {
            let (count, least, most) = (classes.len(), coarse(*least), coarse(*most));
            write!(
                f,
                "\nclasses: {count}, the smallest of {least} pictures, the largest of {most}"
            )?;
        }
        Ok(())
    }
}

/// The step that `count` is in: `0`, `200 to 499` or `10,000 or more`.
pub(super) fn coarse(count: usize) -> String {
    let above = STEPS.iter().position(|step| *step > count);
    match above {
        Some(0) => "0".to_owned(),
        Some(idx) => format!("{} to {}", thousands(STEPS[idx - 1]), thousands(STEPS[idx] - 1)),
        None => format!("{} or more", thousands(STEPS[STEPS.len() - 1])),
    }
}

/// The begin of the step that `count` is in.
pub(super) fn at_least(count: usize) -> usize {
    STEPS.iter().rev().find(|step| **step <= count).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_said_in_steps() {
        let shown = [0, 1, 9, 10, 49, 50, 199, 200, 999, 1000, 9999, 10_000, 70_000].map(coarse);
        let expected = [
            "0",
            "1 to 9",
            "1 to 9",
            "10 to 49",
            "10 to 49",
            "50 to 199",
            "50 to 199",
            "200 to 499",
            "500 to 999",
            "1,000 to 1,999",
            "5,000 to 9,999",
            "10,000 or more",
            "10,000 or more",
        ];
        assert_eq!(shown, expected);
        assert_eq!([0, 1, 499, 12_345].map(at_least), [0, 1, 200, 10_000]);
    }

    #[test]
    fn sets_of_one_step_are_the_same_in_a_coarse_report() {
        let report = |num_images, class_counts: &[usize]| Report {
            num_images,
            class_counts: class_counts.to_vec(),
            ..Report::default()
        };
        let shown = |report: &Report| report.coarse().to_string();
        assert_eq!(shown(&report(437, &[])), shown(&report(201, &[])));
        let text = shown(&report(437, &[230, 207]));
        assert!(text.ends_with(
            "classes: 2, the smallest of 200 to 499 pictures, the largest of 200 to 499"
        ));
        assert!(!text.contains("437") && !text.contains("230"), "{text}");
    }
}
