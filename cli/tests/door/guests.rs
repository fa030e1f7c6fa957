//! Those at the door who don't behave.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use super::{Rig, is_quick};

pub(super) fn knock(rig: &Rig) -> UnixStream {
    let stream = UnixStream::connect(rig.folder().join("socket")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn ask(rig: &Rig, line: &[u8]) -> String {
    let (mut stream, mut answer) = (knock(rig), String::new());
    // It may be refused before it is read to its end.
    let _ = stream.write_all(line);
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn garbage_and_slow_ones_disturb_neither_the_worker_nor_others() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.lives(|live| live["session"]["state"] == "serving");
    for line in [&b"\n"[..], b"{}\n", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b"{\"ask\":\"dance\"}\n"] {
        let answer = ask(&rig, line);
        assert!(answer.starts_with(r#"{"is":"refused","why":"#) && answer.ends_with('\n'), "{answer}");
    }
    ask(&rig, &vec![b'x'; 1 << 20]);
    // Some say nothing, one says it slowly, one stops in the middle, and one doesn't read.
    let silent: Vec<_> = (0..3).map(|_| knock(&rig)).collect();
    let mut slow = knock(&rig);
    slow.write_all(b"{\"ask\":").unwrap();
    let mut half = knock(&rig);
    half.write_all(b"{\"ask\":\"status\"}").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut deaf = knock(&rig);
    deaf.write_all(b"{\"ask\":\"watch\"}\n").unwrap();
    // Asked from here: who says it slowly has 5 s, and a program may need much of that for its start.
    assert!(ask(&rig, b"{\"ask\":\"status\"}\n").contains(r#""reacts":true"#));
    // Whole in the end, and with what a newer program would say.
    slow.write_all(b"\"status\",\"door\":9,\"new\":{}}\n").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""is":"state""#) && answer.contains(r#""workerId":"w-1""#), "{answer}");
    assert_eq!(rig.home.run(&["status", "--check"]).code, 0);
    session.delivers_with(&rig);
    drop((silent, half, deaf));
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
}

#[test]
fn of_many_some_are_turned_away_and_the_worker_goes_on() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.lives(|live| live["session"]["state"] == "serving");
    let crowd: Vec<_> = (0..40).map(|_| knock(&rig)).collect();
    is_quick(&mut session);
    drop(crowd);
    rig.lives(|live| live["session"]["state"] == "serving");
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
}

#[test]
fn those_who_say_nothing_keep_nobody_out() {
    let mut rig = Rig::alone("async-std", "", &["--metrics", "127.0.0.1:0"]);
    let line = rig.worker.logs("metrics are at http://");
    let address = line.split("http://").nth(1).unwrap().strip_suffix("/metrics").unwrap().to_owned();
    let mut session = rig.studio.session();
    rig.lives(|live| live["session"]["state"] == "serving");
    let at_the_door: Vec<_> = (0..16).map(|_| knock(&rig)).collect();
    let at_the_metrics: Vec<_> = (0..16).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for _ in 0..8 {
        let mut probe = TcpStream::connect(&address).unwrap();
        probe.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(rig.home.run(&["status", "--check"]).code, 0);
    }
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
    drop((at_the_door, at_the_metrics));
}

/// However many watch.
#[test]
fn short_questions_find_a_seat_and_who_would_watch_is_told_why_not() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.lives(|live| live["session"]["state"] == "serving");
    let mut watching = Vec::new();
    let refused = loop {
        let mut stream = knock(&rig);
        stream.write_all(b"{\"ask\":\"watch\"}\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        if !line.contains(r#""is":"state""#) {
            break line;
        }
        watching.push(stream);
        assert!(watching.len() < 16, "they take all seats");
    };
    assert!(watching.len() >= 8 && refused.contains("too many watch it"), "{refused}");
    for _ in 0..4 {
        assert_eq!(rig.home.run(&["status", "--check"]).code, 0);
        rig.home.prints(&["pause"]);
        assert_eq!(rig.home.prints(&["resume"]), "resumed: jobs are taken\n");
    }
    assert!(rig.home.fails(&["logs"]).contains("too many watch it"));
    // One leaves, and another one may.
    watching.pop();
    super::until(|| (rig.home.run(&["logs"]).code == 0).then_some(()));
    rig.worker.signal("-TERM");
    rig.ends(&mut session);
    drop(watching);
}

/// A job from its offer to its end.
trait Delivers {
    fn delivers_with(&mut self, rig: &Rig);
}

impl Delivers for studio_worker_core::conformance::Session {
    fn delivers_with(&mut self, rig: &Rig) {
        rig.begin(self, "j-1");
        rig.release(self, "j-1");
    }
}
