//! Servers that are kept between jobs, files that programs make, and downloads that are seen.

#![allow(clippy::disallowed_methods, reason = "a download of a test goes to a real folder")]

use std::collections::VecDeque;

use super::{
    machine::{died, server},
    *,
};
use crate::{
    engine::{Effect, Happened, Payload, Recipe},
    http::Reach,
    machine::{FileHad, FileWanted, Keep, Made, Origin, Process, Program, ProgramFailure, Ran, Source},
    worker::{JobProgress, Moves},
};

/// What a job of a test is to do, one after the other.
#[derive(Clone)]
enum Wish {
    /// Wants the server that is called so.
    Serve(&'static str),
    /// Ends the server.
    Dismiss,
    /// Runs a program that makes a file.
    Make,
    /// Runs one that wants the memory.
    Heavy,
    Have(FileWanted),
    Pause(u64),
    /// Waits for the engine's thread.
    Compute,
    Panic,
    /// Ends with the file that was made last.
    Result,
    Fail,
}

use Wish::{Compute, Dismiss, Fail, Have, Heavy, Make, Panic, Pause, Result as Made_, Serve};

/// Plays a list of wishes for each job, and writes down what came of them.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    jobs: VecDeque<Vec<Wish>>,
    seen: Vec<String>,
}

/// How long a server of these tests may idle.
const IDLE: Duration = Duration::from_secs(300);

impl Scripted {
    fn job(&self, wishes: &[Wish]) {
        self.0.lock().unwrap().jobs.push_back(wishes.to_vec());
    }

    /// What recipes saw since the last look.
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().seen)
    }
}

impl Engine for Scripted {
    fn name(&self) -> &'static str {
        "synthetic"
    }

    fn services(&self) -> Vec<Service> {
        let models = Models::Listed(vec!["synthetic".into(), "other".into()]);
        let of = |kind| Service { kind, engine: "synthetic".into(), models: models.clone() };
        TaskKind::ALL.into_iter().map(of).collect()
    }

    fn loads_model(&self, claim: &Claim) -> bool {
        match claim.task.kind() {
            TaskKind::AudioTts => panic!("no idea"),
            kind => kind == TaskKind::Llm,
        }
    }

    fn recipe(&self, _: &Arc<Claim>) -> Box<dyn Recipe> {
        let wishes = self.0.lock().unwrap().jobs.pop_front().unwrap().into();
        Box::new(Playing { script: self.clone(), wishes, made: None })
    }
}

struct Playing {
    script: Scripted,
    wishes: VecDeque<Wish>,
    made: Option<crate::engine::SpilledFile>,
}

impl Recipe for Playing {
    fn next(&mut self, happened: Happened) -> Effect {
        let seen = match happened {
            Happened::Serving(Ok(serving)) => Some(serving.base),
            Happened::Serving(Err(ProgramFailure::Ended { ended, .. })) => {
                assert_eq!(ended, died());
                Some("ended".into())
            }
            Happened::Dismissed => Some("gone".into()),
            Happened::Serving(Err(failure)) => Some(failure.to_string()),
            Happened::Had(Ok(FileHad { bytes, .. })) => Some(format!("{bytes} bytes")),
            Happened::Had(Err(error)) => Some(error.message),
            Happened::Ran(Ok(Ran { made: Some(Made::File { file, .. }), .. })) => {
                self.made = Some(file);
                None
            }
            _ => None,
        };
        self.script.0.lock().unwrap().seen.extend(seen);
        match self.wishes.pop_front() {
            Some(Serve(name)) => Effect::Serve(server(name, IDLE)),
            Some(Dismiss) => Effect::Dismiss,
            Some(Make) => Effect::Run(process("make", false)),
            Some(Heavy) => Effect::Run(process("heavy", true)),
            Some(Have(file)) => Effect::Have(file),
            Some(Pause(seconds)) => Effect::Pause(secs(seconds)),
            Some(Compute) => Effect::Compute(Box::new(|| Ok(Output::Json(Arc::new(json!({})))))),
            Some(Panic) => panic!("no idea"),
            Some(Made_) => {
                let payload = Payload::File(self.made.take().unwrap());
                Effect::Done(Ok(Output::Bytes { ext: "webp".into(), payload }))
            }
            Some(Fail) => Effect::Done(Err(EngineError::permanent("it can't be done"))),
            None => Effect::Done(Ok(Output::Json(Arc::new(json!({}))))),
        }
    }
}

fn process(program: &str, wants_memory: bool) -> Process {
    Process {
        program: Program { program: program.into(), ..Program::default() },
        inputs: Vec::new(),
        stdin: Vec::new(),
        source: Source::Stdout,
        keep: Keep::File,
        limit: 1 << 20,
        wants_memory,
    }
}

/// A worker of this engine, and a studio that answers as it should.
struct Working<F> {
    world: World,
    script: Scripted,
    handle: WorkerHandle,
    driven: Driven<F>,
    /// How many frames the studio has read.
    read: usize,
}

fn working(measured: bool) -> Working<impl Future<Output = Exit> + use<>> {
    let world = World::new(Timers::Exact);
    let script = Scripted::default();
    let mut options = options(registered());
    options.settings.measured_engines.extend(measured.then(|| "synthetic".into()));
    let (handle, driven) = serving_as(&world, options, Arc::new(script.clone()));
    Working { world, script, handle, driven, read: 0 }
}

impl<F: Future<Output = Exit>> Working<F> {
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let frames = self.world.texts();
            for frame in &frames[self.read..] {
                let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
                let answer = match frame["type"].as_str() {
                    Some("heartbeat") => json!({ "type": "heartbeatAck" }),
                    Some("completeJson") => json!({ "type": "completeAck", "jobId": frame["jobId"] }),
                    Some("fail") => json!({ "type": "failAck", "jobId": frame["jobId"] }),
                    _ => continue,
                };
                self.world.says(text(&answer));
            }
            self.read = frames.len();
            assert!(self.driven.pass(secs(1)).is_pending());
        }
    }

    /// Offers a job that is to do this, and gives it a second.
    fn job(&mut self, frame: &serde_json::Value, wishes: &[Wish]) {
        self.script.job(wishes);
        self.world.says(text(frame));
        self.pass(1);
    }

    /// The same for a job whose kind is of no interest.
    fn llm(&mut self, job: &str, wishes: &[Wish]) {
        self.job(&offer(job, "llm"), wishes);
    }

    /// What the machine was told since the last look.
    fn news(&self) -> Vec<String> {
        self.world.state().machine.news()
    }

    fn seen(&self) -> Vec<String> {
        self.script.seen()
    }

    fn servers_die(&self) {
        self.world.change(|state| state.machine.servers_die());
    }

    fn said(&self, kind: &str) -> bool {
        types(&self.world.texts()).iter().any(|said| said == kind)
    }
}

fn of_model(job: &str, model: &str) -> serde_json::Value {
    let mut frame = offer(job, "llm");
    frame["claim"]["model"] = json!(model);
    frame
}

#[test]
fn a_server_is_kept_for_the_next_job_and_stopped_for_another() {
    let mut rig = working(false);
    rig.llm("j-1", &[Serve("a"), Serve("a")]);
    assert_eq!((rig.news(), rig.seen()), (vec!["launch a".into()], vec![at(1), at(1)]));
    rig.pass(100);
    rig.llm("j-2", &[Serve("a")]);
    assert_eq!((rig.news(), rig.seen()), (vec![], vec![at(1)]));
    rig.llm("j-3", &[Serve("b"), Serve("b")]);
    assert_eq!((rig.news(), rig.seen()), (vec!["stop a".into(), "launch b".into()], vec![at(2), at(2)]));
    drop(rig.driven);
    assert_eq!(rig.world.state().machine.news(), ["kill b"], "none outlives its worker");
}

#[test]
fn a_server_whose_files_are_others_by_now_is_another_server() {
    let mut rig = working(false);
    rig.llm("j-1", &[Serve("a#old")]);
    rig.llm("j-2", &[Serve("a#new")]);
    assert_eq!(rig.news(), ["launch a", "stop a", "launch a"]);
    assert_eq!(rig.seen(), [at(1), at(2)]);
}

/// Where the n-th server listens.
fn at(nth: usize) -> String {
    format!("http://127.0.0.1:{nth}")
}

#[test]
fn the_old_server_is_gone_before_another_begins() {
    let mut rig = working(false);
    rig.llm("j-1", &[Serve("a")]);
    rig.world.state().machine.stubborn = true;
    rig.llm("j-2", &[Serve("b")]);
    rig.pass(5);
    assert_eq!(rig.news(), ["launch a", "stop a"]);
    rig.servers_die();
    rig.pass(1);
    assert_eq!((rig.news(), rig.seen()), (vec!["a dies".into(), "launch b".into()], vec![at(1), at(2)]));
}

#[test]
fn a_server_that_ends_during_a_run_is_reported_once() {
    let mut rig = working(false);
    rig.llm("j-1", &[Serve("a"), Pause(10), Serve("a"), Serve("a")]);
    rig.servers_die();
    rig.pass(10);
    assert_eq!(rig.news(), ["launch a", "a dies", "launch a"]);
    assert_eq!(rig.seen(), [at(1), "ended".into(), at(2)]);
}

#[test]
fn a_server_that_hangs_can_be_dismissed_and_is_gone_before_the_run_goes_on() {
    let mut rig = working(false);
    rig.world.state().machine.stubborn = true;
    rig.llm("j-1", &[Serve("a"), Dismiss, Dismiss]);
    assert_eq!((rig.news(), rig.seen()), (vec!["launch a".into(), "stop a".into()], vec![at(1)]));
    rig.servers_die();
    rig.pass(1);
    assert_eq!(rig.seen(), ["gone", "gone"], "also when there is none");
    rig.llm("j-2", &[Serve("a")]);
    assert_eq!((rig.news(), rig.seen()), (vec!["a dies".into(), "launch a".into()], vec![at(2)]));
}

#[test]
fn a_server_that_died_idle_is_launched_anew_without_a_word() {
    let mut rig = working(false);
    for (job, nth) in [("j-1", 1), ("j-2", 2), ("j-3", 3)] {
        rig.llm(job, &[Serve("a")]);
        assert_eq!(rig.seen(), [at(nth)]);
        rig.servers_die();
    }
    assert_eq!(rig.news(), ["launch a", "a dies", "launch a", "a dies", "launch a", "a dies"]);
}

#[test]
fn a_server_that_cannot_be_launched_is_tried_again_when_it_is_wanted_again() {
    let mut rig = working(false);
    rig.world.state().machine.unlaunchable = true;
    rig.llm("j-1", &[Serve("a"), Pause(5), Serve("a")]);
    rig.world.state().machine.unlaunchable = false;
    rig.pass(5);
    assert_eq!(rig.seen(), ["the program a is not there".to_owned(), at(1)]);
}

#[test]
fn a_server_without_a_job_is_stopped_after_its_time() {
    let mut rig = working(false);
    rig.llm("j-1", &[Serve("a"), Pause(400)]);
    rig.pass(400);
    assert_eq!(rig.news(), ["launch a"], "a job uses it");
    rig.pass(IDLE.as_secs() - 10);
    rig.llm("j-2", &[]);
    rig.pass(IDLE.as_secs() - 2);
    assert_eq!(rig.news(), Vec::<String>::new(), "also one that does not ask for it counts");
    rig.pass(2);
    assert_eq!(rig.news(), ["stop a"]);
    rig.llm("j-3", &[Serve("a")]);
    assert_eq!(rig.seen(), [at(1), at(2)]);
}

#[test]
fn a_server_that_a_cancelled_run_uses_goes_with_it_and_another_one_idles() {
    let mut rig = working(false);
    rig.llm("j-1", &[Serve("a")]);
    rig.llm("j-2", &[Pause(100_000)]);
    rig.pass(1_800);
    assert!(rig.said("fail"), "it passed its time limit");
    assert_eq!(rig.news(), ["launch a"]);
    rig.pass(IDLE.as_secs());
    assert_eq!(rig.news(), ["stop a"]);
    rig.llm("j-3", &[Serve("a"), Pause(100_000)]);
    rig.pass(1_800);
    assert_eq!(rig.news(), ["launch a", "kill a"], "it may be what hangs");
}

#[test]
fn a_program_that_wants_the_memory_ends_the_server_first() {
    let mut rig = working(false);
    rig.llm("j-1", &[Serve("a")]);
    rig.world.state().machine.stubborn = true;
    rig.llm("j-2", &[Make, Heavy]);
    assert_eq!(rig.news(), ["launch a", "run make", "stop a"]);
    rig.servers_die();
    rig.pass(1);
    assert_eq!(rig.news(), ["a dies", "run heavy"]);
    rig.llm("j-3", &[Serve("a")]);
    assert_eq!(rig.seen(), [at(1), at(2)], "nobody took its end for a failure");
}

#[test]
fn files_that_are_no_result_are_deleted() {
    for (wishes, kind, left) in [
        (&[Make, Make, Made_][..], "image", &["made-2"][..]),
        (&[Make, Make], "llm", &[]),
        (&[Make, Fail], "llm", &[]),
        (&[Make, Panic], "llm", &[]),
    ] {
        let mut rig = working(false);
        rig.job(&offer("j-1", kind), wishes);
        let files: Vec<_> = rig.world.state().files.iter().map(ToString::to_string).collect();
        assert_eq!(files, left);
        assert_eq!(rig.world.state().uploads.len(), left.len());
    }
}

#[test]
fn files_of_a_run_that_is_cancelled_are_deleted() {
    // Where it waits for a program, and where it computes.
    for last in [Pause(100_000), Heavy, Compute] {
        let mut rig = working(false);
        rig.llm("j-1", &[Make, Pause(5), last]);
        assert_eq!(rig.world.state().files.len(), 1);
        rig.world.change(|state| (state.machine.busy, state.thread_busy) = (true, true));
        rig.pass(10);
        rig.handle.stop();
        rig.world.change(|state| state.incoming.push_back(None));
        assert!(rig.driven.pass(secs(5)).is_ready());
        assert!(rig.world.state().files.is_empty(), "its file is left behind");
    }
}

#[test]
fn a_measurement_makes_room_by_ending_a_server_with_another_model() {
    let mut rig = working(true);
    rig.llm("j-1", &[Serve("a")]);
    assert_eq!(rig.news(), ["measure", "launch a"]);
    rig.llm("j-2", &[Serve("a")]);
    assert_eq!(rig.news(), ["measure"], "its model is loaded");
    rig.world.state().machine.stubborn = true;
    rig.job(&of_model("j-3", "other"), &[Serve("b")]);
    assert_eq!(rig.news(), ["stop a"]);
    rig.servers_die();
    rig.pass(1);
    assert_eq!(rig.news(), ["a dies", "measure", "launch b"]);
    assert_eq!(rig.seen(), [at(1), at(1), at(2)]);
}

#[test]
fn a_job_that_loads_nothing_leaves_the_server_alone() {
    let mut rig = working(true);
    rig.llm("j-1", &[Serve("a")]);
    rig.job(&offer("j-2", "image"), &[Make, Made_]);
    assert_eq!(rig.news(), ["measure", "launch a", "run make"]);
}

#[test]
fn a_job_of_an_engine_that_does_not_know_whether_it_loads_one_is_measured() {
    let mut rig = working(true);
    rig.job(&offer("j-1", "audio_tts"), &[Fail]);
    assert_eq!(rig.news(), ["measure"]);
    assert!(rig.said("accept"));
}

#[test]
fn a_model_whose_server_died_is_not_loaded() {
    let mut rig = working(true);
    rig.llm("j-1", &[Serve("a")]);
    rig.servers_die();
    rig.world.state().machine.memory = Some(0);
    rig.llm("j-2", &[Serve("a")]);
    assert!(rig.said("reject"));
    assert_eq!(rig.seen(), [at(1)]);
}

#[test]
fn a_model_that_was_found_loaded_stays_for_its_job() {
    let mut rig = working(true);
    rig.llm("j-1", &[Serve("a")]);
    rig.pass(IDLE.as_secs() - 2);
    // It would have idled long enough while the memory is measured.
    rig.world.state().machine.measuring = true;
    rig.llm("j-2", &[Serve("a")]);
    rig.pass(2);
    rig.world.change(|state| state.machine.measuring = false);
    rig.pass(1);
    assert_eq!(
        (rig.news(), rig.seen()),
        (vec!["measure".into(), "launch a".into(), "measure".into()], vec![at(1), at(1)])
    );
}

fn downloaded(folder: &tempfile::TempDir, bytes: u64) -> FileWanted {
    FileWanted {
        path: folder.path().join("models/model.gguf").to_str().unwrap().into(),
        copies: Vec::new(),
        origin: Some(Origin {
            url: "https://files.test/model.gguf".into(),
            reach: Reach::Public,
            host_alone: false,
        }),
        approx_bytes: Some(bytes),
        sha256: None,
    }
}

#[test]
fn a_download_is_seen_while_it_moves() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = working(false);
    let observers = rig.handle.observers();
    let seen = || observers.current_job().unwrap().progress;
    rig.world.change(|state| {
        state.file_length = 8;
        state.pieces.push_back(b"1234".to_vec());
    });
    rig.llm("j-1", &[Have(downloaded(&folder, 8)), Pause(1_000)]);
    rig.pass(2);
    let Some(JobProgress { moves, done, total, .. }) = seen() else { panic!("nothing is seen of it") };
    assert_eq!((moves, done, total), (Moves::Download("model.gguf".into()), 4, Some(8)));
    rig.world.change(|state| state.pieces.extend([b"5678".to_vec(), Vec::new()]));
    rig.pass(2);
    assert_eq!(rig.seen(), ["8 bytes"]);
    assert_eq!(seen(), None, "the engine works on");
    let said = rig.world.texts().join("\n");
    assert!(
        said.contains("model.gguf: downloading, 8 B") && said.contains("model.gguf: downloaded"),
        "{said}"
    );
}

#[test]
fn a_slow_download_is_not_on_the_runs_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = working(false);
    rig.world.state().file_length = 40;
    rig.llm("j-1", &[Have(downloaded(&folder, 40))]);
    for byte in 0..40 {
        rig.world.change(|state| state.pieces.push_back(vec![byte]));
        rig.pass(50);
    }
    rig.world.change(|state| state.pieces.push_back(Vec::new()));
    rig.pass(2);
    assert_eq!(rig.seen(), ["40 bytes"]);
    assert!(rig.said("completeJson"));
}
