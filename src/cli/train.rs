//! `train`: the job's training at home, on any folder or archive.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::UsageError;
use crate::data::KeepNames;
use crate::job::flags::ParamFlags;
use crate::job::gate::Level;
use crate::job::ocean::finish;
use crate::job::outputs::Outputs;
use crate::job::prepare::{Start, announce, asset_at, prepare, read};
use crate::job::resume::{self, Source};
use crate::job::run::Run;
use crate::job::statistics::Audience;

/// Flags of `train`.
#[derive(Debug, clap::Args)]
pub(super) struct TrainArgs {
    /// Folder, archive or picture to train on.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Folder that receives weights and samples; made where missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A state.safetensors of the same pictures to continue, or a generator.safetensors to start from.
    #[arg(long, value_name = "PATH")]
    resume: Option<PathBuf>,
    /// Keeps names of classes in the header of the weights: of folders, or those in dataset.json.
    #[arg(long)]
    class_names: bool,
    #[command(flatten)]
    params: ParamFlags,
}

pub(super) fn run(args: &TrainArgs, stop: Arc<AtomicBool>, started: Instant) -> Result<()> {
    let params = args.params.params()?;
    must_exist(&args.data)?;
    let source = args.resume.as_deref().map(resume_from).transpose()?;
    let device = announce(&params)?;
    let outputs = Outputs::open_folder(&args.out)?;
    must_not_hold(&args.data, &args.out)?;
    let class_names = if args.class_names { KeepNames::Yes } else { KeepNames::No };
    let (gate, audience) = (Level::Report, Audience::Home);
    let start = Start { params, device, stop, started, source, class_names, gate, audience };
    let dataset = read(&[asset_at(&args.data)], &start)?;
    follow(prepare(dataset, outputs, start)?)?;
    Ok(())
}

/// The file to continue from.
fn resume_from(path: &Path) -> Result<Source> {
    must_exist(path)?;
    Ok(resume::at(path)?)
}

/// Refuses a path that is not there.
pub(super) fn must_exist(path: &Path) -> Result<(), UsageError> {
    if path.exists() {
        return Ok(());
    }
    Err(UsageError(format!("{}: no such file or folder", path.display())))
}

/// Refuses outputs inside the data: the next training would learn from its own samples.
fn must_not_hold(data: &Path, out: &Path) -> Result<(), UsageError> {
    let is_inside = match (data.canonicalize(), out.canonicalize()) {
        (Ok(data), Ok(out)) => out.starts_with(data),
        _ => false,
    };
    if is_inside {
        return Err(UsageError("--out: expected a folder that is not inside --data".to_owned()));
    }
    Ok(())
}

/// Runs to the end, with a bar where somebody watches; says how many images it has shown.
pub(super) fn follow(mut run: Run) -> Result<u64> {
    let bar = progress_bar();
    while let Some(progress) = run.advance()? {
        bar.set_length(progress.total_nimg);
        bar.set_position(progress.cur_nimg);
    }
    bar.finish_and_clear();
    let cur_nimg = run.cur_nimg();
    finish(run)?;
    Ok(cur_nimg)
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(4));
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} images, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
