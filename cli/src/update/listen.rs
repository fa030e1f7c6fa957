//! Hearing what a version on trial says to the one that watches it: lines on its stdout, which is a pipe. A pipe needs no place
//! on a disk that may be full, or in a folder that may be somebody else's.

use std::{
    io::{self, BufRead as _, BufReader, PipeReader, Read as _},
    sync::mpsc::{self, SyncSender},
    thread,
    time::{Duration, Instant},
};

/// The longest line that is read, in bytes: there is no word of that length.
const LONGEST: u64 = 256;
/// How much is heard before anybody asks; who says more waits.
const QUEUE: usize = 16;
/// How long is waited for the last words of one that has ended: what it started may still have its stdout open.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Hears words, and nothing else.
#[derive(Debug)]
pub(super) struct Listening {
    heard: mpsc::Receiver<&'static str>,
    until: Option<Instant>,
}

impl Listening {
    /// Listens for `words` from now on, on a thread of its own.
    pub(super) fn to(pipe: PipeReader, words: &'static [&'static str]) -> io::Result<Self> {
        let (say, heard) = mpsc::sync_channel(QUEUE);
        let listening = move || {
            if let Err(error) = listen(pipe, words, &say) {
                log::debug!("a version on trial can't be heard: {error}");
            }
        };
        thread::Builder::new().name("trial".into()).spawn(listening)?;
        Ok(Self { heard, until: None })
    }

    /// The next word that was said already.
    pub(super) fn next(&mut self) -> Option<&'static str> {
        self.heard.try_recv().ok()
    }

    /// The next word of one that has ended, which may be on its way yet.
    pub(super) fn last(&mut self) -> Option<&'static str> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + LAST_WORDS);
        self.heard.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }
}

fn listen(
    pipe: PipeReader,
    words: &'static [&'static str],
    say: &SyncSender<&'static str>,
) -> io::Result<()> {
    let mut pipe = BufReader::new(pipe);
    let (mut line, mut begins) = (Vec::new(), true);
    loop {
        line.clear();
        if pipe.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        // A piece of a longer line is none.
        let is_line = begins && line.ends_with(b"\n");
        begins = line.ends_with(b"\n");
        let word = words.iter().find(|word| is_line && word.as_bytes() == line.trim_ascii_end());
        if let Some(word) = word
            && say.send(word).is_err()
        {
            // Nobody listens any more.
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const WORDS: &[&str] = &["one", "two"];

    #[test]
    fn words_are_heard_and_nothing_else() {
        let (said, mut says) = io::pipe().unwrap();
        let mut listening = Listening::to(said, WORDS).unwrap();
        says.write_all(b"one\nthree\n\xff\xfe\n\ntw").unwrap();
        says.write_all(b"o\n").unwrap();
        // Longer than any line, and it ends as a word would.
        says.write_all(&vec![b'x'; 100_000]).unwrap();
        says.write_all(&vec![b' '; 256 * 400]).unwrap();
        says.write_all(b"one\none\r\ntwo").unwrap();
        drop(says);
        let heard: Vec<_> = std::iter::from_fn(|| listening.last()).collect();
        assert_eq!(heard, ["one", "two", "one"]);
    }

    #[test]
    fn who_says_too_much_is_not_kept_waiting_when_nobody_listens() {
        let (said, mut says) = io::pipe().unwrap();
        let listening = Listening::to(said, WORDS).unwrap();
        let saying = thread::spawn(move || while says.write_all(b"one\n").is_ok() {});
        drop(listening);
        saying.join().unwrap();
    }

    #[test]
    fn last_words_are_waited_for_a_while_where_the_pipe_stays_open() {
        let (said, mut says) = io::pipe().unwrap();
        let mut listening = Listening::to(said, WORDS).unwrap();
        assert_eq!(listening.next(), None);
        says.write_all(b"two\n").unwrap();
        assert_eq!(listening.last(), Some("two"));
        assert_eq!(listening.last(), None);
        drop(says);
    }
}
