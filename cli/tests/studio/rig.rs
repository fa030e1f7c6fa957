//! A studio to test, and a worker that is played by hand.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use studio_worker::studio::{Config, Running, Server};
use studio_worker_core::{
    studio::Options,
    wire::{Secret, multipart::Envelope, registration::secret_hash},
};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, client::IntoClientRequest, stream::MaybeTlsStream};

use crate::http::{Answer, request};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A running studio with a data directory of its own.
pub(crate) struct Rig {
    pub(crate) place: TempDir,
    studio: Studio,
}

enum Studio {
    Here(Running),
    /// Another process, which is somebody else's to start and stop.
    Elsewhere(SocketAddr),
    Stopped,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::on("127.0.0.1:0")
    }

    pub(crate) fn on(listen: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let studio = Studio::Here(start(place.path(), listen));
        Self { place, studio }
    }

    /// For a studio that another process serves.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { place: tempfile::tempdir().unwrap(), studio: Studio::Elsewhere(address) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let mut address = match &self.studio {
            Studio::Here(running) => running.address(),
            Studio::Elsewhere(address) => *address,
            Studio::Stopped => panic!("the studio is stopped"),
        };
        if address.ip().is_unspecified() {
            address.set_ip([127, 0, 0, 1].into());
        }
        address
    }

    /// Stops it and starts it again with the same data.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.studio = Studio::Here(start(self.place.path(), "127.0.0.1:0"));
    }

    pub(crate) fn stop(&mut self) {
        let Studio::Here(running) = std::mem::replace(&mut self.studio, Studio::Stopped) else {
            panic!("there is no studio to stop")
        };
        running.stop().unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.address(), "GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        request(self.address(), "POST", path, &[JSON], body.to_string().as_bytes())
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        request(self.address(), "DELETE", path, &[], b"")
    }

    /// Queues an image job and gives back its id.
    pub(crate) fn queue_image(&self) -> String {
        self.queue(&json!({ "kind": "image", "prompt": "a lighthouse", "ext": "png" }))
    }

    pub(crate) fn queue(&self, task: &Value) -> String {
        let answer = self.post("/api/v1/jobs", &json!({ "model": "m", "task": task }));
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/v1/jobs/{id}")).json()
    }

    /// Waits until the job is in this state.
    pub(crate) fn job_is(&self, id: &str, state: &str) -> Value {
        let since = Instant::now();
        loop {
            let job = self.job(id);
            if job["state"] == state {
                return job;
            }
            assert!(since.elapsed() < PATIENCE, "job {id} does not come to be {state}: {job}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks to be registered; gives back the request's id and the secret.
    pub(crate) fn ask(&self, install_id: &str) -> (String, Secret) {
        let secret = Secret::from(format!("{install_id:0<64}"));
        let answer = self.post(
            "/graphics/api/workers/register-request",
            &json!({
                "installId": install_id, "registrationSecretHash": secret_hash(&secret),
                "capabilities": capabilities(), "userAgent": "test/1",
            }),
        );
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("pending")), "{answer:?}");
        (answer.json()["requestId"].as_str().unwrap().to_owned(), secret)
    }

    pub(crate) fn poll(&self, request_id: &str, secret: &Secret) -> Answer {
        let bearer = format!("Bearer {}", secret.reveal());
        let path = format!("/graphics/api/workers/register-requests/{request_id}");
        request(self.address(), "GET", &path, &[("Authorization", &bearer)], b"")
    }

    /// A worker that was let in.
    pub(crate) fn register(&self) -> Credentials {
        let (request_id, secret) = self.ask("8c6b1d52-6f0e-4c1b-9f0a-5f3d1c2b4a69");
        let approved = self.post(&format!("/api/v1/registrations/{request_id}/approve"), &Value::Null);
        assert_eq!((approved.status, &approved.json()["status"]), (200, &json!("approved")));
        let decision = self.poll(&request_id, &secret).json();
        assert_eq!(decision["status"], "approved");
        Credentials {
            worker_id: decision["workerId"].as_str().unwrap().to_owned(),
            token: decision["authToken"].as_str().unwrap().to_owned(),
        }
    }

    /// Opens a session and says hello.
    pub(crate) fn connect(&self, worker: &Credentials) -> Session {
        let mut session = self.upgrade(&worker.worker_id, &worker.token).unwrap();
        session.send(&json!({ "type": "hello", "authToken": worker.token, "capabilities": capabilities() }));
        assert_eq!(session.receive()["type"], "welcome");
        session
    }

    pub(crate) fn upgrade(&self, worker_id: &str, token: &str) -> Result<Session, tungstenite::Error> {
        let url = format!("ws://{}/graphics/api/workers/{worker_id}/connect", self.address());
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().unwrap());
        request.headers_mut().insert("Sec-WebSocket-Protocol", "studio-worker-v1".parse().unwrap());
        let (socket, response) = tungstenite::connect(request)?;
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "studio-worker-v1");
        let MaybeTlsStream::Plain(stream) = socket.get_ref() else { panic!("no TLS was asked for") };
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Ok(Session(socket))
    }

    /// Delivers bytes.
    pub(crate) fn upload(&self, worker: &Credentials, job_id: &str, ext: &str, bytes: &[u8]) -> Answer {
        let envelope = Envelope::new(&job_id.into(), "the prompt", ext, 1);
        let body = [&envelope.head[..], bytes, &envelope.tail].concat();
        let headers = [
            ("Authorization", &*format!("Bearer {}", worker.token)),
            ("Content-Type", &*envelope.content_type),
        ];
        request(self.address(), "POST", &complete(worker, job_id), &headers, &body)
    }
}

/// Where a job's bytes go; `job_id` is encoded already.
pub(crate) fn complete(worker: &Credentials, job_id: &str) -> String {
    format!("/graphics/api/workers/{}/jobs/{job_id}/complete", worker.worker_id)
}

fn start(data: &Path, listen: &str) -> Running {
    let config = Config {
        listen: listen.parse().unwrap(),
        names: Vec::new(),
        data: data.join("data"),
        options: Options::default(),
    };
    Server::open(config).unwrap().spawn().unwrap()
}

/// What the worker says of itself.
pub(crate) fn capabilities() -> Value {
    json!({
        "machineName": "box", "username": "u", "agentVersion": "1", "engine": "multi", "vramTotalGb": 24,
        "vramThresholdGb": 24, "autoEnabled": true, "autoStart": true, "supportedModels": ["m"],
        "taskKinds": ["image", "llm"], "supportedModelsPerKind": { "image": ["m"], "llm": ["m"] },
        "modelEngines": ["synthetic"],
    })
}

pub(crate) struct Credentials {
    pub(crate) worker_id: String,
    pub(crate) token: String,
}

/// The worker's end of a session.
pub(crate) struct Session(WebSocket<MaybeTlsStream<std::net::TcpStream>>);

impl Session {
    pub(crate) fn send(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).unwrap();
    }

    pub(crate) fn heartbeat(&mut self) {
        self.send(&json!({ "type": "heartbeat", "capabilities": capabilities() }));
    }

    pub(crate) fn send_message(&mut self, message: Message) {
        self.0.send(message).unwrap();
    }

    fn read(&mut self) -> tungstenite::Result<Message> {
        loop {
            match self.0.read() {
                // A read with a time limit is not taken up again by the system when a signal interrupts it.
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// The next frame that is no acknowledgement of a heartbeat.
    pub(crate) fn receive(&mut self) -> Value {
        loop {
            match self.read().unwrap() {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if frame["type"] != "heartbeatAck" {
                        return frame;
                    }
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("a frame was wanted: {other:?}"),
            }
        }
    }

    /// Takes the next offer, and gives back its claim.
    pub(crate) fn accept(&mut self) -> Value {
        let offer = self.receive();
        assert_eq!(offer["type"], "offer", "{offer}");
        self.send(&json!({ "type": "accept", "jobId": offer["claim"]["jobId"] }));
        offer["claim"].clone()
    }

    /// Reads until the close frame, and gives back its code.
    pub(crate) fn closed(&mut self) -> u16 {
        loop {
            match self.read() {
                Ok(Message::Close(Some(frame))) => {
                    let _ = self.0.flush(); // the answer to the close
                    return frame.code.into();
                }
                Ok(_) => {}
                Err(error) => panic!("a close frame was wanted: {error}"),
            }
        }
    }

    pub(crate) fn hang_up(self) {
        drop(self.0);
    }
}
