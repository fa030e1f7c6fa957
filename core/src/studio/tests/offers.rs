//! Section 4: which worker is asked for which job, and section 5: how.

use serde_json::{Value, json};

use super::rig::{Rig, image, llm, new, old};
use crate::{
    studio::NewJob,
    wire::{Finite, ModelSource, TaskForm},
};

fn with(mut capabilities: Value, field: &str, value: Value) -> Value {
    capabilities[field] = value;
    capabilities
}

fn from(engine: &str, job: NewJob) -> NewJob {
    let model_source = Some(ModelSource { engine: engine.into(), ..ModelSource::default() });
    NewJob { model_source, ..job }
}

fn is_offered(capabilities: &Value, job: NewJob) -> bool {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", capabilities);
    rig.queue(job);
    rig.heard(conn).len() == 2
}

#[test]
fn a_0_2_worker_is_asked_by_model_and_kind() {
    assert!(is_offered(&old(), image("flux")));
    assert!(!is_offered(&old(), image("sdxl")));
    assert!(!is_offered(&with(old(), "taskKinds", json!(["llm"])), image("flux")));
    assert!(is_offered(&with(old(), "taskKinds", json!([])), image("flux")), "no kinds: pictures");
    assert!(!is_offered(&with(old(), "taskKinds", json!([])), llm("flux")));
    assert!(!is_offered(&with(old(), "autoEnabled", json!(false)), image("flux")));
}

#[test]
fn a_0_4_worker_is_asked_by_kind_engine_and_memory() {
    assert!(is_offered(&new(), from("sd-cpp", image("any model"))));
    assert!(!is_offered(&new(), from("onnx", image("flux"))), "an engine is never substituted");
    assert!(!is_offered(&with(new(), "taskKinds", json!(["llm"])), from("sd-cpp", image("flux"))));
    assert!(!is_offered(&with(new(), "autoEnabled", json!(false)), from("sd-cpp", image("flux"))));
    let large = |gb: u32| NewJob { vram_gb_estimate: Finite::from(gb), ..from("sd-cpp", image("flux")) };
    assert!(is_offered(&new(), large(12)));
    assert!(!is_offered(&new(), large(13)));
}

#[test]
fn a_job_without_a_source_reaches_a_0_4_worker_too() {
    assert!(is_offered(&new(), image("synthetic-image")), "the engine of that name runs it");
    assert!(!is_offered(&with(new(), "modelEngines", json!(["sd-cpp"])), image("synthetic-image")));
    assert!(is_offered(&new(), image("flux")), "by its models");
    assert!(!is_offered(&new(), image("sdxl")));
}

#[test]
fn a_0_4_worker_is_told_the_source_and_reads_camel_case() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", &new());
    rig.queue(llm("synthetic"));
    assert_eq!(rig.forms(), [TaskForm::Camel]);
    let claim = &rig.sent(conn)[1]["claim"];
    assert_eq!(claim["task"]["maxTokens"], 7);
    assert_eq!(
        claim["modelSource"],
        json!({ "engine": "synthetic", "files": [],
                "cliDefaults": { "cfgScale": 1, "steps": 20, "width": 512, "height": 512 } })
    );
}

#[test]
fn a_0_2_worker_reads_snake_case_and_needs_no_source() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("i", &old());
    rig.queue(llm("synthetic"));
    assert_eq!(rig.forms(), [TaskForm::Snake]);
    let claim = &rig.sent(conn)[1]["claim"];
    assert_eq!((&claim["task"]["max_tokens"], &claim["prompt"]), (&json!(7), &json!("hi")));
    assert!(claim.get("modelSource").is_none());
}

#[test]
fn of_several_the_one_connected_longest_is_asked() {
    let mut rig = Rig::new();
    let (first, _) = (rig.member("first"), rig.member("unused"));
    let (_, second) = rig.worker("second", &old());
    let first = rig.connect(&first, &old());
    let (a, b) = (rig.queue(image("flux")), rig.queue(image("flux")));
    assert_eq!(
        rig.heard(second),
        ["welcome".to_owned(), format!("offer {a}")],
        "let in later, connected earlier"
    );
    assert_eq!(rig.heard(first), ["welcome".to_owned(), format!("offer {b}")]);
}

#[test]
fn jobs_go_out_in_their_order_and_one_that_nobody_serves_holds_up_none() {
    let mut rig = Rig::new();
    let (_nobody, first, second) =
        (rig.queue(image("sdxl")), rig.queue(image("flux")), rig.queue(image("flux")));
    let (_, conn) = rig.worker("a", &old());
    assert_eq!(rig.heard(conn), ["welcome".to_owned(), format!("offer {first}")]);
    rig.about(conn, "accept", &first);
    rig.about(conn, "fail", &first);
    assert_eq!(
        rig.heard(conn),
        ["failAck".to_owned(), format!("offer {first}")],
        "a job that comes back keeps its place before {second}"
    );
}

#[test]
fn a_worker_that_becomes_able_is_asked_at_that_heartbeat() {
    let mut rig = Rig::new();
    let (_, conn) = rig.worker("a", &with(old(), "supportedModels", json!([])));
    let job = rig.queue(image("flux"));
    assert_eq!(rig.heard(conn), ["welcome"]);
    rig.heartbeat(conn, &old());
    assert_eq!(rig.heard(conn), ["heartbeatAck".to_owned(), format!("offer {job}")]);
}
