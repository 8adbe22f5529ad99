//! What was found and what was left out, in numbers and reasons.
//!
//! A report is what the owner of the pictures sees of them; others see it coarsely ([`Coarse`]).
//! It holds counts only: no name, no size of one file, no class name.

use std::collections::BTreeMap;
use std::fmt;

use super::coarse::{Coarse, coarse};

/// Why an entry of the input brought no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "Display says it in words")]
pub enum SkipReason {
    Hidden,
    Empty,
    NotAnImage,
    HtmlPage,
    UnsupportedImage,
    BrokenImage,
    TooManyPixels,
    TooManyBytes,
    NeedsMemory,
    Crashed,
    OutOfMemory,
    OutOfTime,
    Unreadable,
    Link,
    SpecialFile,
    TooDeep,
    BrokenArchive,
    NestedArchive,
    Bomb,
    Encrypted,
    ZipMethod,
    Unstreamable,
    Xz,
    Zstd,
    Bzip2,
    SevenZip,
    Rar,
    Changed,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hidden => "hidden or system files",
            Self::Empty => "empty files",
            Self::NotAnImage => "not pictures",
            Self::HtmlPage => {
                "web pages, perhaps a login or an expired link; fetch the file itself"
            }
            Self::UnsupportedImage => {
                "pictures of a kind that is not read; save them as PNG or JPEG"
            }
            Self::BrokenImage => "broken or incomplete pictures",
            Self::TooManyPixels => "pictures over 16384 pixels a side or 64 megapixels",
            Self::TooManyBytes => "files over the limit of bytes",
            Self::NeedsMemory => "pictures too large to decode in this memory",
            Self::Crashed => "pictures that crash their decoder",
            Self::OutOfMemory => "pictures that take more memory to decode than they say",
            Self::OutOfTime => "pictures that take too long to decode",
            Self::Unreadable => "could not be read",
            Self::Link => "links; put the files themselves in",
            Self::SpecialFile => "neither files nor folders",
            Self::TooDeep => "folders nested too deep",
            Self::BrokenArchive => "archives broken or cut short",
            Self::NestedArchive => "archives more than one level inside another; unpack them once",
            Self::Bomb => "archives that unpack to far more than their size",
            Self::Encrypted => "protected by a password; repack them without",
            Self::ZipMethod => "zip entries not stored or deflated; repack as plain zip or tar.gz",
            Self::Unstreamable => {
                "zips inside an archive that cannot be streamed; repack as one zip or tar.gz"
            }
            Self::Xz => "xz archives; repack as zip or tar.gz",
            Self::Zstd => "zstd archives; repack as zip or tar.gz",
            Self::Bzip2 => "bzip2 archives; repack as zip or tar.gz",
            Self::SevenZip => "7z archives; repack as zip or tar.gz",
            Self::Rar => "rar archives; repack as zip or tar.gz",
            Self::Changed => "gone or changed while being read",
        })
    }
}

/// Number of entries left out, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped(BTreeMap<SkipReason, usize>);

impl Skipped {
    pub(super) fn add(&mut self, reason: SkipReason) {
        *self.0.entry(reason).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (reason, count) in other.iter() {
            *self.0.entry(reason).or_default() += count;
        }
    }

    /// Entries left out for `reason`.
    pub fn count(&self, reason: SkipReason) -> usize {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// Entries left out for any reason.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// The reasons that occurred, with their counts, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (SkipReason, usize)> + '_ {
        self.0.iter().map(|(&reason, &count)| (reason, count))
    }

    /// True if nothing but web pages (and hidden files) was left out, and at least one of them.
    pub(super) fn is_html_only(&self) -> bool {
        self.count(SkipReason::HtmlPage) > 0
            && self.total() == self.count(SkipReason::HtmlPage) + self.count(SkipReason::Hidden)
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing skipped");
        }
        for (i, (reason, count)) in self.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{} {reason}", coarse(count))?;
        }
        Ok(())
    }
}

/// The facts of a set: numbers and reasons only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Distinct pictures in the set.
    pub num_images: usize,
    /// Pictures left out because the same bytes were there already.
    pub num_duplicates: usize,
    /// Entries left out.
    pub skipped: Skipped,
    /// Archives opened, inner ones included.
    pub num_archives: usize,
    /// Pictures whose kept part is smaller than the resolution.
    pub num_resized_up: usize,
    /// Pictures whose kept part is larger than the resolution.
    pub num_resized_down: usize,
    /// Pictures that are cropped, padded or stretched to a square.
    pub num_not_square: usize,
    /// Median of the shorter sides, in pixels (the lower one of an even count).
    pub median_short_side: usize,
    /// Side of the squares the set is brought to.
    pub resolution: usize,
    /// Pictures per class, where the labels are classes; else empty.
    pub class_counts: Vec<usize>,
    /// The same of each asset, in the order of assets; not printed.
    pub assets: Vec<AssetCounts>,
}

/// The distinct pictures of one asset, those included that others have as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssetCounts {
    /// All of them.
    pub num_images: usize,
    /// By class, where the labels are classes; else empty.
    pub class_counts: Vec<usize>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_with(f, thousands)?;
        if !self.class_counts.is_empty() {
            let counts: Vec<_> = self.class_counts.iter().map(|&count| thousands(count)).collect();
            write!(f, "\npictures per class: {}", counts.join(", "))?;
        }
        Ok(())
    }
}

impl Report {
    /// The same for those who must not know how many pictures there are.
    pub fn coarse(&self) -> Coarse<'_> {
        Coarse(self)
    }

    /// Writes all but the classes, with counts as `said` says them.
    pub(super) fn write_with(
        &self,
        f: &mut fmt::Formatter<'_>,
        said: fn(usize) -> String,
    ) -> fmt::Result {
        let r = self.resolution;
        writeln!(f, "pictures: {}", said(self.num_images))?;
        // Not the median side: of a small set that is the size of one picture, and logs are public.
        writeln!(f, "resolution: {r}x{r}")?;
        writeln!(f, "enlarged: {}", said(self.num_resized_up))?;
        writeln!(f, "reduced: {}", said(self.num_resized_down))?;
        writeln!(f, "not square: {}", said(self.num_not_square))?;
        writeln!(f, "archives opened: {}", said(self.num_archives))?;
        writeln!(f, "duplicates left out: {}", said(self.num_duplicates))?;
        write!(f, "skipped: {}", said(self.skipped.total()))?;
        for (reason, count) in self.skipped.iter() {
            write!(f, "\n  {} {reason}", said(count))?;
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let shown: Vec<_> = [0, 999, 1000, 1_234_567].map(thousands).into();
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn skipped_are_summed_by_reason() {
        let mut skipped = Skipped::default();
        skipped.add(SkipReason::Rar);
        skipped.add(SkipReason::Empty);
        skipped.add(SkipReason::Rar);
        assert_eq!(skipped.total(), 3);
        assert_eq!(
            skipped.to_string(),
            "1 to 9 empty files; 1 to 9 rar archives; repack as zip or tar.gz"
        );
    }

    #[test]
    fn html_only_bears_hidden_files_but_nothing_else() {
        let mut skipped = Skipped::default();
        assert!(!skipped.is_html_only());
        skipped.add(SkipReason::HtmlPage);
        skipped.add(SkipReason::Hidden);
        assert!(skipped.is_html_only());
        skipped.add(SkipReason::BrokenImage);
        assert!(!skipped.is_html_only());
    }
}
