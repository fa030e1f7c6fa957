//! Files that recipes want: carries a download out, step by step.

use std::sync::Arc;

use super::{machine::OnTransfer, runtime::Runtime};
use crate::{
    engine::EngineError,
    machine::{FileHad, FileWanted},
};

/// Sees to it that a file is there.
pub(super) async fn have<R: Runtime>(
    _runtime: R,
    _user_agent: Arc<str>,
    _wanted: FileWanted,
    _on_transfer: OnTransfer,
) -> Result<FileHad, EngineError> {
    Err(EngineError::transient("this runtime keeps no files"))
}
