//! A worker that runs, against a studio on a loopback port.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use studio_worker_core::conformance::{Session, TestStudio};

use super::{Home, Running};

/// Makes tests of these functions, on each runtime that the program may run on.
macro_rules! on_each_runtime {
    ($($(#[$attribute:meta])* $test:ident)*) => {
        on_each_runtime! { async_std "async-std" $($(#[$attribute])* $test)* }
        on_each_runtime! { tokio "tokio" $($(#[$attribute])* $test)* }
    };
    ($module:ident $name:literal $($(#[$attribute:meta])* $test:ident)*) => {
        mod $module {
            $(
                $(#[$attribute])*
                #[test]
                fn $test() {
                    super::$test($name);
                }
            )*
        }
    };
}

pub(super) use on_each_runtime;

on_each_runtime! {
    a_worker_registers_and_stores_what_it_is_told
    what_the_published_programs_left_serves_without_registering_anew
    a_changed_file_reaches_a_running_worker
    another_address_is_taken_over_while_running
    a_second_run_names_the_first
    a_worker_whose_directory_cannot_be_written_serves_and_is_still_the_only_one
    nothing_is_sent_before_it_can_be_stored
    a_second_signal_ends_a_drain_and_the_job
    a_signal_ends_a_worker_that_waits_for_its_approval
    a_refused_token_ends_the_program_with_what_to_do
    a_rejected_registration_ends_the_program_and_is_remembered
    a_studio_that_cannot_be_reached_ends_the_program_when_it_was_told_to
    an_engine_that_is_not_served_ends_the_program
    a_studio_that_nobody_chose_is_named_before_it_is_told_anything
    #[cfg(target_os = "linux")]
    an_idle_worker_is_small
}

pub(super) const TOKEN: &str = "tok-7f3a9c5e";

/// As 0.2 leaves it after its approval, and as 0.4 does.
pub(super) fn approved(studio: &TestStudio, more: &str) -> Home {
    let base = studio.base();
    Home::with(&format!(
        "# mine\napi_base_url = \"{base}\"\nworker_id = \"w-1\"\nauth_token = \"{TOKEN}\"\n{more}"
    ))
}

/// A worker with every log line there is.
pub(super) fn run(home: &Home, on: &str) -> Running {
    Running::start(home.program(&["--runtime", on, "run"]).env("RUST_LOG", "trace"))
}

/// Ends it as a service manager does.
pub(super) fn drain(worker: Running, session: &mut Session) -> String {
    worker.signal("-TERM");
    assert_eq!(session.closed().0, 1000);
    let (status, log, out) = worker.ends();
    assert_eq!((status.code(), out.as_str()), (Some(0), ""), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
    log
}

fn a_worker_registers_and_stores_what_it_is_told(on: &str) {
    let studio = TestStudio::new();
    let home = Home::with(&format!(
        "# mine\napi_base_url = '{}'\nlabel = 'rig' # why\nfuture_key = 1\n",
        studio.base()
    ));
    let worker = run(&home, on);
    let mut asks = studio.request();
    assert_eq!(asks.path, "/graphics/api/workers/register-request");
    assert_eq!(asks.header("user-agent"), format!("studio-worker/{}", studio_worker::VERSION));
    let asked = asks.json();
    assert_eq!(asked["label"], "rig");
    let capabilities = &asked["capabilities"];
    assert_eq!(capabilities["agentVersion"], studio_worker::VERSION);
    assert_eq!(
        (&capabilities["engine"], &capabilities["modelEngines"]),
        (&json!("multi"), &json!(["synthetic"]))
    );
    assert_eq!((&capabilities["vramThresholdGb"], &capabilities["autoEnabled"]), (&json!(12), &json!(true)));
    assert_ne!(capabilities["machineName"], "");
    let install_id = asked["installId"].as_str().unwrap();
    assert!(home.text().contains(&format!("install_id = \"{install_id}\"")), "stored before it is sent");
    asks.answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    let polls = studio.request();
    assert!(home.prints(&["status"]).contains("pending operator approval (request rr-1)"));
    let secret = polls.header("authorization").strip_prefix("Bearer ").unwrap().to_owned();
    polls.answer_json(200, &json!({ "status": "approved", "workerId": "w-1", "authToken": TOKEN }));
    let mut session = studio.session();
    assert!(home.prints(&["status"]).contains("registration:       approved as w-1\n"));
    let log = drain(worker, &mut session);
    assert!(!log.contains(&secret), "{log}");
    assert!(log.contains("config.toml, line 4: the key `future_key` is not known here"), "{log}");
    let text = home.text();
    assert!(text.starts_with("# mine\n") && text.contains("label = 'rig' # why\nfuture_key = 1\n"), "{text}");
    assert!(text.contains(&format!("auth_token = \"{TOKEN}\"")), "{text}");
    assert!(!text.contains(&secret), "forgotten with the first welcome: {text}");
}

fn what_the_published_programs_left_serves_without_registering_anew(on: &str) {
    let generations = [
        "vram_threshold_gb = 12.0\nauto_start = true\nauto_enabled = true\nengine = \"synthetic\"\nengines = []\n",
        "vram_threshold_gb = 12.0\nmemory_max_gb = 32\nauto_start = true\nmodels_root = \"/srv/models\"\n",
    ];
    for (generation, engine) in generations.into_iter().zip(["synthetic", "multi"]) {
        let studio = TestStudio::new();
        let home = approved(&studio, generation);
        let worker = run(&home, on);
        let upgrading = studio.upgrade();
        assert_eq!(upgrading.0.header("authorization"), format!("Bearer {TOKEN}"));
        let mut session = upgrading.accept().welcome();
        assert_eq!(session.heartbeats[0]["capabilities"]["engine"], engine);
        session.offer("j-1", "llm", "hello");
        session.expect("accept", "j-1");
        let done = session.expect("completeJson", "j-1");
        assert_eq!(
            (&done["result"]["object"], &done["prompt"]),
            (&json!("chat.completion"), &json!("hello"))
        );
        session.send(&json!({ "type": "completeAck", "jobId": "j-1" }));
        drain(worker, &mut session);
        assert!(!studio.has_request());
        assert!(home.text().ends_with(generation), "nothing was stored: {}", home.text());
    }
}

fn a_changed_file_reaches_a_running_worker(on: &str) {
    let studio = TestStudio::new();
    let home = approved(&studio, "vram_threshold_gb = 12\nlabel = 'a'\n");
    let mut worker = run(&home, on);
    let mut session = studio.session();
    home.prints(&["set-threshold", "8.5"]);
    session.heartbeat_with("vramThresholdGb", 8.5);
    home.prints(&["disable"]);
    session.heartbeat_with("autoEnabled", false);

    // A broken edit is said, and what counted before goes on to count.
    let good = home.text();
    home.write(&good.replace("8.5", "lots"));
    let line = worker.logs("can't be used");
    assert!(
        line.contains("WARN") && line.contains("line ") && line.contains("key `vram_threshold_gb`"),
        "{line}"
    );
    home.write(&good.replace("label = 'a'", "engine = 'gradio'"));
    worker.logs("gradio");
    let beat = session.heartbeat();
    assert_eq!((&beat["vramThresholdGb"], &beat["engine"]), (&json!(8.5), &json!("multi")));
    home.write(&good.replace("auto_enabled = false", "supported_models_override = ['mine']"));
    session.heartbeat_with(
        "supportedModelsPerKind",
        json!({
            "audio_stt": ["mine", "synthetic", "synthetic-stt"],
            "audio_tts": ["mine", "synthetic", "synthetic-tts"],
            "image": ["mine", "synthetic", "synthetic-image"],
            "llm": ["mine", "synthetic", "synthetic-llm"],
            "mesh": ["mine", "synthetic", "synthetic-mesh"],
            "video": ["mine", "synthetic", "synthetic-video"],
        }),
    );
    // What the program says reaches the studio, too, once.
    while !session.logs.iter().any(|line| line["message"].as_str().unwrap().contains("gradio")) {
        session.take();
    }
    let log = drain(worker, &mut session);
    let said = log.lines().filter(|line| line.contains(" WARN ") && line.contains("gradio")).count();
    assert_eq!(said, 1, "{log}");
    assert!(session.logs.iter().all(|line| !line["message"].as_str().unwrap().contains(TOKEN)));
}

fn another_address_is_taken_over_while_running(on: &str) {
    let (studio, other) = (TestStudio::new(), TestStudio::new());
    let home = approved(&studio, "");
    let worker = run(&home, on);
    let mut session = studio.session();
    home.prints(&["register", "--api-base-url", &other.base()]);
    assert_eq!(session.closed().0, 1000);
    let mut session = other.session();
    drain(worker, &mut session);
}

fn a_second_run_names_the_first(on: &str) {
    let studio = TestStudio::new();
    let home = approved(&studio, "");
    let worker = run(&home, on);
    let mut session = studio.session();
    let pid = worker.child.id();
    let error = home.fails(&["--runtime", on, "run"]);
    assert!(error.contains(&format!("another studio-worker (process {pid}) runs with ")), "{error}");
    let status: Value = serde_json::from_str(&home.prints(&["status", "--json"])).unwrap();
    assert_eq!(status["runningPid"], pid);
    drain(worker, &mut session);
    let status: Value = serde_json::from_str(&home.prints(&["status", "--json"])).unwrap();
    assert_eq!(status["runningPid"], Value::Null);
    // Nor does one that was killed keep the next one from running.
    let killed = run(&home, on);
    let session = studio.session();
    drop((killed, session));
    let worker = run(&home, on);
    let mut session = studio.session();
    drain(worker, &mut session);
}

fn a_worker_whose_directory_cannot_be_written_serves_and_is_still_the_only_one(on: &str) {
    let studio = TestStudio::new();
    let home = approved(&studio, "");
    for lock in [".config.toml.run", ".config.toml.lock"] {
        fs::create_dir(home.dir.path().join(lock)).unwrap();
    }
    let worker = run(&home, on);
    let mut session = studio.session();
    assert!(home.fails(&["--runtime", on, "run"]).contains("another studio-worker runs with "));
    drain(worker, &mut session);
}

fn nothing_is_sent_before_it_can_be_stored(on: &str) {
    let studio = TestStudio::new();
    let home = Home::with(&format!("api_base_url = '{}'\n", studio.base()));
    let lock = home.dir.path().join(".config.toml.lock");
    fs::create_dir(&lock).unwrap();
    let mut worker = run(&home, on);
    let line = worker.logs("could not be saved, trying again");
    assert!(line.contains("ERROR") && line.contains(".config.toml.lock"), "{line}");
    assert!(!studio.has_request());
    fs::remove_dir(&lock).unwrap();
    let asked = studio.request().json();
    assert!(home.text().contains(asked["installId"].as_str().unwrap()));
    worker.signal("-TERM");
    assert_eq!(worker.ends().0.code(), Some(0));
}

fn a_second_signal_ends_a_drain_and_the_job(on: &str) {
    let studio = TestStudio::new();
    let home = approved(&studio, "");
    let mut worker = run(&home, on);
    let mut session = studio.session();
    // A film that takes longer to make than this test.
    session.send(&json!({ "type": "offer", "claim": {
        "jobId": "j-1", "gameId": "g", "assetName": "a", "model": "synthetic", "vramGbEstimate": 2,
        "task": { "kind": "video", "prompt": "p", "seconds": 60, "width": 1024, "height": 1024 },
    }}));
    session.expect("accept", "j-1");
    worker.signal("-INT");
    worker.logs("draining");
    worker.signal("-INT");
    let failed = session.expect("fail", "j-1");
    assert_eq!(failed["retryable"], true);
    session.send(&json!({ "type": "failAck", "jobId": "j-1" }));
    assert_eq!(session.closed().0, 1000);
    let (status, log, _) = worker.ends();
    assert_eq!(status.code(), Some(0), "{log}");
}

fn a_signal_ends_a_worker_that_waits_for_its_approval(on: &str) {
    let studio = TestStudio::new();
    let home = Home::with(&format!("api_base_url = '{}'\n", studio.base()));
    let worker = run(&home, on);
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    worker.signal("-TERM");
    let (status, log, _) = worker.ends();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(home.text().contains("registration_secret"), "what is pending stays");
}

/// How a worker ends that can't go on: its code, and the one line that is no log line.
pub(super) fn ends_with(worker: Running) -> String {
    let (status, log, _) = worker.ends();
    assert_eq!(status.code(), Some(1), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("error: "), "{log}");
    assert_eq!(log.lines().filter(|line| line.starts_with("error: ")).count(), 1);
    assert!(!log.contains(TOKEN), "{log}");
    last.to_owned()
}

fn a_refused_token_ends_the_program_with_what_to_do(on: &str) {
    let studio = TestStudio::new();
    let home = approved(&studio, "");
    let worker = run(&home, on);
    studio.upgrade().refuse(401, &format!("token {TOKEN} is wrong"));
    let line = ends_with(worker);
    assert!(line.contains("refused") && line.contains("register --reset"), "{line}");
    assert!(home.text().contains(TOKEN), "nothing that was stored is lost");
}

fn a_rejected_registration_ends_the_program_and_is_remembered(on: &str) {
    let studio = TestStudio::new();
    let home = Home::with(&format!("api_base_url = '{}'\n", studio.base()));
    let worker = run(&home, on);
    studio.request().answer_json(200, &json!({ "requestId": "rr-1", "status": "pending" }));
    studio.request().answer_json(200, &json!({ "status": "rejected", "reason": "not you" }));
    assert!(ends_with(worker).contains("(not you)"));
    assert!(home.prints(&["status"]).contains("registration:       rejected (not you)\n"));
    assert!(ends_with(run(&home, on)).contains("register --reset"), "a restart does not ask again");
    assert!(!studio.has_request());
}

fn a_studio_that_cannot_be_reached_ends_the_program_when_it_was_told_to(on: &str) {
    // A port that nobody listens on, and that no other test gets by chance.
    let home = Home::with(&format!(
        "api_base_url = 'http://127.0.0.1:9'\nworker_id = 'w-1'\nauth_token = '{TOKEN}'\nws_reconnect_attempts = 1\n"
    ));
    assert!(ends_with(run(&home, on)).contains("could not be reached"));
}

fn an_engine_that_is_not_served_ends_the_program(on: &str) {
    for (engine, problem) in [
        ("engine = 'gradio'", "key `gradio_endpoint_url`: the engine \"gradio\" wants it"),
        ("engine = 'openai'", "key `openai_base_url`: the engine \"openai\" wants it"),
        ("engine = 'command'", "key `commands`: the engine \"command\" wants it"),
        (
            "engine = 'llama'",
            "key `engine`: this program can't serve the engine \"llama\" of the published one",
        ),
        (
            "engines = ['synthetic', 'whisper']",
            "key `engines`: this program can't serve the engine \"whisper\"",
        ),
        ("engines = ['synthetic', 'gradio']", "key `gradio_endpoint_url`"),
    ] {
        let studio = TestStudio::new();
        let home = approved(&studio, engine);
        let error = home.fails(&["--runtime", on, "run"]);
        assert!(error.contains(problem) && error.contains("config.toml"), "{error}");
        assert!(home.prints(&["status"]).contains("engine:"), "what is set can still be seen");
    }
}

fn a_studio_that_nobody_chose_is_named_before_it_is_told_anything(on: &str) {
    let home = Home::with("label = 'x'\n");
    // Nothing is reached from here: no name is looked up, since there is no such proxy.
    let mut worker =
        Running::start(home.program(&["--runtime", on, "run"]).env("https_proxy", "http://127.0.0.1:9"));
    let line = worker.logs("host name");
    assert!(line.contains("https://studio.minis.gg") && line.contains("user name"), "{line}");
    assert!(line.contains("register --api-base-url"), "{line}");
    assert!(worker.log.iter().all(|line| !line.contains("asking")), "said before anything is sent");
    worker.signal("-KILL");
    worker.ends();

    let studio = TestStudio::new();
    let home = approved(&studio, "");
    let worker = run(&home, on);
    let mut session = studio.session();
    let log = drain(worker, &mut session);
    assert!(!log.contains("are now told"), "this one was chosen: {log}");
}

#[cfg(target_os = "linux")]
fn an_idle_worker_is_small(on: &str) {
    let studio = TestStudio::new();
    let home = approved(&studio, "");
    let worker = Running::start(&mut home.program(&["--runtime", on, "run"]));
    let mut session = studio.session();
    // Long enough that the watcher has looked and threads that were needed at the start have ended; some more, for busy
    // machines.
    let mut threads = usize::MAX;
    for _ in 0..12 {
        session.heartbeat();
        threads = fs::read_dir(format!("/proc/{}/task", worker.child.id())).unwrap().count();
        if threads <= 7 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(threads <= 7, "{threads} threads");
    drain(worker, &mut session);
}
