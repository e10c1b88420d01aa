//! The load: connections that keep messages in flight, on threads of their own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use getty_driver::core::datagram::Dropped;
use getty_driver::core::websocket::Packages;
use getty_driver::core::{Close, CloseReason, Config, Opened};
use getty_driver::tls::ClientTls;
use getty_driver::{Context, Framed, Handle, Items, Listener, Refuse};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::{Notify, watch};

use super::probe::{Echo, Framing, Probe};
use super::window::{Echoed, Window};
use super::{calls, join};
use crate::explain::{explain_at_client, explain_dropped, explain_unopened};
use crate::runtime::{BuiltIn, RuntimeName, local_client, on_runtime, sleep_until};
use crate::url::{Transport, Url};
use crate::websocket::WebSocketOptions;

/// The settings of one load.
#[derive(Debug, Clone)]
pub struct Plan {
    pub url: Url,
    /// Whether the server has an echo service.
    pub rpc: bool,
    /// The runtime of the load.
    pub runtime: RuntimeName,
    pub max_message: usize,
    pub websocket: WebSocketOptions,
    /// Set only for tls and wss URLs.
    pub tls: Option<ClientTls>,
    pub connections: usize,
    pub size: usize,
    pub depth: usize,
}

impl Plan {
    fn framing(&self) -> Framing {
        match self.url.transport {
            Transport::Udp => Framing::Datagram,
            transport if transport.has_messages() => Framing::Transport,
            _ => Framing::Length,
        }
    }

    fn window(&self) -> Window {
        Window::new(self.depth, self.url.transport == Transport::Udp)
    }
}

/// The stage of a load. Later stages compare greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Connect,
    WarmUp,
    Measure,
    Stop,
}

/// The results of a load.
#[derive(Debug)]
pub struct Outcome {
    /// Round-trip times in nanoseconds of messages whose echo came during the measurement.
    pub latencies: Histogram<u64>,
    pub messages_per_second: f64,
    /// Echoes that were changed or match no sent message.
    pub wrong: u64,
    /// Connections that ended with messages in flight, or whose last echoes did not come in time.
    pub lost_connections: u64,
    /// The reason of the first of them.
    pub first_lost: Option<String>,
    /// Datagram counts since the measurement began.
    pub datagrams: Datagrams,
    /// The first drop that was reported.
    pub first_dropped: Option<String>,
    /// Connections on which compression was agreed.
    pub compressed: usize,
}

/// Counts of messages that the transport lost, delayed, reordered or duplicated.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Datagrams {
    /// Messages without an echo in time.
    pub lost: u64,
    /// Echoes of messages already counted as lost.
    pub late: u64,
    /// Echoes that came after the echo of a later message.
    pub reordered: u64,
    /// Repeated echoes of one message.
    pub doubled: u64,
}

impl Datagrams {
    fn add(&mut self, other: Datagrams) {
        self.lost += other.lost;
        self.late += other.late;
        self.reordered += other.reordered;
        self.doubled += other.doubled;
    }
}

impl Outcome {
    pub fn new() -> Self {
        // 100 ns to 10 minutes with three digits: about 250 KB.
        let latencies = Histogram::new_with_bounds(100, 600_000_000_000, 3).expect("the bounds are good");
        Outcome {
            latencies,
            messages_per_second: 0.0,
            wrong: 0,
            lost_connections: 0,
            first_lost: None,
            datagrams: Datagrams::default(),
            first_dropped: None,
            compressed: 0,
        }
    }

    fn add(&mut self, other: Outcome) {
        self.latencies += other.latencies;
        self.messages_per_second += other.messages_per_second;
        self.wrong += other.wrong;
        self.lost_connections += other.lost_connections;
        self.first_lost = self.first_lost.take().or(other.first_lost);
        self.datagrams.add(other.datagrams);
        self.first_dropped = self.first_dropped.take().or(other.first_dropped);
        self.compressed += other.compressed;
    }
}

/// The threads of a running load.
#[derive(Debug)]
pub struct Load {
    phase: watch::Sender<Phase>,
    threads: Vec<JoinHandle<anyhow::Result<Outcome>>>,
}

impl Load {
    /// Opens all connections. Sends nothing yet.
    pub fn start(plan: &Plan, threads: usize) -> anyhow::Result<Self> {
        let (phase, phases) = watch::channel(Phase::Connect);
        let (ready, readiness) = mpsc::channel();
        let mut load = Load { phase, threads: Vec::new() };
        for thread in 0..threads {
            let (plan, phases, ready) = (plan.clone(), phases.clone(), ready.clone());
            let numbers = (thread..plan.connections).step_by(threads);
            let work = move || on_runtime!(plan.runtime, run_on(&plan, numbers, phases, ready));
            load.threads.push(thread::spawn(work));
        }
        drop(ready);
        if readiness.iter().count() == threads {
            return Ok(load);
        }
        let Load { phase, threads } = load;
        drop(phase); // the ready threads end too
        let results: Vec<_> = threads.into_iter().map(join).collect();
        let failure = results.into_iter().find_map(Result::err);
        Err(failure.unwrap_or_else(|| anyhow!("the load ended early")))
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Whether all connections have ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for all threads to end. [`Phase::Stop`] must have been entered.
    pub fn finish(self) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::new();
        for thread in self.threads {
            outcome.add(join(thread)?);
        }
        Ok(outcome)
    }
}

/// Connections opened at the same time.
pub const CONNECTING: usize = 64;

/// Time after which a datagram without an echo counts as lost. Checked four times within it.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// Time for outstanding echoes to come after the measurement.
pub const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Runs the load of one thread.
fn run_on<R: BuiltIn>(
    plan: &Plan,
    numbers: impl Iterator<Item = usize>,
    phases: watch::Receiver<Phase>,
    ready: mpsc::Sender<()>,
) -> anyhow::Result<Outcome> {
    match plan.rpc {
        true => R::block_on_local(calls::run::<R>(plan, numbers, phases, ready))?,
        false => R::block_on_local(run::<R>(plan, numbers, phases, ready))?,
    }
}

async fn run<R: BuiltIn>(
    plan: &Plan,
    numbers: impl Iterator<Item = usize>,
    mut phases: watch::Receiver<Phase>,
    ready: mpsc::Sender<()>,
) -> anyhow::Result<Outcome> {
    let worker = Rc::new(Worker::new());
    let mut handles = connect::<R>(plan, numbers, &worker).await?;
    worker.all_open().await.with_context(|| plan.url.to_string())?;
    let _ = ready.send(()); // the other end waits, or has failed already
    drop(ready);
    let (mut begin, mut end) = (None, None);
    while end.is_none() {
        tokio::select! {
            changed = phases.changed() => {
                if changed.is_err() {
                    return Ok(Outcome::new()); // another thread could not connect
                }
                let phase = *phases.borrow_and_update();
                worker.begin(std::mem::take(&mut handles), plan.depth);
                worker.phase.set(phase);
                match phase {
                    Phase::Measure => begin = Some(Instant::now()),
                    Phase::Stop => end = Some(Instant::now()),
                    Phase::Connect | Phase::WarmUp => {}
                }
            }
            () = worker.all_closed() => end = Some(Instant::now()),
        }
    }
    tokio::select! {
        () = worker.all_closed() => {}
        () = sleep_until::<R>(Instant::now() + LAST_ANSWERS) => {} // connections still open are counted below
    }
    let mut outcome = worker.outcome.replace(Outcome::new());
    if worker.open.get() > 0 {
        outcome.lost_connections += worker.open.get();
        outcome.first_lost.get_or_insert(format!("no echo within {LAST_ANSWERS:?} after the end"));
    }
    if let Some((begin, end)) = begin.zip(end) {
        outcome.messages_per_second = outcome.latencies.len() as f64 / (end - begin).as_secs_f64();
    }
    Ok(outcome)
}

/// Opens the connections with these numbers.
async fn connect<R: BuiltIn>(
    plan: &Plan,
    numbers: impl Iterator<Item = usize>,
    worker: &Rc<Worker>,
) -> anyhow::Result<Vec<Handle<()>>> {
    let pattern = Probe::pattern(plan.size);
    let framing = plan.framing();
    // All messages in flight fit the send queue, with headers and the overhead of compressing random bytes.
    // So sending never fails and never pauses receiving.
    let on_wire = plan.size + plan.size / 1024 + 64;
    let in_flight = on_wire.saturating_mul(plan.depth);
    let max_frame = plan.max_message + framing.overhead();
    let config = Config::builder()
        .max_frame(max_frame)
        .max_message(max_frame)
        .heartbeat_period(plan.websocket.ping)
        .watermarks(in_flight, in_flight)
        .max_queued(in_flight)
        .handle_queue(plan.depth)
        .cron_period((plan.url.transport == Transport::Udp).then_some(LOST_AFTER / 4))
        .build()?;
    let opening = numbers.map(|number| {
        let codec = Probe::new(framing, pattern.clone(), plan.size, number as u64);
        let listener = Pump::new(worker.clone(), plan.window(), plan.url.transport);
        open::<R>(plan, config.clone(), codec, listener)
    });
    stream::iter(opening).buffer_unordered(CONNECTING).try_collect().await
}

async fn open<R: BuiltIn>(
    plan: &Plan,
    config: Arc<Config>,
    codec: Probe,
    listener: Pump,
) -> anyhow::Result<Handle<()>> {
    let client = local_client::<R>().config(config).maybe_tls(plan.tls.clone());
    let address = plan.url.address();
    Ok(match plan.url.transport {
        Transport::Tcp | Transport::Tls => client.tcp(address, Framed::new(codec), listener).await?,
        #[cfg(unix)]
        Transport::Unix => client.unix(address, Framed::new(codec), listener).await?,
        Transport::Udp => client.udp(address, codec, listener).await?,
        Transport::WebSocket | Transport::SecureWebSocket => {
            let request = plan.websocket.request(&plan.url)?;
            client.websocket(request, Packages::new(codec), listener).await?
        }
    })
}

/// State shared by the connections of one thread.
#[derive(Debug)]
struct Worker {
    origin: Instant,
    /// Time at which the first messages were sent.
    started: Cell<u64>,
    phase: Cell<Phase>,
    /// Connections whose handshake is not done yet.
    opening: Cell<u64>,
    /// Connections that have not ended yet.
    open: Cell<u64>,
    /// Notified when one of the two changes.
    changed: Notify,
    outcome: RefCell<Outcome>,
}

impl Worker {
    fn new() -> Self {
        Worker {
            origin: Instant::now(),
            started: Cell::new(0),
            phase: Cell::new(Phase::Connect),
            opening: Cell::new(0),
            open: Cell::new(0),
            changed: Notify::new(),
            outcome: RefCell::new(Outcome::new()),
        }
    }

    /// Sends the first messages.
    fn begin(&self, handles: Vec<Handle<()>>, depth: usize) {
        if !handles.is_empty() {
            self.started.set(self.now());
        }
        for handle in handles {
            for _ in 0..depth {
                let _ = handle.try_send(()); // there is room; an ended session is reported to its listener
            }
        }
    }

    /// Waits until every handshake is done, or one has failed.
    async fn all_open(&self) -> anyhow::Result<()> {
        while self.opening.get() > 0 {
            if let Some(reason) = self.outcome.borrow_mut().first_lost.take() {
                bail!(reason);
            }
            self.changed.notified().await;
        }
        Ok(())
    }

    async fn all_closed(&self) {
        while self.open.get() > 0 {
            self.changed.notified().await;
        }
    }

    /// Returns the nanoseconds since the origin.
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The listener of one connection. Sends a new message for each echo.
#[derive(Debug)]
struct Pump {
    worker: Rc<Worker>,
    window: Window,
    transport: Transport,
}

impl Pump {
    /// The worker sends the first messages, at [`Worker::started`].
    fn new(worker: Rc<Worker>, mut window: Window, transport: Transport) -> Self {
        worker.opening.set(worker.opening.get() + 1);
        worker.open.set(worker.open.get() + 1);
        while window.has_room() {
            window.send(FIRST);
        }
        Pump { worker, window, transport }
    }

    /// Sends as many messages as there is room for. Returns how many older ones are given up as lost for it.
    fn refill(&mut self, cx: &mut Context<'_, Items<Echo, ()>>, now: u64) -> u64 {
        let mut lost = 0;
        while self.window.has_room() && cx.send(()).is_ok() {
            lost += u64::from(self.window.send(now));
        }
        lost
    }

    /// Closes once stopping and all echoes have come.
    fn close_if_done(&self, cx: &mut Context<'_, Items<Echo, ()>>) {
        if self.worker.phase.get() == Phase::Stop && self.window.is_empty() {
            cx.close(Close::graceful());
        }
    }
}

/// Stands for the send time of the first messages, which is [`Worker::started`].
const FIRST: u64 = 0;

impl Listener<Items<Echo, ()>> for Pump {
    fn on_open(&mut self, _cx: &mut Context<'_, Items<Echo, ()>>, opened: &Opened) -> Result<(), Refuse> {
        let worker = &self.worker;
        let compresses = opened.upgrade.as_ref().is_some_and(|upgrade| upgrade.deflate().is_some());
        worker.outcome.borrow_mut().compressed += usize::from(compresses);
        worker.opening.set(worker.opening.get() - 1);
        worker.changed.notify_one();
        Ok(())
    }

    fn on_message(&mut self, _cx: &mut Context<'_, Items<Echo, ()>>, _echo: Echo) {
        // `on_messages` takes them all.
    }

    fn on_messages(&mut self, cx: &mut Context<'_, Items<Echo, ()>>) {
        let worker = self.worker.clone();
        let mut outcome = worker.outcome.borrow_mut();
        let (now, phase) = (worker.now(), worker.phase.get());
        let mut datagrams = Datagrams::default();
        while let Some(echo) = cx.next_message() {
            let echoed = self.window.echo(echo.number);
            outcome.wrong += u64::from(!echo.intact || echoed == Echoed::NeverSent);
            match echoed {
                Echoed::Back { sent_at, reordered } => {
                    if phase == Phase::Measure {
                        let sent = if sent_at == FIRST { worker.started.get() } else { sent_at };
                        outcome.latencies.saturating_record(now.saturating_sub(sent));
                    }
                    datagrams.reordered += u64::from(reordered);
                }
                Echoed::Double => datagrams.doubled += 1,
                Echoed::Late => datagrams.late += 1,
                Echoed::NeverSent => {}
            }
            if phase < Phase::Stop {
                datagrams.lost += self.refill(cx, now);
            }
        }
        if phase >= Phase::Measure {
            outcome.datagrams.add(datagrams);
        }
        self.close_if_done(cx);
    }

    /// Looks for lost messages. The cron runs only over transports that lose messages.
    fn on_cron(&mut self, cx: &mut Context<'_, Items<Echo, ()>>) {
        let (now, phase) = (self.worker.now(), self.worker.phase.get());
        let time = now.saturating_sub(u64::try_from(LOST_AFTER.as_nanos()).unwrap_or(u64::MAX));
        if !(1..time).contains(&self.worker.started.get()) {
            return; // the first messages still have time
        }
        let mut lost = self.window.lose(time);
        if phase < Phase::Stop {
            lost += self.refill(cx, now);
        }
        if phase >= Phase::Measure {
            self.worker.outcome.borrow_mut().datagrams.lost += lost;
        }
        self.close_if_done(cx);
    }

    fn on_dropped(&mut self, _cx: &mut Context<'_, Items<Echo, ()>>, dropped: &Dropped) {
        self.worker.outcome.borrow_mut().first_dropped.get_or_insert_with(|| explain_dropped(dropped));
    }

    fn on_close(&mut self, cx: &mut Context<'_, Items<Echo, ()>>, reason: &CloseReason) {
        let Pump { worker, window, transport } = self;
        if !window.is_empty() {
            let mut outcome = worker.outcome.borrow_mut();
            outcome.lost_connections += 1;
            let explain = if cx.was_opened() { explain_at_client } else { explain_unopened };
            outcome.first_lost.get_or_insert_with(|| explain(reason, *transport));
        }
        worker.open.set(worker.open.get().saturating_sub(1));
        worker.changed.notify_one();
    }
}
