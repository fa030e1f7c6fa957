//! How an operator, a terminal or a service manager ends a worker.

use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_signal::{Signal, Signals};
use futures::{FutureExt as _, StreamExt as _};
use signal_hook::consts::{SIGINT, SIGTERM};
use studio_worker_core::drive::WorkerHandle;

/// SIGTERM and SIGINT. From its making on they don't end the process by themselves.
pub struct Shutdown {
    signals: Signals,
    /// Set once a worker was told twice: then the next signal ends the process, whatever it does.
    last: Arc<AtomicBool>,
    /// Set while this process is about to become another program: then a signal ends it.
    leaves: Arc<AtomicBool>,
}

impl Shutdown {
    /// Listens from now on.
    pub fn listen() -> io::Result<Self> {
        let (last, leaves) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&last))?;
            signal_hook::flag::register_conditional_shutdown(signal, 0, Arc::clone(&leaves))?;
        }
        #[cfg(unix)]
        let signals = Signals::new([Signal::Term, Signal::Int])?;
        #[cfg(not(unix))]
        let signals = Signals::new([Signal::Int])?;
        Ok(Self { signals, last, leaves })
    }

    /// Whether one came since this was asked last.
    pub fn came(&mut self) -> bool {
        self.signals.next().now_or_never().flatten().is_some()
    }

    /// For a process that has nothing in its hands and is about to become another program, which would not know of a signal
    /// that came before: whether one did. From now on a signal ends this process at once, with the exit code 0, and what
    /// comes once the system has begun with the other program finds its usual meaning there, which is an end, too. What is
    /// left is a signal that another thread has begun to handle in this very moment: there is no way to wait for that.
    pub fn leave(&mut self) -> bool {
        // In this order, so that each signal is seen by one of the two.
        self.leaves.store(true, Ordering::SeqCst);
        self.came()
    }

    /// It could not become another program: signals mean again what they did.
    pub fn stay(&self) {
        self.leaves.store(false, Ordering::SeqCst);
    }

    /// Drains the worker at the first signal, and ends it at once at the second (section 6).
    pub async fn steer(&mut self, handle: WorkerHandle) -> Infallible {
        self.signals.next().await;
        log::info!("a signal came: no new job is taken; another signal ends the running one, too");
        crate::service::stopping();
        handle.drain();
        self.signals.next().await;
        self.last.store(true, Ordering::SeqCst);
        log::warn!("a second signal came: ending at once");
        handle.stop();
        // Kept, since without them the next signal would find its usual meaning again.
        pending().await
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        env,
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use rustix::process::{Pid, Signal as Sent, kill_process};

    use super::*;

    /// Set in a child of the test.
    const CHILD: &str = "TEST_LEAVES";

    /// What the child says once it is ready.
    const READY: &str = "ready: false";

    #[test]
    fn a_signal_ends_a_process_that_is_about_to_become_another_one() {
        if env::var_os(CHILD).is_some() {
            let mut shutdown = Shutdown::listen().unwrap();
            // Set after all else that the signal does, in whatever thread that is.
            let handled = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(SIGTERM, Arc::clone(&handled)).unwrap();
            kill_process(rustix::process::getpid(), Sent::TERM).unwrap();
            let end = Instant::now() + Duration::from_secs(30);
            while !handled.load(Ordering::SeqCst) {
                assert!(Instant::now() < end);
                thread::sleep(Duration::from_millis(5));
            }
            // What came before is seen, and ends nothing by itself.
            assert!(shutdown.leave());
            println!("{}", READY.replace("false", &shutdown.leave().to_string()));
            thread::sleep(Duration::from_secs(60));
            panic!("no signal came");
        }
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "signals::tests::a_signal_ends_a_process_that_is_about_to_become_another_one"])
            .args(["--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = said.map_while(Result::ok).any(|line| line.contains(READY));
        assert!(is_ready);
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Sent::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}
