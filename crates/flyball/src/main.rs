//! The command `flyball`: parses the arguments and runs one command.
#![allow(clippy::disallowed_methods, reason = "the binary is where clocks, files and the environment enter")]

mod admission;
mod allocator;
mod cli;
mod cmd;
mod log;
mod output;
mod place;
mod runtimes;
mod world;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::{Cli, Command, VpaCommand};

/// Threads of the asynchronous runtime: its work is mostly waiting, and the pods need the processors.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    raise_open_files();
    let cli = Cli::parse_from(arguments());
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// Raises the soft limit of open files: shells often set 1024 where the system allows far more, and each connection takes
/// at least one. If that fails, fewer connections are served at once.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Returns the command line, with hey's single-dash flags of `flyball load` in the form that clap parses.
fn arguments() -> Vec<String> {
    let mut given = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let mut words: Vec<String> = given.by_ref().take(2).collect();
    match words.get(1).is_some_and(|command| command == "load") {
        true => words.extend(flyball_load::normalize_args(given)),
        false => words.extend(given),
    }
    words
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::ContainerInit { arguments } => {
            let error = flyball_local::container_init(arguments);
            anyhow::bail!(error)
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "flyball", &mut script);
            output::line(String::from_utf8_lossy(&script).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::FollowLog { file } => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(cmd::follow_log::run(&file)).map(|()| ExitCode::SUCCESS)
        }
        Command::Kubeconfig(options) => cmd::kubeconfig::run(options).map(|()| ExitCode::SUCCESS),
        Command::Vpa(vpa) => {
            let VpaCommand::Simulate(options) = vpa.command;
            cmd::vpa::run(*options).map(|()| ExitCode::SUCCESS)
        }
        Command::Simulate(options) => cmd::simulate::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Train(options) => cmd::train::run(options).map(|()| ExitCode::SUCCESS),
        Command::Load(options) => Ok(flyball_load::execute(&options)),
        Command::Serve(options) => cmd::serve::run(options).map(|()| ExitCode::SUCCESS),
        Command::Up(options) => world_runtime()?.block_on(cmd::up::run(options)).map(|()| ExitCode::SUCCESS),
        Command::Demo(options) => world_runtime()?.block_on(cmd::demo::run(options)),
        Command::Check(options) => Ok(runtime()?.block_on(cmd::check::run(options))),
        Command::Query(options) => runtime()?.block_on(cmd::query::run(options)).map(|()| ExitCode::SUCCESS),
        Command::Version(options) => cmd::version::run(&options).map(|()| ExitCode::SUCCESS),
        Command::Why(options) => runtime()?.block_on(cmd::why::run(options)).map(|()| ExitCode::SUCCESS),
    }
}

/// Creates the runtime of a world, which lives for days.
fn world_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    allocator::reexec_with_settings();
    runtime()
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build()
}
