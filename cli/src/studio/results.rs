//! Results as they are fetched: JSON, or a file with its type, length and parts.

use std::{io::SeekFrom, path::Path as FilePath};

use axum::{
    body::{Body, Bytes},
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use futures::{Stream, stream};
use studio_worker_core::{studio::JobOutput, wire::media};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use super::{api::find_job, problem::Problem, respond::id, routes::App};

/// How much of a file is read at once.
const CHUNK: u64 = 64 * 1024;

/// `GET /jobs/{id}/result`
pub(crate) async fn result(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let job_id = id(path)?;
    let job = find_job(&app, job_id.clone()).await?;
    match job.output {
        None => {
            let message = format!("the job is {}: it has no result", job.state.name());
            Err(Problem::new(StatusCode::CONFLICT, message))
        }
        Some(JobOutput::Json { .. }) => {
            let text = app.desk.look(move |store, _| store.json_result(&job_id)).await?;
            let text = text.ok_or_else(|| Problem::not_found("result"))?;
            Ok(response(StatusCode::OK, "application/json", text.len() as u64, Body::from(text)))
        }
        Some(JobOutput::File { file, ext, .. }) => {
            let name = media::safe_file_name(&format!("{job_id}.{ext}"));
            serve(&app.results.join(file), &ext, &name, &headers).await
        }
    }
}

async fn serve(path: &FilePath, ext: &str, name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let unreadable = |error| Problem::internal(format_args!("a result can't be read: {error}"));
    let mut file = File::open(path).await.map_err(unreadable)?;
    let length = file.metadata().await.map_err(unreadable)?.len();
    let wanted = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let part = match wanted.and_then(|range| part(range, length)) {
        Some(Part::Unsatisfiable) => return Ok(unsatisfiable(length)),
        Some(Part::Some { first, last }) => Some((first, last)),
        None => None,
    };
    let (status, first, bytes) = match part {
        Some((first, last)) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        None => (StatusCode::OK, 0, length),
    };
    file.seek(SeekFrom::Start(first)).await.map_err(unreadable)?;
    let mime = media::mime_of(ext);
    let mut response = response(status, mime, bytes, Body::from_stream(chunks(file, bytes)));
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // What no player knows is offered to be saved.
    let way = if mime == "application/octet-stream" { "attachment" } else { "inline" };
    let ascii: String = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    if let Ok(value) = HeaderValue::from_str(&format!("{way}; filename=\"{ascii}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    if let Some((first, last)) = part
        && let Ok(value) = HeaderValue::from_str(&format!("bytes {first}-{last}/{length}"))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

fn response(status: StatusCode, mime: &'static str, bytes: u64, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime));
    headers.insert(header::CONTENT_LENGTH, bytes.into());
    // A worker's bytes are shown, and never act.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    response
}

fn unsatisfiable(length: u64) -> Response {
    use axum::response::IntoResponse;
    let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("the result has {length} bytes"));
    let mut response = Problem { field: Some("Range".to_owned()), ..problem }.into_response();
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

fn chunks(file: File, bytes: u64) -> impl Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold((file.take(bytes), bytes), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut chunk = Vec::with_capacity(usize::try_from(left.min(CHUNK)).unwrap_or_default());
        let read = file.read_buf(&mut chunk).await? as u64;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((Bytes::from(chunk), (file, left - read))))
    })
}

/// The part of a file that is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// From byte `first` to byte `last`.
    Some { first: u64, last: u64 },
    /// One that isn't there.
    Unsatisfiable,
}

/// Reads a `Range` header. One that can't be read, or wants several parts, is ignored, as RFC 9110 allows.
fn part(range: &str, length: u64) -> Option<Part> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = length.checked_sub(1);
    let (first, last) = if first.is_empty() {
        let suffix: u64 = last.parse().ok()?;
        if suffix == 0 {
            return Some(Part::Unsatisfiable);
        }
        (length.saturating_sub(suffix), end)
    } else {
        let first = first.parse().ok()?;
        let last: u64 = if last.is_empty() { u64::MAX } else { last.parse().ok()? };
        if last < first {
            return None;
        }
        (first, end.map(|end| end.min(last)))
    };
    Some(match last {
        Some(last) if first <= last => Part::Some { first, last },
        _ => Part::Unsatisfiable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let some = |first, last| Some(Part::Some { first, last });
        for (range, length, wanted) in [
            ("bytes=0-0", 10, some(0, 0)),
            ("bytes=2-5", 10, some(2, 5)),
            ("bytes=2-", 10, some(2, 9)),
            ("bytes=2-99", 10, some(2, 9)),
            ("bytes=-3", 10, some(7, 9)),
            ("bytes=-99", 10, some(0, 9)),
            ("bytes=10-", 10, Some(Part::Unsatisfiable)),
            ("bytes=-0", 10, Some(Part::Unsatisfiable)),
            ("bytes=0-", 0, Some(Part::Unsatisfiable)),
            ("bytes=-1", 0, Some(Part::Unsatisfiable)),
            ("bytes=5-2", 10, None),
            ("bytes=0-1,3-4", 10, None),
            ("bytes=a-b", 10, None),
            ("lines=0-1", 10, None),
            ("bytes=-", 10, None),
        ] {
            assert_eq!(part(range, length), wanted, "{range} of {length}");
        }
    }
}
