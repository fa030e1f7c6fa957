//! Who may ask: the admin token, and nobody's browser on somebody else's behalf.
//!
//! On loopback everybody on this machine is trusted, and the danger is a page of another site in a browser
//! here: it can send requests to any address, and it can give its own name this machine's address (DNS
//! rebinding). The first says so in `Origin` or `Sec-Fetch-Site`, the second in `Host`.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use studio_worker_core::wire::Secret;

use super::problem::Problem;

/// What a request must have.
#[derive(Debug, Clone)]
pub(crate) struct Guard(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    /// Whether the studio listens on loopback only.
    loopback: bool,
    /// Names that it is reached by, beside those of loopback.
    names: Vec<String>,
    /// What the HTTP API wants, unless the studio listens on loopback.
    token: Option<Secret>,
}

impl Guard {
    /// `token` is wanted by the HTTP API when it is there; on `loopback` only its names and `names` are
    /// answered.
    pub(crate) fn new(loopback: bool, names: Vec<String>, token: Option<Secret>) -> Self {
        Self(Arc::new(Rules { loopback, names, token }))
    }

    /// Whether the HTTP API wants the admin token.
    pub(crate) fn wants_token(&self) -> bool {
        self.0.token.is_some()
    }

    fn check_browser(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let forbidden = |field: &str, message: String| Problem {
            field: Some(field.to_owned()),
            ..Problem::new(StatusCode::FORBIDDEN, message)
        };
        let host = text(headers, header::HOST.as_str()).unwrap_or_default();
        if self.0.loopback && !self.is_own_name(host_name(host)) {
            let message = format!("this studio is not `{}`: say --host if it is", host_name(host));
            return Err(forbidden("Host", message));
        }
        if let Some(origin) = text(headers, header::ORIGIN.as_str()) {
            let of = origin.split_once("://").map_or("", |(_, authority)| authority);
            if !of.eq_ignore_ascii_case(host) {
                return Err(forbidden("Origin", "pages of other sites can't use this studio".to_owned()));
            }
        }
        if matches!(text(headers, "sec-fetch-site"), Some("cross-site" | "same-site"))
            && text(headers, "sec-fetch-mode") != Some("navigate")
        {
            return Err(forbidden("Sec-Fetch-Site", "pages of other sites can't use this studio".to_owned()));
        }
        Ok(())
    }

    fn is_own_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            || self.0.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.0.token else { return Ok(()) };
        match bearer(headers) {
            Some(given) if same(&given, token) => Ok(()),
            Some(_) => Err(Problem::new(StatusCode::UNAUTHORIZED, "this is not the admin token")),
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "the admin token is wanted: `Authorization: Bearer …`",
            )),
        }
    }
}

/// Keeps other sites' pages out of everything.
pub(crate) async fn no_strangers(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.check_browser(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Keeps everybody without the admin token out of the HTTP API.
pub(crate) async fn admins_only(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.check_token(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The bearer of a request.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let (scheme, token) = text(headers, header::AUTHORIZATION.as_str())?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Secret::from(token))
}

/// Compares digests, so that the time it takes tells nothing about the token.
fn same(one: &Secret, other: &Secret) -> bool {
    use studio_worker_core::wire::registration::secret_hash;
    secret_hash(one) == secret_hash(other)
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
fn host_name(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn on_loopback_only_own_names_are_answered() {
        let guard = Guard::new(true, vec!["studio.lan".into()], None);
        for (host, welcome) in [
            ("127.0.0.1:8700", true),
            ("127.0.0.1", true),
            ("localhost:8700", true),
            ("LOCALHOST.:1", true),
            ("[::1]:8700", true),
            ("studio.lan:8700", true),
            ("evil.example:8700", false),
            ("127.0.0.1.evil.example", false),
            ("10.0.0.1:8700", false),
            ("", false),
        ] {
            assert_eq!(guard.check_browser(&headers(&[("host", host)])).is_ok(), welcome, "{host}");
        }
        assert!(Guard::new(false, Vec::new(), None).check_browser(&headers(&[("host", "any")])).is_ok());
    }

    #[test]
    fn pages_of_other_sites_are_kept_out() {
        let guard = Guard::new(true, Vec::new(), None);
        let host = ("host", "127.0.0.1:8700");
        for (header, welcome) in [
            (("origin", "http://127.0.0.1:8700"), true),
            (("origin", "http://127.0.0.1:9999"), false),
            (("origin", "https://evil.example"), false),
            (("origin", "null"), false),
            (("sec-fetch-site", "same-origin"), true),
            (("sec-fetch-site", "none"), true),
            (("sec-fetch-site", "cross-site"), false),
            (("sec-fetch-site", "same-site"), false),
        ] {
            assert_eq!(guard.check_browser(&headers(&[host, header])).is_ok(), welcome, "{header:?}");
        }
        // A link on another page may lead here.
        let link = [host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert!(guard.check_browser(&headers(&link)).is_ok());
    }

    #[test]
    fn the_bearer_is_read_whatever_the_case_of_its_scheme() {
        assert_eq!(bearer(&headers(&[("authorization", "bearer  abc")])), Some(Secret::from("abc")));
        for bad in ["abc", "Basic abc", "Bearer", "Bearer "] {
            assert_eq!(bearer(&headers(&[("authorization", bad)])), None, "{bad}");
        }
    }
}
