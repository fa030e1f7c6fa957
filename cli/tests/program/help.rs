//! Help, completions and the manual.

use clap::Command;
use studio_worker::commands::{Cli, command};

use super::{Home, said};

/// Every command that a person can ask for help on, with its words on the command line.
fn all(command: &Command, words: &[String], found: &mut Vec<(Vec<String>, Command)>) {
    found.push((words.to_vec(), command.clone()));
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        let mut words = words.to_vec();
        words.push(subcommand.get_name().to_owned());
        all(subcommand, &words, found);
    }
}

fn commands() -> Vec<(Vec<String>, Command)> {
    let mut found = Vec::new();
    all(&command(), &[], &mut found);
    found
}

#[test]
fn the_command_line_is_sound() {
    command().debug_assert();
}

#[test]
fn every_help_text_is_a_sentence_with_an_example_that_parses() {
    for (words, command) in commands() {
        let about = command.get_about().unwrap().to_string();
        assert!(about.ends_with('.') && about.starts_with(char::is_uppercase), "{words:?}: {about}");
        for arg in command.get_arguments() {
            let help = arg.get_help().unwrap().to_string();
            assert!(
                help.ends_with('.') && help.starts_with(char::is_uppercase),
                "{words:?} {}: {help}",
                arg.get_id()
            );
        }
        if command.has_subcommands() && !words.is_empty() {
            continue;
        }
        let examples =
            command.get_after_help().unwrap_or_else(|| panic!("{words:?}: no example")).to_string();
        assert!(["Example:", "Examples:"].contains(&examples.lines().next().unwrap()), "{words:?}");
        let ours = examples.lines().flat_map(|line| line.split("&&")).map(str::trim);
        let ours: Vec<_> = ours.filter(|example| example.starts_with("studio-worker ")).collect();
        let shown = |example: &str| words.iter().all(|word| example.split(' ').any(|part| part == word));
        assert!(ours.iter().any(|example| shown(example)), "{words:?}: {examples}");
        for example in ours {
            // Quoted as a shell would: no example has blanks anywhere else.
            let mut args = vec![String::new()];
            for (at, part) in example.split('\'').enumerate() {
                for (word, piece) in part.split(if at % 2 == 0 { " " } else { "\n" }).enumerate() {
                    if word > 0 {
                        args.push(String::new());
                    }
                    args.last_mut().unwrap().push_str(piece);
                }
            }
            args.retain(|arg| !arg.is_empty());
            let parsed = <Cli as clap::Parser>::try_parse_from(&args);
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
        }
    }
}

#[test]
fn help_goes_to_stdout_and_wrong_usage_to_stderr_with_code_2() {
    let home = Home::new();
    for (words, _) in commands() {
        let mut args: Vec<_> = words.iter().map(String::as_str).collect();
        args.push("--help");
        let help = said(home.bare().args(&args));
        assert_eq!((help.code, help.err.as_str()), (0, ""), "{args:?}");
        assert!(help.out.contains("Usage: studio-worker"), "{}", help.out);
        assert!(!help.out.contains('\u{1b}'), "no colour when piped: {}", help.out);
    }
    for args in [
        &["warp"][..],
        &["set-threshold"],
        &["status", "--yaml"],
        &["set-threshold", "-1"],
        &["set-threshold", "nan"],
    ] {
        let usage = said(home.bare().args(args));
        assert_eq!((usage.code, usage.out.as_str()), (2, ""), "{args:?}");
        assert!(usage.err.starts_with("error: ") && !usage.err.contains('\u{1b}'), "{}", usage.err);
    }
    assert_eq!(said(&mut home.bare()).code, 2, "nothing asked for");
    assert_eq!(said(home.bare().arg("--version")).out, format!("studio-worker {}\n", studio_worker::VERSION));
    assert_eq!(std::fs::read_dir(home.dir.path()).unwrap().count(), 0, "none of this makes a configuration");
}

#[test]
fn completions_and_manual_pages_are_printed() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = home.prints(&["completions", shell]);
        assert!(script.contains("set-threshold") && script.contains("api-base-url"), "{shell}");
    }
    assert_eq!(home.run(&["completions", "dos"]).code, 2);
    let page = home.prints(&["man"]);
    assert!(page.contains(".TH studio-worker 1") && page.contains("set\\-threshold"), "{page}");
    let page = home.prints(&["man", "register"]);
    assert!(page.contains("studio\\-worker register") && page.contains("\\-\\-api\\-base\\-url"), "{page}");
    assert!(home.fails(&["man", "warp"]).contains("`warp`"));
}

#[test]
#[cfg(target_os = "linux")]
fn bash_takes_the_completions() {
    let home = Home::new();
    let script = home.dir.path().join("completions.bash");
    std::fs::write(&script, home.prints(&["completions", "bash"])).unwrap();
    let checked = std::process::Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
