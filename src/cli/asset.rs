//! `asset`: algorithm.json with a publisher's own fields, ready for the publishing command.
//!
//! The JSON alone goes to stdout, and only if all of it is sound; findings and the checksums that
//! data sets' owners need go to stderr.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::UsageError;
use crate::job::asset::{Asset, Fields, MAX_BYTES, TEMPLATE, file_checksum, notes};

/// Flags of `asset`.
#[derive(Debug, clap::Args)]
pub(super) struct AssetArgs {
    #[command(flatten)]
    fields: Fields,
    /// Local copy of what the file's address serves, for its checksum.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Asset of your own to fill in, in place of the built-in one; the other flags replace its
    /// fields, and none of them is needed.
    #[arg(long, value_name = "PATH")]
    template: Option<PathBuf>,
}

pub(super) fn run(args: &AssetArgs) -> Result<()> {
    let template = match &args.template {
        Some(path) => read_template(path)?,
        None => TEMPLATE.to_owned(),
    };
    let asset = Asset::new(&template, &args.fields)?;
    let files_checksum = args.file.as_deref().map(checksum_of).transpose()?;
    for note in notes(asset.document()) {
        warn!("{note}");
    }
    info!("containerSectionChecksum: {}", asset.container_section_checksum());
    if let Some(checksum) = files_checksum {
        info!("filesChecksum: {checksum}");
    } else {
        info!(
            "filesChecksum: the SHA-256 of what the file's address serves; give a copy of it by \
             --file, or run: curl -fsSL URL | sha256sum"
        );
    }
    writeln!(std::io::stdout().lock(), "{}", asset.to_json()).context("stdout")
}

/// Reads a template, but not more of it than is allowed.
fn read_template(path: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_string(&mut text))
        .map_err(|error| UsageError(format!("--template: {}: {error}", path.display())))?;
    Ok(text)
}

fn checksum_of(path: &Path) -> Result<String, UsageError> {
    File::open(path)
        .and_then(file_checksum)
        .map_err(|error| UsageError(format!("--file: {}: {error}", path.display())))
}
