//! What is done, and what must hold.

use std::fmt;

use crate::Problem;

pub(crate) const HELP: &str = "\
cargo bench -p studio-worker-tokio --bench scale [-- OPTIONS]

  --sessions N[,N…]  how many, a row each (100,1000,10000)
  --jobs N           jobs of each session (50)
  --prompt N         characters of a prompt, and of its answer (40)
  --idle SECONDS     how long nothing is offered (20)
  --rate N           offers a second while their answers are timed (200)
  --paced SECONDS    how long that takes, at most (20)
  --in-flight N      jobs under way at a time when as many as go are offered (64)
  --ramp N           sessions opened a second (1000)
  --rehearsal        do it all, and time nothing";

/// Heartbeats are late by less at the 99th percentile, in milliseconds.
pub(crate) const LATE_P99_MS: f64 = 250.0;
/// No heartbeat is late by as much, in milliseconds.
pub(crate) const LATE_MAX_MS: f64 = 5_000.0;
/// Offers are answered within less at the 99th percentile, in milliseconds.
pub(crate) const ANSWER_P99_MS: f64 = 50.0;
/// A session is resident with no more, in KiB.
pub(crate) const SESSION_KIB: f64 = 24.0;

/// What this process is there for.
pub(crate) enum Part {
    Help,
    /// Rows of these sizes.
    Table(Vec<usize>, Plan),
    Row(Plan),
    Echo(Plan),
}

/// How a row is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) sessions: usize,
    pub(crate) jobs_each: u32,
    pub(crate) prompt_chars: usize,
    pub(crate) idle_seconds: f64,
    pub(crate) offers_a_second: f64,
    pub(crate) paced_seconds: f64,
    pub(crate) in_flight: usize,
    pub(crate) opened_a_second: f64,
    pub(crate) rehearsal: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            sessions: 0,
            jobs_each: 50,
            prompt_chars: 40,
            idle_seconds: 20.0,
            offers_a_second: 200.0,
            paced_seconds: 20.0,
            in_flight: 64,
            opened_a_second: 1_000.0,
            rehearsal: false,
        }
    }
}

impl Plan {
    fn rehearsal() -> Self {
        Self { jobs_each: 4, idle_seconds: 0.0, paced_seconds: 0.1, rehearsal: true, ..Self::default() }
    }

    /// The arguments of a process that has a part in it: `--row` or `--echo`.
    pub(crate) fn to_args(&self, part: &str) -> Vec<String> {
        let Self { sessions, jobs_each, prompt_chars, idle_seconds, offers_a_second, .. } = self;
        let Self { paced_seconds, in_flight, opened_a_second, rehearsal, .. } = self;
        let text = format!(
            "{part} --sessions {sessions} --jobs {jobs_each} --prompt {prompt_chars} --idle {idle_seconds} \
             --rate {offers_a_second} --paced {paced_seconds} --in-flight {in_flight} --ramp {opened_a_second}"
        );
        text.split(' ').map(str::to_owned).chain(rehearsal.then(|| "--rehearsal".to_owned())).collect()
    }

    /// How many offers are paced: half of all at most, and each session has its share.
    pub(crate) fn paced_offers(&self) -> u64 {
        let half = self.sessions as u64 * u64::from(self.jobs_each) / 2;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
        half.min((self.offers_a_second * self.paced_seconds) as u64)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs_each, prompt_chars, idle_seconds, offers_a_second, .. } = self;
        let Self { paced_seconds, in_flight, opened_a_second, .. } = self;
        write!(
            f,
            "sessions opened at {opened_a_second} a second, idle for {idle_seconds} s, {jobs_each} jobs each with prompts of \
             {prompt_chars} characters: {offers_a_second} offers a second over all for {paced_seconds} s at most, then as \
             many as go with {in_flight} under way, and 10 a second at most for each"
        )
    }
}

impl Part {
    pub(crate) fn of(args: impl Iterator<Item = String>) -> Result<Self, Problem> {
        let mut args: Vec<_> = args.collect();
        let mut is = |name: &str| {
            let before = args.len();
            args.retain(|arg| arg != name);
            args.len() < before
        };
        let (benched, row, echo) = (is("--bench"), is("--row"), is("--echo"));
        let rehearsal = is("--rehearsal") || !(benched || row || echo);
        if is("--help") || is("-h") {
            return Ok(Self::Help);
        }
        let mut plan = if rehearsal { Plan::rehearsal() } else { Plan::default() };
        let mut sizes = if rehearsal { vec![8] } else { vec![100, 1_000, 10_000] };
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            let wrong = || format!("{name} can't be {value:?}");
            match name.as_str() {
                "--sessions" => {
                    sizes = value
                        .split(',')
                        .map(|size| size.parse().ok().filter(|size| *size > 0))
                        .collect::<Option<_>>()
                        .ok_or_else(wrong)?;
                }
                "--jobs" => plan.jobs_each = value.parse().map_err(|_| wrong())?,
                "--prompt" => plan.prompt_chars = value.parse().map_err(|_| wrong())?,
                "--idle" => plan.idle_seconds = positive(&value).ok_or_else(wrong)?,
                "--rate" => plan.offers_a_second = positive(&value).ok_or_else(wrong)?,
                "--paced" => plan.paced_seconds = positive(&value).ok_or_else(wrong)?,
                "--in-flight" => plan.in_flight = value.parse().map_err(|_| wrong())?,
                "--ramp" => plan.opened_a_second = positive(&value).ok_or_else(wrong)?,
                _ => return Err(format!("there is no {name}\n\n{HELP}").into()),
            }
        }
        if plan.in_flight == 0 || plan.jobs_each == 0 || plan.offers_a_second * plan.opened_a_second == 0.0 {
            return Err("none of --jobs, --in-flight, --rate and --ramp can be 0".into());
        }
        plan.sessions = sizes[0];
        Ok(match (row, echo) {
            (true, _) => Self::Row(plan),
            (_, true) => Self::Echo(plan),
            _ => Self::Table(sizes, plan),
        })
    }
}

fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number| (0.0..1e9).contains(number))
}
