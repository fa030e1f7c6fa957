//! What outlives the process, and what is not acknowledged before it does.

use std::{io::Read as _, net::TcpListener, time::Duration};

use serde_json::json;
use studio_worker::studio::{Config, Server};
use studio_worker_core::studio::Options;

use crate::{
    http,
    rig::{JSON, Rig},
};

#[test]
#[cfg(unix)]
fn what_is_kept_is_for_its_user_alone() {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    fn look(folder: &Path) -> usize {
        let mut seen = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.symlink_metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
            seen += if path.is_dir() { look(&path) } else { 1 };
        }
        seen
    }
    let rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let job = rig.queue_image();
    session.accept();
    assert_eq!(rig.upload(&worker, &job, "png", b"private").status, 200);
    // The database, and the result.
    assert!(look(rig.place.path()) >= 2);
}

#[test]
fn a_restart_loses_nothing() {
    let mut rig = Rig::new();
    let worker = rig.register();
    let (pending, secret) = rig.ask("7d5c0e41-5e9f-4b0a-8e9f-4e2c0b1a3951");
    let mut session = rig.connect(&worker);
    let file = rig.queue_image();
    session.accept();
    assert_eq!(rig.upload(&worker, &file, "png", b"kept").status, 200);
    let chat = rig.queue(&json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] }));
    session.accept();
    session.send(
        &json!({ "type": "completeJson", "jobId": chat, "result": { "text": "kept" }, "prompt": "hi" }),
    );
    assert_eq!(session.receive()["type"], "completeAck");
    let running = rig.queue_image();
    session.accept();
    rig.job_is(&running, "running");
    let queued = rig.queue_image();
    session.send(&json!({ "type": "logBatch", "entries": [
        { "ts": "2026-11-25T07:00:00.000Z", "level": "info", "category": "test", "message": "kept" }
    ] }));
    while rig.get("/api/v1/logs").json()["lines"] == json!([]) {
        std::thread::sleep(Duration::from_millis(5));
    }

    rig.restart();
    assert_eq!(session.closed(), 1001, "a studio that goes away says so");
    assert_eq!(rig.get(&format!("/api/v1/jobs/{file}/result")).body, b"kept");
    assert_eq!(rig.get(&format!("/api/v1/jobs/{chat}/result")).json(), json!({ "text": "kept" }));
    assert_eq!(rig.get("/api/v1/logs").json()["lines"][0]["message"], "kept");
    assert_eq!(rig.poll(&pending, &secret).json(), json!({ "status": "pending" }));
    let job = rig.job(&running);
    assert_eq!((&job["state"], &job["attempts"]), (&json!("queued"), &json!(1)));
    assert_eq!(rig.job(&queued)["state"], "queued");
    let order = |rig: &Rig| -> Vec<String> {
        let jobs = rig.get("/api/v1/jobs").json();
        jobs["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(order(&rig), [queued.clone(), running.clone(), chat, file.clone()]);

    // The worker's token still counts, and the jobs come in their order.
    let mut session = rig.connect(&worker);
    assert_eq!(session.accept()["jobId"], json!(running));
    assert_eq!(rig.upload(&worker, &running, "png", b"x").status, 200);
    assert_eq!(session.accept()["jobId"], json!(queued));
    assert_eq!(rig.upload(&worker, &queued, "png", b"x").status, 200);

    // All are over: a new one still comes after them.
    session.hang_up();
    rig.restart();
    let new = rig.queue_image();
    assert_eq!(order(&rig)[0], new);
    assert_eq!(order(&rig).len(), 5);
    let again = json!({ "id": file, "model": "m", "task": { "kind": "image", "prompt": "x" } });
    assert_eq!(rig.post("/api/v1/jobs", &again).status, 409);
}

#[test]
fn what_an_interrupted_upload_left_is_swept() {
    let mut rig = Rig::new();
    let worker = rig.register();
    let mut session = rig.connect(&worker);
    let id = rig.queue_image();
    session.accept();
    assert_eq!(rig.upload(&worker, &id, "png", b"kept").status, 200);
    rig.stop();
    let results = rig.place.path().join("data/results");
    std::fs::write(results.join("0123.part"), b"half").unwrap();
    std::fs::write(results.join("4567.png"), b"whole, but of no job").unwrap();
    let data = rig.place.path().join("data");
    drop(Server::open(config(&data, "127.0.0.1:0")).unwrap());
    assert_eq!(std::fs::read_dir(&results).unwrap().count(), 1);
}

#[test]
fn nothing_is_acknowledged_while_it_cannot_be_stored() {
    let rig = Rig::new();
    let database = rusqlite::Connection::open(rig.place.path().join("data/studio.sqlite")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let body = br#"{"id":"j","model":"m","task":{"kind":"image","prompt":"x"}}"#;
    let mut stream = http::begin(rig.address(), "POST", "/api/v1/jobs", &[JSON], body.len() as u64);
    std::io::Write::write_all(&mut stream, body).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let early = stream.read(&mut [0; 1]);
    assert!(early.is_err(), "answered while the database could not be written");
    database.execute_batch("ROLLBACK").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(http::finish(stream).status, 201);
    let stored: i64 =
        database.query_row("SELECT count(*) FROM jobs WHERE id = 'j'", (), |row| row.get(0)).unwrap();
    assert_eq!(stored, 1);
}

#[test]
fn what_cannot_be_started_says_why_in_one_line() {
    let place = tempfile::tempdir().unwrap();
    let why = |data: &std::path::Path, listen: &str| {
        let why = Server::open(config(data, listen)).err().unwrap().to_string();
        assert!(!why.contains('\n'), "{why}");
        why
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = why(&place.path().join("a"), &address);
    assert!(text.contains(&address) && text.contains("--listen"), "{text}");

    let file = place.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let text = why(&file, "127.0.0.1:0");
    assert!(text.contains(file.to_str().unwrap()), "{text}");

    let used = place.path().join("used");
    let first = Server::open(config(&used, "127.0.0.1:0")).unwrap();
    assert!(why(&used, "127.0.0.1:0").contains("is in use by process"));
    drop(first);

    rusqlite::Connection::open(used.join("studio.sqlite"))
        .unwrap()
        .pragma_update(None, "user_version", 1_000)
        .unwrap();
    assert!(why(&used, "127.0.0.1:0").contains("schema 1000"));
}

fn config(data: &std::path::Path, listen: &str) -> Config {
    Config {
        listen: listen.parse().unwrap(),
        names: Vec::new(),
        data: data.to_owned(),
        options: Options::default(),
    }
}
