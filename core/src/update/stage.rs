//! Getting a release ready: fetched, checked, unpacked, and asked for its version. The program that runs is not touched.

use alloc::{
    borrow::ToOwned,
    boxed::Box,
    format,
    string::{String, ToString},
    sync::Arc,
};

use semver::Version;

use super::feed::{Asset, Release};
use crate::{
    engine::{
        Effect, EngineError, Happened, Output, Recipe,
        input::{Astray, Route},
    },
    http::{HttpAnswer, HttpRequest},
    machine::{FileHad, FileWanted, Origin},
};

/// The largest archive, in bytes.
pub const MAX_ARCHIVE_BYTES: u64 = 512 * 1024 * 1024;
/// The largest hash or signature file, in bytes.
const MAX_PROOF_BYTES: usize = 64 * 1024;

/// Where a program is made ready to be put in place of another.
pub trait Bench: Send + Sync + 'static {
    /// The folder that archives are fetched to: an absolute path.
    fn folder(&self) -> String;

    /// Takes the program out of `archive`, after `signature` (the text of a minisign file) was found good where one is
    /// wanted, and runs it with `--version`: what it says. Blocks. Nothing is put in place.
    fn make_ready(&self, archive: &str, signature: Option<&str>) -> Result<String, String>;
}

/// A release that is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The feed that lists it. What lies elsewhere comes from the internet only.
    pub feed: String,
    /// The release.
    pub release: Release,
    /// The target triple of this machine.
    pub target: String,
    /// Whether a signature must be there: when the operator has named a key.
    pub signed: bool,
}

/// Gets a release ready on a [`Bench`]. A recipe, so that every runtime carries it out. It ends with the release's version,
/// and with an error for a person when something about it is not as it should be.
pub struct Stage {
    bench: Arc<dyn Bench>,
    wanted: Wanted,
    state: State,
}

enum State {
    Beginning,
    Hash(Route),
    Signature { route: Route, sha256: [u8; 32] },
    Archive { signature: Option<String> },
    Ready,
    Over,
}

impl Stage {
    /// Of this release nothing is here yet.
    pub fn new(bench: Arc<dyn Bench>, wanted: Wanted) -> Self {
        Self { bench, wanted, state: State::Beginning }
    }

    fn begin(&mut self) -> Result<Effect<Version>, String> {
        let package = self.wanted.release.package(&self.wanted.target).map_err(|error| error.to_string())?;
        if self.wanted.signed && package.minisig.is_none() {
            let archive = &package.archive.name;
            return Err(format!(
                "there is no {archive}.minisig, and a signature is wanted (`auto_update_public_key`)"
            ));
        }
        if package.archive.size.is_some_and(|size| size > MAX_ARCHIVE_BYTES) {
            return Err(format!("{} is larger than {} MiB", package.archive.name, MAX_ARCHIVE_BYTES >> 20));
        }
        let route = self.route(package.sha256)?;
        let request = ask(&route);
        self.state = State::Hash(route);
        Ok(request)
    }

    fn hash(&mut self, mut route: Route, answer: &HttpAnswer) -> Result<Effect<Version>, String> {
        if Route::is_redirect(answer.status) {
            follow(&mut route, answer)?;
            let request = ask(&route);
            self.state = State::Hash(route);
            return Ok(request);
        }
        let package = self.wanted.release.package(&self.wanted.target).map_err(|error| error.to_string())?;
        let text = text(&route, answer)?;
        let sha256 = read_hash(&text, &package.archive.name)
            .ok_or_else(|| format!("{} has no SHA-256 of {}", package.sha256.name, package.archive.name))?;
        match package.minisig.filter(|_| self.wanted.signed) {
            Some(minisig) => {
                let route = self.route(minisig)?;
                let request = ask(&route);
                self.state = State::Signature { route, sha256 };
                Ok(request)
            }
            None => self.fetch(sha256, None),
        }
    }

    fn signature(
        &mut self,
        mut route: Route,
        sha256: [u8; 32],
        answer: &HttpAnswer,
    ) -> Result<Effect<Version>, String> {
        if Route::is_redirect(answer.status) {
            follow(&mut route, answer)?;
            let request = ask(&route);
            self.state = State::Signature { route, sha256 };
            return Ok(request);
        }
        let signature = text(&route, answer)?;
        self.fetch(sha256, Some(signature))
    }

    fn fetch(&mut self, sha256: [u8; 32], signature: Option<String>) -> Result<Effect<Version>, String> {
        let package = self.wanted.release.package(&self.wanted.target).map_err(|error| error.to_string())?;
        let Asset { name, url, size } = package.archive;
        let route = self.route(package.archive)?;
        // A plain name: it is one of those that the package is looked for by.
        let path = format!("{}/{name}", self.bench.folder());
        self.state = State::Archive { signature };
        Ok(Effect::Have(FileWanted {
            path,
            copies: [].into(),
            origin: Some(Origin { url: url.clone(), reach: route.reach(), host_alone: route.is_home() }),
            approx_bytes: Some(size.unwrap_or(MAX_ARCHIVE_BYTES)),
            sha256: Some(sha256),
        }))
    }

    fn unpack(&mut self, archive: FileHad, signature: Option<String>) -> Effect<Version> {
        let bench = Arc::clone(&self.bench);
        self.state = State::Ready;
        Effect::Compute(Box::new(move || {
            let said =
                bench.make_ready(&archive.path, signature.as_deref()).map_err(EngineError::permanent)?;
            Ok(Output::Json(Arc::new(said.into())))
        }))
    }

    /// The way to a file of the release. The operator trusts the host of the feed, wherever it is; a feed must not lead into
    /// their network.
    fn route(&self, asset: &Asset) -> Result<Route, String> {
        Route::from_home(&self.wanted.feed, &asset.url)
            .map_err(|why| format!("the address of {} {why}", asset.name))
    }

    /// The program is what it should be if it says so itself.
    fn compare(&self, said: &Output) -> Result<Effect<Version>, String> {
        let version = &self.wanted.release.version;
        let said = match said {
            Output::Json(said) => said.as_str().unwrap_or_default(),
            Output::Bytes { .. } => "",
        };
        let first = said.lines().next().unwrap_or_default().trim();
        match first.rsplit(' ').next().map(Version::parse) {
            Some(Ok(own)) if own == *version => Ok(Effect::Done(Ok(own))),
            Some(Ok(own)) => Err(format!("the archive of {version} has a program of version {own}")),
            _ => {
                let shown: String = first.chars().take(80).collect();
                Err(format!(
                    "the program in the archive of {version} does not say its version, but {shown:?}"
                ))
            }
        }
    }
}

fn ask(route: &Route) -> Effect<Version> {
    Effect::Exchange(HttpRequest {
        answer_limit: MAX_PROOF_BYTES,
        reach: route.reach(),
        ..HttpRequest::get(route.url().to_string())
    })
}

fn follow(route: &mut Route, answer: &HttpAnswer) -> Result<(), String> {
    let whence = route.shown();
    route.follow(answer.location.as_deref()).map_err(|astray| match astray {
        Astray::Refused(why) => format!("{whence} leads to an address that {why}"),
        Astray::Lost(why) => format!("{whence} {why}"),
    })
}

fn text(route: &Route, answer: &HttpAnswer) -> Result<String, String> {
    match answer.status {
        200 => String::from_utf8(answer.body.clone()).map_err(|_| format!("{} is no text", route.shown())),
        status => Err(format!("{} answers {status}", route.shown())),
    }
}

/// The hash of `archive` in a file as `sha256sum` writes it: lines of a hash and a name, or a hash alone.
fn read_hash(text: &str, archive: &str) -> Option<[u8; 32]> {
    text.lines().find_map(|line| {
        let (hash, name) = match line.trim().split_once(char::is_whitespace) {
            Some((hash, name)) => (hash, Some(name.trim_start().trim_start_matches('*'))),
            None => (line.trim(), None),
        };
        let plain = |name: &str| name.rsplit(['/', '\\']).next() == Some(archive);
        name.is_none_or(plain).then(|| read_hex(hash)).flatten()
    })
}

fn read_hex(hash: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hash.len() != 64 || !hash.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(hash.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl Recipe<Version> for Stage {
    fn next(&mut self, happened: Happened) -> Effect<Version> {
        let state = core::mem::replace(&mut self.state, State::Over);
        let next = match (state, happened) {
            (State::Beginning, Happened::Started) => self.begin(),
            (State::Hash(route), Happened::Exchanged(Ok(answer))) => self.hash(route, &answer),
            (State::Signature { route, sha256 }, Happened::Exchanged(Ok(answer))) => {
                self.signature(route, sha256, &answer)
            }
            (State::Hash(route) | State::Signature { route, .. }, Happened::Exchanged(Err(failure))) => {
                Err(format!("{} can't be reached: {}", route.shown(), route.presentable(&failure)))
            }
            (State::Archive { signature }, Happened::Had(Ok(archive))) => Ok(self.unpack(archive, signature)),
            (State::Ready, Happened::Computed(Ok(said))) => self.compare(&said),
            (State::Archive { .. }, Happened::Had(Err(error)))
            | (State::Ready, Happened::Computed(Err(error))) => Err(error.message),
            _ => Err("the update was interrupted".to_owned()),
        };
        next.unwrap_or_else(|why| Effect::Done(Err(EngineError::transient(why))))
    }
}

#[cfg(test)]
mod tests;
