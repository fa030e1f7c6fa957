//! What an address of an input may be, and what may come of it.

use alloc::{boxed::Box, format, string::String, vec, vec::Vec};
use core::time::Duration;

use super::*;
use crate::engine::transcript::{Answer, Played, ok, play, redirect, status};

const STRICT: InputPolicy = InputPolicy { allow_private: false };
const LENIENT: InputPolicy = InputPolicy { allow_private: true };

fn reach(policy: InputPolicy, address: &str) -> Result<Reach, String> {
    match policy.source(address, 10) {
        Ok(Source::Fetch { reach, .. }) => Ok(reach),
        Ok(Source::Data(_)) => panic!("{address} is data"),
        Err(error) => {
            assert!(!error.retryable);
            Err(error.message)
        }
    }
}

#[test]
fn the_internet_and_this_machine_are_fine() {
    for policy in [STRICT, LENIENT] {
        for address in [
            "http://127.0.0.1:9/x",
            "https://127.1.2.3/",
            "http://[::1]/",
            "http://LOCALHOST:80",
            "http://a.localhost./",
        ] {
            assert_eq!(reach(policy, address), Ok(Reach::Loopback), "{address}");
        }
    }
    for address in ["https://files.test/a?b", " HTTPS://8.8.8.8 ", "https://[2606:4700::1111]/"] {
        assert_eq!(reach(STRICT, address), Ok(Reach::Public), "{address}");
        assert_eq!(reach(LENIENT, address), Ok(Reach::Any), "{address}");
    }
}

#[test]
fn private_addresses_are_for_those_who_allow_them() {
    let why = "the address of an input leads to a private address, which the configuration doesn't allow";
    for address in [
        "https://10.0.0.1/",
        "http://192.168.1.2/",
        "https://169.254.169.254/latest",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://0/",
        "https://0x0a000001/",
        "https://100.64.0.1/",
        "https://[64:ff9b::a00:1]/",
    ] {
        assert_eq!(reach(STRICT, address), Err(why.into()), "{address}");
        assert_eq!(reach(LENIENT, address), Ok(Reach::Any), "{address}");
    }
}

#[test]
fn other_addresses_are_refused() {
    for (address, why) in [
        ("http://files.test/", "is not encrypted: https is wanted"),
        ("http://8.8.8.8/", "is not encrypted: https is wanted"),
        ("ftp://files.test/", "is neither https nor data"),
        ("file:///etc/passwd", "is neither https nor data"),
        ("https://user:pass@files.test/", "has a user name or password in it"),
        ("http://127.0.0.1@files.test/", "has a user name or password in it"),
        ("https://", "can't be read: empty host"),
        ("/etc/passwd", "can't be read: relative URL without a base"),
        ("", "can't be read: relative URL without a base"),
    ] {
        for policy in [STRICT, LENIENT] {
            assert_eq!(reach(policy, address), Err(format!("the address of an input {why}")), "{address}");
        }
    }
}

#[test]
fn data_urls_are_read() {
    for (address, bytes) in [
        ("data:,hello", &b"hello"[..]),
        ("DATA:text/plain;charset=utf-8,a%20b", b"a b"),
        ("data:image/png;base64,iVBORw==", b"\x89PNG"),
        ("data:;base64,iVBO\nRw", b"\x89PNG"),
        ("data:,0123456789", b"0123456789"),
    ] {
        assert_eq!(STRICT.source(address, 10).unwrap(), Source::Data(bytes.to_vec()), "{address}");
    }
    for (address, why) in [
        ("data:,01234567890", "an input is larger than 0 MiB"),
        ("data:;base64,MDEyMzQ1Njc4OTA=", "an input is larger than 0 MiB"),
        ("data:", "an input is a `data:` URL that can't be read"),
        ("data:;base64,!", "an input is a `data:` URL that can't be read"),
        ("data:,", "an input is empty"),
    ] {
        let error = STRICT.source(address, 10).unwrap_err();
        assert_eq!((error.message.as_str(), error.retryable), (why, false), "{address}");
    }
}

fn fetch(address: &str, steps: Vec<(&str, Answer)>) -> Played<Vec<u8>> {
    /// Begins as recipes that fetch do.
    struct Begun(Fetch);
    impl Recipe<Vec<u8>> for Begun {
        fn next(&mut self, happened: Happened) -> Effect<Vec<u8>> {
            if matches!(happened, Happened::Started) { self.0.begin() } else { self.0.next(happened) }
        }
    }
    let Ok(Source::Fetch { url, reach }) = STRICT.source(address, 10) else { panic!("{address} is refused") };
    play(Box::new(Begun(Fetch::new(STRICT, url, reach, 10, Duration::from_secs(5)))), steps)
}

#[test]
fn redirects_are_followed_as_far_as_they_are_fine() {
    let found = fetch(
        "https://a.test/x?y",
        vec![
            ("GET https://a.test/x?y", redirect(301, "/z")),
            ("GET https://a.test/z", redirect(307, "//b.test")),
            ("GET https://b.test/", ok("there")),
        ],
    );
    assert_eq!(found.outcome.as_deref(), Ok(&b"there"[..]));
    assert!(found.asked.iter().all(|request| request.reach == Reach::Public && request.bearer.is_none()));
    let refused = "the address of an input";
    for (to, retryable, why) in [
        ("http://b.test/", false, format!("{refused} is not encrypted: https is wanted")),
        ("https://10.0.0.1/", false, {
            format!("{refused} leads to a private address, which the configuration doesn't allow")
        }),
        ("http://127.0.0.1:6379/", false, format!("{refused} leads to this machine")),
        ("http://localhost/", false, format!("{refused} leads to this machine")),
        ("data:,x", false, format!("{refused} is neither https nor data")),
        ("https://u:p@b.test/", false, format!("{refused} has a user name or password in it")),
        ("https://[", true, "an input can't be fetched: https://a.test/ leads nowhere".into()),
    ] {
        fetch("https://a.test/", vec![("GET https://a.test/", redirect(302, to))]).fails(retryable, &why);
    }
    let nowhere = vec![("GET https://a.test/", status(302, ""))];
    fetch("https://a.test/", nowhere).fails(true, "an input can't be fetched: https://a.test/ leads nowhere");
    let own = fetch(
        "http://localhost/",
        vec![
            ("GET http://localhost/", redirect(302, "http://127.0.0.1:9/x")),
            ("GET http://127.0.0.1:9/x", ok("own")),
        ],
    );
    assert_eq!(own.outcome.as_deref(), Ok(&b"own"[..]));
}

#[test]
fn redirects_come_to_an_end() {
    let steps = (0..6).map(|_| ("GET https://a.test/", redirect(302, "/"))).collect();
    fetch("https://a.test/", steps).fails(true, "an input can't be fetched: https://a.test/ leads on and on");
}

#[test]
fn what_is_too_large_or_nothing_is_said() {
    let get = "GET https://a.test/";
    assert_eq!(
        fetch("https://a.test/", vec![(get, ok("0123456789"))]).outcome.as_deref(),
        Ok(&b"0123456789"[..])
    );
    for (answer, retryable, message) in [
        (ok("01234567890"), false, "an input is larger than 0 MiB"),
        (ok(""), false, "an input is empty"),
        (status(204, ""), true, "an input can't be fetched: https://a.test/ answers 204"),
        (status(500, "secret"), true, "an input can't be fetched: https://a.test/ answers 500"),
    ] {
        fetch("https://a.test/", vec![(get, answer)]).fails(retryable, message);
    }
}
