//! What every runtime must do, over real sockets: the scenarios, and the studio that they are played against.
//!
//! [`TestStudio`] is a server of threads and blocking sockets that knows no async runtime, so that it shares
//! no fault with the one under test. A scenario is its script: it takes what the worker does next
//! ([`TestStudio::session`], [`TestStudio::request`]) and says what the studio answers. A [`Host`] starts
//! workers on the runtime under test. [`conformance_tests!`](crate::conformance_tests) makes a test of each.
//!
//! Nothing here measures time: a scenario waits for what must come, and gives up on it after
//! [`PATIENCE`]. What is about time is tested in virtual time.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test server: real threads and sockets, and a scenario that goes wrong panics"
)]

mod host;
pub mod scenarios;
mod server;

use std::time::Duration;

pub use host::{Gate, Host, Running, TestEngine, byte, options, registered};
pub use server::{Request, Session, TestStudio, Upgrading};

/// How long a scenario waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a test of each scenario. The argument is an expression that gives a [`Host`].
#[macro_export]
macro_rules! conformance_tests {
    ($host:expr) => {
        $crate::conformance_tests! { $host;
            a_worker_registers_is_approved_and_delivers
            a_refused_token_ends_the_worker
            an_unknown_worker_asks_to_be_registered_anew
            a_studio_without_the_sub_protocol_is_not_greeted
            a_close_4001_ends_the_worker
            a_job_that_outlives_its_session_is_not_run_again
            of_two_offers_in_one_write_one_is_accepted
            a_ping_is_answered_while_a_job_runs
            reading_goes_on_while_writing_waits
            a_frame_that_is_too_large_ends_the_session_with_1009
            a_result_in_memory_is_uploaded
            a_large_result_is_uploaded_from_a_file
            an_answer_before_the_body_has_left_is_heard
            a_redirect_is_not_followed
            a_panic_of_the_engine_fails_its_job
            a_drain_delivers_what_runs
            a_stop_fails_what_runs
            pause_resume_and_threshold_are_said_at_once
            log_lines_reach_the_studio
        }
    };
    ($host:expr; $($scenario:ident)*) => {
        $(
            #[test]
            fn $scenario() {
                $crate::conformance::scenarios::$scenario(&$host);
            }
        )*
    };
}
