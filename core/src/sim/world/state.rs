//! The world's one clock and its calendar: what happens next, and the parts that it happens to.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Report, desk::Desk, dice::Dice, ledger::Ledger, machine::Machine, net::Conn, scenario::Scenario,
};

type Event = Box<dyn FnOnce(&mut State) + Send>;

/// The handle that everything in the world has.
#[derive(Clone)]
pub(super) struct World(Arc<Mutex<State>>);

impl World {
    pub(super) fn new(scenario: &Scenario, trace: bool) -> Self {
        let mut dice = Dice::new(scenario.seed);
        let desk = Desk::new(scenario, dice.seed());
        Self(Arc::new(Mutex::new(State {
            now: 0,
            count: 0,
            calendar: BTreeMap::new(),
            orders: VecDeque::new(),
            dice,
            scenario: scenario.clone(),
            is_foul: true,
            trace,
            machines: Vec::new(),
            conns: BTreeMap::new(),
            desk,
            ledger: Ledger::default(),
            report: Report::default(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A broken promise has panicked somewhere else already, and that is the finding.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done to a worker's process, which lives outside of the world's lock.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    Start(usize),
    Kill(usize),
    Drain(usize),
    Stop(usize),
    Pause(usize),
    Resume(usize),
    Threshold(usize, f64),
    LogFlood(usize),
}

impl Order {
    pub(super) fn machine(self) -> usize {
        match self {
            Self::Start(machine)
            | Self::Kill(machine)
            | Self::Drain(machine)
            | Self::Stop(machine)
            | Self::Pause(machine)
            | Self::Resume(machine)
            | Self::Threshold(machine, _)
            | Self::LogFlood(machine) => machine,
        }
    }
}

pub(super) struct State {
    /// Microseconds since the world began.
    pub(super) now: u64,
    /// Numbers events, connections, calls: never used twice.
    count: u64,
    calendar: BTreeMap<(u64, u64), Event>,
    pub(super) orders: VecDeque<Order>,
    pub(super) dice: Dice,
    pub(super) scenario: Scenario,
    /// Whether things go wrong.
    pub(super) is_foul: bool,
    trace: bool,
    pub(super) machines: Vec<Machine>,
    pub(super) conns: BTreeMap<u64, Conn>,
    pub(super) desk: Desk,
    pub(super) ledger: Ledger,
    pub(super) report: Report,
}

impl State {
    pub(super) fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Puts something into the calendar.
    pub(super) fn at(&mut self, at: u64, event: impl FnOnce(&mut State) + Send + 'static) {
        let number = self.number();
        self.calendar.insert((at.max(self.now), number), Box::new(event));
    }

    pub(super) fn after(&mut self, span: Duration, event: impl FnOnce(&mut State) + Send + 'static) {
        self.at(self.now + micros(span), event);
    }

    /// When the next thing in the calendar is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.calendar.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets the next thing happen, if it is due.
    pub(super) fn happen(&mut self) -> bool {
        let Some(entry) = self.calendar.first_entry() else { return false };
        if entry.key().0 > self.now {
            return false;
        }
        let event = entry.remove();
        self.report.events += 1;
        event(self);
        true
    }

    /// How long something is under way on the network.
    pub(super) fn delay(&mut self) -> Duration {
        let (least, most) = self.scenario.delay;
        self.dice.between(least, most)
    }

    /// Whether a thing goes wrong that does so `per_mille` times in a thousand while the weather is foul.
    pub(super) fn goes_wrong(&mut self, per_mille: u32) -> bool {
        self.is_foul && self.dice.strikes(per_mille)
    }

    /// Tells the history to whoever replays a seed.
    pub(super) fn say(&self, what: fmt::Arguments<'_>) {
        if self.trace {
            let seconds = Duration::from_micros(self.now).as_secs_f64();
            eprintln!("{seconds:>12.6} {what}");
        }
    }
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 4)
}
