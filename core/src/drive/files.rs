//! Files that recipes want: carries a download out, step by step.

mod disk;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    AsyncRead, AsyncReadExt as _,
    future::{Either, join, select},
    pin_mut,
};

use self::disk::{Lock, OpenPart, Place};
use super::{machine::OnTransfer, runtime::Runtime};
use crate::{
    engine::EngineError,
    http::{FileRequest, HttpFailure},
    machine::{
        FileHad, FileWanted, Transfer,
        files::{Download, End, Seen, Step, Write, Written},
    },
    time::Mono,
};

/// How long a server has for the head of an answer.
const HEAD_BOUND: Duration = Duration::from_secs(60);
/// How long nothing may come.
const STALL_BOUND: Duration = Duration::from_secs(60);
/// How much is written at a time, in bytes.
const PIECE: usize = 1024 * 1024;
/// How long what has come may wait to be written.
const PIECE_BOUND: Duration = Duration::from_secs(1);
/// How often it is told how far the file is.
const TOLD_EVERY: Duration = Duration::from_millis(250);
/// How often it is looked whether somebody else has the file by now.
const LOCK_INTERVAL: Duration = Duration::from_millis(500);

/// Sees to it that a file is there.
pub(super) async fn have<R: Runtime>(
    runtime: R,
    user_agent: Arc<str>,
    wanted: FileWanted,
    on_transfer: OnTransfer,
) -> Result<FileHad, EngineError> {
    let carrying = Carrying {
        place: Arc::new(Place::of(&wanted)),
        lock: None,
        told: Told { on_transfer, at: None, came: 0 },
        wanted_on: WantedOn::default(),
        runtime,
        user_agent,
    };
    carrying.carry_out(Download::new(wanted)).await
}

struct Carrying<R> {
    runtime: R,
    user_agent: Arc<str>,
    place: Arc<Place>,
    /// Each thread that is at work on the file has it too: whoever gives up may be gone before that.
    lock: Option<Arc<Lock>>,
    told: Told,
    wanted_on: WantedOn,
}

/// Hashing takes long: it ends when nobody waits for it any more.
#[derive(Default)]
struct WantedOn(Arc<AtomicBool>);

impl Drop for WantedOn {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<R: Runtime> Carrying<R> {
    async fn carry_out(mut self, mut download: Download) -> Result<FileHad, EngineError> {
        let (mut part, mut body) = (None, None);
        let mut seen = Seen::Started;
        loop {
            seen = match download.next(seen) {
                Step::Look(paths) => self.on_disk(move |place, _| Ok(Seen::Looked(place.look(&paths)))).await,
                Step::Hash(path) => {
                    self.on_disk(move |place, unwanted| place.hash(&path, unwanted).map(Seen::Hashed)).await
                }
                Step::Lock => match self.lock(&download).await {
                    Ok(lock) => {
                        self.lock = Some(Arc::new(lock));
                        Seen::Locked
                    }
                    Err(why) => Seen::Trouble(why),
                },
                Step::Open => {
                    let open = |place: &Place, unwanted: &AtomicBool| place.open(unwanted);
                    self.kept(&mut part, self.on_disk_as(open).await, |part| Seen::Opened(part.seen()))
                }
                Step::Fetch(request) => {
                    body = None;
                    Seen::Answered(self.fetch(request).await.map(|fetched| {
                        body = Some(fetched.body);
                        fetched.head
                    }))
                }
                Step::Room => Seen::Room(self.runtime.machine().room(self.place.folder()).await),
                Step::Write(write) => match (part.take(), body.take()) {
                    (Some(open), Some(body)) => {
                        let (open, written) = self.write(open, write, body, &download).await;
                        part = open;
                        Seen::Written(written)
                    }
                    _ => Seen::Trouble("there is nothing to write".into()),
                },
                Step::Empty => {
                    let open: Option<OpenPart> = part.take();
                    let empty = move |place: &Place, _: &AtomicBool| match open {
                        Some(open) => open.emptied(place),
                        None => Err("there is no part".into()),
                    };
                    self.kept(&mut part, self.on_disk_as(empty).await, |_| Seen::Emptied)
                }
                Step::Finish => {
                    let open: Option<OpenPart> = part.take();
                    self.on_disk(move |place, _| match open {
                        Some(open) => open.finish(place).map(|()| Seen::Finished),
                        None => Err("there is no part".into()),
                    })
                    .await
                }
                Step::Pause(span) => {
                    self.sleep(span).await;
                    Seen::Paused
                }
                Step::Done(outcome) => {
                    // An empty part is of use to nobody.
                    if part.is_some_and(|part| part.is_empty()) {
                        self.on_disk(|place, _| Ok(place.clear())).await;
                    }
                    return outcome;
                }
            };
        }
    }

    /// Does something on disk, on a thread.
    async fn on_disk_as<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place, &AtomicBool) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let (place, unwanted) = (Arc::clone(&self.place), Arc::clone(&self.wanted_on.0));
        let lock = self.lock.clone();
        let at_work = move || {
            let _lock = lock;
            work(&place, &unwanted)
        };
        self.runtime.compute(at_work).await
    }

    async fn on_disk(
        &self,
        work: impl FnOnce(&Place, &AtomicBool) -> Result<Seen, String> + Send + 'static,
    ) -> Seen {
        self.on_disk_as(work).await.unwrap_or_else(Seen::Trouble)
    }

    #[expect(clippy::unused_self, reason = "reads as the rest")]
    fn kept(
        &self,
        part: &mut Option<OpenPart>,
        outcome: Result<OpenPart, String>,
        seen: impl FnOnce(&OpenPart) -> Seen,
    ) -> Seen {
        match outcome {
            Ok(open) => seen(part.insert(open)),
            Err(why) => Seen::Trouble(why),
        }
    }

    /// Waits until nobody else downloads the file. How far it is with them is how far it is.
    async fn lock(&mut self, download: &Download) -> Result<Lock, String> {
        loop {
            let (locked, bytes) = self.on_disk_as(|place, _| Ok((place.lock()?, place.part_bytes()))).await?;
            if let Some(lock) = locked {
                return Ok(lock);
            }
            self.told.tell(self.runtime.now().mono, |came| download.transfer(bytes, came));
            self.sleep(LOCK_INTERVAL).await;
        }
    }

    async fn fetch(&self, request: FileRequest) -> Result<super::Fetched, HttpFailure> {
        let fetching = self.runtime.fetch(request, Arc::clone(&self.user_agent));
        self.within(HEAD_BOUND, fetching)
            .await
            .unwrap_or_else(|| Err(HttpFailure(format!("no answer within {} s", HEAD_BOUND.as_secs()))))
    }

    /// Writes what comes, while more comes. Whatever has come is kept, also where it breaks off.
    async fn write(
        &mut self,
        part: OpenPart,
        write: Write,
        mut body: Pin<Box<dyn AsyncRead + Send>>,
        download: &Download,
    ) -> (Option<OpenPart>, Written) {
        let Write { from: mut at, limit, .. } = write;
        let mut appended = self.on_disk_as(move |place, _| Ok(part.begin(place, &write))).await;
        let mut piece = self.read(&mut body, at, limit).await;
        loop {
            let part = match appended {
                Ok(Ok(part)) => part,
                Ok(Err(stopped)) => {
                    let (part, end) = *stopped;
                    return self.written(part, end, download);
                }
                // The thread has lost it.
                Err(why) => return (None, Written { bytes: 0, sha256: [0; 32], end: End::Trouble(why) }),
            };
            let (bytes, end) = piece;
            at += bytes.len() as u64;
            self.told.came += bytes.len() as u64;
            self.told.tell(self.runtime.now().mono, |came| download.transfer(at, came));
            let append = self.on_disk_as(move |place, _| Ok(part.append(place, &bytes)));
            (appended, piece) = match end {
                None => join(append, self.read(&mut body, at, limit)).await,
                Some(end) => match append.await {
                    Ok(Ok(part)) => return self.written(part, end, download),
                    failed => (failed, (Vec::new(), None)),
                },
            };
        }
    }

    fn written(&mut self, part: OpenPart, end: End, download: &Download) -> (Option<OpenPart>, Written) {
        let written = part.written(end);
        self.told.tell_now(|came| download.transfer(written.bytes, came));
        (Some(part), written)
    }

    /// Reads one piece, and why no more comes.
    async fn read(
        &self,
        body: &mut Pin<Box<dyn AsyncRead + Send>>,
        at: u64,
        limit: u64,
    ) -> (Vec<u8>, Option<End>) {
        let mut piece = vec![0; PIECE];
        let mut length = 0;
        let soon = self.runtime.now().mono + PIECE_BOUND;
        let end = loop {
            if length == piece.len() {
                break None;
            }
            let bound = if length == 0 { STALL_BOUND } else { soon.since(self.runtime.now().mono) };
            match self.within(bound, body.read(&mut piece[length..])).await {
                None if length > 0 => break None,
                None => break Some(End::Stalled(STALL_BOUND)),
                Some(Ok(0)) => break Some(End::Ended),
                Some(Ok(count)) => {
                    length += count;
                    let room = limit.saturating_sub(at);
                    if length as u64 > room {
                        length = usize::try_from(room).unwrap_or(length);
                        break Some(End::TooMuch);
                    }
                }
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(Err(error)) => break Some(End::Broke(error.to_string())),
            }
        };
        piece.truncate(length);
        (piece, end)
    }

    fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + use<R> {
        let (runtime, until) = (self.runtime.clone(), self.runtime.now().mono + span);
        async move { super::runs::sleep_past(&runtime, until).await }
    }

    async fn within<T>(&self, bound: Duration, work: impl Future<Output = T>) -> Option<T> {
        let sleep = self.sleep(bound);
        pin_mut!(work, sleep);
        match select(work, sleep).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

/// What was told of how far it is.
struct Told {
    on_transfer: OnTransfer,
    at: Option<Mono>,
    /// Bytes that came.
    came: u64,
}

impl Told {
    /// Not more often than anybody looks.
    fn tell(&mut self, now: Mono, transfer: impl FnOnce(u64) -> Transfer) {
        if self.at.is_none_or(|at| now.since(at) >= TOLD_EVERY) {
            self.at = Some(now);
            self.tell_now(transfer);
        }
    }

    fn tell_now(&self, transfer: impl FnOnce(u64) -> Transfer) {
        (self.on_transfer)(transfer(self.came));
    }
}
