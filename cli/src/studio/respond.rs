//! What all routes read and answer alike.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Path, Query, rejection::PathRejection, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::Value;
use studio_worker_core::studio::Answer;

use super::problem::Problem;

/// How long a small body may take.
const BODY_BOUND: Duration = Duration::from_secs(60);

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The studio's answer as it gives it.
pub(crate) fn answer(answer: &Answer) -> Response {
    json(StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::OK), &answer.body())
}

/// The id in a path, decoded.
pub(crate) fn id(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(id)| id).map_err(|_| not_text())
}

/// The two ids in a path, decoded.
pub(crate) fn ids(path: Result<Path<(String, String)>, PathRejection>) -> Result<(String, String), Problem> {
    path.map(|Path(ids)| ids).map_err(|_| not_text())
}

fn not_text() -> Problem {
    Problem::field("path", "an id in the path is not UTF-8")
}

/// A body that fits into memory, all of it.
pub(crate) async fn small_body(body: Body, most: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_BOUND, axum::body::to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_large(&error) => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {} MiB", most / 1024 / 1024),
        )),
        Ok(Err(_)) => Err(Problem::new(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come within 60 s")),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    std::iter::from_fn(|| {
        let this = source?;
        source = this.source();
        Some(this)
    })
    .any(|error| error.to_string().contains("length limit exceeded"))
}

/// A body that says that it is JSON. A page of another site can't say that without asking first, which is why
/// it must be said.
pub(crate) async fn json_body(headers: &HeaderMap, body: Body, most: usize) -> Result<Bytes, Problem> {
    let says = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mime = says.split(';').next().unwrap_or_default().trim();
    if !mime.eq_ignore_ascii_case("application/json") {
        return Err(Problem {
            field: Some("Content-Type".to_owned()),
            ..Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be `application/json`")
        });
    }
    small_body(body, most).await
}

/// The parameters of a query, none of them unknown or there twice.
#[derive(Debug)]
pub(crate) struct Parameters(BTreeMap<String, String>);

/// What a query is extracted as.
pub(crate) type RawQuery = Result<Query<Vec<(String, String)>>, QueryRejection>;

impl Parameters {
    pub(crate) fn read(query: RawQuery, known: &[&str]) -> Result<Self, Problem> {
        let Query(pairs) = query.map_err(|error| Problem::field("query", error.body_text()))?;
        let mut parameters = BTreeMap::new();
        for (name, value) in pairs {
            if !known.contains(&name.as_str()) {
                let message = format!("`{name}` is no parameter of this: {} are", known.join(", "));
                return Err(Problem::field(name, message));
            }
            if parameters.insert(name.clone(), value).is_some() {
                let message = format!("`{name}` is there twice");
                return Err(Problem::field(name, message));
            }
        }
        Ok(Self(parameters))
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter that is one of the names that `parse` knows.
    pub(crate) fn one_of<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        names: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.text(name) else { return Ok(None) };
        let unknown = || Problem::field(name, format!("`{name}` is one of {names}"));
        parse(value).map(Some).ok_or_else(unknown)
    }

    /// A whole number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.one_of(name, |value| value.parse().ok(), "the whole numbers from 0")
    }

    /// How many entries are wanted: 1 to 1,000, else `default`.
    pub(crate) fn limit(&self, default: u32) -> Result<u32, Problem> {
        let limit = |value: &str| value.parse().ok().filter(|limit| (1..=1_000).contains(limit));
        self.one_of("limit", limit, "the numbers from 1 to 1000").map(|limit| limit.unwrap_or(default))
    }
}
