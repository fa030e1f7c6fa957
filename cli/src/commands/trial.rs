//! `studio-worker try` and `studio-worker engines`.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use serde_json::json;
use studio_worker_core::{
    engine::{Engine, Models, Output},
    machine::Transfer,
    text::{plain, plain_json},
    wire::TaskKind,
};

use crate::{
    Error,
    config::{Config, ConfigFile},
    engines::{self, Pace},
    runtimes::Runtime,
    trial::{self, Wanted},
};

/// The arguments of `try`.
#[derive(Debug, Args)]
pub struct Try {
    /// What to make: image, llm, `audio_stt`, `audio_tts`, video or mesh.
    #[arg(value_parser = kind)]
    kind: TaskKind,
    /// The model; without it, the first that is served for the kind.
    #[arg(long)]
    model: Option<String>,
    /// A parameter of the task, by the names of an offer; an input may be a file. May be given several times.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = trial::parameter)]
    parameters: Vec<(String, String)>,
    /// A file with the `modelSource` of an offer, as JSON: where the files of the model come from.
    #[arg(long, value_name = "FILE")]
    model_source: Option<PathBuf>,
    /// Write the result to this file, instead of a new one in the current folder; a text is printed without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Use this engine instead of the configuration's.
    #[arg(long, value_name = "NAME")]
    engine: Option<String>,
}

fn kind(text: &str) -> Result<TaskKind, String> {
    TaskKind::parse(text).ok_or_else(|| {
        let kinds: Vec<_> = TaskKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("it must be one of {}", kinds.join(", "))
    })
}

impl Try {
    pub(super) fn run(self, file: &ConfigFile, on: Runtime, out: &mut dyn Write) -> Result<(), Error> {
        let (engine, config) = self::engine(file, self.engine.as_deref(), on)?;
        let source = self.model_source.as_deref().map(trial::model_source).transpose()?;
        let wanted = Wanted { model: self.model, source, parameters: self.parameters.into_iter().collect() };
        let claim = trial::claim(&*engine, self.kind, wanted)?;
        let limit = Duration::from_secs(config.job_limit_secs.into());
        let tried = trial::run(&*engine, claim, limit, on, |transfer| show(&transfer))?;
        let seconds = tried.took.as_secs_f64();
        if let (Output::Json(value), None) = (&tried.output, &self.out) {
            match trial::text_of(value) {
                Some(text) => writeln!(out, "{}", lines(text))?,
                None => writeln!(out, "{}", plain_json(format!("{value:#}")))?,
            }
            let _ = writeln!(io::stderr(), "{} took {seconds:.1} s", tried.model);
            return Ok(());
        }
        let model = tried.model;
        let (path, bytes) = trial::save(tried.output, self.kind, self.out)?;
        Ok(writeln!(out, "{}: {bytes} bytes by {model} in {seconds:.1} s", path.display())?)
    }
}

/// The engine of a configuration, or the one of that name, with what it can serve now.
pub(super) fn engine(
    file: &ConfigFile,
    name: Option<&str>,
    on: Runtime,
) -> Result<(Arc<dyn Engine>, Config), Error> {
    let mut config = file.load_or_create()?;
    if let Some(name) = name {
        engines::check_name(name).map_err(|problem| Error::Argument(format!("--engine: {problem}")))?;
        name.clone_into(&mut config.engine);
        config.engines.clear();
    }
    let engines = engines::build(&config, &Pace::of(&config))
        .map_err(|problem| Error::Engine { path: file.path().to_owned(), problem })?;
    let (engine, _) = on.block_on(engines.survey(on))?;
    Ok((engine, config))
}

/// A text that a model made, for a terminal: as it is but for what would steer that. With `--out` it is kept as it came.
fn lines(text: &str) -> String {
    text.split('\n')
        .map(|line| line.split('\t').map(|part| plain(part.to_owned())).collect::<Vec<_>>().join("\t"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Shows a person how far a download is.
fn show(transfer: &Transfer) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let of = transfer.total.map(|total| format!(" of {}", mib(total))).unwrap_or_default();
        let line = format!("{}: {}{of} MiB", transfer.name, mib(transfer.done));
        let _ = write!(stderr, "\r{line:<78}");
        if transfer.total.is_some_and(|total| transfer.done >= total) {
            let _ = writeln!(stderr);
        }
    }
}

/// The arguments of `engines`.
#[derive(Debug, Args)]
pub struct Engines {
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

impl Engines {
    pub(super) fn run(self, file: &ConfigFile, on: Runtime, out: &mut dyn Write) -> Result<(), Error> {
        let config = file.load_or_create()?;
        let engines = engines::build(&config, &Pace::of(&config))
            .map_err(|problem| Error::Engine { path: file.path().to_owned(), problem })?;
        let (_, found) = on.block_on(engines.survey(on))?;
        if self.json {
            let services = found.services.iter().map(|service| {
                let models = match &service.models {
                    Models::Listed(models) => json!(models),
                    Models::Sourced => json!(null),
                };
                json!({ "engine": service.engine, "kind": service.kind.name(), "models": models })
            });
            let missing = found
                .missing
                .iter()
                .map(|missing| json!({ "engine": missing.engine, "what": missing.what, "how": missing.how }));
            let found =
                json!({ "services": services.collect::<Vec<_>>(), "missing": missing.collect::<Vec<_>>() });
            return Ok(writeln!(out, "{}", plain_json(format!("{found:#}")))?);
        }
        let mut table = format!("{:<10}  {:<9}  models\n", "engine", "kind");
        for service in &found.services {
            let models = match &service.models {
                Models::Listed(models) => models.join(", "),
                Models::Sourced => "those whose offers say where their files are".into(),
            };
            // Writing to a text can't fail.
            let _ = writeln!(table, "{:<10}  {:<9}  {models}", service.engine, service.kind.name());
        }
        if found.services.is_empty() {
            table.push_str("nothing can be served\n");
        }
        if !found.missing.is_empty() {
            table.push_str("\nmissing\n");
        }
        for missing in &found.missing {
            let _ = writeln!(table, "{:<10}  {}: {}", missing.engine, missing.what, missing.how);
        }
        Ok(write!(out, "{table}")?)
    }
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn what_a_model_says_steers_no_terminal_and_keeps_its_lines() {
        assert_eq!(lines("a\n\n\tb ä\n"), "a\n\n\tb ä\n");
        assert_eq!(lines("a\u{1b}[2J\r\nb\u{202e}"), "a [2J \nb ");
    }
}
