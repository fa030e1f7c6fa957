//! Fuzz body: frames of both directions and generations.

use crate::wire::{Offer, StudioFrame, TaskForm, WorkerFrame};

/// Reads `data` as a frame of a studio and as one of a worker: neither may panic, and what was read must
/// mean the same after it was written and read again, in both spellings of its parameters.
///
/// # Panics
/// When it does not: that is the finding.
pub fn frames(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    if let Ok(frame) = StudioFrame::parse(text) {
        // What can't be read whole is not written whole either.
        if !matches!(frame, StudioFrame::Offer(Offer::Unreadable { .. })) {
            for form in [TaskForm::Snake, TaskForm::Camel] {
                assert_eq!(StudioFrame::parse(&frame.to_text(form)).as_ref(), Ok(&frame), "{form:?}");
            }
        }
        if let StudioFrame::Offer(Offer::Readable(claim)) = &frame {
            assert!(claim.same_job(claim));
        }
    }
    if let Ok(frame) = WorkerFrame::parse(text) {
        assert_eq!(WorkerFrame::parse(&frame.to_text()).as_ref(), Ok(&frame));
    }
}
