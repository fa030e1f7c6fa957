//! Log lines on their way to the studio (section 3): bounded, at most one batch a second, at most once.

use alloc::{collections::VecDeque, format, string::String, vec::Vec};

use super::io::LogLine;
use crate::{
    time::Wall,
    wire::{LogEntry, LogLevel},
};

/// The most entries of one batch.
pub const MAX_BATCH_ENTRIES: usize = 200;
/// The most bytes of one batch, counted with room for the JSON around the texts.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;
/// The most lines that wait; older ones are dropped, counted and reported.
const MAX_WAITING: usize = 1_000;
/// The longest message, in bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// The lines that wait for the next batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LogBook {
    waiting: VecDeque<LogEntry>,
    dropped: u64,
    dropped_ever: u64,
}

impl LogBook {
    pub(super) fn push(&mut self, at: Wall, line: LogLine) {
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
            self.dropped += 1;
            self.dropped_ever += 1;
        }
        self.waiting.push_back(LogEntry {
            ts: at.to_rfc3339(),
            level: line.level,
            category: cut(line.category, 64),
            message: cut(line.message, MAX_MESSAGE_BYTES),
            job_id: line.job_id,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lines dropped since the start.
    pub(super) fn dropped_ever(&self) -> u64 {
        self.dropped_ever
    }

    /// Takes the next batch, oldest lines first.
    pub(super) fn take_batch(&mut self, now: Wall) -> Vec<LogEntry> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        if self.dropped > 0 {
            batch.push(LogEntry {
                ts: now.to_rfc3339(),
                level: LogLevel::Warn,
                category: "log".into(),
                message: format!("{} older log lines were dropped", self.dropped),
                job_id: None,
            });
            self.dropped = 0;
        }
        while batch.len() < MAX_BATCH_ENTRIES
            && let Some(entry) = self.waiting.front()
        {
            // A character takes at most six bytes in JSON for each of its own.
            let job = entry.job_id.as_ref().map_or(0, |id| id.as_str().len());
            bytes += 160 + 6 * (entry.message.len() + entry.category.len() + job);
            if bytes > MAX_BATCH_BYTES && !batch.is_empty() {
                break;
            }
            batch.extend(self.waiting.pop_front());
        }
        // No room is kept for the next flood.
        self.waiting.shrink_to_fit();
        batch
    }

    /// How much waits, to compare states by: it decides how many batches go out.
    pub(super) fn weight(&self) -> (usize, usize, bool) {
        let bytes = self.waiting.iter().map(|entry| entry.message.len() + entry.category.len()).sum();
        (self.waiting.len(), bytes, self.dropped > 0)
    }

    /// Without the lines, to compare states by.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// `text`, cut between characters after `most` bytes.
pub(super) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> LogLine {
        LogLine { level: LogLevel::Info, category: "t".into(), message: message.into(), job_id: None }
    }

    #[test]
    fn a_batch_has_at_most_200_entries_and_256_kib() {
        let mut book = LogBook::default();
        for n in 0..450 {
            book.push(Wall::default(), line(&format!("{n}")));
        }
        assert_eq!(book.take_batch(Wall::default()).len(), 200);
        for _ in 0..300 {
            book.push(Wall::default(), line(&"\u{1}".repeat(8_000)));
        }
        while !book.is_empty() {
            let batch = book.take_batch(Wall::default());
            let frame = crate::wire::WorkerFrame::LogBatch { entries: batch };
            assert!(frame.to_text().len() <= MAX_BATCH_BYTES, "{}", frame.to_text().len());
        }
    }

    #[test]
    fn a_flood_drops_the_oldest_lines_and_says_so() {
        let mut book = LogBook::default();
        for n in 0..1_500 {
            book.push(Wall::default(), line(&format!("{n}")));
        }
        let batch = book.take_batch(Wall::default());
        assert_eq!(batch[0].message, "500 older log lines were dropped");
        assert_eq!(batch[1].message, "500");
        assert_eq!(book.dropped_ever(), 500);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let mut book = LogBook::default();
        book.push(Wall::default(), line(&"é".repeat(8_000)));
        assert!(book.take_batch(Wall::default())[0].message.ends_with("é…"));
    }
}
