//! The asset that publishes the job: filled in, judged field by field, and its two checksums.
//!
//! `tests/fixtures/asset/broken.json` lists single changes that break a sound asset, each with
//! the field that has to be named; `.ci/asset` gives the same list to the stacks' own validator.

#![expect(clippy::unwrap_used, reason = "a test fails by it, in helpers too")]

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use stylegan2_c2d::job::asset::{
    Asset, AssetError, Fields, TEMPLATE, check, container_section_checksum, notes,
};

const BROKEN: &str = include_str!("fixtures/asset/broken.json");
const DIGEST: &str = "sha256:8221d20c1c16491d7d56b9657ea09082c0ee4a8ab1a6621fa720da58b09580e4";
const URL: &str =
    "https://example.org/name/stylegan2-c2d/0123456789abcdef0123456789abcdef01234567/Dockerfile";
/// Every flag that has to be there, with a value.
const FLAGS: [&str; 10] = [
    "--image",
    "registry.example.org/name/stylegan2-c2d",
    "--tag",
    "0.1.0-cuda",
    "--digest",
    DIGEST,
    "--chain-id",
    "137",
    "--file-url",
    URL,
];
/// `printf '%s%s' /usr/local/bin/stylegan2-c2d-job $DIGEST | sha256sum`
const CONTAINER_CHECKSUM: &str = "3b9c046db2c7a5b1b0c701fd4b431de1d8e27b0605e791e4792be0537b04937e";

fn asset(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stylegan2-c2d"))
        .arg("asset")
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn template() -> Value {
    serde_json::from_str(TEMPLATE).unwrap()
}

/// The flags' values in place of the template's.
fn filled() -> Value {
    let fields = Fields {
        image: Some(FLAGS[1].to_owned()),
        tag: Some(FLAGS[3].to_owned()),
        digest: Some(DIGEST.to_owned()),
        chain_id: Some("137".to_owned()),
        file_url: Some(URL.to_owned()),
        ..Fields::default()
    };
    Asset::new(TEMPLATE, &fields).unwrap().document().clone()
}

/// `value` at `pointer`, or nothing there.
fn changed(document: &Value, pointer: &str, value: Option<&Value>) -> Value {
    let mut document = document.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match (document.pointer_mut(parent).unwrap(), value) {
        (Value::Object(object), Some(value)) => {
            object.insert(key.to_owned(), value.clone());
        }
        (Value::Object(object), None) => {
            assert!(object.shift_remove(key).is_some(), "{pointer}: nothing to remove");
        }
        (Value::Array(list), Some(value)) => list[key.parse::<usize>().unwrap()] = value.clone(),
        _ => panic!("{pointer}: neither in an object nor replaced"),
    }
    document
}

#[test]
fn an_asset_is_the_template_but_for_the_fields_that_were_asked_for() {
    let output = asset(&FLAGS);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document, filled());
    let mut expected = template();
    let changes = [
        ("/chainId", json!(137)),
        ("/metadata/algorithm/container/image", json!(FLAGS[1])),
        ("/metadata/algorithm/container/tag", json!(FLAGS[3])),
        ("/metadata/algorithm/container/checksum", json!(DIGEST)),
        ("/services/0/files/files/0/url", json!(URL)),
    ];
    for (pointer, value) in changes {
        expected = changed(&expected, pointer, Some(&value));
    }
    assert_eq!(document, expected);
    // In the template's layout, so that the two can be compared line by line.
    assert_eq!(text.lines().count(), TEMPLATE.lines().count());
    let num_changed = text.lines().zip(TEMPLATE.lines()).filter(|(a, b)| a != b).count();
    assert_eq!(num_changed, 5);
}

#[test]
fn the_optional_fields_are_filled_in_too() {
    let more = [
        ("--name", "/metadata/name", json!("A trainer")),
        ("--description", "/metadata/description", json!("Trains on pictures.\nStays there.")),
        ("--author", "/metadata/author", json!("Jane Doe")),
        ("--license", "/metadata/license", json!("MIT OR Apache-2.0")),
        ("--link", "/metadata/links", json!(["https://example.org/source"])),
        ("--ddo-version", "/version", json!("4.7.0")),
    ];
    let mut args = FLAGS.to_vec();
    for (flag, _, value) in &more {
        args.extend([*flag, value.as_str().or(value[0].as_str()).unwrap()]);
    }
    let output = asset(&args);
    let expected = more
        .iter()
        .fold(filled(), |document, (_, pointer, value)| changed(&document, pointer, Some(value)));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), expected);
    assert!(!stderr(&output).contains("WARN"), "{}", stderr(&output));
}

#[test]
fn broken_assets_are_refused_by_the_field_s_name() {
    let broken: Vec<Value> = serde_json::from_str(BROKEN).unwrap();
    assert!(broken.len() >= 20);
    let sound = filled();
    assert_eq!(check(&sound), []);
    for variant in &broken {
        let text = |key: &str| variant[key].as_str().unwrap();
        let document = changed(&sound, text("at"), variant.get("value"));
        let findings = check(&document);
        let what = text("what");
        assert!(
            findings.iter().any(|finding| finding.path == text("field")),
            "{what}: {findings:?}"
        );
        for finding in findings {
            let line = finding.to_string();
            assert!(line.contains("expected") && line.contains("came"), "{what}: {line}");
            assert!(line.chars().count() <= 290, "{what} does not fit a line of the log: {line}");
        }
    }
}

#[test]
fn the_command_refuses_what_the_check_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("asset.json");
    let sound = filled();
    for variant in serde_json::from_str::<Vec<Value>>(BROKEN).unwrap() {
        let document = changed(&sound, variant["at"].as_str().unwrap(), variant.get("value"));
        fs::write(&path, document.to_string()).unwrap();
        let output = asset(&["--template", path.to_str().unwrap()]);
        let log = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{variant}: {log}");
        assert!(output.stdout.is_empty(), "{variant}");
        let field = variant["field"].as_str().unwrap();
        let is_named = log.lines().any(|line| line.starts_with(&format!("ERROR {field}: ")));
        assert!(is_named, "{field} in:\n{log}");
    }
    fs::write(&path, sound.to_string()).unwrap();
    let output = asset(&["--template", path.to_str().unwrap()]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), sound);
}

#[test]
fn wrong_flags_are_refused_all_at_once_and_quoted_in_part() {
    let secret = "https://user:secret-of-forty-characters-or-more@example.org/";
    let output = asset(&[
        "--image",
        "name/stylegan2-c2d:0.1.0",
        "--tag",
        ".x",
        "--digest",
        "8221",
        "--chain-id",
        "-1",
        "--file-url",
        secret,
        "--author",
        "",
    ]);
    let log = stderr(&output);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{log}");
    let fields = [
        "chainId",
        "metadata.author",
        "metadata.algorithm.container.image",
        "metadata.algorithm.container.tag",
        "metadata.algorithm.container.checksum",
        "services[0].files.files[0].url",
    ];
    let named: Vec<&str> = log.lines().map(|line| line[6..].split(": ").next().unwrap()).collect();
    assert_eq!(named, fields);
    assert!(!log.contains("secret-of-forty"), "{log}");
}

#[test]
fn the_template_alone_is_refused_by_its_placeholders() {
    let Err(AssetError::Refused(findings)) = Asset::new(TEMPLATE, &Fields::default()) else {
        panic!("the placeholders were accepted");
    };
    let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
    let expected = ["metadata.algorithm.container.checksum", "services[0].files.files[0].url"];
    assert_eq!(paths, expected);
}

#[test]
fn a_template_that_is_no_asset_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("asset.json");
    let deep = "[".repeat(100_000);
    let large = format!("{{\"x\": \"{}\"}}", "x".repeat(1 << 20));
    let cases = [
        ("", "template: expected a JSON object"),
        (deep.as_str(), "template: expected a JSON object"),
        (large.as_str(), "template: expected at most 1048576 bytes"),
        ("[]", "the asset: expected an object, came a list"),
        ("{}", "metadata: expected an object, came nothing"),
    ];
    for (text, expected) in cases {
        fs::write(&path, text).unwrap();
        let output = asset(&["--template", path.to_str().unwrap()]);
        let log = stderr(&output);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{log}");
        assert!(log.contains(expected), "{expected} in:\n{log}");
    }
    let output = asset(&["--template", folder.path().join("none").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_required_flags_are_required() {
    for idx in (0..FLAGS.len()).step_by(2) {
        let mut args = FLAGS.to_vec();
        args.drain(idx..idx + 2);
        let output = asset(&args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        assert!(stderr(&output).contains(FLAGS[idx]));
    }
}

/// A byte more than the hash's chunk, and an empty file:
/// `head -c 65537 /dev/zero | sha256sum`, `sha256sum < /dev/null`.
#[test]
fn the_checksums_are_those_of_sha256sum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let examples = [
        (65_537, "3266304f31be278d06c3bd3eb9aa3e00c59bedec0a890de466568b0b90b0e01f"),
        (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ];
    for (num_bytes, digest) in examples {
        fs::write(&path, vec![0; num_bytes]).unwrap();
        let output = asset(&[&FLAGS[..], &["--file", path.to_str().unwrap()]].concat());
        let log = stderr(&output);
        let ends = [
            format!("containerSectionChecksum: {CONTAINER_CHECKSUM}"),
            format!("filesChecksum: {digest}"),
        ];
        assert!(ends.iter().all(|line| log.lines().any(|logged| logged == line)), "{log}");
    }
    let entrypoint = "/usr/local/bin/stylegan2-c2d-job";
    assert_eq!(container_section_checksum(entrypoint, DIGEST), CONTAINER_CHECKSUM);
}

#[test]
fn a_file_s_checksum_is_explained_where_there_is_no_copy_and_refused_where_it_cannot_be_read() {
    let output = asset(&FLAGS);
    assert!(stderr(&output).contains("--file") && stderr(&output).contains("sha256sum"));
    let output = asset(&[&FLAGS[..], &["--file", "/nowhere/file"]].concat());
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(stderr(&output).starts_with("ERROR --file: "), "{}", stderr(&output));
}

#[test]
fn placeholders_and_addresses_that_may_change_are_noted() {
    let paths = |document: &Value| -> Vec<String> {
        notes(document).into_iter().map(|note| note.path).collect()
    };
    assert_eq!(paths(&filled()), ["metadata.author", "metadata.links[0]"]);
    let mut document = changed(&filled(), "/metadata/author", Some(&json!("Jane Doe")));
    document = changed(&document, "/metadata/links", None);
    assert!(paths(&document).is_empty());
    let url = json!("https://example.org/main/Dockerfile");
    document = changed(&document, "/services/0/files/files/0/url", Some(&url));
    assert_eq!(paths(&document), ["services[0].files.files[0].url"]);
}

/// What the rules must not refuse.
#[test]
fn sound_variants_are_accepted() {
    let compute = json!({
        "allowRawAlgorithm": false,
        "allowNetworkAccess": false,
        "publisherTrustedAlgorithmPublishers": [],
        "publisherTrustedAlgorithms": [],
    });
    let p = "/metadata/algorithm/consumerParameters";
    let variants = [
        ("/metadata/description", json!("line one\n\nline *two*")),
        ("/metadata/name", json!("étés")),
        ("/metadata/name", json!("\u{1f3a8}\u{1f3a8}")), // four UTF-16 units
        ("/metadata/tags", json!([])),
        ("/metadata/algorithm/format", json!("docker-image")),
        (&format!("{p}/2/default"), json!("")),
        (&format!("{p}/2/min"), json!(1)),
        (p, json!([])),
        ("/services/0/compute", compute),
        ("/services/0/timeout", json!(0)),
        ("/credentials", json!({"allow": [], "deny": []})),
        ("/indexedMetadata/stats/0/prices/0/price", json!("2.5")),
        ("/version", json!("4.7.0")),
    ];
    for (pointer, value) in variants {
        let document = changed(&filled(), pointer, Some(&value));
        assert_eq!(check(&document), [], "{pointer}: {value}");
    }
    let document = changed(&filled(), "/metadata/algorithm/consumerParameters", None);
    assert_eq!(check(&document), []);
}
