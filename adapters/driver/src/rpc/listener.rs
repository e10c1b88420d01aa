//! [`RpcListener`]: the listener of an RPC session.

use std::future::Future;
use std::sync::Arc;
use std::task;
use std::time::{Duration, Instant};

use getty_core::rpc::{Code, Config, Executed, Frame, GoAwayCode, Peer, Side, Status};
#[cfg(feature = "websocket")]
use getty_core::websocket::{Accept, Request as Handshake, Verdict};
use getty_core::{Close, CloseReason, Items, Opened, Progress, SendError, Timestamp};

use crate::rpc::caller::Caller;
use crate::rpc::desk::Desk;
use crate::rpc::dispatch::{Inbound, Response};
use crate::rpc::mailbox::Mailbox;
use crate::rpc::names::Names;
use crate::rpc::open::{Open, Session};
use crate::rpc::opening::Opening;
use crate::rpc::team::{Membership, Source};
use crate::session::id::SessionId;
use crate::session::listener::{Listener, Refuse};

/// The WebSocket sub-protocol that announces RPC.
#[cfg(feature = "websocket")]
const PROTOCOL: &str = "getty-rpc.2";

/// What holds for each connection of a side.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    pub(crate) config: Arc<Config>,
    pub(crate) on_connect: Option<Arc<OnConnect>>,
    pub(crate) max_age: Option<Duration>,
}

impl Terms {
    /// The limits of a connection: it says no more to its peer than its session takes.
    fn limits(&self, session: &getty_core::Config) -> Result<Arc<Config>, Refuse> {
        let frame = session.max_frame().min(session.max_message()).saturating_sub(HEADER);
        let frame = u32::try_from(frame).unwrap_or(u32::MAX).min(self.config.max_frame());
        if frame == self.config.max_frame() {
            return Ok(self.config.clone());
        }
        Ok(self.config.to_builder().max_frame(frame).build()?)
    }
}

/// The header of a frame in bytes.
const HEADER: usize = 12;

/// Decides about a connection that opens.
pub(crate) type OnConnect = dyn Fn(Caller, &mut Opening<'_>) -> Result<(), Refuse> + Send + Sync;

/// The listener of an RPC session: joins the machine, the mailbox and the handlers.
pub(crate) struct RpcListener<M, F>
where
    M: Fn(Inbound) -> F,
    F: Future<Output = Response>,
{
    terms: Arc<Terms>,
    side: Side,
    /// There is something to call here.
    serves: bool,
    methods: Arc<Names>,
    mailbox: Arc<Mailbox>,
    /// The team that the session joins when it opens.
    source: Option<Arc<Source>>,
    /// Makes the future that answers a call.
    answer: M,
    /// Made when the session opens.
    open: Option<Open<F>>,
}

impl<M, F> RpcListener<M, F>
where
    M: Fn(Inbound) -> F,
    F: Future<Output = Response>,
{
    pub(crate) fn new(
        terms: Arc<Terms>,
        side: Side,
        methods: Arc<Names>,
        mailbox: Arc<Mailbox>,
        source: Option<Arc<Source>>,
        answer: M,
    ) -> Self {
        // A server without methods says so to its clients, and stays.
        let serves = side == Side::Accepting || !methods.is_empty();
        RpcListener { terms, side, serves, methods, mailbox, source, answer, open: None }
    }

    fn end(&mut self, why: Status) {
        match &mut self.open {
            Some(Open { calls: Some(calls), .. }) => {
                calls.stop_all();
                self.mailbox.end(&mut calls.desk, why);
            }
            Some(_) => self.mailbox.end(&mut Desk::new(Timestamp::ORIGIN), why),
            None => self.mailbox.end(&mut Desk::new(Timestamp::ORIGIN), why.with_executed(Executed::No)),
        }
    }
}

/// An age from nine to eleven tenths of `age`, so that connections made together do not end together.
fn spread(age: Duration, id: SessionId) -> Duration {
    // The ids of sessions are consecutive: this spreads them evenly.
    let part = (id.get().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32;
    (age / 10 * 9).saturating_add((age / 5).mul_f64(f64::from(part) / f64::from(u32::MAX)))
}

impl<M, F> Listener<Items<Frame>> for RpcListener<M, F>
where
    M: Fn(Inbound) -> F + 'static,
    F: Future<Output = Response> + 'static,
{
    #[cfg(feature = "websocket")]
    fn on_request(&mut self, _: &mut Session<'_>, request: &Handshake) -> Verdict {
        let is_offered = request.protocols().any(|name| name == PROTOCOL);
        Verdict::Accept(if is_offered { Accept::new().protocol(PROTOCOL) } else { Accept::new() })
    }

    fn on_open(&mut self, cx: &mut Session<'_>, opened: &Opened) -> Result<(), Refuse> {
        let now = cx.timestamp();
        let config = self.terms.limits(cx.config())?;
        self.open = Some(Open {
            peer: Peer::new(config, self.side, now),
            membership: None,
            #[cfg(feature = "tls")]
            tls: opened.tls.as_deref().cloned().map(Arc::new),
            calls: None,
            leaves_at: self.terms.max_age.map(|age| now + spread(age, cx.id())),
            is_used: true,
            is_done: false,
            has_ended: false,
        });
        if let Some(decide) = &self.terms.on_connect {
            let (session, config) = cx.data();
            decide(Caller::new(self.mailbox.clone()), &mut Opening { opened, session, config })?;
        }
        if let (Some(source), Some(open)) = (&self.source, &mut self.open) {
            self.mailbox.load.set(&open.peer);
            open.membership = Some(Membership::take(source, &self.mailbox));
        }
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Session<'_>, frame: Frame) {
        let Some(open) = &mut self.open else { return };
        let now = cx.timestamp();
        if let Err(fault) = open.peer.handle_frame(now, frame) {
            open.fail(cx, now, fault);
        }
    }

    fn on_turn(&mut self, cx: &mut Session<'_>, task: &mut task::Context<'_>) -> Option<Instant> {
        let open = self.open.as_mut()?;
        let now = cx.timestamp();
        open.begin_turn(cx, task.waker(), now, &self.mailbox, &self.methods);
        open.peer.handle_alive(cx.last_heard());
        if let Err(fault) = open.peer.handle_timeout(now) {
            open.fail(cx, now, fault);
            return None;
        }
        open.take_events(&self.mailbox, &self.answer);
        if open.work(cx, 1) {
            open.take_events(&self.mailbox, &self.answer); // of bodies that are decompressed
        }
        open.run(&self.mailbox, task.waker());
        if self.mailbox.was_posted() {
            let callers = open.take_posted(now, &self.mailbox, task.waker());
            open.is_used = callers > 0 || self.serves;
            open.take_events(&self.mailbox, &self.answer);
        }
        if open.leaves_at.is_some_and(|at| at <= now) {
            open.leaves_at = None;
            open.peer.go_away(now, GoAwayCode::Shutdown, "the connection is old");
        }
        loop {
            open.send(cx, now);
            // Sending makes room for items, ends calls that cannot be sent, and may be the last thing to do.
            // No other turn would come for that.
            let mut goes_on = open.take_events(&self.mailbox, &self.answer);
            goes_on |= open.work(cx, 0);
            if !open.is_used && open.peer.open_calls() == 0 && !open.peer.is_leaving() {
                open.peer.go_away(now, GoAwayCode::Shutdown, "no caller is left");
                goes_on = true;
            }
            if !goes_on {
                break;
            }
        }
        if open.is_done || open.has_ended && !open.peer.has_work() {
            cx.close(Close::graceful());
        }
        if open.membership.is_some() {
            self.mailbox.load.set(&open.peer);
        }
        if !open.peer.holds_memory() {
            open.trim(&self.mailbox);
        }
        let next = open.peer.poll_timeout().into_iter().chain(open.leaves_at).min();
        next.map(|at| cx.instant(at))
    }

    fn on_send_error(&mut self, _: &mut Session<'_>, _: SendError<Frame>) {}

    fn on_eof(&mut self, cx: &mut Session<'_>) {
        match &mut self.open {
            Some(open) if open.peer.config().deflate() => open.has_ended = true,
            _ => cx.close(Close::graceful()),
        }
    }

    fn on_shutdown(&mut self, cx: &mut Session<'_>) {
        let now = cx.timestamp();
        match &mut self.open {
            Some(open) => open.peer.go_away(now, GoAwayCode::Shutdown, "the server shuts down"),
            None => cx.close(Close::graceful()),
        }
    }

    fn on_close(&mut self, cx: &mut Session<'_>, reason: &CloseReason) {
        if let Some(open) = &mut self.open {
            if open.peer.config().deflate() {
                // Answers that have come: as much as one turn can decompress.
                open.take_events(&self.mailbox, &self.answer);
                open.work(cx, 1);
                open.take_events(&self.mailbox, &self.answer);
            }
            let progress = cx.stats().progress;
            open.peer.handle_closed(cx.timestamp(), reason, &progress);
            open.take_events(&self.mailbox, &self.answer);
        }
        self.end(Status::new(Code::Unavailable, format!("the connection ended: {reason}")));
    }
}

impl<M, F> Drop for RpcListener<M, F>
where
    M: Fn(Inbound) -> F,
    F: Future<Output = Response>,
{
    /// Ends the calls of a session whose task was dropped, or whose listener has panicked.
    fn drop(&mut self) {
        if self.mailbox.is_over() {
            return;
        }
        if let Some(open) = &mut self.open {
            // What the session had was perhaps sent.
            let mut progress = Progress::default();
            progress.unknown = open.calls.as_ref().and_then(|calls| calls.accepted);
            open.peer.handle_closed(Timestamp::ORIGIN, &CloseReason::Local { flushed: false }, &progress);
            open.take_events(&self.mailbox, &self.answer);
        }
        self.end(Status::new(Code::Unavailable, "the session was dropped"));
    }
}
