//! Carries out what recipes want, one effect after the other, and keeps a server between jobs.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};

use super::{
    files,
    machine::{Launched, OnTransfer},
    runs::{guarded, sleep_past, unpanicked},
    runtime::Runtime,
};
use crate::{
    engine::{Effect, EngineError, Happened, Output, Payload, SpilledFile},
    machine::{Ended, Made, ProgramFailure, Ran, ServerWanted, Serving},
    wire::{Claim, ModelSource},
};

/// What carries out the effects of one run at a time.
pub(super) struct Carrier<R> {
    runtime: R,
    user_agent: Arc<str>,
    on_transfer: OnTransfer,
    server: Option<Box<Kept>>,
    /// Whom the run is for; none beside a worker, and between runs.
    claim: Option<Arc<Claim>>,
    /// Files that programs made for this run.
    made: Vec<SpilledFile>,
}

/// What becomes of an effect.
pub(super) enum Begun<T> {
    /// It takes time. [`Carrier::settle`] then says what happened.
    Carry(BoxFuture<'static, Carried>),
    /// There is nothing more to do.
    Done(Result<T, EngineError>),
}

/// What came of an effect that took time.
pub(super) enum Carried {
    Happened(Happened),
    Launched(ServerWanted, Result<Launched, ProgramFailure>),
}

/// The model that a job wants: another one of the same name comes from elsewhere.
struct Model {
    name: String,
    source: Option<ModelSource>,
}

impl Model {
    fn of(claim: &Claim) -> Self {
        Self { name: claim.model.clone(), source: claim.model_source.clone() }
    }

    fn is_of(&self, claim: &Claim) -> bool {
        self.name == claim.model && ModelSource::are_same(self.source.as_ref(), claim.model_source.as_ref())
    }
}

/// A server that runs, or ran.
struct Kept {
    wanted: ServerWanted,
    launched: Launched,
    /// The model that it has loaded.
    model: Option<Model>,
    /// Whether the run under way has been told that it runs.
    in_use: bool,
    /// How it ended, once that was seen.
    gone: Option<Ended>,
}

impl Kept {
    /// How it ended, if it has.
    fn ended(&mut self) -> Option<&Ended> {
        if self.gone.is_none() {
            self.gone = (&mut self.launched.ended).now_or_never();
        }
        self.gone.as_ref()
    }

    /// Ends it, and waits until it is gone.
    async fn stop(self: Box<Self>) {
        if self.gone.is_none() {
            let Launched { stop, ended, .. } = self.launched;
            stop();
            ended.await;
        }
    }
}

impl<R: Runtime> Carrier<R> {
    pub(super) fn new(runtime: R, user_agent: Arc<str>, on_transfer: OnTransfer) -> Self {
        Self { runtime, user_agent, on_transfer, server: None, claim: None, made: Vec::new() }
    }

    pub(super) fn runtime(&self) -> &R {
        &self.runtime
    }

    /// A run begins.
    pub(super) fn start(&mut self, claim: &Arc<Claim>) {
        self.claim = Some(Arc::clone(claim));
        if let Some(server) = &mut self.server {
            server.in_use = false;
        }
    }

    /// Begins to carry an effect out.
    pub(super) fn begin<T>(&mut self, effect: Effect<T>) -> Begun<T> {
        let runtime = self.runtime.clone();
        let happening = match effect {
            Effect::Compute(work) => runtime
                .compute(move || guarded(work).and_then(|outcome| outcome))
                .map(Happened::Computed)
                .boxed(),
            Effect::Await(work) => async move { Happened::Computed(unpanicked(work).await) }.boxed(),
            Effect::Exchange(request) => {
                let user_agent = Arc::clone(&self.user_agent);
                async move { Happened::Exchanged(runtime.exchange(request, user_agent).await) }.boxed()
            }
            Effect::Have(file) => {
                let had =
                    files::have(runtime, Arc::clone(&self.user_agent), file, Arc::clone(&self.on_transfer));
                had.map(Happened::Had).boxed()
            }
            Effect::Run(process) => {
                let idler = if process.wants_memory { self.server.take() } else { None };
                async move {
                    if let Some(idler) = idler {
                        idler.stop().await;
                    }
                    Happened::Ran(runtime.machine().run(process).await)
                }
                .boxed()
            }
            Effect::Serve(wanted) => return Begun::Carry(self.serve(wanted)),
            Effect::Dismiss => {
                let stopped = self.stop_server();
                async move {
                    if let Some(stopped) = stopped {
                        stopped.await;
                    }
                    Happened::Dismissed
                }
                .boxed()
            }
            Effect::Find(programs) => {
                async move { Happened::Found(runtime.machine().find(programs).await) }.boxed()
            }
            Effect::Pause(span) => {
                let until = runtime.now().mono + span;
                async move {
                    sleep_past(&runtime, until).await;
                    Happened::Paused
                }
                .boxed()
            }
            Effect::Done(outcome) => return Begun::Done(outcome),
        };
        Begun::Carry(happening.map(Carried::Happened).boxed())
    }

    fn serve(&mut self, wanted: ServerWanted) -> BoxFuture<'static, Carried> {
        let happened = |serving| async move { Carried::Happened(Happened::Serving(serving)) }.boxed();
        let mut old = self.server.take();
        if let Some(server) = old.as_mut().filter(|server| server.wanted == wanted) {
            let in_use = std::mem::replace(&mut server.in_use, true);
            match server.ended().cloned() {
                Some(ended) if in_use => {
                    let program = wanted.program.program;
                    return happened(Err(ProgramFailure::Ended { program, ended }));
                }
                // It died while nobody used it, which is nobody's failure.
                Some(_) => {}
                None => {
                    let serving = server.launched.serving.clone();
                    server.model = self.claim.as_deref().map(Model::of);
                    self.server = old;
                    return happened(Ok(serving));
                }
            }
        }
        let machine = self.runtime.machine();
        async move {
            if let Some(old) = old {
                old.stop().await;
            }
            let launched = machine.launch(wanted.clone()).await;
            Carried::Launched(wanted, launched)
        }
        .boxed()
    }

    /// What happened, for the recipe.
    pub(super) fn settle(&mut self, carried: Carried) -> Happened {
        match carried {
            Carried::Launched(wanted, Ok(launched)) => {
                let serving: Serving = launched.serving.clone();
                let model = self.claim.as_deref().map(Model::of);
                self.server = Some(Box::new(Kept { wanted, launched, model, in_use: true, gone: None }));
                Happened::Serving(Ok(serving))
            }
            Carried::Launched(_, Err(failure)) => Happened::Serving(Err(failure)),
            Carried::Happened(happened) => {
                if let Happened::Ran(Ok(Ran { made: Some(Made::File { file, .. }), .. })) = &happened {
                    self.made.push(file.clone());
                }
                happened
            }
        }
    }

    /// The run is over: the files that it made and that are no result.
    pub(super) fn end(&mut self, output: Option<&Output>) -> Vec<SpilledFile> {
        let result = match output {
            Some(Output::Bytes { payload: Payload::File(file), .. }) => Some(file),
            _ => None,
        };
        self.claim = None;
        let mut unused = std::mem::take(&mut self.made);
        unused.retain(|file| Some(file) != result);
        unused
    }

    /// How long the server may idle from now on, if there is one.
    pub(super) fn idle(&self) -> Option<std::time::Duration> {
        self.server.as_ref().map(|server| server.wanted.idle)
    }

    /// A run is cancelled: the server that it uses goes with it, since it may hang, and the next job would get it.
    pub(super) fn drop_used(&mut self) {
        self.server.take_if(|server| server.in_use);
    }

    /// Ends the server; ready when it is gone.
    pub(super) fn stop_server(&mut self) -> Option<impl Future<Output = ()> + Send + 'static + use<R>> {
        Some(self.server.take()?.stop())
    }

    /// Whether the model that a job wants is loaded.
    pub(super) fn has_loaded(&mut self, claim: &Claim) -> bool {
        self.server.as_mut().is_some_and(|server| {
            server.model.as_ref().is_some_and(|model| model.is_of(claim)) && server.ended().is_none()
        })
    }
}
