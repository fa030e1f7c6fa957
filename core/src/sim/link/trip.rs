//! What is under way between a worker and a studio.

use alloc::{string::String, sync::Arc};

use crate::{
    http::{HttpAnswer, Method},
    studio::{CallId, Upload},
    wire::{Claim, CloseCode, Secret},
    worker::{ConnId, MeasureId, RequestId, RunId, StoreId},
};

/// Something that is under way. Things of one lane keep their order; between lanes anything goes.
#[derive(Debug, Clone)]
pub(super) enum Trip {
    Connect { conn: ConnId, url: String, bearer: Secret },
    Upgraded { conn: ConnId, refusal: Option<HttpAnswer> },
    Up { conn: ConnId, text: String, nth: u64 },
    UpClose { conn: ConnId },
    Down { conn: ConnId, text: String },
    DownClose { conn: ConnId, code: CloseCode },
    Request { request: RequestId, method: Method, url: String, bearer: Option<Secret>, body: Option<String> },
    UploadHead { request: RequestId, url: String, bearer: Secret, upload: Upload },
    UploadBody { request: RequestId, call: CallId, upload: Upload },
    Answer { request: RequestId, answer: HttpAnswer },
    Run { run: RunId, claim: Arc<Claim> },
    Store { store: StoreId },
    Measure { measure: MeasureId },
}

/// Where the order is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Up(ConnId),
    Down(ConnId),
    Http(RequestId),
    Run(RunId),
    Disk,
    Meter,
}

impl Trip {
    pub(super) fn lane(&self) -> Lane {
        match self {
            Self::Connect { conn, .. } | Self::Up { conn, .. } | Self::UpClose { conn } => Lane::Up(*conn),
            Self::Upgraded { conn, .. } | Self::Down { conn, .. } | Self::DownClose { conn, .. } => {
                Lane::Down(*conn)
            }
            Self::Request { request, .. }
            | Self::UploadHead { request, .. }
            | Self::UploadBody { request, .. }
            | Self::Answer { request, .. } => Lane::Http(*request),
            Self::Run { run, .. } => Lane::Run(*run),
            Self::Store { .. } => Lane::Disk,
            Self::Measure { .. } => Lane::Meter,
        }
    }

    pub(super) fn is_of(&self, of: ConnId) -> bool {
        matches!(self.lane(), Lane::Up(conn) | Lane::Down(conn) if conn == of)
    }
}
