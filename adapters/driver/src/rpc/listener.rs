//! [`RpcListener`]: the listener of an RPC session.

use std::future::Future;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task;
use std::time::{Duration, Instant};

use getty_core::rpc::{
    CallId, Cancelled, Code, Config, Event, Executed, Frame, GoAwayCode, Peer, PeerFault, Request, Side,
    Status,
};
#[cfg(feature = "websocket")]
use getty_core::websocket::{Accept, Request as Handshake, Verdict};
use getty_core::{Close, CloseReason, Items, Opened, Progress, SendError, Seq, Timestamp};

use crate::rpc::call::Connection;
use crate::rpc::caller::Caller;
use crate::rpc::desk::{Desk, News};
use crate::rpc::dispatch::{Inbound, Response};
use crate::rpc::extensions::Extensions;
use crate::rpc::handlers::Handlers;
use crate::rpc::mailbox::Mailbox;
use crate::rpc::names::Names;
use crate::rpc::opening::Opening;
use crate::rpc::team::{Membership, Source};
use crate::session::context::Context;
use crate::session::id::SessionId;
use crate::session::listener::{Listener, Refuse};

/// The WebSocket sub-protocol that announces RPC.
#[cfg(feature = "websocket")]
const PROTOCOL: &str = "getty-rpc.2";

type Session<'a> = Context<'a, Items<Frame>>;

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
        if frame == self.config.max_frame() && !self.config.deflate() {
            return Ok(self.config.clone());
        }
        let config = self.config.to_builder().max_frame(frame);
        // The driver does not decompress bodies yet.
        #[cfg(feature = "deflate")]
        let config = config.deflate(false);
        Ok(config.build()?)
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
    terms: Terms,
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

/// What an open session has.
struct Open<F> {
    peer: Peer,
    /// The place in the team, until the session leaves.
    membership: Option<Membership>,
    connection: Arc<Connection>,
    handlers: Handlers<F>,
    /// The handler of each call of the peer, by the slot of the call.
    by_call: Vec<Option<(CallId, u32)>>,
    desk: Desk,
    /// The waker that the mailbox has.
    task: Option<task::Waker>,
    news: Vec<(CallId, News)>,
    /// When this side goes away because of its age.
    leaves_at: Option<Timestamp>,
    /// The frame that the session has accepted last.
    accepted: Option<Seq>,
    /// This side serves, or has callers.
    is_used: bool,
    /// The session is to be closed once its queue is written.
    is_done: bool,
}

impl<M, F> RpcListener<M, F>
where
    M: Fn(Inbound) -> F,
    F: Future<Output = Response>,
{
    pub(crate) fn new(
        terms: Terms,
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
        if let Some(open) = &mut self.open {
            open.stop_all();
            self.mailbox.end(&mut open.desk, why);
        } else {
            self.mailbox.end(&mut Desk::new(Timestamp::ORIGIN), why.with_executed(Executed::No));
        }
    }
}

impl<F: Future<Output = Response>> Open<F> {
    /// Closes the session because the peer broke a rule. What this side says to it goes first. The handlers
    /// end at once: they have no turn any longer, and must not hold what they have while the session closes.
    fn fail(&mut self, cx: &mut Session<'_>, now: Timestamp, fault: PeerFault) {
        self.stop_all();
        self.send(cx, now);
        cx.close(Close::fault(Arc::new(fault)));
    }

    /// Sends what the machine has while there is room.
    fn send(&mut self, cx: &mut Session<'_>, now: Timestamp) {
        while cx.is_writable() {
            let Some(frame) = self.peer.poll_frame(now) else { return };
            match cx.send(frame) {
                Ok(accepted) => {
                    self.accepted = Some(accepted.seq);
                    self.peer.frame_sent(accepted);
                }
                Err(error) => self.peer.frame_refused(error),
            }
        }
        if self.peer.wants_write() {
            cx.notify_flushed();
        }
    }

    /// Takes the reports of the machine: starts handlers, and tells callers. Returns whether there were any.
    fn take_events<M: Fn(Inbound) -> F>(&mut self, mailbox: &Mailbox, answer: &M) -> bool {
        if self.peer.is_leaving() {
            self.membership = None; // before callers learn of calls that were refused for it
        }
        let mut has_news = false;
        while let Some(event) = self.peer.poll_event() {
            has_news = true;
            match event {
                Event::Request(id, request) => self.start(mailbox, answer, id, request),
                Event::Ended(id, result) => self.news.push((id, News::Ended(result))),
                Event::Item(id, item) => self.news.push((id, News::Item(item))),
                Event::End(id) => self.news.push((id, News::End)),
                Event::Room(id) => self.news.push((id, News::Room)),
                Event::Cancelled(id, why) => self.cancel(mailbox, id, why),
                Event::Drained => self.is_done = true,
                _ => {}
            }
        }
        if !self.news.is_empty() {
            mailbox.deliver(&mut self.desk, &mut self.peer, &mut self.news);
        }
        has_news
    }

    fn start<M: Fn(Inbound) -> F>(&mut self, mailbox: &Mailbox, answer: &M, id: CallId, request: Request) {
        let streams = request.more.then(|| mailbox.open_stream(id, &mut self.desk));
        let deadline = self.peer.deadline(id);
        let extensions = Extensions::default();
        let slot = self
            .handlers
            .start(id, |seat| answer(Inbound { request, id, seat, deadline, streams, extensions }));
        if self.by_call.len() <= id.slot() {
            self.by_call.resize(id.slot() + 1, None);
        }
        self.by_call[id.slot()] = Some((id, slot));
    }

    /// A call of the peer is over before its handler has ended, which may run on.
    fn cancel(&mut self, mailbox: &Mailbox, id: CallId, why: Cancelled) {
        let late = why == Cancelled::Deadline;
        let code = if late { Code::DeadlineExceeded } else { Code::Cancelled };
        mailbox.cancel(&mut self.desk, id, Status::new(code, "the call is over"));
        let slot = self.by_call.get(id.slot()).copied().flatten().filter(|(known, _)| *known == id);
        if slot.is_none_or(|(_, slot)| self.handlers.cancel(slot, late)) {
            self.leave(id);
            mailbox.release(&mut self.desk, id);
            self.peer.release(id);
        }
    }

    /// Takes the handler of a call, which has ended, from the table.
    fn leave(&mut self, id: CallId) {
        if let Some(place) = self.by_call.get_mut(id.slot()) {
            place.take_if(|(known, _)| *known == id);
        }
    }

    /// Polls the handlers that were woken.
    fn run(&mut self, mailbox: &Mailbox, task: &task::Waker) {
        if !self.handlers.collect(task) {
            return;
        }
        mailbox.hold();
        let due = self.handlers.take_due();
        for &slot in &due {
            let Some((id, ended)) = self.handlers.poll(slot) else { continue };
            self.leave(id);
            // The call of a handler that ran on has its answer, and this one goes nowhere.
            let answer = ended.unwrap_or_else(|()| Err(Status::new(Code::Internal, "the handler panicked")));
            let answer = mailbox.with_reply_metadata(id, answer);
            mailbox.respond(&mut self.desk, &mut self.peer, id, answer);
        }
        self.handlers.put_back(due);
    }

    /// Gives up the memory of calls. Only without calls.
    fn trim(&mut self, mailbox: &Mailbox) {
        self.handlers.trim();
        if self.desk.trim() {
            mailbox.trim();
        }
        self.by_call = Vec::new();
        self.news = Vec::new();
    }

    fn stop_all(&mut self) {
        for place in mem::take(&mut self.by_call).into_iter().flatten() {
            self.handlers.stop(place.1);
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
        let connection = Connection {
            mailbox: self.mailbox.clone(),
            session: cx.id(),
            local: cx.local_addr(),
            peer: cx.peer_addr(),
            served: self.methods.clone(),
            #[cfg(feature = "tls")]
            tls: opened.tls.clone(),
            shared: OnceLock::new(),
            now: AtomicU64::new(now.as_nanos()),
        };
        let connection = Arc::new(connection);
        self.open = Some(Open {
            peer: Peer::new(config, self.side, now),
            membership: None,
            handlers: Handlers::new(connection.clone()),
            connection,
            by_call: Vec::new(),
            desk: Desk::new(now),
            task: None,
            news: Vec::new(),
            leaves_at: self.terms.max_age.map(|age| now + spread(age, cx.id())),
            accepted: None,
            is_used: true,
            is_done: false,
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
        open.desk.now = now;
        open.connection.now.store(now.as_nanos(), Ordering::Relaxed);
        if let Some(shared) = cx.shared() {
            open.connection.shared.get_or_init(|| shared.clone());
        }
        open.peer.handle_alive(cx.last_heard());
        if let Err(fault) = open.peer.handle_timeout(now) {
            open.fail(cx, now, fault);
            return None;
        }
        if open.task.as_ref().is_none_or(|known| !known.will_wake(task.waker())) {
            open.task = Some(task.waker().clone());
            self.mailbox.set_task(task.waker());
        }
        open.take_events(&self.mailbox, &self.answer);
        open.run(&self.mailbox, task.waker());
        if self.mailbox.was_posted() {
            let callers = self.mailbox.take_posted(&mut open.desk, &mut open.peer, now, task.waker());
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
            if !open.is_used && open.peer.open_calls() == 0 && !open.peer.is_leaving() {
                open.peer.go_away(now, GoAwayCode::Shutdown, "no caller is left");
                goes_on = true;
            }
            if !goes_on {
                break;
            }
        }
        if open.is_done {
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

    fn on_shutdown(&mut self, cx: &mut Session<'_>) {
        let now = cx.timestamp();
        match &mut self.open {
            Some(open) => open.peer.go_away(now, GoAwayCode::Shutdown, "the server shuts down"),
            None => cx.close(Close::graceful()),
        }
    }

    fn on_close(&mut self, cx: &mut Session<'_>, reason: &CloseReason) {
        if let Some(open) = &mut self.open {
            let progress = cx.stats().progress;
            open.peer.handle_closed(cx.timestamp(), reason, &progress);
            open.take_events(&self.mailbox, &self.answer);
        }
        self.end(Status::new(Code::Unavailable, format!("the connection has ended: {reason}")));
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
            progress.unknown = open.accepted;
            open.peer.handle_closed(open.desk.now, &CloseReason::Local { flushed: false }, &progress);
            open.take_events(&self.mailbox, &self.answer);
        }
        self.end(Status::new(Code::Unavailable, "the session was dropped"));
    }
}
