//! The Ocean job: everything on `/data`, from inputs to outputs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Result, bail};
use tracing::info;

use super::consent::{read_allowed, within};
use super::inputs;
use super::outputs::Outputs;
use super::params::Params;
use super::policy::Policy;
use super::prepare::{Start, announce, prepare};
use super::problem::{ParamsError, Problem};
use super::resume;
use super::run::{Ended, Run};
use super::sandbox::{self, Launch};
use super::statistics::Audience;
use super::table::StateKind;
use crate::data::{KeepNames, limits};

/// A job ends without weights. The command line turns this into exit code 3.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "held back: samples are near-copies of the pictures, or too near to them as a whole, so no \
     trained weights leave; ask for fewer kimg, leave aug at ada, or train on more pictures"
)]
pub struct Withheld;

/// Runs the job on `root`, `/data` in the container.
///
/// * `publisher` - limits for every asset, see [`super::policy`].
///
/// # Errors
/// Fails if parameters or data are refused, if outputs cannot be written, or by a fault of ours.
pub fn run(
    root: &Path,
    publisher: Policy,
    launch: Launch,
    (stop, started): (Arc<AtomicBool>, Instant),
) -> Result<()> {
    sandbox::report(root, launch);
    let params = Params::from_json(inputs::parameters(root)?.as_deref())?;
    if params.state == StateKind::Plain {
        return Err(ParamsError::Refused(vec![Problem::PlainState]).into());
    }
    let device = announce(&params)?;
    let mut outputs = Outputs::open(root)?;
    let dids = std::env::var("DIDS").ok();
    let mut assets = inputs::discover(root, dids.as_deref())?;
    let source = resume::take(&mut assets)?;
    let options = params.load_options(device.kind, limits::memory_limit());
    let (dataset, limits) = read_allowed(assets, &options, publisher, &stop)?;
    for line in dataset.report().coarse().to_string().lines() {
        info!("{line}");
    }
    let params = within(&limits, params, source.as_ref())?;
    if limits.policy.samples_only {
        outputs.refuse_weights();
    }
    let start = Start {
        params,
        device,
        stop,
        started,
        source,
        class_names: KeepNames::No,
        gate: limits.policy.gate,
        audience: Audience::Public,
    };
    let mut run = prepare(dataset, outputs, start)?;
    while run.advance()?.is_some() {}
    finish(run)
}

/// Writes the last outputs and says why the run is over.
///
/// # Errors
/// Fails if an output cannot be written, or if the training was lost.
pub fn finish(run: Run) -> Result<()> {
    let kimg = run.cur_nimg() as f64 / 1000.0;
    match run.finish()? {
        Ended::Done => info!("done: {kimg:.3} kimg"),
        Ended::TimeLimit => info!("time is up: ended after {kimg:.3} kimg"),
        Ended::Stopped => info!("stopped by a signal after {kimg:.3} kimg"),
        Ended::Lost => bail!(
            "lost after {kimg:.3} kimg: losses stay not finite, also at an eighth of the learning \
             rates; the outputs are of the last good networks; try precision f32, a higher gamma or \
             lower learning rates"
        ),
        Ended::Withheld { has_weights: true } => info!(
            "ended after {kimg:.3} kimg: samples have come too near to the pictures; the weights are the \
             last that had not"
        ),
        Ended::Withheld { has_weights: false } => return Err(Withheld.into()),
    }
    Ok(())
}
