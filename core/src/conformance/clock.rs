//! What time it is on a network, and the one place where its threads wait.
//!
//! A virtual clock stands still while anything can happen, and jumps to the next deadline when nothing can. That is
//! exact, since it is known of every thread that takes part ([`Part`]) whether it waits: what is waited for changes only
//! under the clock's lock, and such a change counts whoever waits as running again before it can be seen. So a
//! thread that was woken and is not scheduled yet holds the clock, however busy the machine is.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    mem,
    ops::Bound,
    pin::{Pin, pin},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use crate::time::Mono;

/// A network's clock. Clones are the same clock.
#[derive(Clone)]
pub struct Clock(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    time: Time,
    /// Threads that take part and don't wait.
    running: usize,
    /// Threads that take part and wait.
    waiting: usize,
    /// How often those who waited were counted as running again.
    release: u64,
    /// What is waited for: by a thread in [`Clock::wait`], or by a future, which is woken.
    deadlines: BTreeMap<(Mono, u64), Option<Waker>>,
    last_deadline: u64,
}

enum Time {
    Real(Instant),
    Virtual(Mono),
}

impl Clock {
    /// The system's clock, from now on.
    pub fn real() -> Self {
        Self::of(Time::Real(Instant::now()))
    }

    /// A clock that stands still until every thread that takes part waits.
    pub fn simulated() -> Self {
        Self::of(Time::Virtual(Mono::ZERO))
    }

    fn of(time: Time) -> Self {
        let state =
            State { time, running: 0, waiting: 0, release: 0, deadlines: BTreeMap::new(), last_deadline: 0 };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Whether time goes by only while every thread that takes part waits.
    pub fn is_simulated(&self) -> bool {
        matches!(self.lock().time, Time::Virtual(_))
    }

    /// What time it is.
    pub fn now(&self) -> Mono {
        self.lock().now()
    }

    /// Starts measuring.
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch { clock: self.clone(), start: self.now() }
    }

    /// Blocks for that long.
    pub fn sleep(&self, span: Duration) {
        let until = self.now() + span;
        self.wait(Some(until), || None::<()>);
    }

    /// Waits until it is `at`.
    pub fn sleep_until(&self, at: Mono) -> Sleep {
        Sleep { clock: self.clone(), at, deadline: None }
    }

    /// From now on this thread, or the one that it gives the part to, holds a virtual clock while it doesn't wait. No
    /// other thread may wait on one.
    pub fn take_part(&self) -> Part {
        self.lock().running += 1;
        Part(self.clone())
    }

    /// Starts a thread that takes part from this moment on.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let part = self.take_part();
        thread::spawn(move || {
            let _part = part;
            work()
        })
    }

    /// Drives a future on this thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let alarm = Arc::new(Alarm { clock: self.clone(), rung: AtomicBool::new(true) });
        let waker = Waker::from(Arc::clone(&alarm));
        let mut cx = Context::from_waker(&waker);
        loop {
            self.wait(None, || alarm.rung.swap(false, Ordering::SeqCst).then_some(()));
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
        }
    }

    /// Changes what threads wait for.
    pub(super) fn change<R>(&self, change: impl FnOnce() -> R) -> R {
        let mut state = self.lock();
        let result = change();
        state.release_all(&self.0.changed);
        result
    }

    /// Waits for what `look` finds, until then if it finds nothing. It looks under the lock: it must not use the clock.
    pub(super) fn wait<R>(&self, until: Option<Mono>, mut look: impl FnMut() -> Option<R>) -> Option<R> {
        let mut state = self.lock();
        let deadline = until.map(|until| state.add_deadline(until, None));
        let found = loop {
            let now = state.now();
            let due = state.due(now);
            if !due.is_empty() {
                // Whoever is woken may use the clock. It is held meanwhile: this thread doesn't wait.
                drop(state);
                due.into_iter().for_each(Waker::wake);
                state = self.lock();
                continue;
            }
            let found = look();
            if found.is_some() || until.is_some_and(|until| until <= now) {
                break found;
            }
            state = self.block(state, now);
        };
        if let Some(deadline) = deadline {
            state.deadlines.remove(&deadline);
        }
        found
    }

    /// Blocks until something changes, or a deadline later than `now` comes.
    fn block<'a>(&'a self, mut state: MutexGuard<'a, State>, now: Mono) -> MutexGuard<'a, State> {
        if let Time::Real(_) = state.time {
            return match state.next_deadline(now) {
                Some(next) => {
                    let woken = self.0.changed.wait_timeout(state, next.since(now));
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        assert!(state.running > 0, "a thread waits that takes no part");
        state.running -= 1;
        state.waiting += 1;
        let release = state.release;
        state.jump_if_idle(&self.0.changed);
        while state.release == release {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What runs under it are changes in one piece.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

impl State {
    fn now(&self) -> Mono {
        match self.time {
            Time::Real(start) => Mono::ZERO + start.elapsed(),
            Time::Virtual(now) => now,
        }
    }

    fn add_deadline(&mut self, at: Mono, waker: Option<Waker>) -> (Mono, u64) {
        self.last_deadline += 1;
        let deadline = (at, self.last_deadline);
        self.deadlines.insert(deadline, waker);
        deadline
    }

    /// The futures whose time has come by `now`; each is woken once.
    fn due(&mut self, now: Mono) -> Vec<Waker> {
        let due = self.deadlines.range(..=(now, u64::MAX)).filter(|(_, waker)| waker.is_some());
        let due: Vec<_> = due.map(|(deadline, _)| *deadline).collect();
        due.into_iter().filter_map(|deadline| self.deadlines.remove(&deadline)?).collect()
    }

    fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let later = (Bound::Excluded((now, u64::MAX)), Bound::Unbounded);
        self.deadlines.range(later).next().map(|((at, _), _)| *at)
    }

    fn release_all(&mut self, changed: &Condvar) {
        self.running += mem::take(&mut self.waiting);
        self.release += 1;
        changed.notify_all();
    }

    /// When nobody can do anything before the next deadline, it is time for that one.
    fn jump_if_idle(&mut self, changed: &Condvar) {
        if self.running == 0
            && self.waiting > 0
            && let Time::Virtual(now) = self.time
            && let Some(next) = self.next_deadline(now)
        {
            self.time = Time::Virtual(next);
            self.release_all(changed);
        }
    }
}

/// A thread's part in a virtual clock: while it is had and the thread doesn't wait, time stands still.
#[derive(Debug)]
pub struct Part(Clock);

impl Drop for Part {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running -= 1;
        state.jump_if_idle(&self.0.0.changed);
    }
}

/// Measures time on a network's clock.
#[derive(Debug, Clone)]
pub struct Stopwatch {
    clock: Clock,
    start: Mono,
}

impl Stopwatch {
    /// How long ago it was started.
    pub fn elapsed(&self) -> Duration {
        self.clock.now().since(self.start)
    }

    /// Fails unless that many seconds have gone by. By the system's clock nobody can say how long a machine takes, and
    /// what began a little before it was heard of is over a little earlier.
    pub(super) fn took(&self, least: u64, most: u64) {
        const A_LITTLE: Duration = Duration::from_secs(5);
        let (least, most, took) = (Duration::from_secs(least), Duration::from_secs(most), self.elapsed());
        if self.clock.is_simulated() {
            assert!((least..=most).contains(&took), "{took:?} instead of {least:?} to {most:?}");
        } else {
            assert!(took + A_LITTLE > least, "{took:?} instead of {least:?}");
        }
    }
}

/// Rings when a future that is driven by [`Clock::block_on`] wants to be polled.
struct Alarm {
    clock: Clock,
    rung: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.clock.change(|| self.rung.store(true, Ordering::SeqCst));
    }
}

/// A future that waits for a time. Some thread must wait on the clock meanwhile, as [`Clock::block_on`] does.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub struct Sleep {
    clock: Clock,
    at: Mono,
    deadline: Option<(Mono, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.get_mut();
        // It must outlive the lock: a waker may be the last of what it would wake.
        let _waker;
        let mut state = sleep.clock.lock();
        if let Some(deadline) = sleep.deadline.take() {
            _waker = state.deadlines.remove(&deadline);
        }
        if sleep.at <= state.now() {
            return Poll::Ready(());
        }
        sleep.deadline = Some(state.add_deadline(sleep.at, Some(cx.waker().clone())));
        // By the system's clock, who waits must wake earlier now.
        if let Time::Real(_) = state.time {
            sleep.clock.0.changed.notify_all();
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(deadline) = self.deadline.take() {
            let _waker = self.clock.lock().deadlines.remove(&deadline);
        }
    }
}

/// Something that threads wait for.
pub(super) struct Watched<T> {
    clock: Clock,
    value: Arc<Mutex<T>>,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self { clock: self.clock.clone(), value: Arc::clone(&self.value) }
    }
}

impl<T> Watched<T> {
    pub(super) fn new(clock: &Clock, value: T) -> Self {
        Self { clock: clock.clone(), value: Arc::new(Mutex::new(value)) }
    }

    /// Changes it.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        self.clock.change(|| change(&mut self.lock()))
    }

    /// What `take` gets out of it now.
    pub(super) fn attempt<R>(&self, take: impl FnOnce(&mut T) -> Option<R>) -> Option<R> {
        let mut state = self.clock.lock();
        let taken = take(&mut self.lock());
        if taken.is_some() {
            state.release_all(&self.clock.0.changed);
        }
        taken
    }

    /// Waits until `take` gets something out of it; no longer than that.
    pub(super) fn take_within<R>(&self, bound: Duration, take: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        self.take_until(Some(self.clock.now() + bound), take)
    }

    /// The same, until then, or for ever.
    pub(super) fn take_until<R>(
        &self,
        until: Option<Mono>,
        mut take: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let taken = self.clock.wait(until, || take(&mut self.lock()));
        if taken.is_some() {
            // Somebody may wait for it to be gone, and this thread holds the clock meanwhile.
            self.clock.change(|| ());
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time goes by deadlines alone, and only as far as the next one.
    #[test]
    fn a_virtual_clock_goes_from_deadline_to_deadline() {
        let clock = Clock::simulated();
        let part = clock.take_part();
        let seen = Watched::new(&clock, Vec::new());
        let sleepers: Vec<_> = [3, 1, 2]
            .map(|hours| {
                let (clock, seen) = (clock.clone(), seen.clone());
                clock.clone().spawn(move || {
                    clock.sleep(Duration::from_secs(3_600 * hours));
                    let now = clock.now();
                    seen.change(|seen| seen.push((hours, now)));
                })
            })
            .into();
        thread::sleep(Duration::from_millis(20));
        assert_eq!(clock.now(), Mono::ZERO, "this thread doesn't wait");
        drop(part);
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
        let at = |hours| (hours, Mono::ZERO + Duration::from_secs(3_600 * hours));
        assert_eq!(*seen.lock(), [at(1), at(2), at(3)]);
    }

    /// Whoever was told something acts on it before any time passes, though it may take its while to be scheduled.
    #[test]
    fn what_was_changed_is_seen_before_time_goes_on() {
        let clock = Clock::simulated();
        let _part = clock.take_part();
        let (ball, rounds) = (Watched::new(&clock, 0_u32), 2_000);
        let other = {
            let ball = ball.clone();
            clock.spawn(move || {
                for round in 0..rounds {
                    let hit = |ball: &mut u32| (*ball == 2 * round + 1).then(|| *ball += 1);
                    assert!(ball.take_within(Duration::from_secs(1), hit).is_some(), "round {round}");
                }
            })
        };
        for round in 0..rounds {
            ball.change(|ball| *ball += 1);
            let back = |ball: &mut u32| (*ball == 2 * round + 2).then_some(());
            assert!(ball.take_within(Duration::from_micros(1), back).is_some(), "round {round}");
        }
        assert_eq!(clock.now(), Mono::ZERO);
        other.join().unwrap();
    }

    /// Futures wait by either clock.
    #[test]
    fn a_future_sleeps_on_either_clock() {
        for clock in [Clock::real(), Clock::simulated()] {
            let _part = clock.take_part();
            let watch = clock.stopwatch();
            let (short, long) = (Duration::from_millis(3), Duration::from_secs(9 * 3_600));
            let race = async {
                let never = clock.sleep_until(clock.now() + long);
                let soon = clock.sleep_until(clock.now() + short);
                futures::future::select(never, soon).await.factor_first();
            };
            clock.block_on(race);
            assert!((short..long).contains(&watch.elapsed()));
        }
    }
}
