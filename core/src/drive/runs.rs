//! Runs of the engine: carries out what recipes want.

use std::{
    any::Any,
    collections::BTreeMap,
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt};

use super::{
    carrier::{Begun, Carried, Carrier},
    machine::Transfers,
    runtime::Runtime,
};
use crate::{
    engine::{
        Effect, Engine, EngineError, Happened, Output, Payload, Recipe, Runner, SPILL_ABOVE, SpilledFile,
    },
    machine::{Memory, Transfer},
    time::Mono,
    wire::Claim,
    worker::RunId,
};

/// The runs under way: one, and perhaps another that was cancelled and whose closure still computes.
pub(super) struct Runs<R> {
    runner: Runner,
    carrier: Carrier<R>,
    transfers: Arc<Transfers>,
    active: BTreeMap<RunId, Run>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// A closure has a thread. It keeps the engine's slot until it returns, since a thread can't be stopped.
    computes: bool,
    cancelled: bool,
}

/// What becomes of a run next.
pub(super) enum Next {
    /// Carry this out, then call [`Runs::go_on`].
    Carry(BoxFuture<'static, Progressed>),
    /// It is over.
    Ended(Result<Output, EngineError>),
}

/// What happened to a run.
pub(super) enum Progressed {
    Carried(Carried),
    /// The result is where it can stay.
    Ended(Result<Output, EngineError>),
}

impl Progressed {
    /// Whether a file was waited for, and is not any more.
    pub(super) fn ends_download(&self) -> bool {
        matches!(self, Self::Carried(Carried::Happened(Happened::Had(_))))
    }
}

impl<R: Runtime> Runs<R> {
    /// Runs of `engine`; how far downloads are is kept in `transfers`.
    pub(super) fn new(
        runtime: R,
        engine: Arc<dyn Engine>,
        user_agent: Arc<str>,
        transfers: Arc<Transfers>,
    ) -> Self {
        Self {
            runner: Runner::new(engine),
            carrier: Carrier::new(runtime, user_agent, transfers.teller()),
            transfers,
            active: BTreeMap::new(),
        }
    }

    /// How far the download of the run is, if that was told since the last look.
    pub(super) fn take_transfer(&self) -> Option<Transfer> {
        self.transfers.take()
    }

    pub(super) fn engine(&self) -> &dyn Engine {
        &**self.runner.engine()
    }

    /// Keeps no room when nothing runs: trees keep the leaf that they began with.
    pub(super) fn let_go(&mut self) {
        if self.active.is_empty() {
            self.active = BTreeMap::new();
            self.runner.let_go();
        }
    }

    pub(super) fn set_engine(&mut self, engine: Arc<dyn Engine>) {
        self.runner.set_engine(engine);
    }

    pub(super) fn start(&mut self, run: RunId, claim: &Arc<Claim>) -> Next {
        self.active.insert(run, Run::default());
        self.carrier.start(claim);
        let runner = &mut self.runner;
        let effect = guarded(|| runner.start(run, claim)).unwrap_or_else(|error| Effect::Done(Err(error)));
        self.carry_out(run, effect)
    }

    /// Goes on with a run; `None` when there is nobody left to tell.
    pub(super) fn go_on(&mut self, run: RunId, progressed: Progressed) -> Option<Next> {
        let state = self.active.get_mut(&run)?;
        state.computes = false;
        let happened = match progressed {
            Progressed::Carried(carried) if !state.cancelled => self.carrier.settle(carried),
            Progressed::Carried(carried) => {
                let unwanted = match carried {
                    Carried::Happened(Happened::Computed(Ok(output))) => Some(output),
                    _ => None,
                };
                return Some(self.cancelled(run, unwanted));
            }
            Progressed::Ended(outcome) => return Some(self.ended(run, outcome)),
        };
        let runner = &mut self.runner;
        let effect = match guarded(|| runner.resume(run, happened)) {
            Ok(Some(effect)) => effect,
            Ok(None) => return Some(self.cancelled(run, None)),
            Err(error) => {
                self.runner.cancel(run);
                Effect::Done(Err(error))
            }
        };
        Some(self.carry_out(run, effect))
    }

    /// Stops a run: its end, if it ends now. Then what is carried out for it is to be dropped.
    pub(super) fn cancel(&mut self, run: RunId) -> Option<Result<Output, EngineError>> {
        let state = self.active.get_mut(&run)?;
        self.runner.cancel(run);
        state.cancelled = true;
        self.carrier.drop_used();
        if state.computes {
            return None;
        }
        self.active.remove(&run);
        Some(Err(was_cancelled()))
    }

    fn carry_out(&mut self, run: RunId, effect: Effect) -> Next {
        let computes = matches!(effect, Effect::Compute(_));
        match self.carrier.begin(effect) {
            Begun::Carry(carrying) => {
                if let Some(state) = self.active.get_mut(&run) {
                    state.computes = computes;
                }
                Next::Carry(carrying.map(Progressed::Carried).boxed())
            }
            Begun::Done(Ok(Output::Bytes { ext, payload: Payload::Memory(bytes) }))
                if bytes.len() as u64 > SPILL_ABOVE =>
            {
                let runtime = self.carrier.runtime().clone();
                Next::Carry(
                    async move {
                        let payload = match runtime.spill(Arc::clone(&bytes)).await {
                            Ok(file) => Payload::File(file),
                            Err(error) => {
                                log::warn!(
                                    target: super::LOG_TARGET,
                                    "a result of {} bytes stays in memory, since it can't be written to a file: {error}",
                                    bytes.len()
                                );
                                Payload::Memory(bytes)
                            }
                        };
                        Progressed::Ended(Ok(Output::Bytes { ext, payload }))
                    }
                    .boxed(),
                )
            }
            Begun::Done(outcome) => self.ended(run, outcome),
        }
    }

    fn ended(&mut self, run: RunId, outcome: Result<Output, EngineError>) -> Next {
        self.active.remove(&run);
        Next::Ended(outcome)
    }

    /// The end of a run that nobody waits for, and of the file that it may have made.
    fn cancelled(&mut self, run: RunId, unwanted: Option<Output>) -> Next {
        match unwanted {
            Some(Output::Bytes { payload: Payload::File(file), .. }) => {
                let runtime = self.carrier.runtime().clone();
                Next::Carry(
                    async move {
                        runtime.discard(file).await;
                        Progressed::Ended(Err(was_cancelled()))
                    }
                    .boxed(),
                )
            }
            _ => self.ended(run, Err(was_cancelled())),
        }
    }

    /// Once a run has ended with `outcome`: the files that programs made for it and that are not its result.
    pub(super) fn leftovers(&mut self, outcome: &Result<Output, EngineError>) -> Vec<SpilledFile> {
        self.carrier.end(outcome.as_ref().ok())
    }

    /// How long the server that is kept between jobs may idle from now on; none when there is none.
    pub(super) fn idle(&self) -> Option<Duration> {
        self.carrier.idle().filter(|_| self.active.is_empty())
    }

    /// Ends the server that is kept, unless a job uses it; ready when it is gone.
    pub(super) fn stop_idler(&mut self) -> Option<BoxFuture<'static, ()>> {
        if self.active.is_empty() { self.carrier.stop_server().map(FutureExt::boxed) } else { None }
    }

    /// Measures the memory that a job could have, for which a server with another model makes room; and whether the
    /// job's model is loaded already.
    pub(super) fn measure(&mut self, claim: &Claim) -> BoxFuture<'static, (Memory, bool)> {
        if !guarded(|| self.engine().loads_model(claim)).unwrap_or(true) {
            // There is nothing to make room for.
            return ready((Memory::default(), false)).boxed();
        }
        let resident = self.carrier.has_loaded(claim);
        let room = if resident { None } else { self.stop_idler() };
        let machine = self.carrier.runtime().machine();
        async move {
            if let Some(made) = room {
                made.await;
            }
            (machine.measure().await, resident)
        }
        .boxed()
    }
}

/// Carries a recipe out, from its start to its end, beside any worker: a survey of what an engine can serve now, or
/// a job that a person tries. A recipe that panics ends with an error. What is dropped is given up; a server that was
/// started for it ends with it.
pub async fn carry_out<R: Runtime, T: Any>(
    runtime: R,
    user_agent: Arc<str>,
    recipe: Box<dyn Recipe<T>>,
) -> Result<T, EngineError> {
    carry_out_showing(runtime, user_agent, recipe, |_| ()).await
}

/// The same, and tells how far downloads are: a few times a second, in the thread that polls it.
pub async fn carry_out_showing<R: Runtime, T: Any>(
    runtime: R,
    user_agent: Arc<str>,
    mut recipe: Box<dyn Recipe<T>>,
    on_transfer: impl Fn(Transfer) + Send + Sync + 'static,
) -> Result<T, EngineError> {
    let mut carrier = Carrier::new(runtime, user_agent, Arc::new(on_transfer));
    let mut happened = Happened::Started;
    let outcome = loop {
        let effect = guarded(|| recipe.next(happened)).unwrap_or_else(|error| Effect::Done(Err(error)));
        happened = match carrier.begin(effect) {
            Begun::Carry(carrying) => carrier.settle(carrying.await),
            Begun::Done(outcome) => break outcome,
        };
    };
    let output = outcome.as_ref().ok().and_then(|made| (made as &dyn Any).downcast_ref::<Output>());
    for file in carrier.end(output) {
        carrier.runtime().discard(file).await;
    }
    if let Some(stopped) = carrier.stop_server() {
        stopped.await;
    }
    outcome
}

/// Waits until the clock says so, whatever the timer does.
pub(super) async fn sleep_past<R: Runtime>(runtime: &R, until: Mono) {
    let mut at = until;
    while runtime.now().mono < until {
        runtime.sleep_until(at).await;
        // A timer that fires early is not asked again for the same moment: that could be a busy loop.
        at = until.max(runtime.now().mono + super::TIMER_SLACK);
    }
}

/// Calls what others wrote; a panic is an error of theirs.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, EngineError> {
    // What was called is thrown away after a panic, so nobody sees it half changed.
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panicked(&*panic))
}

/// The same for a future.
pub(super) async fn unpanicked<T>(
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn Any + Send)) -> EngineError {
    EngineError::transient(format_args!("the engine panicked: {}", panic_text(panic)))
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

fn was_cancelled() -> EngineError {
    EngineError::transient("the run was cancelled")
}
