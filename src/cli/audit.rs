//! `audit`: what the gate of a job would say of weights; writes nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use tracing::info;

use super::UsageError;
use super::train::must_exist;
use crate::audit::MIN_HELD_OUT;
use crate::data::{Batches, Cond, LoadOptions, limits, load, scan};
use crate::job::flags::ParamFlags;
use crate::job::gate::{Gate, Level, Training};
use crate::job::params::Params;
use crate::job::prepare::asset_at;
use crate::model::weights::from_bytes;
use crate::ops::cancel::{self, Cancel};
use crate::ops::device::open;

/// Flags of `audit`.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    /// A generator.safetensors.
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// The folder, archive or picture that it was trained on.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// 100 or more pictures of the same kind that it was not trained on: also asks whether samples lie
    /// nearer to the training pictures than these do.
    #[arg(long, value_name = "PATH")]
    held_out: Option<PathBuf>,
    /// Prints one JSON object on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    params: ParamFlags,
}

pub(super) fn run(args: &AuditArgs, stop: Arc<AtomicBool>) -> Result<()> {
    let params = args.params.params()?;
    must_exist(&args.data)?;
    if let Some(path) = &args.held_out {
        must_exist(path)?;
    }
    let bytes = fs::read(&args.weights)
        .map_err(|error| UsageError(format!("{}: {error}", args.weights.display())))?;
    let opened = open(params.device)?;
    let (header, g) = from_bytes(&bytes, &opened.device)
        .map_err(|error| UsageError(format!("{}: {error}", args.weights.display())))?;
    let params = Params { resolution: Some(header.model.img_resolution), ..params };
    let options = params.load_options(opened.kind, limits::memory_limit());
    let pictures = |path: &Path, options: &LoadOptions| {
        let assets = [asset_at(path)];
        load(&assets, options, &scan(&assets, options, &stop)?, &stop)
    };
    let batches = Batches::new(pictures(&args.data, &options)?, params.seed);
    let (dataset, label_pool) = (batches.dataset(), batches.label_pool()?);
    let (asked, has) = (header.model.c_dim, dataset.label_dim());
    if asked != has {
        let message = format!(
            "expected pictures with labels of {asked} values, as these weights have, came {has}; \
             see --cond"
        );
        return Err(UsageError(message).into());
    }
    let unlabeled = LoadOptions { cond: Cond::Off, ..options };
    let held_out = args.held_out.as_ref().map(|path| pictures(path, &unlabeled)).transpose()?;
    if let Some(pictures) = &held_out
        && pictures.len() < MIN_HELD_OUT
    {
        let message = format!(
            "--held-out: expected {MIN_HELD_OUT} pictures or more, came {}; fewer cannot tell",
            pictures.len()
        );
        return Err(UsageError(message).into());
    }
    let training = Training {
        dataset,
        label_pool: label_pool.as_ref(),
        cur_nimg: header.cur_nimg,
        device: &opened.device,
    };
    let mut gate = Gate::new(Level::Report, params.seed);
    let cancel = Cancel { flag: Some(stop), deadline: None };
    let look = || {
        if let Some(held_out) = &held_out {
            let (looked_at, alike) = gate.hold_out(dataset, held_out)?;
            info!("{looked_at} pictures held out, of which {alike} look like pictures of --data");
        }
        gate.audit(&g, training)
    };
    let Some(finding) = cancel::unless_due(&cancel, look)? else {
        info!("stopped before the audit was done");
        return Ok(());
    };
    let text = if args.json { serde_json::to_string(&finding)? } else { finding.to_string() };
    writeln!(std::io::stdout().lock(), "{text}").context("stdout")
}
