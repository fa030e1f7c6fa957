//! What no server of the conformance suite can bring about at will.

use futures::executor::block_on;

use super::*;
use crate::{engine::Payload, transport::tests::Dials, wire::multipart::Envelope};

/// A connection that takes a few bytes and breaks; the answer comes at that very moment.
struct Breaks {
    takes: usize,
    answer: &'static [u8],
}

impl AsyncRead for Breaks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.takes > 0 {
            return Poll::Pending;
        }
        let read = buffer.len().min(self.answer.len());
        buffer[..read].copy_from_slice(&self.answer[..read]);
        self.answer = &self.answer[read..];
        if read == 0 {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        } else {
            Poll::Ready(Ok(read))
        }
    }
}

impl AsyncWrite for Breaks {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        if self.takes == 0 {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe)));
        }
        let taken = buffer.len().min(self.takes);
        self.takes -= taken;
        if self.takes == 0 {
            // Whoever reads has something now.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn upload(answer: &'static [u8]) -> Result<HttpAnswer, HttpFailure> {
    let envelope = Envelope { content_type: "x/y".into(), head: b"head".to_vec(), tail: b"tail".to_vec() };
    let payload = Payload::from(vec![7; 1_000_000]);
    let upload = Upload { url: "http://studio/x".into(), bearer: "tok".into(), envelope, payload };
    let breaks = move |_: &str, _| Ok(Breaks { takes: 2_000, answer });
    block_on(Http::new(Connector::new(Dials::new(breaks))).upload(upload, "test".into(), Progress::default()))
}

#[test]
fn an_answer_is_read_though_writing_failed_before_it() {
    let answer = upload(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (413, b"big".as_slice()));
}

#[test]
fn without_an_answer_the_failure_is_told() {
    let failure = upload(b"").unwrap_err();
    assert!(failure.0.contains("broken pipe"), "{failure}");
}
