//! The operations of the core that are measured, each with the state that it begins in.

use studio_worker_core::worker::HEARTBEAT_INTERVAL;

use super::{
    offers,
    quiet::Quiet,
    rig::{ACK, Rig, WELCOME},
};

/// Something to measure.
pub(crate) struct Operation {
    /// What it is: group, case, and who does it.
    pub(crate) name: String,
    /// What is done.
    pub(crate) work: Work,
}

/// What is done.
pub(crate) enum Work {
    /// `serde_json` alone reads the text: the yardstick of the operation after it.
    Read(String),
    /// A worker in this state is told the text, and what it decides is taken from it. Each time anew.
    Hear(Box<Rig>, String),
    /// Something that ends where it began: what is called again and again.
    Again(fn() -> Box<dyn FnMut()>),
}

/// All operations.
pub(crate) fn all() -> Vec<Operation> {
    let mut all = Vec::new();
    let mut add = |name: String, work| all.push(Operation { name, work });
    let serving = Rig::serving();
    for offers::Case { name, text } in offers::all() {
        add(format!("offer/{name}/serde_json alone"), Work::Read(text.clone()));
        add(format!("offer/{name}/worker"), Work::Hear(Box::new(serving.clone()), text));
    }
    for (name, rig, text) in frames(serving) {
        add(format!("frame/{name}/worker"), Work::Hear(Box::new(rig), text));
    }
    add("heartbeat and its acknowledgement/worker".into(), Work::Again(heartbeat));
    add("heartbeat and its acknowledgement/driven, with its text".into(), Work::Again(driven_heartbeat));
    add("job from offer to acknowledgement/worker".into(), Work::Again(delivery));
    add("job from offer to acknowledgement/driven, with its texts".into(), Work::Again(driven_delivery));
    all
}

/// The frames beside offers, with a worker in the state that each is for.
fn frames(serving: Rig) -> Vec<(&'static str, Rig, String)> {
    let mut completed = serving.clone();
    completed.hear(offers::job(1));
    completed.flushed();
    let mut failed = completed.clone();
    completed.answers();
    failed.fails();
    let error = r#"{"type":"error","code":"internal_error","message":"the database is being moved"}"#;
    let unknown = r#"{"type":"moonPhase","phase":0.25,"names":["waxing","crescent"]}"#;
    vec![
        ("welcome", Rig::greeting(), WELCOME.into()),
        ("heartbeatAck", serving.clone(), ACK.into()),
        ("completeAck", completed, offers::ack("completeAck", 1)),
        ("failAck", failed, offers::ack("failAck", 1)),
        ("error", serving.clone(), error.into()),
        ("unknown", serving, unknown.into()),
    ]
}

fn heartbeat() -> Box<dyn FnMut()> {
    let mut rig = Rig::serving();
    Box::new(move || {
        rig.pass(HEARTBEAT_INTERVAL);
        rig.hear(ACK.into());
    })
}

fn driven_heartbeat() -> Box<dyn FnMut()> {
    let mut quiet = Quiet::serving();
    Box::new(move || {
        quiet.pass(HEARTBEAT_INTERVAL);
        quiet.hear(ACK.into());
    })
}

fn delivery() -> Box<dyn FnMut()> {
    let mut rig = Rig::serving();
    let (offer, ack) = (offers::job(1), offers::ack("completeAck", 1));
    Box::new(move || rig.job(&offer, &ack))
}

fn driven_delivery() -> Box<dyn FnMut()> {
    let mut quiet = Quiet::serving();
    let (offer, ack) = (offers::job(1), offers::ack("completeAck", 1));
    Box::new(move || quiet.job(&offer, &ack))
}
