//! The examples, as programs: each registers, is approved, delivers and ends with a SIGINT.
#![cfg(unix)]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use studio_worker_core::conformance::{Network, Session, TestStudio};

/// An example that runs. It is killed when it is dropped.
struct Example {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Example {
    fn start(name: &str, folder: &Path, arguments: &[&str]) -> Self {
        // Beside this test's own program: where cargo builds the examples whose tests it runs.
        let program = env::current_exe().unwrap().parent().unwrap().join("../examples").join(name);
        let mut child = Command::new(&program)
            .args(arguments)
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} (of `cargo build --examples`): {error}", program.display()));
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// Ends it as a person does at the terminal.
    fn interrupt(&self) {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end, which is a good one; what it said last.
    fn ends(mut self) -> String {
        assert!(self.child.wait().unwrap().success());
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes a registration; who asked.
fn approve(studio: &TestStudio, number: usize) -> Value {
    let mut asks = studio.request();
    let asked = asks.json();
    asks.answer_json(200, &json!({ "requestId": format!("rr-{number}"), "status": "pending" }));
    let polls = studio.request();
    let (worker, token) = (format!("w-{number}"), format!("tok-{number}"));
    polls.answer_json(200, &json!({ "status": "approved", "workerId": worker, "authToken": token }));
    asked
}

/// Offers a chat; its answer.
fn chat(session: &mut Session, job: &str, model: &str, text: &str) -> Value {
    let message = json!({ "role": "user", "content": text });
    session.send(&json!({ "type": "offer", "claim": {
        "jobId": job, "model": model, "vramGbEstimate": 1, "task": { "kind": "llm", "messages": [message] },
    }}));
    session.expect("accept", job);
    let result = session.expect("completeJson", job)["result"]["choices"][0]["message"]["content"].clone();
    session.complete_ack(job);
    result
}

#[test]
fn the_engine_shouts_and_is_the_same_worker_after_a_restart() {
    let (studio, folder) = (Network::loopback().studio(), tempfile::tempdir().unwrap());
    for start in 0..2 {
        let mut example = Example::start("engine", folder.path(), &[&studio.base()]);
        assert!(example.line().starts_with("shouting for "));
        if start == 0 {
            let asked = approve(&studio, 1);
            assert_eq!(asked["capabilities"]["supportedModels"], json!(["loud"]));
        }
        let mut session = studio.session();
        assert_eq!(chat(&mut session, "j-1", "loud", "hello"), "HELLO");
        example.interrupt();
        assert_eq!(session.closed().0, 1000);
        assert_eq!(example.ends(), "drained\n");
    }
}

/// Asks the service for a path: status line and body.
fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn the_service_says_how_its_worker_is() {
    let (studio, folder) = (Network::loopback().studio(), tempfile::tempdir().unwrap());
    let mut example = Example::start("service", folder.path(), &[&studio.base(), "127.0.0.1:0"]);
    let address = example.line().strip_prefix("listening on ").unwrap().trim_end().to_owned();
    assert_eq!(get(&address, "/").1, "a service of one's own\n");
    assert_eq!(
        get(&address, "/health"),
        ("HTTP/1.1 503 Service Unavailable".into(), "not connected\n".into())
    );
    approve(&studio, 1);
    let mut session = studio.session();
    assert_eq!(get(&address, "/health"), ("HTTP/1.1 200 OK".into(), "connected\n".into()));
    assert_eq!(chat(&mut session, "j-1", "count-1", "one two three"), "3 words");
    // The acknowledgement has been handled once the next job is taken.
    assert_eq!(chat(&mut session, "j-2", "count-1", "four"), "1 words");
    let status: Value = serde_json::from_str(&get(&address, "/status").1).unwrap();
    assert_eq!(
        (&status["session"]["state"], &status["session"]["workerId"]),
        (&json!("serving"), &json!("w-1"))
    );
    assert!(status["recentJobs"].as_array().unwrap().contains(&json!({ "id": "j-1", "completed": true })));
    example.interrupt();
    assert_eq!(session.closed().0, 1000);
    assert_eq!(example.ends(), "the worker ended: drained\n");
}

#[test]
fn the_fleet_serves_and_ends_together() {
    let (studio, folder) = (Network::loopback().studio(), tempfile::tempdir().unwrap());
    let place = folder.path().join("fleet");
    // Approved before, so that they come to their sessions without a dance for each.
    std::fs::create_dir(&place).unwrap();
    for number in 1..=3 {
        let identity = json!({ "install_id": format!("i-{number}"), "worker_id": format!("w-{number}"), "auth_token": "t" });
        std::fs::write(place.join(format!("worker-{number}.json")), identity.to_string()).unwrap();
    }
    let example = Example::start("fleet", folder.path(), &[&studio.base(), "3", place.to_str().unwrap()]);
    let mut sessions = [studio.session(), studio.session(), studio.session()];
    for session in &mut sessions {
        assert_eq!(chat(session, "j-1", "echo-1", "hello"), "hello");
    }
    example.interrupt();
    for session in &mut sessions {
        assert_eq!(session.closed().0, 1000);
    }
    let said = example.ends();
    for number in 1..=3 {
        assert!(said.contains(&format!("worker {number} ended: drained\n")), "{said}");
    }
}
