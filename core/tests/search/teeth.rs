//! Planted bugs: the search must find each, and say how to get there.

use studio_worker_core::sim::search::{Budget, Kind, Plan, Sabotage};

use super::{
    model::{LIVENESS, SAFETY, explore},
    plans::{BOTH, NONE},
};

/// The search finds the planted bug: `property` is broken, and the path's end says `what`. That there is nothing to
/// find without it is for the whole explorations to show, whose budgets are at least as large.
fn finds(sabotage: Sabotage, jobs: &[Kind], budget: Budget, property: &str, what: &str) {
    let report = explore(
        &Plan { jobs: jobs.to_vec(), measured: budget.taken > 0, budget, sabotage: Some(sabotage) },
        None,
    );
    let path = report.broken.iter().find(|(name, _)| *name == property).map(|(_, path)| path);
    assert!(path.is_some(), "{sabotage:?} was not found: {report:#?}");
    let path = path.map_or("", String::as_str);
    println!("{sabotage:?}, found after {} states:\n{path}", report.states);
    let end = path.lines().last().unwrap_or_default();
    assert!(end.starts_with("= ") && end.contains(what), "{sabotage:?}: {end}");
}

#[test]
fn accept_before_welcome() {
    let budget = Budget { drops: 1, ..NONE };
    finds(Sabotage::AcceptsBeforeWelcome, &[Kind::Json], budget, SAFETY, "accept out of place");
}

#[test]
fn run_twice() {
    let budget = Budget { drops: 1, ..NONE };
    finds(Sabotage::RunsAgain, &[Kind::Json], budget, SAFETY, "job-0 runs again");
}

#[test]
fn complete_after_release() {
    let budget = Budget { drops: 1, ..NONE };
    finds(Sabotage::CompletesAfterRelease, &[Kind::Json], budget, SAFETY, "completeJson for the job job-0");
}

#[test]
fn results_that_go_with_the_session() {
    let budget = Budget { drops: 1, ..NONE };
    for kind in BOTH {
        finds(Sabotage::ForgetsOnDrop, &[*kind], budget, SAFETY, "job-0 runs again, and its result was made");
    }
}

#[test]
fn two_jobs_at_once() {
    let budget = Budget { drops: 1, cancels: 1, ..NONE };
    finds(Sabotage::RunsTwoAtOnce, BOTH, budget, SAFETY, "two runs at once");
}

#[test]
fn a_result_that_is_never_sent() {
    finds(Sabotage::NeverSends, &[Kind::Json], NONE, LIVENESS, "Running");
}

#[test]
fn an_offer_that_is_never_answered() {
    finds(Sabotage::NeverDeclines, &[Kind::Json], Budget { commands: 1, ..NONE }, SAFETY, "are not answered");
}

#[test]
fn a_broken_upload_that_is_taken_for_delivered() {
    let budget = Budget { breaks: 1, ..NONE };
    finds(Sabotage::TakesBreakForSuccess, &[Kind::Bytes], budget, LIVENESS, "Running");
}

#[test]
fn a_heartbeat_that_names_a_released_job() {
    let budget = Budget { drops: 1, ..NONE };
    finds(Sabotage::NamesReleasedJob, &[Kind::Json], budget, SAFETY, "a heartbeat for the job job-0");
}

#[test]
fn last_words_after_the_end() {
    let budget = Budget { commands: 1, ..NONE };
    finds(Sabotage::SpeaksAfterExit, &[Kind::Json], budget, SAFETY, "an action after Exit");
}

#[test]
fn a_job_that_does_not_fit() {
    let budget = Budget { taken: 1, ..NONE };
    finds(Sabotage::TakesAnyMemory, &[Kind::Json], budget, SAFETY, "does not fit");
}
