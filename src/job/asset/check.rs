//! Everything that a publisher, a node or the job would refuse, field by field.
//!
//! The lengths are those of schema 4.7.0, the strictest of those in use, whatever version the
//! asset names. Fields that publishing fills in itself (addresses, the asset's id, the encrypted
//! files) are judged as they stand before.

use serde_json::Value;

use super::place::{Findings, Place, TextRule};
use super::{Finding, forms, parameters};

/// Versions of the schema that the publishing command takes.
const VERSIONS: [&str; 4] = ["4.1.0", "4.3.0", "4.5.0", "4.7.0"];
/// Any text of one line.
const LINE: TextRule = TextRule::line(1, 256);
/// A description of a service or of the asset.
const DESCRIPTION: TextRule = TextRule::lines(10, 7000);
/// Longest address of a file: encrypted, it must stay below the schema's 8192 characters.
const MAX_URL: usize = 2048;

/// Every field that is not allowed, in the order of the document; empty: the asset is sound.
pub fn check(asset: &Value) -> Vec<Finding> {
    let mut findings = Findings::default();
    let root = Place::root(asset);
    if findings.object(&root).is_none() {
        return findings.0;
    }
    check_keywords(&mut findings, &root);
    check_head(&mut findings, &root);
    check_metadata(&mut findings, &root.key("metadata"));
    for service in findings.list(&root.key("services"), 1, 64) {
        check_service(&mut findings, &service);
    }
    check_credentials(&mut findings, &root.key("credentials"));
    check_publishing(&mut findings, &root.key("indexedMetadata"));
    findings.0
}

/// What is allowed, but is hardly meant: placeholders, and an address that may change.
pub fn notes(asset: &Value) -> Vec<Finding> {
    let root = Place::root(asset);
    let mut notes = Vec::new();
    let mut note = |place: Place, is_due: fn(&str) -> bool, text: &str| {
        if place.value.and_then(Value::as_str).is_some_and(is_due) {
            notes.push(Finding { path: place.path, text: text.to_owned() });
        }
    };
    let metadata = root.key("metadata");
    note(
        metadata.key("author"),
        |author| author == "Example Author",
        "still the placeholder; put yours in by --author",
    );
    note(
        metadata.key("links").item(0),
        |link| link.contains("/example/"),
        "still the placeholder; put the address of your source in by --link",
    );
    note(
        root.key("services").item(0).key("files").key("files").item(0).key("url"),
        |url| !forms::is_pinned(url),
        "names no commit; once another content is served there, no data set trusts the asset",
    );
    notes
}

/// Keys with an @ change how the validator reads what stands beside them.
fn check_keywords(findings: &mut Findings, place: &Place) {
    let num_items = place.value.and_then(Value::as_array).map_or(0, Vec::len);
    for idx in 0..num_items {
        check_keywords(findings, &place.item(idx));
    }
    let object = place.value.and_then(Value::as_object);
    for key in object.into_iter().flat_map(|object| object.keys()) {
        let is_context = place.path.is_empty() && key == "@context";
        if key.starts_with('@') && !is_context {
            findings.refuse(&place.key(key), "no key with @ in front", "remove it");
        }
        if !is_context {
            check_keywords(findings, &place.key(key));
        }
    }
}

fn check_head(findings: &mut Findings, root: &Place) {
    let id = root.key("id");
    let is_id = |id: &str| id.starts_with("did:op") && !id.starts_with("did:ope");
    if findings.text(&id, TextRule::line(6, 71)).is_some_and(|text| !is_id(text)) {
        findings.refuse(&id, "\"did:op\", which publishing completes", "");
    }
    let version = root.key("version");
    if !version.value.and_then(Value::as_str).is_some_and(|text| VERSIONS.contains(&text)) {
        findings.refuse(&version, &format!("one of {}", VERSIONS.join(", ")), "");
    }
    let cure = "it is the number of the chain that you publish on (--chain-id)";
    findings.whole(&root.key("chainId"), 1, cure);
    check_address(findings, &root.key("nftAddress"));
}

/// An address that publishing fills in: empty or a whole one.
fn check_address(findings: &mut Findings, place: &Place) {
    let text = findings.text(place, TextRule::line(0, 42));
    if text.is_some_and(|text| !matches!(text.len(), 0 | 42)) {
        findings.refuse(place, "\"\", which publishing fills in, or an address", "");
    }
}

fn check_metadata(findings: &mut Findings, metadata: &Place) {
    if findings.object(metadata).is_none() {
        return;
    }
    findings.formed(&metadata.key("created"), TextRule::line(0, 256), forms::instant);
    findings.formed(&metadata.key("updated"), TextRule::line(0, 256), forms::instant);
    let kind = metadata.key("type");
    if kind.value.and_then(Value::as_str) != Some("algorithm") {
        findings.refuse(&kind, "\"algorithm\"", "");
    }
    findings.text(&metadata.key("name"), TextRule::line(4, 512));
    findings.text(&metadata.key("description"), DESCRIPTION);
    findings.text(&metadata.key("author"), LINE);
    findings.text(&metadata.key("license"), LINE);
    findings.optional_text(&metadata.key("copyrightHolder"), TextRule::line(0, 512));
    findings.optional_text(&metadata.key("contentLanguage"), TextRule::line(0, 256));
    findings.optional_texts(&metadata.key("tags"), LINE);
    findings.optional_texts(&metadata.key("categories"), LINE);
    findings.optional_texts(&metadata.key("links"), TextRule::line(1, 512));
    let algorithm = metadata.key("algorithm");
    if findings.object(&algorithm).is_none() {
        return;
    }
    findings.optional_text(&algorithm.key("language"), LINE);
    findings.optional_text(&algorithm.key("version"), LINE);
    check_container(findings, &algorithm.key("container"));
    parameters::check(findings, &algorithm.key("consumerParameters"));
}

fn check_container(findings: &mut Findings, container: &Place) {
    if findings.object(container).is_none() {
        return;
    }
    let entrypoint = TextRule::line(3, 256);
    findings.formed(&container.key("entrypoint"), entrypoint, forms::entrypoint);
    findings.formed(&container.key("image"), TextRule::line(0, 255), forms::image);
    findings.formed(&container.key("tag"), TextRule::line(0, 256), forms::tag);
    findings.formed(&container.key("checksum"), TextRule::line(0, 512), forms::digest);
}

fn check_service(findings: &mut Findings, service: &Place) {
    if findings.object(service).is_none() {
        return;
    }
    findings.text(&service.key("id"), LINE);
    let kind = service.key("type");
    let kind_text = kind.value.and_then(Value::as_str);
    if !matches!(kind_text, Some("access" | "compute")) {
        findings.refuse(&kind, "access or compute", "");
    }
    findings.optional_text(&service.key("name"), TextRule::line(4, 256));
    findings.optional_text(&service.key("description"), DESCRIPTION);
    check_files(findings, &service.key("files"));
    check_address(findings, &service.key("datatokenAddress"));
    findings.text(&service.key("serviceEndpoint"), TextRule::line(0, 2048));
    findings.whole(&service.key("timeout"), 0, "seconds of access; 0 is for ever");
    let compute = service.key("compute");
    if compute.is_there() || kind_text == Some("compute") {
        check_compute(findings, &compute);
    }
    check_credentials(findings, &service.key("credentials"));
    parameters::check(findings, &service.key("consumerParameters"));
}

/// The files in plain, as the publishing command encrypts them: exactly one, since the checksum
/// that owners trust is that of one.
fn check_files(findings: &mut Findings, files: &Place) {
    if findings.object(files).is_none() {
        return;
    }
    for file in findings.list(&files.key("files"), 1, 1) {
        if findings.object(&file).is_none() {
            continue;
        }
        for (key, allowed) in [("type", "url"), ("method", "GET")] {
            let place = file.key(key);
            if place.value.and_then(Value::as_str) != Some(allowed) {
                findings.refuse(&place, &format!("\"{allowed}\""), "");
            }
        }
        findings.formed(&file.key("url"), TextRule::line(0, MAX_URL), forms::url);
    }
}

fn check_compute(findings: &mut Findings, compute: &Place) {
    if findings.object(compute).is_none() {
        return;
    }
    findings.boolean(&compute.key("allowRawAlgorithm"));
    findings.boolean(&compute.key("allowNetworkAccess"));
    findings.optional_texts(&compute.key("publisherTrustedAlgorithmPublishers"), LINE);
    let trusted = compute.key("publisherTrustedAlgorithms");
    if !trusted.is_there() {
        return;
    }
    for entry in findings.list(&trusted, 0, 64) {
        if findings.object(&entry).is_none() {
            continue;
        }
        findings.text(&entry.key("did"), LINE);
        findings.text(&entry.key("filesChecksum"), TextRule::line(1, 1024));
        findings.text(&entry.key("containerSectionChecksum"), TextRule::line(1, 1024));
        findings.optional_text(&entry.key("serviceId"), TextRule::line(1, 1024));
    }
}

/// Who may and who may not, where it says so.
fn check_credentials(findings: &mut Findings, credentials: &Place) {
    if !credentials.is_there() || findings.object(credentials).is_none() {
        return;
    }
    for key in ["allow", "deny"] {
        let list = credentials.key(key);
        if !list.is_there() {
            continue;
        }
        for item in findings.list(&list, 0, 64) {
            if findings.object(&item).is_none() {
                continue;
            }
            findings.text(&item.key("type"), LINE);
            for value in findings.list(&item.key("values"), 1, 1024) {
                findings.text(&value, TextRule::line(1, 1024));
            }
        }
    }
}

/// What the publishing command reads beside the asset: the names of its tokens, and a price.
fn check_publishing(findings: &mut Findings, indexed: &Place) {
    if findings.object(indexed).is_none() {
        return;
    }
    findings.text(&indexed.key("nft").key("name"), LINE);
    findings.text(&indexed.key("nft").key("symbol"), LINE);
    let price = indexed.key("stats").item(0).key("prices").item(0).key("price");
    findings.formed(&price, TextRule::line(0, 78), forms::price);
}
