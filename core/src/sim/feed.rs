//! Fuzz body: release feeds.

use alloc::{string::ToString, vec::Vec};

use semver::Version;
use serde_json::Value;

use super::told;
use crate::update::{Feed, FeedError, Release};

/// Reads the third text of `data` as a feed for a program whose version is the first one and whose target triple the second,
/// which takes pre-releases if that begins with `+`.
///
/// What is no feed is what a naive reader of JSON says is none. The release that is chosen is in the feed, newer, no draft,
/// a pre-release only if those are taken, and none that is better is there. The order of the feed, and a release that is in
/// it twice, change nothing. A package is of the target and of one release. Nothing is larger than what was read.
///
/// # Panics
/// When it is not so: that is the finding.
pub fn feed(data: &[u8]) {
    let [version, target, body] = told::texts(data);
    let version = Version::parse(&version).unwrap_or(Version::new(0, 4, 35));
    let (prereleases, target) = target.strip_prefix('+').map_or((false, &*target), |target| (true, target));
    let naive = serde_json::from_str::<Value>(&body).ok();
    let feed = match Feed::parse(body.as_bytes()) {
        Ok(feed) => feed,
        Err(FeedError::NotJson(_)) => return assert_eq!(naive, None),
        Err(FeedError::NotAFeed) => {
            let release = |value: &Value| value.is_array() || value.get("tag_name").is_some();
            return assert!(naive.is_some_and(|value| !release(&value)));
        }
        Err(FeedError::TooLarge) => panic!("{} bytes are not too many", body.len()),
    };
    let entries = match naive {
        Some(Value::Array(entries)) => entries,
        Some(entry) => Vec::from([entry]),
        None => panic!("what is not JSON was read"),
    };
    let drafts = entries.iter().filter(|entry| entry["draft"] == true).count();
    assert_eq!(feed.releases().len() + feed.skipped() + drafts, entries.len(), "each entry is something");

    let newest = feed.newest(&version, prereleases);
    if let Some(newest) = newest {
        check(newest, &entries, &version, prereleases);
    }
    let better = |release: &&Release| {
        let candidate = prereleases || !release.prerelease && release.version.pre.is_empty();
        candidate && release.version.cmp_precedence(newest.map_or(&version, |newest| &newest.version)).is_gt()
    };
    assert_eq!(feed.releases().iter().find(better), None, "{newest:?} is not the newest");

    let mut others = entries;
    others.reverse();
    others.extend_from_within(..);
    for _ in 0..others.len().min(4) {
        others.rotate_left(1);
        let other = Feed::parse(Value::from(others.clone()).to_string().as_bytes());
        let other = other.as_ref().ok().and_then(|feed| feed.newest(&version, prereleases));
        assert_eq!(other, newest, "the order of the feed decides");
    }
    for release in feed.releases() {
        if let Ok(package) = release.package(target) {
            for (asset, end) in [
                (Some(package.archive), ""),
                (Some(package.sha256), ".sha256"),
                (package.minisig, ".minisig"),
            ] {
                let Some(asset) = asset else { continue };
                assert_eq!(asset.name.strip_suffix(end), Some(&*package.archive.name));
                assert!(asset.name.starts_with("studio-worker-") && asset.name.contains(target));
                assert_eq!(release.asset(&asset.name), Some(asset));
            }
        }
    }
}

/// Whether a release that was chosen is in the feed, and may be.
fn check(chosen: &Release, entries: &[Value], version: &Version, prereleases: bool) {
    assert!(chosen.version.cmp_precedence(version).is_gt(), "{} is not newer than {version}", chosen.version);
    let pre = chosen.prerelease || !chosen.version.pre.is_empty();
    assert!(prereleases || !pre, "{} is a pre-release", chosen.version);
    let tag = chosen.version.to_string();
    let says = |entry: &&Value| {
        let named = entry["tag_name"].as_str().and_then(|named| named.strip_suffix(&tag));
        matches!(named, Some("" | "v" | "studio-worker-v"))
            && entry["draft"] != true
            && (prereleases || entry["prerelease"] != true)
    };
    assert!(entries.iter().any(|entry| says(&entry)), "{tag} is not in the feed");
}
