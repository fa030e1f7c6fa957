//! What `SECURITY.md` promises about the program as a whole.

use std::{
    fs,
    path::{Path, PathBuf},
};

#[cfg(unix)]
mod hostile;

/// The files below `folder` whose names end with one of `endings`.
fn collect(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, endings, found);
        } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = vec![top.join(".ci/run")];
    for room in ["core", "cli", "runtime-async-std", "runtime-tokio"] {
        for folder in ["src", "tests"] {
            collect(&top.join(room).join(folder), &[".rs"], &mut files);
        }
    }
    let sources: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let page = fs::read_to_string(top.join("SECURITY.md")).unwrap();
    let mut rows = 0;
    // Each row of a table of promises: the promise, and what shows it.
    for row in page.split("## What is promised").nth(1).unwrap().lines().filter(|line| line.starts_with("| "))
    {
        let shown_by = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap();
        if shown_by.trim() == "shown by" || shown_by.contains("---") {
            continue;
        }
        rows += 1;
        let names: Vec<_> =
            shown_by.split('`').skip(1).step_by(2).filter(|name| !name.starts_with('.')).collect();
        assert!(!names.is_empty(), "nothing shows this: {row}");
        for name in names {
            assert!(
                sources.contains(&format!("fn {name}(")) || sources.contains(&format!("step '{name}'")),
                "there is no test `{name}`"
            );
        }
    }
    assert!(rows > 30, "the page has lost its tables: {rows} rows");
}

#[test]
fn the_pages_make_no_markup_of_what_others_say() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&sources, &[".html", ".js"], &mut files);
    assert!(files.len() > 1, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
        {
            assert!(!text.contains(way), "{} has {way}", file.display());
        }
    }
}

#[test]
fn no_secret_is_taken_on_the_command_line() {
    fn check(command: &clap::Command) {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str().to_ascii_lowercase();
            let is_file = name.ends_with("_file");
            let is_secret = ["token", "secret", "password", "key"].iter().any(|word| name.contains(word));
            assert!(
                !is_secret || is_file,
                "others see --{name} of {} in the list of processes",
                command.get_name()
            );
        }
        command.get_subcommands().for_each(check);
    }
    check(&studio_worker::commands::command());
}
