//! Several inputs of a job, one after the other.

use alloc::{collections::VecDeque, string::String, vec::Vec};
use core::time::Duration;

use super::{
    contract::{Effect, EngineError, Happened, Recipe},
    input::{Fetch, InputPolicy, Source},
    refusal::interrupted,
    server::{confidential, presentable},
};
use crate::wire::Secret;

/// The largest picture that a job may bring, in bytes, and how long it may take to be fetched.
const MAX_PICTURE: usize = 25 * 1024 * 1024;
const PICTURE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for sound: an hour of speech as MP3, half an hour as WAV.
const MAX_SOUND: usize = 64 * 1024 * 1024;
const SOUND_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// An input that a job wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// A `data:` URL, or where it lies.
    address: String,
    limit: usize,
    timeout: Duration,
}

impl Wanted {
    pub(super) fn picture(address: &str) -> Self {
        Self { address: address.into(), limit: MAX_PICTURE, timeout: PICTURE_TIMEOUT }
    }

    pub(super) fn sound(address: &str) -> Self {
        Self { address: address.into(), limit: MAX_SOUND, timeout: SOUND_TIMEOUT }
    }
}

/// Fetches inputs. No error says what gives access to them.
pub(super) struct Gather {
    policy: InputPolicy,
    left: VecDeque<Wanted>,
    gathered: Vec<Vec<u8>>,
    secrets: Vec<Secret>,
    fetch: Option<Fetch>,
}

impl Gather {
    pub(super) fn new(policy: InputPolicy, wanted: Vec<Wanted>) -> Self {
        let secrets = wanted.iter().flat_map(|wanted| confidential(&wanted.address)).collect();
        Self { policy, left: wanted.into(), gathered: Vec::new(), secrets, fetch: None }
    }

    fn go_on(&mut self) -> Result<Effect<Vec<Vec<u8>>>, EngineError> {
        while let Some(Wanted { address, limit, timeout }) = self.left.pop_front() {
            match self.policy.source(&address, limit)? {
                Source::Data(bytes) => self.gathered.push(bytes),
                Source::Fetch { url, reach } => {
                    let fetch = Fetch::new(self.policy, url, reach, limit, timeout);
                    let effect = fetch.begin();
                    self.fetch = Some(fetch);
                    return Ok(effect);
                }
            }
        }
        Ok(Effect::Done(Ok(core::mem::take(&mut self.gathered))))
    }

    fn discreet(&self, error: &EngineError) -> EngineError {
        EngineError { message: presentable(&error.message, &self.secrets), retryable: error.retryable }
    }
}

impl Recipe<Vec<Vec<u8>>> for Gather {
    fn next(&mut self, happened: Happened) -> Effect<Vec<Vec<u8>>> {
        let effect = match (&mut self.fetch, happened) {
            (None, Happened::Started) => self.go_on(),
            (None, _) => Err(interrupted()),
            (Some(fetch), happened) => Ok(fetch.next(happened).and_then(|outcome| {
                let next = outcome.and_then(|bytes| {
                    self.gathered.push(bytes);
                    self.go_on()
                });
                next.unwrap_or_else(|error| Effect::Done(Err(error)))
            })),
        };
        match effect {
            Ok(Effect::Done(Err(error))) | Err(error) => Effect::Done(Err(self.discreet(&error))),
            Ok(effect) => effect,
        }
    }
}
