//! Where an address leads, redirect by redirect.

use alloc::{format, string::String};

use url::{Origin, Url};

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
    bounds: Bounds,
    url: Url,
    reach: Reach,
    redirects: u32,
}

/// Where an address may lead.
#[derive(Debug, Clone)]
enum Bounds {
    /// Where this lets it, from the internet to no other machine than its own.
    Policy(InputPolicy),
    /// To this host, as long as it has not left it, and to the internet.
    Home(Origin),
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

    /// An address that `home` names, which the operator has named. Wherever that is, its host (with its port and its scheme)
    /// is trusted, and no other one of its network: what is not there is on the internet, and encrypted.
    pub(crate) fn from_home(home: &str, address: &str) -> Result<Self, String> {
        let read = |address| Url::parse(address).map_err(|error| format!("can't be read: {error}"));
        let (home, url) = (read(home)?.origin(), read(address)?);
        let reach = reach_from(&home, true, &url)?;
        Ok(Self { bounds: Bounds::Home(home), url, reach, redirects: 0 })
    }

    /// An address that was checked.
    pub(crate) fn new(policy: InputPolicy, url: Url, reach: Reach) -> Self {
        Self { bounds: Bounds::Policy(policy), url, reach, redirects: 0 }
    }

    /// Whether it is at the host that is trusted alone.
    pub(crate) fn is_home(&self) -> bool {
        matches!(&self.bounds, Bounds::Home(home) if self.url.origin() == *home)
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
        let reach = match &self.bounds {
            Bounds::Home(home) => reach_from(home, self.is_home(), &target),
            Bounds::Policy(policy) => match policy.reach(&target) {
                // The internet must not lead to what listens on this machine.
                Ok(Reach::Loopback) if self.reach != Reach::Loopback => Err(TO_THIS_MACHINE),
                reach => reach,
            },
        };
        self.reach = reach.map_err(Astray::Refused)?;
        self.url = target;
        Ok(())
    }
}

const TO_THIS_MACHINE: &str = "leads to this machine";

/// Which addresses the host of `url` may have, which is led to from `home` or else from the internet; else why it is refused.
fn reach_from(home: &Origin, is_home: bool, url: &Url) -> Result<Reach, &'static str> {
    let (strict, lenient) = (InputPolicy { allow_private: false }, InputPolicy { allow_private: true });
    match (is_home && url.origin() == *home, lenient.reach(url)?) {
        (_, Reach::Any | Reach::Public) if url.scheme() != "https" => {
            Err("is not encrypted: https is wanted")
        }
        (true, reach) => Ok(reach),
        (false, Reach::Loopback) => Err(TO_THIS_MACHINE),
        // No setting allows it.
        (false, _) => strict.reach(url).map_err(|_| "leads to a private address of another host"),
    }
}
