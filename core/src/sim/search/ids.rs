//! The number that an action or an input is about. A process numbers from one; the link knows several processes.

use crate::worker::{Action, Input};

pub(super) fn of_action(action: &mut Action) -> Option<&mut u64> {
    match action {
        Action::Connect { conn, .. }
        | Action::SendHeartbeat { conn, .. }
        | Action::Send { conn, .. }
        | Action::Close { conn, .. }
        | Action::Drop { conn } => Some(&mut conn.0),
        Action::Request { request, .. }
        | Action::Upload { request, .. }
        | Action::CancelRequest { request } => Some(&mut request.0),
        Action::DispatchJob { run, .. } | Action::CancelRun { run } => Some(&mut run.0),
        Action::Store { store, .. } => Some(&mut store.0),
        Action::Measure { measure, .. } => Some(&mut measure.0),
        Action::Discard(_)
        | Action::RecordRecentJob(_)
        | Action::Observe(_)
        | Action::Log(_)
        | Action::Exit(_) => None,
    }
}

pub(super) fn of_input(input: &mut Input) -> Option<&mut u64> {
    match input {
        Input::Connected { conn }
        | Input::ConnectFailed { conn, .. }
        | Input::Text { conn, .. }
        | Input::OtherFrame { conn, .. }
        | Input::Flushed { conn, .. }
        | Input::Closed { conn, .. } => Some(&mut conn.0),
        Input::Answered { request, .. } | Input::UploadProgress { request, .. } => Some(&mut request.0),
        Input::RunEnded { run, .. } | Input::RunProgress { run, .. } => Some(&mut run.0),
        Input::Measured { measure, .. } => Some(&mut measure.0),
        Input::Stored { store, .. } => Some(&mut store.0),
        Input::Tick | Input::Log(_) => None,
    }
}
