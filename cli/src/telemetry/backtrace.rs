//! Where a panic came from, as Sentry shows it.

use std::backtrace::Backtrace;

use sentry::protocol::{Frame, Stacktrace};

/// The frames of this thread, from its start to the place of the panic.
pub(super) fn here() -> Option<Stacktrace> {
    let frames = frames(&Backtrace::force_capture().to_string());
    (!frames.is_empty()).then(|| Stacktrace { frames, ..Stacktrace::default() })
}

/// Reads what the standard library prints: a line for each function, and below it where it is, as far as that is known.
fn frames(printed: &str) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for line in printed.lines().map(str::trim) {
        if let Some(place) = line.strip_prefix("at ") {
            let mut parts = place.rsplitn(3, ':');
            let (column, number, path) = (parts.next(), parts.next(), parts.next());
            if let (Some(frame), Some(path)) = (frames.last_mut(), path) {
                // The name alone: folders are those of whoever built it.
                frame.filename = path.rsplit(['/', '\\']).next().map(str::to_owned);
                frame.lineno = number.and_then(|number| number.parse().ok());
                frame.colno = column.and_then(|column| column.parse().ok());
            }
            continue;
        }
        let function = match line.split_once(": ") {
            Some((number, function)) if number.bytes().all(|byte| byte.is_ascii_digit()) => function,
            _ => line,
        };
        if !function.is_empty() && function != "<unknown>" {
            let in_app = Some(function.contains("studio_worker"));
            frames.push(Frame { function: Some(function.to_owned()), in_app, ..Frame::default() });
        }
    }
    // What deals with the panic is no part of how it came about.
    let is_machinery = |frame: &Frame| {
        frame.function.as_deref().is_some_and(|function| function.starts_with("core::panicking::"))
    };
    let origin = frames
        .iter()
        .position(is_machinery)
        .map_or(0, |first| first + frames[first..].iter().take_while(|frame| is_machinery(frame)).count());
    frames.drain(..origin);
    frames.reverse();
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_from_its_thread_to_its_place() {
        let printed = "   0: std::backtrace::Backtrace::force_capture\n             at /rustc/1/library/std/src/backtrace.rs:1:2\n   \
                       1: __rustc::rust_begin_unwind\n   2: core::panicking::panic_fmt\n             at /rustc/1/panicking.rs:9:9\n   \
                       3: core::panicking::panic_bounds_check\n   4: studio_worker::demo::draw\n             at /home/me/cli/src/demo.rs:7:5\n   \
                       5: <unknown>\n   6: main\n";
        let frames: Vec<_> = frames(printed)
            .into_iter()
            .map(|frame| (frame.function.unwrap(), frame.filename, frame.lineno, frame.in_app))
            .collect();
        assert_eq!(
            frames,
            [
                ("main".to_owned(), None, None, Some(false)),
                ("studio_worker::demo::draw".to_owned(), Some("demo.rs".to_owned()), Some(7), Some(true)),
            ]
        );
        assert!(super::frames("").is_empty());
    }

    #[test]
    fn this_thread_has_frames() {
        let trace = here().unwrap();
        let function = |frame: &Frame| frame.function.clone().unwrap_or_default();
        assert!(
            trace.frames.iter().any(|frame| function(frame).contains("this_thread_has_frames")),
            "{trace:?}"
        );
    }
}
