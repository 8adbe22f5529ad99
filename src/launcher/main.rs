//! Process 1 of the image: runs the job with nothing of the buyer's around it.
//!
//! Whoever starts a job sets its environment. So this program is linked statically, which leaves no
//! dynamic loader to be told anything; it starts the program that lies beside it with variables of
//! its own choice, with limits, and confined to the job's folders ([`files`]) and to harmless system
//! calls ([`calls`]). Then it passes on stop signals and those lines that are of the log's form
//! ([`relay`]), and ends as the program ends. What the confinement is worth is not stated here: the
//! program tries, and says so (`job::sandbox`).
//!
//! Commands for home are not confined: the program takes this one's place, with the same variables.

mod arguments;
mod calls;
mod environment;
mod files;
#[path = "../job/grammar.rs"]
mod grammar;
#[path = "../job/launched.rs"]
mod launched;
mod limits;
mod lines;
mod relay;
mod worker;

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use files::Folders;
use relay::Relay;
use worker::{End, Worker};

/// The program, in the folder of this one; no argument and no variable names another.
const PROGRAM: &str = "stylegan2-c2d";

fn main() -> ExitCode {
    limits::close_to_others();
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let done = program().and_then(|program| match arguments::root_of_job(&arguments) {
        Some(root) => run_job(&program, &root, &arguments),
        None => Err(in_place(&program, &arguments)),
    });
    done.unwrap_or_else(|error| {
        relay::say_last(&format!("ERROR the launcher cannot start the program: {}", error.kind()));
        ExitCode::from(1)
    })
}

/// The program beside this one, as the kernel knows it.
fn program() -> io::Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name(PROGRAM))
}

/// A command for home, in place of this program; returns only where that fails.
fn in_place(program: &Path, arguments: &[OsString]) -> io::Error {
    let (variables, _) = environment::kept(env::var_os);
    Command::new(program).args(arguments).env_clear().envs(variables).exec()
}

/// The job, confined.
fn run_job(program: &Path, root: &Path, arguments: &[OsString]) -> io::Result<ExitCode> {
    let (variables, refused) = environment::kept(env::var_os);
    limits::bound_files();
    let folders = Folders::prepare(root);
    let mut command = Command::new(program);
    command.arg(format!("--{}", launched::NAME)).args(arguments).env_clear().envs(variables);
    let (worker, pipes) = Worker::start(command, program, &folders)?;
    let relay = Relay::start(pipes)?;
    for name in refused {
        relay.say(&format!(
            "WARN the variable {name} is left out: it is long, or odd for such a value"
        ));
    }
    let end = worker.wait()?;
    folders.clean_up();
    relay.finish(match end {
        End::Code(_) => None,
        End::Stopped => Some("stopped by a signal before it began".to_owned()),
        End::Killed(signal) => Some(format!(
            "ERROR killed by signal {signal}{}; the files written so far are whole",
            if signal == 9 { ", most likely for lack of memory" } else { "" }
        )),
    });
    Ok(ExitCode::from(end.code()))
}
