//! A chat completion over OpenAI's API: what is asked, and what is made of the answer.

mod completion;
mod pictures;
mod request;

pub(super) use completion::completion;
pub(super) use pictures::{Fetched, Pictures};
pub(super) use request::{write, written};

/// The path that is asked.
pub(super) const PATH: &str = "v1/chat/completions";
