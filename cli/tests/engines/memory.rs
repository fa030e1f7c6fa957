//! Admission with a stand-in of `nvidia-smi`: what it says decides what is accepted.

use std::fs;

use serde_json::{Value, json};

use crate::{
    Case, cases, http,
    rig::{Place, queue, result, until},
    script::write_script,
    studio::Studio,
};

pub(crate) const ALL: &[Case] = cases![&[];
    a_job_is_accepted_when_its_memory_is_free
    what_can_not_be_measured_is_admitted
];

/// A place whose `nvidia-smi` runs `script`, and whose only engine says that it wants the GPU.
fn place(on: &'static str, script: &str) -> Place {
    let place = Place::new(on, "");
    fs::create_dir(place.path("bin")).unwrap();
    write_script(&place.path("bin/nvidia-smi"), script);
    let config = "engine = \"command\"\nvram_threshold_gb = 64\n[[commands]]\nkind = \"llm\"\nmodels = [\"echo\"]\n\
                  program = \"echo\"\nargs = [\"fine\"]\nwants_memory = true\n\
                  [[commands]]\nkind = \"llm\"\nmodels = [\"light\"]\nprogram = \"echo\"\nargs = [\"fine\"]\n";
    fs::write(place.path("config.toml"), config).unwrap();
    place
}

fn job(gb: f64) -> Value {
    json!({ "model": "echo", "vramGbEstimate": gb,
        "task": { "kind": "llm", "messages": [{ "role": "user", "content": "x" }] } })
}

fn worker_of(studio: &Studio) -> Value {
    let workers = http::request(studio.address(), "GET", "/api/v1/workers", &[], b"").json();
    workers["workers"][0].clone()
}

fn a_job_is_accepted_when_its_memory_is_free(on: &'static str) {
    // Two cards: the second has 20,000 MiB free.
    let place = place(on, "cat \"$(dirname \"$0\")/says\"");
    let says = |text: &str| fs::write(place.path("bin/says"), text).unwrap();
    says("24564, 1200\n24564, 20000\n");
    let studio = Studio::start();
    let worker = place.worker_with_bin(&studio);
    let delivered = |gb: f64| result(&studio, &queue(&studio, &job(gb)));
    assert!(String::from_utf8(delivered(18.0)).unwrap().contains("fine"));
    let total = worker_of(&studio)["capabilities"]["vramTotalGb"].as_f64().unwrap();
    assert!((total - 24_564.0 / 1_024.0).abs() < 1e-6, "{total}");

    // 18.6 GB and one to spare are more than 20,000 MiB.
    let refused = queue(&studio, &job(18.6));
    until("it is declined", || worker.log().contains("of GPU memory"));
    until("the advertised threshold is lowered", || {
        worker_of(&studio)["capabilities"]["vramThresholdGb"]
            .as_f64()
            .is_some_and(|gb| gb < 18.6 && gb > 18.0)
    });
    let waiting = http::request(studio.address(), "GET", &format!("/api/v1/jobs/{refused}"), &[], b"").json();
    assert_eq!(waiting["state"], "queued", "{waiting}");
    // A smaller one is taken meanwhile, and one of a program that wants no such memory.
    delivered(2.0);
    let light = json!({ "model": "light", "vramGbEstimate": 18.0,
        "task": { "kind": "llm", "messages": [{ "role": "user", "content": "x" }] } });
    result(&studio, &queue(&studio, &light));
    says("24564, 24000\n24564, 24000\n");
    until("the memory is free again", || worker_of(&studio)["capabilities"]["vramThresholdGb"] == 64.0);
    result(&studio, &refused);
}

fn what_can_not_be_measured_is_admitted(on: &'static str) {
    for script in ["echo '[N/A], [N/A]'", "exit 9", "echo garbage; exit 0", "sleep 100"] {
        let place = place(on, script);
        let studio = Studio::start();
        let _worker = place.worker_with_bin(&studio);
        assert!(!result(&studio, &queue(&studio, &job(60.0))).is_empty(), "{script}");
    }
}
