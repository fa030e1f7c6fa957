//! What a meter hears of a driven worker.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::json;

use super::{engine, offer, options, registered, secs, text, world::*};
use crate::{
    drive::{MemoryStore, Meter, start},
    time::{Mono, Now},
    wire::LogLevel,
    worker::{Action, Input, LogLine, Worker},
};

#[derive(Default)]
struct Heard(Mutex<Counts>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts {
    connects: u32,
    runs: u32,
    recorded: u32,
    heard: usize,
    frames: u32,
    sent: usize,
    uploaded: u64,
    dropped: u64,
    sessions: u64,
    rests_until: Mono,
}

impl Heard {
    fn counts(&self) -> Counts {
        self.0.lock().unwrap().clone()
    }
}

impl Meter for Heard {
    fn told(&self, _: Now, input: &Input) {
        if let Input::Text { text, .. } = input {
            self.0.lock().unwrap().heard += text.len();
        }
    }

    fn decided(&self, _: Now, action: &Action) {
        let mut counts = self.0.lock().unwrap();
        match action {
            Action::Connect { .. } => counts.connects += 1,
            Action::DispatchJob { .. } => counts.runs += 1,
            Action::RecordRecentJob(_) => counts.recorded += 1,
            _ => {}
        }
    }

    fn rests(&self, now: Now, until: Mono, worker: &Worker) {
        assert!(until > now.mono);
        let mut counts = self.0.lock().unwrap();
        (counts.sessions, counts.rests_until) = (worker.counters().sessions, until);
    }

    fn sent_frame(&self, bytes: usize) {
        let mut counts = self.0.lock().unwrap();
        (counts.frames, counts.sent) = (counts.frames + 1, counts.sent + bytes);
    }

    fn dropped_lines(&self, lines: u64) {
        self.0.lock().unwrap().dropped += lines;
    }

    fn uploaded(&self, bytes: u64) {
        self.0.lock().unwrap().uploaded += bytes;
    }
}

#[test]
fn a_meter_hears_of_all_that_happens_from_the_first_attempt_to_connect_on() {
    let world = World::new(Timers::Exact);
    let store = Arc::new(MemoryStore::new());
    let (handle, driving) = start(world.clone(), options(registered()), engine(1_000), store, [7; 32]);
    let (meter, late) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
    handle.metered_by(Arc::clone(&meter) as _);
    handle.metered_by(Arc::clone(&late) as _);
    // More than the loop has room for.
    for _ in 0..1_007 {
        handle.log(LogLine {
            level: LogLevel::Info,
            category: "t".into(),
            message: "m".into(),
            job_id: None,
        });
    }
    let mut driven = Driven::new(&world, driving);
    assert!(driven.pass(secs(1)).is_pending());
    assert_eq!((meter.counts().connects, meter.counts().dropped), (1, 7));
    let mut said = 0;
    for frame in [
        json!({ "type": "welcome", "workerId": "w-1", "serverTime": "" }),
        offer("j-1", "llm"),
        json!({ "type": "completeAck", "jobId": "j-1" }),
        offer("j-2", "image"),
    ] {
        said += frame.to_string().len();
        world.says(text(&frame));
        assert!(driven.pass(secs(2)).is_pending());
    }
    let upload = world.state().uploads[0].clone();
    for bytes in [700, 1, 299] {
        upload.advance(bytes);
        assert!(driven.pass(secs(1)).is_pending());
    }
    let counts = meter.counts();
    assert_eq!((counts.sessions, counts.runs, counts.recorded), (1, 2, 1));
    assert_eq!(counts.heard, said);
    let texts = world.texts();
    assert_eq!((counts.frames as usize, counts.sent), (texts.len(), texts.iter().map(String::len).sum()));
    assert_eq!(counts.uploaded, 1_000);
    assert!(counts.rests_until.since(Mono::ZERO) < Duration::from_secs(60));
    assert_eq!(late.counts(), Counts::default(), "the first one counts");
}
