//! A real Gradio app, and stand-ins of older ones.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    process::Command,
    thread,
};

use serde_json::json;

use crate::{
    Case, Need, cases,
    real::{self, Server},
    rig::{Place, queue, result},
    studio::Studio,
};

pub(crate) const ALL: &[Case] = {
    const REAL: &[Case] = cases![&[Need::Python("gradio")]; gradio_6_draws_what_was_asked_for];
    const STUBS: &[Case] = cases![&[]; gradio_3_and_4_are_asked_as_they_want];
    &[REAL[0], STUBS[0]]
};

fn config(base: &str) -> String {
    format!(
        "engine = \"gradio\"\ngradio_endpoint_url = \"{base}\"\nsupported_models_override = [\"drawer\"]\n"
    )
}

fn gradio_6_draws_what_was_asked_for(on: &'static str) {
    let port = real::free_port();
    let mut app = Command::new(real::python("gradio").unwrap());
    app.arg(real::script("app.py"))
        .env("PORT", port.to_string())
        .env("GRADIO_ANALYTICS_ENABLED", "False")
        .env("HF_HUB_OFFLINE", "1");
    let app = Server::start(&mut app, port);
    let place = Place::new(on, &config(&app.base()));
    assert!(place.says(&["engines"]).contains("image      drawer"));

    let draw = |prompt: &str, file: &str| {
        let prompt = format!("prompt={prompt}");
        let args = ["try", "image", "--param", &prompt, "--param", "width=320", "--param", "height=200"];
        place.says(&[&args[..], &["--param", "seed=7", "--out", file]].concat());
        image::load_from_memory(&std::fs::read(place.path(file)).unwrap()).unwrap().into_rgb8()
    };
    let (one, same, other) = (draw("a fox", "1"), draw("a fox", "2"), draw("an owl", "3"));
    assert_eq!((one.width(), one.height()), (320, 200));
    assert_eq!(one, same);
    assert_ne!(one.get_pixel(300, 180), other.get_pixel(300, 180), "the prompt decides the colour");

    let refused = place.fails(&["try", "image", "--param", "prompt=unspeakable"]);
    assert!(refused.contains("out of paint"), "{refused}");

    // The same through a studio: what came back is what is delivered.
    let studio = Studio::start();
    let worker = place.worker(&studio);
    let id = queue(
        &studio,
        &json!({ "model": "drawer", "task":
            { "kind": "image", "prompt": "a fox", "width": 320, "height": 200, "seed": 7 } }),
    );
    let delivered = image::load_from_memory(&result(&studio, &id)).unwrap().into_rgb8();
    assert_eq!(delivered, one);
    drop(worker);
}

/// A picture of one pixel.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// An app that answers as `version` does, once for each of so many requests; what it was posted.
fn stub(version: &'static str, requests: usize) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let mut posted = Vec::new();
        for _ in 0..requests {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let (mut first, mut length) = (String::new(), 0);
            stream.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            if first.starts_with("POST") {
                posted.push(format!(
                    "{} {}",
                    first.split(' ').nth(1).unwrap(),
                    String::from_utf8(body).unwrap()
                ));
            }
            let path = first.split(' ').nth(1).unwrap();
            let (kind, answer) = match path {
                "/config" => ("application/json", json!({ "version": version }).to_string()),
                "/info" => {
                    let parameters = json!([{ "label": "Prompt" }, { "label": "Model" }]);
                    let returns = json!([{ "component": "Image" }]);
                    let draw = json!({ "parameters": parameters, "returns": returns });
                    ("application/json", json!({ "named_endpoints": { "/predict": draw } }).to_string())
                }
                "/call/predict" => ("application/json", json!({ "event_id": "e1" }).to_string()),
                "/call/predict/e1" => {
                    let made = format!("event: complete\ndata: [\"data:image/png;base64,{PNG}\"]\n\n");
                    ("text/event-stream", made)
                }
                "/run/predict" => {
                    let made = format!("data:image/png;base64,{PNG}");
                    ("application/json", json!({ "data": [made] }).to_string())
                }
                other => panic!("{other} is asked for"),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                answer.len()
            );
            stream.get_mut().write_all((head + &answer).as_bytes()).unwrap();
        }
        posted
    });
    (base, serving)
}

fn gradio_3_and_4_are_asked_as_they_want(on: &'static str) {
    // The survey asks for config (and info), and so does the job.
    for (version, requests, path) in [("3.50.2", 3, "/run/predict"), ("4.44.1", 6, "/call/predict")] {
        let (base, serving) = stub(version, requests);
        let place = Place::new(on, &config(&base));
        place.says(&["try", "image", "--param", "prompt=a fox", "--out", "fox.png"]);
        let posted = serving.join().unwrap();
        assert_eq!(posted, [format!("{path} {}", json!({ "data": ["a fox", "drawer"] }))]);
        assert_eq!(image::open(place.path("fox.png")).unwrap().width(), 1);
    }
}
