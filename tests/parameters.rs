//! One table of parameters, and what people see of it: flags, README, algorithm.json.
//!
//! algorithm.json is also checked field by field against the rules of the asset's schema, which
//! the stacks' own validator reports without naming the field.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fmt::Write as _;

use clap::{Args, Command};
use serde_json::Value;
use stylegan2_c2d::job::flags::ParamFlags;
use stylegan2_c2d::job::params::Params;
use stylegan2_c2d::job::table::{Kind, PARAMETERS};

const README: &str = include_str!("../README.md");
const ALGORITHM: &str = include_str!("../algorithm.json");

fn algorithm() -> Value {
    serde_json::from_str(ALGORITHM).unwrap()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}: no text"))
}

/// The keys of a select's options, a JSON text in the form `[{"key":"label"}, ..]`.
fn options(parameter: &Value) -> Vec<String> {
    let options: Vec<Value> = serde_json::from_str(text(parameter, "/options")).unwrap();
    let key = |option: &Value| {
        let option = option.as_object().unwrap();
        assert!(option.len() == 1 && option.values().all(Value::is_string));
        option.keys().next().unwrap().clone()
    };
    options.iter().map(key).collect()
}

#[test]
fn flags_are_the_table_s() {
    let command = ParamFlags::augment_args(Command::new("train"));
    let flags: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    assert_eq!(flags, PARAMETERS.map(|parameter| parameter.flag));
    for (arg, parameter) in command.get_arguments().zip(&PARAMETERS) {
        let help = arg.get_help().unwrap().to_string();
        assert!(help.contains(parameter.doc) && help.contains(parameter.allowed));
    }
}

#[test]
fn serialized_params_are_the_table_s() {
    let params = serde_json::to_value(Params::default()).unwrap();
    let mut names = PARAMETERS.map(|parameter| parameter.name);
    names.sort_unstable();
    let mut keys: Vec<&String> = params.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, names);
}

#[test]
fn the_readme_s_table_is_the_table_s() {
    let (_, rest) = README.split_once("<!-- parameters -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- /parameters -->").unwrap();
    let mut expected =
        "| parameter | default | allowed | meaning |\n|---|---|---|---|\n".to_owned();
    for parameter in &PARAMETERS {
        let default = match parameter.default {
            "" => "-".to_owned(),
            default => format!("`{default}`"),
        };
        let (name, allowed, doc) = (parameter.name, parameter.allowed, parameter.doc);
        writeln!(expected, "| `{name}` | {default} | {allowed} | {doc} |").unwrap();
    }
    assert!(table == expected, "put this between the marks in README.md:\n{expected}");
}

#[test]
fn consumer_parameters_are_the_table_s() {
    let algorithm = algorithm();
    let parameters = algorithm.pointer("/metadata/algorithm/consumerParameters").unwrap();
    let parameters = parameters.as_array().unwrap();
    assert_eq!(parameters.len(), PARAMETERS.len());
    for (asset, parameter) in parameters.iter().zip(&PARAMETERS) {
        let name = parameter.name;
        assert_eq!(text(asset, "/name"), name);
        assert_eq!(text(asset, "/default"), parameter.default, "{name}");
        assert_eq!(text(asset, "/description"), parameter.doc, "{name}");
        let kind = match parameter.kind {
            Kind::Number => "number",
            Kind::Text => "text",
            Kind::Boolean => "boolean",
            Kind::Select => "select",
        };
        assert_eq!(text(asset, "/type"), kind, "{name}");
        assert_eq!(asset.get("options").is_some(), parameter.kind == Kind::Select, "{name}");
        if parameter.kind == Kind::Select {
            let options = options(asset);
            assert!(options.iter().any(|option| option == parameter.default), "{name}");
            for option in options {
                let strength = (option == "fixed").then_some(("p", "0.2")); // which this one needs
                let texts = [(name, option.as_str())].into_iter().chain(strength);
                assert!(Params::from_texts(texts).is_ok(), "{name}: {option}");
            }
        }
    }
}

#[test]
fn what_a_form_sends_untouched_is_the_default() {
    let algorithm = algorithm();
    let parameters = algorithm.pointer("/metadata/algorithm/consumerParameters").unwrap();
    let sent = parameters.as_array().unwrap().iter().map(|asset| {
        let default = text(asset, "/default");
        let value = match text(asset, "/type") {
            "number" => default.parse::<f64>().map_or(Value::from(""), Value::from),
            "boolean" => Value::from(default == "true"),
            _ => Value::from(default),
        };
        (text(asset, "/name").to_owned(), value)
    });
    let sent = Value::Object(sent.collect()).to_string();
    assert_eq!(Params::from_json(Some(sent.as_bytes())), Ok(Params::default()));
}

/// Rules of schema 4.7.0, which is the strictest of those in use.
#[test]
fn algorithm_json_keeps_the_schema() {
    let algorithm = algorithm();
    let is_within = |pointer: &str, min: usize, max: usize| {
        let num_chars = text(&algorithm, pointer).chars().count();
        assert!((min..=max).contains(&num_chars), "{pointer}: {num_chars} characters");
    };
    is_within("/metadata/name", 4, 512);
    is_within("/metadata/description", 10, 7000);
    for field in ["author", "license", "created", "updated"] {
        is_within(&format!("/metadata/{field}"), 1, 512);
    }
    is_within("/metadata/algorithm/container/entrypoint", 3, 256);
    is_within("/metadata/algorithm/container/image", 1, 512);
    is_within("/metadata/algorithm/container/tag", 1, 512);
    let entrypoint = text(&algorithm, "/metadata/algorithm/container/entrypoint");
    assert_eq!(entrypoint, "/usr/local/bin/stylegan2-c2d-job"); // the Dockerfile's
    let checksum = text(&algorithm, "/metadata/algorithm/container/checksum");
    let digest = checksum.strip_prefix("sha256:").unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let parameters = algorithm.pointer("/metadata/algorithm/consumerParameters").unwrap();
    let parameters = parameters.as_array().unwrap();
    assert!(parameters.len() <= 64);
    for parameter in parameters {
        for field in ["name", "type", "label", "description", "default"] {
            let text = text(parameter, &format!("/{field}"));
            assert!(!text.contains(['\n', '\r']) && (field == "default" || !text.is_empty()));
        }
        assert!(parameter["required"].is_boolean());
        if parameter.get("options").is_some() {
            assert!(text(parameter, "/options").chars().count() <= 256);
        }
    }
}

#[test]
fn algorithm_json_is_what_the_publisher_reads() {
    let algorithm = algorithm();
    assert!(text(&algorithm, "/id").starts_with("did:op"));
    assert!(text(&algorithm, "/version").starts_with("4."));
    assert_eq!(text(&algorithm, "/metadata/type"), "algorithm");
    assert_eq!(text(&algorithm, "/metadata/algorithm/version"), env!("CARGO_PKG_VERSION"));
    assert!(algorithm["chainId"].is_u64());
    assert!(text(&algorithm, "/services/0/files/files/0/url").starts_with("https://"));
    text(&algorithm, "/indexedMetadata/nft/name");
    text(&algorithm, "/indexedMetadata/nft/symbol");
    text(&algorithm, "/indexedMetadata/stats/0/prices/0/price");
}
