//! Fuzz body: frames of both directions and generations.

use alloc::{string::String, sync::Arc};

use serde_json::Value;

use crate::{
    drive::HeartbeatText,
    wire::{FrameError, Offer, Secret, StudioFrame, TaskForm, WorkerFrame},
};

/// What a studio says (section 3).
const STUDIO_TYPES: [&str; 6] = ["welcome", "offer", "heartbeatAck", "completeAck", "failAck", "error"];
/// What a worker says (section 3).
const WORKER_TYPES: [&str; 8] =
    ["hello", "heartbeat", "accept", "reject", "completeJson", "fail", "logBatch", "readyForMore"];

/// Reads `data` as a frame of a studio and as one of a worker. Neither may panic. Which JSON is a frame
/// at all is what a naive reader says it is; what was read means the same after it was written and read again,
/// in both spellings of its parameters, and also when a newer peer adds fields to it; no token is in what
/// `Debug` prints; and the heartbeat that the driver writes is the one that the frame has.
///
/// # Panics
/// When it is not so: that is the finding.
pub fn frames(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let naive = Naive::read(text);
    let studio = StudioFrame::parse(text);
    naive.agrees(&STUDIO_TYPES, studio.as_ref().err());
    let worker = WorkerFrame::parse(text);
    naive.agrees(&WORKER_TYPES, worker.as_ref().err());
    if let Some(newer) = naive.with_a_new_field() {
        assert_eq!(StudioFrame::parse(&newer), studio, "a field of a newer studio changes what is read");
        assert_eq!(
            WorkerFrame::parse(&newer).ok(),
            worker.as_ref().ok().cloned(),
            "a field of a newer worker"
        );
    }
    if let Ok(frame) = studio {
        check_studio_frame(&frame);
    }
    if let Ok(frame) = worker {
        check_worker_frame(&frame);
    }
}

fn check_studio_frame(frame: &StudioFrame) {
    for form in [TaskForm::Snake, TaskForm::Camel] {
        let again = StudioFrame::parse(&frame.to_text(form));
        match (frame, again) {
            // What can't be read whole is not written whole either, but it can still be answered.
            (StudioFrame::Offer(Offer::Unreadable { job_id, .. }), Ok(StudioFrame::Offer(again))) => {
                assert_eq!(job_id, again.job_id());
            }
            (frame, again) => assert_eq!(again.as_ref(), Ok(frame), "{form:?}"),
        }
    }
}

fn check_worker_frame(frame: &WorkerFrame) {
    let text = frame.to_text();
    assert_eq!(WorkerFrame::parse(&text).as_ref(), Ok(frame));
    assert_eq!(Naive::read(&text).kind(), Some(frame.name()));
    match frame {
        WorkerFrame::Hello { capabilities, .. } => {
            let other = WorkerFrame::Hello {
                auth_token: Secret::new("another"),
                capabilities: Arc::clone(capabilities),
            };
            assert_eq!(
                alloc::format!("{frame:?}"),
                alloc::format!("{other:?}"),
                "a token is in what is printed"
            );
        }
        WorkerFrame::Heartbeat { capabilities, current_job_id } => {
            let mut heartbeat = HeartbeatText::default();
            for _ in 0..2 {
                assert_eq!(heartbeat.of(capabilities, current_job_id.as_ref()), text);
            }
        }
        _ => {}
    }
}

/// A text as somebody sees it who knows JSON and nothing else.
struct Naive(Result<Value, ()>);

impl Naive {
    fn read(text: &str) -> Self {
        Self(serde_json::from_str(text).map_err(|_| ()))
    }

    fn kind(&self) -> Option<&str> {
        self.0.as_ref().ok()?.as_object()?.get("type")?.as_str()
    }

    /// Whether `error` is what comes of a peer that knows frames of `types`.
    fn agrees(&self, types: &[&str], error: Option<&FrameError>) {
        if self.0.is_err() {
            // A field that is skipped may have in it what no reader of the whole would take: half a character, say.
            return;
        }
        match (self.kind(), error) {
            (None, error) => assert!(matches!(error, Some(FrameError::NotAFrame(_))), "{error:?}"),
            (Some(kind), Some(FrameError::UnknownType(unknown))) => {
                assert_eq!(kind, unknown);
                assert!(!types.contains(&kind), "{kind} is a known type");
            }
            (Some(kind), Some(FrameError::Malformed { frame, .. })) => assert_eq!(kind, *frame),
            (Some(kind), Some(FrameError::OfferWithoutJob)) => assert_eq!(kind, "offer"),
            (Some(kind), Some(FrameError::NotAFrame(why))) => {
                panic!("a frame of type {kind:?} is none: {why}")
            }
            (Some(kind), None) => assert!(types.contains(&kind), "{kind} was read"),
        }
    }

    /// The same with a field that nobody knows yet.
    fn with_a_new_field(&self) -> Option<String> {
        let mut value = self.0.as_ref().ok()?.clone();
        value.as_object_mut()?.insert("ofANewerPeer".into(), serde_json::json!([{ "jobId": 1 }, null]));
        Some(alloc::format!("{value}"))
    }
}
