//! Subcommands of the published programs that this version does not have yet.

use crate::Error;

pub(super) fn ui() -> Error {
    Error::Later {
        command: "ui",
        instead: "it comes later: `studio-worker run` works without a window, and `status` shows where it stands",
    }
}
