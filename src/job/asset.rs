//! The asset that publishes this program: algorithm.json with a publisher's own fields in it.
//!
//! The template is the repository's own algorithm.json, in the shape that the publishing command
//! reads: files in plain, addresses still empty. What is filled in is judged together with all
//! the rest ([`check()`]), since the stacks' own validator names no field, and a part of what
//! breaks a job is no matter of its schema at all.
//!
//! Not here: publishing itself, which needs keys and a network.

mod check;
mod forms;
mod parameters;
mod place;
mod trust;

use std::fmt;

use serde_json::{Map, Value};

pub use check::{check, notes};
pub use trust::{container_section_checksum, file_checksum};

/// The repository's algorithm.json.
pub const TEMPLATE: &str = include_str!("../../algorithm.json");

/// Most bytes of a template.
pub const MAX_BYTES: usize = 1 << 20;
/// Most findings that are listed.
const MAX_LISTED: usize = 40;

/// What a publisher fills in, as it was written, and the flags for it; what is absent stays as the
/// template has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Fields {
    /// Name of the image, without tag and digest.
    #[arg(long, value_name = "NAME", required_unless_present = "template")]
    pub image: Option<String>,
    /// Tag of the image.
    #[arg(long, required_unless_present = "template")]
    pub tag: Option<String>,
    /// Digest of the pushed image, such as sha256:8221..
    #[arg(long, required_unless_present = "template")]
    pub digest: Option<String>,
    /// Number of the chain to publish on.
    #[arg(long, value_name = "N", required_unless_present = "template")]
    #[arg(allow_negative_numbers = true)] // refused later, with all the rest
    pub chain_id: Option<String>,
    /// Address of the asset's one file, which must stay as it is: pin it to a commit.
    #[arg(long, value_name = "URL", required_unless_present = "template")]
    pub file_url: Option<String>,
    /// Title of the asset.
    #[arg(long)]
    pub name: Option<String>,
    /// Description of the asset.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Who publishes it.
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
    /// Licence of the program.
    #[arg(long)]
    pub license: Option<String>,
    /// Address of the source.
    #[arg(long, value_name = "URL")]
    pub link: Option<String>,
    /// Version of the asset's schema: 4.1.0, 4.3.0, 4.5.0 or 4.7.0.
    #[arg(long, value_name = "VERSION")]
    pub ddo_version: Option<String>,
}

/// One thing that is to be said of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The way to the field, such as `services[0].files.files[0].url`.
    pub path: String,
    /// What was expected, what came, the cure.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Why an asset was refused. The command line turns this into exit code 2.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum AssetError {
    #[error("{}", self.lines().join("; "))]
    Refused(Vec<Finding>),
    #[error(
        "template: expected a JSON object such as the repository's algorithm.json, came text that \
         is not JSON (or nested too deep) at line {line}, column {column}"
    )]
    NotJson { line: usize, column: usize },
    #[error("template: expected at most {limit} bytes, came more")]
    TooLarge { limit: usize },
}

impl AssetError {
    /// The message in lines, one per field.
    pub fn lines(&self) -> Vec<String> {
        let Self::Refused(findings) = self else { return vec![self.to_string()] };
        let mut lines: Vec<String> =
            findings.iter().take(MAX_LISTED).map(ToString::to_string).collect();
        if findings.len() > MAX_LISTED {
            lines.push(format!("and {} more", findings.len() - MAX_LISTED));
        }
        lines
    }
}

/// An asset that is ready to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Asset {
    document: Value,
}

impl Asset {
    /// Fills `fields` into `template` and judges the whole.
    ///
    /// # Errors
    /// Lists every field that is not allowed; fails if the template is no JSON.
    pub fn new(template: &str, fields: &Fields) -> Result<Self, AssetError> {
        if template.len() > MAX_BYTES {
            return Err(AssetError::TooLarge { limit: MAX_BYTES });
        }
        let mut document = serde_json::from_str(template)
            .map_err(|error| AssetError::NotJson { line: error.line(), column: error.column() })?;
        fill(&mut document, fields);
        let findings = check(&document);
        if findings.is_empty() { Ok(Self { document }) } else { Err(AssetError::Refused(findings)) }
    }

    /// The asset.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The asset as the publishing command reads it, in the layout of the template.
    pub fn to_json(&self) -> String {
        format!("{:#}", self.document)
    }

    /// `containerSectionChecksum` of a data set's list of trusted algorithms.
    pub fn container_section_checksum(&self) -> String {
        let text = |key: &str| {
            let pointer = format!("/metadata/algorithm/container/{key}");
            self.document.pointer(&pointer).and_then(Value::as_str).unwrap_or_default()
        };
        container_section_checksum(text("entrypoint"), text("checksum"))
    }
}

/// Puts `fields` where they belong. Where their place is missing they are left out, which
/// [`check`] then says of that place.
fn fill(document: &mut Value, fields: &Fields) {
    let text = |text: &Option<String>| text.clone().map(Value::from);
    // What is no number stays text, to be refused with all the rest.
    let chain_id = fields
        .chain_id
        .as_ref()
        .map(|text| text.parse::<u64>().map_or_else(|_| Value::from(text.as_str()), Value::from));
    let entries = [
        ("", "version", text(&fields.ddo_version)),
        ("", "chainId", chain_id),
        ("/metadata", "name", text(&fields.name)),
        ("/metadata", "description", text(&fields.description)),
        ("/metadata", "author", text(&fields.author)),
        ("/metadata", "license", text(&fields.license)),
        ("/metadata", "links", fields.link.clone().map(|link| Value::from(vec![link]))),
        ("/metadata/algorithm/container", "image", text(&fields.image)),
        ("/metadata/algorithm/container", "tag", text(&fields.tag)),
        ("/metadata/algorithm/container", "checksum", text(&fields.digest)),
        ("/services/0/files/files/0", "url", text(&fields.file_url)),
    ];
    for (pointer, key, value) in entries {
        let Some(value) = value else { continue };
        if let Some(object) = document.pointer_mut(pointer).and_then(Value::as_object_mut) {
            insert(object, key, value);
        }
    }
}

/// Replaces a value in its place, or appends it.
fn insert(object: &mut Map<String, Value>, key: &str, value: Value) {
    match object.get_mut(key) {
        Some(place) => *place = value,
        None => {
            object.insert(key.to_owned(), value);
        }
    }
}
