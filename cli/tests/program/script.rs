//! Stand-ins of programs.

use std::{fs, path::Path, process::Command};

/// Writes a program of `sh`, or puts it in another's place. By another process: one that this process has written can't be
/// run while a child of another thread, which is about to become another program, still has it open.
pub(crate) fn write_script(path: &Path, script: &str) {
    let text = tempfile::NamedTempFile::new().unwrap();
    fs::write(text.path(), format!("#!/bin/sh\n{script}\n")).unwrap();
    let written = Command::new("install").args(["-m", "755"]).arg(text.path()).arg(path).status().unwrap();
    assert!(written.success());
}
