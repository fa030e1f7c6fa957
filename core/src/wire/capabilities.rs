//! Capabilities: what a worker says of itself (section 4).

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use super::{number::Finite, task::TaskKind};

/// Whether a person uses the machine (0.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserPresence {
    /// Somebody does.
    Active,
    /// Nobody does; also any word of a newer worker.
    #[serde(other)]
    Idle,
}

/// What a worker is and can do, as `hello`, each heartbeat and the registration carry it. Kinds stay texts,
/// so that a studio reads those of a newer worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Capabilities {
    /// The host's name.
    pub machine_name: String,
    /// The user that the worker runs as.
    pub username: String,
    /// The worker program's version.
    pub agent_version: String,
    /// The configured engine (0.2), or `multi` (0.4).
    pub engine: String,
    /// GPU memory, in GB; 0 when it is not known.
    pub vram_total_gb: Finite,
    /// The largest estimate that is accepted, in GB.
    pub vram_threshold_gb: Finite,
    /// Whether jobs are wanted: false while disabled, paused or draining.
    pub auto_enabled: bool,
    /// Whether the worker starts with its machine.
    pub auto_start: bool,
    /// All models: flat, sorted, no doubles.
    pub supported_models: Vec<String>,
    /// The kinds that can be served now.
    pub task_kinds: Vec<String>,
    /// The models by kind.
    pub supported_models_per_kind: BTreeMap<String, Vec<String>>,
    /// Whether the program updates itself (0.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_update: Option<bool>,
    /// Whether the window starts hidden (0.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_minimised: Option<bool>,
    /// Whether jobs are wanted only while nobody uses the machine (0.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_when_idle: Option<bool>,
    /// Whether somebody does (0.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_presence: Option<UserPresence>,
    /// The engines that this machine can serve now (0.4): `sd-cpp`, `llama-cpp`, `synthetic`, … Absent from
    /// a worker of generation 0.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_engines: Option<Vec<String>>,
}

impl Capabilities {
    /// Replaces what can be served: sorts, removes doubles, and keeps the flat list and the lists by kind in
    /// step (section 4).
    pub fn set_models(&mut self, per_kind: impl IntoIterator<Item = (TaskKind, Vec<String>)>) {
        self.supported_models_per_kind.clear();
        for (kind, models) in per_kind {
            self.supported_models_per_kind.entry(kind.name().into()).or_default().extend(models);
        }
        self.supported_models.clear();
        for models in self.supported_models_per_kind.values_mut() {
            models.sort();
            models.dedup();
            self.supported_models.extend(models.iter().cloned());
        }
        self.supported_models.sort();
        self.supported_models.dedup();
        self.task_kinds = self.supported_models_per_kind.keys().cloned().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::ToString, vec};

    #[test]
    fn models_are_sorted_without_doubles() {
        let mut capabilities = Capabilities::default();
        capabilities.set_models([
            (TaskKind::Llm, vec!["b".into(), "a".into(), "b".into()]),
            (TaskKind::Image, vec!["b".into()]),
        ]);
        assert_eq!(capabilities.supported_models, ["a", "b"]);
        assert_eq!(capabilities.task_kinds, ["image", "llm"]);
        assert_eq!(capabilities.supported_models_per_kind["llm"], ["a", "b"]);
    }

    #[test]
    fn a_0_2_worker_has_no_engines_and_reads_back() {
        let text = r#"{"machineName":"box","username":"u","agentVersion":"0.2.0","engine":"synthetic",
            "vramTotalGb":24,"vramThresholdGb":12.5,"autoEnabled":true,"autoStart":true,"supportedModels":["m"],
            "taskKinds":["image","hologram"],"supportedModelsPerKind":{"image":["m"]},"newField":1}"#;
        let read: Capabilities = serde_json::from_str(text).unwrap();
        assert_eq!(read.model_engines, None);
        assert_eq!(read.task_kinds, ["image", "hologram"]);
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(written["vramThresholdGb"].to_string(), "12.5");
        assert!(written.get("modelEngines").is_none());
    }
}
