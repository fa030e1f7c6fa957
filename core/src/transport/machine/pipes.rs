//! What a program reads and writes, on threads that end with it.

use std::{
    fs::File,
    io::{self, PipeReader, Read, Write as _},
    mem,
    path::PathBuf,
    process::ChildStdin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError},
    },
    thread,
    time::Duration,
};

use super::{THREAD, group::Reins};
use crate::machine::STDERR_KEPT;

/// What is read at a time, in bytes.
const PIECE: usize = 16 * 1024;
/// How long the pipes of a program that has ended are read that something holds open still. They end with it, unless
/// something of it escaped.
const LEFT_OPEN: Duration = Duration::from_secs(2);
/// How often it is looked how large a file has become.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The threads beside a program that runs.
pub(super) struct Beside {
    reins: Reins,
    trouble: Arc<Mutex<Option<Excess>>>,
    running: Sender<()>,
    all_ended: Receiver<()>,
    /// What it says to people, and what it makes.
    words: Option<Reading>,
    result: Option<Reading>,
    /// Ends those that wait for time to pass.
    over: Vec<Sender<()>>,
}

/// Why what a program made is no result.
#[derive(Debug)]
pub(super) enum Excess {
    /// It is larger than it may be.
    TooLarge,
    /// It can't be kept.
    Unkept(io::Error),
    /// More of it may come.
    LeftOpen,
}

impl Beside {
    pub(super) fn new(reins: &Reins) -> Self {
        let (running, all_ended) = mpsc::channel();
        Self {
            reins: reins.clone(),
            trouble: Arc::default(),
            running,
            all_ended,
            words: None,
            result: None,
            over: Vec::new(),
        }
    }

    /// What it gives back ends with the thread, once its trouble is known.
    fn spawn(&self, work: impl FnOnce() -> Result<(), Excess> + Send + 'static) -> io::Result<Receiver<()>> {
        let (working, ended) = mpsc::channel();
        let (running, trouble, reins) = (self.running.clone(), Arc::clone(&self.trouble), self.reins.clone());
        let on_it = move || {
            if let Err(excess) = work() {
                lock(&trouble).get_or_insert(excess);
                reins.kill();
            }
            drop((working, running));
        };
        thread::Builder::new().name(THREAD.into()).spawn(on_it)?;
        Ok(ended)
    }

    fn spawn_reading(
        &self,
        pipe: PipeReader,
        read: impl FnOnce(PipeReader) -> Result<(), Excess> + Send + 'static,
    ) -> io::Result<Reading> {
        let end = pipe.try_clone()?;
        Ok(Reading { end, ended: self.spawn(move || read(pipe))? })
    }

    /// Hands it what it reads. It may not want it.
    pub(super) fn feed(&self, mut stdin: ChildStdin, bytes: Vec<u8>) -> io::Result<()> {
        self.spawn(move || {
            let _ = stdin.write_all(&bytes);
            Ok(())
        })
        .map(drop)
    }

    /// Listens to what it says to people.
    pub(super) fn listen(&mut self, pipe: PipeReader) -> io::Result<Words> {
        let words = Words::default();
        let heard = words.clone();
        self.words = Some(self.spawn_reading(pipe, move |mut pipe| {
            let mut piece = vec![0; PIECE];
            while let Some(length) = read(&mut pipe, &mut piece) {
                heard.hear(&piece[..length]);
            }
            Ok(())
        })?);
        Ok(words)
    }

    /// Takes what it makes to memory.
    pub(super) fn take(&mut self, pipe: PipeReader, limit: u64) -> io::Result<Arc<Mutex<Vec<u8>>>> {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&taken);
        self.result = Some(self.spawn_reading(pipe, move |mut pipe| {
            let mut piece = vec![0; PIECE];
            while let Some(length) = read(&mut pipe, &mut piece) {
                let mut into = lock(&into);
                if (into.len() + length) as u64 > limit {
                    return Err(Excess::TooLarge);
                }
                into.extend_from_slice(&piece[..length]);
            }
            Ok(())
        })?);
        Ok(taken)
    }

    /// Takes what it makes to a file.
    pub(super) fn pour(&mut self, pipe: PipeReader, mut into: File, limit: u64) -> io::Result<()> {
        self.result = Some(self.spawn_reading(pipe, move |pipe| {
            match io::copy(&mut pipe.take(limit.saturating_add(1)), &mut into) {
                Ok(length) if length > limit => Err(Excess::TooLarge),
                Ok(_) => Ok(()),
                Err(error) => Err(Excess::Unkept(error)),
            }
        })?);
        Ok(())
    }

    /// Watches how large the file that it makes becomes.
    pub(super) fn watch(&mut self, path: PathBuf, limit: u64) -> io::Result<()> {
        let (over, is_over) = mpsc::channel();
        self.over.push(over);
        self.spawn(move || {
            while is_over.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if path.symlink_metadata().is_ok_and(|file| file.is_file() && file.len() > limit) {
                    return Err(Excess::TooLarge);
                }
            }
            Ok(())
        })
        .map(drop)
    }

    /// The program has ended: waits until all that it wrote has been read, and says why that is no result. What it said
    /// to people is taken as it is.
    pub(super) fn end(self) -> Option<Excess> {
        let Self { trouble, running, all_ended, words, result, over, .. } = self;
        drop((running, over));
        // Nothing is ever sent: what counts is that nobody is left who could.
        let _ = all_ended.recv_timeout(LEFT_OPEN);
        words.iter().chain(&result).for_each(Reading::wait_for_the_rest);
        let is_left_open = result.is_some_and(|result| !result.has_ended());
        lock(&trouble).take().or(is_left_open.then_some(Excess::LeftOpen))
    }
}

/// A pipe that a thread reads to its end.
struct Reading {
    end: PipeReader,
    ended: Receiver<()>,
}

impl Reading {
    fn has_ended(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// When nobody can write any more, all there will be is there: that the machine is too busy to read it, or its disk to
    /// keep it, says nothing of the program.
    fn wait_for_the_rest(&self) {
        if !has_writers(&self.end) {
            let _ = self.ended.recv();
        }
    }
}

/// Whether something holds the other end of a pipe, as far as the system tells.
#[cfg(unix)]
fn has_writers(pipe: &PipeReader) -> bool {
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        io::retry_on_intr,
    };
    let mut ends = [PollFd::new(pipe, PollFlags::IN)];
    let looked = retry_on_intr(|| poll(&mut ends, Some(&Timespec::default())));
    looked.is_err() || !ends[0].revents().contains(PollFlags::HUP)
}

#[cfg(not(unix))]
fn has_writers(_: &PipeReader) -> bool {
    true
}

/// The last of what a program said.
#[derive(Clone, Default)]
pub(super) struct Words(Arc<Mutex<Vec<u8>>>);

impl Words {
    fn hear(&self, piece: &[u8]) {
        let mut words = lock(&self.0);
        words.extend_from_slice(piece);
        // Not for every piece, since the rest is moved.
        if words.len() > 2 * STDERR_KEPT {
            let surplus = words.len() - STDERR_KEPT;
            words.drain(..surplus);
        }
    }

    pub(super) fn last(&self) -> Vec<u8> {
        let mut words = mem::take(&mut *lock(&self.0));
        let surplus = words.len().saturating_sub(STDERR_KEPT);
        words.drain(..surplus);
        words
    }
}

/// Waits for more; nothing at the end, which a broken pipe is, too.
fn read(pipe: &mut PipeReader, piece: &mut [u8]) -> Option<usize> {
    loop {
        match pipe.read(piece) {
            Ok(0) => return None,
            Ok(length) => return Some(length),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a thread that reads the pipe only when its time is over makes of it.
    #[cfg(unix)]
    fn read_late(is_left_open: bool) -> Option<Excess> {
        let (made, makes) = io::pipe().unwrap();
        let held = is_left_open.then(|| makes.try_clone().unwrap());
        let mut beside = Beside::new(&Reins::default());
        let late = move |mut pipe: PipeReader| {
            thread::sleep(LEFT_OPEN + Duration::from_millis(200));
            while read(&mut pipe, &mut [0; 100]).is_some() {}
            Err(Excess::TooLarge)
        };
        beside.result = Some(beside.spawn_reading(made, late).unwrap());
        (&makes).write_all(b"made").unwrap();
        drop(makes);
        let excess = beside.end();
        drop(held);
        excess
    }

    #[cfg(unix)]
    #[test]
    fn a_result_that_is_read_late_is_whole_unless_something_holds_its_pipe() {
        let open = thread::spawn(|| read_late(true));
        assert!(matches!(read_late(false), Some(Excess::TooLarge)));
        assert!(matches!(open.join().unwrap(), Some(Excess::LeftOpen)));
    }

    #[test]
    fn the_last_words_are_kept() {
        let words = Words::default();
        for piece in 0..=255_u8 {
            words.hear(&[piece; 1_000]);
        }
        let last = words.last();
        assert_eq!(last.len(), STDERR_KEPT);
        assert!(last.ends_with(&[255; 1_000]) && last.starts_with(&[190; 464]));
    }
}
