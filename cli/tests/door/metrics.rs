//! `run --metrics`.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use super::{Home, Rig, is_quick, until};

/// Status and body of an answer.
fn get(address: &str, path: &str) -> (u16, String) {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

fn exchange(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())) || body.is_empty(), "{head}");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The value of a series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
    line.unwrap_or_else(|| panic!("{series} is missing in\n{page}"))
        .rsplit_once(' ')
        .unwrap()
        .1
        .parse()
        .unwrap()
}

/// Where a worker serves, as it says itself.
fn address(rig: &mut Rig) -> String {
    let line = rig.worker.logs("metrics are at http://");
    line.split("http://").nth(1).unwrap().strip_suffix("/metrics").unwrap().to_owned()
}

fn numbers_and_probes(on: &str) {
    let mut rig = Rig::alone(on, "", &["--metrics", "127.0.0.1:0"]);
    let address = address(&mut rig);
    let upgrading = rig.studio.upgrade();
    assert_eq!(get(&address, "/readyz"), (503, "no session is open\n".into()));
    assert_eq!(get(&address, "/healthz"), (200, "ok\n".into()));
    let mut session = upgrading.accept().welcome();
    until(|| (get(&address, "/readyz").0 == 200).then_some(()));
    rig.begin(&mut session, "j-1");
    // Counted at the end of the turn in which it is seen to begin.
    until(|| {
        let (status, page) = get(&address, "/metrics");
        assert_eq!(status, 200);
        (value(&page, "studio_worker_current_jobs") > 0.5).then_some(())
    });
    rig.release(&mut session, "j-1");
    session.offer("j-2", "image", "a cat");
    session.expect("accept", "j-2");
    let mut upload = rig.studio.request();
    upload.body();
    upload.answer(200, "", "");
    let page = until(|| {
        let page = get(&address, "/metrics").1;
        (value(&page, "studio_worker_jobs_total{kind=\"image\",outcome=\"completed\"}") > 0.0).then_some(page)
    });
    for (series, wanted) in [
        ("studio_worker_jobs_total{kind=\"llm\",outcome=\"completed\"}", 1.0),
        ("studio_worker_jobs_total{kind=\"llm\",outcome=\"failed\"}", 0.0),
        ("studio_worker_job_seconds_count{stage=\"whole\"}", 2.0),
        ("studio_worker_job_seconds_bucket{stage=\"run\",le=\"+Inf\"}", 2.0),
        ("studio_worker_job_seconds_count{stage=\"delivery\"}", 2.0),
        ("studio_worker_job_seconds_count{stage=\"download\"}", 0.0),
        ("studio_worker_sessions_total", 1.0),
        ("studio_worker_reconnects_total", 0.0),
        ("studio_worker_session_open", 1.0),
        ("studio_worker_accepting_jobs", 1.0),
        ("studio_worker_held_results", 0.0),
        ("studio_worker_log_lines_dropped_total", 0.0),
        ("studio_worker_vram_threshold_gigabytes", 12.0),
    ] {
        assert!((value(&page, series) - wanted).abs() < 0.001, "{series} should be {wanted} in\n{page}");
    }
    for series in ["sent_bytes_total{channel=\"session\"}", "sent_bytes_total{channel=\"upload\"}"] {
        assert!(value(&page, &format!("studio_worker_{series}")) > 100.0, "{page}");
    }
    assert!(value(&page, "studio_worker_received_bytes_total{channel=\"session\"}") > 100.0, "{page}");

    session.drop_connection();
    until(|| (get(&address, "/readyz").0 == 503).then_some(()));
    let mut session = rig.studio.session();
    until(|| (value(&get(&address, "/metrics").1, "studio_worker_reconnects_total") > 0.5).then_some(()));
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn numbers_and_probes_on_async_std() {
    numbers_and_probes("async-std");
}

#[test]
fn numbers_and_probes_on_tokio() {
    numbers_and_probes("tokio");
}

#[test]
fn bad_requests_and_slow_ones_disturb_nobody() {
    let mut rig = Rig::alone("async-std", "", &["--metrics", "127.0.0.1:0"]);
    let address = address(&mut rig);
    let mut session = rig.studio.session();
    // Those that say nothing are given up after a while, and others served meanwhile.
    let slow: Vec<_> = (0..8).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for (request, status) in [
        ("GET /nothing HTTP/1.1\r\n\r\n".to_owned(), 404),
        ("POST /metrics HTTP/1.1\r\n\r\n".to_owned(), 405),
        ("GET\r\n\r\n".to_owned(), 400),
        ("\u{0}\u{1}\r\n\r\n".to_owned(), 400),
        (format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(8 * 1024)), 431),
        ("HEAD /healthz HTTP/1.0\r\n\r\n".to_owned(), 200),
        ("GET /metrics?x=1 HTTP/1.1\r\n\r\n".to_owned(), 200),
    ] {
        assert_eq!(exchange(&address, &request).0, status, "{request}");
    }
    is_quick(&mut session);
    drop(slow);
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
}

#[test]
fn an_address_that_cannot_be_had_is_said_before_the_worker_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::with("#\n");
    let address = taken.local_addr().unwrap().to_string();
    let error = home.fails(&["run", "--metrics", &address]);
    assert!(
        error.starts_with(&format!("`--metrics {address}`: the address can't be listened on")),
        "{error}"
    );
    assert_eq!(home.run(&["run", "--metrics", "9184"]).code, 2);
}

#[test]
fn an_address_that_others_reach_is_warned_of() {
    let mut rig = Rig::alone("async-std", "", &["--metrics", "0.0.0.0:0"]);
    let line = rig.worker.logs("can read the metrics");
    assert!(line.contains("WARN"), "{line}");
    let mut session = rig.studio.session();
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
}
