//! HTTP: surf, over a client of our own on isahc.
//!
//! surf's own clients have known vulnerabilities below them, and its redirects carry the bearer to any host.
//! This one follows none, keeps no cookie, sends no `Expect: 100-continue`, and starts its thread at the first
//! request: a session that waits for jobs has none of it.

use std::{
    fmt::Display,
    io, iter,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_std::{future::timeout, io::BufReader};
use async_trait::async_trait;
use futures::AsyncReadExt as _;
use http_client::{Body, Error, HttpClient, Request, Response};
use isahc::{
    AsyncBody,
    config::{Configurable as _, RedirectPolicy},
    http,
    net::Dialer,
};
use studio_worker_core::{
    drive::Progress,
    http::{HttpAnswer, HttpFailure, HttpRequest, Method, Reach},
    wire::Secret,
    worker::Upload,
};
use surf::{RequestBuilder, StatusCode, Url, http::Method as Verb};

use crate::{body, net, threads::Threads, upgrade::is_header_text};

/// TCP and TLS together, as for a session (section 1).
const CONNECT_BOUND: Duration = Duration::from_secs(15);
/// How long the body of the answer to an upload may take: the status is known, and the worker waits.
const BODY_BOUND: Duration = Duration::from_secs(2);

/// Exchanges HTTP requests.
#[derive(Debug, Clone)]
pub(crate) struct Http(surf::Client);

impl Http {
    pub(crate) fn new() -> Self {
        Self(surf::Client::with_http_client(Isahc::default()))
    }

    /// Exchanges a request, within its bounds.
    pub(crate) async fn exchange(
        &self,
        request: HttpRequest,
        user_agent: Arc<str>,
        threads: Threads,
    ) -> Result<HttpAnswer, HttpFailure> {
        let (limit, bound) = (request.answer_limit, request.timeout);
        let exchange = async {
            if request.reach == Reach::Any {
                return self.send(small(request, &user_agent)?, limit).await;
            }
            let mut outcome = Err(failure("the host has no address"));
            for address in admitted(&request, &threads).await? {
                let mut pinned = small(request.clone(), &user_agent)?;
                pinned.set_ext(Dialer::ip_socket(address));
                outcome = self.send(pinned, limit).await;
                // A name may have an address that leads nowhere from here; what posts is not said twice.
                if outcome.is_ok() || request.method == Method::Post {
                    break;
                }
            }
            outcome
        };
        timeout(bound, exchange)
            .await
            .unwrap_or_else(|_| Err(failure(format_args!("no answer within {} s", bound.as_secs()))))
    }

    /// Delivers a result.
    pub(crate) async fn upload(
        &self,
        upload: Upload,
        user_agent: Arc<str>,
        progress: Progress,
        threads: Threads,
    ) -> Result<HttpAnswer, HttpFailure> {
        let Upload { url, bearer, envelope, payload } = upload;
        let builder = build(Verb::Post, &url, Some(bearer.reveal()), &user_agent)?;
        let length = usize::try_from(envelope.length(payload.len()))
            .map_err(|_| failure("the result is larger than this machine can address"))?;
        let content_type = envelope.content_type.clone();
        let pages = threads.clone();
        let body = threads
            .run(move || body::Body::open(envelope, payload, progress, pages))
            .await
            .map_err(|error| failure(format_args!("the result can't be read: {error}")))?;
        let builder =
            builder.body(Body::from_reader(body, Some(length))).header("Content-Type", content_type);
        let (mut answer, body) = self.head(builder.build()).await?;
        // The status says what became of the result. A body that doesn't come must not have it sent again.
        let _ = timeout(BODY_BOUND, read(body, HttpAnswer::SMALL_BODY, &mut answer.body)).await;
        Ok(answer)
    }

    async fn send(&self, request: surf::Request, limit: usize) -> Result<HttpAnswer, HttpFailure> {
        let (mut answer, body) = self.head(request).await?;
        match read(body, limit, &mut answer.body).await {
            Ok(_) => Ok(answer),
            // What the status says is enough where nothing else is wanted.
            Err(_) if !answer.is_success() => Ok(answer),
            Err(error) => Err(failure(format_args!("the answer broke off: {error}"))),
        }
    }

    /// Sends a request; the answer without its body, and that.
    async fn head(&self, request: surf::Request) -> Result<(HttpAnswer, Body), HttpFailure> {
        let mut response = self.0.send(request).await.map_err(failure)?;
        let header = |name: &str| response.header(name).map(|values| values.last().as_str().to_owned());
        let answer = HttpAnswer {
            status: response.status().into(),
            retry_after: header("Retry-After"),
            date: header("Date"),
            location: header("Location"),
            body: Vec::new(),
        };
        Ok((answer, response.take_body()))
    }
}

/// Reads a body up to `limit` bytes.
async fn read(body: Body, limit: usize, into: &mut Vec<u8>) -> io::Result<usize> {
    body.take(limit as u64).read_to_end(into).await
}

/// A request whose body is in memory.
fn small(request: HttpRequest, user_agent: &str) -> Result<surf::Request, HttpFailure> {
    let verb = match request.method {
        Method::Get => Verb::Get,
        Method::Post => Verb::Post,
    };
    let bearer = request.bearer.as_ref().map(Secret::reveal);
    let mut builder = build(verb, &request.url, bearer, user_agent)?;
    if let Some(body) = request.body {
        if !is_header_text(&body.content_type) {
            return Err(failure("the content type has characters that no header can carry"));
        }
        // The header after the body, which brings one of its own.
        builder = builder.body(Body::from_bytes(body.bytes)).header("Content-Type", body.content_type);
    }
    Ok(builder.build())
}

fn build(
    verb: Verb,
    url: &str,
    bearer: Option<&str>,
    user_agent: &str,
) -> Result<RequestBuilder, HttpFailure> {
    let url = parse(url)?;
    if !bearer.is_none_or(is_header_text) || !is_header_text(user_agent) {
        return Err(failure("the token has characters that no header can carry"));
    }
    let builder = RequestBuilder::new(verb, url).header("User-Agent", user_agent);
    Ok(match bearer {
        Some(bearer) => builder.header("Authorization", format!("Bearer {bearer}")),
        None => builder,
    })
}

/// The addresses of a request's host that may be connected to, at least one.
async fn admitted(request: &HttpRequest, threads: &Threads) -> Result<Vec<SocketAddr>, HttpFailure> {
    let url = parse(&request.url)?;
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(failure("the address names no host"));
    };
    let mut addresses = net::resolve(host, port, threads).await.map_err(failure)?;
    addresses.retain(|address| request.reach.admits(address.ip()));
    if addresses.is_empty() {
        let is_not = if request.reach == Reach::Loopback { "this machine" } else { "on the internet" };
        return Err(failure(format_args!("{host} is not {is_not}, and no other address is allowed")));
    }
    Ok(addresses)
}

fn parse(url: &str) -> Result<Url, HttpFailure> {
    Url::parse(url).map_err(|error| failure(format_args!("the address can't be read: {error}")))
}

fn failure(why: impl Display) -> HttpFailure {
    HttpFailure(why.to_string())
}

/// surf's view of isahc. The client is made when it is first needed.
#[derive(Debug, Default)]
struct Isahc(OnceLock<Result<isahc::HttpClient, isahc::Error>>);

impl Isahc {
    fn client(&self) -> Result<&isahc::HttpClient, Error> {
        let made = self.0.get_or_init(|| {
            isahc::HttpClient::builder()
                .connect_timeout(CONNECT_BOUND)
                .redirect_policy(RedirectPolicy::None)
                .expect_continue(false)
                .tcp_nodelay()
                .build()
        });
        made.as_ref().map_err(|error| made_up(error.clone()))
    }
}

#[async_trait]
impl HttpClient for Isahc {
    async fn send(&self, mut request: Request) -> Result<Response, Error> {
        let dialer = request.ext().get::<Dialer>().cloned();
        let body = request.take_body();
        let body = match body.len() {
            Some(0) => AsyncBody::empty(),
            Some(length) => AsyncBody::from_reader_sized(body, length as u64),
            None => AsyncBody::from_reader(body),
        };
        let mut builder =
            http::Request::builder().method(request.method().as_ref()).uri(request.url().as_str());
        for (name, values) in &request {
            for value in values {
                builder = builder.header(name.as_str(), value.as_str());
            }
        }
        if let Some(dialer) = dialer {
            builder = builder.dial(dialer);
        }
        let request = builder.body(body).map_err(made_up)?;
        let (head, body) = self.client()?.send_async(request).await.map_err(made_up)?.into_parts();
        let mut response = Response::new(StatusCode::try_from(head.status.as_u16())?);
        for (name, value) in &head.headers {
            // What isn't text is for nobody here.
            if let Ok(value) = value.to_str() {
                response.append_header(name.as_str(), value);
            }
        }
        response.set_body(Body::from_reader(BufReader::new(body), None));
        Ok(response)
    }
}

/// An error of the transport. surf's errors always have a status; this one is nobody's word, and never read.
fn made_up(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let first: &(dyn std::error::Error + 'static) = &error;
    let causes: Vec<_> =
        iter::successors(Some(first), |error| error.source()).map(ToString::to_string).collect();
    Error::from_str(StatusCode::InternalServerError, causes.join(": "))
}

#[cfg(test)]
mod tests;
