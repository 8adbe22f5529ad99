//! `explore`: a page that shows in a browser what a generator can make.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::UsageError;
use super::pictures::PictureArgs;
use crate::explore::{Explorer, Start};

/// Programs that open an address as a person's desktop would.
const OPENERS: [&str; 2] = ["xdg-open", "open"];

/// Flags of `explore`; --trunc, --class and --noise-mode say where the page starts.
#[derive(Debug, clap::Args)]
pub(super) struct ExploreArgs {
    #[command(flatten)]
    pictures: PictureArgs,
    /// Port of the page on 127.0.0.1; 0: any that is free. Favourites belong to a port.
    #[arg(long, value_name = "N", default_value_t = 8585)]
    port: u16,
    /// Also opens the page in the browser.
    #[arg(long)]
    open: bool,
}

pub(super) fn run(args: &ExploreArgs, stop: Arc<AtomicBool>) -> Result<()> {
    let explorer = Explorer::bind(args.port).map_err(|error| {
        let port = args.port;
        UsageError(format!("--port {port}: {error}; give another one, or 0 for any that is free"))
    })?;
    let studio = args.pictures.open_for_any_class(true)?;
    let recipe = studio.recipe_of_seed(0);
    let start = Start {
        weights: args.pictures.weights_path().display().to_string(),
        trunc: recipe.trunc,
        class: recipe.class,
        noise_mode: recipe.noise_mode,
        has_provenance: studio.has_provenance,
    };
    let url = explorer.url();
    writeln!(std::io::stdout(), "{url}").context("stdout")?;
    info!("the page is open at {url} for this machine alone; Ctrl-C ends it");
    if args.open {
        open(&url);
    }
    explorer.serve(&studio.maker.model, &start, stop)
}

/// Opens the address, where there is a desktop.
fn open(url: &str) {
    let opens = |program: &&str| {
        let mut command = Command::new(program);
        command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().is_ok()
    };
    if !OPENERS.iter().any(opens) {
        warn!("no browser is found; open {url} yourself");
    }
}
