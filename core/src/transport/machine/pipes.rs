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
/// How long the pipes of a program that has ended are read. They end with it, unless something of it escaped.
const LEFT_OPEN: Duration = Duration::from_secs(2);
/// How often it is looked how large a file has become.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The threads beside a program that runs.
pub(super) struct Beside {
    reins: Reins,
    trouble: Arc<Mutex<Option<Excess>>>,
    running: Sender<()>,
    all_ended: Receiver<()>,
    /// The thread that takes the result holds its other end.
    whole: Option<Receiver<()>>,
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
            whole: None,
            over: Vec::new(),
        }
    }

    fn spawn(&self, work: impl FnOnce() -> Result<(), Excess> + Send + 'static) -> io::Result<()> {
        let (running, trouble, reins) = (self.running.clone(), Arc::clone(&self.trouble), self.reins.clone());
        let on_it = move || {
            if let Err(excess) = work() {
                lock(&trouble).get_or_insert(excess);
                reins.kill();
            }
            drop(running);
        };
        thread::Builder::new().name(THREAD.into()).spawn(on_it).map(drop)
    }

    /// Hands it what it reads. It may not want it.
    pub(super) fn feed(&self, mut stdin: ChildStdin, bytes: Vec<u8>) -> io::Result<()> {
        self.spawn(move || {
            let _ = stdin.write_all(&bytes);
            Ok(())
        })
    }

    /// Listens to what it says to people.
    pub(super) fn listen(&self, mut pipe: PipeReader) -> io::Result<Words> {
        let words = Words::default();
        let heard = words.clone();
        self.spawn(move || {
            let mut piece = vec![0; PIECE];
            while let Some(length) = read(&mut pipe, &mut piece) {
                heard.hear(&piece[..length]);
            }
            Ok(())
        })?;
        Ok(words)
    }

    /// What takes the result ends when it has all of it.
    fn spawn_taking(&mut self, work: impl FnOnce() -> Result<(), Excess> + Send + 'static) -> io::Result<()> {
        let (taking, whole) = mpsc::channel::<()>();
        self.whole = Some(whole);
        self.spawn(move || {
            let _taking = taking;
            work()
        })
    }

    /// Takes what it makes to memory.
    pub(super) fn take(&mut self, mut pipe: PipeReader, limit: u64) -> io::Result<Arc<Mutex<Vec<u8>>>> {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&taken);
        self.spawn_taking(move || {
            let mut piece = vec![0; PIECE];
            while let Some(length) = read(&mut pipe, &mut piece) {
                let mut into = lock(&into);
                if (into.len() + length) as u64 > limit {
                    return Err(Excess::TooLarge);
                }
                into.extend_from_slice(&piece[..length]);
            }
            Ok(())
        })?;
        Ok(taken)
    }

    /// Takes what it makes to a file.
    pub(super) fn pour(&mut self, pipe: PipeReader, mut into: File, limit: u64) -> io::Result<()> {
        self.spawn_taking(move || match io::copy(&mut pipe.take(limit.saturating_add(1)), &mut into) {
            Ok(length) if length > limit => Err(Excess::TooLarge),
            Ok(_) => Ok(()),
            Err(error) => Err(Excess::Unkept(error)),
        })
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
    }

    /// The program has ended: waits until all that it wrote has been read, and says why that is no result. What it said
    /// to people is taken as it is.
    pub(super) fn end(self) -> Option<Excess> {
        let Self { trouble, running, all_ended, whole, over, .. } = self;
        drop((running, over));
        // Nothing is ever sent: what counts is that nobody is left who could.
        let _ = all_ended.recv_timeout(LEFT_OPEN);
        let is_left_open = whole.is_some_and(|whole| whole.try_recv() == Err(TryRecvError::Empty));
        lock(&trouble).take().or(is_left_open.then_some(Excess::LeftOpen))
    }
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
