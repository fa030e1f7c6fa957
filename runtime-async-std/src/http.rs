//! HTTP: surf, over a client of our own on isahc.
//!
//! surf's own clients have known vulnerabilities below them, and its redirects carry the bearer to any host.
//! This one follows none, keeps no cookie, sends no `Expect: 100-continue`, and starts its thread at the first
//! request: a session that waits for jobs has none of it.
//!
//! A proxy that the environment names is heeded, as curl does, except for what is on this machine: the proxy's loopback is
//! another one, and what an engine's key opens is nobody else's business. A request whose addresses were checked names
//! the proxy one of these (`CONNECT`), so that nothing is looked up there again.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
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
    http::{FileHead, FileRequest, HttpAnswer, HttpFailure, HttpRequest, Method, Reach},
    transport::{BODY_BOUND, Platform as _, Tls, UploadBody, is_header_text, with_causes},
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
    world: World,
}

impl Http {
    pub(crate) fn new(world: World, tls: Tls) -> Self {
        let isahc = Isahc { tls, world: world.clone(), client: OnceLock::new() };
        Self { client: surf::Client::with_http_client(isahc), world }
    }

    /// Exchanges a request, within its bounds.
    pub(crate) async fn exchange(
        self,
        request: HttpRequest,
        user_agent: Arc<str>,
    ) -> Result<HttpAnswer, HttpFailure> {
        let (limit, bound) = (request.answer_limit, request.timeout);
        let exchange = async {
            if request.reach == Reach::Any {
                return self.send(small(request, &user_agent)?, limit).await;
            }
            let mut outcome = Err(failure("the host has no address"));
            for address in admitted(&request.url, request.reach, &self.world).await? {
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
        let Upload { url, bearer, envelope, payload } = upload;
        let builder = build(Verb::Post, &url, Some(bearer.reveal()), &user_agent)?;
        let length = usize::try_from(envelope.length(payload.len()))
            .map_err(|_| failure("the result is larger than this machine can address"))?;
        let content_type = envelope.content_type.clone();
        let body = UploadBody::open(self.world.clone(), envelope, payload, progress)
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
        for address in admitted(&request.url, request.reach, &self.world).await? {
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
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(failure("the address names no host"));
    };
    // An address in brackets is one of IPv6.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    world.resolve(host, port, reach).await.map_err(failure)
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

/// Whether a request stays on this machine.
fn is_own(url: &Url, pinned: Option<Pinned>) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = match pinned {
        Some(Pinned(address)) => Some(address.ip()),
        None => host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok(),
    };
    let name = host.trim_end_matches('.');
    name == "localhost"
        || name.ends_with(".localhost")
        || address.is_some_and(|address| Reach::Loopback.admits(address) || address.is_unspecified())
}

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
            .tcp_nodelay();
        // What the system trusts, curl finds by itself.
        if self.tls.has_roots_of_its_own() {
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
        let is_own = is_own(request.url(), pinned);
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
        if is_own {
            builder = builder.proxy(None);
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
    Error::from_str(StatusCode::InternalServerError, with_causes(error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that can't start has failed")]

    use std::{
        io::{BufRead as _, BufReader},
        net::TcpListener,
        thread,
    };

    use super::*;

    /// A proxy is told the address that was checked, and looks nothing up.
    #[test]
    fn a_proxy_is_told_an_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy: http::Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let heard = thread::spawn(move || {
            let mut line = String::new();
            BufReader::new(listener.accept().unwrap().0).read_line(&mut line).unwrap();
            line
        });
        let client = isahc::HttpClient::builder().proxy(proxy).build().unwrap();
        let isahc = Isahc { tls: Tls::default(), world: World::new(), client: client.into() };
        let mut pinned = Request::new(Verb::Get, "http://name.test/");
        pinned.ext_mut().insert(Pinned(([8, 8, 8, 8], 9).into()));
        assert!(async_std::task::block_on(isahc.send(pinned)).is_err());
        assert_eq!(heard.join().unwrap().trim_end(), "CONNECT 8.8.8.8:9 HTTP/1.1");
    }

    #[test]
    fn what_is_on_this_machine_is_known() {
        let is_own = |url: &str| is_own(&Url::parse(url).unwrap(), None);
        for url in [
            "http://127.0.0.1/",
            "http://127.9.9.9:1/",
            "http://[::1]:8/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0/",
            "http://LocalHost.:80/",
            "http://a.localhost/",
        ] {
            assert!(is_own(url), "{url}");
        }
        for url in ["http://8.8.8.8/", "http://10.0.0.1/", "https://a.test/127.0.0.1", "http://notlocalhost/"]
        {
            assert!(!is_own(url), "{url}");
        }
        let pinned = |address: [u8; 4]| Some(Pinned((address, 80).into()));
        let url = Url::parse("http://a.test/").unwrap();
        assert!(super::is_own(&url, pinned([127, 0, 0, 1])) && !super::is_own(&url, pinned([8, 8, 8, 8])));
    }
}
