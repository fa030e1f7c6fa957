//! Sockets over streams that give and take bytes by the handful.

use std::{collections::VecDeque, io, task::Waker};

use allocation_counter::measure;
use async_tungstenite::tungstenite::{
    WebSocket,
    protocol::frame::{
        Frame,
        coding::{CloseCode as Code, Data, OpCode},
    },
};
use futures::executor::block_on;
use proptest::prelude::*;

use super::*;

/// A peer that has said all it will say.
#[derive(Debug, Default)]
struct Peer {
    says: VecDeque<u8>,
    heard: Vec<u8>,
    /// How much goes through at a time; before each part, there is a while in which nothing does.
    cut: usize,
    rested: [bool; 2],
}

impl Peer {
    fn saying(frames: impl IntoIterator<Item = Frame>, cut: usize) -> Self {
        let mut says = Vec::new();
        for frame in frames {
            frame.format(&mut says).unwrap();
        }
        Self { says: says.into(), cut, ..Self::default() }
    }

    /// Whether it is the time to rest.
    fn rests(&mut self, way: usize, cx: &Context<'_>) -> bool {
        self.rested[way] = !self.rested[way];
        if self.rested[way] {
            cx.waker().wake_by_ref();
        }
        self.rested[way]
    }

    /// What it heard, as a server reads it.
    fn read(&self) -> Vec<Message> {
        let mut server = WebSocket::from_raw_socket(
            io::Cursor::new(self.heard.clone()),
            Role::Server,
            Some(WebSocketConfig::default()),
        );
        std::iter::from_fn(|| server.read().ok()).collect()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.says.is_empty() || self.rests(0, cx) {
            return Poll::Pending;
        }
        let end = buffer.len().min(self.cut);
        Poll::Ready(io::Read::read(&mut self.says, &mut buffer[..end]))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        if self.rests(1, cx) {
            return Poll::Pending;
        }
        let written = &buffer[..buffer.len().min(self.cut)];
        self.heard.extend_from_slice(written);
        Poll::Ready(Ok(written.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn piece(text: &str, opcode: Data, is_final: bool) -> Frame {
    Frame::message(text.to_owned(), OpCode::Data(opcode), is_final)
}

fn text(text: &str) -> Frame {
    piece(text, Data::Text, true)
}

fn over(peer: Peer) -> Socket<Peer> {
    block_on(Socket::new(peer, Vec::new()))
}

/// As the driver does it: writes first, then reads what there is.
fn turn(socket: &mut Socket<Peer>) -> Option<Result<Received, SocketError>> {
    let mut cx = Context::from_waker(Waker::noop());
    let _ = Pin::new(&mut *socket).poll_flush(&mut cx).map(Result::unwrap);
    match Pin::new(socket).poll_next(&mut cx) {
        Poll::Ready(received) => received,
        Poll::Pending => None,
    }
}

fn peer(socket: &mut Socket<Peer>) -> &mut Peer {
    socket.inner.as_mut().unwrap().get_mut().stream_mut()
}

#[derive(Debug, Clone)]
enum Said {
    Text(String),
    Pieces(String, String),
    Ping,
}

fn said() -> impl Strategy<Value = Said> {
    // Around what buffers hold, and what they let go.
    let text = (0..6_000_usize, proptest::char::range('a', 'z'))
        .prop_map(|(length, letter)| letter.to_string().repeat(length));
    prop_oneof![
        text.clone().prop_map(Said::Text),
        (text.clone(), text).prop_map(|(first, second)| Said::Pieces(first, second)),
        Just(Said::Ping),
    ]
}

proptest! {
    /// Buffers come and go, and no byte is lost with them.
    #[test]
    fn what_is_said_arrives_both_ways(said in proptest::collection::vec(said(), 1..12), cut in 1..3_000_usize) {
        let (mut frames, mut texts) = (Vec::new(), Vec::new());
        for said in said {
            match said {
                Said::Text(said) => {
                    frames.push(text(&said));
                    texts.push(said);
                }
                Said::Pieces(first, second) => {
                    frames.extend([piece(&first, Data::Text, false), Frame::ping("?"), piece(&second, Data::Continue, true)]);
                    texts.push(first + &second);
                }
                Said::Ping => frames.push(Frame::ping("?")),
            }
        }
        let mut socket = over(Peer::saying(frames, cut));
        let mut heard = Vec::new();
        while !peer(&mut socket).says.is_empty() || !socket.flushed || heard.len() < texts.len() {
            match turn(&mut socket) {
                Some(Ok(Received::Text(text))) => {
                    // Said back at once, while more comes.
                    Pin::new(&mut socket).start_send(Outgoing::Text(text.clone())).unwrap();
                    heard.push(text);
                }
                None | Some(Ok(Received::Ping)) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(&heard, &texts);
        let said: Vec<_> = peer(&mut socket).read().into_iter().filter(Message::is_text).collect();
        let texts: Vec<_> = texts.into_iter().map(Message::from).collect();
        prop_assert!(said == texts, "what was said back is not what was heard");
    }
}

#[test]
fn a_large_frame_leaves_no_buffer_behind() {
    const LARGE: usize = 1024 * 1024;
    let prompt = "x".repeat(LARGE);
    let mut socket = over(Peer::saying([text("small"), text(&prompt), text("small")], 64 * 1024));
    let mut received = 0;
    let grown = measure(|| {
        while received < 3 || !socket.flushed {
            if let Some(frame) = turn(&mut socket) {
                let Received::Text(text) = frame.unwrap() else { panic!("no text") };
                received += 1;
                Pin::new(&mut socket).start_send(Outgoing::Text(text)).unwrap();
            }
        }
        // A socket at rest is asked what has come.
        assert!(turn(&mut socket).is_none());
        peer(&mut socket).heard = Vec::new();
    });
    // What the peer heard is gone as well by now.
    assert!(grown.bytes_max >= LARGE as u64);
    assert!(grown.bytes_current < 4 * 1024, "{} bytes are left", grown.bytes_current);
}

#[test]
fn a_ping_is_answered_with_the_next_flush_and_a_close_too() {
    let close = Frame::close(Some(CloseFrame { code: Code::Library(4002), reason: "why".into() }));
    let mut socket = over(Peer::saying([Frame::ping("are you there"), close], 1_000));
    let mut received = Vec::new();
    while received.len() < 2 {
        received.extend(turn(&mut socket).map(Result::unwrap));
    }
    assert_eq!(received, [Received::Ping, Received::Close { code: CloseCode(4002), reason: "why".into() }]);
    while !socket.flushed {
        turn(&mut socket);
    }
    assert_eq!(peer(&mut socket).read().first(), Some(&Message::Pong("are you there".into())));
    assert!(
        matches!(peer(&mut socket).read().last(), Some(Message::Close(Some(said))) if said.reason == "why")
    );
}
