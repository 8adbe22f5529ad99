//! The binary: prepares the process, runs the command, picks the exit code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use stylegan2_c2d::cli::{Cli, error_lines, exit_code};
use stylegan2_c2d::data::decoder;
use stylegan2_c2d::job::{log, sandbox, signals};
use stylegan2_c2d::ops::raise_allocator_thresholds;

/// More threads than this only wait for each other.
const MAX_THREADS: usize = 64;

fn main() -> ExitCode {
    let started = Instant::now();
    let cli = Cli::parse();
    sandbox::close(cli.launch());
    let threads = threads(cli.threads());
    set_variables(threads);
    let decoder_host = cli.reads_pictures().then(decoder::start).transpose();
    raise_allocator_thresholds();
    log::install(cli.log_stream());
    log::install_panic_hook(cli.log_stream());
    let _decoder_host = match decoder_host {
        Ok(host) => host,
        Err(error) => {
            tracing::error!("the process that decodes pictures cannot be started: {error}");
            return ExitCode::from(1);
        }
    };
    if let Err(error) = start_pool(threads) {
        tracing::error!("threads cannot be started: {error}");
        return ExitCode::from(1);
    }
    let stop = match signals::install(cli.second_interrupt()) {
        Ok(stop) => stop,
        Err(error) => {
            tracing::error!("the handler of stop signals cannot be installed: {error}");
            return ExitCode::from(1);
        }
    };
    // The hook has said where; a panic is our fault, and the shell's 101 is no code of ours.
    let Ok(result) = catch_unwind(AssertUnwindSafe(|| cli.run(stop, started))) else {
        return ExitCode::from(1);
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = exit_code(&error);
            for line in error_lines(&error) {
                if code == 0 {
                    tracing::info!("{line}");
                } else {
                    tracing::error!("{line}");
                }
            }
            ExitCode::from(code)
        }
    }
}

/// As many as were asked for, or as the machine or container allows.
fn threads(asked: Option<usize>) -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let default = allowed.min(num_cpus::get_physical()); // two threads of one core share its units
    asked.unwrap_or(default).clamp(1, MAX_THREADS)
}

/// Settings that libraries read from the environment: candle cuts its matrix products for as many
/// threads as the pool has, its own pool is off (its threads spin for work and take the cores from
/// ours), and errors carry no backtrace, which would end up in a public log.
#[expect(unsafe_code, reason = "set_var, while there is one thread only")]
fn set_variables(threads: usize) {
    // SAFETY: nothing has started a thread yet; reading the command line does not.
    unsafe {
        std::env::set_var("RAYON_NUM_THREADS", threads.to_string());
        std::env::set_var("CANDLE_NUM_THREADS", "1");
        std::env::remove_var("RUST_BACKTRACE");
        std::env::remove_var("RUST_LIB_BACKTRACE");
    }
}

/// Starts the one pool of threads.
///
/// This thread is one of them: what it shares out it also works at, and with one thread nothing is
/// handed over at all. Other threads may use the pool's help (`ops::cpu::share`), but must not wait
/// for it to do their work alone: with one thread it has none that would.
fn start_pool(threads: usize) -> Result<(), rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).use_current_thread().build_global()
}
