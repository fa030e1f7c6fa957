//! Subcommands of the published programs that this version does not have yet.

use crate::Error;

pub(super) fn install_service() -> Error {
    Error::Later {
        command: "install-service",
        instead: "it comes later: have your service manager start `studio-worker run`",
    }
}

pub(super) fn uninstall_service() -> Error {
    Error::Later {
        command: "uninstall-service",
        instead: "it comes later: remove the service with what installed it",
    }
}

pub(super) fn ui() -> Error {
    Error::Later {
        command: "ui",
        instead: "it comes later: `studio-worker run` works without a window, and `status` shows where it stands",
    }
}
