//! Programs that end with everything that they started.
//!
//! A program that was killed can't take its children with it, so each runs in a process group. Two shells see to that:
//!
//! - The *holder* leads the group. As long as it has not been waited for, the group's number is not given to anybody else,
//!   so that a signal to the group reaches nobody else.
//! - The *guard* is outside. It waits for the end of a pipe whose other end only the worker has, and then kills the group
//!   and deletes its scratch folder, in this order: what still runs would write on. The pipe ends with the worker, however
//!   that ends; and likewise when nobody waits for the program any more, since the worker may be gone a moment later.
//!
//! The holder waits for the end of a pipe that the guard has, so that the group does not outlive the guard either.
//!
//! Where there are no process groups, as on Windows, only the program itself is ended, by the worker: what it started goes
//! on, and so does it when the worker is killed.
//!
//! (A program can leave its group on purpose, as daemons do. Then it is on its own: only a container or a control group
//! could hold it, and the system gives a worker neither without privileges.)

use std::{
    io,
    path::Path,
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[cfg(not(unix))]
use self::elsewhere as system;
#[cfg(unix)]
use self::unix as system;

/// Ends a program from any thread, at any time: before it has begun, too.
#[derive(Clone, Default)]
pub(super) struct Reins(Arc<Mutex<Pulled>>);

#[derive(Default)]
struct Pulled {
    /// It is to end, or not to begin.
    ended: bool,
    /// What runs.
    runs: Option<system::Id>,
    /// What the guard watches.
    leash: Option<system::Leash>,
}

impl Reins {
    fn lock(&self) -> MutexGuard<'_, Pulled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it at once, and everything that it started.
    pub(super) fn kill(&self) {
        let mut pulled = self.lock();
        pulled.ended = true;
        if let Some(id) = pulled.runs {
            system::kill(id);
        }
    }

    /// Nobody waits for it any more: its guard ends it, also when this process is over before that.
    fn let_go(&self) {
        let mut pulled = self.lock();
        pulled.ended = true;
        if pulled.leash.take().is_none()
            && let Some(id) = pulled.runs
        {
            system::kill(id);
        }
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        if let Some(id) = self.lock().runs {
            system::terminate(id);
        }
    }

    /// Whether it was killed.
    pub(super) fn is_killed(&self) -> bool {
        self.lock().ended
    }

    /// From now on this is what is killed; it was told already if it is to end.
    fn hold(&self, id: system::Id, leash: Option<system::Leash>) {
        let mut pulled = self.lock();
        pulled.runs = Some(id);
        pulled.leash = leash;
        if pulled.ended {
            system::kill(id);
        }
    }

    /// Kills what is left, and holds nothing any more. What the guard watches is given back: until the guard is gone it must
    /// not end, or it would clear away the result that is about to be taken.
    #[must_use = "it is dropped behind the guard"]
    fn release(&self) -> Option<system::Leash> {
        let mut pulled = self.lock();
        if let Some(id) = pulled.runs.take() {
            system::kill(id);
        }
        pulled.leash.take()
    }
}

/// Somebody who waits for a program: it ends when this is dropped.
pub(super) struct Rider(Reins);

impl Rider {
    pub(super) fn new(reins: &Reins) -> Self {
        Self(reins.clone())
    }
}

impl Drop for Rider {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// A program that runs, and what it has started. When this is dropped all of it is over.
pub(super) struct Group {
    /// The program itself.
    pub(super) child: Child,
    reins: Reins,
    guard: system::Guard,
}

impl Group {
    /// Starts a program that works in the folder `scratch`. If it is to end already, it does so at once.
    pub(super) fn start(command: &mut Command, scratch: &Path, reins: &Reins) -> io::Result<Self> {
        let (mut guard, leash) = system::Guard::new(command, scratch)?;
        reins.hold(guard.id(), leash);
        match command.spawn() {
            Ok(child) => {
                // A kill may have come before it joined.
                if reins.is_killed() {
                    reins.kill();
                }
                Ok(Self { child, reins: reins.clone(), guard })
            }
            Err(error) => {
                let leash = reins.release();
                guard.reap(leash.is_none());
                drop(leash);
                Err(error)
            }
        }
    }

    /// Waits until the program itself has ended, and ends what it left.
    pub(super) fn ended(mut self) -> io::Result<ExitStatus> {
        system::wait(&mut self.child, &self.reins)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let leash = self.reins.release();
        // It was killed, unless it has been waited for; then this is at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.guard.reap(leash.is_none());
        drop(leash);
    }
}

/// How a program ended: its code, or the signal.
pub(super) fn how(status: ExitStatus) -> (Option<i32>, Option<i32>) {
    (status.code(), system::signal(status))
}

#[cfg(unix)]
mod unix {
    use std::{
        io,
        os::unix::process::{CommandExt as _, ExitStatusExt as _},
        path::Path,
        process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    };

    use rustix::{
        io::Errno,
        process::{Pid, Signal, WaitOptions, kill_process_group, waitpgid},
    };

    use super::Reins;

    /// Signals that end a program gently are for the program.
    const HOLDER: &str = "trap '' TERM INT HUP QUIT; read -r _; kill -s KILL 0";
    const GUARD: &str =
        "trap '' TERM INT HUP QUIT; read -r _; kill -s KILL -- \"-$1\"; exec rm -rf -- \"$2\"";

    /// A group.
    pub(super) type Id = Pid;

    /// Nobody writes to it: it ends with this process, or when it is dropped.
    pub(super) type Leash = ChildStdin;

    pub(super) struct Guard {
        holder: Child,
        id: Pid,
        shell: Child,
    }

    impl Guard {
        /// A new group, which `command` will start in.
        pub(super) fn new(command: &mut Command, scratch: &Path) -> io::Result<(Self, Option<Leash>)> {
            let mut holder = shell(HOLDER).stdout(Stdio::null()).spawn().map_err(unwatched)?;
            let id = Pid::from_child(&holder);
            let held = holder.stdin.take().map_or_else(Stdio::null, Stdio::from);
            let group = id.as_raw_nonzero().get();
            let guard = shell(GUARD).arg(group.to_string()).arg(scratch).stdout(held).spawn();
            let mut shell = match guard {
                Ok(shell) => shell,
                Err(error) => {
                    // Its pipe has ended, and so will it.
                    let _ = holder.wait();
                    return Err(unwatched(error));
                }
            };
            command.process_group(group);
            let leash = shell.stdin.take();
            Ok((Self { holder, id, shell }, leash))
        }

        pub(super) fn id(&self) -> Id {
            self.id
        }

        /// The group was killed: waits for those that are this process's own. A worker that is the first process of a
        /// container is the parent of all that have lost theirs. A guard that was let go ends by itself when it has cleared
        /// away, which this process may not live to do.
        pub(super) fn reap(&mut self, was_let_go: bool) {
            // First: it must not kill a group whose number is somebody else's by then.
            if !was_let_go {
                kill(Pid::from_child(&self.shell));
            }
            let _ = self.shell.wait();
            while let Ok(Some(_)) | Err(Errno::INTR) = waitpgid(self.id, WaitOptions::empty()) {}
            // Has been waited for, which is fine.
            let _ = self.holder.wait();
        }
    }

    /// A shell that leads a group of its own, and hears the end of a pipe.
    fn shell(script: &str) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, "studio-worker-guard"]).env_clear().current_dir("/");
        shell.stdin(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        shell
    }

    #[expect(clippy::needless_pass_by_value, reason = "maps an error")]
    fn unwatched(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("/bin/sh watches over it: {error}"))
    }

    pub(super) fn kill(group: Id) {
        // It is there as long as its leader was not waited for, and all in it are this user's.
        let _ = kill_process_group(group, Signal::KILL);
    }

    pub(super) fn terminate(group: Id) {
        let _ = kill_process_group(group, Signal::TERM);
    }

    pub(super) fn wait(child: &mut Child, _: &Reins) -> io::Result<ExitStatus> {
        child.wait()
    }

    pub(super) fn signal(status: ExitStatus) -> Option<i32> {
        status.signal()
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use std::{
        io,
        path::Path,
        process::{Child, Command, ExitStatus},
        thread::sleep,
        time::Duration,
    };

    use super::Reins;

    /// How often it is looked whether a program has ended, or is to.
    const INTERVAL: Duration = Duration::from_millis(20);

    /// There are no groups: whoever waits for the program kills it.
    pub(super) type Id = ();
    /// Nor is there a guard: nobody ever has one of these.
    pub(super) type Leash = std::process::ChildStdin;

    pub(super) struct Guard;

    impl Guard {
        pub(super) fn new(_: &mut Command, _: &Path) -> io::Result<(Self, Option<Leash>)> {
            Ok((Self, None))
        }

        pub(super) fn id(&self) -> Id {}

        pub(super) fn reap(&mut self, _: bool) {}
    }

    pub(super) fn kill((): Id) {}

    pub(super) fn terminate((): Id) {}

    pub(super) fn wait(child: &mut Child, reins: &Reins) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if reins.is_killed() {
                child.kill()?;
            }
            sleep(INTERVAL);
        }
    }

    pub(super) fn signal(_: ExitStatus) -> Option<i32> {
        None
    }
}
