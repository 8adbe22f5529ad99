//! Every line that a job's log can hold.
//!
//! A job's log is public, so what can be in it is a closed set: the expressions of `grammar.txt`, whose
//! only open places are numbers, a few words of a list, the name of a GPU and the place of a fault in
//! this program. Both the program (`src/job/log.rs`) and its launcher (`src/launcher`, which includes
//! this file) hold every line against it, whatever wrote the line and why.

use std::sync::LazyLock;

use regex_lite::Regex;

/// One POSIX extended regular expression in a line, for whole lines of the log; `#` begins a comment.
const GRAMMAR: &str = include_str!("grammar.txt");

static ANY: LazyLock<Regex> = LazyLock::new(|| {
    let lines = GRAMMAR.lines().filter(|line| !line.starts_with('#'));
    let any = lines.collect::<Vec<_>>().join("|");
    Regex::new(&format!("^(?:{any})$")).expect("the unit tests read the same file")
});

/// Whether a log can hold `line`.
pub(crate) fn has(line: &str) -> bool {
    ANY.is_match(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_match_and_nothing_more() {
        assert!(has("done: 4.000 kimg") && has("resolution: 64x64"));
        for line in [
            "",
            "done: 4.000 kimg ",
            "done: 4.000 kimg\n",
            "xdone: 4.000 kimg",
            "done: secret kimg",
        ] {
            assert!(!has(line), "{line:?}");
        }
    }

    /// `grep -E` reads the same file: nothing that one of the two understands in another way.
    #[test]
    fn expressions_are_of_the_kind_that_all_tools_know() {
        for line in GRAMMAR.lines() {
            assert!(!line.is_empty() && line.is_ascii(), "{line}");
            let is_known = |pair: [char; 2]| pair[0] != '\\' || ".()|+*?{}[]^$\\".contains(pair[1]);
            let chars: Vec<char> = line.chars().collect();
            assert!(chars.windows(2).all(|pair| is_known([pair[0], pair[1]])), "{line}");
            let any = ["(?", " .*", " .+", "^.", "[^"];
            assert!(any.iter().all(|any| !line.contains(any)), "{line}");
        }
    }
}
