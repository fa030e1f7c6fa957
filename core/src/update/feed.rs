//! A feed of releases, as GitHub's API writes it: a list of releases, or one release.
//!
//! The feed is somebody else's text. What in it can't be read is skipped and counted, and never taken for something
//! near it; what is chosen does not depend on the order in which it is listed.

#[cfg(test)]
mod tests;

use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use semver::Version;
use serde_json::{Map, Value};
use url::Url;

/// The largest feed that is read, in bytes: a page of a hundred releases is half of that.
pub const MAX_FEED_BYTES: usize = 4 * 1024 * 1024;

/// The program whose releases these are: its tags and files begin with it.
const PROGRAM: &str = "studio-worker";
/// How archives end, the one that is preferred first.
const ARCHIVES: [&str; 3] = [".tar.gz", ".tgz", ".zip"];
/// Longer names, in bytes, are nobody's.
const MAX_NAME_BYTES: usize = 255;
/// Longer addresses, in bytes, are nobody's.
const MAX_URL_BYTES: usize = 4_096;

/// The releases that can be read, the newest first. Drafts are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    releases: Vec<Release>,
    skipped: usize,
}

/// One release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Its version, from its tag: `1.2.3`, `v1.2.3` or `studio-worker-v1.2.3`.
    pub version: Version,
    /// Whether it is one to try and not to rely on: marked as such, or by its version (`1.2.3-rc.1`).
    pub prerelease: bool,
    assets: BTreeMap<String, Asset>,
}

/// One file of a release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asset {
    /// Its name, which no other file of the release has.
    pub name: String,
    /// Where it is: `http` or `https`, without credentials.
    pub url: String,
    /// Its size in bytes, if the feed says it.
    pub size: Option<u64>,
}

/// The files of a release that one machine needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package<'a> {
    /// The archive with the program.
    pub archive: &'a Asset,
    /// The SHA-256 of the archive, as hex: a file of its name and `.sha256`.
    pub sha256: &'a Asset,
    /// The archive's minisign signature: a file of its name and `.minisig`.
    pub minisig: Option<&'a Asset>,
}

/// Why a text is no feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// More than [`MAX_FEED_BYTES`].
    #[error("the release feed is larger than {} MiB", MAX_FEED_BYTES >> 20)]
    TooLarge,
    /// Not JSON: a page for people, say.
    #[error("the release feed is not JSON ({0})")]
    NotJson(String),
    /// JSON, but neither a list nor a release.
    #[error("the release feed is neither a list of releases nor a release")]
    NotAFeed,
}

/// Why a release can't be had for a machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// There is no archive for it.
    #[error("release {version} has no archive for {target}")]
    NoArchive {
        /// Which release.
        version: Version,
        /// The machine's target triple.
        target: String,
    },
    /// There is an archive that nothing vouches for.
    #[error("release {version} has {archive}, but no {archive}.sha256")]
    NoHash {
        /// Which release.
        version: Version,
        /// The archive's name.
        archive: String,
    },
}

impl Feed {
    /// Reads the body of a feed's answer. Entries that can't be read are skipped.
    pub fn parse(body: &[u8]) -> Result<Self, FeedError> {
        if body.len() > MAX_FEED_BYTES {
            return Err(FeedError::TooLarge);
        }
        let entries = match serde_json::from_slice(body) {
            Ok(Value::Array(entries)) => entries,
            Ok(entry) if entry.get("tag_name").is_some() => [entry].into(),
            Ok(_) => return Err(FeedError::NotAFeed),
            Err(error) => return Err(FeedError::NotJson(error.to_string())),
        };
        let mut feed = Self { releases: Vec::new(), skipped: 0 };
        for entry in &entries {
            match entry.as_object().and_then(Entry::read) {
                Some(Entry::Release(release)) => feed.releases.push(release),
                Some(Entry::Draft) => {}
                None => feed.skipped += 1,
            }
        }
        // By everything that is in them, so that the order of the feed decides nothing.
        feed.releases.sort_by(|a, b| b.version.cmp_precedence(&a.version).then_with(|| b.cmp(a)));
        Ok(feed)
    }

    /// The releases that can be read, the newest first.
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// How many entries could not be read.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The releases that are newer than `version`, the newest first, pre-releases only if they are wanted. By the
    /// order of semantic versions, in which build metadata counts for nothing.
    pub fn newer_than(&self, version: &Version, prereleases: bool) -> impl Iterator<Item = &Release> {
        self.releases
            .iter()
            .take_while(|release| release.version.cmp_precedence(version).is_gt())
            .filter(move |release| prereleases || !release.prerelease)
    }

    /// The newest of [`Feed::newer_than`].
    pub fn newest(&self, version: &Version, prereleases: bool) -> Option<&Release> {
        self.newer_than(version, prereleases).next()
    }
}

impl Release {
    /// The file with that name.
    pub fn asset(&self, name: &str) -> Option<&Asset> {
        self.assets.get(name)
    }

    /// The files of this release for machines of a target triple: the archive
    /// `studio-worker[-[v]VERSION]-TARGET.tar.gz` (or `.tgz`, `.zip`) and what vouches for it.
    pub fn package(&self, target: &str) -> Result<Package<'_>, PackageError> {
        let Self { version, .. } = self;
        let stems = [
            format!("{PROGRAM}-{version}-{target}"),
            format!("{PROGRAM}-v{version}-{target}"),
            format!("{PROGRAM}-{target}"),
        ];
        let names = stems.iter().flat_map(|stem| ARCHIVES.map(|end| format!("{stem}{end}")));
        let archives: Vec<_> = names.filter_map(|name| self.asset(&name)).collect();
        let beside = |archive: &Asset, end: &str| self.asset(&format!("{}{end}", archive.name));
        let vouched = archives.iter().find_map(|archive| Some((*archive, beside(archive, ".sha256")?)));
        match (vouched, archives.first()) {
            (Some((archive, sha256)), _) => {
                Ok(Package { archive, sha256, minisig: beside(archive, ".minisig") })
            }
            (None, Some(archive)) => {
                Err(PackageError::NoHash { version: version.clone(), archive: archive.name.clone() })
            }
            (None, None) => {
                Err(PackageError::NoArchive { version: version.clone(), target: target.to_owned() })
            }
        }
    }
}

/// What an entry of a feed is.
enum Entry {
    Release(Release),
    Draft,
}

impl Entry {
    /// Reads an entry; `None` when it can't be.
    fn read(entry: &Map<String, Value>) -> Option<Self> {
        if flag(entry, "draft")? {
            return Some(Self::Draft);
        }
        let version = version_of(entry.get("tag_name")?.as_str()?)?;
        let prerelease = flag(entry, "prerelease")? || !version.pre.is_empty();
        let listed = match entry.get("assets") {
            None | Some(Value::Null) => &[][..],
            Some(assets) => assets.as_array()?,
        };
        let mut assets = BTreeMap::new();
        for asset in listed.iter().filter_map(|asset| Asset::read(asset.as_object()?)) {
            // Which of two files with one name is meant can't be known.
            if let Some(other) = assets.insert(asset.name.clone(), asset.clone())
                && other != asset
            {
                return None;
            }
        }
        Some(Self::Release(Release { version, prerelease, assets }))
    }
}

impl Asset {
    /// Reads a file's entry; `None` when it can't be, or when the file isn't there yet.
    fn read(entry: &Map<String, Value>) -> Option<Self> {
        let text =
            |name: &str, most| entry.get(name)?.as_str().filter(|text| (1..=most).contains(&text.len()));
        if entry.get("state").is_some_and(|state| *state != "uploaded") {
            return None;
        }
        let (name, url) = (text("name", MAX_NAME_BYTES)?, text("browser_download_url", MAX_URL_BYTES)?);
        let read = Url::parse(url).ok()?;
        let plain = read.username().is_empty() && read.password().is_none();
        if !plain || !matches!(read.scheme(), "http" | "https") {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            url: url.to_owned(),
            size: entry.get("size").and_then(Value::as_u64),
        })
    }
}

/// The version that a tag names.
fn version_of(tag: &str) -> Option<Version> {
    if tag.len() > MAX_NAME_BYTES {
        return None;
    }
    let plain = match tag.strip_prefix(PROGRAM) {
        Some(rest) => rest.strip_prefix("-v")?,
        None => tag.strip_prefix('v').unwrap_or(tag),
    };
    Version::parse(plain).ok()
}

/// A switch that is off when it is missing; `None` when it can't be read.
fn flag(entry: &Map<String, Value>, name: &str) -> Option<bool> {
    match entry.get(name) {
        None | Some(Value::Null) => Some(false),
        Some(value) => value.as_bool(),
    }
}
