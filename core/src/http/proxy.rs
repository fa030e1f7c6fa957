//! Which proxy leads to a server, by the environment variables that programs share.
//!
//! `https_proxy` counts for `https` and `wss`, `http_proxy` for `http` and `ws`, `all_proxy` where these say nothing; each
//! in lower case first, then in upper case. `HTTP_PROXY` in upper case means nothing where a web server has started this
//! program (`REQUEST_METHOD`), since there a client's header `Proxy` can set it. `no_proxy` lists what is reached without
//! one, by commas or spaces: `*`; a name, for itself and all below it; an address; a net, like `10.0.0.0/8`; each with
//! `:PORT` behind it for that port alone. What is on this machine is never asked for at a proxy, whose loopback is another.
//!
//! The variables' values are handed in: nothing here looks at an environment.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use core::{fmt, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use url::Url;

use super::Reach;
use crate::wire::Secret;

/// What an environment says about proxies. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Option<Arc<Rules>>);

#[derive(Debug, PartialEq, Eq)]
struct Rules {
    /// For `http` and `ws`.
    plain: Option<Result<Proxy, ProxyError>>,
    /// For `https` and `wss`.
    secure: Option<Result<Proxy, ProxyError>>,
    exceptions: Vec<Exception>,
}

/// Where a connection is to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Destination<'a> {
    /// Whether TLS is spoken there.
    pub secure: bool,
    /// A name, or an address without brackets.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// Which addresses the host may have.
    pub reach: Reach,
}

impl Destination<'_> {
    /// Host and port as a proxy is told them.
    pub fn authority(&self) -> String {
        authority(self.host, self.port)
    }
}

impl Proxies {
    /// Reads the variables, whose values `variable` gives by their names; an empty one is none. One that can't be used is
    /// an error where it would count ([`Proxies::to`]).
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &&'static str| {
            let value = variable(name)?.trim().to_owned();
            (!value.is_empty()).then_some((*name, value))
        };
        let by_client = variable("REQUEST_METHOD").is_some();
        let proxy = |names: [&'static str; 2]| {
            let names = names.iter().filter(|name| !(by_client && **name == "HTTP_PROXY"));
            let (name, value) = names.chain(&["all_proxy", "ALL_PROXY"]).find_map(value)?;
            Some(Proxy::parse(name, &value))
        };
        let plain = proxy(["http_proxy", "HTTP_PROXY"]);
        let secure = proxy(["https_proxy", "HTTPS_PROXY"]);
        if plain.is_none() && secure.is_none() {
            return Self(None);
        }
        let exceptions =
            ["no_proxy", "NO_PROXY"].iter().find_map(value).map_or_else(Vec::new, |(_, list)| {
                list.split([',', ' ', '\t', '\n', '\r']).filter_map(Exception::parse).collect()
            });
        Self(Some(Arc::new(Rules { plain, secure, exceptions })))
    }

    /// The proxy on the way to a server; none: it is connected to straight.
    pub fn to(&self, to: &Destination<'_>) -> Result<Option<&Proxy>, ProxyError> {
        let Some(rules) = &self.0 else { return Ok(None) };
        let proxy = if to.secure { &rules.secure } else { &rules.plain };
        let Some(proxy) = proxy else { return Ok(None) };
        let host = Host::of(to.host);
        let straight = to.reach == Reach::Loopback
            || host.is_own()
            || rules.exceptions.iter().any(|exception| exception.covers(&host, to.port));
        if straight { Ok(None) } else { proxy.as_ref().map(Some).map_err(Clone::clone) }
    }

    /// What must not be seen of them: passwords, and the header that they are sent in.
    pub fn secrets(&self) -> Vec<Secret> {
        let rules = self.0.iter().flat_map(|rules| [&rules.plain, &rules.secure]);
        let proxies = rules.filter_map(|proxy| proxy.as_ref()?.as_ref().ok());
        proxies.filter_map(|proxy| proxy.credentials.as_ref()).flat_map(Credentials::secrets).collect()
    }
}

/// A proxy that is asked for a tunnel (`CONNECT`). It prints as its address, without credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    variable: &'static str,
    secure: bool,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    /// As it stands in the address, where somebody may quote it from.
    written: Secret,
    password: Secret,
    /// Both, as HTTP's basic authentication has them.
    basic: Secret,
}

impl Credentials {
    fn secrets(&self) -> [Secret; 3] {
        [self.written.clone(), self.password.clone(), self.basic.clone()]
    }
}

impl Proxy {
    fn parse(variable: &'static str, value: &str) -> Result<Self, ProxyError> {
        let wrong = || ProxyError::NotAProxy { variable };
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
        let scheme = scheme.to_ascii_lowercase();
        if scheme.starts_with("socks") && scheme.len() <= "socks5h".len() {
            return Err(ProxyError::Socks { variable });
        }
        if scheme != "http" && scheme != "https" {
            return Err(wrong());
        }
        let url = Url::parse(&format!("{scheme}://{rest}")).map_err(|_| wrong())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        let credentials = has_user.then(|| {
            let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
            let user = decoded(url.username());
            // It would end the name.
            if user.contains(&b':') {
                return Err(wrong());
            }
            let password = decoded(url.password().unwrap_or_default());
            let basic = STANDARD.encode([&*user, b":", &*password].concat());
            let password = String::from_utf8_lossy(&password).into_owned();
            let written = rest.split(['/', '?', '#']).next().and_then(|authority| authority.rsplit_once('@'));
            let written =
                written.and_then(|(user, _)| user.split_once(':')).map_or("", |(_, written)| written);
            Ok(Credentials { written: written.into(), password: password.into(), basic: basic.into() })
        });
        Ok(Self {
            variable,
            secure: scheme == "https",
            host: bare(host).to_owned(),
            port: url.port_or_known_default().ok_or_else(wrong)?,
            credentials: credentials.transpose()?,
        })
    }

    /// Whether TLS is spoken with the proxy itself.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// A name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The variable that names it.
    pub fn variable(&self) -> &'static str {
        self.variable
    }

    /// The request for a tunnel to `authority`, a host with its port: an HTTP head with the credentials in it.
    pub fn request(&self, authority: &str) -> Secret {
        let authorization = match &self.credentials {
            Some(credentials) => format!("Proxy-Authorization: Basic {}\r\n", credentials.basic.reveal()),
            None => String::new(),
        };
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{authorization}\r\n").into()
    }

    /// Why there is no tunnel to `authority`, after an answer with this status.
    pub fn refusal(&self, authority: &str, status: u16) -> String {
        let why = match (status, &self.credentials) {
            (407, None) => format!(
                "407, it wants a user name and a password: give them in {}, like http://NAME:PASSWORD@HOST:PORT",
                self.variable
            ),
            (407, Some(_)) => format!("407, the user name or the password in {} is wrong", self.variable),
            (403, _) => "403, that is not allowed there".to_owned(),
            (status, _) => status.to_string(),
        };
        format!("the proxy {self} does not connect to {authority}: {why}")
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", authority(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Why a proxy that is named can't be used. Quotes nothing of the variable, which may have a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not the address of one.
    #[error("{variable} is not the address of a proxy: give one like http://proxy.example:3128")]
    NotAProxy {
        /// The variable.
        variable: &'static str,
    },
    /// One of another kind.
    #[error(
        "{variable} names a SOCKS proxy, and only HTTP proxies are used: give one like http://proxy.example:3128"
    )]
    Socks {
        /// The variable.
        variable: &'static str,
    },
}

/// What is reached without a proxy.
#[derive(Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    /// A name and all below it, in lower case.
    Domain(String, Option<u16>),
    /// Addresses that begin with so many bits of this one.
    Net(IpAddr, u32, Option<u16>),
}

impl Exception {
    /// Nothing, where an entry means nothing.
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Everything);
        }
        let port_of = |text: &str| if text.is_empty() { None } else { text.parse::<u16>().ok() };
        // An address of IPv6 has colons of its own, and none is a port's unless there are brackets.
        let (host, port) = match entry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(port_of(rest.strip_prefix(':')?)?)),
            None => match entry.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port_of(port)?)),
                _ => (entry, None),
            },
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Net(address.to_canonical(), u128::BITS, port));
        }
        if let Some((net, bits)) = host.split_once('/') {
            let (net, bits) = (net.parse::<IpAddr>().ok()?, bits.parse().ok()?);
            let all = if net.is_ipv4() { u32::BITS } else { u128::BITS };
            return (bits <= all).then_some(Self::Net(net, bits, port));
        }
        let name = host.strip_prefix('*').unwrap_or(host).trim_matches('.').to_lowercase();
        (!name.is_empty()).then_some(Self::Domain(name, port))
    }

    fn covers(&self, host: &Host, port: u16) -> bool {
        let (covers, only) = match (self, host) {
            (Self::Everything, _) => return true,
            (Self::Domain(domain, only), Host::Name(name)) => {
                let below = name.strip_suffix(domain.as_str());
                (below.is_some_and(|below| below.is_empty() || below.ends_with('.')), only)
            }
            (Self::Net(net, bits, only), Host::Address(address)) => {
                (begins_alike(*net, *address, *bits), only)
            }
            _ => return false,
        };
        covers && only.is_none_or(|only| only == port)
    }
}

/// A host as it is compared.
enum Host {
    /// In lower case, without a full stop at its end.
    Name(String),
    Address(IpAddr),
}

impl Host {
    fn of(text: &str) -> Self {
        match bare(text).parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) => Self::Name(text.trim_end_matches('.').to_lowercase()),
        }
    }

    /// Whether it is this machine.
    fn is_own(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Self::Address(address) => Reach::Loopback.admits(*address) || address.is_unspecified(),
        }
    }
}

/// Whether two addresses of one kind have the first `bits` in common, of as many as there are.
fn begins_alike(left: IpAddr, right: IpAddr, bits: u32) -> bool {
    match (left, right) {
        (IpAddr::V4(left), IpAddr::V4(right)) => {
            (left.to_bits() ^ right.to_bits()).leading_zeros() >= bits.min(u32::BITS)
        }
        (IpAddr::V6(left), IpAddr::V6(right)) => {
            (left.to_bits() ^ right.to_bits()).leading_zeros() >= bits.min(u128::BITS)
        }
        _ => false,
    }
}

/// An address in brackets is one of IPv6.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Host and port, with brackets where they are due.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests;
