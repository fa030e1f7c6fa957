//! What every runtime's HTTP must do for engines, over real sockets: against a server of one thread that knows no HTTP
//! beyond what it is told to say.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread::{self, JoinHandle},
};

use crate::http::{HttpAnswer, HttpBody, HttpFailure, HttpRequest, Method, Reach};

/// Exchanges a request on the runtime under test, as the program `studio-worker/1`.
pub type Exchange = dyn Fn(HttpRequest) -> Result<HttpAnswer, HttpFailure>;

/// A test of the exchange that it is given.
pub type ExchangeTest = fn(&Exchange);

/// Every test of an exchange, by its name.
pub const ALL: &[(&str, ExchangeTest)] = &[
    ("a_body_goes_out_as_what_it_is", a_body_goes_out_as_what_it_is),
    ("a_post_without_a_body_says_so", a_post_without_a_body_says_so),
    ("of_an_answer_no_more_is_read_than_counts", of_an_answer_no_more_is_read_than_counts),
    ("a_redirect_is_an_answer", a_redirect_is_an_answer),
    ("only_addresses_within_reach_are_connected_to", only_addresses_within_reach_are_connected_to),
];

/// Runs these tests again, in a program like this one whose environment names a proxy that nobody answers at: what is on
/// this machine is not asked for there. Nothing happens where it is this second program.
pub fn without_a_proxy() {
    const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"];
    if std::env::var_os(PROXIES[0]).is_some_and(|proxy| proxy == NOWHERE) {
        return;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.envs(PROXIES.map(|name| (name, NOWHERE))).env_remove("no_proxy").env_remove("NO_PROXY");
    let ran = again.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

/// A proxy: nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Answers one request with `answer`, and returns the request; nothing when nobody comes.
fn serve(answer: String) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        let complete = |read: &[u8]| {
            let text = String::from_utf8_lossy(read).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
            let length = head
                .to_ascii_lowercase()
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split("\r\n").next().unwrap().trim().parse().unwrap());
            body.len() >= length
        };
        while !complete(&read) {
            let count = stream.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            read.extend_from_slice(&buffer[..count]);
        }
        // Whoever has read enough hangs up.
        let _ = stream.write_all(answer.as_bytes());
        String::from_utf8_lossy(&read).into_owned()
    });
    (port, served)
}

fn said(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn a_body_goes_out_as_what_it_is(exchange: &Exchange) {
    let (port, served) = serve(said("made"));
    let body =
        HttpBody { content_type: "multipart/form-data; boundary=b".into(), bytes: b"--b--\r\n".to_vec() };
    let request = HttpRequest {
        bearer: Some("sk-1".into()),
        ..HttpRequest::post(format!("http://127.0.0.1:{port}/v1/x?y=z"), body)
    };
    assert_eq!(exchange(request).unwrap().body, b"made");
    let seen = served.join().unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/x?y=z http/1.1\r\n"), "{head}");
    for line in [
        "authorization: bearer sk-1",
        "content-type: multipart/form-data; boundary=b",
        "user-agent: studio-worker/1",
    ] {
        assert_eq!(head.split("\r\n").filter(|seen| *seen == line).count(), 1, "{line} in {head}");
    }
    assert_eq!(body, "--b--\r\n");
}

fn a_post_without_a_body_says_so(exchange: &Exchange) {
    let (port, served) = serve(said("made"));
    let request =
        HttpRequest { method: Method::Post, ..HttpRequest::get(format!("http://127.0.0.1:{port}/")) };
    assert_eq!(exchange(request).unwrap().body, b"made");
    let head = served.join().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post / ") && head.contains("\r\ncontent-length: 0\r\n"), "{head}");
}

fn of_an_answer_no_more_is_read_than_counts(exchange: &Exchange) {
    for (limit, wanted) in [(3, "012"), (10, "0123456789"), (11, "0123456789")] {
        let (port, served) = serve(said("0123456789"));
        let request =
            HttpRequest { answer_limit: limit, ..HttpRequest::get(format!("http://127.0.0.1:{port}/")) };
        assert_eq!(exchange(request).unwrap().body, wanted.as_bytes(), "{limit}");
        served.join().unwrap();
    }
}

fn a_redirect_is_an_answer(exchange: &Exchange) {
    let (port, served) =
        serve("HTTP/1.1 302 x\r\nLocation: https://b.test/?c\r\nContent-Length: 0\r\n\r\n".into());
    let answer = exchange(HttpRequest::get(format!("http://127.0.0.1:{port}/"))).unwrap();
    assert_eq!((answer.status, answer.location.as_deref()), (302, Some("https://b.test/?c")));
    served.join().unwrap();
}

fn only_addresses_within_reach_are_connected_to(exchange: &Exchange) {
    for host in ["127.0.0.1", "localhost"] {
        let (port, served) = serve(said("own"));
        let url = format!("http://{host}:{port}/");
        let public = HttpRequest { reach: Reach::Public, ..HttpRequest::get(&*url) };
        let why = exchange(public).unwrap_err().0;
        let wanted = format!("{host} is not on the internet, and no other address is allowed");
        assert!(why.ends_with(&wanted), "{why}");
        // The server is still there for the first who comes: nobody did.
        let own = HttpRequest { reach: Reach::Loopback, ..HttpRequest::get(url) };
        assert_eq!(exchange(own).unwrap().body, b"own");
        let seen = served.join().unwrap().to_ascii_lowercase();
        assert!(seen.contains(&format!("host: {host}:{port}\r\n")), "{seen}");
    }
    let away = HttpRequest { reach: Reach::Loopback, ..HttpRequest::get("https://192.0.2.1/") };
    let why = exchange(away).unwrap_err().0;
    assert!(why.ends_with("192.0.2.1 is not this machine, and no other address is allowed"), "{why}");
}
