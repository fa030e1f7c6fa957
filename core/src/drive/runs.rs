//! Runs of the engine: carries out what recipes want.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures::future::{BoxFuture, FutureExt as _};

use super::{files, runtime::Runtime};
use crate::{
    engine::{Effect, Engine, EngineError, Happened, Output, Payload, Recipe, Runner, SPILL_ABOVE},
    time::Mono,
    wire::Claim,
    worker::RunId,
};

/// The runs under way.
pub(super) struct Runs<R> {
    runtime: R,
    user_agent: Arc<str>,
    runner: Runner,
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
    Happened(Happened),
    /// The result is where it can stay.
    Ended(Result<Output, EngineError>),
}

impl<R: Runtime> Runs<R> {
    pub(super) fn new(runtime: R, engine: Arc<dyn Engine>, user_agent: Arc<str>) -> Self {
        Self { runtime, user_agent, runner: Runner::new(engine), active: BTreeMap::new() }
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
        let runner = &mut self.runner;
        let effect = guarded(|| runner.start(run, claim)).unwrap_or_else(|error| Effect::Done(Err(error)));
        self.carry_out(run, effect)
    }

    /// Goes on with a run; `None` when there is nobody left to tell.
    pub(super) fn go_on(&mut self, run: RunId, progressed: Progressed) -> Option<Next> {
        let state = self.active.get_mut(&run)?;
        state.computes = false;
        let happened = match progressed {
            Progressed::Happened(happened) if !state.cancelled => happened,
            Progressed::Happened(happened) => {
                let unwanted = match happened {
                    Happened::Computed(Ok(output)) => Some(output),
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
        if state.computes {
            return None;
        }
        self.active.remove(&run);
        Some(Err(was_cancelled()))
    }

    fn carry_out(&mut self, run: RunId, effect: Effect) -> Next {
        let computes = matches!(effect, Effect::Compute(_));
        match begin(&self.runtime, &self.user_agent, effect) {
            Begun::Carry(happening) => {
                if let Some(state) = self.active.get_mut(&run) {
                    state.computes = computes;
                }
                Next::Carry(happening.map(Progressed::Happened).boxed())
            }
            Begun::Done(Ok(Output::Bytes { ext, payload: Payload::Memory(bytes) }))
                if bytes.len() as u64 > SPILL_ABOVE =>
            {
                let runtime = self.runtime.clone();
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
                let runtime = self.runtime.clone();
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
}

/// What becomes of an effect.
enum Begun<T> {
    /// It takes time.
    Carry(BoxFuture<'static, Happened>),
    /// There is nothing more to do.
    Done(Result<T, EngineError>),
}

/// Begins to carry an effect out.
fn begin<R: Runtime, T>(runtime: &R, user_agent: &Arc<str>, effect: Effect<T>) -> Begun<T> {
    let runtime = runtime.clone();
    Begun::Carry(match effect {
        Effect::Compute(work) => {
            runtime.compute(move || guarded(work).and_then(|outcome| outcome)).map(Happened::Computed).boxed()
        }
        Effect::Await(work) => async move { Happened::Computed(unpanicked(work).await) }.boxed(),
        Effect::Exchange(request) => {
            let user_agent = Arc::clone(user_agent);
            async move { Happened::Exchanged(runtime.exchange(request, user_agent).await) }.boxed()
        }
        Effect::Have(file) => {
            let user_agent = Arc::clone(user_agent);
            let had = files::have(runtime, user_agent, file, Arc::new(|_| ()));
            had.map(Happened::Had).boxed()
        }
        Effect::Run(process) => runtime.machine().run(process).map(Happened::Ran).boxed(),
        Effect::Serve(_) => todo!(),
        Effect::Find(programs) => runtime.machine().find(programs).map(Happened::Found).boxed(),
        Effect::Pause(span) => {
            let until = runtime.now().mono + span;
            async move {
                sleep_past(&runtime, until).await;
                Happened::Paused
            }
            .boxed()
        }
        Effect::Done(outcome) => return Begun::Done(outcome),
    })
}

/// Carries a recipe out, from its start to its end, beside any worker: a survey of what an engine can serve now, or
/// a job that a person tries. A recipe that panics ends with an error. What is dropped is given up.
pub async fn carry_out<R: Runtime, T>(
    runtime: R,
    user_agent: Arc<str>,
    mut recipe: Box<dyn Recipe<T>>,
) -> Result<T, EngineError> {
    let mut happened = Happened::Started;
    loop {
        let effect = guarded(|| recipe.next(happened))?;
        happened = match begin(&runtime, &user_agent, effect) {
            Begun::Carry(happening) => happening.await,
            Begun::Done(outcome) => return outcome,
        };
    }
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
async fn unpanicked<T>(work: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
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
