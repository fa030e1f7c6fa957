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
        os::unix::fs::PermissionsExt as _,
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
        machine::{Keep, Made, Memory, Process, Program, ProgramFailure, Ran, Source},
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
        // The program, one that it started, which writes without end, and what leads their group.
        let runs = format!(
            "trap '' TERM HUP; while :; do mkdir -p a; : > a/$((i += 1)); done & \
             echo $$ $! $(ps -o pgid= -p $$) > '{0}.new'; mv '{0}.new' '{0}'; sleep 1000",
            pids.display()
        );
        let run = machine(folder).run(script(&runs));
        thread::spawn(move || block_on(run));
        eventually("it does not begin", || pids.exists());
        println!("{}", fs::read_to_string(pids).unwrap().trim());
        thread::sleep(PATIENCE);
    }

    /// Whether a process has this in its arguments.
    fn has_in_its_arguments(text: &str) -> bool {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut arguments = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        arguments.any(|arguments| String::from_utf8_lossy(&arguments).contains(text))
    }

    /// However a worker ends, what it ran ends with it, and nothing of that is left.
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
            eventually("a guard lives on", || !has_in_its_arguments(folder.path().to_str().unwrap()));
            let left: Vec<_> =
                fs::read_dir(folder.path()).unwrap().flatten().map(|left| left.path()).collect();
            assert_eq!(left, [folder.path().join("pids")]);
        }
    }

    /// What left the group may hold its output open, and nobody knows whether all of it came.
    #[cfg(target_os = "linux")]
    fn what_may_not_be_whole_is_no_result() {
        let folder = tempfile::tempdir().unwrap();
        let machine = machine(folder.path());
        let escape = "setsid sh -c ': > out; sleep 60' & until [ -e out ]; do sleep 0.01; done";
        for keep in [Keep::Memory, Keep::File] {
            let escapes = Process { keep, ..script(&format!("echo a part; {escape}")) };
            let failure = block_on(machine.run(escapes)).unwrap_err();
            let ProgramFailure::Trouble { why, .. } = failure else { panic!("{failure:?}") };
            assert_eq!(why, "it has ended, and something that it started still holds its output open");
            // What is for people to read is taken as it is.
            let talks = Process { keep, ..script(&format!("echo all; exec 1>&-; {escape}")) };
            assert!(block_on(machine.run(talks)).unwrap().ended.is_success());
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
        let mut process =
            script("/usr/bin/env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^TMP -e ^TEMP= | sort");
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
        fs::set_permissions(path("b/tool"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(find(), [Some(path("b/tool")), Some(path("b/tool")), None]);
    }

    /// A machine whose `nvidia-smi` is this script, and whose system's files are in the folder `root`.
    fn measured(platform: Threads, folder: &Path, nvidia_smi: Option<&str>) -> LocalMachine<Threads> {
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).unwrap();
        if let Some(script) = nvidia_smi {
            write_script(&bin.join("nvidia-smi"), script);
        }
        let path = format!("{}:/usr/bin:/bin", bin.display());
        LocalMachine::new(platform, Folder::at(folder))
            .with_environment([("PATH".into(), path.into())])
            .with_system_files_in(folder.join("root"))
    }

    /// Writes a program. By another process: one that this process has written can't be run while a child of another
    /// thread, which is about to become another program, still has it open.
    fn write_script(path: &Path, script: &str) {
        let text = tempfile::NamedTempFile::new().unwrap();
        fs::write(text.path(), format!("#!/bin/sh\n{script}\n")).unwrap();
        let written =
            std::process::Command::new("install").args(["-m", "700"]).arg(text.path()).arg(path).status();
        assert!(written.unwrap().success());
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn nvidia_smi_is_asked() {
        const MIB: u64 = 1024 * 1024;
        let asked =
            "[ \"$*\" = '--query-gpu=memory.total,memory.free --format=csv,noheader,nounits' ] || exit 2";
        for (script, total, free) in [
            ("echo '24564, 23010'", Some(24_564), Some(23_010)),
            ("echo '24564, 100'; echo '8192, 8000'", Some(24_564), Some(8_000)),
            ("echo '[N/A], [N/A]'", None, None),
            ("echo '24564, 23010'; exit 9", None, None),
            ("echo 'NVIDIA-SMI has failed'; exit 9", None, None),
            ("head -c 1000000 /dev/zero", None, None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            // It has all the time that a busy machine takes.
            let patient = Threads::sleeping(|_| thread::sleep(PATIENCE));
            let machine = measured(patient, folder.path(), Some(&format!("{asked}\n{script}")));
            let memory = block_on(machine.measure());
            let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes / MIB);
            assert_eq!((mib(memory.gpu_total), mib(memory.gpu_free)), (total, free), "{script}");
        }
    }

    fn what_hangs_is_not_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("asked");
        let script = format!("echo $$ >> '{}'; trap '' TERM; sleep 1000", log.display());
        // Its time is over once it has been asked, however long that takes.
        let seen = log.clone();
        let is_asked = move || fs::read_to_string(&seen).is_ok_and(|asked| asked.ends_with('\n'));
        let until_asked = Threads::sleeping(move |_| eventually("it is not asked", &is_asked));
        let machine = measured(until_asked, folder.path(), Some(&script));
        write(&folder.path().join("root"), "proc/meminfo", "MemAvailable: 5 kB\n");
        for _ in 0..3 {
            let memory = block_on(machine.measure());
            assert_eq!((memory.gpu_total, memory.host_available), (None, Some(5 * 1024)));
        }
        let asked = fs::read_to_string(log).unwrap();
        assert_eq!(asked.lines().count(), 1, "{asked}");
        eventually("it hangs on", || !is_running(asked.trim()));
    }

    fn what_the_system_shows_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        // A container without an `nvidia-smi`.
        let machine = measured(Threads::new(), folder.path(), None);
        assert_eq!(block_on(machine.measure()), Memory::default());
        for (path, text) in [
            ("sys/class/drm/card0/device/mem_info_vram_total", "17163091968\n"),
            ("sys/class/drm/card0/device/mem_info_vram_used", "1163091968\n"),
            ("sys/class/drm/card1/lmem_total_bytes", "8589934592\n"),
            ("sys/class/drm/card1/lmem_avail_bytes", "8000000000\n"),
            ("sys/class/drm/card0-HDMI-A-1/device/mem_info_vram_total", "99999999999\n"),
            ("sys/class/drm/version", "x"),
            ("proc/meminfo", "MemTotal: 9 kB\nMemAvailable:  8000000 kB\n"),
        ] {
            write(&root, path, text);
        }
        let memory = Memory {
            gpu_total: Some(17_163_091_968),
            gpu_free: Some(16_000_000_000),
            host_available: Some(8_192_000_000),
        };
        assert_eq!(block_on(machine.measure()), memory);
        // A limit above it holds for a group, too.
        for (path, text) in [
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "5\n"),
            ("sys/fs/cgroup/a/memory.max", "1000\n"),
            ("sys/fs/cgroup/a/memory.current", "400\n"),
        ] {
            write(&root, path, text);
        }
        assert_eq!(block_on(machine.measure()), Memory { host_available: Some(600), ..memory });
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
        let own: &[(&str, fn())] = &[
            ("nvidia_smi_is_asked", nvidia_smi_is_asked),
            ("what_hangs_is_not_asked_again", what_hangs_is_not_asked_again),
            ("what_the_system_shows_is_read", what_the_system_shows_is_read),
            ("nothing_outlives_a_worker_that_is_killed", nothing_outlives_a_worker_that_is_killed),
            #[cfg(target_os = "linux")]
            ("what_may_not_be_whole_is_no_result", what_may_not_be_whole_is_no_result),
            ("no_secret_is_handed_on", no_secret_is_handed_on),
            ("programs_are_found_on_the_path_alone", programs_are_found_on_the_path_alone),
        ];
        trials.extend(own.iter().map(|(name, test)| {
            Trial::test(*name, move || {
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
