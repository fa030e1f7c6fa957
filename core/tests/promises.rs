//! The chapter on promises names tests: each of them exists.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may read the sources")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_chapter_names_exists() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapter = fs::read_to_string(core.join("README.md")).unwrap();
    let mut files = Vec::new();
    for folder in ["src", "tests", "../cli/tests"] {
        collect(&core.join(folder), &mut files);
    }
    let sources: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let table = chapter.split("## What happens to a job").nth(1).unwrap();
    let names: Vec<&str> =
        table.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2).collect();
    assert!(names.len() > 40, "the table has lost its last column: {names:?}");
    for name in names {
        assert!(sources.contains(&format!("fn {name}(")), "there is no test `{name}`");
    }
}
