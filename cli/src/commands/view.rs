//! The live view of `status --watch`: lines that are drawn over again on a terminal, and a line for each change elsewhere.

use std::{
    env,
    io::{self, Write},
};

use crate::door::{State, text};

/// What is assumed of a terminal that doesn't say how large it is.
const USUAL: (usize, usize) = (80, 24);

/// What is on the screen.
pub(super) struct View {
    /// Lines that are drawn over, on a terminal.
    drawn: Option<usize>,
    /// What was said last, elsewhere.
    said: String,
}

impl View {
    pub(super) fn on(terminal: bool) -> Self {
        Self { drawn: terminal.then_some(0), said: String::new() }
    }

    pub(super) fn show(&mut self, state: &State, out: &mut dyn Write) -> io::Result<()> {
        if let Some(drawn) = self.drawn {
            let (page, lines) = page(state, drawn, size());
            out.write_all(page.as_bytes())?;
            self.drawn = Some(lines);
        } else {
            let summary = text::summary(state);
            if summary == self.said {
                return Ok(());
            }
            writeln!(out, "{} {summary}", state.at.0)?;
            self.said = summary;
        }
        out.flush()
    }
}

/// The lines of a state, drawn over `drawn` earlier ones, and how many they are. None is longer than a row, or what is drawn
/// over would be wrong.
fn page(state: &State, drawn: usize, (columns, rows): (usize, usize)) -> (String, usize) {
    let mut page = if drawn == 0 { String::new() } else { format!("\u{1b}[{drawn}A\r") };
    let lines = text::live(state).into_iter().take(rows.saturating_sub(1).max(1));
    let mut count = 0;
    for (name, value) in lines {
        page.push_str(&cut(&format!("{name:<20}{value}"), columns));
        // The rest of a longer line of before is cleared.
        page.push_str("\u{1b}[K\n");
        count += 1;
    }
    page.push_str("\u{1b}[J");
    (page, count)
}

/// As much of a line as is sure to fit: nobody knows how wide other characters than those of ASCII are.
fn cut(line: &str, columns: usize) -> String {
    let width = |c: char| if c.is_ascii() { 1 } else { 2 };
    if line.chars().map(width).sum::<usize>() <= columns {
        return line.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let fits = |c: &char| {
        let fits = width(*c) <= left;
        left = left.saturating_sub(width(*c));
        fits
    };
    line.chars().take_while(fits).collect()
}

/// Columns and rows.
fn size() -> (usize, usize) {
    let told = terminal_size::terminal_size();
    let said = |name| env::var(name).ok().and_then(|size| size.parse().ok());
    match told {
        Some((columns, rows)) => (columns.0.into(), rows.0.into()),
        None => (said("COLUMNS").unwrap_or(USUAL.0), said("LINES").unwrap_or(USUAL.1)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(model: &str, jobs: usize) -> State {
        let at = "2026-01-01T00:00:00.000Z";
        let ended = json!({
            "jobId": "j", "kind": "llm", "model": "m", "startedAt": at, "finishedAt": at, "outcome": "completed",
            "reason": null,
        });
        serde_json::from_value(json!({
            "at": at, "version": "1", "pid": 1, "startedAt": at, "session": null, "lastHeartbeat": null,
            "currentJob": { "jobId": "j", "kind": "llm", "model": model, "startedAt": at, "progress": null },
            "recentJobs": vec![ended; jobs],
        }))
        .unwrap()
    }

    #[test]
    fn what_was_drawn_is_drawn_over_and_fits_the_terminal() {
        let (first, lines) = page(&state("m", 3), 0, (80, 24));
        assert!(!first.starts_with('\u{1b}') && first.ends_with("\u{1b}[J"), "{first:?}");
        assert_eq!((lines, first.matches('\n').count()), (6, 6));
        let (again, fewer) = page(&state("m", 0), lines, (80, 24));
        assert!(again.starts_with("\u{1b}[6A\r"), "{again:?}");
        assert_eq!(fewer, 3);
        let (small, lines) = page(&state(&"模".repeat(200), 5), 0, (40, 5));
        assert_eq!(lines, 4);
        for line in small.lines() {
            let shown = line.trim_end_matches("\u{1b}[J").trim_end_matches("\u{1b}[K");
            assert!(
                shown.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<usize>() <= 40,
                "{shown:?}"
            );
        }
        assert!(small.contains('模'));
        assert_eq!(page(&state("m", 0), 0, (0, 0)).1, 1, "a terminal without a size");
    }

    #[test]
    fn where_nothing_can_be_drawn_over_each_change_is_a_line() {
        let (mut view, mut out) = (View::on(false), Vec::new());
        for model in ["a", "a", "b", "b"] {
            view.show(&state(model, 0), &mut out).unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(
            text.contains("2026-01-01T00:00:00.000Z no session yet, j, llm, a") && !text.contains('\u{1b}')
        );
    }
}
