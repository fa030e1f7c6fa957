//! Fuzz body: a worker against a studio, with a link between them whose order and faults the input chooses.

use alloc::{format, string::ToString, vec::Vec};
use core::time::Duration;

use serde_json::json;

use super::{
    link::{Link, Meter, Mood, Way, Weather},
    told::Told,
};
use crate::{
    studio::{Input, JobState, NewJob, Options},
    time::Wall,
    wire::{CliDefaults, JobId, ModelFile, ModelSource, Task},
    worker::{Command, Exit, states::SessionState},
};

/// Steps of one run; a longer input is cut.
const MAX_STEPS: usize = 1_500;
/// Jobs of one run.
const MAX_JOBS: usize = 12;

/// Plays `data` as what arrives next and what goes wrong: sessions that drop or fall silent, exchanges that break, gateways
/// that answer in somebody's place, engines that fail, full disks, both programs killed and started again, jobs that are
/// cancelled, owners and operators who change their minds, memory that others take, clocks that jump. Then all of that
/// ceases.
///
/// After each step the worker keeps the oracle's promises (among them that nothing is computed twice while its result is
/// had) and no secret is seen, and the studio finds no violation. Each job ends once, with the result and the prompt that are
/// its own. In the end every job is over, unless it waits for a worker with more memory, and where nothing had gone wrong each
/// was run once and is completed.
///
/// # Panics
/// When it is not so: that is the finding.
pub fn pair(data: &[u8]) {
    let mut told = Told::new(data);
    let mut game = Game::new(told.byte());
    for _ in 0..MAX_STEPS {
        if !told.goes_on() {
            break;
        }
        game.play(&mut told);
        game.link.check();
    }
    game.end();
}

struct Game {
    link: Link,
    jobs: Vec<JobId>,
    /// Nothing has gone wrong yet.
    fair: bool,
}

impl Game {
    fn new(how: u8) -> Self {
        let options = Options { auto_approve: true, ..Options::default() };
        let make = if how & 16 == 0 { Link::new } else { Link::measured };
        let mut game = Self { link: make(options, Weather::Fair), jobs: Vec::new(), fair: true };
        // Often the beginning is not what is of interest.
        if how >= 64 {
            game.link.run_until("the session", |link| link.worker.state() == SessionState::Serving);
        }
        for kind in 0..how % 4 {
            game.queue(kind.into());
        }
        if how >= 128 {
            game.link.under(Weather::foul(how.into(), 0));
        }
        game
    }

    fn queue(&mut self, kind: usize) {
        if self.jobs.len() < MAX_JOBS {
            let tasks = [
                json!({ "kind": "image", "prompt": "a lighthouse" }),
                json!({ "kind": "llm", "messages": [{ "role": "user", "content": "hi" }] }),
                json!({ "kind": "video", "prompt": "waves", "initImageUrl": "https://h/x?sig=1" }),
                json!({ "kind": "audio_stt", "inputUrl": "https://h/x.wav?sig=1" }),
            ];
            let Ok(task) = Task::from_json(&tasks[kind % tasks.len()]) else {
                unreachable!("constant tasks")
            };
            let offload = CliDefaults { offload_to_cpu: Some(true), ..CliDefaults::default() };
            let file = ModelFile { approx_bytes: Some(8 << 30), ..ModelFile::default() };
            let source =
                ModelSource { engine: "synthetic".into(), files: [file].into(), cli_defaults: offload };
            let job = NewJob {
                vram_gb_estimate: 4.into(),
                model_source: (kind % 4 == 2).then_some(source),
                ..NewJob::new("synthetic", task)
            };
            self.jobs.push(self.link.queue(job));
        }
    }

    fn play(&mut self, told: &mut Told<'_>) {
        let what = told.byte();
        let Self { link, jobs, fair } = self;
        match what % 48 {
            0..=23 => link.arrive_nth(told.below(8)),
            24..=27 => {
                // What is slow looks like what is gone.
                *fair &= link.is_at_rest();
                let most = Duration::from_millis(u64::from(told.byte()) * 100);
                link.pass(if what % 48 == 27 { Duration::MAX } else { most });
            }
            28..=30 => self.queue(usize::from(what / 48)),
            31 => link.command(if what < 128 { Command::Pause } else { Command::Resume }),
            32 => link.command(Command::SetThreshold(f64::from(told.byte()) / 8.0)),
            33 => {
                if let Some(job_id) = jobs.get(told.below(MAX_JOBS)).cloned() {
                    // It is over in a way of its own.
                    *fair = false;
                    link.ask(|call| Input::CancelJob { call, job_id });
                }
            }
            _ => {
                *fair = false;
                Self::go_wrong(link, what % 48, told);
            }
        }
        if let Some(exit) = &self.link.exit {
            let drained = matches!(exit, Exit::Drained | Exit::Stopped | Exit::MadeWay);
            assert!(!self.fair || drained, "the worker ended: {exit}");
            self.link.restart_worker(true);
        }
    }

    fn go_wrong(link: &mut Link, what: u8, told: &mut Told<'_>) {
        match what {
            34 => drop(link.drops(Way::Both)),
            35 => drop(link.drops(Way::Down)),
            36 => link.silence(told.one_of(&[Way::Both, Way::Up, Way::Down])),
            37 => link.break_exchange(),
            38 | 39 => {
                let status = told.one_of(&[200, 401, 403, 404, 408, 409, 410, 413, 418, 429, 500, 502, 503]);
                let wait = told.byte();
                link.gateway_answers(status, (wait > 128).then(|| wait.to_string()));
            }
            40 => match told.below(6) {
                0 | 1 => link.mood = Mood::Well,
                2 => link.mood = Mood::Transient,
                3 => link.mood = Mood::Permanent,
                _ => {
                    use Meter::{Blind, GpuTaken, HostTaken, Resident, Room, Silent};
                    link.meter = told.one_of(&[Room, GpuTaken, HostTaken, Resident, Blind, Silent]);
                }
            },
            41 => link.disk_is_full = !link.disk_is_full,
            42 => link.restart_worker(told.below(2) == 0),
            43 => link.restart_studio(),
            44 => {
                let worker_id = link.studio.workers().next().map(|worker| worker.id.clone());
                if let Some(worker_id) = worker_id {
                    link.ask(|call| Input::Revoke { call, worker_id });
                }
            }
            45 => link.command(match told.below(4) {
                0 => Command::Stop,
                1 => Command::MakeWay,
                _ => Command::Drain,
            }),
            46 => link.elapse(Duration::from_secs(u64::from(told.byte()) * 30)),
            _ => link.set_clock(Wall::from_millis(i64::from(told.byte()) * 20_000_000_000)),
        }
    }

    /// Everything gets well, and then everything comes to its end.
    fn end(mut self) {
        let Self { link, jobs, fair } = &mut self;
        link.mood = Mood::Well;
        link.meter = Meter::Room;
        link.disk_is_full = false;
        link.command(Command::SetThreshold(12.0));
        link.command(Command::Resume);
        // A worker that was told to drain ends, and is started again; nothing else ends it now but an end that it met before.
        for lives in 0.. {
            link.run_until("the end of every job", |link| {
                link.exit.is_some()
                    || jobs.iter().all(|job| link.over.contains_key(job) || link.is_refused(job))
            });
            link.check();
            let Some(exit) = &link.exit else { break };
            assert!(lives < 3, "the worker ends again and again: {exit}");
            link.restart_worker(true);
        }
        let is_refused = jobs.iter().any(|job| link.is_refused(job));
        assert!(!*fair || !is_refused, "a job was refused although there was memory");
        for job in &link.over {
            let (id, job) = job;
            let runs = link.runs.iter().filter(|run| *run == id).count();
            let state = format!("{id} is {:?} after {runs} runs: {:?}", job.state, job.error);
            assert!(
                !*fair || (job.state == JobState::Completed && runs == 1 && job.attempts == 0),
                "{state}"
            );
        }
        link.run_until("a worker at rest", |link| link.exit.is_some() || link.worker.jobs().next().is_none());
        link.check();
    }
}
