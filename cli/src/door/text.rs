//! What is told at the door, for people: pure text, without anything in it that moves a terminal's cursor.

use std::{fmt::Write as _, time::Duration};

use studio_worker_core::{text::plain, time::Wall};

use super::said::{Ended, Held, Job, Moved, State};

/// The lines of `status` about a worker that runs, as names and values.
pub(crate) fn live(state: &State) -> Vec<(&'static str, String)> {
    let now = state.at.0;
    let since = |from: Wall| span(now.since(from));
    let mut lines = vec![(
        "worker:",
        format!("process {}, version {}, for {}", state.pid, state.version, since(state.started_at.0)),
    )];
    if !state.reacts {
        lines
            .push(("loop:", "does not turn, so the rest is how it was; the worker's log may say why".into()));
    }
    match &state.session {
        None => lines.push(("session:", "none yet".into())),
        Some(session) => {
            let id = session.worker_id.as_ref().map(|id| format!(" as {id}")).unwrap_or_default();
            lines.push((
                "session:",
                format!("{}{id} for {}, since {}", session.state, since(session.since.0), session.since.0),
            ));
            lines.extend(session.detail.clone().map(|detail| ("session_detail:", detail)));
            lines.push((
                "jobs:",
                match &session.hindrance {
                    Some(why) => format!("none are taken: {why}"),
                    None => format!("up to {} GB are taken", session.vram_threshold_gb),
                },
            ));
        }
    }
    if let Some(heartbeat) = &state.last_heartbeat {
        let ago = since(heartbeat.at.0);
        lines.push((
            "last_heartbeat:",
            match &heartbeat.problem {
                None => format!("acknowledged {ago} ago"),
                Some(problem) => format!("failed {ago} ago: {problem}"),
            },
        ));
    }
    match &state.current_job {
        None => lines.push(("current_job:", "none".into())),
        Some(job) => {
            lines.push(("current_job:", format!("{}, for {}", named(job), since(job.started_at.0))));
            lines.extend(job.progress.as_ref().map(|progress| ("progress:", moves(progress))));
        }
    }
    lines.extend(state.held_results.iter().map(|held| ("held_result:", waits(held, now))));
    lines.extend(state.recent_jobs.iter().map(|job| ("recent_job:", ended(job, now))));
    if let Some(update) = &state.update {
        let last = update.last.as_ref().map(|last| format!(" ({last})")).unwrap_or_default();
        let next = match update.next_check_at {
            Some(at) => format!("in {}", span(at.0.since(now))),
            None => "none is due".into(),
        };
        lines.push(("next_update_check:", format!("{next}{last}")));
    }
    lines.into_iter().map(|(name, value)| (name, plain(value))).collect()
}

/// The same in one line, and without what changes by itself: for logs of a watch.
pub(crate) fn summary(state: &State) -> String {
    let mut line = state.session.as_ref().map_or("no session yet", |session| &*session.state).to_owned();
    // Writing to a text can't fail.
    if let Some(why) = state.hindrance() {
        let _ = write!(line, ", no jobs are taken: {why}");
    }
    match &state.current_job {
        None => line.push_str(", no job"),
        Some(job) => {
            let _ = write!(line, ", {}", named(job));
            if let Some(progress) = &job.progress {
                let percent = progress.percent.map(|percent| format!(" {percent} %")).unwrap_or_default();
                let _ = write!(line, ", {}{percent}", what_moves(progress));
            }
        }
    }
    for held in &state.held_results {
        let _ = write!(line, ", the result of {} is held", held.job_id);
    }
    if !state.reacts {
        line.push_str(", the loop does not turn");
    }
    if let Some(job) = state.recent_jobs.first() {
        let _ = write!(line, "; last: {} {}", job.job_id, job.outcome);
    }
    plain(line)
}

/// What `pause` says.
pub(crate) fn paused(state: &State) -> String {
    let running = match &state.current_job {
        Some(job) => format!("job {} is still finished ({})", job.job_id, named(job)),
        None => "no job runs".into(),
    };
    plain(format!("paused until `studio-worker resume` or a restart; {running}{}", held(state)))
}

/// What `drain` says.
pub(crate) fn draining(state: &State) -> String {
    let running = match &state.current_job {
        Some(job) => format!("draining: job {} is finished first", job.job_id),
        None => "draining".into(),
    };
    plain(format!("{running}{}", held(state)))
}

/// What is not delivered, as the end of a line.
fn held(state: &State) -> String {
    let of = |held: &Held| format!("; the result of job {} {IS_HELD}", held.job_id);
    state.held_results.iter().map(of).collect()
}

/// What is said of a result that is not delivered.
pub(crate) const IS_HELD: &str = "is held until the studio offers the job again";

/// What `resume` says.
pub(crate) fn resumed(state: &State) -> String {
    plain(match state.hindrance() {
        None => "resumed: jobs are taken".into(),
        Some(why) => format!("resumed, but no jobs are taken: {why}"),
    })
}

/// What `status --check` says.
pub(crate) fn checked(state: &State) -> String {
    if !state.reacts {
        return "the worker's loop does not turn".into();
    }
    let state = match &state.session {
        Some(session) => match (&session.detail, &session.hindrance) {
            (Some(detail), _) if session.state != "serving" => format!("{}: {detail}", session.state),
            (_, Some(why)) => format!("{}, no jobs are taken: {why}", session.state),
            _ => session.state.clone(),
        },
        None => "starting".into(),
    };
    plain(state)
}

/// A job in a few words.
fn named(job: &Job) -> String {
    format!("{}, {}, {}", job.job_id, job.kind, job.model)
}

fn what_moves(progress: &Moved) -> String {
    progress
        .file
        .as_ref()
        .map_or_else(|| "its result is delivered".into(), |file| format!("downloads {file}"))
}

/// How far it is, in a few words.
fn moves(progress: &Moved) -> String {
    let mut words = what_moves(progress);
    let _ = match (progress.percent, progress.total) {
        (Some(percent), Some(total)) => write!(words, ": {percent} % of {}", size(total)),
        _ => write!(words, ": {}", size(progress.done)),
    };
    if let Some(rate) = progress.bytes_per_second {
        let _ = write!(words, ", {}/s", size(rate));
    }
    if let Some(left) = progress.seconds_left {
        let _ = write!(words, ", {} left", span(Duration::from_secs(left)));
    }
    words
}

fn waits(held: &Held, now: Wall) -> String {
    let Held { job_id, kind, model, started_at } = held;
    format!("{job_id}, {kind}, {model}, accepted {} ago, {IS_HELD}", span(now.since(started_at.0)))
}

fn ended(job: &Ended, now: Wall) -> String {
    let took = span(job.finished_at.0.since(job.started_at.0));
    let ago = span(now.since(job.finished_at.0));
    let reason = job.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{}, {}, {}, {} after {took}, {ago} ago{reason}", job.job_id, job.kind, job.model, job.outcome)
}

/// A span of time, as exactly as people want it.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{}.{} s", seconds, span.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Bytes, as exactly as people want them.
fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use studio_worker_core::wire::Finite;

    use super::*;
    use crate::door::said::{Heartbeat, Session, Stamp, UpdateStatus};

    fn at(seconds: i64) -> Stamp {
        Stamp(Wall::from_millis(1_764_054_000_000 + seconds * 1_000))
    }

    /// A worker with everything that there is to tell.
    pub(in crate::door) fn busy() -> State {
        let ended = |id: &str, reason: Option<&str>| Ended {
            job_id: id.into(),
            kind: "llm".into(),
            model: "m".into(),
            started_at: at(60),
            finished_at: at(72),
            outcome: if reason.is_some() { "failed" } else { "completed" }.into(),
            reason: reason.map(Into::into),
        };
        State {
            at: at(3_700),
            version: "1.0.0".into(),
            pid: 7,
            started_at: at(0),
            reacts: true,
            session: Some(Session {
                state: "serving".into(),
                since: at(1),
                worker_id: Some("w-1".into()),
                detail: None,
                accepting: true,
                hindrance: None,
                vram_threshold_gb: "12.5".parse().ok().and_then(Finite::new).unwrap(),
            }),
            current_job: Some(Job {
                job_id: "j-3".into(),
                kind: "image".into(),
                model: "flux\u{1b}[2J".into(),
                started_at: at(3_690),
                progress: Some(Moved {
                    file: Some("flux.gguf".into()),
                    done: 4_300_000,
                    total: Some(10_000_000),
                    percent: Some(43),
                    bytes_per_second: Some(430_000),
                    seconds_left: Some(14),
                }),
            }),
            held_results: vec![],
            last_heartbeat: Some(Heartbeat { at: at(3_698), problem: None }),
            recent_jobs: vec![ended("j-2", None), ended("j-1", Some("no\nroom"))],
            update: Some(UpdateStatus { next_check_at: Some(at(4_300)), last: Some("up to date".into()) }),
        }
    }

    fn shown(state: &State) -> Vec<String> {
        live(state).into_iter().map(|(name, value)| format!("{name} {value}")).collect()
    }

    #[test]
    fn a_busy_worker() {
        assert_eq!(
            shown(&busy()),
            [
                "worker: process 7, version 1.0.0, for 1 h 1 min",
                "session: serving as w-1 for 1 h 1 min, since 2025-11-25T07:00:01.000Z",
                "jobs: up to 12.5 GB are taken",
                "last_heartbeat: acknowledged 2.0 s ago",
                "current_job: j-3, image, flux [2J, for 10 s",
                "progress: downloads flux.gguf: 43 % of 10.0 MB, 430.0 kB/s, 14 s left",
                "recent_job: j-2, llm, m, completed after 12 s, 1 h 0 min ago",
                "recent_job: j-1, llm, m, failed after 12 s, 1 h 0 min ago: no room",
                "next_update_check: in 10 min 0 s (up to date)",
            ]
        );
        assert_eq!(
            summary(&busy()),
            "serving, j-3, image, flux [2J, downloads flux.gguf 43 %; last: j-2 completed"
        );
        assert_eq!(
            paused(&busy()),
            "paused until `studio-worker resume` or a restart; job j-3 is still finished (j-3, image, flux [2J)"
        );
        assert_eq!(
            (checked(&busy()), resumed(&busy())),
            ("serving".into(), "resumed: jobs are taken".into())
        );
    }

    #[test]
    fn one_that_just_started_and_one_in_trouble() {
        let mut state = State {
            session: None,
            current_job: None,
            last_heartbeat: None,
            recent_jobs: vec![],
            update: None,
            ..busy()
        };
        assert_eq!(shown(&state)[1..], ["session: none yet", "current_job: none"]);
        assert_eq!((summary(&state), checked(&state)), ("no session yet, no job".into(), "starting".into()));
        state.session = busy().session;
        let session = state.session.as_mut().unwrap();
        (session.state, session.detail) = ("waiting".into(), Some("no route\r\nto host\u{202e}".into()));
        session.hindrance = Some("paused".into());
        state.last_heartbeat = Some(Heartbeat { at: at(3_000), problem: Some("silence".into()) });
        assert_eq!(
            shown(&state)[2..],
            [
                "session_detail: no route  to host ",
                "jobs: none are taken: paused",
                "last_heartbeat: failed 11 min 40 s ago: silence",
                "current_job: none",
            ]
        );
        assert_eq!(checked(&state), "waiting: no route  to host ");
        assert_eq!(resumed(&state), "resumed, but no jobs are taken: paused");
        assert_eq!(summary(&state), "waiting, no jobs are taken: paused, no job");
        assert_eq!(paused(&state), "paused until `studio-worker resume` or a restart; no job runs");
    }

    #[test]
    fn what_is_not_delivered_and_one_that_does_not_react() {
        let held =
            Held { job_id: "j-0".into(), kind: "llm".into(), model: "m".into(), started_at: at(3_580) };
        let state = State { held_results: vec![held], current_job: None, ..busy() };
        assert_eq!(
            shown(&state)[4..6],
            [
                "current_job: none",
                "held_result: j-0, llm, m, accepted 2 min 0 s ago, is held until the studio offers the job again",
            ]
        );
        assert_eq!(summary(&state), "serving, no job, the result of j-0 is held; last: j-2 completed");
        assert_eq!(
            (paused(&state), draining(&state)),
            (
                "paused until `studio-worker resume` or a restart; no job runs; the result of job j-0 is held until the studio offers the job again".into(),
                "draining; the result of job j-0 is held until the studio offers the job again".into()
            )
        );
        assert_eq!(draining(&busy()), "draining: job j-3 is finished first");
        let hangs = State { reacts: false, ..busy() };
        assert_eq!(
            shown(&hangs)[1],
            "loop: does not turn, so the rest is how it was; the worker's log may say why"
        );
        assert_eq!(checked(&hangs), "the worker's loop does not turn");
        assert!(!hangs.is_serving() && summary(&hangs).contains(", the loop does not turn; last:"));
    }

    #[test]
    fn spans_and_sizes() {
        for (millis, wanted) in
            [(0, "0.0 s"), (1_990, "1.9 s"), (59_999, "59 s"), (60_000, "1 min 0 s"), (90_061_000, "1 d 1 h")]
        {
            assert_eq!(span(Duration::from_millis(millis)), wanted);
        }
        for (bytes, wanted) in [(999, "999 B"), (1_500, "1.5 kB"), (u64::MAX, "18446744073.7 GB")] {
            assert_eq!(size(bytes), wanted);
        }
    }
}
