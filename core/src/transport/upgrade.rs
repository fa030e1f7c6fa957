//! The upgrade of a connection to a session (section 1).
//!
//! Done by hand rather than by the WebSocket library: the body of a refusal is read to its end, since it
//! tells a worker that is unknown from an address that is wrong, and the bearer is written to the socket and
//! nowhere else, also not to a log at its finest.

use std::io;

use async_tungstenite::tungstenite::{
    handshake::{client::generate_key, derive_accept_key},
    http::Uri,
};
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use httparse::Status;

use super::{
    BODY_BOUND, Platform,
    head::{Head, NoHead, read_head, read_more},
    within,
};
use crate::{
    drive::Connect,
    http::{Reach, proxy::Destination},
    wire::SUB_PROTOCOL,
    worker::{ConnectFailure, HttpAnswer},
};

/// Where a session's URL leads.
pub(super) struct Target {
    /// A name or an address, without brackets.
    pub(super) host: String,
    port: u16,
    secure: bool,
    authority: String,
    path: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, ConnectFailure> {
        let wrong = || trouble("the address of the session can't be read");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("wss") => true,
            Some("ws") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host();
        let named = authority.port_u16();
        Ok(Self {
            host: bare(host).into(),
            port: named.unwrap_or(if secure { 443 } else { 80 }),
            secure,
            // Without a user's name, which is nobody else's business.
            authority: named.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).into(),
        })
    }
}

impl Target {
    pub(super) fn destination(&self) -> Destination<'_> {
        Destination { secure: self.secure, host: &self.host, port: self.port, reach: Reach::Any }
    }
}

/// An address in brackets is one of IPv6.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Upgrades `stream`: what was read after the head of the answer, already frames.
pub(super) async fn upgrade<S>(
    platform: &impl Platform,
    stream: &mut S,
    target: &Target,
    connect: &Connect,
) -> Result<Vec<u8>, ConnectFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = generate_key();
    let bearer = connect.bearer.reveal();
    if !is_header_text(bearer) || !is_header_text(&connect.user_agent) {
        return Err(trouble("the token has characters that no header can carry"));
    }
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUB_PROTOCOL}\r\n\
         Authorization: Bearer {bearer}\r\nUser-Agent: {agent}\r\n\r\n",
        path = target.path,
        host = target.authority,
        agent = connect.user_agent,
    );
    let written = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    };
    written.await.map_err(|error| trouble(format_args!("the upgrade could not be asked for: {error}")))?;
    let (head, mut rest) = read_head(stream).await.map_err(|none| match none {
        NoHead::NotHttp => trouble("the answer to the upgrade is not HTTP"),
        NoHead::Ended => trouble("the connection ended before the upgrade was answered"),
        NoHead::Broken(error) => {
            trouble(format_args!("the connection broke before the upgrade was answered: {error}"))
        }
    })?;
    if head.status == 101 {
        head.check(&key)?;
        return Ok(rest);
    }
    // The bound is on the body alone: what has come by then is what there is.
    let _ = within(platform, BODY_BOUND, read_body(stream, &head, &mut rest)).await;
    if head.is_chunked {
        rest = dechunked(&rest);
    }
    rest.truncate(head.length.unwrap_or(usize::MAX).min(HttpAnswer::SMALL_BODY));
    Err(ConnectFailure::Refused(HttpAnswer {
        status: head.status,
        retry_after: head.retry_after,
        date: head.date,
        location: None,
        body: rest,
    }))
}

impl Head {
    /// Whether the answer is to this request and speaks the sub-protocol.
    fn check(&self, key: &str) -> Result<(), ConnectFailure> {
        if !self.upgrades || self.accept.as_deref() != Some(&derive_accept_key(key.as_bytes())) {
            return Err(trouble("the answer to the upgrade is not one of a WebSocket server"));
        }
        if self.protocol.as_deref() != Some(SUB_PROTOCOL) {
            return Err(trouble(format_args!(
                "the studio does not speak {SUB_PROTOCOL}: its answer names {}",
                self.protocol.as_deref().unwrap_or("no sub-protocol")
            )));
        }
        Ok(())
    }
}

/// Reads on until the body is whole, or as much of it as is wanted.
async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, head: &Head, body: &mut Vec<u8>) -> io::Result<()> {
    let wanted = match head.length {
        Some(length) if !head.is_chunked => length.min(HttpAnswer::SMALL_BODY),
        _ => HttpAnswer::SMALL_BODY,
    };
    while body.len() < wanted && !(head.is_chunked && body.ends_with(b"0\r\n\r\n")) {
        if read_more(stream, body).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// A chunked body as far as it came.
fn dechunked(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Status::Complete((start, length))) = httparse::parse_chunk_size(raw) {
        let rest = &raw[start..];
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
        body.extend_from_slice(&rest[..length]);
        raw = rest[length..].strip_prefix(b"\r\n").unwrap_or_default();
        if length == 0 {
            break;
        }
    }
    body
}

/// Whether a text can stand in a header of HTTP.
pub fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn trouble(what: impl std::fmt::Display) -> ConnectFailure {
    ConnectFailure::Trouble(what.to_string())
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;
    use crate::{transport::tests::here, wire::Secret};

    /// A stream that answers whatever is asked.
    struct Answers(Cursor<Vec<u8>>, Vec<u8>);

    impl AsyncRead for Answers {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buffer: &mut [u8],
        ) -> std::task::Poll<io::Result<usize>> {
            // A byte at a time: nothing may depend on how the answer is cut.
            let end = buffer.len().min(1);
            std::pin::Pin::new(&mut self.0).poll_read(cx, &mut buffer[..end])
        }
    }

    impl AsyncWrite for Answers {
        fn poll_write(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buffer: &[u8],
        ) -> std::task::Poll<io::Result<usize>> {
            std::pin::Pin::new(&mut self.1).poll_write(cx, buffer)
        }

        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn poll_close(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }

    fn ask(url: &str, answer: &str) -> (Result<Vec<u8>, ConnectFailure>, String) {
        let connect =
            Connect { url: url.into(), bearer: Secret::from("tok"), user_agent: "studio-worker/1".into() };
        let target = Target::parse(url).unwrap();
        let mut stream = Answers(Cursor::new(answer.as_bytes().to_vec()), Vec::new());
        let outcome = block_on(upgrade(&here(), &mut stream, &target, &connect));
        (outcome, String::from_utf8(stream.1).unwrap())
    }

    fn refusal(answer: &str) -> HttpAnswer {
        match ask("ws://studio/x", answer).0 {
            Err(ConnectFailure::Refused(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_request_names_what_section_1_asks_for() {
        let (_, request) = ask("ws://user:pw@studio:81/graphics/api/workers/w%2F1/connect", "");
        assert!(
            request.starts_with("GET /graphics/api/workers/w%2F1/connect HTTP/1.1\r\nHost: studio:81\r\n")
        );
        for header in [
            "Sec-WebSocket-Protocol: studio-worker-v1",
            "Authorization: Bearer tok",
            "User-Agent: studio-worker/1",
            "Sec-WebSocket-Version: 13",
        ] {
            assert!(request.contains(&format!("\r\n{header}\r\n")), "{header}");
        }
    }

    #[test]
    fn a_token_that_would_break_the_request_is_not_sent() {
        let connect =
            Connect { url: String::new(), bearer: Secret::from("a\r\nX: y"), user_agent: "s".into() };
        let target = Target::parse("ws://studio/").unwrap();
        let mut stream = Answers(Cursor::new(Vec::new()), Vec::new());
        let outcome = block_on(upgrade(&here(), &mut stream, &target, &connect));
        assert!(matches!(&outcome, Err(ConnectFailure::Trouble(why)) if !why.contains("X: y")));
        assert!(stream.1.is_empty());
    }

    #[test]
    fn the_body_of_a_refusal_is_read_to_its_length() {
        let answer = refusal(
            "HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\nRetry-After: 7\r\nDate: d\r\n\r\nworker not foundand more",
        );
        assert_eq!((answer.status, answer.body.as_slice()), (404, b"worker not found".as_slice()));
        assert_eq!((answer.retry_after.as_deref(), answer.date.as_deref()), (Some("7"), Some("d")));
    }

    #[test]
    fn a_body_in_chunks_or_without_a_length_is_read_too() {
        let chunked =
            "HTTP/1.1 404 x\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nworker\r\na\r\n not found\r\n0\r\n\r\n";
        assert_eq!(refusal(chunked).body, b"worker not found");
        assert_eq!(refusal("HTTP/1.1 503 x\r\n\r\nlater").body, b"later");
        let much = format!("HTTP/1.1 503 x\r\n\r\n{}", "x".repeat(HttpAnswer::SMALL_BODY + 9));
        assert_eq!(refusal(&much).body.len(), HttpAnswer::SMALL_BODY);
    }

    #[test]
    fn answers_on_the_way_are_passed_over() {
        let answer = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(refusal(answer).status, 401);
    }

    #[test]
    fn an_upgrade_that_is_not_one_is_trouble() {
        for answer in [
            "",
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
            &"HTTP/1.1 200 x\r\nA: b".repeat(9_000),
        ] {
            assert!(matches!(ask("ws://studio/x", answer).0, Err(ConnectFailure::Trouble(_))));
        }
    }

    #[test]
    fn the_sub_protocol_must_come_back() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let mut head =
            Head { upgrades: true, accept: Some(derive_accept_key(key.as_bytes())), ..Head::default() };
        assert!(matches!(head.check(key), Err(ConnectFailure::Trouble(why)) if why.contains(SUB_PROTOCOL)));
        head.protocol = Some("studio-worker-v2".into());
        assert!(head.check(key).is_err());
        head.protocol = Some(SUB_PROTOCOL.into());
        assert_eq!(head.check(key), Ok(()));
        assert!(head.check("another key").is_err());
    }
}
