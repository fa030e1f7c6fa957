//! The head of an answer, read off a byte stream: that of a studio to an upgrade, and that of a proxy.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Poll, ready},
};

use futures::AsyncRead;
use httparse::{EMPTY_HEADER, Status};

/// The most that is read for the head of an answer, in bytes: with those on the way to it, since who says one after the
/// other would be heard forever.
const MAX_HEAD: usize = 32 * 1024;
/// The most answers on the way to the one that counts.
const MAX_ON_THE_WAY: usize = 8;
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
    let (mut bytes, mut read, mut on_the_way) = (Vec::new(), 0, 0);
    loop {
        match Head::parse(&bytes) {
            Ok(Some((head, end))) => {
                bytes.drain(..end);
                if head.status == 101 || head.status >= 200 {
                    return Ok((head, bytes));
                }
                on_the_way += 1;
                if on_the_way > MAX_ON_THE_WAY {
                    return Err(NoHead::NotHttp);
                }
                continue;
            }
            Ok(None) if read < MAX_HEAD => {}
            Ok(None) | Err(_) => return Err(NoHead::NotHttp),
        }
        match read_more(stream, &mut bytes).await.map_err(NoHead::Broken)? {
            0 => return Err(NoHead::Ended),
            more => read += more,
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

#[cfg(test)]
mod tests {
    use std::task::Context;

    use futures::executor::block_on;

    use super::*;

    /// Says the same again and again, and always has more: it never has its reader wait.
    struct Endless {
        text: &'static [u8],
        read: usize,
    }

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let text = self.text.iter().cycle().skip(self.read % self.text.len());
            let read = buffer.iter_mut().zip(text).map(|(to, from)| *to = *from).count();
            self.read += read;
            assert!(self.read < 1024 * 1024, "it reads on and on");
            Poll::Ready(Ok(read))
        }
    }

    #[test]
    fn answers_on_the_way_come_to_an_end() {
        let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
        let zeros = b"HTTP/1.1 000 \r\n\r\n";
        let large =
            b"HTTP/1.1 100 Continue\r\nA: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n\r\n";
        for text in [&hints[..], zeros, large, b"HTTP/1.1 200 OK\r\nA", b"A"] {
            let mut stream = Endless { text, read: 0 };
            assert!(matches!(block_on(read_head(&mut stream)), Err(NoHead::NotHttp)));
            assert!(stream.read <= MAX_HEAD + 4096, "{}", stream.read);
        }
    }

    #[test]
    fn a_few_answers_on_the_way_are_passed_over() {
        let text =
            "HTTP/1.1 103 Hints\r\nA: b\r\n\r\n".repeat(MAX_ON_THE_WAY) + "HTTP/1.1 200 OK\r\n\r\nrest";
        let (head, rest) = block_on(read_head(&mut text.as_bytes())).unwrap();
        assert_eq!((head.status, &*rest), (200, &b"rest"[..]));
        let more = format!("HTTP/1.1 103 Hints\r\n\r\n{text}");
        assert!(matches!(block_on(read_head(&mut more.as_bytes())), Err(NoHead::NotHttp)));
    }
}
