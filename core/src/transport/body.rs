//! The body of an upload: what surrounds the result, and the result itself as it lies in memory or a file.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read as _},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Stream, future::BoxFuture};

use super::Platform;
use crate::{drive::Progress, engine::Payload, wire::multipart::Envelope};

/// What leaves of a result in memory at a time, in bytes: so often the progress is told.
const MEMORY_PIECE: usize = 64 * 1024;
/// What is read of a file at a time, in bytes.
const FILE_PIECE: u64 = 256 * 1024;

/// The body of an upload as a stream of pieces, from its beginning to its end. A result in memory is not copied; of one
/// in a file there is one piece at a time. A piece that was taken counts as progress.
pub struct UploadBody<P> {
    platform: P,
    parts: VecDeque<Part>,
    left: u64,
    progress: Progress,
}

enum Part {
    Memory(Bytes),
    File(Pages),
}

/// A file that is read piece by piece, on a thread.
struct Pages {
    state: PagesState,
    /// What is still to come: a file that grows or shrinks must not break the length that was announced.
    left: u64,
}

enum PagesState {
    Open(File),
    /// In a mutex that is never locked: it makes the body `Sync`, as some clients want it.
    Reading(Mutex<BoxFuture<'static, Page>>),
    Broken,
}

/// The file, and what was read of it.
type Page = io::Result<(File, Vec<u8>)>;

/// A result that others may hold, too.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<P: Platform> UploadBody<P> {
    /// Opens the file, if the result is in one.
    pub async fn open(
        platform: P,
        envelope: Envelope,
        payload: Payload,
        progress: Progress,
    ) -> io::Result<Self> {
        let left = envelope.length(payload.len());
        let payload = match payload {
            Payload::Memory(bytes) => Part::Memory(Bytes::from_owner(Shared(bytes))),
            Payload::File(file) => {
                let path = file.path;
                let opened = platform.block(move || File::open(&*path)).await?;
                Part::File(Pages { state: PagesState::Open(opened), left: file.bytes })
            }
        };
        let Envelope { head, tail, .. } = envelope;
        let parts = VecDeque::from([Part::Memory(head.into()), payload, Part::Memory(tail.into())]);
        Ok(Self { platform, parts, left, progress })
    }

    /// How many bytes are still to come.
    pub fn bytes_left(&self) -> u64 {
        self.left
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let piece = match self.parts.front_mut() {
                None => return Poll::Ready(None),
                Some(Part::Memory(bytes)) => Ok(bytes.split_to(bytes.len().min(MEMORY_PIECE))),
                Some(Part::File(pages)) => ready!(pages.poll_piece(&self.platform, cx)),
            };
            match piece {
                Ok(piece) if piece.is_empty() => self.parts.pop_front(),
                piece => return Poll::Ready(Some(piece)),
            };
        }
    }
}

impl Pages {
    /// The next piece; at the end of the file it is empty.
    fn poll_piece<P: Platform>(&mut self, platform: &P, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            match std::mem::replace(&mut self.state, PagesState::Broken) {
                PagesState::Open(mut file) => {
                    let wanted = self.left.min(FILE_PIECE);
                    if wanted == 0 {
                        self.state = PagesState::Open(file);
                        return Poll::Ready(Ok(Bytes::new()));
                    }
                    let reading = platform.block(move || {
                        let mut page = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
                        (&mut file).take(wanted).read_to_end(&mut page)?;
                        Ok((file, page))
                    });
                    self.state = PagesState::Reading(Mutex::new(Box::pin(reading)));
                }
                PagesState::Reading(mut reading) => {
                    let read = match reading.get_mut() {
                        Ok(read) => read.as_mut().poll(cx),
                        Err(_) => return Poll::Ready(Err(broken())),
                    };
                    let Poll::Ready(read) = read else {
                        self.state = PagesState::Reading(reading);
                        return Poll::Pending;
                    };
                    let (file, page) = read?;
                    if page.is_empty() {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    self.left -= page.len() as u64;
                    self.state = PagesState::Open(file);
                    return Poll::Ready(Ok(page.into()));
                }
                PagesState::Broken => return Poll::Ready(Err(broken())),
            }
        }
    }
}

fn broken() -> io::Error {
    io::Error::other("the file could not be read before")
}

impl<P: Platform + Unpin> Stream for UploadBody<P> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = self.get_mut();
        let piece = ready!(body.poll_piece(cx));
        if let Some(Ok(piece)) = &piece {
            let bytes = piece.len() as u64;
            body.left -= bytes;
            body.progress.advance(bytes);
        }
        Poll::Ready(piece)
    }
}

#[cfg(feature = "http")]
impl<P: Platform + Unpin> hyper::body::Body for UploadBody<P> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<hyper::body::Frame<Bytes>>>> {
        self.poll_next(cx).map_ok(hyper::body::Frame::data)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, executor::block_on};

    use super::*;
    use crate::{engine::SpilledFile, transport::tests::here};

    fn read(payload: Payload) -> io::Result<Vec<u8>> {
        let envelope =
            Envelope { content_type: String::new(), head: b"head".to_vec(), tail: b"tail".to_vec() };
        let progress = Progress::default();
        let announced = envelope.length(payload.len());
        let mut body = block_on(UploadBody::open(here(), envelope, payload, progress.clone()))?;
        assert_eq!(body.bytes_left(), announced);
        let mut bytes = Vec::new();
        while let Some(piece) = block_on(body.next()) {
            bytes.extend_from_slice(&piece?);
            assert_eq!(body.bytes_left(), announced - bytes.len() as u64);
        }
        assert_eq!(progress.bytes(), bytes.len() as u64);
        Ok(bytes)
    }

    fn wanted(payload: &[u8]) -> Vec<u8> {
        [b"head", payload, b"tail"].concat()
    }

    #[test]
    fn memory_and_files_of_any_length_are_read_whole() {
        let page = usize::try_from(FILE_PIECE).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        for length in [0, 1, MEMORY_PIECE, MEMORY_PIECE + 1, page - 1, page, page + 1, 3 * page] {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            std::fs::write(&path, &bytes).unwrap();
            let file = SpilledFile { path: path.to_str().unwrap().into(), bytes: length as u64 };
            assert!(read(Payload::File(file)).unwrap() == wanted(&bytes), "a file of {length}");
            assert!(read(bytes.clone().into()).unwrap() == wanted(&bytes), "memory of {length}");
        }
    }

    #[test]
    fn a_result_in_memory_is_not_copied() {
        let bytes = Arc::new(vec![7; 3 * MEMORY_PIECE]);
        let range = bytes.as_ptr_range();
        let envelope = Envelope { content_type: String::new(), head: Vec::new(), tail: Vec::new() };
        let payload = Payload::Memory(Arc::clone(&bytes));
        let mut body = block_on(UploadBody::open(here(), envelope, payload, Progress::default())).unwrap();
        while let Some(piece) = block_on(body.next()) {
            assert!(range.contains(&piece.unwrap().as_ptr()));
        }
    }

    #[test]
    fn a_file_that_changed_its_length_does_not_change_what_was_announced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        std::fs::write(&path, b"12345").unwrap();
        let file = |bytes| Payload::File(SpilledFile { path: path.to_str().unwrap().into(), bytes });
        assert_eq!(read(file(3)).unwrap(), wanted(b"123"));
        assert_eq!(read(file(9)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
