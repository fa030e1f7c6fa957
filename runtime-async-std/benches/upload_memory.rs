//! How much memory an upload takes at its peak, beside the result that it delivers: of a result in memory, and of
//! one in a file.
//!
//! `cargo bench -p studio-worker-async-std --bench upload_memory`. Target: at most 1.2 times the result from memory,
//! nothing beyond a buffer from a file. Linux only: the kernel counts. The studio is a thread that reads and forgets.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program that measures, and stops where it can't"
)]

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::Arc,
    thread,
};

use studio_worker_async_std::{AsyncStd, Runtime as _, block_on};
use studio_worker_core::{
    drive::Progress,
    engine::Payload,
    wire::{JobId, multipart::Envelope},
    worker::Upload,
};

fn main() {
    // Without `--bench`, as `cargo test --benches` calls it, a small one shows that it works.
    let mib = if env::args().any(|arg| arg == "--bench") { 512 } else { 8 };
    let size = mib << 20;
    let base = format!("http://{}/", studio());
    let runtime = AsyncStd::new();
    let deliver = |payload: Payload| {
        let upload = Upload {
            url: base.clone(),
            bearer: "token".into(),
            envelope: Envelope::new(&JobId::from("job"), "a prompt", "mp4", 7),
            payload,
        };
        let answer = block_on(runtime.upload(upload, "bench".into(), Progress::default()));
        assert_eq!(answer.unwrap().status, 200);
    };
    // Whatever is made once, is made before it counts.
    deliver(vec![1; 1 << 16].into());

    let idle = resident();
    let bytes = Arc::new(vec![1_u8; size]);
    reset_peak();
    deliver(Payload::Memory(Arc::clone(&bytes)));
    report("from memory", size, peak() - idle);

    let file = block_on(runtime.spill(bytes)).unwrap();
    let idle = resident();
    reset_peak();
    deliver(Payload::File(file.clone()));
    report("from a file", size, peak() - idle);
    block_on(runtime.discard(file));
}

fn report(what: &str, size: usize, peak: usize) {
    let mib = |bytes: usize| f64::from(u32::try_from(bytes >> 10).unwrap()) / 1024.0;
    println!(
        "{what}: a result of {:.0} MiB takes {:.1} MiB at its peak, {:.3} times its size",
        mib(size),
        mib(peak),
        mib(peak) / mib(size)
    );
}

/// Answers each request with 200 once its body is there, and keeps nothing of it.
fn studio() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut reader = BufReader::new(socket.unwrap());
            loop {
                let mut length = 0;
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap() > 2 {
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                if length == 0 {
                    break;
                }
                let copied = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).unwrap();
                assert_eq!(copied, length);
                reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
        }
    });
    address
}

fn resident() -> usize {
    status("VmRSS:")
}

fn peak() -> usize {
    status("VmHWM:")
}

/// Begins to count the peak anew.
fn reset_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn status(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}
