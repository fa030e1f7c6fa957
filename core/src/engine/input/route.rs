//! Where an address leads, redirect by redirect.

use alloc::{format, string::String};

use url::Url;

use super::{InputPolicy, shown};
use crate::{
    engine::server::{confidential, presentable},
    http::{HttpFailure, Reach},
};

/// How often an address may lead on to another one.
const MAX_REDIRECTS: u32 = 5;

/// The way from an address to what it stands for. Each redirect is checked as the first address was.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    policy: InputPolicy,
    url: Url,
    reach: Reach,
    redirects: u32,
}

/// Why an address can't be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Astray {
    /// It leads where it must not.
    Refused(&'static str),
    /// It leads nowhere, or on and on: what it leads to may change.
    Lost(&'static str),
}

impl Route {
    /// An address that may lead within `reach`.
    pub(crate) fn parse(address: &str, reach: Reach) -> Result<Self, String> {
        let url = Url::parse(address).map_err(|error| format!("can't be read: {error}"))?;
        let policy = InputPolicy { allow_private: reach == Reach::Any };
        let own = policy.reach(&url)?;
        // What names this machine leads nowhere else, where all may be reached.
        Ok(Self::new(policy, url, if reach == Reach::Any { own } else { reach }))
    }

    /// An address that was checked.
    pub(crate) fn new(policy: InputPolicy, url: Url, reach: Reach) -> Self {
        Self { policy, url, reach, redirects: 0 }
    }

    /// The address that it is at.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Which addresses its host may have.
    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// The address for a person to read.
    pub(crate) fn shown(&self) -> String {
        shown(&self.url)
    }

    /// Why there was no answer, without what gives access to the address.
    pub(crate) fn presentable(&self, failure: &HttpFailure) -> String {
        presentable(&failure.0, &confidential(self.url.as_str()))
    }

    /// The status is one of those that lead on.
    pub(crate) fn is_redirect(status: u16) -> bool {
        matches!(status, 301 | 302 | 303 | 307 | 308)
    }

    /// Goes where a redirect leads.
    pub(crate) fn follow(&mut self, location: Option<&str>) -> Result<(), Astray> {
        self.redirects += 1;
        if self.redirects > MAX_REDIRECTS {
            return Err(Astray::Lost("leads on and on"));
        }
        let target = location.and_then(|location| self.url.join(location).ok());
        let target = target.ok_or(Astray::Lost("leads nowhere"))?;
        let reach = self.policy.reach(&target).map_err(Astray::Refused)?;
        // The internet must not lead to what listens on this machine.
        if reach == Reach::Loopback && self.reach != Reach::Loopback {
            return Err(Astray::Refused("leads to this machine"));
        }
        self.url = target;
        self.reach = reach;
        Ok(())
    }
}
