//! A worker's session: its WebSocket, between the network and the desk.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    http::StatusCode,
    response::Response,
};
use futures::{Sink, SinkExt, Stream, StreamExt};
use studio_worker_core::{
    studio::{ConnId, Input},
    wire::{CloseCode, MAX_FRAME_BYTES, SUB_PROTOCOL, Secret},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::{
    LOG_TARGET,
    desk::{Desk, Ear, Outgoing, SessionCall},
    problem::Problem,
};

/// How many of a session's frames may be on the desk.
const FRAMES_UNDER_WAY: usize = 8;

/// How long a peer has to take what is queued and to answer the close frame.
const FAREWELL: Duration = Duration::from_secs(5);

/// The largest number of bytes that a socket keeps before it blocks.
const WRITE_BUFFER: usize = 2 * MAX_FRAME_BYTES;

/// Answers an upgrade (section 3): 101 with the sub-protocol, or a refusal with a text body.
pub(crate) async fn upgrade(
    desk: &Desk,
    worker_id: String,
    bearer: Option<Secret>,
    socket: Option<WebSocketUpgrade>,
) -> Response {
    let Some(socket) = socket else {
        let mut problem = Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            format!("a WebSocket upgrade with the sub-protocol {SUB_PROTOCOL} is wanted"),
        );
        problem.field = Some("Upgrade".to_owned());
        return problem.into_text();
    };
    let socket = socket.protocols([SUB_PROTOCOL]);
    if socket.selected_protocol().is_none() {
        let message = format!("the sub-protocol {SUB_PROTOCOL} is wanted");
        return Problem::field("Sec-WebSocket-Protocol", message).into_text();
    }
    let (session, ear) = match desk.upgrade(worker_id, bearer).await {
        Ok(granted) => granted,
        Err(problem) => return problem.into_text(),
    };
    socket
        .max_message_size(MAX_FRAME_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_write_buffer_size(WRITE_BUFFER)
        .on_failed_upgrade(|error| log::debug!(target: LOG_TARGET, "an upgrade failed: {error}"))
        .on_upgrade(move |socket| hold(socket, session, ear))
}

/// Holds a session until either side ends it. Reading and writing don't wait for each other.
async fn hold(socket: WebSocket, session: SessionCall, ear: Ear) {
    let Ear { outgoing, over } = ear;
    let (mut sink, mut stream) = socket.split();
    let ended = {
        let talk = async {
            let mut reading = pin!(read(&mut stream, &session));
            let mut writing = pin!(write(&mut sink, outgoing));
            tokio::select! {
                ended = &mut reading => ended,
                written = &mut writing => match written {
                    Ok(()) => reading.await, // the close frame is out: its answer is waited for
                    Err(_) => Ended::Closed,
                },
            }
        };
        let mut talk = pin!(talk);
        tokio::select! {
            ended = &mut talk => ended,
            // What was queued before the studio had done is still sent, the close frame last.
            _ = over => timeout(FAREWELL, talk).await.unwrap_or(Ended::Closed),
        }
    };
    if ended == Ended::TooBig {
        let frame = CloseFrame { code: CloseCode::TOO_BIG.0, reason: "frames have at most 64 MiB".into() };
        let farewell = async { sink.send(Message::Close(Some(frame))).await };
        let _ = timeout(FAREWELL, farewell).await; // the peer may be gone: then there is nobody to tell
    }
}

/// How reading came to its end.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The peer closed, or is gone.
    Closed,
    /// The peer sent a frame that is larger than any that is read.
    TooBig,
}

async fn read(
    stream: &mut (impl Stream<Item = Result<Message, axum::Error>> + Unpin),
    session: &SessionCall,
) -> Ended {
    let conn: ConnId = session.conn();
    let permits = Arc::new(Semaphore::new(FRAMES_UNDER_WAY));
    while let Some(message) = stream.next().await {
        let input = match message {
            Ok(Message::Text(text)) => Input::Text { conn, text: text.as_str().to_owned() },
            Ok(Message::Binary(_)) => Input::Binary { conn },
            // A ping is answered by the socket, and so is a close: when that is done, the stream ends.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => continue,
            // The socket's error type is not part of axum's interface; its text is all there is to know it by.
            Err(error) if error.to_string().contains("too long") => return Ended::TooBig,
            Err(_) => return Ended::Closed,
        };
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ended::Closed };
        session.received(input, permit);
    }
    Ended::Closed
}

/// Sends what the desk gives out; what is there at once goes out in one flush.
async fn write(
    sink: &mut (impl Sink<Message, Error = axum::Error> + Unpin),
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> Result<(), axum::Error> {
    while let Some(first) = outgoing.recv().await {
        let mut next = Some(first);
        while let Some(what) = next {
            match what {
                Outgoing::Text(text) => sink.feed(Message::Text(text.into())).await?,
                Outgoing::Close(code, reason) => {
                    let frame = CloseFrame { code: code.0, reason: reason.into() };
                    return sink.send(Message::Close(Some(frame))).await;
                }
            }
            next = outgoing.try_recv().ok();
        }
        sink.flush().await?;
    }
    Ok(())
}
