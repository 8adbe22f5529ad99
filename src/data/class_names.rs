//! What classes are called, where that may be known.
//!
//! Names are private as all of the data are: a set has them only if the caller asked for them
//! ([`super::LoadOptions`]), and no message here contains one. They come from folders, from
//! `dataset.json` and from the headers of weights, all of which may be hostile.

use serde::{Deserialize, Serialize};

use super::DataError;

/// Longest name, in characters.
const MAX_CHARS: usize = 64;

/// A name for each class, in the order of their numbers: all different, each fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct ClassNames(Vec<String>);

impl ClassNames {
    /// # Errors
    /// Fails if a name is empty, too long or not printable, or if two are the same.
    pub fn new(names: Vec<String>) -> Result<Self, DataError> {
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort_unstable();
        let all_differ = sorted.windows(2).all(|pair| pair[0] != pair[1]);
        if !(all_differ && names.iter().all(|name| is_fit(name))) {
            return Err(DataError::ClassNames);
        }
        Ok(Self(names))
    }

    /// As [`ClassNames::new`], of bytes that should be UTF-8.
    pub(super) fn of_bytes(names: &[&[u8]]) -> Result<Self, DataError> {
        let name = |bytes: &&[u8]| String::from_utf8(bytes.to_vec());
        let names: Result<Vec<String>, _> = names.iter().map(name).collect();
        Self::new(names.map_err(|_| DataError::ClassNames)?)
    }

    /// The names, in the order of classes.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// The class of this name.
    pub fn class(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|known| known == name)
    }
}

impl TryFrom<Vec<String>> for ClassNames {
    type Error = DataError;

    fn try_from(names: Vec<String>) -> Result<Self, DataError> {
        Self::new(names)
    }
}

impl From<ClassNames> for Vec<String> {
    fn from(ClassNames(names): ClassNames) -> Self {
        names
    }
}

/// Whether a name can be shown anywhere: no control characters, none that are invisible or turn
/// the direction of what follows.
fn is_fit(name: &str) -> bool {
    // What the standard library would escape in it, but for three that it escapes for another reason.
    let plain = name.replace(['"', '\'', '\\'], "_");
    (1..=MAX_CHARS).contains(&name.chars().count()) && plain.escape_debug().eq(plain.chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(names: &[&str]) -> bool {
        ClassNames::new(names.iter().map(ToString::to_string).collect()).is_err()
    }

    #[test]
    fn names_are_what_people_write() {
        let names = ["heart", "Bäume, groß", "été e\u{301}", "太陽", "it's \"x\" \\", "7", "❤ 🌲"];
        assert!(!is_refused(&names) && !is_refused(&[&"ä".repeat(64)]));
        let named = ClassNames::of_bytes(&names.map(str::as_bytes)).ok().unwrap();
        assert_eq!((named.class("太陽"), named.class("moon")), (Some(3), None));
        let json = serde_json::to_string(&named).unwrap();
        assert_eq!(serde_json::from_str::<ClassNames>(&json).unwrap(), named);
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let long = "a".repeat(65);
        let bad = ["", &long, "a\nb", "\u{1b}[31m", "a\u{0}", "\u{202e}x", "a\u{200b}", "\u{e000}"];
        for name in bad {
            assert!(is_refused(&["x", name]), "{name:?}");
            let json = serde_json::to_string(&[name]).unwrap();
            assert!(serde_json::from_str::<ClassNames>(&json).is_err(), "{name:?}");
        }
        assert!(is_refused(&["a", "b", "a"]));
        assert!(ClassNames::of_bytes(&[b"a\xff"]).is_err());
    }
}
