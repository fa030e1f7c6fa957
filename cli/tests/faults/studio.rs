//! The local studio, as a process.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use studio_worker_core::conformance::PATIENCE;
use tempfile::TempDir;

use crate::http;

/// `studio-worker studio --auto-approve`, killed when it is dropped.
pub(crate) struct Studio {
    child: Child,
    address: SocketAddr,
    _data: TempDir,
}

impl Studio {
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_studio-worker"))
            .args(["studio", "--auto-approve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        // Few lines follow, and they fit into the pipe.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit('/').next().and_then(|address| address.parse().ok());
        Self { child, address: address.unwrap_or_else(|| panic!("no address: {line:?}")), _data: data }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Queues a chat; its id.
    pub(crate) fn queue(&self) -> String {
        let job = json!({ "model": "synthetic", "task":
            { "kind": "llm", "messages": [{ "role": "user", "content": "hello" }] } });
        let headers = [("Content-Type", "application/json")];
        let body = job.to_string();
        let answer = http::request(self.address, "POST", "/api/v1/jobs", &headers, body.as_bytes());
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the job is in this state.
    pub(crate) fn job_is(&self, id: &str, state: &str) -> Value {
        let job = || http::request(self.address, "GET", &format!("/api/v1/jobs/{id}"), &[], b"").json();
        let since = Instant::now();
        loop {
            let job = job();
            if job["state"] == state {
                return job;
            }
            assert!(since.elapsed() < PATIENCE, "job {id} does not come to be {state}: {job}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}
