//! `logs` of a worker that runs.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use super::{Rig, TOKEN, until};

#[test]
fn logs_are_read_out_and_followed_to_the_end_without_credentials() {
    let (rig, mut session) = Rig::start("async-std", "", &[]);
    rig.lives(|live| live["session"]["state"] == "serving");
    // It is seen to serve a moment before it says so.
    let all = until(|| {
        let all = rig.home.prints(&["logs"]);
        all.contains("session open as w-1").then_some(all)
    });
    assert!(all.lines().next().unwrap().contains(" starts with "), "from its first line on: {all}");
    let opened = all.lines().find(|line| line.contains("session open as w-1")).unwrap();
    assert!(opened.starts_with("[20") && opened.contains(" INFO  studio_worker] "), "{opened}");
    assert_eq!(rig.home.prints(&["logs", "-n", "1"]).lines().count(), 1);

    let mut following = rig.home.program(&["logs", "-f", "-n", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines().map(Result::unwrap);
    // It may not be there yet, so that something is said again and again.
    let mut offers = 0;
    let mut first = None;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| lines.next());
        while !reading.is_finished() {
            offers += 1;
            session.offer(&format!("j-{offers}"), "hologram", TOKEN);
            let answer = session.frame();
            assert_eq!(answer["type"], "reject", "{answer}");
            rig.home.prints(&["pause"]);
            rig.home.prints(&["resume"]);
        }
        first = reading.join().unwrap();
    });
    assert!(first.unwrap().starts_with("[20"));
    rig.worker.signal("-TERM");
    let log = rig.ends(&mut session);
    let rest: Vec<_> = lines.collect();
    assert_eq!(rest.last().unwrap(), "the worker has ended");
    assert!(rest.iter().any(|line| line.contains("] session: drained")), "to its last line: {rest:?}\n{log}");
    assert!(rest.iter().chain([&all]).all(|line| !line.contains(TOKEN)));
    assert_eq!(following.wait().unwrap().code(), Some(0));
}
