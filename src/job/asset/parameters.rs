//! The parameters that a form asks the buyer for.
//!
//! Beside their shape it is asked whether the job knows them: a name that it does not know, or a
//! default that it refuses, would end every job that the form starts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::params::Params;
use super::super::table::PARAMETERS;
use super::place::{Findings, Place, TextRule};

/// Most parameters of an asset.
const MAX_PARAMETERS: usize = 64;
/// Any short text of one line.
const LINE: TextRule = TextRule::line(1, 256);
/// What forms know how to ask for.
const TYPES: [&str; 4] = ["number", "text", "boolean", "select"];

/// Judges a list of parameters, where there is one.
pub(super) fn check(findings: &mut Findings, place: &Place) {
    if !place.is_there() {
        return;
    }
    let mut names = BTreeSet::new();
    for parameter in findings.list(place, 0, MAX_PARAMETERS) {
        if findings.object(&parameter).is_none() {
            continue;
        }
        let name = findings.text(&parameter.key("name"), LINE);
        if name.is_some_and(|name| !names.insert(name)) {
            findings.refuse(&parameter.key("name"), "each name once", "remove one of the two");
        }
        check_one(findings, &parameter, name);
    }
}

fn check_one(findings: &mut Findings, parameter: &Place, name: Option<&str>) {
    findings.text(&parameter.key("label"), LINE);
    findings.text(&parameter.key("description"), TextRule::lines(1, 7000));
    findings.boolean(&parameter.key("required"));
    let kind = findings.text(&parameter.key("type"), LINE);
    if kind.is_some_and(|kind| !TYPES.contains(&kind)) {
        findings.refuse(&parameter.key("type"), "number, text, boolean or select", "");
    }
    let at_default = parameter.key("default");
    let default = findings.text(&at_default, TextRule::line(0, 256));
    let keys = options(findings, &parameter.key("options"), kind);
    if let (Some(default), Some(keys)) = (default, &keys)
        && !keys.iter().any(|key| key == default)
    {
        findings.refuse(&at_default, "one of the keys of options", "");
    }
    let Some(name) = name else { return };
    let Some(row) = PARAMETERS.iter().find(|parameter| parameter.name == name) else {
        let cure = "the job refuses what it does not know";
        findings.refuse(&parameter.key("name"), "a parameter of the job", cure);
        return;
    };
    // by itself: some values need another parameter beside them
    let is_allowed =
        |value: &str| value.is_empty() || (row.set)(&mut Params::default(), value.trim()).is_some();
    if default.is_some_and(|default| !is_allowed(default)) {
        findings.refuse(&at_default, "a value that the job accepts", "see train --help");
    }
    if keys.is_some_and(|keys| !keys.iter().all(|key| is_allowed(key))) {
        let cure = "see train --help";
        findings.refuse(&parameter.key("options"), "keys that the job accepts", cure);
    }
}

/// The keys of a select's options, a JSON text such as `[{"key": "label"}, ..]`.
fn options(findings: &mut Findings, place: &Place, kind: Option<&str>) -> Option<Vec<String>> {
    if kind != Some("select") && !place.is_there() {
        return None;
    }
    let text = findings.text(place, TextRule::line(1, 256))?;
    let key = |option: Value| match option {
        Value::Object(option) if option.len() == 1 && option.values().all(Value::is_string) => {
            option.keys().next().cloned()
        }
        _ => None,
    };
    let options: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let keys: Option<Vec<String>> = options.into_iter().map(key).collect();
    let keys = keys.filter(|keys| !keys.is_empty());
    if keys.is_none() {
        let expected = "a JSON text such as [{\"key\":\"label\"}]";
        findings.refuse(place, expected, "quote it as text");
    }
    keys
}
