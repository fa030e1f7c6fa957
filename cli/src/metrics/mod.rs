//! Numbers for Prometheus, and probes: `run --metrics ADDR`.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | the numbers, in Prometheus' text format |
//! | `/healthz` | 200 as long as the loop that drives the worker turns, else 503 |
//! | `/readyz` | 200 while it turns and a session with the studio is open, else 503 |
//!
//! `tally` counts what the worker's loop tells ([`Meter`]), `text` writes it down, and here it is served: on
//! threads of its own, with a bound on each request. Nobody is asked who they are: whoever reaches the address can read
//! that there is a worker and how busy it is, and no more. No name of a model, job or file is in it, so that the number of
//! series is bounded.

mod tally;
mod text;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use studio_worker_core::drive::{Meter, WorkerHandle};

use crate::{
    Error,
    guests::{Guest, Guests, Visit, read_until},
};
use tally::Tally;

/// Those who are served at once.
const MAX_GUESTS: usize = 16;
/// The longest request that is read.
const MAX_HEAD: usize = 8 * 1024;
/// How long a request may take to come, and an answer to leave.
const PATIENCE: Duration = Duration::from_secs(5);
/// What Prometheus' text format is called.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An address that is listened on already, so that a wrong one is said before a worker starts.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Listens on `address`.
    pub fn on(address: SocketAddr) -> Result<Self, Error> {
        let listening = TcpListener::bind(address).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        });
        listening.map_err(|problem| {
            Error::Argument(format!("`--metrics {address}`: the address can't be listened on: {problem}"))
        })
    }

    /// Serves the numbers of the worker that `handle` steers, from before its future is polled on.
    pub fn serve(self, handle: &WorkerHandle) -> io::Result<Metrics> {
        let Self { listener, address } = self;
        if !address.ip().is_loopback() {
            log::warn!("whoever reaches {address} can read the metrics: nobody is asked who they are");
        }
        let tally = Arc::new(Tally::new());
        handle.metered_by(Arc::clone(&tally) as Arc<dyn Meter>);
        let guests = Guests::serve("metrics", Arc::new(listener), MAX_GUESTS, move |mut guest, visit| {
            if let Err(error) = answer(&mut *guest, visit, &tally) {
                log::debug!("a request for metrics came to nothing: {error}");
            }
            guest.finish();
        })?;
        log::info!("metrics are at http://{address}/metrics");
        Ok(Metrics(guests))
    }
}

/// Metrics that are served as long as it lives.
#[derive(Debug)]
pub struct Metrics(#[allow(dead_code, reason = "held")] Guests);

fn answer(guest: &mut dyn Guest, visit: &Visit, tally: &Tally) -> io::Result<()> {
    let is_whole = |read: &[u8]| read.windows(4).any(|end| end == b"\r\n\r\n");
    let head = match read_until(guest, visit, is_whole, MAX_HEAD, PATIENCE) {
        Ok(head) => head,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return write(guest, "431 Request Header Fields Too Large", "too long\n", true);
        }
        Err(error) => return Err(error),
    };
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let (Ok(_), Some(method), Some(path)) = (request.parse(&head), request.method, request.path) else {
        return write(guest, "400 Bad Request", "not a request\n", true);
    };
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return write(guest, "405 Method Not Allowed", "only GET and HEAD\n", true),
    };
    let probe =
        |well, bad: &'static str| if well { ("200 OK", "ok\n") } else { ("503 Service Unavailable", bad) };
    let (status, body) = match path.split('?').next().unwrap_or_default() {
        "/metrics" => return write(guest, "200 OK", &text::of(&tally.numbers()), with_body),
        "/healthz" | "/readyz" if !tally.turns() => probe(false, "the worker's loop does not turn\n"),
        "/healthz" => probe(true, ""),
        "/readyz" => probe(tally.is_serving(), "no session is open\n"),
        _ => ("404 Not Found", "there are /metrics, /healthz and /readyz\n"),
    };
    write(guest, status, body, with_body)
}

fn write(guest: &mut dyn Guest, status: &str, body: &str, with_body: bool) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {TEXT}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let body = if with_body { body } else { "" };
    guest.write_all(format!("{head}{body}").as_bytes())?;
    guest.flush()
}
