//! Carries out what the two decide, and lets things arrive.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use percent_encoding::percent_decode_str;
use serde_json::json;

use super::{
    BASE, Link,
    trip::{Lane, Trip},
};
use crate::{
    engine::{EngineError, Output, Payload},
    http::{HttpAnswer, Method},
    sim::multipart,
    studio::{self, Answer, CallId, Step},
    wire::{CloseCode, JobId, WorkerFrame},
    worker::{Action, ConnId, ConnectFailure, Input, SessionEnd, Upload},
};

impl Link {
    pub(super) fn tell_worker(&mut self, input: Input) {
        self.oracle.happened(&input);
        self.worker.handle(self.now, input);
        self.drain_worker();
    }

    pub(super) fn drain_worker(&mut self) {
        let mut actions = Vec::new();
        self.until = self.oracle.drain(&mut self.worker, self.now, |action| actions.push(action));
        for action in actions {
            self.secrecy.check(&action);
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Connect { conn, url, bearer } => self.trips.push(Trip::Connect { conn, url, bearer }),
            Action::SendHeartbeat { conn, capabilities, current_job_id } => {
                self.send_up(conn, &WorkerFrame::Heartbeat { capabilities, current_job_id });
            }
            Action::Send { conn, frame } => self.send_up(conn, &frame),
            Action::Close { conn, .. } => self.trips.push(Trip::UpClose { conn }),
            Action::Drop { conn } => {
                let told = !self.is_lost(&Trip::UpClose { conn });
                self.forget(conn);
                if told {
                    self.tell_studio(studio::Input::Closed { conn: self.theirs(conn) });
                }
            }
            Action::Request { request, http } => self.trips.push(Trip::Request {
                request,
                method: http.method,
                url: http.url,
                bearer: http.bearer,
                body: http.body.map(|body| String::from_utf8_lossy(&body.bytes).into_owned()),
            }),
            Action::Upload { request, upload } => {
                let received = received(&upload);
                let Upload { url, bearer, .. } = upload;
                self.trips.push(Trip::UploadHead { request, url, bearer, upload: received });
            }
            Action::CancelRequest { request } => self.give_up(request),
            Action::DispatchJob { run, claim } => {
                self.runs.push(claim.job_id.clone());
                self.trips.push(Trip::Run { run, claim });
            }
            Action::CancelRun { run } => {
                self.trips.retain(|trip| trip.lane() != Lane::Run(run));
                self.tell_worker(Input::RunEnded { run, outcome: Err(EngineError::transient("cancelled")) });
            }
            Action::Store { store, changes } => {
                self.stores.insert(store, changes);
                self.trips.push(Trip::Store { store });
            }
            Action::Measure { measure, .. } => self.trips.push(Trip::Measure { measure }),
            Action::Exit(exit) => self.exit = Some(exit),
            Action::Discard(_) | Action::RecordRecentJob(_) | Action::Observe(_) | Action::Log(_) => {}
        }
    }

    fn send_up(&mut self, conn: ConnId, frame: &WorkerFrame) {
        let nth = self.sent.entry(conn).or_default();
        *nth += 1;
        self.trips.push(Trip::Up { conn, text: frame.to_text(), nth: *nth });
    }

    pub(super) fn arrive(&mut self, trip: Trip) {
        if self.is_lost(&trip) {
            return;
        }
        match trip {
            Trip::Connect { conn, url, bearer } => {
                let worker_id = url.strip_prefix("ws://studio/graphics/api/workers/");
                let worker_id = decoded(worker_id.and_then(|path| path.strip_suffix("/connect")));
                let call = self.call();
                self.upgrades.insert(call, conn);
                let of = self.theirs(conn);
                self.tell_studio(studio::Input::Upgrade { call, conn: of, worker_id, bearer: Some(bearer) });
            }
            Trip::Upgraded { conn, refusal } => self.tell_worker(match refusal {
                None => Input::Connected { conn },
                Some(answer) => Input::ConnectFailed { conn, failure: ConnectFailure::Refused(answer) },
            }),
            Trip::Up { conn, text, nth } => {
                self.tell_worker(Input::Flushed { conn, upto: nth });
                self.tell_studio(studio::Input::Text { conn: self.theirs(conn), text });
            }
            Trip::UpClose { conn } => {
                self.forget(conn);
                self.tell_studio(studio::Input::Closed { conn: self.theirs(conn) });
                self.tell_closed(conn, CloseCode::NORMAL);
            }
            Trip::Down { conn, text } => self.tell_worker(Input::Text { conn, text }),
            Trip::DownClose { conn, code } => {
                self.forget(conn);
                self.tell_closed(conn, code);
            }
            Trip::Request { request, method, url, bearer, body } => {
                let call = self.call();
                self.waiting.insert(call, request);
                let path = url.strip_prefix(BASE).unwrap_or_default();
                self.tell_studio(match method {
                    Method::Post => {
                        assert_eq!(path, "/workers/register-request");
                        let body = body.unwrap_or_default().into_bytes();
                        studio::Input::Register { call, peer: "127.0.0.1".into(), body }
                    }
                    Method::Get => {
                        let request_id = decoded(path.strip_prefix("/workers/register-requests/"));
                        studio::Input::Poll { call, request_id, bearer }
                    }
                });
            }
            Trip::UploadHead { request, url, bearer, upload } => {
                let call = self.call();
                self.waiting.insert(call, request);
                self.bodies.insert(call, upload);
                let path = url.strip_prefix(BASE).and_then(|path| path.strip_prefix("/workers/"));
                let (worker_id, rest) = path.and_then(|path| path.split_once("/jobs/")).unwrap_or_default();
                let job_id = JobId::from(decoded(rest.strip_suffix("/complete")));
                self.uploads.insert(request, job_id.clone());
                let (worker_id, bearer) = (worker_id.to_owned(), Some(bearer));
                self.tell_studio(studio::Input::UploadBegins { call, worker_id, job_id, bearer });
            }
            Trip::UploadBody { request, call, upload } => {
                self.waiting.insert(call, request);
                self.tell_studio(studio::Input::UploadEnds { call, upload });
            }
            Trip::Answer { request, answer } => {
                self.tell_worker(Input::Answered { request, outcome: Ok(answer) });
            }
            Trip::Run { run, claim } => {
                let outcome = match self.mood.error() {
                    Some(error) => Err(error),
                    None if claim.task.kind().result_is_json() => {
                        Ok(Output::Json(Arc::new(json!({ "job": claim.job_id }))))
                    }
                    None => {
                        let payload = claim.job_id.as_str().as_bytes().to_vec().into();
                        Ok(Output::Bytes { ext: "webp".into(), payload })
                    }
                };
                self.tell_worker(Input::RunEnded { run, outcome });
            }
            Trip::Measure { measure } => {
                if let Some((memory, resident)) = self.meter.reads() {
                    self.tell_worker(Input::Measured { measure, memory, resident });
                }
            }
            Trip::Store { store } => {
                let outcome = if self.disk_is_full { Err("no space left".to_owned()) } else { Ok(()) };
                let changes = self.stores.remove(&store).unwrap_or_default();
                if outcome.is_ok() {
                    for change in changes {
                        match change.value {
                            Some(value) => drop(self.disk.insert(change.key, value.reveal().to_owned())),
                            None => drop(self.disk.remove(&change.key)),
                        }
                    }
                }
                self.tell_worker(Input::Stored { store, outcome });
            }
        }
    }

    fn tell_closed(&mut self, conn: ConnId, code: CloseCode) {
        let end = SessionEnd::Closed { code, reason: String::new() };
        self.tell_worker(Input::Closed { conn, end });
    }

    pub(super) fn tell_studio(&mut self, input: studio::Input) {
        self.studio.handle(self.now, input);
        while let Step::Do(action) = self.studio.next() {
            match action {
                studio::Action::Save(record) => self.save(record),
                studio::Action::Answer { call, answer } => self.answer(call, &answer),
                studio::Action::Send { conn, frame, form } => {
                    if let Some(conn) = self.ours(conn) {
                        self.trips.push(Trip::Down { conn, text: frame.to_text(form) });
                    }
                }
                studio::Action::Close { conn, code, .. } => {
                    if let Some(conn) = self.ours(conn) {
                        self.trips.push(Trip::DownClose { conn, code });
                    }
                }
                studio::Action::StoreLogs { .. }
                | studio::Action::Discard { .. }
                | studio::Action::Log(_) => {}
            }
        }
    }

    fn answer(&mut self, call: CallId, answer: &Answer) {
        if let Some(conn) = self.upgrades.remove(&call) {
            let refusal = (*answer != Answer::Proceed).then(|| http(answer));
            if refusal.is_none() {
                self.open.insert(conn);
            }
            self.trips.push(Trip::Upgraded { conn, refusal });
        } else if let Some(request) = self.waiting.remove(&call) {
            let body = self.bodies.remove(&call);
            self.trips.push(match (answer, body) {
                (Answer::Proceed, Some(upload)) => Trip::UploadBody { request, call, upload },
                (answer, _) => Trip::Answer { request, answer: http(answer) },
            });
        }
    }
}

/// What a server receives of an upload.
fn received(upload: &Upload) -> studio::Upload {
    let Payload::Memory(bytes) = &upload.payload else { panic!("no engine of ours writes files") };
    let body = [&upload.envelope.head, bytes.as_slice(), &upload.envelope.tail].concat();
    let parts = multipart::read(&upload.envelope.content_type, body);
    let text = |name: &str| {
        let part = parts.iter().find(|part| part.name == name);
        part.map(|part| String::from_utf8_lossy(&part.bytes).into_owned()).unwrap_or_default()
    };
    studio::Upload {
        file: text("image"),
        bytes: bytes.len() as u64,
        ext: text("ext"),
        prompt: text("prompt"),
    }
}

/// A segment of a path, or nothing.
fn decoded(segment: Option<&str>) -> String {
    percent_decode_str(segment.unwrap_or_default()).decode_utf8_lossy().into_owned()
}

fn http(answer: &Answer) -> HttpAnswer {
    HttpAnswer {
        status: answer.status(),
        retry_after: answer.retry_after().map(|seconds| seconds.to_string()),
        body: answer.body().to_string().into_bytes(),
        ..HttpAnswer::default()
    }
}
