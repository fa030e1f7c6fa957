//! The loop over everything: processes, the calendar, sleepers, the studio's deadlines.

use std::{collections::BTreeMap, sync::MutexGuard, time::Duration};

use super::{
    Report,
    machine::{Machine, sleep},
    net::Way,
    process::Process,
    scenario::{Fault, Scenario},
    state::{Order, State, World, micros},
};
use crate::{studio::Input, worker::Exit};

/// How long everything may take to end once the weather is fair: an upload is tried for an hour, a job has three
/// attempts, and each may hang for a run's limit.
const PATIENCE: Duration = Duration::from_secs(6 * 3_600);
/// Turns of a process without time passing; more is a busy loop.
const MAX_TURNS: u32 = 5_000;
/// Things that happen at one moment; more is a loop of the world's own.
const MAX_STILL: u32 = 100_000;

/// Plays a scenario and says what happened. `trace` tells it step by step on stderr.
///
/// # Panics
/// When a promise is broken: that is the finding. The message that names the promise is followed by one that names the
/// seed.
pub fn simulate(scenario: &Scenario, trace: bool) -> Report {
    let _names = NamesSeed(scenario.seed);
    let mut play = Play {
        world: World::new(scenario, trace),
        processes: BTreeMap::new(),
        scenario: scenario.clone(),
        is_over: false,
    };
    play.set_up();
    play.run_until(micros(scenario.span), |_| false);
    play.clear_up();
    let end = play.state().now + micros(PATIENCE);
    play.run_until(end, |state| state.ledger.open.is_empty());
    let open: Vec<_> = play.state().ledger.open.iter().take(8).cloned().collect();
    assert!(open.is_empty(), "jobs that never ended: {open:?} ...");
    play.go_home()
}

/// Says which seed it was when a promise is broken.
struct NamesSeed(u64);

impl Drop for NamesSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "that was seed {0}; see it again with: cargo run --release -p studio-worker-core --features sim \
                 --example simulate -- --seed {0} --trace",
                self.0
            );
        }
    }
}

struct Play {
    world: World,
    processes: BTreeMap<usize, Process>,
    scenario: Scenario,
    /// Whoever ends now stays so.
    is_over: bool,
}

impl Play {
    fn state(&self) -> MutexGuard<'_, State> {
        self.world.lock()
    }

    fn set_up(&mut self) {
        let mut state = self.state();
        for machine in 0..self.scenario.workers {
            state.machines.push(Machine::default());
            let soon = state.dice.between(Duration::ZERO, Duration::from_secs(3));
            state.after(soon, move |state| state.orders.push_back(Order::Start(machine)));
        }
        if let Some(gap) = self.scenario.job_gap {
            let gap = state.dice.gap(gap);
            state.after(gap, State::new_job);
        }
        if !self.scenario.faults.is_empty() {
            let gap = state.dice.gap(self.scenario.fault_gap);
            state.after(gap, strike);
        }
    }

    /// Lets time pass until then, or until `done`.
    fn run_until(&mut self, end: u64, done: impl Fn(&State) -> bool) {
        let mut since = (0, 0);
        loop {
            self.turn();
            let mut state = self.state();
            since = if since.0 == state.now { (since.0, since.1 + 1) } else { (state.now, 0) };
            assert!(since.1 < MAX_STILL, "things happen on and on without time passing");
            if let Some(breach) = &state.ledger.breach {
                panic!("{breach}");
            }
            if done(&state) {
                return;
            }
            let studio = state.desk.next_due();
            let machines = state.machines.iter().filter_map(Machine::next_due).min();
            let next = [state.next_due(), studio, machines].into_iter().flatten().min().unwrap_or(u64::MAX);
            if next > end {
                state.now = end;
                return;
            }
            state.now = state.now.max(next);
            let now = state.now;
            if state.happen() {
                continue;
            }
            for machine in &mut state.machines {
                if machine.asleep_until <= now {
                    machine.wake_sleepers(now);
                }
            }
            if studio.is_some_and(|due| due <= now) {
                state.tell(Input::Tick);
            }
        }
    }

    /// Lets every process that has something to do do it, and does what was ordered.
    fn turn(&mut self) {
        for turns in 0.. {
            assert!(turns < MAX_TURNS, "a process goes on and on without time passing");
            let order = self.state().orders.pop_front();
            if let Some(order) = order {
                self.carry_out(order);
                continue;
            }
            let woken = {
                let state = self.state();
                let is_awake = |machine: usize| state.machines[machine].asleep_until <= state.now;
                self.processes
                    .iter()
                    .find(|(at, process)| process.is_woken() && is_awake(**at))
                    .map(|(at, _)| *at)
            };
            let Some(machine) = woken else { return };
            let polled = self.processes.get_mut(&machine).map(Process::poll);
            if let Some(std::task::Poll::Ready(exit)) = polled {
                self.ended(machine, &exit);
            }
        }
    }

    /// A process ended by itself: whoever looks after it starts it again.
    fn ended(&mut self, machine: usize, exit: &Exit) {
        self.processes.remove(&machine);
        let mut state = self.state();
        state.say(format_args!("box {machine}: ends, {exit}"));
        let files = &state.machines[machine].files;
        assert!(files.is_empty(), "a process ended and left files: {files:?}");
        let by_order = match exit {
            Exit::Drained | Exit::Stopped => true,
            Exit::EngineStuck => state.scenario.bad_runs > 0,
            _ => false,
        };
        assert!(by_order, "a worker ended for no reason: {exit}");
        if !self.is_over {
            state.after(Duration::from_secs(5), move |state| state.orders.push_back(Order::Start(machine)));
        }
    }

    fn carry_out(&mut self, order: Order) {
        let until = self.state().machines[order.machine()].asleep_until;
        if until > self.state().now {
            return self.state().at(until, move |state| state.orders.push_back(order));
        }
        match order {
            Order::Start(machine) => {
                if !self.processes.contains_key(&machine) && !self.is_over {
                    let process = Process::start(&self.world, machine);
                    self.processes.insert(machine, process);
                }
            }
            Order::Kill(machine) => {
                if self.processes.remove(&machine).is_some() {
                    let mut state = self.state();
                    state.say(format_args!("box {machine}: is killed"));
                    // What it left in private files, nobody looks for.
                    state.machines[machine].files.clear();
                    let rest = state.dice.between(Duration::from_millis(100), Duration::from_secs(90));
                    state.after(rest, move |state| state.orders.push_back(Order::Start(machine)));
                }
            }
            Order::Drain(machine) => self.with(machine, |process| process.handle.drain()),
            Order::Stop(machine) => self.with(machine, |process| process.handle.stop()),
            Order::Pause(machine) => self.with(machine, |process| process.handle.pause()),
            Order::Resume(machine) => self.with(machine, |process| process.handle.resume()),
            Order::LogFlood(machine) => self.with(machine, Process::flood_log),
            Order::Threshold(machine, gb) => self.with(machine, |process| {
                // A worker that has just ended takes no more of it.
                let _ = process.handle.set_threshold(gb);
            }),
        }
    }

    fn with(&self, machine: usize, wish: impl FnOnce(&Process)) {
        if let Some(process) = self.processes.get(&machine) {
            wish(process);
        }
    }

    /// The weather turns fair: nothing new goes wrong, and what is wrong for a while ends.
    fn clear_up(&mut self) {
        let mut state = self.state();
        state.is_foul = false;
        state.say(format_args!("fair weather"));
        for at in 0..state.machines.len() {
            state.machines[at].disk_is_full = false;
            state.machines[at].takes_memory(true, false);
            state.machines[at].takes_memory(false, false);
            state.orders.extend([Order::Resume(at), Order::Threshold(at, 8.0)]);
        }
        state.give_up_refused();
        // A studio that was answered for holds jobs that no worker has, until their sessions end.
        for conn in state.sessions() {
            state.break_conn(conn, true, true);
        }
    }

    /// Everybody drains; nothing may be left.
    fn go_home(&mut self) -> Report {
        self.is_over = true;
        for process in self.processes.values() {
            process.handle.drain();
        }
        let end = self.state().now + micros(Duration::from_secs(3_600));
        while !self.processes.is_empty() {
            let next = self.state().now + 1_000_000;
            assert!(next < end, "a worker that has nothing to do doesn't drain");
            self.run_until(next, |_| false);
        }
        let mut state = self.state();
        let left: Vec<_> = state.machines.iter().flat_map(|machine| machine.files.keys()).cloned().collect();
        assert!(left.is_empty(), "files were left behind: {left:?}");
        let (simulated, ledger) = (Duration::from_micros(state.now), &state.ledger);
        let (runs, completed, failed) = (ledger.runs, ledger.completed, ledger.failed);
        let report = &mut state.report;
        *report = Report { simulated, completed, failed, runs, ..*report };
        *report
    }
}

/// Something goes wrong, and something else a while later.
fn strike(state: &mut State) {
    if !state.is_foul {
        return;
    }
    let gap = state.scenario.fault_gap;
    let gap = state.dice.gap(gap);
    state.after(gap, strike);
    let faults = state.scenario.faults.clone();
    let fault = state.dice.pick(&faults);
    if state.dice.strikes(fault.rarity()) {
        return;
    }
    state.report.faults += 1;
    let machine = usize::try_from(state.dice.below(state.machines.len() as u64)).unwrap_or(0);
    let sessions = state.sessions();
    let conn = if sessions.is_empty() { None } else { Some(state.dice.pick(&sessions)) };
    let while_ = state.dice.between(Duration::from_millis(500), Duration::from_secs(100));
    state.say(format_args!("fault: {fault:?}, box {machine}, session {conn:?}, {while_:?}"));
    match fault {
        Fault::Kill => state.orders.push_back(Order::Kill(machine)),
        Fault::Drain => state.orders.push_back(Order::Drain(machine)),
        Fault::Stop => state.orders.push_back(Order::Stop(machine)),
        Fault::LogFlood => state.orders.push_back(Order::LogFlood(machine)),
        Fault::Pause => {
            state.orders.push_back(Order::Pause(machine));
            state.after(while_, move |state| state.orders.push_back(Order::Resume(machine)));
        }
        Fault::Threshold => {
            state.orders.push_back(Order::Threshold(machine, 2.0));
            state.after(while_, move |state| state.orders.push_back(Order::Threshold(machine, 8.0)));
        }
        Fault::GpuTaken | Fault::HostTaken => {
            let is_gpu = fault == Fault::GpuTaken;
            state.machines[machine].takes_memory(is_gpu, true);
            state.after(while_ * 4, move |state| state.machines[machine].takes_memory(is_gpu, false));
        }
        Fault::WallJump => {
            let hours = i64::try_from(state.dice.below(97)).unwrap_or(0) - 48;
            state.machines[machine].wall_offset += hours * 3_600_000;
        }
        Fault::Suspend | Fault::SuspendCounted => {
            sleep(state, machine, while_ * 5, fault == Fault::SuspendCounted);
        }
        Fault::DiskFull => {
            state.machines[machine].disk_is_full = true;
            state.machines[machine].had_full_disk = true;
            state.after(while_, move |state| state.machines[machine].disk_is_full = false);
        }
        Fault::StudioKill => state.stop_studio(false, while_),
        Fault::StudioShutDown => state.stop_studio(true, while_),
        Fault::Revoke => state.revoke_a_worker(),
        Fault::Cancel => state.cancel_a_job(),
        Fault::Reset
        | Fault::WorkerReset
        | Fault::StudioReset
        | Fault::HalfOpen
        | Fault::CutAtByte
        | Fault::SlowReader
        | Fault::SlowStudio
        | Fault::Closed
        | Fault::Oddities => {
            if let Some(conn) = conn {
                strike_session(state, fault, conn);
            }
        }
    }
}

fn strike_session(state: &mut State, fault: Fault, conn: u64) {
    match fault {
        Fault::Reset => state.break_conn(conn, true, true),
        Fault::WorkerReset => state.break_conn(conn, true, false),
        Fault::StudioReset => state.break_conn(conn, false, true),
        Fault::HalfOpen => state.break_conn(conn, false, false),
        Fault::CutAtByte => {
            let way = state.dice.pick(&[Way::Up, Way::Down]);
            let bytes = usize::try_from(state.dice.below(1_200)).unwrap_or(0);
            state.cut_at_byte(conn, way, bytes);
        }
        Fault::SlowReader => state.slow(conn, Way::Up),
        Fault::SlowStudio => state.slow(conn, Way::Down),
        Fault::Closed => state.server_closes(conn),
        _ => state.oddities(conn),
    }
}
