//! `demo`: a studio and a worker in this process, one job of each kind, and what came of it as files.
//!
//! Nothing in here is a short cut: the worker registers over HTTP, is approved by the HTTP API as a person would do
//! it, holds its session over a WebSocket, and delivers as any worker does. Only the configuration and the studio's
//! data lie in a temporary directory, which is gone in the end.

mod page;
mod programme;
mod progress;
mod stage;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use studio_worker_core::{
    engine::{Engine, synthetic::Synthetic},
    time::Wall,
    wire::address::segment,
};

use crate::{
    runtimes::Runtime,
    studio::{Client, ClientError, RunError, StartError},
    trial,
};
use programme::{Piece, programme};
use progress::Progress;
use stage::Stage;

/// How long the whole may take with made-up results before it is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at the jobs.
const LOOK: Duration = Duration::from_millis(40);

/// Why there is no demo, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The folder for the results can't be used.
    #[error("the folder {} can't be used: {source}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something in it.
    #[error("the folder {} is not empty: name a new one with --out", .0.display())]
    NotEmpty(PathBuf),
    /// The studio did not start.
    #[error("the demo's studio did not start: {0}")]
    Studio(#[from] StartError),
    /// The studio did not end well.
    #[error("the demo's studio did not end well: {0}")]
    StudioEnded(#[from] RunError),
    /// The worker did not start.
    #[error("the demo's worker did not start: {0}")]
    Worker(String),
    /// The worker ended too early.
    #[error("the demo's worker ended: {0}")]
    WorkerEnded(String),
    /// The studio was asked for something and did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An answer of the studio lacks something.
    #[error("the studio's answer lacks {0}")]
    Lacks(&'static str),
    /// A job was not delivered.
    #[error("the {kind} job was not delivered: {reason}")]
    NotDelivered {
        /// Which.
        kind: &'static str,
        /// Why.
        reason: String,
    },
    /// It took too long.
    #[error("{what} within {} s", patience.as_secs())]
    TooSlow {
        /// What did not happen.
        what: &'static str,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The engine lists nothing that could be played.
    #[error(
        "the engine {0} serves nothing by itself here: see `studio-worker engines`, and `studio-worker try` for a model whose files an offer names"
    )]
    NothingToPlay(String),
    /// A signal came.
    #[error("the demo was interrupted")]
    Interrupted,
    /// A result or the page could not be written, or nothing could be said.
    #[error("the demo can't write: {0}")]
    Io(#[from] io::Error),
}

/// What was delivered for one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The job's kind.
    pub kind: &'static str,
    /// Its model.
    pub model: String,
    /// From its accept to its delivery.
    pub took: Duration,
    /// The size of the result.
    pub bytes: u64,
    /// Where it is.
    pub file: PathBuf,
    /// What it was made from.
    prompt: String,
}

/// An engine to play the demo with.
pub struct Cast {
    /// It.
    pub engine: Arc<dyn Engine>,
    /// How long one job may take.
    pub job_limit: Duration,
}

/// Plays the demo: with the synthetic engine, or with another one. Results go to `folder`, or to a new one under the
/// current folder; what happens is said on `out`, and as a progress bar on stderr when that is a terminal.
pub fn play(
    folder: Option<PathBuf>,
    cast: Option<Cast>,
    on: Runtime,
    out: &mut dyn Write,
) -> Result<Vec<Delivered>, DemoError> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let signals: Vec<_> = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM]
        .into_iter()
        .map(|signal| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
        .collect::<Result<_, _>>()?;
    let outcome = play_until(&interrupted, folder, cast, on, out);
    for signal in signals {
        signal_hook::low_level::unregister(signal);
    }
    outcome
}

fn play_until(
    interrupted: &AtomicBool,
    folder: Option<PathBuf>,
    cast: Option<Cast>,
    on: Runtime,
    out: &mut dyn Write,
) -> Result<Vec<Delivered>, DemoError> {
    let (folder, made) = make_folder(folder)?;
    let outcome = play_into(&folder, interrupted, cast, on, out);
    if outcome.is_err() && made {
        // Only an empty one can be removed: what was delivered stays.
        let _ = fs::remove_dir(&folder);
    }
    outcome
}

fn play_into(
    folder: &Path,
    interrupted: &AtomicBool,
    cast: Option<Cast>,
    on: Runtime,
    out: &mut dyn Write,
) -> Result<Vec<Delivered>, DemoError> {
    let made_up = cast.is_none();
    let cast = cast.unwrap_or_else(|| Cast { engine: Arc::new(Synthetic::new()), job_limit: PATIENCE });
    let pieces = programme(&cast.engine.services(), made_up);
    if pieces.is_empty() {
        return Err(DemoError::NothingToPlay(cast.engine.name().to_owned()));
    }
    let patience = if made_up { PATIENCE } else { PATIENCE + cast.job_limit * count(pieces.len()) };
    let stage = Stage::open(cast, on)?;
    let client = Client::new(stage.address());
    let act = Act { client, stage: &stage, interrupted, patience, start: Instant::now() };
    writeln!(out, "studio:   http://{}", stage.address())?;

    let request_id = act.asked()?;
    writeln!(out, "worker:   asks to be registered as {request_id}")?;
    act.client.post(&format!("/api/v1/registrations/{}/approve", segment(&request_id)), None)?;
    writeln!(out, "operator: approves it")?;

    let mut progress = Progress::new(pieces.len());
    let mut delivered: Vec<Delivered> = Vec::new();
    // First those that need nothing, then those that are made from what the first made.
    for needs_input in [false, true] {
        let pieces: Vec<_> = pieces.iter().filter(|piece| piece.input.is_some() == needs_input).collect();
        if pieces.is_empty() {
            continue;
        }
        let mut ids = Vec::new();
        for piece in &pieces {
            let task = with_input(piece, &delivered)?;
            let job =
                act.client.post("/api/v1/jobs", Some(&json!({ "model": piece.model, "task": task })))?;
            ids.push(text(&job, "id")?.to_owned());
        }
        let jobs = if ids.len() == 1 { "a job".into() } else { format!("{} jobs", ids.len()) };
        writeln!(out, "operator: queues {jobs}")?;
        out.flush()?;
        let jobs = act.delivered(&pieces, &ids, &mut progress, out)?;
        for (piece, job) in pieces.iter().zip(&jobs) {
            delivered.push(act.save(piece, job, folder)?);
        }
    }
    progress.done();
    // In the order of the programme.
    delivered.sort_by_key(|it| pieces.iter().position(|piece| piece.kind.name() == it.kind));
    page::write(folder, &delivered, made_up)?;
    stage.close()?;
    table(folder, &delivered, out)?;
    Ok(delivered)
}

fn count(pieces: usize) -> u32 {
    u32::try_from(pieces).unwrap_or(u32::MAX)
}

/// The task of a piece, with the result in it that it is made from.
fn with_input(piece: &Piece, delivered: &[Delivered]) -> Result<Value, DemoError> {
    let mut task = piece.task.clone();
    if let Some((kind, parameter)) = piece.input
        && let Some(source) = delivered.iter().find(|it| it.kind == kind.name())
    {
        let ext = source.file.extension().unwrap_or_default().to_string_lossy();
        task[parameter] = trial::data_url(&fs::read(&source.file)?, &ext).into();
    }
    Ok(task)
}

/// What the demo does on its stage.
struct Act<'a> {
    client: Client,
    stage: &'a Stage,
    interrupted: &'a AtomicBool,
    /// How long the whole may take.
    patience: Duration,
    start: Instant,
}

impl Act<'_> {
    /// Waits until the worker has asked to be registered.
    fn asked(&self) -> Result<String, DemoError> {
        loop {
            let asking = self.client.get("/api/v1/registrations?status=pending")?;
            if let Some(first) = asking["registrations"].get(0) {
                return Ok(text(first, "requestId")?.to_owned());
            }
            self.wait("the worker did not ask to be registered")?;
        }
    }

    /// Waits until every job is over, and says what happens meanwhile.
    fn delivered(
        &self,
        pieces: &[&Piece],
        ids: &[String],
        progress: &mut Progress,
        out: &mut dyn Write,
    ) -> Result<Vec<Value>, DemoError> {
        let mut states = vec![String::new(); ids.len()];
        loop {
            let listed = self.client.get("/api/v1/jobs")?;
            let listed = listed["jobs"].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut done = Vec::new();
            for ((piece, id), known) in pieces.iter().zip(ids).zip(&mut states) {
                let job = listed
                    .iter()
                    .find(|job| job["id"] == id.as_str())
                    .ok_or(DemoError::Lacks("a job that was queued"))?;
                let state = text(job, "state")?;
                if state != known {
                    state.clone_into(known);
                    progress.show(piece, job, out)?;
                }
                match state {
                    "completed" => done.push(job.clone()),
                    "failed" | "cancelled" => {
                        let reason = job["error"].as_str().unwrap_or(state).to_owned();
                        return Err(DemoError::NotDelivered { kind: piece.kind.name(), reason });
                    }
                    _ => {}
                }
            }
            if done.len() == ids.len() {
                return Ok(done);
            }
            self.wait("not every job was delivered")?;
        }
    }

    /// Fetches a job's result into the folder.
    fn save(&self, piece: &Piece, job: &Value, folder: &Path) -> Result<Delivered, DemoError> {
        let output = &job["output"];
        let ext = output["ext"].as_str().unwrap_or("json");
        let file = folder.join(format!("{}.{ext}", piece.file));
        let mut to = fs::File::create_new(&file)?;
        let bytes = self.client.fetch(text(output, "url")?, &mut to)?;
        Ok(Delivered {
            kind: piece.kind.name(),
            model: piece.model.clone(),
            took: took(job).unwrap_or_default(),
            bytes,
            file,
            prompt: text(output, "prompt")?.to_owned(),
        })
    }

    fn wait(&self, what: &'static str) -> Result<(), DemoError> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(DemoError::Interrupted);
        }
        if let Some(exit) = self.stage.worker_ended() {
            return Err(DemoError::WorkerEnded(exit));
        }
        if self.start.elapsed() > self.patience {
            return Err(DemoError::TooSlow { what, patience: self.patience });
        }
        thread::sleep(LOOK);
        Ok(())
    }
}

/// How long a job took, from its accept to its delivery.
fn took(job: &Value) -> Option<Duration> {
    let at = |name: &str| job[name].as_str().and_then(Wall::parse_rfc3339);
    Some(at("finishedAt")?.since(at("startedAt")?))
}

fn text<'a>(value: &'a Value, name: &'static str) -> Result<&'a str, DemoError> {
    value[name].as_str().ok_or(DemoError::Lacks(name))
}

/// Makes the folder for the results: the one that is wanted, or the first `studio-demo-N` that isn't there yet. Gives
/// back whether it is new, too.
fn make_folder(wanted: Option<PathBuf>) -> Result<(PathBuf, bool), DemoError> {
    let failed = |folder: &Path| {
        let folder = folder.to_owned();
        move |source| DemoError::Folder { folder, source }
    };
    if let Some(folder) = wanted {
        let new = !folder.exists();
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let mut inside = fs::read_dir(&folder).map_err(failed(&folder))?;
        return if inside.next().is_none() { Ok((folder, new)) } else { Err(DemoError::NotEmpty(folder)) };
    }
    let mut number = 1_u32;
    loop {
        let folder = PathBuf::from(format!("studio-demo-{number}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok((folder, true)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(failed(&folder)(error)),
        }
    }
}

fn table(folder: &Path, delivered: &[Delivered], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    writeln!(out, "{:<10}  {:<16}  {:>8}  {:>10}  file", "kind", "model", "time", "bytes")?;
    for it in delivered {
        let (kind, model, file) = (it.kind, &it.model, it.file.display());
        let seconds = it.took.as_secs_f64();
        writeln!(out, "{kind:<10}  {model:<16}  {seconds:>6.2} s  {:>10}  {file}", grouped(it.bytes))?;
    }
    writeln!(out)?;
    writeln!(out, "see {}", folder.join("index.html").display())?;
    out.flush()
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b");
        assert_eq!(make_folder(Some(folder.clone())).unwrap(), (folder.clone(), true));
        assert_eq!(
            make_folder(Some(folder.clone())).unwrap(),
            (folder.clone(), false),
            "an empty one is fine"
        );
        fs::write(folder.join("x"), b"mine").unwrap();
        assert!(matches!(make_folder(Some(folder)), Err(DemoError::NotEmpty(_))));
    }
}
