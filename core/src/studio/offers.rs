//! Which job goes to which worker, and when (sections 4 and 6).

use alloc::{boxed::Box, string::ToString, vec::Vec};

use super::{Action, ConnId, JobEvent, JobRecord, Studio, sessions::Session};
use crate::wire::{Capabilities, Claim, JobId, ModelSource, Offer, StudioFrame, TaskForm, TaskKind};

/// The engine that runs made-up models.
const SYNTHETIC: &str = "synthetic";

impl Studio {
    /// Offers what can be offered: jobs in their order, each to the idle worker that is connected longest.
    pub(super) fn offer_jobs(&mut self) {
        if !core::mem::take(&mut self.may_offer) || self.shut_down {
            return;
        }
        let mut idle: Vec<(ConnId, &Session)> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.is_idle())
            .map(|(conn, session)| (*conn, session))
            .collect();
        idle.sort_by_key(|(_, session)| session.place);
        let mut pairs: Vec<(ConnId, JobId)> = Vec::new();
        for job in self.jobs.waiting() {
            if idle.is_empty() {
                break;
            }
            if let Some(at) = idle.iter().position(|(_, session)| session.takes(job)) {
                pairs.push((idle.remove(at).0, job.id.clone()));
            }
        }
        for (conn, job_id) in pairs {
            self.offer(conn, &job_id);
        }
    }

    fn offer(&mut self, conn: ConnId, job_id: &JobId) {
        let Some(job) = self.move_job(job_id, JobEvent::Offer, |_| {}) else {
            return;
        };
        // That was the one thing that changed, and it makes no other offer possible.
        self.may_offer = false;
        let Some(session) = self.sessions.get_mut(&conn) else {
            return;
        };
        session.hold(job_id.clone());
        let (claim, form) = claim_for(&session.capabilities, &job);
        self.counters.offers += 1;
        let frame = StudioFrame::Offer(Offer::Readable(Box::new(claim)));
        self.queue.push_back(Action::Send { conn, frame, form });
    }
}

impl Session {
    fn is_idle(&self) -> bool {
        self.welcomed && self.job.is_none() && self.capabilities.auto_enabled
    }

    /// Whether this idle worker is to be asked for `job` now.
    fn takes(&self, job: &JobRecord) -> bool {
        if self.declined.contains_key(&job.id) || job.refused_by.contains(&self.worker_id) {
            return false;
        }
        // A worker that said `busy` or `paused` may still be at work on a job that it lost with an earlier session:
        // that one it takes (section 6).
        if self.resting_until.is_some() && job.worker_id.as_ref() != Some(&self.worker_id) {
            return false;
        }
        can_serve(&self.capabilities, job)
    }
}

/// Whether a worker that says this of itself is one for `job` (section 4).
fn can_serve(capabilities: &Capabilities, job: &JobRecord) -> bool {
    let kind = job.task.kind();
    let knows = |list: &[alloc::string::String], name: &str| list.iter().any(|known| known == name);
    if capabilities.vram_threshold_gb < job.vram_gb_estimate {
        return false;
    }
    let Some(engines) = &capabilities.model_engines else {
        // 0.2: by the model. A worker that names no kinds draws pictures.
        let serves_kind = if capabilities.task_kinds.is_empty() {
            kind == TaskKind::Image
        } else {
            knows(&capabilities.task_kinds, kind.name())
        };
        return serves_kind && knows(&capabilities.supported_models, &job.model);
    };
    knows(&capabilities.task_kinds, kind.name())
        && match engine_of(job) {
            Some(engine) => knows(engines, engine),
            None => knows(&capabilities.supported_models, &job.model),
        }
}

/// The engine that must run a job; `None` when any that knows the model may.
fn engine_of(job: &JobRecord) -> Option<&str> {
    match &job.model_source {
        Some(source) => Some(&source.engine),
        None => job.model.starts_with(SYNTHETIC).then_some(SYNTHETIC),
    }
}

/// The job as it is offered to a worker that says this of itself, and how the task is spelled for it. A worker of
/// generation 0.4 must be told where the model comes from, also where that is nowhere.
fn claim_for(capabilities: &Capabilities, job: &JobRecord) -> (Claim, TaskForm) {
    let of_0_4 = capabilities.model_engines.is_some();
    let mut model_source = job.model_source.clone();
    if of_0_4 && model_source.is_none() {
        model_source =
            engine_of(job).map(|engine| ModelSource { engine: engine.to_string(), ..ModelSource::default() });
    }
    let claim = Claim {
        job_id: job.id.clone(),
        game_id: job.game_id.clone(),
        asset_name: job.asset_name.clone(),
        model: job.model.clone(),
        vram_gb_estimate: job.vram_gb_estimate,
        task: job.task.clone(),
        model_source,
    };
    (claim, if of_0_4 { TaskForm::Camel } else { TaskForm::Snake })
}
