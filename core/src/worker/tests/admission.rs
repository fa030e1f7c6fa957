//! Section 5: memory is taken at the moment of accepting.

mod pending;

use alloc::{string::String, vec, vec::Vec};

use serde_json::{Value, json};

use super::rig::*;
use crate::{
    machine::Memory,
    wire::{Finite, JobId, TaskKind},
    worker::{Action, Command, Input, MeasureId, Observation, Options, Settings, states::SessionState},
};

const GIB: u64 = 1 << 30;

fn measuring() -> Settings {
    Settings { measured_engines: vec!["synthetic".into()], ..settings(registered()) }
}

/// A serving worker of an engine that loads models here.
fn serving() -> Rig {
    let mut rig = Rig::new(measuring());
    rig.open();
    rig.seen.clear();
    rig
}

fn of_gb(job: &str, gb: f64) -> Value {
    let mut offer = image(job);
    offer["claim"]["vramGbEstimate"] = json!(gb);
    offer
}

/// A job whose weights of 8 GiB stay in the host's memory.
fn offloaded(job: &str) -> Value {
    let mut offer = image(job);
    offer["claim"]["modelSource"] = json!({
        "engine": "synthetic",
        "files": [{ "role": "model", "approxBytes": 8 * GIB }],
        "cliDefaults": { "offloadToCpu": true },
    });
    offer
}

fn gpu(gib: u64) -> Memory {
    Memory { gpu_total: Some(24 * GIB), gpu_free: Some(gib * GIB), host_available: None }
}

fn host(gib: u64) -> Memory {
    Memory { host_available: Some(gib * GIB), ..Memory::default() }
}

impl Rig {
    /// The newest measurement, and whether it is for an offer.
    fn measure(&self) -> (MeasureId, bool) {
        let newest = self.history.iter().rev().find_map(|action| match action {
            Action::Measure { measure, claim } => Some((*measure, claim.is_some())),
            _ => None,
        });
        newest.expect("nothing was measured")
    }

    fn measures(&self) -> usize {
        self.history.iter().filter(|action| matches!(action, Action::Measure { .. })).count()
    }

    fn measured(&mut self, memory: Memory) {
        let (measure, _) = self.measure();
        self.input(Input::Measured { measure, memory, resident: false });
    }

    /// Offers a job, measures, and says how that was answered.
    fn admit(&mut self, offer: &Value, memory: Memory) -> String {
        assert_eq!(self.answer_to(offer), "nothing");
        self.measured(memory);
        self.answers().pop().map_or_else(|| "nothing".into(), |(answer, _)| answer)
    }

    /// What observers saw of the threshold, and what heartbeats said, in their order.
    fn thresholds(&mut self) -> (Vec<Finite>, Vec<Finite>) {
        let mut seen = (vec![], vec![]);
        for action in core::mem::take(&mut self.seen) {
            match action {
                Action::Observe(Observation::Threshold(gb)) => seen.0.push(gb),
                Action::SendHeartbeat { capabilities, .. } => seen.1.push(capabilities.vram_threshold_gb),
                _ => {}
            }
        }
        seen
    }

    fn advertised(&self) -> f64 {
        self.worker.capabilities().vram_threshold_gb.get()
    }
}

#[test]
fn a_job_is_accepted_when_it_was_measured_and_fits() {
    let mut rig = serving();
    assert_eq!(rig.admit(&of_gb("j-1", 7.0), gpu(8)), "accept");
    assert_eq!(rig.runs_of("j-1"), 1);
    // Its offer is answered: what is measured too late is nobody's.
    rig.measured(gpu(0));
    assert_eq!((rig.worker.counters().stale_inputs, rig.runs_of("j-1")), (1, 1));
}

#[test]
fn what_is_not_of_a_measured_engine_is_not_measured() {
    let mut rig = Rig::new(Settings { measured_engines: vec!["sd-cpp".into()], ..settings(registered()) });
    rig.open();
    assert_eq!(rig.answer_to(&image("j-1")), "accept");
    assert_eq!(rig.measures(), 0);
}

#[test]
fn what_is_declined_anyway_is_not_measured() {
    let mut rig = serving();
    let mut unknown = image("j-1");
    unknown["claim"]["model"] = json!("flux1-dev");
    assert_eq!(rig.answer_to(&unknown), "reject");
    assert_eq!(rig.answer_to(&of_gb("j-1", 12.5)), "reject insufficient_memory");
    rig.command(Command::Pause);
    assert_eq!(rig.answer_to(&image("j-1")), "reject paused");
    rig.command(Command::Resume);
    let invalid = offer("j-1", json!({ "kind": "image", "prompt": "a cat", "width": 0 }));
    assert_eq!(rig.answer_to(&invalid), "accept", "and failed");
    assert_eq!(rig.measures(), 0);
}

#[test]
fn what_cannot_be_measured_is_admitted() {
    let mut rig = serving();
    assert_eq!(rig.admit(&of_gb("j-1", 12.0), Memory::default()), "accept");
}

#[test]
fn what_is_not_measured_within_5_s_is_admitted() {
    let mut rig = serving();
    assert_eq!(rig.answer_to(&image("j-1")), "nothing");
    rig.pass(core::time::Duration::from_micros(4_999_999));
    assert!(rig.answers().is_empty());
    rig.pass(core::time::Duration::from_micros(1));
    assert_eq!(rig.answers(), [("accept".into(), "j-1".into())]);
    assert!(rig.logged("not measured within 5 s"));
    rig.measured(gpu(0));
    assert_eq!(rig.worker.counters().stale_inputs, 1);
}

#[test]
fn a_model_that_is_loaded_already_needs_nothing_more() {
    let mut rig = serving();
    rig.frame(&of_gb("j-1", 12.0));
    let (measure, for_offer) = rig.measure();
    assert!(for_offer);
    rig.input(Input::Measured { measure, memory: gpu(0), resident: true });
    assert_eq!(rig.answers(), [("accept".into(), "j-1".into())]);
}

#[test]
fn a_refusal_names_need_and_free_and_lowers_the_advertised_threshold_first() {
    let mut rig = serving();
    rig.frame(&of_gb("j-1", 7.5));
    rig.seen.clear();
    rig.measured(gpu(8));
    let frames = rig.frames();
    assert_eq!(
        (&frames[0]["type"], frames[0].get("currentJobId")),
        (&json!("heartbeat"), Some(&json!(null)))
    );
    let reject = json!({
        "type": "reject", "jobId": "j-1", "code": "insufficient_memory",
        "reason": "the job needs 8.5 GiB of GPU memory, 8.0 GiB are free",
    });
    assert_eq!(frames[1..], [reject]);
    assert!(rig.advertised() < 7.5 && rig.advertised() > 7.4);
    let seen = rig.history.iter().rev().find_map(|action| match action {
        Action::Observe(Observation::Session(status)) => Some(status.vram_threshold_gb),
        _ => None,
    });
    assert_eq!(seen, Some(rig.worker.capabilities().vram_threshold_gb));
}

#[test]
fn the_owners_threshold_counts_again_after_5_minutes() {
    let mut rig = serving();
    rig.admit(&of_gb("j-1", 8.0), gpu(1));
    rig.seen.clear();
    rig.pass_with(secs(299), gpu(1));
    assert!(rig.advertised() < 8.0);
    rig.seen.clear();
    rig.pass_with(secs(1), gpu(1));
    let (observed, said) = rig.thresholds();
    assert_eq!((observed, said.last()), (vec![Finite::from(12)], Some(&Finite::from(12))));
    let before = rig.measures();
    rig.pass(secs(120));
    assert_eq!(rig.measures(), before, "nobody looks any more");
}

impl Rig {
    /// Lets time pass while whatever is measured finds this.
    fn pass_with(&mut self, span: core::time::Duration, memory: Memory) {
        let end = self.now.mono + span;
        while self.now.mono < end {
            let measures = self.measures();
            let step = end.since(self.now.mono).min(secs(1));
            self.pass(step);
            if self.measures() > measures {
                self.measured(memory);
            }
        }
    }
}

#[test]
fn while_it_is_lowered_somebody_looks_every_30_s_and_raises_it_when_there_is_room() {
    let mut rig = serving();
    rig.admit(&of_gb("j-1", 8.0), gpu(1));
    rig.pass(secs(29));
    assert_eq!(rig.measures(), 1);
    rig.pass(secs(1));
    assert_eq!((rig.measures(), rig.measure().1), (2, false));
    // Not enough for the job that was refused, nor is what can't be measured.
    for memory in [gpu(8), Memory::default()] {
        rig.measured(memory);
        assert!(rig.advertised() < 8.0);
        rig.pass(secs(30));
    }
    rig.seen.clear();
    rig.measured(gpu(9));
    assert_eq!(rig.thresholds(), (vec![Finite::from(12)], vec![Finite::from(12)]));
    rig.pass(secs(300));
    assert_eq!(rig.measures(), 4);
}

#[test]
fn an_offer_above_the_lowered_threshold_is_measured_and_may_fit() {
    let mut rig = serving();
    rig.admit(&of_gb("j-1", 8.0), gpu(1));
    // A studio that doesn't look at thresholds (0.2) offers it again.
    assert_eq!(rig.admit(&of_gb("j-2", 4.0), gpu(1)), "reject insufficient_memory");
    assert!(rig.advertised() < 4.0);
    assert_eq!(rig.admit(&of_gb("j-1", 8.0), gpu(1)), "reject insufficient_memory");
    assert!(rig.advertised() < 4.0, "it stays where the smaller one brought it");
    assert_eq!(rig.admit(&of_gb("j-1", 8.0), gpu(9)), "accept");
    assert!((rig.advertised() - 12.0).abs() < 1e-9, "there is room again");
}

#[test]
fn the_owners_threshold_is_never_raised() {
    let mut rig = serving();
    rig.admit(&of_gb("j-1", 8.0), gpu(1));
    rig.command(Command::SetThreshold(3.0));
    assert!((rig.advertised() - 3.0).abs() < 1e-9);
    rig.pass_with(secs(30), gpu(24));
    assert!((rig.advertised() - 3.0).abs() < 1e-9);
    rig.command(Command::SetThreshold(10.0));
    assert!((rig.advertised() - 10.0).abs() < 1e-9);
}

#[test]
fn a_threshold_that_the_owner_raises_waits_for_the_memory() {
    let mut rig = serving();
    rig.admit(&of_gb("j-1", 8.0), gpu(1));
    rig.command(Command::SetThreshold(20.0));
    assert!(rig.advertised() < 8.0 && rig.logged("jobs up to 20 GB are taken, 7.99 GB for now"));
    rig.pass_with(secs(30), gpu(24));
    assert!((rig.advertised() - 20.0).abs() < 1e-9);
}

#[test]
fn the_third_refusal_of_a_job_for_host_memory_sends_it_elsewhere() {
    let mut rig = serving();
    for (job, answer) in [
        ("j-1", "reject insufficient_memory"),
        ("j-1", "reject insufficient_memory"),
        ("j-2", "reject insufficient_memory"),
        ("j-1", "reject"),
        ("j-1", "reject"),
        ("j-2", "reject insufficient_memory"),
    ] {
        assert_eq!(rig.admit(&offloaded(job), host(11)), answer, "{job}");
        rig.reopen();
    }
    assert!((rig.advertised() - 12.0).abs() < 1e-9, "it says nothing of the GPU");
    assert!(rig.logged("the job needs 12.0 GiB of the host's memory, 11.0 GiB are free"));
    assert_eq!(rig.admit(&offloaded("j-1"), host(12)), "accept");
}

#[test]
fn jobs_beyond_the_last_32_are_counted_anew() {
    let mut rig = serving();
    rig.admit(&offloaded("j-0"), host(1));
    rig.admit(&offloaded("j-0"), host(1));
    for n in 1..=32 {
        rig.admit(&offloaded(&alloc::format!("j-{n}")), host(1));
    }
    assert_eq!(rig.admit(&offloaded("j-0"), host(1)), "reject insufficient_memory");
}

#[test]
fn what_the_card_has_is_said_where_the_program_does_not_know_it() {
    let mut rig = serving();
    rig.frame(&image("j-1"));
    rig.seen.clear();
    rig.measured(gpu(1));
    assert_eq!(rig.worker.capabilities().vram_total_gb, Finite::from(24));
    assert!(rig.frames().iter().any(|frame| frame["type"] == "heartbeat"));
    let mut known = measuring();
    known.capabilities.vram_total_gb = Finite::from(16);
    let mut rig = Rig::with(Options::new(known, "studio-worker/1.0.0"));
    rig.open();
    rig.frame(&image("j-1"));
    rig.measured(gpu(24));
    assert_eq!(rig.worker.capabilities().vram_total_gb, Finite::from(16));
}

#[test]
fn looks_go_on_over_a_reconnect_and_end_with_the_worker() {
    let mut rig = serving();
    rig.admit(&of_gb("j-1", 8.0), gpu(1));
    rig.break_connection();
    rig.pass_in_silence(secs(31));
    assert_eq!(rig.measures(), 2);
    rig.measured(gpu(24));
    assert!((rig.advertised() - 12.0).abs() < 1e-9);
    rig.command(Command::Stop);
    while rig.exit().is_none() {
        rig.next_timer();
    }
    assert_eq!(rig.worker.state(), SessionState::Ended);
}

#[test]
fn fingerprints_know_what_waits() {
    let mut plain = serving();
    let mut waits = serving();
    assert_eq!(plain.worker.fingerprint(), waits.worker.fingerprint());
    plain.frame(&image("j-1"));
    plain.measured(gpu(24));
    waits.frame(&image("j-1"));
    assert_ne!(plain.worker.fingerprint(), waits.worker.fingerprint());
    assert_eq!(waits.worker.jobs().count(), 0);
    assert_eq!(plain.worker.jobs().map(|(job, _)| job.clone()).collect::<Vec<JobId>>(), ["j-1".into()]);
}
