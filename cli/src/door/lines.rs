//! The newest log lines of this program, for those who ask at the door: bounded, and without credentials, since they come
//! from the logger behind where those are taken out.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use log::Metadata;

/// Lines that are kept.
const MAX_LINES: usize = 500;
/// Bytes of them.
const MAX_BYTES: usize = 256 * 1024;
/// Bytes of one line.
const MAX_LINE: usize = 8 * 1024;

static KEPT: Mutex<Kept> = Mutex::new(Kept { by: 0, lines: None });

/// Keeps lines from now on, until the last [`Keeping`] is dropped.
pub(crate) fn keep() -> Keeping {
    let mut kept = lock();
    kept.by += 1;
    kept.lines.get_or_insert_default();
    Keeping(())
}

/// Lines are kept as long as one of these lives.
#[derive(Debug)]
pub(crate) struct Keeping(());

impl Drop for Keeping {
    fn drop(&mut self) {
        let mut kept = lock();
        kept.by -= 1;
        if kept.by == 0 {
            kept.lines = None;
        }
    }
}

/// What is kept, and how many want that.
struct Kept {
    by: usize,
    lines: Option<Lines>,
}

/// A line was logged; credentials are out of it.
pub(crate) fn note(metadata: &Metadata<'_>, message: &str) {
    let mut kept = lock();
    if let Some(lines) = &mut kept.lines {
        let (now, level, target) = (super::now(), metadata.level(), metadata.target());
        lines.push(format!("[{now} {level:<5} {target}] {message}"));
    }
}

/// The lines from the one with the number `from` on. None when none are kept.
pub(super) fn since(from: u64) -> Option<Since> {
    lock().lines.as_ref().map(|lines| lines.since(from))
}

/// The number of the line that is `lines` lines before the end.
pub(super) fn last(lines: usize) -> u64 {
    lock().lines.as_ref().map_or(0, |kept| kept.end() - kept.kept.len().min(lines) as u64)
}

fn lock() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Since {
    /// Lines that are lost for it.
    pub(super) missed: u64,
    pub(super) lines: Vec<String>,
    /// Where to go on.
    pub(super) next: u64,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    bytes: usize,
    /// The number of the oldest one.
    first: u64,
}

impl Lines {
    fn push(&mut self, mut line: String) {
        if line.len() > MAX_LINE {
            let end = (0..=MAX_LINE).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            line.truncate(end);
            line.push('…');
        }
        self.bytes += line.len();
        self.kept.push_back(line);
        while self.kept.len() > MAX_LINES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.len();
            self.first += 1;
        }
    }

    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn since(&self, from: u64) -> Since {
        let missed = self.first.saturating_sub(from);
        let skipped = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        Since { missed, lines: self.kept.iter().skip(skipped).cloned().collect(), next: self.end() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_a_slow_reader_is_told_what_it_missed() {
        let mut lines = Lines::default();
        assert_eq!(lines.since(0), Since { missed: 0, lines: vec![], next: 0 });
        for n in 0..MAX_LINES + 7 {
            lines.push(n.to_string());
        }
        let all = lines.since(0);
        assert_eq!((all.missed, all.lines.len(), &*all.lines[0]), (7, MAX_LINES, "7"));
        assert_eq!(all.next, (MAX_LINES + 7) as u64);
        assert_eq!(lines.since(all.next - 1).lines, [(MAX_LINES + 6).to_string()]);
        assert_eq!(lines.since(all.next), Since { missed: 0, lines: vec![], next: all.next });
    }

    #[test]
    fn long_lines_are_cut_and_many_of_them_bounded() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.push("ü".repeat(MAX_LINE));
        }
        assert!(lines.bytes <= MAX_BYTES && lines.kept.len() >= 30, "{}", lines.kept.len());
        assert_eq!(lines.bytes, lines.kept.iter().map(String::len).sum::<usize>());
        assert!(lines.kept[0].ends_with("ü…") && lines.kept[0].len() <= MAX_LINE + 3);
    }
}
