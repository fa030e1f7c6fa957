//! A version on trial, with all that it started.
//!
//! It has a process group of its own: signals of a terminal reach it through the one that watches it, once each, and what it
//! leaves running can be ended with it. (What it starts in groups of their own, as it does engines' programs, watches over
//! itself: see the core's `transport::machine`.)

use std::{
    io,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

/// Between two looks whether it has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// A program that was started. When this is dropped it is over, and so is all that it started.
#[derive(Debug)]
pub(super) struct Kin {
    child: Child,
    /// How it ended: its number may be another's since.
    ended: Option<ExitStatus>,
}

impl Kin {
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        Ok(Self { child: command.spawn()?, ended: None })
    }

    /// How it ended, if it has. What it left ends as well.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            // Waited for only once its group was killed, which is nobody's afterwards.
            #[cfg(unix)]
            if !unix::has_ended(&self.child)? {
                return Ok(None);
            }
            #[cfg(unix)]
            self.kill();
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        #[cfg(unix)]
        if self.ended.is_none() {
            unix::terminate(&self.child);
        }
    }

    /// Ends it, in any case: it has `bound` to do so by itself.
    pub(super) fn end(&mut self, bound: Duration) {
        self.terminate();
        let end = Instant::now() + bound;
        loop {
            match self.try_wait() {
                Ok(Some(_)) => return,
                Ok(None) if Instant::now() < end => thread::sleep(PAUSE),
                _ => break,
            }
        }
        self.kill();
        self.ended = self.child.wait().ok();
    }

    /// Kills it, and what it started. It must not have been waited for: until then its number, and that of its group, is
    /// nobody else's.
    fn kill(&mut self) {
        #[cfg(unix)]
        unix::kill(&self.child);
        let _ = self.child.kill();
    }
}

impl Drop for Kin {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.end(Duration::ZERO);
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::{io, process::Child};

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

    /// Whether it has ended. It is there until it is waited for.
    pub(super) fn has_ended(child: &Child) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(Pid::from_child(child)), options)?.is_some())
    }

    pub(super) fn terminate(child: &Child) {
        let _ = kill_process(Pid::from_child(child), Signal::TERM);
    }

    pub(super) fn kill(child: &Child) {
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::{
        io::{BufReader, Read as _},
        process::Stdio,
        sync::mpsc,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A shell that says a line when it has done this, and then goes on.
    fn started(does: &str) -> (Kin, mpsc::Receiver<u8>) {
        let mut shell = Command::new("sh");
        shell.args(["-c", does]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut kin = Kin::start(&mut shell).unwrap();
        let (said, heard) = mpsc::channel();
        let stdout = BufReader::new(kin.child.stdout.take().unwrap());
        thread::spawn(move || stdout.bytes().map_while(Result::ok).try_for_each(|byte| said.send(byte)));
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(b'.'));
        (kin, heard)
    }

    /// Nobody has its stdout any more.
    fn is_over(heard: &mpsc::Receiver<u8>) -> bool {
        heard.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    #[test]
    fn what_it_started_ends_with_it_however_it_ends() {
        // By itself, when it is asked to, and in no other way.
        for does in [
            "sleep 600 & printf .; exit 3",
            "sleep 600 & printf .; exec sleep 600",
            "trap '' TERM; sleep 600 & printf .; while :; do sleep 1; done",
        ] {
            let (mut kin, heard) = started(does);
            let bound = if does.starts_with("trap") { Duration::from_millis(100) } else { PATIENCE };
            kin.end(bound);
            assert!(is_over(&heard), "{does}");
            assert!(kin.try_wait().unwrap().is_some());
        }
        let (kin, heard) = started("sleep 600 & printf .; exec sleep 600");
        drop(kin);
        assert!(is_over(&heard));
    }

    #[test]
    fn what_one_that_ends_by_itself_has_left_is_ended_once_that_is_seen() {
        let (mut kin, heard) = started("sleep 600 & printf .; exit 3");
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = kin.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end);
            thread::sleep(PAUSE);
        };
        assert_eq!(status.code(), Some(3));
        assert!(is_over(&heard));
        assert_eq!(kin.try_wait().unwrap(), Some(status));
    }
}
