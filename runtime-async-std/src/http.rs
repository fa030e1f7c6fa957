//! HTTP: surf, over a client of our own on isahc.
//!
//! surf's own clients have known vulnerabilities below them, and its redirects carry the bearer to any host.
//! This one follows none, keeps no cookie, sends no `Expect: 100-continue`, and starts its thread at the first
//! request: a session that waits for jobs has none of it.
//!
//! That is for servers that are connected to straight. Where a proxy is on the way the exchange is that of the other
//! runtimes, over the same tunnels as a session: of what the environment says to curl, nothing counts.

use std::{
    env,
    fmt::Display,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_std::{future::timeout, io::BufReader};
use async_trait::async_trait;
use futures::{AsyncReadExt as _, TryStreamExt as _};
use http_client::{Body, Error, HttpClient, Request, Response};
use isahc::{
    AsyncBody,
    config::{Configurable as _, RedirectPolicy},
    http,
    net::Dialer,
    tls::{TlsConfig, TrustStore, TrustStoreBuilder},
};
use studio_worker_core::{
    drive::{Fetched, Progress},
    http::{FileHead, FileRequest, HttpAnswer, HttpFailure, HttpRequest, Method, Reach, proxy::Destination},
    transport::{
        self, BODY_BOUND, Connector, Platform as _, Tls, UNKNOWN_AUTHORITY, UploadBody, is_header_text,
        with_causes,
    },
    wire::Secret,
    worker::Upload,
};
use surf::{RequestBuilder, StatusCode, Url, http::Method as Verb};

use crate::platform::World;

/// TCP and TLS together, as for a session (section 1).
const CONNECT_BOUND: Duration = Duration::from_secs(15);

/// Exchanges HTTP requests.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: surf::Client,
    connector: Connector<World>,
}

impl Http {
    pub(crate) fn new(connector: Connector<World>) -> Self {
        let (tls, world) = (connector.tls().clone(), connector.platform().clone());
        let isahc = Isahc { tls, world, client: OnceLock::new() };
        Self { client: surf::Client::with_http_client(isahc), connector }
    }

    fn world(&self) -> &World {
        self.connector.platform()
    }

    /// The exchange through a proxy, where one is on the way. One that can't be used is on the way, too.
    fn through_proxy(&self, url: &str, reach: Reach) -> Option<transport::Http<World>> {
        let url = Url::parse(url).ok()?;
        let (host, port) = host_and_port(&url)?;
        let to = Destination { secure: url.scheme() == "https", host, port, reach };
        let straight = matches!(self.connector.proxies().to(&to), Ok(None));
        (!straight).then(|| transport::Http::new(self.connector.clone()))
    }

    /// Exchanges a request, within its bounds.
    pub(crate) async fn exchange(
        self,
        request: HttpRequest,
        user_agent: Arc<str>,
    ) -> Result<HttpAnswer, HttpFailure> {
        if let Some(http) = self.through_proxy(&request.url, request.reach) {
            return http.exchange(request, user_agent).await;
        }
        let (limit, bound) = (request.answer_limit, request.timeout);
        let exchange = async {
            if request.reach == Reach::Any {
                return self.send(small(request, &user_agent)?, limit).await;
            }
            let mut outcome = Err(failure("the host has no address"));
            for address in admitted(&request.url, request.reach, self.world()).await? {
                let mut pinned = small(request.clone(), &user_agent)?;
                pinned.set_ext(Pinned(address));
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
        self,
        upload: Upload,
        user_agent: Arc<str>,
        progress: Progress,
    ) -> Result<HttpAnswer, HttpFailure> {
        if let Some(http) = self.through_proxy(&upload.url, Reach::Any) {
            return http.upload(upload, user_agent, progress).await;
        }
        let Upload { url, bearer, envelope, payload } = upload;
        let builder = build(Verb::Post, &url, Some(bearer.reveal()), &user_agent)?;
        let length = usize::try_from(envelope.length(payload.len()))
            .map_err(|_| failure("the result is larger than this machine can address"))?;
        let content_type = envelope.content_type.clone();
        let body = UploadBody::open(self.world().clone(), envelope, payload, progress)
            .await
            .map_err(|error| failure(format_args!("the result can't be read: {error}")))?
            .into_async_read();
        let builder =
            builder.body(Body::from_reader(body, Some(length))).header("Content-Type", content_type);
        let (mut answer, body) = self.head(builder.build()).await?;
        // The status says what became of the result. A body that doesn't come must not have it sent again.
        let _ = timeout(BODY_BOUND, read(body, HttpAnswer::SMALL_BODY, &mut answer.body)).await;
        Ok(answer)
    }

    /// Asks for a file.
    pub(crate) async fn fetch(
        self,
        request: FileRequest,
        user_agent: Arc<str>,
    ) -> Result<Fetched, HttpFailure> {
        if let Some(http) = self.through_proxy(&request.url, request.reach) {
            return http.fetch(request, user_agent).await;
        }
        let asked = || {
            let builder = build(Verb::Get, &request.url, None, &user_agent)?;
            let headers = request.headers().into_iter();
            Ok(headers.fold(builder, |builder, (name, value)| builder.header(name, value)).build())
        };
        let fetched = async |asked| {
            let mut response = self.client.send(asked).await.map_err(failure)?;
            let head = FileHead::read(response.status().into(), |name| header(&response, name));
            Ok(Fetched { head, body: Box::pin(response.take_body()) })
        };
        if request.reach == Reach::Any {
            return fetched(asked()?).await;
        }
        let mut outcome = Err(failure("the host has no address"));
        for address in admitted(&request.url, request.reach, self.world()).await? {
            let mut pinned = asked()?;
            pinned.set_ext(Pinned(address));
            outcome = fetched(pinned).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
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
        let mut response = self.client.send(request).await.map_err(failure)?;
        let header = |name: &str| header(&response, name);
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

/// The last header of this name.
fn header(response: &surf::Response, name: &str) -> Option<String> {
    response.header(name).map(|values| values.last().as_str().to_owned())
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
async fn admitted(url: &str, reach: Reach, world: &World) -> Result<Vec<SocketAddr>, HttpFailure> {
    let url = parse(url)?;
    let (host, port) = host_and_port(&url).ok_or_else(|| failure("the address names no host"))?;
    world.resolve(host, port, reach).await.map_err(failure)
}

fn host_and_port(url: &Url) -> Option<(&str, u16)> {
    // An address in brackets is one of IPv6.
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    Some((host, url.port_or_known_default()?))
}

fn parse(url: &str) -> Result<Url, HttpFailure> {
    Url::parse(url).map_err(|error| failure(format_args!("the address can't be read: {error}")))
}

fn failure(why: impl Display) -> HttpFailure {
    HttpFailure(why.to_string())
}

/// The only address that a request may be connected to.
#[derive(Debug, Clone, Copy)]
struct Pinned(SocketAddr);

/// surf's view of isahc. The client is made when it is first needed.
#[derive(Debug)]
struct Isahc {
    tls: Tls,
    world: World,
    client: OnceLock<isahc::HttpClient>,
}

impl Isahc {
    async fn client(&self) -> Result<&isahc::HttpClient, Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let mut builder = isahc::HttpClient::builder()
            .connect_timeout(CONNECT_BOUND)
            .redirect_policy(RedirectPolicy::None)
            .expect_continue(false)
            // Bytes are counted as they come.
            .automatic_decompression(false)
            // What goes through one does not come here.
            .proxy(None)
            .tcp_nodelay();
        // What the system trusts, curl finds by itself; and what SSL_CERT_FILE names, but not what this one does.
        if self.tls.has_roots_of_its_own() || env::var_os("SSL_CERT_DIR").is_some() {
            let tls = self.tls.clone();
            let roots = self.world.compute(move || tls.roots()).await.map_err(|error| made_up(&error))?;
            let store = roots.iter().fold(TrustStore::builder(), TrustStoreBuilder::certificate_from_der);
            builder = builder.tls_config(TlsConfig::builder().trust_store(store.build()).build());
        }
        let made = builder.build().map_err(|error| made_up(&error))?;
        Ok(self.client.get_or_init(|| made))
    }
}

#[async_trait]
impl HttpClient for Isahc {
    async fn send(&self, mut request: Request) -> Result<Response, Error> {
        let pinned = request.ext().get::<Pinned>().copied();
        let body = request.take_body();
        let body = match body.len() {
            // Of a POST it is said that it has none, or servers ask for a length.
            Some(0) if request.method() == Verb::Post => AsyncBody::from_bytes_static(b""),
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
        if let Some(Pinned(address)) = pinned {
            builder = builder.dial(Dialer::ip_socket(address));
        }
        let request = builder.body(body).map_err(|error| made_up(&error))?;
        let (head, body) =
            self.client().await?.send_async(request).await.map_err(|error| made_up(&error))?.into_parts();
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
fn made_up(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut why = with_causes(error);
    let isahc = error.downcast_ref::<isahc::Error>();
    if isahc.is_some_and(|error| *error.kind() == isahc::error::ErrorKind::BadServerCertificate) {
        // Which of them it is, curl doesn't tell.
        why = format!(
            "{why}: it is for another host, or by an authority that is not known: {UNKNOWN_AUTHORITY}"
        );
    }
    Error::from_str(StatusCode::InternalServerError, why)
}
