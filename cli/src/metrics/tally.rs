//! Counting what the worker's loop tells.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use studio_worker_core::{
    drive::Meter,
    time::{Mono, Now},
    wire::{JobId, TaskKind},
    worker::{Action, Input, JobOutcome, RunId, Worker, states::JobState, states::SessionState},
};

/// How much later than it said the loop may turn: a machine may be slow.
const SLACK: Duration = Duration::from_secs(15);
/// The longest rest that is believed: at least that often the loop wakes up.
const LONGEST_REST: Duration = Duration::from_secs(3_600);
/// Jobs that may be under way and held, and some more.
const MAX_JOBS: usize = 16;

/// The kinds of a job as a label; the last one is of jobs that could not be read.
pub(super) const KINDS: usize = TaskKind::ALL.len() + 1;
/// The stages of a job: what is waited for.
pub(super) const STAGES: [&str; 4] = ["download", "run", "delivery", "whole"];
const DOWNLOAD: usize = 0;
const RUN: usize = 1;
const DELIVERY: usize = 2;
const WHOLE: usize = 3;

/// Upper bounds of the buckets, in milliseconds.
pub(super) const BOUNDS: [u64; 13] =
    [100, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000];

/// How long something took, each time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram {
    /// How many were within each bound and not the one before.
    pub(super) within: [u64; BOUNDS.len()],
    pub(super) count: u64,
    pub(super) sum: Duration,
}

impl Histogram {
    fn record(&mut self, took: Duration) {
        self.count += 1;
        self.sum += took;
        if let Some(at) = BOUNDS.iter().position(|bound| took <= Duration::from_millis(*bound)) {
            self.within[at] += 1;
        }
    }
}

/// All numbers at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    /// By kind, completed and failed.
    pub(super) jobs: [[u64; 2]; KINDS],
    pub(super) stages: [Histogram; STAGES.len()],
    pub(super) sessions: u64,
    pub(super) connects: u64,
    pub(super) frames_sent: u64,
    pub(super) frames_received: u64,
    pub(super) uploaded: u64,
    pub(super) downloaded: u64,
    pub(super) log_lines_dropped: u64,
    pub(super) held: u64,
    pub(super) current: u64,
    pub(super) serving: bool,
    pub(super) accepting: bool,
    pub(super) threshold_gb: f64,
}

/// What was counted so far.
pub(super) struct Tally(Mutex<Counting>);

struct Counting {
    numbers: Numbers,
    jobs: VecDeque<Tracked>,
    /// Log lines that did not even reach the worker.
    lost_lines: u64,
    /// The loop turns until then at least; none when it has ended.
    turns_until: Option<Instant>,
}

/// A job that is under way.
struct Tracked {
    job_id: JobId,
    run: RunId,
    began: Mono,
    /// When the engine was done.
    ran: Option<Mono>,
    /// The file that is waited for, how many bytes of it came, and since when.
    file: Option<(String, u64, Mono)>,
    downloading: Duration,
}

impl Tally {
    pub(super) fn new() -> Self {
        let turns_until = Some(Instant::now() + SLACK);
        Self(Mutex::new(Counting {
            numbers: Numbers::default(),
            jobs: VecDeque::new(),
            lost_lines: 0,
            turns_until,
        }))
    }

    pub(super) fn numbers(&self) -> Numbers {
        self.lock().numbers.clone()
    }

    /// Whether the loop turns as it should.
    pub(super) fn turns(&self) -> bool {
        self.lock().turns_until.is_some_and(|until| Instant::now() <= until)
    }

    /// Whether a session is open. Only a loop that turns knows.
    pub(super) fn is_serving(&self) -> bool {
        self.turns() && self.lock().numbers.serving
    }

    fn lock(&self) -> MutexGuard<'_, Counting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter for Tally {
    fn told(&self, now: Now, input: &Input) {
        let mut counting = self.lock();
        match input {
            Input::Text { text, .. } => counting.numbers.frames_received += text.len() as u64,
            Input::RunProgress { run, transfer } => {
                let Some(job) = counting.jobs.iter_mut().find(|job| job.run == *run) else { return };
                let before = job.file.take();
                let Some(transfer) = transfer else {
                    job.downloading += before.map_or(Duration::ZERO, |(_, _, since)| now.mono.since(since));
                    return;
                };
                let (counted, since) = match before {
                    // Less than before: it is another download of it.
                    Some((name, came, since)) if name == transfer.name && came <= transfer.came => {
                        (came, since)
                    }
                    Some((_, _, since)) => (0, since),
                    None => (0, now.mono),
                };
                job.file = Some((transfer.name.clone(), transfer.came, since));
                counting.numbers.downloaded += transfer.came - counted;
            }
            Input::RunEnded { run, .. } => {
                let Counting { numbers, jobs, .. } = &mut *counting;
                let Some(job) = jobs.iter_mut().find(|job| job.run == *run) else { return };
                if let Some((_, _, since)) = job.file.take() {
                    job.downloading += now.mono.since(since);
                }
                job.ran = Some(now.mono);
                if job.downloading > Duration::ZERO {
                    numbers.stages[DOWNLOAD].record(job.downloading);
                }
                numbers.stages[RUN].record(now.mono.since(job.began).saturating_sub(job.downloading));
            }
            _ => {}
        }
    }

    fn decided(&self, now: Now, action: &Action) {
        let mut counting = self.lock();
        let Counting { numbers, jobs, turns_until, .. } = &mut *counting;
        match action {
            Action::Connect { .. } => numbers.connects += 1,
            Action::DispatchJob { run, claim } => {
                if jobs.len() == MAX_JOBS {
                    jobs.pop_front();
                }
                jobs.push_back(Tracked {
                    job_id: claim.job_id.clone(),
                    run: *run,
                    began: now.mono,
                    ran: None,
                    file: None,
                    downloading: Duration::ZERO,
                });
            }
            Action::RecordRecentJob(job) => {
                let kind = TaskKind::ALL.iter().position(|kind| kind.name() == job.kind);
                let outcome = usize::from(job.outcome != JobOutcome::Completed);
                numbers.jobs[kind.unwrap_or(KINDS - 1)][outcome] += 1;
                let tracked = jobs.iter().position(|tracked| tracked.job_id == job.job_id);
                let Some(tracked) = tracked.and_then(|at| jobs.remove(at)) else { return };
                numbers.stages[WHOLE].record(now.mono.since(tracked.began));
                if let (JobOutcome::Completed, Some(ran)) = (&job.outcome, tracked.ran) {
                    numbers.stages[DELIVERY].record(now.mono.since(ran));
                }
            }
            Action::Exit(_) => {
                *turns_until = None;
                (numbers.serving, numbers.accepting, numbers.current) = (false, false, 0);
            }
            _ => {}
        }
    }

    fn rests(&self, now: Now, until: Mono, worker: &Worker) {
        let mut counting = self.lock();
        counting.turns_until = Some(Instant::now() + until.since(now.mono).min(LONGEST_REST) + SLACK);
        let lost_lines = counting.lost_lines;
        let (numbers, counters) = (&mut counting.numbers, worker.counters());
        (numbers.sessions, numbers.log_lines_dropped) =
            (counters.sessions, counters.dropped_log_lines + lost_lines);
        let count =
            |wanted: &dyn Fn(JobState) -> bool| worker.jobs().filter(|job| wanted(job.1)).count() as u64;
        numbers.held = count(&|state| state == JobState::Held);
        numbers.current = count(&|state| state.is_claimed() || state == JobState::Orphaned).min(1);
        numbers.serving = worker.state() == SessionState::Serving;
        numbers.accepting = worker.capabilities().auto_enabled;
        numbers.threshold_gb = worker.capabilities().vram_threshold_gb.get();
    }

    fn sent_frame(&self, bytes: usize) {
        self.lock().numbers.frames_sent += bytes as u64;
    }

    fn dropped_lines(&self, lines: u64) {
        self.lock().lost_lines += lines;
    }

    fn uploaded(&self, bytes: u64) {
        self.lock().numbers.uploaded += bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use studio_worker_core::{
        engine::Output,
        machine::Transfer,
        time::Wall,
        wire::{Claim, LogLevel, Offer, StudioFrame},
        worker::{Identity, LogLine, Options, RecentJob, Settings},
    };

    use super::*;

    fn at(millis: u64) -> Now {
        Now { mono: Mono::from_micros(millis * 1_000), wall: Wall::default() }
    }

    fn claim(job: &str) -> Arc<Claim> {
        let frame = format!(
            r#"{{"type":"offer","claim":{{"jobId":"{job}","model":"m","vramGbEstimate":1,"task":{{"kind":"llm","messages":[{{"role":"user","content":"c"}}]}}}}}}"#
        );
        let Ok(StudioFrame::Offer(Offer::Readable(claim))) = StudioFrame::parse(&frame) else {
            panic!("an offer")
        };
        Arc::new(*claim)
    }

    fn recorded(job: &str, kind: &str, outcome: JobOutcome) -> Action {
        Action::RecordRecentJob(RecentJob {
            job_id: job.into(),
            kind: kind.into(),
            model: "m".into(),
            prompt: String::new(),
            started_at: Wall::default(),
            outcome,
            finished_at: Wall::default(),
        })
    }

    #[test]
    fn the_stages_of_a_job_are_told_apart() {
        let (tally, run) = (Tally::new(), RunId(1));
        tally.decided(at(0), &Action::DispatchJob { run, claim: claim("j-1") });
        // With 10,000 bytes of an earlier attempt.
        let moved = |name: &str, came| Input::RunProgress {
            run,
            transfer: Some(Transfer { name: name.into(), done: 10_000 + came, total: None, came }),
        };
        tally.told(at(1_000), &moved("a", 100));
        tally.told(at(2_000), &moved("a", 1_100));
        tally.told(at(3_000), &Input::RunProgress { run, transfer: None });
        // Whole at the first word.
        tally.told(at(3_000), &moved("b", 50));
        tally.told(at(3_500), &moved("c", 60));
        tally.told(at(4_000), &moved("c", 10));
        // Of another run, which nobody knows.
        tally.told(at(4_000), &Input::RunProgress { run: RunId(9), transfer: None });
        tally.told(at(4_000), &Input::RunProgress { run, transfer: None });
        tally.told(at(10_000), &Input::RunEnded { run, outcome: Ok(Output::Json(Arc::new(1.into()))) });
        tally.decided(at(10_400), &recorded("j-1", "llm", JobOutcome::Completed));
        tally.decided(at(10_400), &recorded("j-0", "hologram", JobOutcome::Failed { reason: "r".into() }));
        let numbers = tally.numbers();
        let sums: Vec<_> = numbers.stages.iter().map(|stage| (stage.count, stage.sum.as_millis())).collect();
        assert_eq!(sums, [(1, 3_000), (1, 7_000), (1, 400), (1, 10_400)]);
        assert_eq!(numbers.stages[DELIVERY].within[1], 1);
        assert_eq!(numbers.downloaded, 1_220);
        let llm = TaskKind::ALL.iter().position(|kind| *kind == TaskKind::Llm).unwrap();
        assert_eq!((numbers.jobs[llm], numbers.jobs[KINDS - 1]), ([1, 0], [0, 1]));
        assert!(tally.lock().jobs.is_empty());
    }

    #[test]
    fn lines_that_are_lost_before_the_worker_or_in_it_are_counted() {
        let base = studio_worker_core::wire::ApiBase::parse("http://127.0.0.1:9").unwrap();
        let options = Options::new(Settings::new(base, Identity::default()), "studio-worker/test");
        let mut worker = Worker::new(options, [0; 32], at(0));
        for n in 0..1_500 {
            let line = LogLine {
                level: LogLevel::Info,
                category: "test".into(),
                message: n.to_string(),
                job_id: None,
            };
            worker.handle(at(0), Input::Log(line));
        }
        let tally = Tally::new();
        let inside = worker.counters().dropped_log_lines;
        assert!(inside >= 500, "{inside}");
        tally.dropped_lines(7);
        for _ in 0..2 {
            tally.rests(at(0), Mono::NEVER, &worker);
            assert_eq!(tally.numbers().log_lines_dropped, inside + 7);
        }
        tally.dropped_lines(1);
        tally.rests(at(0), Mono::NEVER, &worker);
        assert_eq!(tally.numbers().log_lines_dropped, inside + 8);
    }

    #[test]
    fn jobs_that_never_end_are_not_tracked_for_ever() {
        let tally = Tally::new();
        for n in 0..1_000 {
            tally.decided(at(n), &Action::DispatchJob { run: RunId(n), claim: claim(&n.to_string()) });
        }
        assert_eq!(tally.lock().jobs.len(), MAX_JOBS);
    }

    #[test]
    fn a_loop_that_does_not_come_back_in_time_does_not_turn() {
        let tally = Tally::new();
        assert!(tally.turns(), "it may be about to start");
        tally.lock().numbers.serving = true;
        assert!(tally.is_serving());
        tally.lock().turns_until = Instant::now().checked_sub(Duration::from_millis(1));
        assert!(!tally.turns() && !tally.is_serving());
        tally.decided(at(0), &Action::Exit(studio_worker_core::worker::Exit::Drained));
        assert!(!tally.turns());
    }

    #[test]
    fn what_took_longer_than_every_bound_is_in_the_count_alone() {
        let mut histogram = Histogram::default();
        for millis in [0, 100, 101, 3_600_001] {
            histogram.record(Duration::from_millis(millis));
        }
        assert_eq!((histogram.within[0], histogram.within[1], histogram.count), (2, 1, 4));
        assert_eq!(histogram.within.iter().sum::<u64>(), 3);
    }
}
