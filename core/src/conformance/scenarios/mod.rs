//! The scenarios. Each panics where the worker does something else.

mod bounds;
mod claims;
mod delivery;
mod ending;
mod frames;
mod hours;
mod local;
mod opening;
mod uploads;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use super::{Host, InProcess};

/// Of the scenarios that say much two have their turn at a time. They take the processor rather than wait, and what each says
/// within the bounds of the protocol must not take as long as all of them together.
fn in_turn() -> MutexGuard<'static, ()> {
    static QUEUES: [Mutex<()>; 2] = [Mutex::new(()), Mutex::new(())];
    static CAME: AtomicUsize = AtomicUsize::new(0);
    let queue = &QUEUES[CAME.fetch_add(1, Ordering::Relaxed) % QUEUES.len()];
    // One that failed has had its turn.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A scenario that any host can play.
pub type Scenario = fn(&dyn Host);
/// A scenario that looks into the worker.
pub type LocalScenario = fn(&InProcess);

macro_rules! list {
    ($($module:ident { $($scenario:ident)* })*) => { &[$($((stringify!($scenario), $module::$scenario),)*)*] };
}

/// Every scenario for any host, by its name.
pub const ALL: &[(&str, Scenario)] = list! {
    opening {
        a_worker_registers_is_approved_and_delivers
        a_refused_token_ends_the_worker
        an_unknown_worker_asks_to_be_registered_anew
        a_studio_without_the_sub_protocol_is_not_greeted
        a_busy_studio_is_left_alone_for_the_seconds_it_asks_for
        a_busy_studio_may_name_a_date_by_its_own_clock
        a_retry_after_that_makes_no_sense_is_ignored
        a_server_time_far_away_means_nothing
        an_upgrade_and_frames_that_come_byte_by_byte_are_read
        a_close_right_behind_the_upgrade_is_heard
        a_studio_that_cannot_be_reached_is_tried_again_until_it_can
        a_busy_studio_is_asked_for_registration_when_it_says
        a_request_that_is_unknown_is_made_anew_by_the_same_installation
        a_secret_that_is_refused_is_replaced_and_so_is_the_installation
    }
    ending {
        a_close_4001_ends_the_worker
        an_error_auth_failed_ends_the_worker
        a_close_4004_asks_to_be_registered_anew
        an_error_worker_deleted_asks_to_be_registered_anew
        an_internal_error_is_followed_by_another_session
        a_close_of_any_other_code_is_followed_by_another_session
        a_dropped_connection_is_followed_by_another_session
        a_drain_delivers_what_runs
        a_drain_delivers_what_is_uploaded
        a_drain_waits_for_a_job_whose_session_dropped
        a_refused_token_ends_a_drain_at_once
        a_stop_fails_what_runs
    }
    claims {
        a_job_that_outlives_its_session_is_not_run_again
        a_drop_right_after_an_offer_costs_no_second_run
        a_result_that_was_not_confirmed_is_sent_under_the_next_offer
        the_next_offer_confirms_what_was_sent
        a_job_offered_again_with_another_task_is_another_job
        an_orphan_gives_way_to_the_third_other_offer
        what_the_studio_calls_a_violation_goes_out_under_a_new_offer_only
        a_second_violation_drops_the_result
        a_result_that_is_too_large_for_the_studio_is_failed_at_the_next_offer
        of_two_offers_in_one_write_one_is_accepted
        an_offer_in_the_same_write_as_the_last_acknowledgement_is_taken
        an_offer_that_overtakes_the_answer_of_an_upload_is_taken_after_it
        a_parked_offer_goes_with_its_session
        a_parked_offer_is_declined_by_a_drain
        of_five_results_that_are_held_the_first_makes_room
    }
    delivery {
        a_result_is_uploaded
        an_answer_before_the_body_has_left_is_heard
        a_redirect_is_not_followed
        an_upload_outlives_its_session
        an_upload_that_moves_is_adopted_by_the_next_offer
        an_upload_refused_under_its_old_claim_is_made_afresh
        a_job_whose_result_is_refused_twice_ends
        the_status_of_an_answer_is_enough
        an_interim_answer_is_not_the_answer
        a_connection_that_was_closed_meanwhile_is_made_anew
    }
    uploads {
        an_upload_answered_408_is_tried_again
        an_upload_answered_429_is_tried_again_when_the_studio_asks_for_it
        an_upload_answered_500_is_tried_again
        an_upload_answered_503_is_tried_again
        an_upload_whose_connection_breaks_is_tried_again
        a_result_stored_before_the_connection_dropped_is_delivered_once
        an_upload_answered_401_is_given_up_after_three_tries
        an_upload_answered_403_is_given_up_after_three_tries
        an_upload_answered_404_keeps_its_result
        an_upload_answered_409_keeps_its_result
        an_upload_answered_410_keeps_its_result
        an_upload_answered_413_fails_its_job_for_good
        an_upload_answered_422_fails_its_job_for_good
    }
    frames {
        a_ping_is_answered_while_a_job_runs
        reading_goes_on_while_writing_waits
        a_frame_of_17_mib_is_read
        a_frame_that_is_too_large_ends_the_session_with_1009
        a_text_in_pieces_that_end_inside_a_character_is_read
        a_text_that_is_no_utf_8_costs_the_session_and_no_job
        frames_that_make_no_sense_are_skipped
        a_flood_of_offers_drops_log_lines_and_says_so
        pause_resume_and_threshold_are_said_at_once
    }
};

/// Scenarios for hosts whose studios speak TLS.
pub const SECURE: &[(&str, Scenario)] = list! {
    opening {
        an_authority_that_is_not_known_is_not_trusted
    }
};

/// Scenarios for any host that take half a minute to a minute and a half: in virtual time, or side by side.
pub const BOUNDS: &[(&str, Scenario)] = list! {
    bounds {
        an_upgrade_that_is_never_answered_is_tried_again
        a_welcome_that_does_not_come_is_waited_for_15_s
        a_registration_that_is_never_answered_is_asked_for_again
        an_upload_that_is_never_answered_is_tried_again
        an_upload_that_is_read_halfway_is_tried_again
        an_orphan_that_is_not_offered_within_60_s_is_cancelled
        a_worker_whose_id_is_used_elsewhere_waits_30_s
        a_worker_that_is_told_that_its_id_is_used_elsewhere_waits_30_s
        a_result_that_is_not_acknowledged_within_30_s_is_sent_on_a_new_session
        a_silent_peer_is_left_for_a_new_session_within_30_s
    }
};

/// Scenarios for hosts in virtual time: they take hours of it, and hold it to the microsecond.
pub const HOURS: &[(&str, Scenario)] = list! {
    hours {
        heartbeats_come_every_5_s
        back_off_doubles_to_30_s_and_starts_anew_after_a_minute
        a_retry_after_of_a_week_is_waited_for_an_hour
        an_approval_is_polled_for_ever_more_rarely
        a_worker_whose_id_is_used_elsewhere_again_and_again_stops
        a_result_is_held_for_15_minutes
        a_result_is_not_held_for_longer
        an_upload_that_fails_for_an_hour_lets_its_claim_go
        a_drain_ends_when_its_time_is_over
        a_drain_declines_an_offer_that_is_on_its_way
    }
};

/// Every scenario for workers in the process of the test, beside those for any host.
pub const IN_PROCESS: &[(&str, LocalScenario)] = list! {
    local {
        what_happened_can_be_observed
        a_result_in_memory_is_uploaded
        a_large_result_is_uploaded_from_a_file
        a_panic_of_the_engine_fails_its_job
        a_threshold_that_makes_no_sense_is_refused
        log_lines_reach_the_studio
    }
};
