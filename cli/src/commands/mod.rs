//! The command line: one file for each subcommand that does more than call [`runtime`](crate::runtime).

mod completions;
mod control;
#[cfg(feature = "studio")]
mod demo;
mod following;
mod later;
mod man;
mod run;
mod service;
mod settings;
mod status;
#[cfg(feature = "studio")]
mod studio;
mod trial;
mod update;
mod view;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::StyledStr};

use studio_worker_core::text::plain;

use crate::{Error, config::ConfigFile, logging, network, runtimes::Runtime};

/// Takes jobs from a studio and runs them on this machine.
///
/// A worker registers with its studio once, waits until an operator approves, and then holds a session over which jobs
/// are offered to it.
#[derive(Debug, Parser)]
#[command(
    name = "studio-worker",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Example:\n  studio-worker register --api-base-url http://127.0.0.1:8700 --label 'my machine'\n  studio-worker run"
)]
pub struct Cli {
    /// Use this configuration instead of the one in the user's configuration directory.
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Drive the worker of `run` or `demo` with this async runtime.
    #[arg(long, global = true, value_name = "NAME", value_enum, default_value_t)]
    pub runtime: Runtime,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register if need be, then take jobs until a signal ends the program.
    ///
    /// The first SIGTERM or SIGINT lets the running job finish within ten minutes, a second one ends it at once, and a
    /// third one ends the program whatever it does.
    #[command(after_help = "Examples:\n  studio-worker run\n  studio-worker run --metrics 127.0.0.1:9184")]
    Run(run::Run),
    /// Show everything at once: a studio and a worker on this machine, one job of each kind, and the results as files.
    #[cfg(feature = "studio")]
    #[command(
        after_help = "Examples:\n  studio-worker demo --out ./demo\n  studio-worker demo --engine gradio"
    )]
    Demo(demo::Demo),
    /// Serve a studio of your own: it registers workers, queues jobs, and keeps their results.
    #[cfg(feature = "studio")]
    #[command(after_help = studio::EXAMPLES)]
    Studio(studio::Studio),
    /// Run one job on the configured engine, without a studio, and keep the result: to see that the engine works.
    #[command(
        after_help = "Examples:\n  studio-worker try image --param prompt='a red fox' --param width=768 --out fox.png\n  studio-worker try llm --param prompt='Why is the sky blue?'\n  studio-worker try audio_stt --param input_url=speech.wav"
    )]
    Try(trial::Try),
    /// Show what this machine can serve now, and how to get what is missing for more.
    #[command(after_help = "Example:\n  studio-worker engines --json")]
    Engines(trial::Engines),
    /// Store what the next registration is to say, without using the network.
    #[command(
        after_help = "Example:\n  studio-worker register --api-base-url https://studio.example --label 'my machine'"
    )]
    Register(settings::Register),
    /// Show where the configuration is, what it says, and how the worker is that runs with it.
    #[command(after_help = status::EXAMPLES)]
    Status(status::Status),
    /// Have the running worker take no more jobs, until `resume` or a restart; the running job is finished.
    #[command(after_help = "Example:\n  studio-worker pause --after-current")]
    Pause(control::Pause),
    /// Have the running worker take jobs again.
    #[command(after_help = "Example:\n  studio-worker resume")]
    Resume,
    /// Have the running worker finish what it has and end, as the first SIGTERM does; waits until it has.
    #[command(after_help = "Example:\n  studio-worker drain")]
    Drain(control::End),
    /// End the running worker at once: a running job is given back to the studio; waits until it has ended.
    #[command(after_help = "Example:\n  studio-worker stop")]
    Stop(control::End),
    /// Print what the running worker logged last.
    #[command(after_help = "Example:\n  studio-worker logs -f -n 50")]
    Logs(control::Logs),
    /// Print the whole configuration as TOML, with credentials masked.
    #[command(after_help = "Example:\n  studio-worker config")]
    Config,
    /// Want jobs from now on.
    #[command(after_help = "Example:\n  studio-worker enable")]
    Enable,
    /// Want no more jobs; a running one is finished.
    #[command(after_help = "Example:\n  studio-worker disable")]
    Disable,
    /// Set the largest job that is taken, by the studio's estimate of GPU memory.
    #[command(after_help = "Example:\n  studio-worker set-threshold 12.5")]
    SetThreshold(settings::SetThreshold),
    /// Look for a newer version, and install it if that is wanted.
    #[command(after_help = "Examples:\n  studio-worker check-update\n  studio-worker check-update --install")]
    CheckUpdate(update::CheckUpdate),
    /// Go back to the version before the last update.
    ///
    /// A worker that runs goes back once it is free. The version that is left is not installed by itself again.
    #[command(after_help = "Example:\n  studio-worker rollback")]
    Rollback,
    /// Start the worker with the machine and keep it up, by this system's service manager; a second time, replace that.
    #[command(
        after_help = "Examples:\n  studio-worker install-service\n  sudo studio-worker install-service --system\n  studio-worker install-service --print"
    )]
    InstallService(service::InstallService),
    /// Finish the running job, then no longer start the worker with the machine.
    #[command(after_help = "Example:\n  studio-worker uninstall-service")]
    UninstallService(service::UninstallService),
    /// Open the window (not in this version yet).
    #[command(after_help = "Example:\n  studio-worker ui")]
    Ui,
    /// Print a script that completes this program's arguments in a shell.
    #[command(after_help = "Example:\n  studio-worker completions bash")]
    Completions(completions::Completions),
    /// Print the manual page of the program or of one of its subcommands.
    #[command(after_help = "Example:\n  studio-worker man run")]
    Man(man::Man),
}

/// The command line, for parsing, help and the manual. Its texts end with the full stop that was taken off them on their
/// way from the comments above.
pub fn command() -> clap::Command {
    fn sentence(text: Option<&StyledStr>) -> StyledStr {
        let text = text.map(ToString::to_string).unwrap_or_default();
        if text.is_empty() || text.ends_with('.') { text.into() } else { format!("{text}.").into() }
    }
    fn sentences(command: clap::Command) -> clap::Command {
        let about = sentence(command.get_about());
        command
            .about(about)
            .mut_args(|arg| {
                let help = sentence(arg.get_help());
                arg.help(help)
            })
            .mut_subcommands(sentences)
    }
    sentences(Cli::command())
}

/// Runs the program: reads `args`, does what they say, and gives the exit code (section 8).
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    logging::init();
    network::learn();
    let cli = command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match cli {
        Ok(cli) => cli,
        Err(usage) => {
            // Nobody may be there to read it, which changes nothing.
            let _ = usage.print();
            return u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let outcome = execute(cli, &mut io::stdout().lock());
    log::logger().flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(Error::Said(code)) => ExitCode::from(code),
        Err(error) => {
            let line = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(io::stderr(), "error: {}", plain(logging::scrub(line)));
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line says; results go to `out`.
pub fn execute(cli: Cli, out: &mut dyn Write) -> Result<(), Error> {
    let file = || ConfigFile::locate(cli.config.as_deref());
    match cli.command {
        Command::Run(run) => run.run(&file()?, cli.runtime)?,
        #[cfg(feature = "studio")]
        Command::Demo(demo) => demo.run(file, cli.runtime, out)?,
        #[cfg(feature = "studio")]
        Command::Studio(studio) => studio.run(out)?,
        Command::Try(it) => it.run(&file()?, cli.runtime.configured(&file()?)?, out)?,
        Command::Engines(engines) => engines.run(&file()?, cli.runtime.configured(&file()?)?, out)?,
        Command::Register(register) => register.run(&file()?, out)?,
        Command::Status(status) => status.run(&file()?, out)?,
        Command::Pause(pause) => pause.run(&file()?, out)?,
        Command::Resume => control::resume(&file()?, out)?,
        Command::Drain(end) => end.drain(&file()?, out)?,
        Command::Stop(end) => end.stop(&file()?, out)?,
        Command::Logs(logs) => logs.run(&file()?, out)?,
        Command::Config => settings::show(&file()?, out)?,
        Command::Enable => settings::set_enabled(&file()?, true, out)?,
        Command::Disable => settings::set_enabled(&file()?, false, out)?,
        Command::SetThreshold(threshold) => threshold.run(&file()?, out)?,
        Command::CheckUpdate(check) => check.run(&file()?, cli.runtime.configured(&file()?)?, out)?,
        Command::Rollback => update::roll_back(&file()?, out)?,
        Command::InstallService(it) => it.run(cli.config.as_deref(), cli.runtime, out)?,
        Command::UninstallService(it) => it.run(out)?,
        Command::Ui => return Err(later::ui()),
        Command::Completions(completions) => completions.run(command(), out)?,
        Command::Man(man) => man.run(command(), out)?,
    }
    out.flush()?;
    Ok(())
}
