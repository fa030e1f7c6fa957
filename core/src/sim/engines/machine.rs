//! A machine whose answers are chosen by bytes, and what recipes may want of it.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};

use url::Url;

use super::{KEY, server::Hostile};
use crate::{
    engine::{EngineError, SpilledFile, llama::LlamaCpp},
    http::Reach,
    machine::{
        Argument, Ended, FileHad, FileWanted, Keep, Made, Part, Process, ProgramFailure, Ran, ServerWanted,
        Serving, Source, is_plain_name,
    },
};

/// Where models are kept.
pub(super) const MODELS: &str = "/models";
/// Where programs are found.
pub(super) const PROGRAMS: &str = "/opt/programs";
/// Where the server listens that was started.
pub(super) const CHILD: &str = "http://127.0.0.1:18080";
/// The program of the configuration's commands.
pub(super) const COMMAND: &str = "make-it";

/// The largest file that a program may make, in bytes.
const MAX_MADE: u64 = 4 << 30;
/// The most that goes to a program's scratch folder and stdin.
const MAX_INPUT: usize = 256 * 1024 * 1024;

/// Flags of `sd-cli` that take a value, and those that take none.
const WITH_VALUE: [&str; 22] = [
    "--diffusion-model",
    "--model",
    "--vae",
    "--llm",
    "--llm_vision",
    "--lora-model-dir",
    "-p",
    "--negative-prompt",
    "-r",
    "--init-img",
    "--strength",
    "--mask",
    "--cfg-scale",
    "--steps",
    "-W",
    "-H",
    "-o",
    "--seed",
    "--sampling-method",
    "--flow-shift",
    "--model-args",
    "--max-vram",
];
const ALONE: [&str; 3] = ["--offload-to-cpu", "--mmap", "--diffusion-fa"];

/// What a run has seen of the machine.
#[derive(Default)]
pub(super) struct Seen {
    /// The server that was wanted.
    server: Option<ServerWanted>,
    /// Whether it was said to run.
    pub(super) serves: bool,
    /// How the file begins that was made last.
    pub(super) head: Option<Vec<u8>>,
}

impl Seen {
    pub(super) fn find(hostile: &mut Hostile<'_>, programs: &[String]) -> Vec<Option<String>> {
        assert!((1..=8).contains(&programs.len()), "{programs:?}");
        let found = programs.iter().map(|program| {
            let name = program.rsplit('/').next().unwrap_or(program);
            (hostile.byte() & 3 != 3).then(|| format!("{PROGRAMS}/{name}"))
        });
        found.collect()
    }

    pub(super) fn have(hostile: &mut Hostile<'_>, wanted: &FileWanted) -> Result<FileHad, EngineError> {
        if wanted.path.starts_with(PROGRAMS) {
            assert_eq!(wanted.path, format!("{PROGRAMS}/libstable-diffusion.so"));
            assert_eq!((wanted.copies.len(), &wanted.origin), (0, &None), "a library is not downloaded");
        } else {
            check_place(&wanted.path, 2);
            let folder = wanted.path.split('/').nth(2).unwrap_or_default();
            assert_ne!(folder.to_ascii_lowercase(), "bin", "programs are looked for there");
            wanted.copies.iter().for_each(|copy| check_place(copy, 1));
        }
        if let Some(origin) = &wanted.origin {
            let url = Url::parse(&origin.url).unwrap_or_else(|error| panic!("{}: {error}", origin.url));
            assert!(url.scheme() == "https" || origin.reach == Reach::Loopback, "{url} is not encrypted");
            assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        }
        match hostile.byte() % 8 {
            7 => Err(EngineError::transient("the file can't be had")),
            6 if !wanted.copies.is_empty() => {
                Ok(FileHad { path: wanted.copies[0].clone(), bytes: 7, content: lossy(&hostile.text()) })
            }
            _ => Ok(FileHad { path: wanted.path.clone(), bytes: u64::MAX, content: String::new() }),
        }
    }

    pub(super) fn serve(
        &mut self,
        hostile: &mut Hostile<'_>,
        wanted: &ServerWanted,
    ) -> Result<Serving, ProgramFailure> {
        let program = &wanted.program;
        assert_eq!(program.program, LlamaCpp::PROGRAM);
        assert_eq!(program.environment, [("LLAMA_API_KEY".to_owned(), Argument::from(Part::Key))]);
        assert!(program.inherits.is_empty());
        for argument in &program.arguments {
            check_argument(argument);
            assert!(!argument.0.contains(&Part::Key), "others can read arguments");
            assert!(
                !argument.0.iter().any(|part| matches!(part, Part::Scratch(_))),
                "a server has no folder"
            );
        }
        // Each flag with its value, but one.
        let texts: Vec<String> = program.arguments.iter().map(text).collect();
        let mut rest = texts.iter();
        while let Some(flag) = rest.next() {
            match flag.as_str() {
                "--jinja" | "--no-context-shift" => {}
                "--model" | "--mmproj" => check_model(rest.next()),
                "--host" => assert_eq!(rest.next().map(String::as_str), Some("127.0.0.1")),
                "--port" | "--ctx-size" | "--n-gpu-layers" | "--parallel" => {
                    let value = rest.next().map_or("", String::as_str);
                    assert!(!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()), "{value}");
                }
                flag => panic!("{flag} is no flag of ours"),
            }
        }
        assert!(!wanted.loads.is_empty(), "files of the same name are not the same");
        let before = self.server.get_or_insert_with(|| wanted.clone());
        assert_eq!(before, wanted, "one run wants one server");
        let program = program.program.clone();
        match hostile.byte() % 12 {
            11 => Err(ProgramFailure::NotFound { program }),
            10 => Err(ProgramFailure::Trouble { program, why: lossy(&hostile.text()) }),
            9 => Err(ProgramFailure::Ended { program, ended: ended(hostile) }),
            _ => {
                self.serves = true;
                Ok(Serving { base: CHILD.to_owned(), key: KEY.into() })
            }
        }
    }

    pub(super) fn run(
        &mut self,
        hostile: &mut Hostile<'_>,
        process: &Process,
        flags: &[&str],
    ) -> Result<Ran, ProgramFailure> {
        check_process(process);
        if process.program.program == COMMAND {
            check_flags(&process.program.arguments, flags);
        } else {
            assert_eq!(process.program.program, format!("{PROGRAMS}/sd-cli"));
            assert!(process.wants_memory);
            check_drawing(&process.program.arguments);
        }
        let program = process.program.program.clone();
        let how = hostile.byte();
        match how % 16 {
            15 => return Err(ProgramFailure::NotFound { program }),
            14 => return Err(ProgramFailure::Trouble { program, why: lossy(&hostile.text()) }),
            13 => return Err(ProgramFailure::TooLarge { program, limit: process.limit }),
            12 => return Ok(Ran { ended: ended(hostile), made: None }),
            _ => {}
        }
        let ended = Ended { code: Some(0), signal: None, stderr: hostile.text() };
        if how % 16 == 11 {
            return Ok(Ran { ended, made: None });
        }
        let bytes = if how & 16 == 0 { hostile.made() } else { hostile.text() };
        let made = match process.keep {
            Keep::Memory => Made::Memory(bytes),
            Keep::File => {
                self.head = Some(bytes.clone());
                let file = SpilledFile { path: "/spilled/1".into(), bytes: bytes.len() as u64 };
                Made::File { file, head: bytes }
            }
        };
        Ok(Ran { ended, made: Some(made) })
    }
}

fn ended(hostile: &mut Hostile<'_>) -> Ended {
    let how = hostile.byte();
    Ended {
        code: (how & 1 == 0).then(|| i32::from(how) - 100),
        signal: (how & 3 == 3).then(|| i32::from(how % 16)),
        stderr: hostile.text(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file in the models' root, as many folders deep as `depth` says.
fn check_place(path: &str, depth: usize) {
    let names: Vec<_> = path
        .strip_prefix(MODELS)
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or_else(|| panic!("{path} is not in {MODELS}"))
        .split('/')
        .collect();
    assert_eq!(names.len(), depth, "{path}");
    assert!(names.iter().all(|name| is_plain_name(name)), "{path}");
}

fn check_model(path: Option<&String>) {
    let path = path.map_or("", String::as_str);
    check_place(path, path.matches('/').count() - 1);
}

fn check_argument(argument: &Argument) {
    let mut length = 0;
    for part in &argument.0 {
        match part {
            Part::Text(text) => {
                assert!(!text.contains('\0'), "no argument has a zero byte in it");
                length += text.len();
            }
            Part::Scratch(name) => assert!(is_plain_name(name), "{name}"),
            Part::Port | Part::Key => {}
        }
    }
    assert!(length < 2 * 128 * 1024, "an argument of {length} bytes");
}

fn check_process(process: &Process) {
    assert!((1..=MAX_MADE).contains(&process.limit), "{}", process.limit);
    let given = process.inputs.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + process.stdin.len();
    assert!(given <= MAX_INPUT, "{given} bytes go to a program");
    for (at, (name, _)) in process.inputs.iter().enumerate() {
        assert!(is_plain_name(name), "{name}");
        assert!(!process.inputs[..at].iter().any(|(other, _)| other == name), "two files are called {name}");
        assert_ne!(process.source, Source::File(name.clone()), "an input is no result");
    }
    if let Source::File(name) = &process.source {
        assert!(is_plain_name(name), "{name}");
    }
    for argument in &process.program.arguments {
        check_argument(argument);
        assert!(!argument.0.iter().any(|part| matches!(part, Part::Port | Part::Key)), "this is no server");
        for part in &argument.0 {
            if let Part::Scratch(name) = part {
                let is_there = process.inputs.iter().any(|(input, _)| input == name);
                assert!(
                    is_there || process.source == Source::File(name.clone()),
                    "{name} is no file of the run"
                );
            }
        }
    }
    assert!(process.program.inherits.is_empty());
    for (name, value) in &process.program.environment {
        assert_eq!((name.as_str(), text(value)), ("LD_LIBRARY_PATH", format!("{PROGRAMS}:/inherited")));
    }
}

fn text(argument: &Argument) -> String {
    let parts = argument.0.iter().map(|part| match part {
        Part::Text(text) | Part::Scratch(text) => text.clone(),
        Part::Port => "1".to_string(),
        Part::Key => "key".to_string(),
    });
    parts.collect()
}

/// Nothing begins with `-` that the configuration didn't say, up to a `--`.
fn check_flags(arguments: &[Argument], flags: &[&str]) {
    for argument in arguments.iter().map(text).take_while(|argument| argument != "--") {
        let is_number = argument.parse::<f64>().is_ok();
        let is_flag = argument.starts_with('-') && !is_number;
        assert!(!is_flag || flags.iter().any(|flag| argument.starts_with(flag)), "{argument} became a flag");
    }
}

/// Every argument is a flag of ours, or the value of one.
fn check_drawing(arguments: &[Argument]) {
    let mut rest = arguments.iter().map(text);
    while let Some(flag) = rest.next() {
        if ALONE.contains(&flag.as_str()) {
            continue;
        }
        assert!(WITH_VALUE.contains(&flag.as_str()), "{flag} is no flag of ours");
        let value = rest.next().unwrap_or_else(|| panic!("{flag} has no value"));
        match flag.as_str() {
            "--diffusion-model" | "--model" | "--vae" | "--llm" | "--llm_vision" => check_model(Some(&value)),
            "--lora-model-dir" => check_place(&value, 1),
            "-p" | "--negative-prompt" => {
                // Ours come last, and each is whole.
                let mut tags = value.split("<lora:").skip(1);
                let is_ours = |tag: &str| {
                    tag.trim_end().strip_suffix('>').is_some_and(|tag| !tag.contains(['/', '\\', '<', '>']))
                };
                assert!(tags.all(is_ours), "{value} names a file that the job chose");
            }
            _ => assert!(!value.starts_with('-') && !value.is_empty(), "{flag} {value}"),
        }
    }
}
