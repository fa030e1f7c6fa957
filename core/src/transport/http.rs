//! HTTP/1.1 over any byte stream: hyper's connections, without its pools.
//!
//! Each exchange has a connection of its own, which ends with it. So what is dropped is given up at once, no request
//! meets a connection that its server has just closed (an upload must not be sent twice for that), and nothing of one
//! exchange can be read in another. A worker makes few requests: one for each result that is a file.

use std::{
    fmt::Display,
    future::pending,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    AsyncRead, AsyncWrite, FutureExt as _, TryStreamExt as _,
    future::{Either, select},
};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1,
    header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
    rt::{Read, ReadBufCursor, Write},
};
use url::Url;

use super::{BODY_BOUND, Connection, Connector, Platform, UploadBody, upgrade::bare, with_causes, within};
use crate::{
    drive::{Fetched, Progress},
    http::{FileHead, FileRequest, HttpAnswer, HttpFailure, HttpRequest, Method, Reach, proxy::Destination},
    wire::Secret,
    worker::Upload,
};

/// TCP and TLS together, as for a session (section 1).
const CONNECT_BOUND: Duration = Duration::from_secs(15);
/// What is read at a time, in bytes.
const READ_BUFFER: usize = 16 * 1024;

/// Exchanges HTTP requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http<P>(Connector<P>);

impl<P: Platform + Unpin> Http<P> {
    /// Exchanges over connections that it opens.
    pub fn new(connector: Connector<P>) -> Self {
        Self(connector)
    }

    fn platform(&self) -> &P {
        self.0.platform()
    }

    /// Exchanges a request, as [`Runtime::exchange`](crate::drive::Runtime::exchange).
    pub async fn exchange(
        self,
        request: HttpRequest,
        user_agent: Arc<str>,
    ) -> Result<HttpAnswer, HttpFailure> {
        let (limit, bound) = (request.answer_limit, request.timeout);
        let exchange = async {
            let url = parse(&request.url)?;
            let method = match request.method {
                Method::Get => hyper::Method::GET,
                Method::Post => hyper::Method::POST,
            };
            let mut head = Self::head(method, &url, request.bearer.as_ref(), &user_agent)?;
            if request.method == Method::Post && request.body.is_none() {
                head = head.header(CONTENT_LENGTH, 0);
            }
            let body = request.body.map_or_else(Bytes::new, |body| {
                head = std::mem::take(&mut head).header(CONTENT_TYPE, body.content_type);
                body.bytes.into()
            });
            let asked = head.body(Small(Some(body))).map_err(failure)?;
            self.ask(&url, request.reach, asked, async |response| {
                let mut answer = without_body(&response);
                match read(response.into_body(), limit, &mut answer.body).await {
                    Ok(()) => Ok(answer),
                    // What the status says is enough where nothing else is wanted.
                    Err(_) if !answer.is_success() => Ok(answer),
                    Err(error) => Err(failure(format_args!("the answer broke off: {}", with_causes(&error)))),
                }
            })
            .await
        };
        within(self.platform(), bound, exchange)
            .await
            .unwrap_or_else(|| Err(failure(format_args!("no answer within {} s", bound.as_secs()))))
    }

    /// Delivers a result, as [`Runtime::upload`](crate::drive::Runtime::upload).
    pub async fn upload(
        self,
        upload: Upload,
        user_agent: Arc<str>,
        progress: Progress,
    ) -> Result<HttpAnswer, HttpFailure> {
        let Upload { url, bearer, envelope, payload } = upload;
        let url = parse(&url)?;
        let head = Self::head(hyper::Method::POST, &url, Some(&bearer), &user_agent)?
            .header(CONTENT_TYPE, &envelope.content_type);
        let body = UploadBody::open(self.platform().clone(), envelope, payload, progress)
            .await
            .map_err(|error| failure(format_args!("the result can't be read: {error}")))?;
        let asked = head.body(body).map_err(failure)?;
        self.ask(&url, Reach::Any, asked, async |response| {
            let mut answer = without_body(&response);
            // The status says what became of the result. A body that doesn't come must not have it sent again.
            let body = read(response.into_body(), HttpAnswer::SMALL_BODY, &mut answer.body);
            let _ = within(self.platform(), BODY_BOUND, body).await;
            Ok(answer)
        })
        .await
    }

    /// Asks for a file, as [`Runtime::fetch`](crate::drive::Runtime::fetch).
    pub async fn fetch(self, request: FileRequest, user_agent: Arc<str>) -> Result<Fetched, HttpFailure> {
        let url = parse(&request.url)?;
        let mut head = Self::head(hyper::Method::GET, &url, None, &user_agent)?;
        for (name, value) in request.headers() {
            head = head.header(name, value);
        }
        let asked = head.body(Small(None)).map_err(failure)?;
        let (mut sender, connection) = self.open(&url, request.reach).await?;
        // Once it has ended, the exchange knows it by itself.
        let mut connection = Box::pin(connection.then(|_| pending::<std::convert::Infallible>()));
        let asking = pin!(sender.send_request(asked));
        let response = match select(asking, &mut connection).await {
            Either::Left((response, _)) => response.map_err(|error| failure(with_causes(&error)))?,
            Either::Right((never, _)) => match never {},
        };
        let head = FileHead::read(response.status().as_u16(), |name| last(&response, name));
        let mut body = response.into_body();
        let pieces = futures::stream::poll_fn(move |cx| {
            // The connection goes on as long as somebody reads.
            let _ = connection.poll_unpin(cx);
            let _keeps_it_open = &sender;
            let frame = ready!(Pin::new(&mut body).poll_frame(cx));
            let piece = frame.map(|frame| match frame {
                Ok(frame) => Ok(frame.into_data().unwrap_or_default()),
                Err(error) => Err(io::Error::other(with_causes(&error))),
            });
            Poll::Ready(piece)
        });
        Ok(Fetched { head, body: Box::pin(pieces.into_async_read()) })
    }

    fn head(
        method: hyper::Method,
        url: &Url,
        bearer: Option<&Secret>,
        user_agent: &str,
    ) -> Result<hyper::http::request::Builder, HttpFailure> {
        let no_header = |_| failure("the token has characters that no header can carry");
        let (Some(host), port) = (url.host_str(), url.port()) else {
            return Err(failure("the address names no host"));
        };
        let host = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let path =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let mut head = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            // It has no other use for the connection.
            .header(CONNECTION, "close")
            .header(USER_AGENT, HeaderValue::from_str(user_agent).map_err(no_header)?);
        if let Some(bearer) = bearer {
            let mut bearer =
                HeaderValue::try_from(format!("Bearer {}", bearer.reveal())).map_err(no_header)?;
            bearer.set_sensitive(true);
            head = head.header(AUTHORIZATION, bearer);
        }
        Ok(head)
    }

    /// Connects and asks; `take` takes the answer while the connection lives.
    async fn ask<B>(
        &self,
        url: &Url,
        reach: Reach,
        request: Request<B>,
        take: impl AsyncFnOnce(Response<Incoming>) -> Result<HttpAnswer, HttpFailure>,
    ) -> Result<HttpAnswer, HttpFailure>
    where
        B: Body<Data = Bytes, Error = io::Error> + Send + 'static,
    {
        let (mut sender, connection) = self.open(url, reach).await?;
        let exchange = async {
            let response = sender.send_request(request).await;
            take(response.map_err(|error| failure(with_causes(&error)))?).await
        };
        // Once it has ended, the exchange knows it by itself.
        let connection = async {
            let _ = connection.await;
            pending::<std::convert::Infallible>().await
        };
        match select(pin!(exchange), pin!(connection)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right((never, _)) => match never {},
        }
    }

    /// Connects, for one exchange.
    async fn open<B>(
        &self,
        url: &Url,
        reach: Reach,
    ) -> Result<(http1::SendRequest<B>, http1::Connection<Io<Connection<P::Stream>>, B>), HttpFailure>
    where
        B: Body<Data = Bytes, Error = io::Error> + Send + 'static,
    {
        let connection =
            within(self.platform(), CONNECT_BOUND, self.connect(url, reach)).await.unwrap_or_else(|| {
                Err(failure(format_args!("no connection within {} s", CONNECT_BOUND.as_secs())))
            })?;
        http1::handshake(Io::new(connection)).await.map_err(|error| failure(with_causes(&error)))
    }

    async fn connect(&self, url: &Url, reach: Reach) -> Result<Connection<P::Stream>, HttpFailure> {
        let (Some(host), Some(port)) = (url.host_str().map(bare), url.port_or_known_default()) else {
            return Err(failure("the address names no host"));
        };
        let to = Destination { secure: url.scheme() == "https", host, port, reach };
        self.0.open(to).await.map_err(|error| failure(format_args!("no connection to {host}: {error}")))
    }
}

/// An answer's head.
fn without_body(response: &Response<Incoming>) -> HttpAnswer {
    let header = |name: &str| last(response, name);
    HttpAnswer {
        status: response.status().as_u16(),
        retry_after: header("retry-after"),
        date: header("date"),
        location: header("location"),
        body: Vec::new(),
    }
}

/// The last header of this name, as far as it is text.
fn last(response: &Response<Incoming>, name: &str) -> Option<String> {
    let value = response.headers().get_all(name).iter().next_back()?;
    value.to_str().ok().map(str::to_owned)
}

/// Reads a body up to `limit` bytes.
async fn read(mut body: Incoming, limit: usize, into: &mut Vec<u8>) -> Result<(), hyper::Error> {
    while into.len() < limit {
        let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else { break };
        if let Ok(piece) = frame?.into_data() {
            into.extend_from_slice(&piece[..piece.len().min(limit - into.len())]);
        }
    }
    Ok(())
}

fn parse(url: &str) -> Result<Url, HttpFailure> {
    let url = Url::parse(url).map_err(|error| failure(format_args!("the address can't be read: {error}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(failure(format_args!("an address that begins with {other}: can't be fetched"))),
    }
}

fn failure(why: impl Display) -> HttpFailure {
    HttpFailure(why.to_string())
}

/// A body in memory.
struct Small(Option<Bytes>);

impl Body for Small {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }
}

/// A byte stream as hyper knows it.
///
/// A server that has read enough answers and ends the connection, and then writing fails before the answer is read. So
/// that a write has failed is told only when there is nothing left to read.
struct Io<S> {
    stream: S,
    failed: Option<io::Error>,
}

impl<S> Io<S> {
    fn new(stream: S) -> Self {
        Self { stream, failed: None }
    }

    /// What came of writing, unless it failed: then whoever writes waits, and reading goes on.
    fn written<T>(&mut self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(error)) => {
                self.failed.get_or_insert(error);
                Poll::Pending
            }
            written => written,
        }
    }
}

impl<S: AsyncRead + Unpin> Read for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut page = [0; READ_BUFFER];
        let room = buffer.remaining().min(READ_BUFFER);
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut page[..room]));
        match (read, self.failed.take()) {
            (Ok(0) | Err(_), Some(failed)) => Poll::Ready(Err(failed)),
            (Err(error), None) => Poll::Ready(Err(error)),
            (Ok(read), failed) => {
                self.failed = failed;
                buffer.put_slice(&page[..read]);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Io<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buffer);
        self.written(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.written(written)
    }
}

#[cfg(test)]
mod tests;
