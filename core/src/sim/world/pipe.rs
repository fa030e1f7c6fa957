//! One direction of a connection: bytes with a window, and frames made of them.
//!
//! The framing is not that of RFC 6455, which is the runtimes' matter: it is there so that a connection can break
//! at any byte, and so that a frame can be half there.

use std::{collections::VecDeque, task::Waker};

use crate::wire::CloseCode;

/// A frame on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Text(String),
    Binary,
    Ping,
    Pong,
    Close { code: CloseCode, reason: String },
}

impl Frame {
    /// A tag, the length of what follows as four bytes, and what follows.
    pub(super) fn write(&self, to: &mut VecDeque<u8>) {
        let (tag, head, body): (u8, &[u8], &str) = match self {
            Self::Text(text) => (0, &[], text),
            Self::Binary => (1, &[], ""),
            Self::Ping => (2, &[], ""),
            Self::Pong => (3, &[], ""),
            Self::Close { code, reason } => (4, &code.0.to_be_bytes(), reason),
        };
        let length = u32::try_from(head.len() + body.len()).unwrap_or(u32::MAX);
        to.push_back(tag);
        to.extend(length.to_be_bytes());
        to.extend(head);
        to.extend(body.as_bytes());
    }

    /// Takes a frame that is there as a whole.
    pub(super) fn read(from: &mut VecDeque<u8>) -> Option<Self> {
        let mut head = from.iter().copied().take(5);
        let tag = head.next()?;
        let length = head.fold((0, 0_usize), |(n, sum), byte| (n + 1, sum << 8 | usize::from(byte)));
        let (4, length) = length else { return None };
        if from.len() < 5 + length {
            return None;
        }
        let body: Vec<u8> = from.drain(..5 + length).skip(5).collect();
        Some(match tag {
            0 => Self::Text(text(body)),
            1 => Self::Binary,
            2 => Self::Ping,
            3 => Self::Pong,
            _ => {
                let code = CloseCode(u16::from_be_bytes([body[0], body[1]]));
                Self::Close { code, reason: text(body[2..].to_vec()) }
            }
        })
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

/// What is under way in one direction, and what came and was not read.
#[derive(Default)]
pub(super) struct Pipe {
    /// How many bytes it takes; those that were not read count.
    pub(super) window: usize,
    pub(super) under_way: usize,
    pub(super) inbox: VecDeque<u8>,
    /// When the newest bytes arrive: later ones don't overtake them.
    pub(super) newest: u64,
    /// The bytes that still get through before the connection breaks.
    pub(super) dies_after: Option<usize>,
    /// Nothing gets through any more, and nobody is told.
    pub(super) is_lost: bool,
    /// Nothing that is sent before then arrives earlier.
    pub(super) stalls_until: u64,
    /// Who waits for room, and who for bytes.
    pub(super) writer: Option<Waker>,
    pub(super) reader: Option<Waker>,
}

impl Pipe {
    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.under_way + self.inbox.len())
    }

    /// Hands over what came, and makes room for more.
    pub(super) fn take_into(&mut self, bytes: &mut VecDeque<u8>) {
        if !self.inbox.is_empty() {
            bytes.append(&mut self.inbox);
            if let Some(writer) = self.writer.take() {
                writer.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_whatever_the_pieces_are() {
        let frames = [
            Frame::Text("grüße".into()),
            Frame::Binary,
            Frame::Close { code: CloseCode(4002), reason: "ouch".into() },
            Frame::Ping,
            Frame::Pong,
            Frame::Text(String::new()),
        ];
        let mut bytes = VecDeque::new();
        for frame in &frames {
            frame.write(&mut bytes);
        }
        let (mut came, mut read) = (VecDeque::new(), Vec::new());
        for byte in bytes {
            came.push_back(byte);
            read.extend(Frame::read(&mut came));
        }
        assert_eq!(read, frames);
    }
}
