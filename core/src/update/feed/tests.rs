use alloc::{string::ToString, vec};

use serde_json::json;

use super::*;

const TARGET: &str = "x86_64-unknown-linux-gnu";

fn feed(body: &Value) -> Feed {
    Feed::parse(body.to_string().as_bytes()).unwrap()
}

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn tagged(tag: &str) -> Value {
    json!({ "tag_name": tag, "draft": false, "prerelease": false, "assets": [] })
}

fn with(mut entry: Value, name: &str, value: Value) -> Value {
    entry[name] = value;
    entry
}

fn asset(name: &str) -> Value {
    json!({ "name": name, "state": "uploaded", "size": 7,
        "browser_download_url": format!("https://github.example/releases/{name}") })
}

fn files(names: &[&str]) -> Release {
    let assets: Vec<_> = names.iter().map(|name| asset(name)).collect();
    feed(&with(tagged("1.2.3"), "assets", json!(assets))).releases()[0].clone()
}

fn versions(feed: &Feed) -> Vec<String> {
    feed.releases().iter().map(|release| release.version.to_string()).collect()
}

#[test]
fn three_forms_of_tags_are_versions_and_others_are_skipped() {
    for tag in ["1.2.3", "v1.2.3", "studio-worker-v1.2.3"] {
        assert_eq!(versions(&feed(&tagged(tag))), ["1.2.3"], "{tag}");
    }
    for tag in [
        "",
        "v",
        "1.2",
        "V1.2.3",
        "vv1.2.3",
        "studio-worker-1.2.3",
        "studio-worker-ui-v1.2.3",
        "latest",
        "1.2.3 ",
        "01.2.3",
        "v99999999999999999999.0.0",
    ] {
        let feed = feed(&json!([tagged(tag), tagged("0.1.0")]));
        assert_eq!((versions(&feed), feed.skipped()), (vec!["0.1.0".to_string()], 1), "{tag}");
    }
}

#[test]
fn the_order_is_that_of_semantic_versions_and_not_that_of_the_feed() {
    let tags = ["v1.10.0", "1.9.0", "1.10.0-rc.2", "1.10.0-rc.10", "studio-worker-v2.0.0-alpha", "0.9.9"];
    let wanted = ["2.0.0-alpha", "1.10.0", "1.10.0-rc.10", "1.10.0-rc.2", "1.9.0", "0.9.9"];
    let mut entries: Vec<_> = tags.iter().map(|tag| tagged(tag)).collect();
    for _ in 0..entries.len() {
        entries.rotate_left(1);
        assert_eq!(versions(&feed(&json!(entries))), wanted);
    }
}

#[test]
fn the_newest_is_newer_and_no_draft_and_a_pre_release_only_if_wanted() {
    let feed = feed(&json!([
        with(tagged("3.0.0"), "draft", json!(true)),
        with(tagged("2.0.0"), "prerelease", json!(true)),
        tagged("1.6.0-rc.1"),
        tagged("1.5.0"),
        tagged("1.4.0"),
    ]));
    let newest = |than, prereleases| {
        feed.newest(&version(than), prereleases).map(|release| release.version.to_string())
    };
    assert_eq!(newest("1.4.0", false).as_deref(), Some("1.5.0"));
    assert_eq!(newest("1.4.0", true).as_deref(), Some("2.0.0"));
    assert_eq!(newest("1.5.0-rc.1", false).as_deref(), Some("1.5.0"));
    for (than, prereleases) in [("1.5.0", false), ("1.5.0+build.7", false), ("1.6.0", false), ("2.0.0", true)]
    {
        assert_eq!(newest(than, prereleases), None, "{than}");
    }
    assert_eq!(feed.newer_than(&version("1.3.0"), false).count(), 2);
    assert_eq!(feed.skipped(), 0, "a draft is not damage");
}

#[test]
fn what_cannot_be_read_is_skipped_alone() {
    let good = asset("a");
    for bad in [
        json!(null),
        json!([]),
        json!("1.2.3"),
        json!({}),
        with(tagged("1.2.3"), "tag_name", json!(7)),
        with(tagged("1.2.3"), "draft", json!("true")),
        with(tagged("1.2.3"), "prerelease", json!(1)),
        with(tagged("1.2.3"), "assets", json!({})),
        with(tagged("1.2.3"), "assets", json!([asset("a"), with(asset("a"), "size", json!(8))])),
    ] {
        let feed = feed(&json!([bad, tagged("1.0.0")]));
        assert_eq!((versions(&feed), feed.skipped()), (vec!["1.0.0".to_string()], 1), "{bad}");
    }
    for bad in [
        json!(null),
        json!({}),
        with(good.clone(), "name", json!("")),
        with(good.clone(), "name", json!("x".repeat(300))),
        with(good.clone(), "state", json!("starter")),
        with(good.clone(), "browser_download_url", json!("ftp://h/a")),
        with(good.clone(), "browser_download_url", json!("/a")),
        with(good.clone(), "browser_download_url", json!("https://u:p@h/a")),
    ] {
        let feed = feed(&with(tagged("1.2.3"), "assets", json!([bad, asset("b")])));
        let [release] = feed.releases() else { panic!("{bad}") };
        assert_eq!((release.asset("a"), release.asset("b").is_some()), (None, true), "{bad}");
    }
}

#[test]
fn what_is_no_feed_says_what_it_is() {
    let error = |body: &str| Feed::parse(body.as_bytes()).unwrap_err().to_string();
    assert!(error("<html>").contains("not JSON"));
    assert!(error(r#"{"message":"API rate limit exceeded"}"#).contains("neither a list of releases"));
    assert!(error("7").contains("neither a list of releases"));
    assert_eq!(Feed::parse(&vec![b' '; MAX_FEED_BYTES + 1]), Err(FeedError::TooLarge));
    assert_eq!(versions(&feed(&json!([]))), Vec::<String>::new());
}

#[test]
fn a_package_is_an_archive_for_the_target_and_what_vouches_for_it() {
    for name in [
        "studio-worker-1.2.3-x86_64-unknown-linux-gnu.tar.gz",
        "studio-worker-v1.2.3-x86_64-unknown-linux-gnu.tgz",
        "studio-worker-x86_64-unknown-linux-gnu.zip",
    ] {
        let (hash, signature) = (format!("{name}.sha256"), format!("{name}.minisig"));
        let release = files(&[name, &hash]);
        let package = release.package(TARGET).unwrap();
        assert_eq!((&*package.archive.name, &*package.sha256.name, package.minisig), (name, &*hash, None));
        assert_eq!(package.archive.size, Some(7));
        assert_eq!(package.archive.url, format!("https://github.example/releases/{name}"));
        let release = files(&[name, &hash, &signature]);
        assert_eq!(release.package(TARGET).unwrap().minisig.unwrap().name, signature);
    }
    // One that is vouched for is preferred to one that isn't.
    let release = files(&[
        "studio-worker-x86_64-unknown-linux-gnu.tar.gz",
        "studio-worker-x86_64-unknown-linux-gnu.zip",
        "studio-worker-x86_64-unknown-linux-gnu.zip.sha256",
    ]);
    let archive = &release.package(TARGET).unwrap().archive.name;
    assert_eq!(archive.rsplit_once('.').unwrap().1, "zip");
}

#[test]
fn a_package_for_another_machine_or_version_is_none() {
    for name in [
        "studio-worker-1.2.3-x86_64-unknown-linux-gnux32.tar.gz",
        "studio-worker-1.2.4-x86_64-unknown-linux-gnu.tar.gz",
        "studio-worker-ui-x86_64-unknown-linux-gnu.tar.gz",
        "studio-worker-1.2.3-x86_64-unknown-linux-gnu.tar.gz.sha256",
        "x86_64-unknown-linux-gnu.tar.gz",
    ] {
        let error = files(&[name]).package(TARGET).unwrap_err();
        assert_eq!(error.to_string(), format!("release 1.2.3 has no archive for {TARGET}"), "{name}");
    }
    let name = "studio-worker-x86_64-unknown-linux-gnu.tar.gz";
    let error = files(&[name]).package(TARGET).unwrap_err();
    assert_eq!(error.to_string(), format!("release 1.2.3 has {name}, but no {name}.sha256"));
}
