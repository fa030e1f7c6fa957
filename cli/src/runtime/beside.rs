//! What stands beside a worker that runs: its door, its metrics, and whoever looks for a person at the machine. A worker
//! goes on without any of them.

use studio_worker_core::drive::WorkerHandle;

use crate::{
    config::ConfigFile,
    door::{Door, Updates},
    metrics::{Listening, Metrics},
    presence::{self, Looking},
};

/// All of that, as long as it lives.
#[derive(Debug)]
pub(super) struct Beside {
    _door: Option<Door>,
    _metrics: Option<Metrics>,
    _looking: Option<Looking>,
}

impl Beside {
    /// Opens it for the worker that `handle` steers, before its future is polled.
    pub(super) fn open(
        file: &ConfigFile,
        handle: &WorkerHandle,
        updates: &Updates,
        metrics: Option<Listening>,
    ) -> Self {
        Self {
            _metrics: metrics.and_then(|metrics| or_warn(metrics.serve(handle), "metrics are not served")),
            _door: or_warn(
                Door::open(file, handle.clone(), updates.clone()),
                "`status` shows nothing live, and `pause`, `drain`, `logs` and the like don't reach this worker",
            ),
            _looking: or_warn(
                presence::look_for(handle.clone(), gives_way(file.clone())),
                "it can't be told whether somebody uses this machine",
            ),
        }
    }
}

/// Says each time whether jobs are wanted only while nobody uses the machine, as the configuration has it by then.
fn gives_way(file: ConfigFile) -> impl FnMut() -> bool {
    let mut gives_way = true;
    move || {
        if let Ok(config) = file.load() {
            gives_way = config.only_when_idle;
        }
        gives_way
    }
}

fn or_warn<T>(opened: std::io::Result<T>, what: &str) -> Option<T> {
    opened.map_err(|error| log::warn!("{what}: {error}")).ok()
}
