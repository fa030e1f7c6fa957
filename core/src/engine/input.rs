//! Inputs of a job that lie somewhere else: a `data:` URL, or an address to fetch them from.
//!
//! An address comes from whoever made the job, so it is trusted with nothing: `https`, or loopback; never a
//! private or link-local address unless the operator allows it; a few redirects, each checked anew; a bound on
//! size and time; and no credential.

mod route;

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{net::IpAddr, time::Duration};

use data_url::DataUrl;
use url::{Host, Url};

pub(crate) use self::route::{Astray, Route};
use super::contract::{Effect, EngineError, Happened, Recipe};
use crate::http::{HttpAnswer, HttpRequest, Reach};

/// Where inputs may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputPolicy {
    /// Whether private and link-local addresses are fine: where studio and worker share a network.
    pub allow_private: bool,
}

/// What an address of an input is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The input itself.
    Data(Vec<u8>),
    /// Where to fetch it.
    Fetch {
        /// The address.
        url: Url,
        /// Which addresses its host may have.
        reach: Reach,
    },
}

impl InputPolicy {
    /// What `address` is; an error that says why it is refused, which another attempt can't help.
    ///
    /// This looks at the text alone. What a name resolves to is for the runtime to check against the reach.
    pub fn source(self, address: &str, limit: usize) -> Result<Source, EngineError> {
        let address = address.trim();
        if address.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
            return read_data(address, limit).map(Source::Data);
        }
        let (url, reach) = self.leads(address).map_err(refused)?;
        Ok(Source::Fetch { url, reach })
    }

    /// Where an address leads, and which addresses its host may have; else why it is refused.
    pub(super) fn leads(self, address: &str) -> Result<(Url, Reach), String> {
        let url = Url::parse(address.trim()).map_err(|error| format!("can't be read: {error}"))?;
        let reach = self.reach(&url)?;
        Ok((url, reach))
    }

    fn reach(self, url: &Url) -> Result<Reach, &'static str> {
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("is neither https nor data"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a user name or password in it");
        }
        let address: Option<IpAddr> = match url.host() {
            None => return Err("names no host"),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                if name == "localhost" || name.ends_with(".localhost") {
                    return Ok(Reach::Loopback);
                }
                None
            }
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
        };
        if address.is_some_and(|address| Reach::Loopback.admits(address)) {
            return Ok(Reach::Loopback);
        }
        let is_private = address.is_some_and(|address| !Reach::Public.admits(address));
        match (is_private, self.allow_private) {
            (true, false) => Err("leads to a private address, which the configuration doesn't allow"),
            (false, _) if !secure => Err("is not encrypted: https is wanted"),
            (_, true) => Ok(Reach::Any),
            (false, false) => Ok(Reach::Public),
        }
    }
}

fn refused(why: impl core::fmt::Display) -> EngineError {
    EngineError::permanent(format_args!("the address of an input {why}"))
}

fn read_data(address: &str, limit: usize) -> Result<Vec<u8>, EngineError> {
    // Escapes may take three characters a byte, and line breaks more; this bounds the work, and the next check the result.
    if address.len() / 4 > limit {
        return Err(too_large(limit));
    }
    let broken = || EngineError::permanent("an input is a `data:` URL that can't be read");
    let (bytes, _) =
        DataUrl::process(address).map_err(|_| broken())?.decode_to_vec().map_err(|_| broken())?;
    checked(bytes, limit)
}

fn checked(bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>, EngineError> {
    match bytes.len() {
        0 => Err(EngineError::permanent("an input is empty")),
        length if length > limit => Err(too_large(limit)),
        _ => Ok(bytes),
    }
}

fn too_large(limit: usize) -> EngineError {
    EngineError::permanent(format_args!("an input is larger than {} MiB", limit / (1024 * 1024)))
}

/// Fetches an input.
pub(super) struct Fetch {
    route: Route,
    limit: usize,
    timeout: Duration,
}

impl Fetch {
    pub(super) fn new(policy: InputPolicy, url: Url, reach: Reach, limit: usize, timeout: Duration) -> Self {
        Self { route: Route::new(policy, url, reach), limit, timeout }
    }

    /// The first thing to do.
    pub(super) fn begin<T>(&self) -> Effect<T> {
        Effect::Exchange(self.request())
    }

    fn request(&self) -> HttpRequest {
        HttpRequest {
            answer_limit: self.limit.saturating_add(1),
            timeout: self.timeout,
            reach: self.route.reach(),
            ..HttpRequest::get(self.route.url().to_string())
        }
    }

    fn read(&mut self, answer: HttpAnswer) -> Effect<Vec<u8>> {
        let status = answer.status;
        let whence = self.route.shown();
        Effect::Done(match status {
            200 => checked(answer.body, self.limit),
            _ if Route::is_redirect(status) => match self.route.follow(answer.location.as_deref()) {
                Ok(()) => return Effect::Exchange(self.request()),
                Err(Astray::Refused(why)) => Err(refused(why)),
                Err(Astray::Lost(why)) => {
                    Err(EngineError::transient(format_args!("an input can't be fetched: {whence} {why}")))
                }
            },
            404 | 410 => {
                Err(EngineError::permanent(format_args!("an input is not there: {whence} answers {status}")))
            }
            _ => Err(EngineError::transient(format_args!(
                "an input can't be fetched: {whence} answers {status}"
            ))),
        })
    }
}

impl Recipe<Vec<u8>> for Fetch {
    fn next(&mut self, happened: Happened) -> Effect<Vec<u8>> {
        match happened {
            Happened::Exchanged(Ok(answer)) => self.read(answer),
            Happened::Exchanged(Err(failure)) => {
                let (whence, why) = (self.route.shown(), self.route.presentable(&failure));
                Effect::Done(Err(EngineError::transient(format_args!(
                    "an input can't be fetched from {whence}: {why}"
                ))))
            }
            _ => Effect::Done(Err(EngineError::transient("an input was not fetched"))),
        }
    }
}

/// An address without its query, which may be what gives access, and no longer than one reads.
fn shown(url: &Url) -> String {
    let path: String = url.path().chars().take(200).collect();
    format!("{}{path}", url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests;
