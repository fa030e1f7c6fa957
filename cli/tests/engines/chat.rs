//! A real `llama-server` with a small real model: as a server of its own, and as a child of the worker.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    Case, Need, cases,
    real::{self, Server, processes_with},
    rig::{Place, queue, quoted, result, until},
    studio::Studio,
};

pub(crate) const ALL: &[Case] = {
    const NEEDS: &[Need] = &[Need::File("llama-server"), Need::File(MODEL)];
    cases![NEEDS; a_server_answers_a_question a_model_is_downloaded_loaded_kept_and_let_go]
};

const MODEL: &str = "gemma3-270m-q4_k_m.gguf";
/// The model was not taught to chat: it goes on as it was begun. The answer is in none of this.
const QUESTION: &str = "Question: What is the capital of Germany?\nAnswer: Berlin.\nQuestion: What is the capital of \
    Italy?\nAnswer: Rome.\nQuestion: What is the capital of France?\nAnswer:";
/// What it may say of its own knowledge.
const CAPITALS: [&str; 3] = ["Paris", "Tokyo", "Beijing"];

fn knows(answer: &str) -> bool {
    CAPITALS.iter().any(|capital| answer.contains(capital))
}

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
    until("the model is loaded", || {
        let output = place.command(&["engines"]).env("OPENAI_API_KEY", "k-secret").output().unwrap();
        String::from_utf8(output.stdout).unwrap().contains("llm")
    });

    let prompt = format!("prompt={QUESTION}");
    let mut ask = place.command(&["try", "llm", "--param", &prompt, "--param", "temperature=0"]);
    let answered = ask.args(["--param", "max_tokens=40"]).env("OPENAI_API_KEY", "k-secret").output().unwrap();
    assert!(answered.status.success(), "{answered:?}");
    let answer = String::from_utf8(answered.stdout).unwrap();
    assert!(knows(&answer), "{answer}");

    let refused = place.command(&["engines"]).env("OPENAI_API_KEY", "another").output().unwrap();
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(
        said.contains("401") && said.contains("check its API key") && !said.contains("another"),
        "{said}"
    );
}

/// Serves a file with ranges; the first answer breaks off in the middle. How many bytes it has sent.
fn serve(file: &Path) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicU64::new(0));
    let (counted, file) = (Arc::clone(&sent), file.to_owned());
    thread::spawn(move || {
        for (at, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            // A client that has gone is no failure.
            let _ = answer(stream, &file, at == 0, &counted);
        }
    });
    (base, sent)
}

fn answer(stream: TcpStream, file: &Path, breaks_off: bool, sent: &AtomicU64) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut from = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim().trim_end_matches('-').parse().unwrap();
        }
    }
    let mut file = fs::File::open(file)?;
    let whole = file.metadata()?.len();
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{whole}\r\n\
         Connection: close\r\n\r\n",
        whole - from,
        whole - 1
    );
    let head = if from == 0 {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {whole}\r\nConnection: close\r\n\r\n")
    } else {
        head
    };
    let stream = stream.get_mut();
    stream.write_all(head.as_bytes())?;
    file.seek(SeekFrom::Start(from))?;
    let rest = if breaks_off { whole / 2 } else { whole - from };
    sent.fetch_add(std::io::copy(&mut file.take(rest), stream)?, Ordering::Relaxed);
    Ok(())
}

fn sha256(file: &Path) -> String {
    let mut hash = Sha256::new();
    let mut file = fs::File::open(file).unwrap();
    let mut page = vec![0; 1 << 20];
    loop {
        match file.read(&mut page).unwrap() {
            0 => break,
            read => hash.update(&page[..read]),
        }
    }
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn a_model_is_downloaded_loaded_kept_and_let_go(on: &'static str) {
    let (program, model) = (real::file("llama-server").unwrap(), real::file(MODEL).unwrap());
    let (base, sent) = serve(&model);
    let bytes = fs::metadata(&model).unwrap().len();
    let config = |root: &Path| {
        format!(
            "engine = \"llama-cpp\"\nllama_server = {}\nllama_idle_secs = 15\nmodels_root = {}\n",
            quoted(&program),
            quoted(root)
        )
    };
    let place = Place::new(on, "");
    let root = place.path("models");
    fs::write(place.path("config.toml"), config(&root)).unwrap();
    let studio = Studio::start();
    let worker = place.worker(&studio);
    let name = format!("gemma-{on}.gguf");
    let job = |sha256: &str, name: &str| {
        json!({
            "model": "gemma-3-270m",
            "task": { "kind": "llm", "temperature": 0.0, "maxTokens": 40,
                "messages": [{ "role": "user", "content": QUESTION }] },
            "modelSource": { "engine": "llama-cpp", "files": [{ "role": "model", "filename": name,
                "url": format!("{base}/{name}?signature=hush"), "approxBytes": bytes, "sha256": sha256 }] },
        })
    };
    let right = sha256(&model);
    let answer = |id: &str| -> Value { serde_json::from_slice(&result(&studio, id)).unwrap() };

    let first = answer(&queue(&studio, &job(&right, &name)));
    let text = first["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(knows(text), "{first}");
    assert_eq!(first["model"], "gemma-3-270m");
    assert_eq!(sent.load(Ordering::Relaxed), bytes, "it went on where it was cut, with nothing twice");
    assert_eq!(fs::metadata(root.join("llm").join(&name)).unwrap().len(), bytes);
    let log = worker.log();
    for said in [": downloading, 241.4 MiB", ": downloaded "] {
        assert_eq!(log.matches(said).count(), 1, "{said}: {log}");
    }
    assert!(!log.contains("hush"), "{log}");

    // The next job finds the file, and the server with it.
    let mark = format!("/llm/{name}");
    let servers = || processes_with(&mark);
    let running = servers();
    assert!(!running.is_empty());
    let second = answer(&queue(&studio, &job(&right, &name)));
    assert_eq!(second["choices"][0]["message"]["content"], text);
    assert_eq!(servers(), running, "the same server");
    assert_eq!(sent.load(Ordering::Relaxed), bytes);
    until("the idle server is gone", || servers().is_empty());

    // A file that is another one is never used.
    let wrong = queue(&studio, &job(&"0".repeat(64), "other.gguf"));
    let refused = crate::rig::finished(&studio, &wrong);
    assert_eq!(refused["state"], "failed", "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("SHA-256"), "{refused}");
    assert!(!root.join("llm/other.gguf").exists());
    drop(worker);
}
