//! The pictures of a chat.

use alloc::{collections::VecDeque, format, string::String, vec::Vec};
use core::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    engine::{
        contract::{Effect, EngineError, Happened, Recipe},
        format::Format,
        input::{Fetch, InputPolicy, Source},
        refusal::interrupted,
    },
    wire::task::LlmTask,
};

/// How many pictures a chat may have.
const MAX_PICTURES: usize = 16;
/// The largest of them, in bytes.
const MAX_PICTURE: usize = 25 * 1024 * 1024;
/// All of them together: they go out in one request, as text.
const MAX_PICTURES_BYTES: usize = 64 * 1024 * 1024;
/// How long one may take to be fetched.
const PICTURE_TIMEOUT: Duration = Duration::from_secs(60);

/// A picture, as it was fetched.
pub(in crate::engine) struct Fetched {
    format: Format,
    bytes: Vec<u8>,
}

impl Fetched {
    /// The picture as a `data:` URL, since a server may not reach, or not want to reach, where it lies.
    pub(super) fn address(&self) -> String {
        let mut address = format!("data:{};base64,", self.format.mime());
        STANDARD.encode_string(&self.bytes, &mut address);
        address
    }
}

/// Fetches the pictures, one after the other. Its errors are not yet fit to be shown.
pub(in crate::engine) struct Pictures {
    policy: InputPolicy,
    wanted: VecDeque<String>,
    gathered: Vec<Fetched>,
    bytes: usize,
    fetch: Option<Fetch>,
}

impl Pictures {
    /// The pictures of `task`, which has none afterwards.
    pub(in crate::engine) fn of(task: &mut LlmTask, policy: InputPolicy) -> Self {
        let wanted = core::mem::take(&mut task.images).into();
        Self { policy, wanted, gathered: Vec::new(), bytes: 0, fetch: None }
    }

    /// Where they are.
    pub(in crate::engine) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.wanted.iter().map(String::as_str)
    }

    /// Takes what needs no fetching, and begins to fetch the next one.
    fn gather(&mut self) -> Result<Effect<Vec<Fetched>>, EngineError> {
        let count = self.wanted.len() + self.gathered.len();
        if count > MAX_PICTURES {
            return Err(EngineError::permanent(format_args!(
                "a chat can have {MAX_PICTURES} pictures, and this one has {count}"
            )));
        }
        while let Some(address) = self.wanted.pop_front() {
            match self.policy.source(&address, MAX_PICTURE)? {
                Source::Data(bytes) => self.take(bytes)?,
                Source::Fetch { url, reach } => {
                    let fetch = Fetch::new(self.policy, url, reach, MAX_PICTURE, PICTURE_TIMEOUT);
                    let effect = fetch.begin();
                    self.fetch = Some(fetch);
                    return Ok(effect);
                }
            }
        }
        Ok(Effect::Done(Ok(core::mem::take(&mut self.gathered))))
    }

    fn take(&mut self, bytes: Vec<u8>) -> Result<(), EngineError> {
        let number = self.gathered.len() + 1;
        let format = Format::of(&bytes).filter(|format| format.is_picture());
        let Some(format) = format else {
            return Err(EngineError::permanent(format_args!("picture {number} of the chat isn't a picture")));
        };
        self.bytes += bytes.len();
        if self.bytes > MAX_PICTURES_BYTES {
            let mib = MAX_PICTURES_BYTES / (1024 * 1024);
            return Err(EngineError::permanent(format_args!(
                "the pictures of the chat are larger than {mib} MiB together"
            )));
        }
        self.gathered.push(Fetched { format, bytes });
        Ok(())
    }
}

impl Recipe<Vec<Fetched>> for Pictures {
    fn next(&mut self, happened: Happened) -> Effect<Vec<Fetched>> {
        let fail = |error| Effect::Done(Err(error));
        match (&mut self.fetch, happened) {
            (None, Happened::Started) => self.gather().unwrap_or_else(fail),
            (None, _) => fail(interrupted()),
            (Some(fetch), happened) => fetch.next(happened).and_then(|outcome| {
                let gathered = outcome.and_then(|bytes| {
                    self.take(bytes)?;
                    self.gather()
                });
                gathered.unwrap_or_else(fail)
            }),
        }
    }
}
