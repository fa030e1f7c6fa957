//! The program for half an hour on a network that drops every few seconds, with a job a second.
//!
//! `cargo bench -p studio-worker --bench soak -- --minutes 30` starts a studio, a network in between that breaks
//! connections, goes silent and cuts in the middle of a frame, and the program itself. It prints resident memory,
//! descriptors and threads once a minute, and at the end what became of every job and how often the engine ran for
//! it. It fails when a job is lost, when the engine ran again for a result that was had, or when the program grows.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_precision_loss)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use studio_worker::studio::{Client, Config, Server};
use studio_worker_core::studio::Options;

fn main() {
    let mut args = std::env::args().skip(1);
    let mut minutes = 30;
    while let Some(arg) = args.next() {
        if arg == "--minutes" {
            minutes = args.next().and_then(|n| n.parse().ok()).expect("--minutes wants a number");
        }
    }
    soak(Duration::from_secs(minutes * 60));
}

fn soak(span: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let studio = Server::open(Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        names: Vec::new(),
        data: dir.path().join("studio"),
        options: Options { auto_approve: true, max_jobs: 1_000_000, ..Options::default() },
    })
    .unwrap()
    .spawn()
    .unwrap();
    let client = Client::new(studio.address());
    let network = Network::start(studio.address());
    let config = dir.path().join("config.toml");
    let address = network.address;
    fs::write(&config, format!("api_base_url = \"http://{address}\"\nengine = \"synthetic\"\n")).unwrap();
    let mut worker = Worker::start(&config);

    let started = Instant::now();
    let (mut jobs, mut samples, mut minute) = (Vec::new(), Vec::new(), 0);
    while started.elapsed() < span {
        let prompt = format!("picture {}", jobs.len());
        let task = if jobs.len() % 2 == 0 {
            json!({ "kind": "image", "prompt": prompt, "width": 64, "height": 64, "ext": "png" })
        } else {
            json!({ "kind": "llm", "messages": [{ "role": "user", "content": prompt }] })
        };
        let job = client.post("/api/v1/jobs", Some(&json!({ "model": "synthetic", "task": task }))).unwrap();
        jobs.push(job["id"].as_str().unwrap().to_owned());
        samples.push(worker.sample(started.elapsed()));
        if started.elapsed().as_secs() / 60 > minute {
            minute += 1;
            println!("{}, {} connections broken", samples.last().unwrap(), network.broken());
        }
        let next = Duration::from_secs(jobs.len() as u64);
        thread::sleep(next.saturating_sub(started.elapsed()));
    }
    network.calm_down();
    let states = wait_for_all(&client, &jobs);
    let runs = worker.runs();
    report(&samples, &states, &runs, network.broken());
    worker.stop();
    studio.stop().unwrap();
}

/// What became of each job, once all are over.
fn wait_for_all(client: &Client, jobs: &[String]) -> Vec<Value> {
    let bound = Instant::now() + Duration::from_secs(600);
    let mut over = BTreeMap::new();
    loop {
        for id in jobs {
            if !over.contains_key(id) {
                let job = client.get(&format!("/api/v1/jobs/{id}")).unwrap();
                if ["completed", "failed"].contains(&job["state"].as_str().unwrap()) {
                    over.insert(id, job);
                }
            }
        }
        if over.len() == jobs.len() {
            return over.into_values().collect();
        }
        assert!(Instant::now() < bound, "{} of {} jobs never ended", jobs.len() - over.len(), jobs.len());
        thread::sleep(Duration::from_secs(1));
    }
}

fn report(samples: &[Sample], jobs: &[Value], runs: &BTreeMap<String, u32>, broken: u64) {
    let completed = jobs.iter().filter(|job| job["state"] == "completed").count();
    let by_the_rule = jobs.iter().filter(|job| job["state"] == "failed" && job["attempts"] == 3).count();
    let twice = runs.values().filter(|runs| **runs > 1).count();
    println!(
        "{} jobs: {completed} delivered, {by_the_rule} failed at their third attempt; {} engine runs, {twice} jobs \
         ran more than once; {broken} connections broken",
        jobs.len(),
        runs.values().sum::<u32>(),
    );
    let (first, last) = (Sample::median(samples, 60), Sample::median(samples, usize::MAX));
    println!("after the first minute: {first}\nat the end:             {last}");
    println!("resident: {:.3} times", last.resident as f64 / first.resident as f64);
    assert_eq!(completed + by_the_rule, jobs.len(), "jobs were lost");
    assert_eq!(twice, 0, "the engine ran again for a result that was had");
    assert!(last.resident as f64 <= first.resident as f64 * 1.1, "the program grows");
    assert!(last.descriptors <= first.descriptors + 2, "descriptors leak");
    assert!(last.threads <= first.threads + 1, "threads leak");
}

/// The program.
struct Worker {
    child: Child,
    runs: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Worker {
    fn start(config: &std::path::Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_studio-worker"))
            .arg("--config")
            .arg(config)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let runs = Arc::new(Mutex::new(BTreeMap::new()));
        let (counted, lines) = (Arc::clone(&runs), BufReader::new(child.stderr.take().unwrap()).lines());
        thread::spawn(move || {
            // The line that the worker says when it gives a job to the engine.
            for line in lines.map_while(Result::ok) {
                let job = line.split_once("job: job ").and_then(|(_, rest)| rest.split_once(": accepted: "));
                if let Some((job, _)) = job {
                    *counted.lock().unwrap().entry(job.to_owned()).or_default() += 1;
                }
            }
        });
        Self { child, runs }
    }

    fn runs(&self) -> BTreeMap<String, u32> {
        self.runs.lock().unwrap().clone()
    }

    fn sample(&self, at: Duration) -> Sample {
        let process = format!("/proc/{}", self.child.id());
        let count = |of: &str| fs::read_dir(format!("{process}/{of}")).unwrap().count();
        let statm = fs::read_to_string(format!("{process}/statm")).unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        Sample { at, resident: pages * 4_096, descriptors: count("fd"), threads: count("task") }
    }

    fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(self.child.wait().unwrap().success(), "the program did not end well");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    resident: usize,
    descriptors: usize,
    threads: usize,
}

impl Sample {
    /// The middle of 30 samples that end before `end`, each figure by itself.
    fn median(samples: &[Self], end: usize) -> Self {
        let end = end.min(samples.len());
        let some = &samples[end.saturating_sub(30)..end];
        let middle = |of: fn(&Self) -> usize| {
            let mut all: Vec<usize> = some.iter().map(of).collect();
            all.sort_unstable();
            all[all.len() / 2]
        };
        Self {
            at: some.last().unwrap().at,
            resident: middle(|sample| sample.resident),
            descriptors: middle(|sample| sample.descriptors),
            threads: middle(|sample| sample.threads),
        }
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, resident, descriptors, threads } = self;
        let mib = *resident as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:>5} s: {mib:.1} MiB resident, {descriptors} descriptors, {threads} threads",
            at.as_secs()
        )
    }
}

/// What stands between worker and studio, and breaks.
struct Network {
    address: SocketAddr,
    links: Arc<Mutex<Vec<Arc<LinkState>>>>,
    broken: Arc<AtomicU64>,
    calm: Arc<AtomicU64>,
}

/// One connection: what it still lets through.
struct LinkState {
    /// Bytes until it breaks.
    budget: AtomicU64,
    ends: [TcpStream; 2],
}

impl Network {
    fn start(studio: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = Self {
            address: listener.local_addr().unwrap(),
            links: Arc::default(),
            broken: Arc::default(),
            calm: Arc::default(),
        };
        let links = Arc::clone(&network.links);
        thread::spawn(move || {
            for worker in listener.incoming().map_while(Result::ok) {
                let Ok(studio) = TcpStream::connect(studio) else { continue };
                let ends = [worker.try_clone().unwrap(), studio.try_clone().unwrap()];
                let link = Arc::new(LinkState { budget: AtomicU64::new(u64::MAX), ends });
                links.lock().unwrap().push(Arc::clone(&link));
                let back = (studio.try_clone().unwrap(), worker.try_clone().unwrap());
                for (from, to) in [(worker, studio), back] {
                    let (link, links) = (Arc::clone(&link), Arc::clone(&links));
                    thread::spawn(move || {
                        pump(from, to, &link);
                        links.lock().unwrap().retain(|other| !Arc::ptr_eq(other, &link));
                    });
                }
            }
        });
        let (links, broken, calm) =
            (Arc::clone(&network.links), Arc::clone(&network.broken), Arc::clone(&network.calm));
        thread::spawn(move || {
            let mut dice = 1_u64;
            loop {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                thread::sleep(Duration::from_millis(2_000 + (dice >> 40) % 4_000));
                if calm.load(Ordering::Relaxed) > 0 {
                    break;
                }
                for link in links.lock().unwrap().iter() {
                    broken.fetch_add(1, Ordering::Relaxed);
                    match (dice >> 33) % 4 {
                        0 | 1 => link.ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both))),
                        // A few more bytes, wherever in a frame that is.
                        2 => link.budget.store((dice >> 20) % 700, Ordering::Relaxed),
                        // The studio's side alone: the worker finds out when it writes.
                        _ => drop(link.ends[1].shutdown(Shutdown::Both)),
                    }
                }
            }
        });
        network
    }

    fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    fn calm_down(&self) {
        self.calm.store(1, Ordering::Relaxed);
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, link: &LinkState) {
    let mut buffer = [0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let left = link.budget.load(Ordering::Relaxed);
        let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        if left != u64::MAX {
            link.budget.store(left - count as u64, Ordering::Relaxed);
        }
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    link.ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
}
