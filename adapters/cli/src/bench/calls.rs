//! The load of `--rpc`: callers that repeat a call, each waiting for its answer.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::sync::mpsc;
use std::time::Instant;

use futures_util::future::join_all;
use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use getty_driver::core::ConfigError;
use getty_driver::rpc::{Protobuf, Status};
use tokio::sync::watch;

use super::load::{CONNECTING, LAST_ANSWERS, Outcome, Phase, Plan};
use crate::codec::SizeOptions;
use crate::rpc;
use crate::rpc::dial::{Connected, Destination};
use crate::rpc::echo::{EchoClient, Message};
use crate::runtime::{BuiltIn, sleep_until};

/// Runs the load of one thread.
pub async fn run<R: BuiltIn>(
    plan: &Plan,
    numbers: impl Iterator<Item = usize>,
    mut phases: watch::Receiver<Phase>,
    ready: mpsc::Sender<()>,
) -> anyhow::Result<Outcome> {
    let destination = plan.destination()?;
    let opening = numbers.map(|number| connect::<R>(&destination, number));
    let connections: Vec<Connection> =
        stream::iter(opening).buffer_unordered(CONNECTING).try_collect().await?;
    let _ = ready.send(()); // the other end waits, or has failed already
    drop(ready);
    if phases.changed().await.is_err() {
        return Ok(Outcome::new()); // another thread could not connect
    }
    let mut outcome = Outcome::new();
    outcome.compressed = connections.iter().filter(|connection| connection.connected.compresses).count();
    let outcome = RefCell::new(outcome);
    let callers = connections
        .iter()
        .flat_map(|connection| (0..plan.depth).map(|_| connection.repeat(plan.size, &phases, &outcome)));
    let callers: FuturesUnordered<_> = callers.collect();
    let (begin, end) = {
        let mut calling = pin!(callers.collect::<()>());
        let mut watched = phases.clone();
        watched.mark_changed(); // the measurement may have begun already
        let (mut begin, mut end) = (None, None);
        loop {
            tokio::select! {
                () = &mut calling => break,
                changed = watched.changed(), if end.is_none() => match *watched.borrow_and_update() {
                    _ if changed.is_err() => break,
                    Phase::Measure => begin = Some(Instant::now()),
                    Phase::Stop => end = Some(Instant::now()),
                    Phase::Connect | Phase::WarmUp => {}
                },
                () = late::<R>(end), if end.is_some() => break,
            }
        }
        (begin, end.unwrap_or_else(Instant::now))
    };
    let mut outcome = outcome.into_inner();
    let unanswered = connections.iter().filter(|connection| connection.is_busy()).count() as u64;
    if unanswered > 0 {
        outcome.lost_connections += unanswered;
        outcome.first_lost.get_or_insert(format!("no answer within {LAST_ANSWERS:?} after the end"));
    }
    if let Some(begin) = begin {
        outcome.messages_per_second = outcome.latencies.len() as f64 / (end - begin).as_secs_f64();
    }
    join_all(connections.into_iter().map(|connection| connection.connected.close::<R>())).await;
    Ok(outcome)
}

impl Plan {
    fn destination(&self) -> Result<Destination, ConfigError> {
        let size = SizeOptions { max_message: u32::try_from(self.max_message).unwrap_or(u32::MAX) };
        // All callers of a connection may wait at the same time.
        let limits = rpc::limits(size)?.to_builder().max_waiting(self.depth).max_waiting_bytes(usize::MAX);
        Ok(Destination {
            url: self.url.clone(),
            config: rpc::session(size).heartbeat_period(self.websocket.ping).build()?,
            limits: limits.build()?,
            websocket: self.websocket.clone(),
            tls: self.tls.clone(),
        })
    }
}

/// Waits until no answer is expected any longer.
async fn late<R: BuiltIn>(end: Option<Instant>) {
    if let Some(end) = end {
        sleep_until::<R>(end + LAST_ANSWERS).await;
    }
}

/// A connection, and its callers.
struct Connection {
    connected: Connected,
    number: usize,
    /// Number of calls so far.
    calls: Cell<u64>,
    /// Callers that wait for an answer.
    waiting: Cell<usize>,
    is_lost: Cell<bool>,
}

async fn connect<R: BuiltIn>(destination: &Destination, number: usize) -> anyhow::Result<Connection> {
    let connected = destination.connect::<R>(None).await;
    let connected =
        connected.map_err(|status| anyhow::anyhow!("{}: {}", destination.url, status.message()))?;
    let (calls, waiting, is_lost) = (Cell::new(0), Cell::new(0), Cell::new(false));
    Ok(Connection { connected, number, calls, waiting, is_lost })
}

impl Connection {
    fn is_busy(&self) -> bool {
        self.waiting.get() > 0 && !self.is_lost.get()
    }

    /// Makes calls with texts of `size` bytes, one after the other, until the end.
    async fn repeat(&self, size: usize, phases: &watch::Receiver<Phase>, outcome: &RefCell<Outcome>) {
        let client = EchoClient::with(self.connected.caller.clone(), Protobuf);
        while *phases.borrow() < Phase::Stop {
            let message = Message { text: self.text(size), ..Message::default() };
            let start = Instant::now();
            self.waiting.set(self.waiting.get() + 1);
            let answer = client.unary(message.clone()).await;
            self.waiting.set(self.waiting.get() - 1);
            match answer {
                Ok(answer) => {
                    let mut outcome = outcome.borrow_mut();
                    outcome.wrong += u64::from(answer != message);
                    if *phases.borrow() == Phase::Measure {
                        let time = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        outcome.latencies.saturating_record(time);
                    }
                }
                Err(status) => return self.lost(status, outcome).await,
            }
        }
    }

    /// A text that no other call has, unless it is too short for that.
    fn text(&self, size: usize) -> String {
        let number = self.calls.replace(self.calls.get() + 1);
        let mut text = format!("{number:x}.{:x}.", self.number);
        text.extend(std::iter::repeat_n('.', size.saturating_sub(text.len())));
        text.truncate(size);
        text
    }

    /// Counts a failure, once for the connection.
    async fn lost(&self, status: Status, outcome: &RefCell<Outcome>) {
        if self.is_lost.replace(true) {
            return;
        }
        let status = self.connected.explain(status).await;
        let mut outcome = outcome.borrow_mut();
        outcome.lost_connections += 1;
        outcome.first_lost.get_or_insert_with(|| status.to_string());
    }
}
