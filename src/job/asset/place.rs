//! A place in the document, and the rules that hold at many of them.
//!
//! Texts are measured as the stacks' validator measures them, in UTF-16 units. A text that is
//! quoted is cut to a few plain characters.

use serde_json::{Map, Value};

use super::Finding;

/// Most characters of a text that is quoted.
const MAX_QUOTED: usize = 24;

/// A value and the way to it.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) path: String,
    /// `None`: it is not there.
    pub(super) value: Option<&'a Value>,
}

/// Whether a text may hold line feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    One,
    Many,
}

/// How long a text may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextRule {
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) lines: Lines,
}

impl TextRule {
    /// A text of one line.
    pub(super) const fn line(min: usize, max: usize) -> Self {
        Self { min, max, lines: Lines::One }
    }

    /// A text of any number of lines.
    pub(super) const fn lines(min: usize, max: usize) -> Self {
        Self { min, max, lines: Lines::Many }
    }
}

/// What a text must look like: what was expected, and the cure.
pub(super) type Form = Result<(), (&'static str, &'static str)>;

impl<'a> Place<'a> {
    pub(super) fn root(document: &'a Value) -> Self {
        Self { path: String::new(), value: Some(document) }
    }

    pub(super) fn key(&self, key: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self {
            path: format!("{}{dot}{key}", self.path),
            value: self.value.and_then(|value| value.as_object()?.get(key)),
        }
    }

    pub(super) fn item(&self, idx: usize) -> Self {
        Self {
            path: format!("{}[{idx}]", self.path),
            value: self.value.and_then(|value| value.as_array()?.get(idx)),
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.value.is_some()
    }

    /// What is there, in a few words.
    fn came(&self) -> String {
        match self.value {
            None => "nothing".to_owned(),
            Some(Value::Null) => "null".to_owned(),
            Some(Value::Bool(flag)) => flag.to_string(),
            Some(Value::Number(number)) => format!("the number {number}"),
            Some(Value::String(text)) => quoted(text),
            Some(Value::Array(_)) => "a list".to_owned(),
            Some(Value::Object(_)) => "an object".to_owned(),
        }
    }
}

/// Quoted, cut, and in printable ASCII only.
fn quoted(text: &str) -> String {
    let plain = |char: char| if char == ' ' || char.is_ascii_graphic() { char } else { '?' };
    let cut = if text.chars().nth(MAX_QUOTED).is_some() { ".." } else { "" };
    let quoted: String = text.chars().take(MAX_QUOTED).map(plain).collect();
    format!("\"{quoted}{cut}\"")
}

/// What has been found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    /// Notes that `place` is not as it should be; `cure` may be empty.
    pub(super) fn refuse(&mut self, place: &Place, expected: &str, cure: &str) {
        self.refuse_as(place, expected, &place.came(), cure);
    }

    pub(super) fn refuse_as(&mut self, place: &Place, expected: &str, came: &str, cure: &str) {
        let separator = if cure.is_empty() { "" } else { "; " };
        let text = format!("expected {expected}, came {came}{separator}{cure}");
        let path = if place.path.is_empty() { "the asset" } else { &place.path };
        self.0.push(Finding { path: path.to_owned(), text });
    }

    pub(super) fn object<'a>(&mut self, place: &Place<'a>) -> Option<&'a Map<String, Value>> {
        let object = place.value.and_then(Value::as_object);
        if object.is_none() {
            self.refuse(place, "an object", "");
        }
        object
    }

    /// The places of a list of `min` to `max` items.
    pub(super) fn list<'a>(&mut self, place: &Place<'a>, min: usize, max: usize) -> Vec<Place<'a>> {
        let expected = match (min, max) {
            (0, _) => format!("a list of at most {max}"),
            (1, 1) => "a list of one".to_owned(),
            _ => format!("a list of {min} to {max}"),
        };
        let Some(list) = place.value.and_then(Value::as_array) else {
            self.refuse(place, &expected, "");
            return Vec::new();
        };
        if !(min..=max).contains(&list.len()) {
            self.refuse_as(place, &expected, &format!("one of {}", list.len()), "");
        }
        (0..list.len().min(max)).map(|idx| place.item(idx)).collect()
    }

    /// The text at `place` if it keeps `rule`.
    pub(super) fn text<'a>(&mut self, place: &Place<'a>, rule: TextRule) -> Option<&'a str> {
        let lines = if rule.lines == Lines::One { " in one line" } else { "" };
        let expected = match rule.min {
            0 => format!("text of at most {} characters{lines}", rule.max),
            min => format!("text of {min} to {} characters{lines}", rule.max),
        };
        let Some(text) = place.value.and_then(Value::as_str) else {
            self.refuse(place, &expected, "");
            return None;
        };
        let num_units = text.encode_utf16().count();
        if !(rule.min..=rule.max).contains(&num_units) {
            self.refuse_as(place, &expected, &format!("{num_units} characters"), "");
            return None;
        }
        if !text.chars().all(|char| is_plain(char, rule.lines)) {
            let cure = "take line breaks and control characters out";
            self.refuse(place, &expected, cure);
            return None;
        }
        Some(text)
    }

    /// As [`Findings::text`], where the text may be missing.
    pub(super) fn optional_text(&mut self, place: &Place, rule: TextRule) {
        if place.is_there() {
            self.text(place, rule);
        }
    }

    /// A text that keeps `rule` and has a `form`.
    pub(super) fn formed(&mut self, place: &Place, rule: TextRule, form: fn(&str) -> Form) {
        if let Some(Err((expected, cure))) = self.text(place, rule).map(form) {
            self.refuse(place, expected, cure);
        }
    }

    /// A list of at most 64 texts, where it is there.
    pub(super) fn optional_texts(&mut self, place: &Place, rule: TextRule) {
        if place.is_there() {
            for item in self.list(place, 0, 64) {
                self.text(&item, rule);
            }
        }
    }

    pub(super) fn boolean(&mut self, place: &Place) {
        if !place.value.is_some_and(Value::is_boolean) {
            self.refuse(place, "true or false without quotes", "");
        }
    }

    /// A whole number of at least `min` that every reader of JSON keeps exactly.
    pub(super) fn whole(&mut self, place: &Place, min: u64, cure: &str) {
        let number = place.value.and_then(Value::as_u64);
        if !number.is_some_and(|number| (min..1 << 53).contains(&number)) {
            self.refuse(place, &format!("a whole number from {min} to 2^53 - 1"), cure);
        }
    }
}

/// Whether `char` is no line break and no control character; line feeds may be in `Many` lines.
fn is_plain(char: char, lines: Lines) -> bool {
    match char {
        '\n' => lines == Lines::Many,
        '\u{2028}' | '\u{2029}' => false,
        _ => !char.is_control(),
    }
}
