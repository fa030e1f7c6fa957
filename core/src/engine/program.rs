//! What engines that run programs have in common: errors out of how a program ended.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
};
use core::fmt;

use super::{contract::EngineError, server::presentable};
use crate::{
    machine::{Ended, ProgramFailure},
    wire::Secret,
};

/// The name of a program without its folder.
pub(super) fn name_of(program: &str) -> &str {
    program.rsplit(['/', '\\']).next().filter(|name| !name.is_empty()).unwrap_or(program)
}

/// The longest argument, in bytes: Linux takes no more.
pub(super) const MAX_ARGUMENT: usize = 128 * 1024 - 1;

/// A text of a job that an argument can carry.
pub(super) fn argument_text(name: &str, text: String) -> Result<String, EngineError> {
    let refused =
        |problem: &str| Err(EngineError::permanent(format!("{name} {problem}, and can't be an argument")));
    if text.contains('\0') {
        return refused("has a zero byte in it");
    }
    if text.len() > MAX_ARGUMENT {
        return refused(&format!("is longer than {MAX_ARGUMENT} bytes"));
    }
    Ok(text)
}

/// Makes errors out of what a program said, with none of `secrets` in them.
pub(super) struct Words<'a> {
    pub(super) program: &'a str,
    pub(super) secrets: &'a [Secret],
}

impl Words<'_> {
    /// Another attempt can help.
    pub(super) fn trouble(&self, what: impl fmt::Display, words: &str) -> EngineError {
        EngineError::transient(self.text(what, words))
    }

    /// Another attempt can't help.
    pub(super) fn hopeless(&self, what: impl fmt::Display, words: &str) -> EngineError {
        EngineError::permanent(self.text(what, words))
    }

    fn text(&self, what: impl fmt::Display, words: &str) -> String {
        let what = presentable(&format!("{} {what}", name_of(self.program)), self.secrets);
        let words = presentable(words, self.secrets);
        if words.is_empty() { what } else { format!("{what}: {words}") }
    }

    /// A program that could not be run to its end.
    pub(super) fn failed(&self, failure: &ProgramFailure) -> EngineError {
        match failure {
            ProgramFailure::NotFound { .. } => {
                self.trouble("is not there: install it, or correct its path in the configuration", "")
            }
            ProgramFailure::Trouble { why, .. } => self.trouble("can't be run", why),
            ProgramFailure::TooLarge { limit, .. } => {
                self.hopeless(format_args!("made a result of more than {limit} bytes, and was stopped"), "")
            }
            ProgramFailure::Ended { ended, .. } => {
                self.trouble(how_ended(ended), &last_words_of(&ended.stderr))
            }
        }
    }
}

/// How a program ended that should not have.
pub(super) fn how_ended(ended: &Ended) -> String {
    match (ended.code, ended.signal) {
        (Some(code), _) => format!("ended with exit code {code}"),
        // What the system sends when memory runs out, and nobody else without a word.
        (None, Some(9)) => "was killed (signal 9): did this machine run out of memory?".to_owned(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last line that a program said; before it the last one that speaks of memory, since that is the cause, and what
/// follows only says that it was one.
pub(super) fn last_words_of(stderr: &[u8]) -> String {
    let text = without_escapes(&String::from_utf8_lossy(stderr));
    // A progress bar writes line over line.
    let lines = || text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    let Some(last) = lines().next_back() else { return String::new() };
    match lines().rfind(|line| is_of_memory(line)) {
        Some(cause) if cause != last => format!("{}; {}", excerpt(cause), excerpt(last)),
        _ => excerpt(last),
    }
}

/// A line, and only the end of one that is long.
fn excerpt(line: &str) -> String {
    const MAX_CHARS: usize = 500;
    match line.char_indices().rev().nth(MAX_CHARS) {
        Some((cut, c)) => format!("…{}", &line[cut + c.len_utf8()..]),
        None => line.to_string(),
    }
}

fn is_of_memory(line: &str) -> bool {
    const WORDS: [&str; 6] = [
        "out of memory",
        "outofmemory",
        "failed to allocate",
        "unable to allocate",
        "cannot allocate memory",
        "bad_alloc",
    ];
    let line = line.to_ascii_lowercase();
    WORDS.iter().any(|words| line.contains(words))
}

/// A text without the sequences that colour it on a terminal.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            plain.push(c);
        } else if chars.as_str().starts_with('[') {
            // Parameters, and one letter that ends them.
            let _ = chars.next();
            let _ = chars.find(|c| ('@'..='~').contains(c));
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_program_are_its_last_line_and_what_it_said_of_memory() {
        for (stderr, words) in [
            ("", ""),
            ("\n \r\n", ""),
            ("one\ntwo\n", "two"),
            ("10%\r20%\r30%", "30%"),
            ("\u{1b}[31;1mError\u{1b}[0m: no\u{1b}", "Error: no"),
            ("\u{1b}[", ""),
            (
                "cudaMalloc failed: out of memory\nerror loading model\nexiting\n",
                "cudaMalloc failed: out of memory; exiting",
            ),
            ("x\nstd::bad_alloc", "std::bad_alloc"),
        ] {
            assert_eq!(last_words_of(stderr.as_bytes()), words, "{stderr:?}");
        }
        assert_eq!(last_words_of(b"caf\xe9"), "caf\u{fffd}");
        assert_eq!(last_words_of("é".repeat(900).as_bytes()), format!("…{}", "é".repeat(500)));
    }

    #[test]
    fn the_end_of_a_program_is_an_error_that_one_can_act_on() {
        let secrets = ["key-1234".into()];
        let words = Words { program: "/opt/bin/draw", secrets: &secrets };
        let program = String::from("/opt/bin/draw");
        let ended = |code, signal| ProgramFailure::Ended {
            program: program.clone(),
            ended: Ended { code, signal, stderr: b"the key key-1234 is bad\n".to_vec() },
        };
        for (failure, retryable, message) in [
            (ProgramFailure::NotFound { program: program.clone() }, true, {
                "draw is not there: install it, or correct its path in the configuration"
            }),
            (ProgramFailure::Trouble { program: program.clone(), why: "permission denied".into() }, true, {
                "draw can't be run: permission denied"
            }),
            (ProgramFailure::TooLarge { program: program.clone(), limit: 7 }, false, {
                "draw made a result of more than 7 bytes, and was stopped"
            }),
            (ended(Some(1), None), true, "draw ended with exit code 1: the key … is bad"),
            (ended(None, Some(11)), true, "draw was ended by signal 11: the key … is bad"),
            (ended(None, Some(9)), true, {
                "draw was killed (signal 9): did this machine run out of memory?: the key … is bad"
            }),
            (ended(None, None), true, "draw ended: the key … is bad"),
        ] {
            let error = words.failed(&failure);
            assert_eq!((error.message.as_str(), error.retryable), (message, retryable));
        }
        assert_eq!((name_of("a/b"), name_of("c:\\d"), name_of("e"), name_of("f/")), ("b", "d", "e", "f/"));
    }
}
