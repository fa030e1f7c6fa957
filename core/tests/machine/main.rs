//! This machine, and what only a process of its own can show of it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test of real processes"
)]

mod platform;

#[cfg(unix)]
mod unix {
    use std::{
        env, fs,
        io::{BufRead as _, BufReader},
        path::Path,
        process::{Command, Stdio},
        sync::Arc,
        thread,
        time::{Duration, Instant},
    };

    use futures::executor::block_on;
    use libtest_mimic::{Arguments, Conclusion, Trial};
    use studio_worker_core::{
        conformance::{PATIENCE, programs},
        drive::Machine,
        machine::{Keep, Made, Process, Program, Ran, Source},
        transport::{Folder, LocalMachine},
    };

    use crate::platform::Threads;

    /// What this program is told to be somebody's worker.
    const VICTIM: &str = "--victim";

    fn machine(folder: &Path) -> LocalMachine<Threads> {
        LocalMachine::new(Threads::new(), Folder::at(folder))
    }

    fn script(script: &str) -> Process {
        Process {
            program: Program {
                program: "/bin/sh".into(),
                arguments: vec!["-c".into(), script.into()],
                ..Program::default()
            },
            inputs: Vec::new(),
            stdin: Vec::new(),
            source: Source::Stdout,
            keep: Keep::Memory,
            limit: 1024 * 1024,
            wants_memory: false,
        }
    }

    fn said(ran: Ran) -> String {
        let Some(Made::Memory(bytes)) = ran.made else { panic!("{ran:?}") };
        String::from_utf8(bytes).unwrap()
    }

    fn is_running(pid: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
    }

    fn eventually(otherwise: &str, mut condition: impl FnMut() -> bool) {
        let since = Instant::now();
        while !condition() {
            assert!(since.elapsed() < PATIENCE, "{otherwise}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A worker that runs a program, and says which processes belong to it.
    fn victim() {
        let folder = env::args_os().nth(2).unwrap();
        let folder = Path::new(&folder);
        let pids = folder.join("pids");
        // The program, one that it started, and its guard, which leads its group.
        let runs = format!(
            "trap '' TERM HUP; sleep 1000 & echo $$ $! $(ps -o pgid= -p $$) > '{0}.new'; mv '{0}.new' '{0}'; sleep 1000",
            pids.display()
        );
        let run = machine(folder).run(script(&runs));
        thread::spawn(move || block_on(run));
        eventually("it does not begin", || pids.exists());
        println!("{}", fs::read_to_string(pids).unwrap().trim());
        thread::sleep(PATIENCE);
    }

    /// However a worker ends, what it ran ends with it.
    fn nothing_outlives_a_worker_that_is_killed() {
        for signal in ["KILL", "TERM"] {
            let folder = tempfile::tempdir().unwrap();
            let mut worker = Command::new(env::current_exe().unwrap())
                .arg(VICTIM)
                .arg(folder.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(worker.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let pids: Vec<_> = line.split_whitespace().collect();
            assert_eq!(pids.len(), 3, "{line}");
            assert!(pids.iter().all(|pid| is_running(pid)), "{line}");
            let id = worker.id().to_string();
            let killed = Command::new("/bin/sh").args(["-c", "kill -$0 $1", signal, &id]).status().unwrap();
            assert!(killed.success());
            worker.wait().unwrap();
            for pid in pids {
                eventually("a process lives on", || !is_running(pid));
            }
        }
    }

    fn no_secret_is_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let variables = [
            ("PATH", env::var("PATH").unwrap()),
            ("LANG", "C".into()),
            ("HF_TOKEN", "hf_1".into()),
            ("OPENAI_API_KEY", "sk-1".into()),
            ("DATABASE_URL", "postgres://user:pass@db/x".into()),
            ("STUDIO_WORKER_LABEL", "mine".into()),
        ];
        let machine = machine(folder.path())
            .with_environment(variables.map(|(name, value)| (name.into(), value.into())));
        let mut process = script("/usr/bin/env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= | sort");
        process.program.inherits = vec!["HF_TOKEN".into(), "NOT_THERE".into()];
        process.program.environment = vec![("LANG".into(), "de".into()), ("A_KEY".into(), "given".into())];
        let seen = said(block_on(machine.run(process)).unwrap());
        let wanted = format!("A_KEY=given\nHF_TOKEN=hf_1\nLANG=de\nPATH={}\n", env::var("PATH").unwrap());
        assert_eq!(seen, wanted);
    }

    fn programs_are_found_on_the_path_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::create_dir_all(folder.path().join("a/tool")).unwrap();
        fs::create_dir_all(folder.path().join("b")).unwrap();
        let listed = format!("::{}:{}", path("a"), path("b"));
        let machine = machine(folder.path()).with_environment([("PATH".into(), listed.into())]);
        let find = || block_on(machine.find(vec!["tool".into(), path("b/tool"), "sh".into()]));
        assert_eq!(find(), [None, None, None]);
        fs::write(path("b/tool"), "#!/bin/sh\n").unwrap();
        assert_eq!(find(), [None, None, None], "it can't be executed");
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path("b/tool"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(find(), [Some(path("b/tool")), Some(path("b/tool")), None]);
    }

    pub(crate) fn main() -> Conclusion {
        if env::args().nth(1).as_deref() == Some(VICTIM) {
            victim();
            std::process::exit(0);
        }
        let mut trials: Vec<_> = programs::ALL
            .iter()
            .map(|(name, test)| {
                Trial::test(*name, move || {
                    let folder = tempfile::tempdir().unwrap();
                    let machine: Arc<dyn Machine> = Arc::new(machine(folder.path()));
                    test(programs::Subject {
                        machine: &machine,
                        folder: folder.path(),
                        block_on: |work| block_on(work),
                    });
                    Ok(())
                })
            })
            .collect();
        let own: [(&str, fn()); 3] = [
            ("nothing_outlives_a_worker_that_is_killed", nothing_outlives_a_worker_that_is_killed),
            ("no_secret_is_handed_on", no_secret_is_handed_on),
            ("programs_are_found_on_the_path_alone", programs_are_found_on_the_path_alone),
        ];
        trials.extend(own.map(|(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
        }));
        let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
        programs::nothing_is_left();
        conclusion
    }
}

fn main() {
    #[cfg(unix)]
    unix::main().exit();
}
