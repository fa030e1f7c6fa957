//! What a Sentry server hears of a worker, and what it costs one that it doesn't hear from.

use std::{
    fs, io,
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use studio_worker_core::{conformance::TestStudio, wire::Secret};

use super::{
    BUSY, Home, Running,
    home::PATIENCE,
    running::{TOKEN, approved, drain, ends_with, on_each_runtime},
};

on_each_runtime! {
    an_error_is_told_with_what_was_warned_of_before
    a_server_that_never_answers_delays_no_heartbeat_and_hardly_the_end
    a_server_that_has_enough_is_left_alone
    an_address_that_is_none_is_a_warning
    without_an_address_nothing_is_told
    an_engines_words_about_a_job_are_not_told
}

const KEY: &str = "9a1b2c3d4e5f60718293a4b5c6d7e8f9";

/// Where a server at `address` takes events.
fn dsn(address: impl std::fmt::Display) -> String {
    format!("http://{KEY}@{address}/42")
}

/// A worker that tells its errors to `dsn`.
fn telling(home: &Home, on: &str, dsn: &str) -> Running {
    let mut command = home.program(&["--runtime", on, "run"]);
    Running::start(command.env("SENTRY_DSN", dsn).env("SENTRY_ENVIRONMENT", "rig").env("RUST_LOG", "info"))
}

/// The next event that a server is told, which is answered; everything of it that went over the wire is looked through
/// for what may not.
fn told(sentry: &TestStudio, secret: &Secret) -> Value {
    let mut request = sentry.request();
    let body = request.body();
    let text = String::from_utf8(body).expect("events are plain text");
    let wire = format!("{} {:?} {text}", request.path, request.headers);
    assert!(!wire.contains(secret.reveal()) && !wire.contains(TOKEN), "{wire}");
    let path = "/api/42/envelope/?";
    assert!(request.method == "POST" && request.path.starts_with(path), "{}", request.path);
    assert!(request.path.contains(&format!("sentry_key={KEY}&sentry_version=7")), "{}", request.path);
    assert_eq!(request.header("content-type"), "application/x-sentry-envelope");
    request.answer_json(200, &json!({}));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [head, item, event] = lines.as_slice() else { panic!("{text}") };
    let id = head["event_id"].as_str().unwrap().replace('-', "");
    assert_eq!((&item["type"], &event["event_id"]), (&json!("event"), &json!(id)));
    event.clone()
}

/// The texts of its breadcrumbs.
fn before(event: &Value) -> String {
    let crumbs = event["breadcrumbs"]["values"].as_array().cloned().unwrap_or_default();
    crumbs.iter().map(|crumb| crumb["message"].as_str().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn an_error_is_told_with_what_was_warned_of_before(on: &str) {
    let (studio, sentry) = (TestStudio::new(), TestStudio::new());
    let home = approved(&studio, "future_key = 1\n");
    let worker = telling(&home, on, &dsn(sentry.address()));
    studio.upgrade().refuse(401, &format!("token {TOKEN} is wrong"));
    let event = told(&sentry, &TOKEN.into());
    let line = ends_with(worker);
    assert!(line.contains("refused"), "{line}");
    assert!(event["message"].as_str().unwrap().contains("refused"), "{event}");
    assert!(before(&event).contains("the key `future_key` is not known here"), "{event}");
    assert_eq!(event["release"], format!("studio-worker@{}", studio_worker::VERSION));
    assert_eq!((&event["environment"], &event["logger"]), (&json!("rig"), &json!("studio_worker")));
    assert_eq!(event["server_name"], studio_worker::machine::host_name());
    assert_eq!((&event["tags"]["runtime"], &event["tags"]["engine"]), (&json!(on), &json!("multi")));
    assert_eq!(event["user"], Value::Null, "nobody is told who uses this machine");
    assert!(!sentry.has_request(), "told once");
}

fn a_server_that_never_answers_delays_no_heartbeat_and_hardly_the_end(on: &str) {
    let studio = TestStudio::new();
    // Connections to it are made, by the system, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::with(&format!("api_base_url = '{}'\n", studio.base()));
    let lock = home.dir.path().join(".config.toml.lock");
    fs::create_dir(&lock).unwrap();
    let mut worker = telling(&home, on, &dsn(silent.local_addr().unwrap()));
    // Two of them: one try takes 15 s, after which the next one begins.
    for _ in 0..2 {
        worker.logs("could not be saved, trying again");
    }
    fs::remove_dir(&lock).unwrap();
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    studio
        .request()
        .answer_json(200, &json!({ "status": "approved", "workerId": "w-1", "authToken": TOKEN }));
    let mut session = studio.session();
    session.heartbeat();
    let mut tries = vec![silent.accept().unwrap().0];
    silent.set_nonblocking(true).unwrap();
    tries.extend(std::iter::from_fn(|| silent.accept().ok()).map(|(connection, _)| connection));
    let going_on = tries.iter_mut().map(goes_on);
    assert!(going_on.filter(|goes_on| !goes_on).count() < 2, "the heartbeat came after all tries");
    let end = Instant::now();
    let log = drain(worker, &mut session);
    assert!(end.elapsed() < Duration::from_secs(2) + BUSY, "{:?}", end.elapsed());
    assert!(log.contains("some errors were not told to Sentry"), "{log}");
}

/// Whether the other end has not given up yet.
fn goes_on(connection: &mut TcpStream) -> bool {
    connection.set_nonblocking(true).unwrap();
    let ended = io::copy(connection, &mut io::sink());
    ended.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn a_server_that_has_enough_is_left_alone(on: &str) {
    let (studio, sentry) = (TestStudio::new(), TestStudio::new());
    let home = Home::with(&format!("api_base_url = '{}'\n", studio.base()));
    let lock = home.dir.path().join(".config.toml.lock");
    fs::create_dir(&lock).unwrap();
    let mut worker = telling(&home, on, &dsn(sentry.address()));
    sentry.request().answer(429, "Retry-After: 60\r\n", "");
    let line = worker.logs("could not be told to Sentry");
    assert!(line.contains("WARN") && line.contains("it answers 429") && !line.contains(KEY), "{line}");
    // Tried again after a second or so, which is an error again.
    worker.logs("could not be saved, trying again");
    worker.signal("-TERM");
    let (status, log, _) = worker.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("errors were not told to Sentry"), "{log}");
    assert!(!sentry.has_request());
}

fn an_address_that_is_none_is_a_warning(on: &str) {
    for wrong in [format!("{KEY}@sentry.example/42"), format!("https://{KEY}@sentry.example/")] {
        let studio = TestStudio::new();
        let home = approved(&studio, "");
        let mut worker = telling(&home, on, &wrong);
        let line = worker.logs("SENTRY_DSN can't be used");
        assert!(line.contains("WARN") && line.contains("https://KEY@HOST/PROJECT"), "{line}");
        let mut session = studio.session();
        let log = drain(worker, &mut session);
        assert!(!log.contains(KEY), "{log}");
    }
}

/// The names of a process's threads.
fn threads(worker: &Running) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", worker.child.id())).unwrap();
    // One that ends meanwhile has no name any more.
    tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok()).collect()
}

fn without_an_address_nothing_is_told(on: &str) {
    for (dsn, telling_threads) in [(dsn("127.0.0.1:9"), 1), (String::new(), 0), (" ".to_owned(), 0)] {
        let studio = TestStudio::new();
        let home = approved(&studio, "");
        let worker = telling(&home, on, &dsn);
        let mut session = studio.session();
        if cfg!(target_os = "linux") {
            let counted = || threads(&worker).iter().filter(|name| name.trim() == "sentry").count();
            // A thread gives itself its name, with its first step.
            let since = Instant::now();
            while counted() < telling_threads && since.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(counted(), telling_threads, "{dsn:?}");
        }
        let log = drain(worker, &mut session);
        assert_eq!(log.contains("errors are told to Sentry"), telling_threads > 0, "{log}");
    }
}

fn an_engines_words_about_a_job_are_not_told(on: &str) {
    let (studio, sentry) = (TestStudio::new(), TestStudio::new());
    let home = approved(
        &studio,
        "[[commands]]\nkind = 'llm'\nmodels = ['m']\nprogram = 'sh'\nargs = ['-c', 'echo \"no: $0\" >&2; exit 1', '{prompt}']\n",
    );
    let worker = telling(&home, on, &dsn(sentry.address()));
    let mut session = studio.session();
    session.send(&json!({ "type": "offer", "claim": {
        "jobId": "j-1", "gameId": "g", "assetName": "a", "model": "m", "vramGbEstimate": 2,
        "task": { "kind": "llm", "messages": [{ "role": "user", "content": "a-private-prompt" }] },
    }}));
    session.expect("accept", "j-1");
    let failed = session.expect("fail", "j-1");
    assert!(failed["error"].as_str().unwrap().contains("a-private-prompt"), "{failed}");
    session.send(&json!({ "type": "failAck", "jobId": "j-1" }));
    session.send(&json!({ "type": "error", "code": "auth_failed", "message": "no" }));
    let event = told(&sentry, &"a-private-prompt".into());
    assert!(before(&event).contains("job j-1: failed, another attempt may help"), "{event}");
    ends_with(worker);
}

/// Set in a child of this test, which panics.
const PANICS: &str = "TEST_PANICS";

#[test]
fn a_panic_is_told_once_with_where_it_came_from() {
    if std::env::var_os(PANICS).is_some() {
        studio_worker::logging::init();
        studio_worker::logging::learn(&TOKEN.into());
        let _telemetry =
            studio_worker::telemetry::start(studio_worker::runtimes::Runtime::default(), "multi");
        let panicking = thread::Builder::new().name("engine".into()).spawn(|| panic!("at {TOKEN}"));
        assert!(panicking.unwrap().join().is_err());
        // An end waits for what is told, but not for long: this one comes when it was.
        io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let sentry = TestStudio::new();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "telemetry::a_panic_is_told_once_with_where_it_came_from", "--nocapture"]);
    child.env(PANICS, "1").env("SENTRY_DSN", dsn(sentry.address())).stdin(Stdio::piped());
    let mut child = Running::start(&mut child);
    let event = told(&sentry, &TOKEN.into());
    drop(child.child.stdin.take());
    let (status, log, _) = child.ends();
    assert!(status.success(), "{log}");
    let panic = &event["exception"]["values"][0];
    let text = panic["value"].as_str().unwrap();
    assert!(text.starts_with("the thread engine panicked at ") && text.ends_with(": at …"), "{text}");
    assert_eq!((&panic["type"], &panic["mechanism"]["handled"]), (&json!("panic"), &json!(false)));
    let frames = panic["stacktrace"]["frames"].as_array().unwrap();
    let last = &frames[frames.len() - 1];
    assert!(last["function"].as_str().unwrap().contains("a_panic_is_told_once"), "{last}");
    assert_eq!((&last["filename"], &event["message"]), (&json!("telemetry.rs"), &Value::Null));
    assert!(!sentry.has_request(), "told once");
}
