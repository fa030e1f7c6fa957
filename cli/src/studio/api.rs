//! The HTTP API for people and scripts, `/api/v1`.

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use serde_json::{Map, Value, json};
use studio_worker_core::{
    studio::{Answer, Input, JobOutput, JobRecord, JobState, NewJob, RegistrationRecord},
    wire::{JobId, TaskKind, address::segment, media},
};

use super::{
    problem::Problem,
    respond::{self, Parameters, RawQuery, answer, id, json_body, small_body},
    routes::App,
    store::{JobFilter, LogFilter},
};

/// The most bytes of a job: pictures for a chat are in it, and it must fit into a frame.
const MAX_JOB: usize = 48 * 1024 * 1024;

const MAX_REASON: usize = 64 * 1024;

type IdInPath = Result<Path<String>, PathRejection>;

/// `POST /jobs`
pub(crate) async fn queue_job(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let job = Box::new(NewJob::parse(&json_body(&headers, body, MAX_JOB).await?)?);
    app.desk.call(|call| Input::QueueJob { call, job }).await.map(|answer| job_answer(&answer))
}

/// `GET /jobs`
pub(crate) async fn jobs(State(app): State<App>, query: RawQuery) -> Result<Response, Problem> {
    let query = Parameters::read(query, &["state", "kind", "limit", "cursor"])?;
    let limit = query.limit(50)?;
    let filter = JobFilter {
        state: query.one_of(
            "state",
            state,
            "queued, offered, running, cancelling, completed, failed, cancelled",
        )?,
        kind: query.one_of("kind", TaskKind::parse, "image, llm, audio_stt, audio_tts, video, mesh")?,
        before: query.number("cursor")?,
        limit: limit + 1, // one more tells whether there are more
    };
    let mut jobs = app.desk.look(move |store, _| store.jobs(&filter)).await?;
    let more = jobs.len() > limit as usize;
    jobs.truncate(limit as usize);
    let next = if more { jobs.last().map(|job| job.place.to_string()) } else { None };
    let jobs: Vec<Value> = jobs.iter().map(job).collect();
    Ok(respond::json(StatusCode::OK, &json!({ "jobs": jobs, "next": next })))
}

/// `GET /jobs/{id}`
pub(crate) async fn get_job(State(app): State<App>, path: IdInPath) -> Result<Response, Problem> {
    let record = find_job(&app, id(path)?).await?;
    Ok(respond::json(StatusCode::OK, &job(&record)))
}

/// `DELETE /jobs/{id}`
pub(crate) async fn cancel_job(State(app): State<App>, path: IdInPath) -> Result<Response, Problem> {
    let job_id = id(path)?;
    let input = |call| Input::CancelJob { call, job_id: JobId::from(job_id.as_str()) };
    match app.desk.call(input).await {
        Err(problem) if problem.status == StatusCode::NOT_FOUND => {
            // The machine knows nothing of a job that is over.
            let state = find_job(&app, job_id).await?.state.name();
            Err(Problem::new(StatusCode::CONFLICT, format!("the job is {state}: there is nothing to cancel")))
        }
        answer => answer.map(|answer| job_answer(&answer)),
    }
}

/// The job with this id, or a 404.
pub(crate) async fn find_job(app: &App, job_id: String) -> Result<JobRecord, Problem> {
    app.desk.look(move |store, _| store.job(&job_id)).await?.ok_or_else(|| Problem::not_found("job"))
}

/// `GET /workers`
pub(crate) async fn workers(State(app): State<App>, query: RawQuery) -> Result<Response, Problem> {
    let query = Parameters::read(query, &["revoked"])?;
    let revoked =
        query.one_of("revoked", |value| value.parse::<bool>().ok(), "true, false")?.unwrap_or(false);
    let workers = app.desk.look(move |store, studio| {
        let workers = store.workers()?.into_iter().filter(|worker| revoked || worker.revoked_at.is_none());
        Ok(workers
            .map(|worker| {
                let mut shown = worker.public();
                let session = studio.session(&worker.id);
                shown["connected"] = session.is_some().into();
                shown["connectedAt"] = json!(session.as_ref().map(|it| it.connected_at.to_rfc3339()));
                shown["heardAt"] = json!(session.as_ref().map(|it| it.heard_at.to_rfc3339()));
                shown["currentJobId"] = json!(session.as_ref().and_then(|it| it.job_id));
                if let Some(session) = session {
                    shown["capabilities"] = json!(session.capabilities);
                }
                shown
            })
            .collect::<Vec<_>>())
    });
    Ok(respond::json(StatusCode::OK, &json!({ "workers": workers.await? })))
}

/// `DELETE /workers/{id}`
pub(crate) async fn revoke_worker(State(app): State<App>, path: IdInPath) -> Result<Response, Problem> {
    let worker_id = id(path)?;
    app.desk.call(|call| Input::Revoke { call, worker_id }).await.map(|it| answer(&it))
}

/// `GET /registrations`
pub(crate) async fn registrations(State(app): State<App>, query: RawQuery) -> Result<Response, Problem> {
    let query = Parameters::read(query, &["status", "limit"])?;
    let names = ["pending", "approved", "rejected", "expired"];
    let known = |value: &str| names.into_iter().find(|name| *name == value);
    let status = query.one_of("status", known, &names.join(", "))?;
    let limit = query.limit(50)?;
    let found = app.desk.look(move |store, _| store.registrations(status, limit)).await?;
    let found: Vec<Value> = found.iter().map(RegistrationRecord::public).collect();
    Ok(respond::json(StatusCode::OK, &json!({ "registrations": found })))
}

/// `POST /registrations/{id}/approve`
pub(crate) async fn approve(State(app): State<App>, path: IdInPath) -> Result<Response, Problem> {
    let request_id = id(path)?;
    app.desk.call(|call| Input::Approve { call, request_id }).await.map(|it| answer(&it))
}

/// `POST /registrations/{id}/reject`
pub(crate) async fn reject(
    State(app): State<App>,
    path: IdInPath,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let request_id = id(path)?;
    let body = if headers.contains_key(header::CONTENT_TYPE) {
        json_body(&headers, body, MAX_REASON).await?
    } else {
        small_body(body, 0).await.map_err(|_| Problem {
            field: Some("Content-Type".to_owned()),
            ..Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be `application/json`")
        })?
    };
    let reason = reason(&body)?;
    app.desk.call(|call| Input::Reject { call, request_id, reason }).await.map(|it| answer(&it))
}

/// Reads `{"reason": …}`, or nothing.
fn reason(body: &[u8]) -> Result<Option<String>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut object: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the body is not a JSON object ({error})"))
    })?;
    let reason = match object.remove("reason") {
        None | Some(Value::Null) => None,
        Some(Value::String(reason)) => Some(reason),
        Some(_) => return Err(Problem::field("reason", "`reason` is a text")),
    };
    match object.into_iter().next() {
        Some((unknown, _)) => {
            let message = format!("`{unknown}` is not a field of a rejection");
            Err(Problem::field(unknown, message))
        }
        None => Ok(reason),
    }
}

/// `GET /logs`
pub(crate) async fn logs(State(app): State<App>, query: RawQuery) -> Result<Response, Problem> {
    let query = Parameters::read(query, &["worker", "job", "since", "limit"])?;
    let since = query.number::<u64>("since")?;
    let filter = LogFilter {
        worker: query.text("worker").map(str::to_owned),
        job: query.text("job").map(str::to_owned),
        since: since.map(|since| i64::try_from(since).unwrap_or(i64::MAX)),
        limit: query.limit(200)?,
    };
    let lines = app.desk.look(move |store, _| store.logs(&filter)).await?;
    let next = lines.last().map_or(since.map(Value::from), |line| Some(line.id.into()));
    let lines: Vec<Value> = lines
        .into_iter()
        .map(|line| {
            json!({
                "id": line.id, "workerId": line.worker_id, "jobId": line.job_id, "ts": line.ts,
                "level": line.level, "category": line.category, "message": line.message,
            })
        })
        .collect();
    Ok(respond::json(StatusCode::OK, &json!({ "lines": lines, "next": next })))
}

/// `GET /healthz`: fine when the desk answers.
pub(crate) async fn healthz(State(app): State<App>) -> Result<Response, Problem> {
    app.desk.look(|_, _| Ok(())).await?;
    let body = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") });
    Ok(respond::json(StatusCode::OK, &body))
}

fn state(name: &str) -> Option<JobState> {
    use JobState as S;
    [S::Queued, S::Offered, S::Running, S::Cancelling, S::Completed, S::Failed, S::Cancelled]
        .into_iter()
        .find(|state| state.name() == name)
}

fn job_answer(it: &Answer) -> Response {
    match it {
        Answer::Job(record) => {
            let status = StatusCode::from_u16(it.status()).unwrap_or(StatusCode::OK);
            respond::json(status, &job(record))
        }
        other => answer(other),
    }
}

/// A job as the API shows it. The result has an address of its own, since it may be large.
fn job(record: &JobRecord) -> Value {
    let mut shown = record.public();
    let output = record.output.as_ref().map(|output| {
        let url = format!("/api/v1/jobs/{}/result", segment(record.id.as_str()));
        match output {
            JobOutput::Json { prompt, .. } => {
                json!({ "form": "json", "mime": "application/json", "prompt": prompt, "url": url })
            }
            JobOutput::File { ext, bytes, prompt, .. } => json!({
                "form": "file", "ext": ext, "mime": media::mime_of(ext), "bytes": bytes, "prompt": prompt,
                "url": url,
            }),
        }
    });
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("result");
        shown.remove("file");
        shown.insert("kind".to_owned(), record.task.kind().name().into());
        shown.insert("output".to_owned(), output.into());
    }
    shown
}
