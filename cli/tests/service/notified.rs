//! What systemd hears, on a socket that a test holds in its place.

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::Command,
};

use serde_json::json;
use studio_worker_core::conformance::TestStudio;

use crate::{
    Case, cases,
    rig::{Home, PATIENCE, Running, TOKEN},
};

pub(crate) const ALL: &[Case] = cases![|| None;
    a_worker_is_ready_at_its_welcome_and_not_before
    a_worker_that_waits_for_its_approval_says_so_and_is_not_ready
    the_watchdog_of_another_process_is_not_fed
];

/// A socket as systemd has one.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn at(command: &mut Command, home: &Home) -> Self {
        let path = home.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        command.env("NOTIFY_SOCKET", path);
        Self::with(socket)
    }

    /// In no folder.
    fn nowhere(command: &mut Command, home: &Home) -> Self {
        let name = format!("studio-worker-test{}", home.path("notify").display());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        command.env("NOTIFY_SOCKET", format!("@{name}"));
        Self::with(socket)
    }

    fn with(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, heard: Vec::new() }
    }

    /// Waits until a line of that beginning was said.
    fn hears(&mut self, line: &str) {
        let mut bytes = [0; 4096];
        let from = self.heard.len();
        while !self.heard[from..].iter().any(|heard| heard.starts_with(line)) {
            let length =
                self.socket.recv(&mut bytes).unwrap_or_else(|_| panic!("no {line} in {:?}", self.heard));
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            assert!(!text.contains(TOKEN), "{text}");
            self.heard.extend(text.lines().map(str::to_owned));
        }
    }

    fn has_heard(&self, line: &str) -> bool {
        self.heard.iter().any(|heard| heard.starts_with(line))
    }
}

fn a_worker_is_ready_at_its_welcome_and_not_before() {
    for on in ["async-std", "tokio"] {
        let studio = TestStudio::new();
        let home = Home::registered(&studio);
        let mut command = home.program(&["--runtime", on, "run", "--service"]);
        let mut manager = if on == "tokio" {
            Manager::nowhere(&mut command, &home)
        } else {
            Manager::at(&mut command, &home)
        };
        let worker = Running::start(command.env("WATCHDOG_USEC", "150000"));
        let upgrading = studio.upgrade();
        // The loop is alive before anybody has welcomed it.
        manager.hears("WATCHDOG=1");
        manager.hears("WATCHDOG=1");
        assert!(!manager.has_heard("READY"), "{:?}", manager.heard);
        let mut session = upgrading.accept().welcome();
        manager.hears("READY=1");
        if !manager.has_heard("STATUS=serving") {
            manager.hears("STATUS=serving");
        }
        manager.hears("WATCHDOG=1");
        session.offer("j-1", "llm", "hello");
        session.expect("accept", "j-1");
        session.expect("completeJson", "j-1");
        session.send(&json!({ "type": "completeAck", "jobId": "j-1" }));
        manager.hears("WATCHDOG=1");
        assert!(!manager.has_heard("STOPPING"));
        worker.signal("-TERM");
        manager.hears("STOPPING=1");
        assert_eq!(session.closed().0, 1000);
        let (status, log, _) = worker.ends();
        assert_eq!(status.code(), Some(0), "{log}");
        let ready = manager.heard.iter().filter(|line| *line == "READY=1").count();
        assert_eq!(ready, 1, "{:?}", manager.heard);
    }
}

fn a_worker_that_waits_for_its_approval_says_so_and_is_not_ready() {
    let studio = TestStudio::new();
    let home = Home::with(&format!("api_base_url = '{}'\n", studio.base()));
    let mut command = home.program(&["run"]);
    let mut manager = Manager::at(&mut command, &home);
    let worker = Running::start(&mut command);
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    studio.request().answer_json(200, &json!({ "status": "pending" }));
    while !manager.heard.iter().any(|line| line.starts_with("STATUS=not registered yet: ")) {
        manager.hears("STATUS=");
    }
    assert!(!manager.has_heard("READY") && !manager.has_heard("WATCHDOG"), "{:?}", manager.heard);
    worker.signal("-TERM");
    assert_eq!(worker.ends().0.code(), Some(0));
}

fn the_watchdog_of_another_process_is_not_fed() {
    let studio = TestStudio::new();
    let home = Home::registered(&studio);
    let mut command = home.program(&["run"]);
    let mut manager = Manager::at(&mut command, &home);
    let worker = Running::start(command.env("WATCHDOG_USEC", "30000").env("WATCHDOG_PID", "1"));
    let mut session = studio.session();
    manager.hears("READY=1");
    session.heartbeat();
    worker.signal("-TERM");
    manager.hears("STOPPING=1");
    assert!(!manager.has_heard("WATCHDOG"), "{:?}", manager.heard);
    session.closed();
    assert_eq!(worker.ends().0.code(), Some(0));
}
