//! The body of an upload: what surrounds the result, and the result itself as it lies in memory or a file.

use std::{
    fs::File,
    io::{self, Read as _},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{AsyncBufRead, AsyncRead};
use studio_worker_core::{drive::Progress, engine::Payload, wire::multipart::Envelope};

use crate::threads::Threads;

/// What is read of a file at a time, in bytes.
const FILE_BUFFER: u64 = 256 * 1024;

/// Reads an upload's body from its beginning to its end. A result in memory is not copied.
pub(crate) struct Body {
    head: Vec<u8>,
    payload: Source,
    tail: Vec<u8>,
    part: Part,
    /// How much of the part in hand has been taken.
    taken: usize,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Payload,
    Tail,
    End,
}

enum Source {
    Memory(Arc<Vec<u8>>),
    File(Pages),
}

/// A file that is read page by page, on a thread.
struct Pages {
    threads: Threads,
    page: Vec<u8>,
    file: FileState,
    /// What is still to come: a file that grows or shrinks must not break the length that was announced.
    left: u64,
}

type Reading = Pin<Box<dyn Future<Output = io::Result<(File, Vec<u8>)>> + Send + Sync>>;

enum FileState {
    Open(Option<File>),
    Reading(Reading),
}

impl Body {
    /// Blocks if the result is in a file: opens it.
    pub(crate) fn open(
        envelope: Envelope,
        payload: Payload,
        progress: Progress,
        threads: Threads,
    ) -> io::Result<Self> {
        let payload = match payload {
            Payload::Memory(bytes) => Source::Memory(bytes),
            Payload::File(file) => Source::File(Pages {
                threads,
                page: Vec::new(),
                file: FileState::Open(Some(File::open(&*file.path)?)),
                left: file.bytes,
            }),
        };
        let Envelope { head, tail, .. } = envelope;
        Ok(Self { head, payload, tail, part: Part::Head, taken: 0, progress })
    }
}

impl Pages {
    /// Sees that the page has something; at the end of the file it stays empty.
    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.file {
                FileState::Open(file) => {
                    let wanted = self.left.min(FILE_BUFFER);
                    if wanted == 0 {
                        self.page.clear();
                        return Poll::Ready(Ok(()));
                    }
                    let Some(mut file) = file.take() else {
                        return Poll::Ready(Err(io::Error::other("the file could not be read before")));
                    };
                    let mut page = std::mem::take(&mut self.page);
                    self.file = FileState::Reading(Box::pin(self.threads.run(move || {
                        page.clear();
                        (&mut file).take(wanted).read_to_end(&mut page)?;
                        Ok((file, page))
                    })));
                }
                FileState::Reading(reading) => {
                    let read = ready!(reading.as_mut().poll(cx));
                    let (file, page) = match read {
                        Ok(read) => read,
                        Err(error) => {
                            self.file = FileState::Open(None);
                            return Poll::Ready(Err(error));
                        }
                    };
                    self.file = FileState::Open(Some(file));
                    if page.is_empty() {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    self.left -= page.len() as u64;
                    self.page = page;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncBufRead for Body {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let body = self.get_mut();
        loop {
            let (length, next) = match body.part {
                Part::Head => (body.head.len(), Part::Payload),
                Part::Payload => match &mut body.payload {
                    Source::Memory(bytes) => (bytes.len(), Part::Tail),
                    Source::File(pages) => {
                        // While a page is read there is none, and `taken` is still that of the last one.
                        if body.taken >= pages.page.len() {
                            ready!(pages.poll_page(cx))?;
                            body.taken = 0;
                        }
                        (pages.page.len(), Part::Tail)
                    }
                },
                Part::Tail => (body.tail.len(), Part::End),
                Part::End => return Poll::Ready(Ok(&[])),
            };
            if body.taken < length {
                break;
            }
            body.part = next;
            body.taken = 0;
        }
        let bytes = match body.part {
            Part::Head => &body.head,
            Part::Payload => match &body.payload {
                Source::Memory(bytes) => bytes.as_slice(),
                Source::File(pages) => &pages.page,
            },
            Part::Tail => &body.tail,
            Part::End => &[][..],
        };
        Poll::Ready(Ok(&bytes[body.taken..]))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let body = self.get_mut();
        body.taken += amount;
        body.progress.advance(amount as u64);
    }
}

impl AsyncRead for Body {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = bytes.len().min(buffer.len());
        buffer[..amount].copy_from_slice(&bytes[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(amount))
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt as _, executor::block_on};
    use studio_worker_core::engine::SpilledFile;

    use super::*;

    fn read(payload: Payload) -> io::Result<Vec<u8>> {
        let envelope =
            Envelope { content_type: String::new(), head: b"head".to_vec(), tail: b"tail".to_vec() };
        let mut body = Body::open(envelope, payload, Progress::default(), Threads::default())?;
        let mut bytes = Vec::new();
        block_on(body.read_to_end(&mut bytes))?;
        assert_eq!(body.progress.bytes(), bytes.len() as u64);
        Ok(bytes)
    }

    fn wanted(payload: &[u8]) -> Vec<u8> {
        [b"head", payload, b"tail"].concat()
    }

    #[test]
    fn memory_and_files_of_any_length_are_read_whole() {
        let page = usize::try_from(FILE_BUFFER).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        for length in [0, 1, page - 1, page, page + 1, 3 * page] {
            let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            std::fs::write(&path, &bytes).unwrap();
            let file = SpilledFile { path: path.to_str().unwrap().into(), bytes: length as u64 };
            assert!(read(Payload::File(file)).unwrap() == wanted(&bytes), "a file of {length}");
            assert!(read(bytes.clone().into()).unwrap() == wanted(&bytes), "memory of {length}");
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
