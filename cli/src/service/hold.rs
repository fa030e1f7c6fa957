//! A worker whose token or registration was refused, or whose id somebody else uses, would be refused again. Whichever
//! service manager starts it, that happens every five minutes and no faster, since the program waits before it ends.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use signal_hook::consts::{SIGINT, SIGTERM};
use studio_worker_core::worker::Exit;

use super::Pulse;
use crate::{
    Error,
    config::{Config, ConfigFile},
};

/// How long a refused worker waits before it ends.
const HOLD: Duration = Duration::from_secs(300);
/// Between two looks for a signal.
const LOOK: Duration = Duration::from_millis(200);
/// Looks between two looks at the configuration.
const CONFIG_LOOKS: u32 = 10;

/// Made before a worker starts, so that it hears every signal.
pub(crate) struct Hold {
    signalled: Arc<AtomicBool>,
}

impl Hold {
    pub(crate) fn prepare() -> io::Result<Self> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&signalled))?;
        }
        Ok(Self { signalled })
    }

    /// Waits, if `error` is a refusal: until the time is over, a signal comes, or the configuration says something else
    /// about who the worker is or where its studio is.
    pub(crate) fn after(&self, error: &Error, file: &ConfigFile) {
        if !is_refusal(error) || self.is_over() {
            return;
        }
        // Before anybody is told: what is changed because of that is another one.
        let known = file.load().ok().map(|config| registration(&config));
        let minutes = HOLD.as_secs() / 60;
        log::error!(
            "{error}. It is not tried again for {minutes} minutes, or until another registration is in the configuration"
        );
        let pulse = Pulse::of_this_process();
        pulse.say(&format!("waits for {minutes} minutes before it tries again: {error}"));
        let end = Instant::now() + HOLD;
        let mut looks = 0;
        while Instant::now() < end && !self.is_over() {
            thread::sleep(LOOK);
            pulse.beat();
            looks += 1;
            if looks % CONFIG_LOOKS == 0
                && let Ok(config) = file.load()
                && known.as_ref().is_some_and(|known| *known != registration(&config))
            {
                log::info!("the registration in the configuration is another one now");
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.signalled.load(Ordering::SeqCst)
    }
}

/// Whether the same would come of another try.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Ended(Exit::Unauthorized { .. } | Exit::Rejected { .. } | Exit::DuplicateWorker))
}

/// What of a configuration a studio refused.
fn registration(config: &Config) -> (String, studio_worker_core::worker::Identity) {
    (config.api_base_url().to_owned(), config.identity.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_waited_after() {
        let refusals = [
            Exit::Unauthorized { reason: "no".into() },
            Exit::Rejected { reason: None },
            Exit::DuplicateWorker,
        ];
        for exit in refusals {
            assert!(is_refusal(&Error::Ended(exit.clone())), "{exit}");
        }
        for exit in [Exit::AttemptsExhausted { attempts: 3, last: String::new() }, Exit::EngineStuck] {
            assert!(!is_refusal(&Error::Ended(exit.clone())), "{exit}");
        }
        assert!(!is_refusal(&Error::Argument("wrong".into())));
    }
}
