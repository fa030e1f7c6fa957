//! Drives a studio worker on tokio.
