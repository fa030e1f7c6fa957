//! Threads for what blocks: engines, the store, files, name resolution.
//!
//! A thread stays for a few seconds after its work, so that a job that comes soon finds a warm one, and then
//! ends: an idle worker has none.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use futures::channel::oneshot;

/// How long a thread waits for more work.
const KEPT_FOR: Duration = Duration::from_secs(5);

type Work = Box<dyn FnOnce() + Send>;

/// As many threads as there is work at a time: the worker sees that this is little.
#[derive(Clone, Default)]
pub(crate) struct Threads(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    idle: usize,
    alive: usize,
}

impl Threads {
    /// Runs `work` on a thread, starting now. When the future is dropped the result is dropped with it.
    pub(crate) fn run<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.push(Box::new(move || {
            // Nobody waits any more: then the result is of no use.
            let _ = sender.send(work());
        }));
        async move {
            match receiver.await {
                Ok(result) => result,
                // The work panicked, which its caller has ruled out; there is nothing to answer with.
                Err(oneshot::Canceled) => std::future::pending().await,
            }
        }
    }

    fn push(&self, work: Work) {
        let mut state = self.0.lock();
        state.queue.push_back(work);
        if state.idle >= state.queue.len() {
            drop(state);
            self.0.more.notify_one();
            return;
        }
        let shared = Arc::clone(&self.0);
        let started = thread::Builder::new().name("studio-worker".into()).spawn(move || shared.serve());
        if started.is_ok() {
            state.alive += 1;
            return;
        }
        // No thread can be had. One that lives takes it later; without any, late is better than never.
        let work = if state.alive == 0 { state.queue.pop_back() } else { None };
        drop(state);
        if let Some(work) = work {
            work();
        }
    }
}

impl Shared {
    fn serve(&self) {
        let mut state = self.lock();
        loop {
            while let Some(work) = state.queue.pop_front() {
                drop(state);
                // A panic was reported by the hook, and must not cost the thread's place in the count.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                state = self.lock();
            }
            state.idle += 1;
            let (woken, waited) = self
                .more
                .wait_timeout_while(state, KEPT_FOR, |state| state.queue.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.alive -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No work runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Threads")
            .field("alive", &state.alive)
            .field("idle", &state.idle)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::executor::block_on;

    use super::*;

    #[test]
    fn work_runs_at_once_also_beside_work_that_blocks() {
        let threads = Threads::default();
        let (release, blocked) = mpsc::channel::<()>();
        let first = threads.run(move || blocked.recv().is_ok());
        let rest: Vec<_> = (0..8).map(|n| threads.run(move || n * n)).collect();
        for (n, work) in rest.into_iter().enumerate() {
            assert_eq!(block_on(work), n * n);
        }
        release.send(()).unwrap();
        assert!(block_on(first));
    }

    #[test]
    fn a_warm_thread_is_used_again() {
        let threads = Threads::default();
        let name = || thread::current().id();
        let first = block_on(threads.run(name));
        while threads.0.lock().idle == 0 {
            thread::yield_now();
        }
        assert_eq!(block_on(threads.run(name)), first);
        assert_eq!(threads.0.lock().alive, 1);
    }
}
