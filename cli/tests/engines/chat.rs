//! A real `llama-server` with a small real model: as a server of its own, and as a child of the worker.

use std::process::Command;

use crate::{
    Case, Need, cases,
    real::{self, Server},
    rig::Place,
};

pub(crate) const ALL: &[Case] = {
    const NEEDS: &[Need] = &[Need::File("llama-server"), Need::File(MODEL)];
    cases![NEEDS; a_server_answers_a_question]
};

const MODEL: &str = "gemma3-270m-q4_k_m.gguf";
const QUESTION: &str = "prompt=What is the capital of France? Answer with one word.";

fn a_server_answers_a_question(on: &'static str) {
    let port = real::free_port();
    let mut server = Command::new(real::file("llama-server").unwrap());
    server.args([
        "--host",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "-c",
        "2048",
        "--api-key",
        "k-secret",
        "-m",
    ]);
    let server = Server::start(server.arg(real::file(MODEL).unwrap()), port);
    let place = Place::new(on, &format!("engine = \"openai\"\nopenai_base_url = \"{}\"\n", server.base()));

    let mut ask = place.command(&["try", "llm", "--param", QUESTION, "--param", "temperature=0"]);
    let answered = ask.env("OPENAI_API_KEY", "k-secret").output().unwrap();
    assert!(answered.status.success(), "{answered:?}");
    let answer = String::from_utf8(answered.stdout).unwrap();
    assert!(answer.contains("Paris"), "{answer}");

    let mut ask = place.command(&["engines"]);
    let refused = ask.env("OPENAI_API_KEY", "another").output().unwrap();
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(
        said.contains("401") && said.contains("check its API key") && !said.contains("another"),
        "{said}"
    );
}
