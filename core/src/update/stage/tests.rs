use alloc::{vec, vec::Vec};
use std::sync::Mutex;

use super::*;
use crate::{http::Reach, update::Feed};

const SHA256: &str = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef";
const TARGET: &str = "x86_64-unknown-linux-gnu";
const ARCHIVE: &str = "studio-worker-1.2.3-x86_64-unknown-linux-gnu.tar.gz";

#[derive(Default)]
struct Table {
    says: String,
    asked: Mutex<Vec<(String, Option<String>)>>,
}

impl Bench for Table {
    fn folder(&self) -> String {
        "/opt/new".into()
    }

    fn make_ready(&self, archive: &str, signature: Option<&str>) -> Result<String, String> {
        self.asked.lock().unwrap().push((archive.into(), signature.map(Into::into)));
        if self.says.is_empty() { Err("the archive is broken".into()) } else { Ok(self.says.clone()) }
    }
}

fn release(host: &str, files: &[&str]) -> Release {
    let assets: Vec<_> = files
        .iter()
        .map(|name| serde_json::json!({ "name": name, "browser_download_url": format!("{host}/{name}"), "size": 1_000 }))
        .collect();
    let feed = serde_json::json!({ "tag_name": "v1.2.3", "assets": assets });
    Feed::parse(feed.to_string().as_bytes()).unwrap().releases()[0].clone()
}

fn names() -> [String; 3] {
    [ARCHIVE.into(), format!("{ARCHIVE}.sha256"), format!("{ARCHIVE}.minisig")]
}

/// A release that is got ready, and everything that was asked for on the way.
struct Staging {
    table: Arc<Table>,
    stage: Stage,
    asked: Vec<(String, Reach)>,
    /// Whether the archive comes from a host that is trusted alone.
    alone: bool,
}

impl Staging {
    fn of(says: &str, signed: bool, host: &str) -> Self {
        let [archive, sha256, minisig] = names();
        let table = Arc::new(Table { says: says.into(), ..Table::default() });
        let wanted = Wanted {
            feed: "https://releases.example/feed".into(),
            release: release(host, &[&archive, &sha256, &minisig]),
            target: TARGET.into(),
            signed,
        };
        Self { stage: Stage::new(table.clone(), wanted), table, asked: Vec::new(), alone: false }
    }

    fn run(&mut self, answers: Vec<HttpAnswer>) -> Result<Version, String> {
        let mut answers = answers.into_iter();
        let mut effect = self.stage.next(Happened::Started);
        loop {
            let happened = match effect {
                Effect::Exchange(request) => {
                    self.asked.push((request.url, request.reach));
                    Happened::Exchanged(answers.next().ok_or(crate::http::HttpFailure("no route".into())))
                }
                Effect::Have(file) => {
                    let origin = file.origin.clone().unwrap();
                    assert!(file.sha256.is_some(), "nothing comes in without a hash");
                    self.alone = origin.host_alone;
                    self.asked.push((origin.url, origin.reach));
                    Happened::Had(Ok(FileHad { path: file.path, bytes: 1, content: String::new() }))
                }
                Effect::Compute(work) => Happened::Computed(work()),
                Effect::Done(outcome) => return outcome.map_err(|error| error.message),
                other => panic!("{other:?}"),
            };
            effect = self.stage.next(happened);
        }
    }
}

fn ok(body: &str) -> HttpAnswer {
    HttpAnswer { status: 200, body: body.as_bytes().into(), ..HttpAnswer::default() }
}

const HOST: &str = "https://files.example/v1.2.3";

#[test]
fn a_release_is_fetched_with_its_hash_and_asked_for_its_version() {
    let mut staging = Staging::of("studio-worker 1.2.3\n", false, HOST);
    let ready = staging.run(vec![ok(&format!("{SHA256}  {ARCHIVE}\n"))]);
    assert_eq!(ready.unwrap().to_string(), "1.2.3");
    let [archive, sha256, _] = names().map(|name| (format!("{HOST}/{name}"), Reach::Public));
    assert_eq!(staging.asked, [sha256, archive]);
    assert_eq!(*staging.table.asked.lock().unwrap(), [(format!("/opt/new/{ARCHIVE}"), None)]);
}

#[test]
fn where_a_key_is_named_the_signature_comes_first() {
    let mut staging = Staging::of("studio-worker 1.2.3", true, HOST);
    staging.run(vec![ok(SHA256), ok("untrusted comment: …")]).unwrap();
    assert_eq!(staging.asked.len(), 3);
    assert!(staging.asked[1].0.ends_with(".minisig"));
    assert_eq!(staging.table.asked.lock().unwrap()[0].1.as_deref(), Some("untrusted comment: …"));
}

#[test]
fn where_a_key_is_named_a_release_without_a_signature_is_not_fetched() {
    let [archive, sha256, _] = names();
    let mut staging = Staging::of("studio-worker 1.2.3", true, HOST);
    staging.stage.wanted.release = release(HOST, &[&archive, &sha256]);
    let error = staging.run(vec![ok(SHA256)]).unwrap_err();
    assert!(error.contains("auto_update_public_key"), "{error}");
    assert!(staging.asked.is_empty());
}

#[test]
fn what_the_program_says_of_itself_must_be_the_release() {
    for (says, words) in [
        ("studio-worker 1.2.2", "has a program of version 1.2.2"),
        ("studio-worker 1.2.3-rc.1", "1.2.3-rc.1"),
        ("hello", "does not say its version, but \"hello\""),
        ("", "the archive is broken"),
    ] {
        let error = Staging::of(says, false, HOST).run(vec![ok(SHA256)]).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn small_files_are_followed_where_they_lie_but_not_into_this_machine() {
    let leads = |to: &str| HttpAnswer { status: 302, location: Some(to.into()), ..HttpAnswer::default() };
    let mut staging = Staging::of("studio-worker 1.2.3", false, HOST);
    staging.run(vec![leads("https://objects.example/abc?sig=1"), ok(SHA256)]).unwrap();
    assert_eq!(staging.asked[1].0, "https://objects.example/abc?sig=1");
    for to in ["http://127.0.0.1/x", "http://files.example/x", "https://10.0.0.1/x"] {
        assert!(
            Staging::of("studio-worker 1.2.3", false, HOST).run(vec![leads(to), ok(SHA256)]).is_err(),
            "{to}"
        );
    }
}

#[test]
fn a_feed_leads_to_its_own_host_or_to_the_internet() {
    let mut staging = Staging::of("studio-worker 1.2.3", false, "https://releases.example/files");
    staging.run(vec![ok(SHA256)]).unwrap();
    assert!(staging.alone && staging.asked.iter().all(|(_, reach)| *reach == Reach::Any));
    // The name is not the host: another port is another one.
    for host in ["https://releases.example:8443/files", HOST] {
        let mut staging = Staging::of("studio-worker 1.2.3", false, host);
        staging.run(vec![ok(SHA256)]).unwrap();
        assert!(staging.asked.iter().all(|(_, reach)| *reach == Reach::Public), "{host}");
    }
    for host in [
        "https://192.168.1.1/x",
        "https://localhost/x",
        "http://127.0.0.1/x",
        "http://files.example/x",
        "http://releases.example/x",
        "ftp://files.example/x",
    ] {
        let mut staging = Staging::of("studio-worker 1.2.3", false, host);
        assert!(staging.run(vec![ok(SHA256)]).is_err(), "{host}");
        assert!(staging.asked.is_empty(), "{host}");
    }
}

#[test]
fn what_lies_on_the_feeds_own_host_leads_to_nothing_else_of_this_network() {
    let leads = |to: &str| HttpAnswer { status: 302, location: Some(to.into()), ..HttpAnswer::default() };
    for (to, reach) in [
        ("/elsewhere", Some(Reach::Any)),
        ("https://objects.example/x", Some(Reach::Public)),
        ("https://releases.example:8443/x", Some(Reach::Public)),
        ("https://10.0.0.1/x", None),
        ("http://10.0.0.1/x", None),
        ("https://localhost/x", None),
    ] {
        let own = "https://releases.example/files";
        // The hash, and the signature.
        for before in [0, 1] {
            let mut staging = Staging::of("studio-worker 1.2.3", true, own);
            let mut answers = vec![ok(SHA256); before];
            answers.extend([leads(to), ok(SHA256), ok("untrusted comment: …")]);
            let outcome = staging.run(answers);
            let after = staging.asked.get(before + 1).map(|(_, reach)| *reach);
            assert_eq!((outcome.is_ok(), after), (reach.is_some(), reach), "{to}");
        }
    }
}

#[test]
fn answers_that_are_no_hash_end_it() {
    for answer in [
        HttpAnswer { status: 404, ..HttpAnswer::default() },
        ok("<html>"),
        ok(&SHA256[1..]),
        ok(&format!("{SHA256}  another-file.tar.gz")),
        HttpAnswer { status: 200, body: vec![0xff; 64], ..HttpAnswer::default() },
    ] {
        let mut staging = Staging::of("studio-worker 1.2.3", false, HOST);
        assert!(staging.run(vec![answer]).is_err());
        assert_eq!(staging.asked.len(), 1, "the archive is not fetched");
    }
    assert!(Staging::of("studio-worker 1.2.3", false, HOST).run(vec![]).unwrap_err().contains("no route"));
}

#[test]
fn hashes_are_read_as_sha256sum_writes_them() {
    for (text, found) in [
        (format!("{SHA256}  {ARCHIVE}"), true),
        (format!("{SHA256} *./dist/{ARCHIVE}\r\n"), true),
        (format!("{SHA256}\n"), true),
        (format!("{SHA256}  other\n{SHA256}  {ARCHIVE}\n"), true),
        (format!("{SHA256}  other"), false),
        (format!("{SHA256}0  {ARCHIVE}"), false),
        (format!("+{}  {ARCHIVE}", &SHA256[1..]), false),
        (String::new(), false),
    ] {
        assert_eq!(read_hash(&text, ARCHIVE).is_some(), found, "{text:?}");
    }
}
