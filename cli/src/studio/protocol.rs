//! The four routes that workers use (section 1).

use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::{
        ConnectInfo, FromRequest, Multipart, Path, Request, State, WebSocketUpgrade,
        rejection::PathRejection, ws::rejection::WebSocketUpgradeRejection,
    },
    http::HeaderMap,
    response::Response,
};
use studio_worker_core::{studio::Input, wire::JobId};

use super::{
    guard::bearer,
    problem::Problem,
    respond::{answer, id, ids, small_body},
    routes::App,
    session, upload,
};

/// The most bytes of a registration request.
const MAX_REGISTRATION: usize = 1024 * 1024;

/// `POST /workers/register-request`
pub(crate) async fn register(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    body: Body,
) -> Result<Response, Problem> {
    let body = small_body(body, MAX_REGISTRATION).await?;
    let peer = peer.ip().to_canonical().to_string();
    app.desk.call(|call| Input::Register { call, peer, body: body.into() }).await.map(|it| answer(&it))
}

/// `GET /workers/register-requests/{requestId}`
pub(crate) async fn poll(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (request_id, bearer) = (id(path)?, bearer(&headers));
    app.desk.call(|call| Input::Poll { call, request_id, bearer }).await.map(|it| answer(&it))
}

/// `GET /workers/{workerId}/connect`
pub(crate) async fn connect(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match id(path) {
        Ok(worker_id) => session::upgrade(&app.desk, worker_id, bearer(&headers), upgrade.ok()).await,
        Err(problem) => problem.into_text(),
    }
}

/// `POST /workers/{workerId}/jobs/{jobId}/complete`
pub(crate) async fn complete(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (worker_id, job_id) = ids(path)?;
    let bearer = bearer(request.headers());
    let body = Multipart::from_request(request, &())
        .await
        .map_err(|rejection| Problem::field("Content-Type", rejection.body_text()));
    upload::receive(&app.desk, &app.results, worker_id, JobId::from(job_id.as_str()), bearer, body)
        .await
        .map(|it| answer(&it))
}
