//! The door of a running worker: where other commands of the same user ask how it is, steer it, and read what it logs.
//!
//! | room | what is in it |
//! | --- | --- |
//! | `said` | what is asked and answered |
//! | `text` | the same for people |
//! | `lines` | the newest log lines of this program |
//! | `place` | where the door is, and who can reach it |
//! | `serve` | the worker's side |
//! | `unsaid` | an answer without credentials |
//! | `call` | the other one |
//!
//! **Where.** In the hidden folder `.config.toml.door` beside the configuration, so that both sides find it by that path
//! alone, whatever their environments are. On Unix it is a socket `socket` of mode 0600 in a folder of mode 0700. Where the
//! path is longer than that of a socket may be, Linux reaches it through the open folder; other systems have no door then.
//! On Windows it is a loopback port, whose number lies in that folder together with a token that whoever asks must name. A
//! worker opens its door under the [lock](crate::lock) of its configuration, so what an earlier one left there is removed
//! safely.
//!
//! **What is said.** One line of JSON is asked, at most 4 KiB: `{"door": 1, "ask": "status"}`. One or more lines of JSON are
//! answered, each tagged by `is`, and then the connection ends:
//!
//! | `ask` | answers |
//! | --- | --- |
//! | `status` | one `state` |
//! | `watch` | a `state` each second and after each change, `over` when the worker ends |
//! | `pause`, `resume`, `drain`, `stop` | one `state`, as it is once the worker has taken it; `refused` where its loop does not turn |
//! | `logs` with `lines`, `follow` | a `line` each, `missed` with a number where some were lost, `over` when the worker ends |
//! | anything else | one `refused` that says `why` |
//!
//! Unknown fields and answers are tolerated on both sides; `door` changes only when that is not enough.
//!
//! **What it costs the worker.** Nothing of this happens in the loop that drives it: the door has threads of its own, a few at
//! most, each with a bound on what it reads, how long it waits and what it writes. Those who watch or read the log stay, so
//! they leave seats for all others.

mod call;
pub(crate) mod lines;
mod place;
mod said;
mod serve;
pub(crate) mod text;
mod unsaid;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use studio_worker_core::{drive::WorkerHandle, time::Wall};

pub use call::{Call, CallError};
pub use said::{Answer, Asked, Ended, Heartbeat, Held, Job, Moved, Session, Stamp, State, UpdateStatus};

use crate::{config::ConfigFile, guests::Guests};
use place::Place;
use serve::Host;

/// Those who are served at once.
const MAX_GUESTS: usize = 16;

/// An open door. Dropped, it is closed: guests are told that the worker has ended.
#[derive(Debug)]
pub struct Door {
    // Dropped in this order: guests get the last lines.
    _guests: Guests,
    _place: place::Open,
    _keeping: lines::Keeping,
}

impl Door {
    /// Opens the door of the worker with `config`, whose lock the caller holds.
    pub fn open(config: &ConfigFile, handle: WorkerHandle, updates: Updates) -> io::Result<Self> {
        let keeping = lines::keep();
        let (listener, token, place) = Place::of(config).open()?;
        let host = Host::new(handle, updates, token);
        let guests =
            Guests::serve("door", listener, MAX_GUESTS, move |guest, visit| host.serve(guest, visit))?;
        Ok(Self { _guests: guests, _place: place, _keeping: keeping })
    }
}

/// What is known of updates: whoever looks for them says it here. Every clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Updates(Arc<Mutex<Option<UpdateStatus>>>);

impl Updates {
    /// Says where it stands now.
    pub fn set(&self, status: UpdateStatus) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// What was said last, if anything was.
    pub fn status(&self) -> Option<UpdateStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What time it is.
pub(crate) fn now() -> Wall {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Wall::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::{fs, future::poll_fn, thread};

    use studio_worker_core::{
        drive::MemoryStore,
        engine::synthetic::Synthetic,
        wire::ApiBase,
        worker::{Identity, Options, Settings},
    };

    use super::*;
    use crate::runtimes::Runtime;

    #[test]
    fn what_is_said_of_updates_is_told_and_a_door_that_closes_ends_a_watch() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        fs::write(&path, "").unwrap();
        let config = ConfigFile::locate(Some(&path)).unwrap();
        let base = ApiBase::parse("http://127.0.0.1:9").unwrap();
        let options = Options::new(Settings::new(base, Identity::default()), "studio-worker/test");
        let engine = Arc::new(Synthetic::with_models(&[]));
        // Nobody drives it: what is asked does not wait for that for ever.
        let (handle, _driving) =
            Runtime::default().start(options, engine, Arc::new(MemoryStore::new())).unwrap();
        let updates = Updates::default();
        let door = Door::open(&config, handle, updates.clone()).unwrap();
        let state = Call::for_state(&config, Asked::Status).unwrap();
        assert_eq!((state.update, state.reacts), (None, false));
        let status = UpdateStatus { next_check_at: Some(Stamp(now())), last: Some("up to date".into()) };
        updates.set(status.clone());
        let mut watch = Call::ask(&config, Asked::Watch).unwrap();
        let state = watch.state().unwrap().unwrap();
        assert_eq!((state.update, state.session, state.pid), (Some(status), None, std::process::id()));
        let closing = thread::spawn(move || drop(door));
        while watch.state().unwrap().is_some() {}
        closing.join().unwrap();
        assert!(matches!(Call::ask(&config, Asked::Status), Err(CallError::NobodyRuns { .. })));
    }

    /// That it was as wanted before, or no jobs are taken for another reason, says nothing of a loop that hangs.
    #[test]
    fn a_loop_that_hangs_is_seen_and_confirms_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("config.toml");
        fs::write(&path, "").unwrap();
        let config = ConfigFile::locate(Some(&path)).unwrap();
        let base = ApiBase::parse("http://127.0.0.1:9").unwrap();
        let mut settings = Settings::new(base, Identity::default());
        settings.capabilities.auto_enabled = false;
        let (on, options) = (Runtime::default(), Options::new(settings, "studio-worker/test"));
        let engine = Arc::new(Synthetic::with_models(&[]));
        let (handle, mut driving) = on.start(options, engine, Arc::new(MemoryStore::new())).unwrap();
        let gate = Arc::new(Mutex::new(()));
        let closed = Arc::clone(&gate);
        let worker = thread::spawn(move || {
            on.block_on(poll_fn(move |cx| {
                let _open = closed.lock().unwrap_or_else(PoisonError::into_inner);
                driving.as_mut().poll(cx)
            }))
        });
        let door = Door::open(&config, handle, Updates::default()).unwrap();
        let ask = &|asked| Call::for_state(&config, asked);
        let state = ask(Asked::Status).unwrap();
        assert!(state.reacts && state.hindrance() == Some("disabled by the configuration"), "{state:?}");
        assert_eq!(ask(Asked::Resume).unwrap().hindrance(), Some("disabled by the configuration"));
        let mut watch = Call::ask(&config, Asked::Watch).unwrap();
        assert!(watch.state().unwrap().unwrap().reacts);

        let hangs = gate.lock().unwrap();
        thread::scope(|scope| {
            let asked = [Asked::Pause, Asked::Resume, Asked::Drain, Asked::Drain]
                .map(|asked| scope.spawn(move || ask(asked)));
            assert!(!ask(Asked::Status).unwrap().reacts);
            for asked in asked {
                let answer = asked.join().unwrap();
                assert!(matches!(&answer, Err(CallError::Refused(why)) if why.contains("does not react")));
            }
        });
        while watch.state().unwrap().unwrap().reacts {}
        drop(hangs);
        // What it was told counts once it turns again.
        assert_eq!(worker.join().unwrap().unwrap(), studio_worker_core::worker::Exit::Drained);
        while watch.state().unwrap().is_some_and(|state| state.reacts) {}
        drop(door);
    }
}
