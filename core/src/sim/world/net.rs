//! Connections between a worker and the studio, and all the ways in which they break.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{Sink, Stream};

use super::{
    pipe::{Frame, Pipe},
    promise::Promise,
    state::{State, World},
};
use crate::{
    drive::{Connect, Outgoing, Received, SocketError},
    http::HttpAnswer,
    studio::{self, Answer},
    wire::CloseCode,
    worker::ConnectFailure,
};

/// A session's connection, from the answer to its upgrade until both sides are gone.
pub(super) struct Conn {
    up: Pipe,
    down: Pipe,
    /// How it ended for the worker, to be seen once all that came is read.
    worker_end: Option<Result<(), String>>,
    worker_gone: bool,
    studio_gone: bool,
    /// What the studio wrote and the pipe has not taken yet.
    outbox: VecDeque<u8>,
    /// What the studio has read of a frame.
    half_read: VecDeque<u8>,
    /// The studio reads nothing before then.
    unread_until: u64,
}

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To the studio.
    Up,
    /// To the worker.
    Down,
}

impl Conn {
    fn pipe(&mut self, way: Way) -> &mut Pipe {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    /// Ends it for the worker.
    fn end_worker(&mut self, end: Result<(), String>) {
        self.worker_end.get_or_insert(end);
        let wakers = [&mut self.up.writer, &mut self.down.reader];
        wakers.into_iter().filter_map(Option::take).for_each(Waker::wake);
    }
}

impl State {
    /// A worker asks for a session.
    pub(super) fn upgrade(
        &mut self,
        machine: usize,
        connect: Connect,
        promise: Promise<Result<u64, ConnectFailure>>,
    ) {
        let (there, back) = (self.delay(), self.delay());
        if self.goes_wrong(self.scenario.bad_upgrades) {
            let failure = self.bad_upgrade();
            self.say(format_args!("box {machine}: the upgrade goes wrong: {failure:?}"));
            // Without an answer the promise stays open until the worker gives it up.
            return self.after(there.max(Duration::from_millis(1)), move |state| match failure {
                Some(failure) => promise.keep(Err(failure)),
                None => state.after(Duration::from_secs(120), |_| drop(promise)),
            });
        }
        self.after(there, move |state| {
            if promise.is_given_up() {
                return;
            }
            let conn = state.number();
            let worker_id = segment_of(&connect.url, "/workers/", "/connect");
            let answer = state.ask(|call| studio::Input::Upgrade {
                call,
                conn: studio::ConnId(conn),
                worker_id,
                bearer: Some(connect.bearer),
            });
            let proceeds = answer == Some(Answer::Proceed);
            if proceeds {
                state.say(format_args!("box {machine}: session {conn}"));
                state.open(conn);
            }
            state.after(back, move |state| match answer {
                Some(Answer::Proceed) if promise.is_given_up() => state.worker_leaves(conn),
                Some(Answer::Proceed) => promise.keep(Ok(conn)),
                Some(refused) => promise.keep(Err(ConnectFailure::Refused(http_answer(&refused)))),
                None => promise.keep(Err(ConnectFailure::Trouble("connection refused".into()))),
            });
        });
    }

    fn open(&mut self, conn: u64) {
        let window = self.scenario.window;
        let pipe = || Pipe { window, ..Pipe::default() };
        self.conns.insert(
            conn,
            Conn {
                up: pipe(),
                down: pipe(),
                worker_end: None,
                worker_gone: false,
                studio_gone: false,
                outbox: VecDeque::new(),
                half_read: VecDeque::new(),
                unread_until: 0,
            },
        );
    }

    /// Puts bytes under way; how many there was room for.
    fn send(&mut self, id: u64, way: Way, bytes: &mut VecDeque<u8>) -> usize {
        let delay = super::state::micros(self.delay());
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return 0 };
        let pipe = conn.pipe(way);
        let count = bytes.len().min(pipe.room());
        if count == 0 {
            return 0;
        }
        let mut batch: VecDeque<u8> = bytes.drain(..count).collect();
        pipe.under_way += count;
        let mut breaks = false;
        if let Some(left) = &mut pipe.dies_after {
            batch.truncate(*left);
            *left -= batch.len();
            breaks = *left == 0;
        }
        if pipe.is_lost {
            // Nobody acknowledges them: they take up room for ever.
            return count;
        }
        pipe.newest = pipe.newest.max(now + delay).max(pipe.stalls_until);
        let at = pipe.newest;
        self.at(at, move |state| {
            state.arrive(id, way, count, batch);
            if breaks {
                state.say(format_args!("session {id}: breaks at a byte, {way:?}"));
                state.break_conn(id, true, true);
            }
        });
        count
    }

    fn arrive(&mut self, id: u64, way: Way, count: usize, mut batch: VecDeque<u8>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let pipe = conn.pipe(way);
        pipe.under_way -= count;
        if pipe.is_lost {
            pipe.under_way += count;
            return;
        }
        pipe.inbox.append(&mut batch);
        match way {
            Way::Down => {
                if let Some(reader) = pipe.reader.take() {
                    reader.wake();
                }
            }
            Way::Up => self.studio_reads(id),
        }
    }

    /// The studio reads what came, unless it doesn't for a while.
    fn studio_reads(&mut self, id: u64) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.unread_until > now {
            let until = conn.unread_until;
            return self.at(until, move |state| state.studio_reads(id));
        }
        conn.up.take_into(&mut conn.half_read);
        while let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.studio_gone) {
            let Some(frame) = Frame::read(&mut conn.half_read) else { return };
            let id = studio::ConnId(id);
            match frame {
                Frame::Text(text) => {
                    self.tell(studio::Input::Text { conn: id, text });
                }
                Frame::Binary => self.tell(studio::Input::Binary { conn: id }),
                Frame::Ping | Frame::Pong => {}
                Frame::Close { code, .. } => {
                    self.tell(studio::Input::Closed { conn: id });
                    // The server answers a close frame, and ends the connection.
                    self.studio_writes(id.0, &Frame::Close { code, reason: String::new() });
                    self.studio_leaves(id.0, Duration::from_millis(1));
                }
            }
        }
    }

    pub(super) fn studio_writes(&mut self, id: u64, frame: &Frame) {
        if let Some(conn) = self.conns.get_mut(&id) {
            frame.write(&mut conn.outbox);
            self.pump(id);
        }
    }

    /// Moves what the studio wrote into the pipe, as there is room.
    fn pump(&mut self, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut outbox = std::mem::take(&mut conn.outbox);
        self.send(id, Way::Down, &mut outbox);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.outbox = outbox;
        }
    }

    /// The studio's server is done with a connection: the worker sees its end behind all that was sent.
    pub(super) fn studio_leaves(&mut self, id: u64, linger: Duration) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.studio_gone = true;
        let behind = conn.down.newest.max(self.now + super::state::micros(linger));
        self.at(behind, move |state| {
            let Some(conn) = state.conns.get_mut(&id) else { return };
            let is_read = !conn.worker_gone && !conn.down.is_lost && conn.worker_end.is_none();
            if is_read && !conn.outbox.is_empty() {
                // A worker that reads slowly still gets all of it.
                return state.studio_leaves(id, Duration::from_millis(50));
            }
            if !conn.down.is_lost {
                conn.end_worker(Ok(()));
            }
            state.tidy(id);
        });
    }

    /// The worker's process is done with a connection, or gone.
    pub(super) fn worker_leaves(&mut self, id: u64) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.worker_gone = true;
        let behind = conn.up.newest.max(self.now);
        let is_lost = conn.up.is_lost;
        self.at(behind, move |state| {
            if !is_lost {
                state.studio_loses(id);
            }
            state.tidy(id);
        });
    }

    fn studio_loses(&mut self, id: u64) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.studio_gone) {
            conn.studio_gone = true;
            self.tell(studio::Input::Closed { conn: studio::ConnId(id) });
        }
    }

    /// Breaks a connection for those who notice.
    pub(super) fn break_conn(&mut self, id: u64, worker_sees: bool, studio_sees: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.up.is_lost = true;
        conn.down.is_lost = true;
        if worker_sees {
            conn.end_worker(Err("connection reset by peer".into()));
        }
        if studio_sees {
            self.studio_loses(id);
        }
        self.tidy(id);
    }

    fn tidy(&mut self, id: u64) {
        if self.conns.get(&id).is_some_and(|conn| conn.worker_gone && conn.studio_gone) {
            self.conns.remove(&id);
        }
    }

    /// The sessions that both sides still have.
    pub(super) fn sessions(&self) -> Vec<u64> {
        let whole = |conn: &&u64| {
            self.conns
                .get(conn)
                .is_some_and(|conn| !conn.worker_gone && !conn.studio_gone && !conn.up.is_lost)
        };
        self.conns.keys().filter(whole).copied().collect()
    }

    pub(super) fn cut_at_byte(&mut self, id: u64, way: Way, bytes: usize) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.pipe(way).dies_after.get_or_insert(bytes);
        }
    }

    pub(super) fn stall(&mut self, id: u64, way: Way, span: Duration) {
        let until = self.now + super::state::micros(span);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        match way {
            Way::Up => conn.unread_until = until,
            Way::Down => conn.down.stalls_until = until,
        }
    }

    fn bad_upgrade(&mut self) -> Option<ConnectFailure> {
        let refused = |status, retry_after: Option<&str>, body: &str| {
            Some(ConnectFailure::Refused(HttpAnswer {
                status,
                retry_after: retry_after.map(str::to_owned),
                body: body.as_bytes().to_vec(),
                ..HttpAnswer::default()
            }))
        };
        match self.dice.below(8) {
            0 => refused(503, Some("3"), "busy"),
            1 => refused(429, Some("Wed, 25 Nov 2026 07:00:00 GMT"), ""),
            2 => refused(502, Some("in a while"), "<html>bad gateway</html>"),
            3 => refused(404, None, "<html>nothing here</html>"),
            4 => refused(200, None, "{}"),
            5 => Some(ConnectFailure::Trouble("no route to host".into())),
            6 => Some(ConnectFailure::Trouble("the sub-protocol did not come back".into())),
            _ => None,
        }
    }
}

/// What stands in a URL between two texts, as the server reads it: decoded.
pub(super) fn segment_of(url: &str, after: &str, before: &str) -> String {
    let rest = url.split_once(after).map_or("", |(_, rest)| rest);
    let segment = rest.split_once(before).map_or(rest, |(segment, _)| segment);
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

pub(super) fn http_answer(answer: &Answer) -> HttpAnswer {
    HttpAnswer {
        status: answer.status(),
        retry_after: answer.retry_after().map(|seconds| seconds.to_string()),
        body: answer.body().to_string().into_bytes(),
        ..HttpAnswer::default()
    }
}

/// The worker's end of a connection.
pub(super) struct SimSocket {
    world: World,
    conn: u64,
    outbox: VecDeque<u8>,
    half_read: VecDeque<u8>,
    is_over: bool,
}

impl SimSocket {
    pub(super) fn new(world: World, conn: u64) -> Self {
        Self { world, conn, outbox: VecDeque::new(), half_read: VecDeque::new(), is_over: false }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.world.lock().worker_leaves(self.conn);
    }
}

impl Stream for SimSocket {
    type Item = Result<Received, SocketError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        let mut world = this.world.lock();
        let mut end = None;
        if let Some(conn) = world.conns.get_mut(&this.conn) {
            conn.down.take_into(&mut this.half_read);
            conn.down.reader = Some(cx.waker().clone());
            end.clone_from(&conn.worker_end);
        }
        world.pump(this.conn);
        let Some(frame) = Frame::read(&mut this.half_read) else {
            return match end {
                None => Poll::Pending,
                Some(Ok(())) => Poll::Ready(None),
                Some(Err(why)) => Poll::Ready(Some(Err(SocketError::Broken(why)))),
            };
        };
        Poll::Ready(Some(Ok(match frame {
            Frame::Text(text) => Received::Text(text),
            Frame::Binary => Received::Binary,
            Frame::Pong => Received::Pong,
            Frame::Ping => {
                Frame::Pong.write(&mut this.outbox);
                Received::Ping
            }
            Frame::Close { code, reason } => {
                Frame::Close { code, reason: String::new() }.write(&mut this.outbox);
                this.is_over = true;
                Received::Close { code, reason }
            }
        })))
    }
}

impl SimSocket {
    /// Moves what was written into the pipe; whether all of it is under way.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        let mut world = self.world.lock();
        match world.conns.get(&self.conn).map(|conn| &conn.worker_end) {
            None | Some(Some(Ok(()))) => return Poll::Ready(Err(SocketError::Broken("broken pipe".into()))),
            Some(Some(Err(why))) => return Poll::Ready(Err(SocketError::Broken(why.clone()))),
            Some(None) => {}
        }
        world.send(self.conn, Way::Up, &mut self.outbox);
        if self.outbox.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if let Some(conn) = world.conns.get_mut(&self.conn) {
            conn.up.writer = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Sink<Outgoing> for SimSocket {
    type Error = SocketError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        // As real sockets: a buffer takes some, then its writer has to wait.
        if self.outbox.len() < 4_096 { Poll::Ready(Ok(())) } else { self.push(cx) }
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Outgoing) -> Result<(), SocketError> {
        let frame = match frame {
            Outgoing::Text(text) => Frame::Text(text),
            Outgoing::Close { code, reason } => Frame::Close { code, reason },
        };
        frame.write(&mut self.outbox);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.push(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), SocketError>> {
        self.push(cx)
    }
}

impl State {
    /// A studio's close frame, and the end of the connection a moment later.
    pub(super) fn studio_closes(&mut self, id: u64, code: CloseCode, reason: String) {
        self.studio_writes(id, &Frame::Close { code, reason });
        self.studio_leaves(id, Duration::from_millis(200));
    }
}
