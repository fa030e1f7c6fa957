//! Deliveries of bytes (section 5): streamed to a file, which is durable before the studio hears of it.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{
    extract::{Multipart, multipart::Field, multipart::MultipartError},
    http::StatusCode,
};
use studio_worker_core::{
    studio::{Answer, Upload},
    wire::{JobId, Secret, media},
};
use tokio::{
    fs::File,
    io::{AsyncWriteExt, BufWriter},
};

use super::{
    data::{private, random_hex, sync_dir},
    desk::Desk,
    problem::Problem,
};

/// How long an upload may stand still.
const STALL: Duration = Duration::from_secs(60);

/// The most bytes of a text field.
const MAX_TEXT: usize = 4 * 1024 * 1024;

/// The most bytes of a result.
const MAX_RESULT: u64 = 16 * 1024 * 1024 * 1024;

/// What is gathered before it is written.
const BUFFER: usize = 256 * 1024;

/// Receives an upload that the studio wants, and hands it over.
pub(crate) async fn receive(
    desk: &Desk,
    results: &Path,
    worker_id: String,
    job_id: JobId,
    bearer: Option<Secret>,
    body: Result<Multipart, Problem>,
) -> Result<Answer, Problem> {
    let call = desk.begin_upload();
    call.begin(worker_id, job_id, bearer).await?;
    let upload = store(results, body?).await?;
    // From here on the file is the studio's: it is part of the job's record, or discarded.
    call.end(upload).await
}

async fn store(results: &Path, mut body: Multipart) -> Result<Upload, Problem> {
    let (mut prompt, mut ext, mut part) = (None, None, None);
    while let Some(field) = moving(body.next_field()).await? {
        match field.name() {
            Some("prompt") => prompt = Some(text(field, "prompt").await?),
            Some("ext") => ext = Some(text(field, "ext").await?.to_ascii_lowercase()),
            Some("image") if part.is_some() => return Err(Problem::field("image", "`image` is there twice")),
            Some("image") => part = Some(Part::receive(results, field).await?),
            _ => skip(field).await?,
        }
    }
    let part = part.ok_or_else(|| Problem::field("image", "`image` is required: the result's bytes"))?;
    let ext = ext.ok_or_else(|| Problem::field("ext", "`ext` is required: what the bytes are"))?;
    if !media::is_plain_ext(&ext) {
        return Err(Problem::field("ext", "`ext` has 1 to 16 letters and digits"));
    }
    let bytes = part.bytes;
    let file = part.keep(&ext).await?;
    Ok(Upload { file, bytes, ext, prompt: prompt.unwrap_or_default() })
}

/// A result on its way to the disk. Dropped early, it leaves nothing.
struct Part {
    results: PathBuf,
    stem: String,
    bytes: u64,
    kept: bool,
}

impl Part {
    async fn receive(results: &Path, mut field: Field<'_>) -> Result<Self, Problem> {
        let stem = random_hex::<16>().map_err(Problem::internal)?;
        let mut part = Self { results: results.to_owned(), stem, bytes: 0, kept: false };
        let file = private(std::fs::OpenOptions::new().write(true).create_new(true))
            .open(part.path())
            .map_err(|error| not_written(&error))?;
        let mut file = BufWriter::with_capacity(BUFFER, File::from_std(file));
        while let Some(chunk) = moving(field.chunk()).await? {
            part.bytes += chunk.len() as u64;
            if part.bytes > MAX_RESULT {
                let mut problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "`image` has more than 16 GiB");
                problem.field = Some("image".to_owned());
                return Err(problem);
            }
            file.write_all(&chunk).await.map_err(|error| not_written(&error))?;
        }
        file.flush().await.map_err(|error| not_written(&error))?;
        file.get_ref().sync_all().await.map_err(|error| not_written(&error))?;
        if part.bytes == 0 {
            return Err(Problem::field("image", "`image` is empty"));
        }
        Ok(part)
    }

    fn path(&self) -> PathBuf {
        self.results.join(format!("{}.part", self.stem))
    }

    /// Gives the file its name, durably.
    async fn keep(mut self, ext: &str) -> Result<String, Problem> {
        let name = format!("{}.{ext}", self.stem);
        let (from, to) = (self.path(), self.results.join(&name));
        let results = self.results.clone();
        tokio::task::spawn_blocking(move || std::fs::rename(from, to).and_then(|()| sync_dir(&results)))
            .await
            .map_err(Problem::internal)?
            .map_err(|error| not_written(&error))?;
        self.kept = true;
        Ok(name)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            // What can't be deleted now is swept at the next start.
            let _ = std::fs::remove_file(self.path());
        }
    }
}

async fn text(mut field: Field<'_>, name: &str) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = moving(field.chunk()).await? {
        if bytes.len() + chunk.len() > MAX_TEXT {
            let mut problem =
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("`{name}` has more than 4 MiB"));
            problem.field = Some(name.to_owned());
            return Err(problem);
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| Problem::field(name, format!("`{name}` is not UTF-8")))
}

async fn skip(mut field: Field<'_>) -> Result<(), Problem> {
    while moving(field.chunk()).await?.is_some() {}
    Ok(())
}

/// The next piece of the body, unless it does not come for too long.
async fn moving<T>(piece: impl Future<Output = Result<T, MultipartError>>) -> Result<T, Problem> {
    match tokio::time::timeout(STALL, piece).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => {
            Err(Problem::new(error.status(), format!("the body can't be read: {}", error.body_text())))
        }
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "no byte of the body came for 60 s")),
    }
}

fn not_written(error: &io::Error) -> Problem {
    let problem = Problem::internal(format_args!("a result could not be written: {error}"));
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return Problem::new(StatusCode::INSUFFICIENT_STORAGE, "the studio's disk is full");
    }
    problem
}
