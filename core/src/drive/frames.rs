//! Frames as texts; the part of a heartbeat that seldom changes is written once.

use std::sync::Arc;

use crate::wire::{Capabilities, JobId};

/// The capabilities as JSON, kept as long as they stay the same.
#[derive(Default)]
pub(crate) struct HeartbeatText {
    /// Holding the `Arc` keeps its address from being used again.
    last: Option<(Arc<Capabilities>, Box<str>)>,
}

impl HeartbeatText {
    /// The text of [`WorkerFrame::Heartbeat`](crate::wire::WorkerFrame::Heartbeat).
    pub(crate) fn of(&mut self, capabilities: &Arc<Capabilities>, current_job_id: Option<&JobId>) -> String {
        if !self.last.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, capabilities)) {
            // Texts, numbers, booleans and lists of those: this can't fail.
            let json = serde_json::to_string(&**capabilities).unwrap_or_default();
            self.last = Some((Arc::clone(capabilities), json.into()));
        }
        let json = self.last.as_ref().map_or("", |(_, json)| json);
        let mut text = String::with_capacity(json.len() + 96);
        text.push_str(r#"{"type":"heartbeat","capabilities":"#);
        text.push_str(json);
        if let Some(job) = current_job_id {
            text.push_str(r#","currentJobId":"#);
            text.push_str(&serde_json::to_string(job).unwrap_or_default());
        }
        text.push('}');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Finite, TaskKind, WorkerFrame};

    #[test]
    fn it_is_the_text_that_the_frame_has() {
        let mut heartbeat = HeartbeatText::default();
        let mut capabilities = Capabilities { machine_name: "b\"ox".into(), ..Capabilities::default() };
        for gb in [1, 2] {
            capabilities.vram_threshold_gb = Finite::from(gb);
            capabilities.set_models([(TaskKind::Llm, vec!["m".into()])]);
            let capabilities = Arc::new(capabilities.clone());
            for job in [None, Some(JobId::from("j\"1\n")), None] {
                let frame = WorkerFrame::Heartbeat {
                    capabilities: Arc::clone(&capabilities),
                    current_job_id: job.clone(),
                };
                assert_eq!(heartbeat.of(&capabilities, job.as_ref()), frame.to_text());
            }
        }
    }

    #[test]
    fn capabilities_are_written_once_for_each_change() {
        let mut heartbeat = HeartbeatText::default();
        let written = |heartbeat: &HeartbeatText| heartbeat.last.as_ref().map(|(_, json)| json.as_ptr());
        let mut before = None;
        for gb in [1, 2, 1] {
            let capabilities =
                Arc::new(Capabilities { vram_threshold_gb: Finite::from(gb), ..Capabilities::default() });
            heartbeat.of(&capabilities, None);
            let once = written(&heartbeat);
            assert_ne!(once, before);
            for job in [None, Some(JobId::from("j-1")), None] {
                let text = heartbeat.of(&capabilities, job.as_ref());
                assert!(text.contains(&format!("\"vramThresholdGb\":{gb},")), "{text}");
                assert_eq!(written(&heartbeat), once);
            }
            before = once;
        }
    }
}
