//! What every runtime's machine must do with programs, with real ones: scripts of a few lines.
#![cfg(unix)]

use std::{
    fs,
    future::Future,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures::{
    channel::oneshot,
    future::{Either, select},
};

use super::{
    PATIENCE,
    local::{BlockOn, wait},
};
use crate::{
    drive::{Launched, Machine},
    machine::{
        Argument, Ended, Keep, Made, Part, Process, Program, ProgramFailure, Ran, STDERR_KEPT, ServerWanted,
        Source,
    },
};

/// A machine under test.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The machine.
    pub machine: &'a Arc<dyn Machine>,
    /// Where it keeps its files, and nobody else.
    pub folder: &'a Path,
    /// Waits for a future on its runtime.
    pub block_on: BlockOn,
}

/// A test of a machine.
pub type MachineTest = fn(Subject<'_>);

/// Every test of a machine, by its name.
pub const ALL: &[(&str, MachineTest)] = &[
    ("what_it_writes_is_the_result", what_it_writes_is_the_result),
    ("a_file_that_it_leaves_is_the_result", a_file_that_it_leaves_is_the_result),
    ("what_it_is_given_lies_in_its_folder", what_it_is_given_lies_in_its_folder),
    ("a_failure_comes_with_the_last_words", a_failure_comes_with_the_last_words),
    ("a_signal_is_told", a_signal_is_told),
    ("who_makes_more_than_it_may_is_stopped", who_makes_more_than_it_may_is_stopped),
    ("only_a_file_is_taken", only_a_file_is_taken),
    ("what_was_left_is_taken_before_it_is_cleared_away", what_was_left_is_taken_before_it_is_cleared_away),
    ("input_that_is_not_read_holds_nothing_up", input_that_is_not_read_holds_nothing_up),
    ("what_outlives_its_program_is_ended", what_outlives_its_program_is_ended),
    ("what_nobody_waits_for_is_killed", what_nobody_waits_for_is_killed),
    ("a_program_that_is_not_there_is_named", a_program_that_is_not_there_is_named),
    ("programs_are_found", programs_are_found),
    ("a_server_gets_a_port_and_a_key", a_server_gets_a_port_and_a_key),
    ("a_server_that_is_asked_to_stop_has_time_for_it", a_server_that_is_asked_to_stop_has_time_for_it),
    ("a_server_that_does_not_stop_is_killed", a_server_that_does_not_stop_is_killed),
    ("a_server_that_nobody_has_is_killed", a_server_that_nobody_has_is_killed),
];

/// Fails unless this process has no child soon, not even one that has ended.
pub fn nothing_is_left() {
    let own = std::process::id().to_string();
    eventually("a child is left", || {
        let of_ours = |pid: &str| stat(pid).is_some_and(|(_, parent)| parent == own);
        !processes().iter().any(|pid| of_ours(pid))
    });
}

impl Subject<'_> {
    fn wait<T: Send + 'static>(self, work: impl Future<Output = T> + Send + 'static) -> T {
        wait(self.block_on, work)
    }

    fn run(self, process: Process) -> Result<Ran, ProgramFailure> {
        let ran = self.wait(self.machine.run(process));
        let kept = usize::from(matches!(&ran, Ok(Ran { made: Some(Made::File { .. }), .. })));
        assert_eq!(self.files(), kept, "scratch files are left");
        ran
    }

    fn launch(self, script: &str) -> Launched {
        self.wait(self.machine.launch(server(script))).unwrap()
    }

    fn files(self) -> usize {
        fs::read_dir(self.folder).unwrap().count()
    }
}

fn shell(script: &str) -> Program {
    Program { program: "sh".into(), arguments: vec!["-c".into(), script.into()], ..Program::default() }
}

fn script(script: &str) -> Process {
    Process {
        program: shell(script),
        inputs: Vec::new(),
        stdin: Vec::new(),
        source: Source::Stdout,
        keep: Keep::Memory,
        limit: 1024 * 1024,
        wants_memory: false,
    }
}

fn leaving(text: &str, keep: Keep) -> Process {
    Process { source: Source::File("out".into()), keep, ..script(text) }
}

fn server(script: &str) -> ServerWanted {
    let environment = vec![("PORT".into(), Part::Port.into()), ("KEY".into(), Part::Key.into())];
    ServerWanted {
        program: Program { environment, ..shell(script) },
        loads: Vec::new(),
        idle: Duration::from_secs(60),
    }
}

fn memory(ran: Ran) -> Vec<u8> {
    assert!(ran.ended.is_success(), "{:?}", ran.ended);
    match ran.made {
        Some(Made::Memory(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

fn text(ran: Ran) -> String {
    String::from_utf8(memory(ran)).unwrap()
}

/// Of a file that was kept: what is in it, and how it begins. It is deleted.
fn file(ran: Ran) -> (Vec<u8>, Vec<u8>) {
    let Some(Made::File { file, head }) = ran.made else { panic!("{ran:?}") };
    let mode = fs::metadata(&*file.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let bytes = fs::read(&*file.path).unwrap();
    assert_eq!(bytes.len() as u64, file.bytes);
    fs::remove_file(&*file.path).unwrap();
    (bytes, head)
}

fn eventually(otherwise: &str, mut condition: impl FnMut() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "{otherwise}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The processes that there are; on systems that don't tell, none.
fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The state and the parent of a process.
fn stat(pid: &str) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have anything in it.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned);
    Some((fields.next()?, fields.next()?))
}

/// Waits until these processes are gone. One that has ended is, when it is only its new parent who has not yet looked.
fn are_gone(pids: &str) {
    for pid in pids.split_whitespace() {
        eventually("a process lives on", || stat(pid).is_none_or(|(state, _)| state == "Z"));
    }
}

fn what_it_writes_is_the_result(subject: Subject<'_>) {
    let input: Vec<u8> = (0..900_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let echo = |keep| Process { stdin: input.clone(), keep, ..script("echo words >&2; cat") };
    let ran = subject.run(echo(Keep::Memory)).unwrap();
    assert_eq!(ran.ended.stderr, b"words\n");
    assert!(memory(ran) == input);
    let (bytes, head) = file(subject.run(echo(Keep::File)).unwrap());
    assert!(bytes == input && head == input[..4096]);
    for keep in [Keep::Memory, Keep::File] {
        let nothing = subject.run(Process { keep, ..script("true") }).unwrap();
        match keep {
            Keep::Memory => assert_eq!(memory(nothing), b""),
            Keep::File => assert_eq!(file(nothing), (Vec::new(), Vec::new())),
        }
    }
}

fn a_file_that_it_leaves_is_the_result(subject: Subject<'_>) {
    let makes = "umask 0; echo to people; echo and more >&2; printf made > out";
    for keep in [Keep::Memory, Keep::File] {
        let ran = subject.run(leaving(makes, keep)).unwrap();
        assert_eq!(ran.ended.stderr, b"to people\nand more\n");
        match keep {
            Keep::Memory => assert_eq!(memory(ran), b"made"),
            Keep::File => assert_eq!(file(ran), (b"made".to_vec(), b"made".to_vec())),
        }
    }
    // A file with another name is not only the result's.
    let linked = subject.run(leaving("printf made > other; ln other out", Keep::File)).unwrap();
    assert_eq!(file(linked).0, b"made");
    let nothing = subject.run(leaving("true", Keep::Memory)).unwrap();
    assert!(nothing.ended.is_success() && nothing.made.is_none());
    let failed = subject.run(leaving("echo made > out; exit 4", Keep::File)).unwrap();
    assert_eq!((failed.ended.code, failed.made), (Some(4), None));
}

fn what_it_is_given_lies_in_its_folder(subject: Subject<'_>) {
    let path = Argument([Part::Text("--in=".into()), Part::Scratch("a b".into())].into());
    let mut process = script("pwd; ls; cat 'a b'; echo \"$0 $1 $VAR\"; ls -ld . | cut -c1-10");
    process.program.arguments.extend(["name with $HOME".into(), path]);
    process.program.environment = vec![("VAR".into(), Part::Scratch("x".into()).into())];
    process.inputs = vec![("a b".into(), b"given\n".to_vec()), ("c".into(), Vec::new())];
    let said = text(subject.run(process.clone()).unwrap());
    let folder = said.lines().next().unwrap();
    assert!(Path::new(folder).starts_with(fs::canonicalize(subject.folder).unwrap()), "{folder}");
    let rest = said.split_once('\n').unwrap().1.replace(folder, "…");
    let scratch = "a b\nc\ngiven\nname with $HOME --in=…/a b …/x\ndrwx------\n";
    assert_eq!(rest, scratch);

    for name in ["../a", "/a", ".", ""] {
        process.inputs = vec![(name.into(), Vec::new())];
        let why = subject.run(process.clone()).unwrap_err().to_string();
        assert!(why.ends_with(&format!("{name:?} is not the plain name of a file")), "{why}");
    }
}

fn a_failure_comes_with_the_last_words(subject: Subject<'_>) {
    let flood = "head -c 3000000 /dev/zero | tr '\\0' '\\377' >&2; echo end >&2; exit 3";
    for process in [script(flood), leaving(&flood.replace(">&2", ""), Keep::File)] {
        let ran = subject.run(process).unwrap();
        assert_eq!((ran.ended.code, ran.ended.signal, ran.made), (Some(3), None, None));
        assert_eq!(ran.ended.stderr.len(), STDERR_KEPT);
        assert!(ran.ended.stderr.starts_with(b"\xff\xff") && ran.ended.stderr.ends_with(b"\xffend\n"));
    }
}

fn a_signal_is_told(subject: Subject<'_>) {
    let ran = subject.run(script("echo made; kill -9 $$")).unwrap();
    assert_eq!(ran, Ran { ended: Ended { code: None, signal: Some(9), stderr: Vec::new() }, made: None });
}

fn who_makes_more_than_it_may_is_stopped(subject: Subject<'_>) {
    let exact = Process { limit: 5, ..script("printf 12345") };
    for keep in [Keep::Memory, Keep::File] {
        let ran = subject.run(Process { keep, ..exact.clone() }).unwrap();
        match keep {
            Keep::Memory => assert_eq!(memory(ran), b"12345"),
            Keep::File => assert_eq!(file(ran).0, b"12345"),
        }
        let more = ["echo 12345", "while :; do echo more; done"];
        let left = ["echo 12345 > out", "while :; do echo more; done > out"];
        let stdout = more.map(|text| Process { keep, limit: 5, ..script(text) });
        for process in stdout.into_iter().chain(left.map(|text| Process { limit: 5, ..leaving(text, keep) }))
        {
            let what = format!("{process:?}");
            let failure = subject.run(process).unwrap_err();
            assert_eq!(failure, ProgramFailure::TooLarge { program: "sh".into(), limit: 5 }, "{what}");
        }
    }
}

fn only_a_file_is_taken(subject: Subject<'_>) {
    for keep in [Keep::Memory, Keep::File] {
        for makes in ["ln -s /etc/passwd out", "mkdir out", "mkfifo out", "ln -s nowhere out"] {
            let why = subject.run(leaving(makes, keep)).unwrap_err().to_string();
            assert!(why.ends_with("what it left as out is not a file"), "{makes}: {why}");
        }
    }
}

fn what_was_left_is_taken_before_it_is_cleared_away(subject: Subject<'_>) {
    for n in 0..100 {
        let keep = if n % 2 == 0 { Keep::File } else { Keep::Memory };
        let ran = subject.run(leaving(&format!("echo {n} > out"), keep)).unwrap();
        let bytes = if keep == Keep::File { file(ran).0 } else { memory(ran) };
        assert_eq!(bytes, format!("{n}\n").into_bytes());
    }
}

fn input_that_is_not_read_holds_nothing_up(subject: Subject<'_>) {
    for end in ["exit 0", "exec 0<&-; exit 0", "head -c 1"] {
        let process = Process { stdin: vec![b'x'; 2_000_000], ..script(end) };
        assert!(subject.run(process).unwrap().ended.is_success(), "{end}");
    }
    assert_eq!(text(subject.run(script("cat")).unwrap()), "");
}

fn what_outlives_its_program_is_ended(subject: Subject<'_>) {
    // They hold all its pipes, and don't listen to gentle signals.
    let leaves = "trap '' TERM HUP; sleep 1000 & echo $!; (sleep 1001 & echo $!) & wait $!";
    are_gone(&text(subject.run(script(leaves)).unwrap()));
    let failed = subject.run(script(&format!("exec >&2; {leaves}; exit 1"))).unwrap();
    are_gone(&String::from_utf8(failed.ended.stderr).unwrap());
}

fn what_nobody_waits_for_is_killed(subject: Subject<'_>) {
    let told = tempfile::tempdir().unwrap();
    let path = told.path().join("pids");
    let runs = format!(
        "trap '' TERM; sleep 1000 & echo $$ $! > '{0}.new'; mv '{0}.new' '{0}'; yes >&2",
        path.display()
    );
    let (tell, has_begun) = oneshot::channel();
    let looks = path.clone();
    let looking = thread::spawn(move || {
        eventually("it does not begin", || looks.exists());
        let _ = tell.send(());
    });
    let run = subject.machine.run(script(&runs));
    subject.wait(async move {
        match select(run, has_begun).await {
            Either::Left(_) => panic!("it ends"),
            Either::Right(_) => {}
        }
    });
    looking.join().unwrap();
    are_gone(&fs::read_to_string(path).unwrap());
    eventually("scratch files are left", || subject.files() == 0);
    // What was never waited for never began.
    drop(subject.machine.run(script("exit 1")));
    assert_eq!(subject.files(), 0);
}

fn a_program_that_is_not_there_is_named(subject: Subject<'_>) {
    for program in ["no-such-program-here", "/no/such", "", "/etc/passwd", "/etc"] {
        let missing = Program { program: program.into(), ..Program::default() };
        let refused = ProgramFailure::NotFound { program: program.into() };
        assert_eq!(subject.run(Process { program: missing.clone(), ..script("") }), Err(refused.clone()));
        let launched = subject.machine.launch(ServerWanted { program: missing, ..server("") });
        assert_eq!(subject.wait(launched).map(drop), Err(refused));
        assert_eq!(subject.files(), 0);
    }
}

fn programs_are_found(subject: Subject<'_>) {
    let programs = ["sh", "/bin/sh", "no-such-program-here", "/etc/passwd", ""].map(String::from);
    let found = subject.wait(subject.machine.find(programs.to_vec()));
    assert!(
        found[0].as_ref().is_some_and(|path| path.starts_with('/') && path.ends_with("/sh")),
        "{found:?}"
    );
    assert_eq!(found[1..], [Some("/bin/sh".into()), None, None, None]);
}

fn a_server_gets_a_port_and_a_key(subject: Subject<'_>) {
    let launch = || subject.launch("echo \"$PORT $KEY\"; exit 7");
    let (one, other) = (launch(), launch());
    assert_ne!(one.serving.key, other.serving.key);
    for Launched { serving, ended, .. } in [one, other] {
        let ended = subject.wait(ended);
        let port = serving.base.strip_prefix("http://127.0.0.1:").unwrap();
        assert!(port.parse::<u16>().is_ok_and(|port| port != 0));
        let key = serving.key.reveal();
        assert!(key.len() == 64 && key.chars().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(String::from_utf8(ended.stderr).unwrap(), format!("{port} {key}\n"));
        assert_eq!((ended.code, ended.signal), (Some(7), None));
    }
    assert_eq!(subject.files(), 0);
}

fn a_server_that_is_asked_to_stop_has_time_for_it(subject: Subject<'_>) {
    let launched = subject.launch("trap 'echo bye; exit 0' TERM; echo up > up; sleep 1000 & wait");
    let is_up =
        || fs::read_dir(subject.folder).unwrap().any(|scratch| scratch.unwrap().path().join("up").exists());
    eventually("it does not begin", is_up);
    (launched.stop)();
    let ended = subject.wait(launched.ended);
    assert_eq!((ended.code, ended.stderr.as_slice()), (Some(0), b"bye\n".as_slice()));
    assert_eq!(subject.files(), 0);
}

fn a_server_that_does_not_stop_is_killed(subject: Subject<'_>) {
    let launched = subject.launch("trap '' TERM; echo up > up; sleep 1000");
    let is_up =
        || fs::read_dir(subject.folder).unwrap().any(|scratch| scratch.unwrap().path().join("up").exists());
    eventually("it does not begin", is_up);
    (launched.stop)();
    assert_eq!(subject.wait(launched.ended).signal, Some(9));
    assert_eq!(subject.files(), 0);
}

fn a_server_that_nobody_has_is_killed(subject: Subject<'_>) {
    let launched = subject.launch("trap '' TERM; echo $$ > new; mv new pid; sleep 1000");
    let pid = || {
        let scratch = fs::read_dir(subject.folder).unwrap().next()?.unwrap();
        fs::read_to_string(scratch.path().join("pid")).ok()
    };
    eventually("it does not begin", || pid().is_some());
    let pid = pid().unwrap();
    drop(launched);
    are_gone(&pid);
    eventually("scratch files are left", || subject.files() == 0);
}
