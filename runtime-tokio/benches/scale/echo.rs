//! The studio's echo: plays a studio's part, holds workers to the protocol, and takes the times.
//!
//! It has one thread, so that it takes little of a machine that has two, and nothing of it needs a lock.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::VecDeque,
    io::{BufRead as _, stdin},
    process::exit,
    rc::Rc,
    thread,
    time::Duration,
};

use async_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::HeaderValue,
        protocol::WebSocketConfig,
    },
};
use futures::StreamExt as _;
use serde::Deserialize;
use studio_worker_core::wire::SUB_PROTOCOL;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{Notify, mpsc},
    task::{LocalSet, spawn_local},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use crate::{
    Problem,
    orders::{Order, Report},
    plan::Plan,
    process,
    spread::Samples,
};

const HEARTBEAT: Duration = Duration::from_secs(5);
/// A heartbeat that comes so soon after another one has no reason: nothing changes here.
const TOO_SOON: Duration = Duration::from_millis(2_500);

/// No session has more offers than one in this time, also when as many as go are made: a worker's jobs are not shorter.
const BETWEEN_OFFERS: Duration = Duration::from_millis(100);

type Socket = WebSocketStream<Compat<TcpStream>>;

/// Answers orders until there are no more.
pub(crate) fn run(plan: &Plan) -> Result<(), Problem> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        let echo = Rc::new(Echo { prompt_chars: plan.prompt_chars, ..Echo::default() });
        spawn_local(accept(listener, Rc::clone(&echo)));
        let mut orders = orders();
        let mut so_far = Sofar::now()?;
        while let Some(order) = orders.recv().await {
            echo.carry_out(order).await;
            let now = Sofar::now()?;
            println!("{}", serde_json::to_string(&echo.report(&so_far, &now))?);
            so_far = now;
        }
        Ok(())
    }))
}

/// What is ordered, line by line; a process that nobody gives orders ends.
fn orders() -> mpsc::UnboundedReceiver<Order> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in stdin().lock().lines() {
            let order = line.map_err(Problem::from).and_then(|line| Ok(serde_json::from_str(&line)?));
            match order {
                Ok(order) => drop(sender.send(order)),
                Err(problem) => {
                    eprintln!("an order can't be read: {problem}");
                    break;
                }
            }
        }
        exit(0);
    });
    receiver
}

async fn accept(listener: TcpListener, echo: Rc<Echo>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(spawn_local(serve(stream, Rc::clone(&echo)))),
            Err(error) => echo.fault(format_args!("a connection was not accepted: {error}")),
        }
    }
}

struct Sofar {
    at: Instant,
    cpu: f64,
}

impl Sofar {
    fn now() -> Result<Self, Problem> {
        Ok(Self { at: Instant::now(), cpu: process::cpu_seconds()? })
    }
}

#[derive(Default)]
struct Echo {
    prompt_chars: usize,
    state: RefCell<State>,
    /// A session was opened, or a job done.
    moved: Notify,
}

#[derive(Default)]
struct State {
    sessions: Vec<Session>,
    /// Sessions that have no job, the one that waits longest first.
    free: VecDeque<usize>,
    beating: usize,
    jobs_offered: u64,
    jobs_done: usize,
    late: Samples,
    accepted: Samples,
    answered: Samples,
    faults: u64,
    first_fault: Option<String>,
}

struct Session {
    /// Takes the offer that is to be made.
    offers: mpsc::UnboundedSender<String>,
    job: Option<Job>,
    /// When the last job was.
    offered: Option<Instant>,
    jobs_done: u32,
    /// When the last heartbeat came.
    heard: Option<Instant>,
}

struct Job {
    id: String,
    prompt: String,
    offered: Instant,
    accepted: bool,
}

/// What counts of a worker's frame. What it says of its capabilities is not read: that is a studio's work.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    job_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    current_job_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    prompt: Option<Cow<'a, str>>,
    #[serde(borrow)]
    result: Option<Answer<'a>>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    answer: Cow<'a, str>,
}

impl Echo {
    async fn carry_out(&self, order: Order) {
        match order {
            Order::Await { sessions } => self.until(|state| state.beating >= sessions).await,
            Order::Watch { seconds } => sleep(Duration::from_secs_f64(seconds)).await,
            Order::Pace { a_second, offers } => {
                let mut ticks = interval(Duration::from_secs_f64(1.0 / a_second));
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                for _ in 0..offers {
                    ticks.tick().await;
                    self.until(|state| !state.free.is_empty()).await;
                    self.offer();
                }
                self.until(State::is_idle).await;
            }
            Order::Finish { jobs_each, in_flight } => loop {
                let done = {
                    let state = &mut *self.state.borrow_mut();
                    let sessions = &state.sessions;
                    state.free.retain(|&session| sessions[session].jobs_done < jobs_each);
                    state.free.is_empty() && state.is_idle()
                };
                if done {
                    let state = &mut *self.state.borrow_mut();
                    state.free.extend(0..state.sessions.len());
                    return;
                }
                while self.under_way() < in_flight && self.rested() && self.offer() {}
                // Until a job is done, or a session has rested.
                let _ = timeout(BETWEEN_OFFERS / 10, self.moved.notified()).await;
            },
        }
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        while !holds(&self.state.borrow()) {
            self.moved.notified().await;
        }
    }

    fn under_way(&self) -> usize {
        let state = self.state.borrow();
        usize::try_from(state.jobs_offered).unwrap_or(usize::MAX) - state.jobs_done
    }

    /// Whether the session that waits longest had its last offer long ago.
    fn rested(&self) -> bool {
        let state = self.state.borrow();
        let offered = state.free.front().and_then(|&session| state.sessions[session].offered);
        offered.is_none_or(|offered| offered.elapsed() >= BETWEEN_OFFERS)
    }

    /// Offers the next job to the session that waits longest, if there is one.
    fn offer(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        let Some(session) = state.free.pop_front() else { return false };
        state.jobs_offered += 1;
        let id = format!("job-{:012}", state.jobs_offered);
        let prompt = format!("{} and what else?", state.jobs_offered);
        let prompt = format!("{prompt:.<chars$}", chars = self.prompt_chars);
        // All fields that a studio of generation 0.4 says.
        let text = format!(
            r#"{{"type":"offer","claim":{{"jobId":"{id}","gameId":"game-1","assetName":"line-1","model":"echo-1","#
        ) + &format!(
            r#""vramGbEstimate":1.0,"task":{{"kind":"llm","messages":[{{"role":"user","content":"{prompt}"}}],"#
        ) + r#""maxTokens":512,"temperature":0.7},"modelSource":{"engine":"echo","files":[],"cliDefaults":{"#
            + r#""cfgScale":1.0,"steps":20,"width":512,"height":512}}}}"#;
        let session = &mut state.sessions[session];
        let offered = Instant::now();
        session.offered = Some(offered);
        session.job = Some(Job { id, prompt, offered, accepted: false });
        // A session that is over has said so already.
        let _ = session.offers.send(text);
        true
    }

    fn fault(&self, what: impl std::fmt::Display) {
        let state = &mut *self.state.borrow_mut();
        state.faults += 1;
        state.first_fault.get_or_insert_with(|| what.to_string());
    }

    fn report(&self, since: &Sofar, now: &Sofar) -> Report {
        let state = &mut *self.state.borrow_mut();
        // One that is late and has not come counts as well.
        for heard in state.sessions.iter().filter_map(|session| session.heard) {
            if let Some(late) = (now.at - heard).checked_sub(HEARTBEAT) {
                state.late.take(late);
            }
        }
        let answered = state.answered.spread();
        Report {
            seconds: (now.at - since.at).as_secs_f64(),
            jobs: answered.count,
            late: state.late.spread(),
            accepted: state.accepted.spread(),
            answered,
            cpu: now.cpu - since.cpu,
            faults: state.faults,
            first_fault: state.first_fault.clone(),
        }
    }

    /// A session that was welcomed, and the offers that it is to get.
    fn open(&self) -> (usize, mpsc::UnboundedReceiver<String>) {
        let state = &mut *self.state.borrow_mut();
        let (offers, receiver) = mpsc::unbounded_channel();
        state.sessions.push(Session { offers, job: None, offered: None, jobs_done: 0, heard: None });
        (state.sessions.len() - 1, receiver)
    }

    /// What is answered, or why the frame is out of place.
    fn hear(&self, session: usize, text: &str) -> Result<Option<String>, String> {
        let now = Instant::now();
        let said: Said<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let state = &mut *self.state.borrow_mut();
        let this = &mut state.sessions[session];
        match &*said.kind {
            "heartbeat" => {
                let named = said.current_job_id.as_deref();
                if named.is_some_and(|named| {
                    !this.job.as_ref().is_some_and(|job| job.accepted && job.id == named)
                }) {
                    return Err("a heartbeat names a job that is not in hand".into());
                }
                match this.heard.replace(now) {
                    None => {
                        state.beating += 1;
                        state.free.push_back(session);
                        self.moved.notify_one();
                    }
                    Some(before) if now - before < TOO_SOON => return Err("a heartbeat came too soon".into()),
                    Some(before) => state.late.take((now - before).saturating_sub(HEARTBEAT)),
                }
                Ok(Some(r#"{"type":"heartbeatAck"}"#.into()))
            }
            "accept" => match &mut this.job {
                Some(job) if Some(&*job.id) == said.job_id.as_deref() && !job.accepted => {
                    job.accepted = true;
                    state.accepted.take(now - job.offered);
                    Ok(None)
                }
                _ => Err("an accept of what was not offered".into()),
            },
            "completeJson" => match this.job.take() {
                Some(job) if Some(&*job.id) == said.job_id.as_deref() && job.accepted => {
                    if said.prompt.as_deref() != Some(&*job.prompt)
                        || said.result.is_none_or(|result| result.answer != job.prompt)
                    {
                        return Err("a result that is not the job's".into());
                    }
                    this.jobs_done += 1;
                    state.jobs_done += 1;
                    state.answered.take(now - job.offered);
                    state.free.push_back(session);
                    self.moved.notify_one();
                    Ok(Some(format!(r#"{{"type":"completeAck","jobId":"{}"}}"#, job.id)))
                }
                _ => Err("a result of what was not accepted".into()),
            },
            "logBatch" => Ok(None),
            other => Err(format!("{other} is out of place: {text}")),
        }
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.jobs_offered == self.jobs_done as u64
    }
}

async fn serve(stream: TcpStream, echo: Rc<Echo>) {
    if let Err(problem) = session(stream, &echo).await {
        echo.fault(format_args!("a session ended: {problem}"));
    }
}

async fn session(stream: TcpStream, echo: &Echo) -> Result<(), Problem> {
    let mut socket = upgrade(stream).await?;
    let hello = next_text(&mut socket).await?;
    if serde_json::from_str::<Said<'_>>(&hello)?.kind != "hello" {
        return Err("the first frame is no hello".into());
    }
    let welcome = r#"{"type":"welcome","workerId":"w","serverTime":"2026-01-01T00:00:00Z"}"#;
    socket.send(Message::text(welcome)).await?;
    let (session, mut offers) = echo.open();
    loop {
        tokio::select! {
            text = next_text(&mut socket) => match echo.hear(session, &text?) {
                Ok(None) => {}
                Ok(Some(answer)) => socket.send(Message::text(answer)).await?,
                Err(fault) => echo.fault(fault),
            },
            Some(offer) = offers.recv() => socket.send(Message::text(offer)).await?,
        }
    }
}

async fn next_text(socket: &mut Socket) -> Result<String, Problem> {
    match socket.next().await {
        Some(Ok(Message::Text(text))) => Ok(text.as_str().to_owned()),
        Some(Ok(other)) => Err(format!("{other:?} is out of place").into()),
        Some(Err(error)) => Err(error.into()),
        None => Err("the connection was closed".into()),
    }
}

async fn upgrade(stream: TcpStream) -> Result<Socket, Problem> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(2 * 1024).write_buffer_size(0);
    Ok(accept_hdr_async_with_config(stream.compat(), agree, Some(config)).await?)
}

#[allow(clippy::result_large_err, clippy::unnecessary_wraps, reason = "the library's signature")]
fn agree(_: &Request, mut answer: Response) -> Result<Response, ErrorResponse> {
    answer.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUB_PROTOCOL));
    Ok(answer)
}
