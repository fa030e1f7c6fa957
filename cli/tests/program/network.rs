//! Whom the program trusts, and what it is given to start with.

use std::fs;

use crate::{Home, said};

/// A certificate that is none.
const DAMAGED: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_named_with_its_line() {
    let home = Home::with("# whom to trust\nca_file = \"ca.pem\"\n");
    let file = home.dir.path().join("ca.pem");
    home.write(&format!("# whom to trust\nca_file = \"{}\"\n", file.display()));
    let place = format!("{}, line 2, key `ca_file`: {}: ", home.config().display(), file.display());
    for (text, problem) in [
        (None, "No such file or directory (os error 2)"),
        (Some(""), "there is no certificate in it (-----BEGIN CERTIFICATE-----)"),
        (Some("hello\n"), "there is no certificate in it (-----BEGIN CERTIFICATE-----)"),
        (
            Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            "there is no certificate in it",
        ),
        (Some(DAMAGED), "certificate 1 in it can't be read"),
        (Some("-----BEGIN CERTIFICATE-----\nAAAA\n"), "it is damaged"),
    ] {
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        for args in [&["run"][..], &["engines"], &["try", "llm", "--param", "prompt=x"]] {
            let error = home.fails(args);
            assert!(error.starts_with(&format!("{place}{problem}")), "{args:?}: {error}");
        }
    }
    // Who doesn't use the network doesn't need it.
    assert!(home.prints(&["status"]).contains("registration:"));
    assert!(home.prints(&["config"]).contains("ca_file = "));
}

#[test]
fn a_token_without_its_worker_is_an_error_that_says_what_to_give() {
    let home = Home::with("api_base_url = \"http://127.0.0.1:1\"\n");
    let out = said(home.program(&["run"]).env("STUDIO_WORKER_AUTH_TOKEN", "tok-of-nobody"));
    assert_eq!(out.code, 1);
    let line = "error: there is a token for a worker and no id: give STUDIO_WORKER_ID beside STUDIO_WORKER_AUTH_TOKEN";
    assert!(out.err.lines().any(|said| said == line), "{}", out.err);
    assert!(!out.err.contains("tok-of-nobody") && !home.text().contains("tok-of-nobody"));
}

#[cfg(unix)]
mod given {
    use std::{fs, os::unix::fs::PermissionsExt as _, thread};

    use serde_json::json;
    use studio_worker_core::conformance::TestStudio;

    use crate::{Home, Running, said};

    /// Systemd's credential, then a variable, then the file: each where there is nothing before it.
    #[test]
    fn the_key_of_a_server_comes_from_where_it_is_first_found() {
        let server = TestStudio::new();
        let home = Home::new();
        let credentials = home.dir.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        let file = home.dir.path().join("key");
        fs::write(&file, "sk-of-the-file\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let engine = format!("engine = \"openai\"\nopenai_base_url = \"{}\"\n", server.base());
        home.write(&format!("{engine}openai_api_key_file = \"{}\"\n", file.display()));
        let asked_with = |variable: &str| {
            let mut command = home.program(&["engines"]);
            command.env("OPENAI_API_KEY", variable).env("CREDENTIALS_DIRECTORY", &credentials);
            let ran = thread::spawn(move || said(&mut command));
            let asks = server.request();
            let key = asks.header("authorization").to_owned();
            asks.answer_json(200, &json!({ "object": "list", "data": [{ "id": "m", "object": "model" }] }));
            let said = ran.join().unwrap();
            assert_eq!(said.code, 0, "{}", said.err);
            assert!(!said.err.contains(key.trim_start_matches("Bearer ")), "{}", said.err);
            (key, said.err.contains("key can be read by every user of this machine: `chmod 600` it"))
        };
        assert_eq!(asked_with(""), ("Bearer sk-of-the-file".into(), true));
        assert_eq!(asked_with("sk-of-the-variable"), ("Bearer sk-of-the-variable".into(), false));
        fs::write(credentials.join("openai_api_key"), "sk-of-the-service\n").unwrap();
        fs::set_permissions(credentials.join("openai_api_key"), fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(asked_with("sk-of-the-variable"), ("Bearer sk-of-the-service".into(), false));
    }

    /// A reset alone would have the next start take the same token.
    #[test]
    fn a_given_token_that_is_refused_is_said_to_be_given() {
        let studio = TestStudio::new();
        let home = Home::with(&format!("api_base_url = \"{}\"\n", studio.base()));
        let refused = |given: &str| {
            let running = Running::start(
                home.program(&["run"]).env("STUDIO_WORKER_ID", "w-7").env("STUDIO_WORKER_AUTH_TOKEN", given),
            );
            let upgrade = studio.upgrade();
            assert_eq!(upgrade.0.header("authorization"), "Bearer tok-that-is-old");
            upgrade.refuse(401, "it is old");
            let (status, log, _) = running.ends();
            assert_eq!(status.code(), Some(1));
            assert!(
                log.lines().last().unwrap().contains("register --reset") && !log.contains(given),
                "{log}"
            );
            log
        };
        let advice = "before `register --reset`";
        assert!(refused("tok-that-is-old").contains(advice));
        assert!(!refused("tok-that-is-newer").contains(advice), "what is stored was not given");
        home.prints(&["register", "--reset"]);
        assert!(refused("tok-that-is-old").contains(advice));
    }

    /// Systemd's credentials name the worker and its token for its first start; later ones know better.
    #[test]
    fn a_worker_starts_with_the_credentials_of_its_service() {
        let studio = TestStudio::new();
        let home = Home::with(&format!("api_base_url = \"{}\"\n", studio.base()));
        let credentials = home.dir.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        fs::write(credentials.join("auth_token"), "tok-of-the-service\n").unwrap();
        let run = |worker: &str, token: &str| {
            let running = Running::start(
                home.program(&["run"])
                    .env("STUDIO_WORKER_ID", worker)
                    .env("CREDENTIALS_DIRECTORY", &credentials),
            );
            let upgrading = studio.upgrade();
            assert_eq!(upgrading.0.path, "/graphics/api/workers/w-7/connect");
            assert_eq!(upgrading.0.header("authorization"), format!("Bearer {token}"));
            let mut session = upgrading.accept().welcome();
            running.signal("-TERM");
            assert_eq!(session.closed().0, 1000);
            let (status, said, _) = running.ends();
            assert!(status.success() && !said.contains(token), "{said}");
            said
        };
        let said = run("w-7", "tok-of-the-service");
        assert!(said.contains("starts as the worker w-7"), "{said}");
        let stored = home.text();
        assert!(
            stored.contains("worker_id = \"w-7\"") && stored.contains("auth_token = \"tok-of-the-service\"")
        );

        // What the studio gave meanwhile is newer than what the service was set up with.
        home.write(&stored.replace("tok-of-the-service", "tok-of-the-studio"));
        let said = run("w-8", "tok-of-the-studio");
        assert!(!said.contains("starts as the worker"), "{said}");
    }
}
