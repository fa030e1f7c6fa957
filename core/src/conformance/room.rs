//! A runtime on a disk of a certain size: how full the one is that tests run on is nobody's concern.

use std::{future::Future, io, sync::Arc};

use futures::{
    FutureExt as _,
    future::{BoxFuture, ready},
};

use crate::{
    drive::{Connect, Fetched, Launched, Machine, NoMachine, Progress, Runtime},
    engine::SpilledFile,
    http::{FileRequest, HttpAnswer, HttpFailure, HttpRequest},
    machine::{Memory, Process, ProgramFailure, Ran, ServerWanted, files::Room},
    time::{Mono, Now},
    worker::{ConnectFailure, Upload},
};

/// The same runtime, except that its machine is nothing but this room.
#[derive(Clone)]
pub(super) struct WithRoom<R> {
    pub(super) runtime: R,
    pub(super) room: Room,
}

impl<R: Runtime> Runtime for WithRoom<R> {
    type Socket = R::Socket;

    fn now(&self) -> Now {
        self.runtime.now()
    }

    fn sleep_until(&self, at: Mono) -> impl Future<Output = ()> + Send + 'static {
        self.runtime.sleep_until(at)
    }

    fn connect(
        &self,
        connect: Connect,
    ) -> impl Future<Output = Result<Self::Socket, ConnectFailure>> + Send + 'static {
        self.runtime.connect(connect)
    }

    fn exchange(
        &self,
        request: HttpRequest,
        user_agent: Arc<str>,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        self.runtime.exchange(request, user_agent)
    }

    fn upload(
        &self,
        upload: Upload,
        user_agent: Arc<str>,
        progress: Progress,
    ) -> impl Future<Output = Result<HttpAnswer, HttpFailure>> + Send + 'static {
        self.runtime.upload(upload, user_agent, progress)
    }

    fn fetch(
        &self,
        request: FileRequest,
        user_agent: Arc<str>,
    ) -> impl Future<Output = Result<Fetched, HttpFailure>> + Send + 'static {
        self.runtime.fetch(request, user_agent)
    }

    fn compute<T, F>(&self, work: F) -> impl Future<Output = T> + Send + 'static
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.runtime.compute(work)
    }

    fn spill(&self, bytes: Arc<Vec<u8>>) -> impl Future<Output = io::Result<SpilledFile>> + Send + 'static {
        self.runtime.spill(bytes)
    }

    fn discard(&self, file: SpilledFile) -> impl Future<Output = ()> + Send + 'static {
        self.runtime.discard(file)
    }

    fn machine(&self) -> Arc<dyn Machine> {
        Arc::new(Nothing(self.room))
    }
}

/// A machine that has a disk.
struct Nothing(Room);

impl Machine for Nothing {
    fn run(&self, process: Process) -> BoxFuture<'static, Result<Ran, ProgramFailure>> {
        NoMachine.run(process)
    }

    fn launch(&self, server: ServerWanted) -> BoxFuture<'static, Result<Launched, ProgramFailure>> {
        NoMachine.launch(server)
    }

    fn find(&self, programs: Vec<String>) -> BoxFuture<'static, Vec<Option<String>>> {
        NoMachine.find(programs)
    }

    fn measure(&self) -> BoxFuture<'static, Memory> {
        NoMachine.measure()
    }

    fn room(&self, _: String) -> BoxFuture<'static, Option<Room>> {
        ready(Some(self.0)).boxed()
    }
}
