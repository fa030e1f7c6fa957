//! The head of an answer, read off a byte stream: that of a studio to an upgrade, and that of a proxy.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Poll, ready},
};

use futures::AsyncRead;
use httparse::{EMPTY_HEADER, Status};

/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// The most headers of an answer.
const MAX_HEADERS: usize = 100;

/// What counts of the head of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) upgrades: bool,
    pub(super) accept: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) retry_after: Option<String>,
    pub(super) date: Option<String>,
    pub(super) length: Option<usize>,
    pub(super) is_chunked: bool,
}

impl Head {
    /// Reads a head, and how long it is; none while it is incomplete.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, httparse::Error> {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        let Status::Complete(end) = answer.parse(bytes)? else { return Ok(None) };
        let mut head = Self { status: answer.code.unwrap_or(0), ..Self::default() };
        for header in answer.headers.iter() {
            let value = String::from_utf8_lossy(header.value);
            let value = value.trim();
            match header.name.to_ascii_lowercase().as_str() {
                "upgrade" => head.upgrades = value.eq_ignore_ascii_case("websocket"),
                "sec-websocket-accept" => head.accept = Some(value.into()),
                "sec-websocket-protocol" => head.protocol = Some(value.into()),
                "retry-after" => head.retry_after = Some(value.into()),
                "date" => head.date = Some(value.into()),
                "content-length" => head.length = value.parse().ok(),
                "transfer-encoding" => head.is_chunked = value.to_ascii_lowercase().contains("chunked"),
                _ => {}
            }
        }
        Ok(Some((head, end)))
    }
}

/// Why there is no head.
#[derive(Debug)]
pub(super) enum NoHead {
    /// What came is something else, or too large.
    NotHttp,
    /// The connection ended before.
    Ended,
    Broken(io::Error),
}

/// Reads the head of the answer, past those on the way to it, and what came with it.
pub(super) async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(Head, Vec<u8>), NoHead> {
    let mut bytes = Vec::new();
    loop {
        match Head::parse(&bytes) {
            Ok(Some((head, end))) => {
                bytes.drain(..end);
                if head.status == 101 || head.status >= 200 {
                    return Ok((head, bytes));
                }
                // One on the way to the answer.
                continue;
            }
            Ok(None) if bytes.len() < MAX_HEAD => {}
            Ok(None) | Err(_) => return Err(NoHead::NotHttp),
        }
        if read_more(stream, &mut bytes).await.map_err(NoHead::Broken)? == 0 {
            return Err(NoHead::Ended);
        }
    }
}

/// Reads what has come, after what was read before; nothing at the end.
pub(super) async fn read_more<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
) -> io::Result<usize> {
    // A buffer that is there while it is polled, and no part of what waits.
    poll_fn(|cx| {
        let mut buffer = [0; 4096];
        let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        bytes.extend_from_slice(&buffer[..read]);
        Poll::Ready(Ok(read))
    })
    .await
}
