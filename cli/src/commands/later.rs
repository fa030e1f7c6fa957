//! Subcommands of the published programs that this version does not have yet.

use crate::Error;

pub(super) fn check_update() -> Error {
    Error::Later {
        command: "check-update",
        instead: "it comes later: compare `studio-worker --version` with the newest release yourself",
    }
}

pub(super) fn ui() -> Error {
    Error::Later {
        command: "ui",
        instead: "it comes later: `studio-worker run` works without a window, and `status` shows where it stands",
    }
}
