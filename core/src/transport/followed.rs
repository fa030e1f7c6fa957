//! A stream that knows where in the frames that come through it its reader is.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

/// The longest head of a frame that a server sends, in bytes (RFC 6455, section 5.2): it has no mask.
const MAX_HEAD: usize = 10;

/// A byte stream whose reader is followed from frame to frame.
#[derive(Debug)]
pub(super) struct Followed<S> {
    stream: S,
    position: Position,
}

/// Where in the frames of a server a reader is.
#[derive(Debug, Default)]
struct Position {
    /// The head that is under way, as far as it has come.
    head: [u8; MAX_HEAD],
    head_length: usize,
    /// What is still to come of a frame, in bytes.
    payload_left: u64,
    /// A message goes on with the next frame of data.
    in_message: bool,
    /// The payload of the largest frame, in bytes.
    largest: u64,
}

impl<S> Followed<S> {
    /// Of what `stream` said, `read` has been read before.
    pub(super) fn new(stream: S, read: &[u8]) -> Self {
        let mut position = Position::default();
        position.pass(read);
        Self { stream, position }
    }

    /// Whether all that was read is whole messages, so that a reader has nothing left of it.
    pub(super) fn is_between_messages(&self) -> bool {
        self.position.head_length == 0 && self.position.payload_left == 0 && !self.position.in_message
    }

    /// What it reads from.
    #[cfg(test)]
    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The payload of the largest frame since this was last asked, in bytes.
    pub(super) fn take_largest(&mut self) -> u64 {
        std::mem::take(&mut self.position.largest)
    }
}

impl Position {
    /// `bytes` were read.
    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let passed = bytes.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            self.head[self.head_length] = *first;
            self.head_length += 1;
            bytes = rest;
            if let Some(length) = self.length() {
                let is_control = self.head[0] & 0x08 != 0;
                if !is_control {
                    self.in_message = self.head[0] & 0x80 == 0;
                }
                self.head_length = 0;
                self.payload_left = length;
                self.largest = self.largest.max(length);
            }
        }
    }

    /// The length of the payload, once the head is whole.
    fn length(&self) -> Option<u64> {
        let [_, short, long @ ..] = self.head;
        match (short & 0x7f, self.head_length) {
            (_, 0 | 1) | (126, 2 | 3) => None,
            (126, _) => Some(u16::from_be_bytes([long[0], long[1]]).into()),
            (127, MAX_HEAD) => Some(u64::from_be_bytes(long)),
            (127, _) => None,
            (length, _) => Some(length.into()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Followed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.position.pass(&buffer[..read]);
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Followed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use async_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };
    use proptest::prelude::*;

    use super::*;

    /// Frames as the library writes them: their lengths, and whether they end a message.
    fn frames() -> impl Strategy<Value = Vec<(usize, bool, bool)>> {
        let length = prop_oneof![0..200_usize, 60_000..70_000_usize];
        proptest::collection::vec((length, any::<bool>(), any::<bool>()), 1..8)
    }

    fn written(length: usize, is_final: bool, is_control: bool) -> Vec<u8> {
        let frame = if is_control {
            Frame::ping(vec![0xff; length.min(125)])
        } else {
            Frame::message(vec![0xff; length], OpCode::Data(Data::Text), is_final)
        };
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn it_knows_where_messages_end_however_they_are_cut(frames in frames(), cut in 1..5_000_usize) {
            let mut position = Position::default();
            let (mut in_message, mut largest) = (false, 0);
            for (length, is_final, is_control) in frames {
                let bytes = written(length, is_final, is_control);
                let (last, before) = bytes.split_last().unwrap();
                for part in before.chunks(cut) {
                    position.pass(part);
                }
                let mut followed = Followed { stream: (), position };
                prop_assert!(!followed.is_between_messages());
                followed.position.pass(&[*last]);
                if is_control {
                    largest = largest.max(length.min(125));
                } else {
                    in_message = !is_final;
                    largest = largest.max(length);
                }
                prop_assert_eq!(followed.is_between_messages(), !in_message);
                position = followed.position;
            }
            prop_assert_eq!(Followed { stream: (), position }.take_largest(), largest as u64);
        }
    }

    #[test]
    fn the_longest_length_is_read() {
        let mut position = Position::default();
        position.pass(&[0x81, 127]);
        position.pass(&u64::MAX.to_be_bytes());
        assert_eq!(position.payload_left, u64::MAX);
    }
}
