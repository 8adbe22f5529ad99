//! Why parameters are refused, and the reading of the file before its values are judged.
//!
//! A file of the data set can stand in for the parameters file, and the log is public: messages say
//! what came of numbers and of true and false only, and count unknown keys.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::params::Params;
use super::resolve::Origin;
use super::table::{Aug, PARAMETERS, Parameter};

/// Most characters of a number that a message quotes, and half of those of a key that is looked up.
const MAX_QUOTED: usize = 24;
/// Most characters of names in a line.
const MAX_NAMES: usize = 240;
/// Most problems that are listed.
const MAX_LISTED: usize = 20;

/// Why parameters were refused. The command line turns this into exit code 2.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum ParamsError {
    #[error("{}", self.lines().join("; "))]
    Refused(Vec<Problem>),
    #[error(
        "parameters: expected a JSON object such as {{\"kimg\": 1000}}, came text that is not \
         JSON (or nested too deep) at line {line}, column {column}"
    )]
    NotJson { line: usize, column: usize },
    #[error("parameters: expected a JSON object such as {{\"kimg\": 1000}}, came other JSON")]
    NotAnObject,
    #[error("parameters: expected at most {limit} bytes, came more; leave out what is not needed")]
    TooLarge { limit: usize },
    #[error(
        "parameters: expected a readable file, came none; check that it is a file and its mode"
    )]
    Unreadable,
    #[error(
        "expected memory of about {:.1} GB for this training, came {:.1} GB, as the machine or its \
         limits have it; ask for a lower resolution, cfg tiny or a lower batch_gpu",
        *needed as f64 / 1e9,
        *limit as f64 / 1e9
    )]
    Memory { needed: u64, limit: u64 },
}

/// One thing that is wrong with parameters.
#[derive(Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum Problem {
    #[error("{name}: expected {allowed}, came {came}")]
    Value { name: &'static str, allowed: &'static str, came: String },
    #[error("parameters: a key is not one of them; did you mean {nearest}?")]
    Misspelt { nearest: &'static str },
    #[error("parameters: {count} keys are not among them")]
    Unknown { count: usize },
    #[error("{name}: expected once, came more often; keep one")]
    Twice { name: &'static str },
    #[error(
        "batch_gpu: expected a divisor of batch, which is {batch}, came {batch_gpu}; \
         {nearest} would do"
    )]
    Rounds { batch: usize, batch_gpu: usize, nearest: usize },
    #[error(
        "mbstd_group: expected a divisor of batch_gpu, which is {batch_gpu}, came {group}; \
         {nearest} would do"
    )]
    Group { batch_gpu: usize, group: usize, nearest: usize },
    #[error("freezed: expected whole blocks of the discriminator ({limits}), came {freezed}")]
    PartOfABlock { freezed: usize, limits: String },
    #[error(
        "freezed: expected 0, since this run's discriminator is a fresh one and frozen layers \
         would stay noise, came {freezed}; give a state to go on from"
    )]
    FreshD { freezed: usize },
    #[error(
        "state: expected off or sealed in a job, came plain; the discriminator remembers the pictures, \
         so it may be read by nobody but their owner, at home"
    )]
    PlainState,
    #[error(
        "augpipe: expected one without filter at {resolution} px, since its filters are as wide as a \
         picture of 21; bgc would do, or resolution 32"
    )]
    SmallForFilter { resolution: usize },
    #[error(
        "kimg: expected at least {least} in a job that starts from given weights, came {kimg}; before, \
         weights would tell of few pictures, so none leave"
    )]
    ShortFromGiven { least: f64, kimg: f64 },
    #[error("p: expected a value with aug fixed, came none; 0.2 is a usual one")]
    NoStrength,
    #[error("{name}: expected with aug {with} only, came with aug {aug}; leave one of them out")]
    OfOtherAug { name: &'static str, with: &'static str, aug: String },
}

/// A value before it is judged.
pub(super) enum Given {
    /// `null`.
    Absent,
    /// Text; numbers and booleans as they are written.
    Text(String),
    /// A list or an object, in words.
    Nested(&'static str),
}

impl ParamsError {
    /// The message in lines that are each short enough for the log.
    pub fn lines(&self) -> Vec<String> {
        let Self::Refused(problems) = self else { return vec![self.to_string()] };
        let mut lines: Vec<String> =
            problems.iter().take(MAX_LISTED).map(ToString::to_string).collect();
        if problems.len() > MAX_LISTED {
            lines.push(format!("and {} more", problems.len() - MAX_LISTED));
        }
        if problems.iter().any(|problem| matches!(problem, Problem::Unknown { .. })) {
            lines.extend(all_names());
        }
        lines
    }
}

impl Problem {
    pub(super) fn value(parameter: &Parameter, came: &Given) -> Self {
        let came = match came {
            Given::Absent => "nothing".to_owned(),
            Given::Text(text) => said(text.trim()).to_owned(),
            Given::Nested(kind) => (*kind).to_owned(),
        };
        Self::Value { name: parameter.name, allowed: parameter.allowed, came }
    }

    /// A problem if `batch` is not a multiple of `batch_gpu`.
    pub(super) fn rounds(batch: usize, batch_gpu: usize) -> Option<Self> {
        let nearest = crate::train::presets::largest_divisor(batch, batch_gpu);
        (nearest != batch_gpu).then_some(Self::Rounds { batch, batch_gpu, nearest })
    }
}

impl Problem {
    /// A problem if `batch_gpu` is not a multiple of the group.
    pub(super) fn group(batch_gpu: usize, group: usize) -> Option<Self> {
        let nearest = crate::train::presets::largest_divisor(batch_gpu, group);
        (nearest != group).then_some(Self::Group { batch_gpu, group, nearest })
    }

    /// A problem if D is fresh, or if a part of a block would be frozen.
    pub(super) fn frozen(freezed: usize, limits: &[usize], origin: Origin) -> Option<Self> {
        if freezed == 0 {
            None
        } else if origin != Origin::State {
            Some(Self::FreshD { freezed })
        } else if limits.contains(&freezed) {
            None
        } else {
            let limits: Vec<String> = limits.iter().map(ToString::to_string).collect();
            Some(Self::PartOfABlock { freezed, limits: limits.join(", ") })
        }
    }

    /// Numbers that mean nothing to the augmentation that was asked for.
    pub(super) fn of_aug(params: &Params) -> impl Iterator<Item = Self> {
        let aug = params.aug;
        let of_other = |name: &'static str, given: bool, (with, needed): (&'static str, Aug)| {
            let aug_name = serde_json::to_value(aug).ok()?.as_str()?.to_owned();
            (given && aug != needed).then_some(Self::OfOtherAug { name, with, aug: aug_name })
        };
        let (fixed, ada) = (("fixed", Aug::Fixed), ("ada", Aug::Ada));
        [
            (aug == Aug::Fixed && params.p.is_none()).then_some(Self::NoStrength),
            of_other("p", params.p.is_some(), fixed),
            of_other("target", params.target.is_some(), ada),
            of_other("ada_kimg", params.ada_kimg.is_some(), ada),
        ]
        .into_iter()
        .flatten()
    }
}

/// The entries of a parameters file, in its order, repeated keys kept.
pub(super) fn given(bytes: &[u8]) -> Result<Vec<(String, Given)>, ParamsError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let entries = deserializer.deserialize_any(Entries);
    entries.and_then(|entries| deserializer.end().map(|()| entries)).map_err(|error| {
        if error.is_data() {
            ParamsError::NotAnObject
        } else {
            ParamsError::NotJson { line: error.line(), column: error.column() }
        }
    })
}

/// The parameter whose name is at most two edits away, dashes, spaces and case apart.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    if key.len() > 2 * MAX_QUOTED {
        return None;
    }
    let key = key.trim().to_ascii_lowercase().replace(['-', ' '], "_");
    let distance = |parameter: &Parameter| edit_distance(&key, parameter.name);
    let nearest = PARAMETERS.iter().min_by_key(|parameter| distance(parameter))?;
    // short names: two edits would make anything of them
    let limit = if nearest.name.len() < 6 { 1 } else { 2 };
    (distance(nearest) <= limit).then_some(nearest.name)
}

/// Insertions, deletions and replacements that make `b` of `a`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a_char) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b_char) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a_char != *b_char);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// What may be said of a value: numbers, true and false.
fn said(text: &str) -> &str {
    let is_number = text.len() <= MAX_QUOTED
        && text.starts_with(|char: char| char.is_ascii_digit() || "+-.".contains(char))
        && text.parse::<f64>().is_ok();
    if is_number || ["true", "false"].contains(&text) { text } else { "text" }
}

/// The names of all parameters, in lines of the log.
fn all_names() -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for Parameter { name, .. } in &PARAMETERS {
        match lines.last_mut().filter(|line| line.len() + name.len() < MAX_NAMES) {
            Some(line) => *line = format!("{line}, {name}"),
            None => lines.push(format!("the parameters are {name}")),
        }
    }
    lines
}

/// Reads an object into a list, and an empty text or `null` as an empty one.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, Given)>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.trim().is_empty() { Ok(Vec::new()) } else { Err(E::custom("text")) }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            let given = match value {
                Value::Null => Given::Absent,
                Value::Bool(flag) => Given::Text(flag.to_string()),
                Value::Number(number) => Given::Text(number.to_string()),
                Value::String(text) => Given::Text(text),
                Value::Array(_) => Given::Nested("a list"),
                Value::Object(_) => Given::Nested("an object"),
            };
            entries.push((name, given));
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::{MAX_BYTES, Params};
    use super::*;

    fn read(json: &str) -> Result<Params, ParamsError> {
        Params::from_json(Some(json.as_bytes()))
    }

    fn lines(json: &str) -> Vec<String> {
        read(json).unwrap_err().lines()
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let json = r#"{"resolution": 96, "kimg": "NaN", "max-minutes": 5, "seed": -1, "mirror": "yes",
            "gamma": [1], "batch": 8, "batch_gpu": 3, "gama": 1, "crop": {}, "seed": 4}"#;
        let expected = [
            "resolution: expected a power of two from 8 to 1024, or auto, came 96",
            "kimg: expected a number from 0.001 to 100000, came text",
            "parameters: a key is not one of them; did you mean max_minutes?",
            "seed: expected a whole number from 0 to 4294967295, came -1",
            "mirror: expected true or false, came text",
            "gamma: expected a number from 0 to 1000, or auto, came a list",
            "parameters: a key is not one of them; did you mean gamma?",
            "crop: expected center, pad or stretch, came an object",
            "seed: expected once, came more often; keep one",
            "batch_gpu: expected a divisor of batch, which is 8, came 3; 2 would do",
        ];
        assert_eq!(lines(json), expected);
    }

    #[test]
    fn hostile_files_are_refused_in_few_short_plain_lines() {
        let deep = format!("{{\"kimg\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(matches!(read(&deep), Err(ParamsError::NotJson { .. })));
        let huge = format!("{{\"kimg\": \"{}\"}}", "9".repeat(10 << 20));
        assert_eq!(read(&huge), Err(ParamsError::TooLarge { limit: MAX_BYTES }));
        for json in ["[1]", "1", "true", "\"kimg\""] {
            assert_eq!(read(json), Err(ParamsError::NotAnObject), "{json}");
        }
        for json in ["{\"kimg\": NaN}", "{\"kimg\": 1e999}", "{} {}", "{\"kimg\": 1", "\u{0}"] {
            assert!(matches!(read(json), Err(ParamsError::NotJson { .. })), "{json}");
        }
        assert!(matches!(
            Params::from_json(Some(b"{\"\xff\": 1}")),
            Err(ParamsError::NotJson { .. })
        ));
        let many: Vec<String> = (0..3000).map(|idx| format!("\"\u{e9}\\n{idx}key\": 1")).collect();
        let many = lines(&format!("{{{}}}", many.join(",")));
        assert_eq!(many[0], "parameters: 3000 keys are not among them");
        let (names, rest) = (PARAMETERS.map(|parameter| parameter.name), many[1..].join(", "));
        assert_eq!(rest.replace("the parameters are ", ""), names.join(", "));
        let wrong: Vec<String> = PARAMETERS.map(|it| format!("\"{}\": {{}}", it.name)).into();
        let wrong = lines(&format!("{{{}}}", wrong.join(",")));
        assert_eq!((wrong.len(), wrong[20].as_str()), (21, "and 13 more"));
        for value in ["\"secret\"", "\"1e5secret\"", "\"infinity\"", "\"0x12\""] {
            let line = &lines(&format!("{{\"kimg\": {value}}}"))[0];
            assert_eq!(line, "kimg: expected a number from 0.001 to 100000, came text");
        }
    }

    #[test]
    fn near_misses() {
        assert_eq!(nearest("Kimg"), Some("kimg"));
        assert_eq!(nearest("batch-gpu"), Some("batch_gpu"));
        assert_eq!(nearest("resolutoin"), Some("resolution"));
        assert_eq!(nearest("crap"), Some("crop"));
        assert_eq!(nearest("batch size"), None);
        assert_eq!(nearest("outdir"), None);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "seed"), 4);
        assert_eq!(nearest(&"kimg".repeat(10_000)), None);
    }
}
