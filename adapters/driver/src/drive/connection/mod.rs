//! [`Connection`]: a session whose messages are pulled.

mod ahead;
mod budget;
mod error;
mod sending;
mod sink;
mod wakers;

pub use error::{FlushError, SinkError};

use std::fmt;
use std::future::poll_fn;
use std::task::{Context as TaskContext, Poll, ready};

#[cfg(feature = "websocket")]
use getty_core::websocket::{Accept, RespondError, Verdict};
use getty_core::{
    Accepted, Close, CloseReason, Event, HalfCloseError, In, Opened, Out, Protocol, SendError, Session,
    Stats, Timestamp,
};

use crate::drive::driver::Driver;
use crate::drive::stream_engine::StreamEngine;
use crate::drive::timing::{Due, Timing, earlier};
use crate::runtime::io::Io;
use crate::runtime::{Runtime, Spawn, clock, thread_memory};
use crate::session::handle::Handle;
use crate::session::receiver::{Forward, Receiver};
use ahead::Ahead;
use budget::{Budget, Done};
use sending::{Company, PeerWaits, STUCK_AFTER, Stuck};
use wakers::{Half, Wakers};

/// A session whose messages are pulled, instead of a listener being called.
///
/// It owns everything: there is no task, and nothing happens unless one of its futures is polled. That
/// holds for timers too: deadlines take effect only while a future is awaited.
///
/// Sending also receives: pings are answered, a close is noticed, and messages go to a queue from which
/// [`recv`](Self::recv) takes first. Thus many messages can be sent before the first reply is read.
/// [`Config::receive_ahead`](getty_core::Config::receive_ahead) limits the queue. When it is full, sending
/// goes on as long as the peer takes what is sent. If the peer takes nothing for a second while there is
/// more to receive, sending fails with [`SendError::PeerWaits`] or [`FlushError::PeerWaits`], and the
/// session goes on.
///
/// Two tasks may await receiving and sending (after `futures::StreamExt::split`, for example). Then a full
/// queue causes no failure: the sending task waits for the receiving one, for at most
/// [`Config::write_stall_timeout`](getty_core::Config::write_stall_timeout). Two halves in one task do not
/// count as two tasks. To let the session run independently, [`spawn`](Self::spawn) it.
///
/// A task that always finds work yields to others from time to time: after 128 results that were ready at
/// once, and after as many bytes and frames as in a turn of a [`Driver`].
///
/// ```no_run
/// # use bytes::Bytes;
/// # use getty_driver::{Connection, Io, Runtime, core::{Close, Framed, codec::LengthDelimited}};
/// # async fn echo<R: Runtime, I: Io>(mut connection: Connection<R, I, Framed<LengthDelimited>>)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// while let Some(message) = connection.recv().await? {
///     connection.feed(message).await?; // written when there is no more to receive
/// }
/// connection.close(Close::graceful()).await; // after what is still unwritten
/// # Ok(()) }
/// ```
pub struct Connection<R: Runtime, I, P: Protocol> {
    engine: StreamEngine<I, P>,
    timing: Timing<R>,
    wakers: Wakers,
    /// Events received while a future waited to write.
    ahead: Ahead<In<P>>,
    /// Bytes read.
    read: u64,
    /// The last read found nothing: there is nothing to read until the bell rings.
    exhausted: bool,
    /// Budget of each half, after which its task yields.
    budgets: [Budget; 2],
    /// The half that is being polled.
    half: Half,
    /// The turn has ended because its budget is used up.
    yields: bool,
    /// Set while the transport takes nothing and a future waits for it.
    stuck: Option<Stuck>,
    /// [`Event::Open`] has been polled.
    opened: bool,
    /// The receiving half knows that the peer has ended its stream.
    read_ended: bool,
    /// The reason why the session is over. Reported after the events in the queue.
    closed: Option<Box<CloseReason>>,
    /// The error of the stream has been reported.
    failed: bool,
}

// No field is ever pinned.
impl<R: Runtime, I, P: Protocol> Unpin for Connection<R, I, P> {}

impl<R: Runtime, I: Io, P: Protocol> Connection<R, I, P> {
    /// Creates a connection that pulls messages of `session` from `io`.
    pub fn new(session: Session<P>, io: I) -> Self {
        let ahead = Ahead::new(session.config().receive_ahead());
        Connection {
            engine: StreamEngine::new(session, io),
            timing: Timing::new(),
            wakers: Wakers::new(),
            ahead,
            read: 0,
            exhausted: false,
            budgets: Default::default(),
            half: Half::Receiving,
            yields: false,
            stuck: None,
            opened: false,
            read_ended: false,
            closed: None,
            failed: false,
        }
    }

    /// Waits until the session is open: at once over TCP, after the handshake over WebSocket. Nothing can
    /// be sent earlier. The agreed parameters are returned once. A server accepts every client that gets
    /// this far; to choose, use [`event`](Self::event) and `respond`.
    ///
    /// # Errors
    /// The reason why the session ended instead.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing except its own result.
    pub async fn opened(&mut self) -> Result<Box<Opened>, CloseReason> {
        poll_fn(|cx| {
            self.turn(cx, Half::Receiving, |this, cx, now| {
                while !this.opened || this.ahead.begins_with_opening() {
                    match ready!(this.poll_event(cx, now)) {
                        Some(Event::Open(opened)) => return Poll::Ready(Ok(opened)),
                        Some(event) => this.accept_client(now, &event),
                        None => return Poll::Ready(Err(this.close_reason())),
                    }
                }
                Poll::Ready(Ok(Box::default()))
            })
        })
        .await
    }

    /// Responds to [`Event::Request`].
    ///
    /// # Errors
    /// [`RespondError`] gives the reason.
    #[cfg(feature = "websocket")]
    pub fn respond(&mut self, verdict: Verdict) -> Result<(), RespondError> {
        self.engine.session.respond(clock::timestamp(R::now()), verdict)
    }

    /// Waits for the next message. `None` means that no more will come: the peer ended its stream (it may
    /// still read), or the session was closed. Then [`flush`](Self::flush) or [`close`](Self::close) sends
    /// the messages fed last.
    ///
    /// Messages passed to [`feed`](Self::feed) are written before this waits.
    ///
    /// # Errors
    /// The reason why the session ended, if not cleanly. Every later call returns the same.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Result<Option<In<P>>, CloseReason> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Sends a message and waits until the transport has it.
    ///
    /// # Errors
    /// [`SinkError::Send`] if the message was not accepted; never with [`SendError::Blocked`], since this
    /// waits for room. [`SinkError::Closed`] if the session ended before the transport had all of it.
    /// [`SinkError::PeerWaits`] if it was accepted, but the peer takes nothing until we
    /// [receive](Self::recv).
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, the message may or may not have been accepted for
    /// sending, but never in part. To be certain, use [`feed`](Self::feed) and [`flush`](Self::flush).
    pub async fn send(&mut self, item: Out<P>) -> Result<(), SinkError<Out<P>>> {
        self.feed(item).await?;
        self.flush().await.map_err(SinkError::from)
    }

    /// Accepts a message for sending; waits if there is no room. It is written by [`flush`](Self::flush),
    /// by [`recv`](Self::recv) before it waits, or together with others when much is queued.
    ///
    /// # Errors
    /// [`SendError`] gives the reason why it was not accepted. It is never [`SendError::Blocked`].
    /// [`SendError::PeerWaits`] returns the item if the peer takes nothing until we [receive](Self::recv).
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, the message was not accepted and is dropped.
    pub async fn feed(&mut self, item: Out<P>) -> Result<Accepted, SendError<Out<P>>> {
        match poll_fn(|cx| self.poll_room(cx, Company::None)).await {
            Ok(()) => self.accept(item),
            Err(PeerWaits) => Err(SendError::PeerWaits(item)),
        }
    }

    /// Waits until the transport has everything accepted so far.
    ///
    /// # Errors
    /// The reason why the session ended, if it did; or [`FlushError::PeerWaits`] if the peer takes nothing
    /// until we [receive](Self::recv).
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn flush(&mut self) -> Result<(), FlushError> {
        poll_fn(|cx| self.poll_flush(cx, Company::None)).await
    }

    /// Closes the session and waits until it is over. Messages that were not pulled are dropped, even if
    /// `how` asks to drain: [`recv`](Self::recv) them first.
    ///
    /// # Cancel safety
    /// Once polled, the session is closing; call this again to wait for the end.
    pub async fn close(&mut self, how: Close) -> CloseReason {
        let mut how = Some(how);
        poll_fn(|cx| self.poll_closed(cx, how.take())).await
    }

    /// Statistics of the session so far.
    pub fn stats(&self) -> Stats {
        self.engine.session.stats()
    }

    /// The underlying stream.
    pub fn io(&self) -> &I {
        &self.engine.io
    }

    /// Moves the session to its own task. Received messages wait in the queue of the [`Receiver`], and the
    /// two halves may be used from different tasks.
    ///
    /// The session stops reading once the queue holds
    /// [`Config::handle_queue`](getty_core::Config::handle_queue) messages, or once its bytes reach the
    /// high [watermark](getty_core::ConfigBuilder::watermarks), which the last message may exceed. Messages
    /// received ahead are in the queue from the start.
    #[expect(clippy::type_complexity, reason = "the two halves, by what they carry")]
    pub fn spawn<S>(self, spawner: &S) -> (Handle<Out<P>>, Receiver<In<P>, Out<P>>)
    where
        S: Spawn<Driver<R, I, P, Forward<In<P>>>>,
        In<P>: 'static,
    {
        let (forward, queue) = Forward::new(self.engine.session.config(), self.read_ended);
        let mut is_full = false;
        for (event, weight) in self.ahead.into_events() {
            match event {
                Event::Message(message) => is_full = forward.add(message, weight),
                Event::Eof => forward.end(),
                _ => {}
            }
        }
        let mut driver = Driver::from_engine(self.engine, forward, self.opened);
        if is_full {
            driver.task().pause_for_queue();
        }
        let handle = driver.handle();
        match self.closed {
            None => spawner.spawn(driver),
            // The session is over and has been reported: a task would wait forever.
            Some(reason) => drop(driver.task().finish(clock::timestamp(R::now()), reason)),
        }
        (handle.clone(), Receiver::new(queue, handle, R::yield_now))
    }

    /// Ends the sending side and goes on receiving: "send, end, receive the answer". What was sent before is
    /// still written, by the calls that follow ([`recv`](Self::recv), [`flush`](Self::flush)); nothing can be
    /// sent after. See [`Session::half_close`].
    ///
    /// # Errors
    /// [`HalfCloseError`]: the session is not open, or it is a WebSocket, which has no half-close.
    pub fn half_close(&mut self) -> Result<(), HalfCloseError> {
        self.engine.session.half_close(clock::timestamp(R::now()))
    }

    /// Waits for the next event of any kind; returns `None` after [`Event::Closed`].
    ///
    /// For callers interested in cron, idleness and the other events. [`recv`](Self::recv) skips them.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn event(&mut self) -> Option<Event<In<P>>> {
        poll_fn(|cx| self.turn(cx, Half::Receiving, Self::poll_event)).await
    }

    fn poll_recv(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<Option<In<P>>, CloseReason>> {
        self.turn(cx, Half::Receiving, |this, cx, now| {
            loop {
                if this.read_ended && this.engine.session.is_open() {
                    return Poll::Ready(Ok(None));
                }
                match ready!(this.poll_event(cx, now)) {
                    Some(Event::Message(message)) => return Poll::Ready(Ok(Some(message))),
                    Some(event) => this.accept_client(now, &event),
                    None => return Poll::Ready(this.closed_cleanly().map(|()| None)),
                }
            }
        })
    }

    /// Accepts a client, if the event is a request.
    #[cfg_attr(not(feature = "websocket"), expect(unused_variables, reason = "there are no requests"))]
    fn accept_client(&mut self, now: Timestamp, event: &Event<In<P>>) {
        #[cfg(feature = "websocket")]
        if let Event::Request(_) = event {
            // A plain request cannot be accepted; it waits for the handshake's deadline.
            let _ = self.engine.session.respond(now, Verdict::Accept(Accept::new()));
        }
    }

    fn poll_closed(&mut self, cx: &mut TaskContext<'_>, how: Option<Close>) -> Poll<CloseReason> {
        if let Some(how) = how {
            // Before anything else, so that the session is closing whatever happens in this turn.
            self.stuck = None;
            let before = self.openness();
            self.engine.session.close(clock::timestamp(R::now()), how);
            if before != self.openness() {
                self.wakers.wake_other(Half::Sending);
            }
        }
        self.turn(cx, Half::Sending, |this, cx, now| {
            while ready!(this.poll_event(cx, now)).is_some() {}
            Poll::Ready(this.close_reason())
        })
    }

    /// The next event, after any I/O that it requires.
    fn poll_event(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> Poll<Option<Event<In<P>>>> {
        loop {
            if let Some(event) = self.next_event() {
                self.read_ended |= matches!(event, Event::Eof);
                return Poll::Ready(Some(event));
            }
            if self.closed.is_some() {
                return Poll::Ready(None);
            }
            ready!(self.poll_transport(cx, now));
        }
    }

    /// The next available event, for the receiving half.
    fn next_event(&mut self) -> Option<Event<In<P>>> {
        match self.ahead.pop() {
            None => self.decode(),
            event => {
                // This also counts as progress for the sending half, if it waits.
                if self.wakers.is_awaited(Half::Sending) {
                    self.stuck = None;
                }
                event
            }
        }
    }

    /// The next event of the session.
    fn decode(&mut self) -> Option<Event<In<P>>> {
        let event = self.engine.session.poll_event_within(self.work_limit())?;
        match &event {
            Event::Open(_) => self.opened = true,
            Event::Closed(reason) => self.closed = Some(reason.clone()),
            _ => {}
        }
        Some(event)
    }

    /// Writes and reads as far as possible; ready if anything changed for the session.
    fn poll_transport(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> Poll<()> {
        if self.is_spent() {
            return Poll::Pending;
        }
        let wrote = self.poll_write(cx, now);
        if self.engine.session.wants_shutdown() && !self.engine.has_bytes_to_write() {
            // While the transport takes its time, the peer may have something to say.
            if self.engine.poll_shutdown(cx, now).is_ready() {
                return Poll::Ready(());
            }
        }
        if self.engine.session.wants_read() && self.poll_read(cx, now).is_ready() {
            return Poll::Ready(());
        }
        wrote
    }

    /// Ready if anything was read, or reading failed. Calls the transport only if there may be something to
    /// read.
    fn poll_read(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> Poll<()> {
        if self.exhausted && !self.wakers.has_rung() {
            return Poll::Pending;
        }
        self.wakers.mute();
        let read = self.engine.poll_read(cx, now);
        self.exhausted = read.is_pending();
        if let Poll::Ready(n) = read {
            self.read += n as u64;
        }
        read.map(drop)
    }

    /// Whether this turn has used up its budget. The task then yields.
    fn is_spent(&mut self) -> bool {
        self.yields = self.budgets[self.half as usize].is_spent(self.done());
        self.yields
    }

    /// The session's work at which the budget is used up.
    fn work_limit(&self) -> u64 {
        self.budgets[self.half as usize].work_limit(self.read)
    }

    fn done(&self) -> Done {
        Done { read: self.read, work: self.engine.session.work() }
    }

    /// Ready if anything was written, or writing failed.
    fn poll_write(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> Poll<()> {
        let queued = self.engine.session.queued();
        if !self.engine.has_bytes_to_write() {
            return Poll::Pending;
        }
        match self.engine.poll_write(cx, now) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending if self.engine.session.queued() < queued => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }

    fn close_reason(&self) -> CloseReason {
        self.closed.as_deref().cloned().unwrap_or(CloseReason::Local { flushed: false })
    }

    fn closed_cleanly(&self) -> Result<(), CloseReason> {
        match &self.closed {
            Some(reason) if !reason.is_clean() => Err(CloseReason::clone(reason)),
            _ => Ok(()),
        }
    }

    /// Runs `work` at the present time, in borrowed memory, and arranges for the tasks to be woken by later
    /// events.
    fn turn<T>(
        &mut self,
        task: &mut TaskContext<'_>,
        half: Half,
        mut work: impl FnMut(&mut Self, &mut TaskContext<'_>, Timestamp) -> Poll<T>,
    ) -> Poll<T> {
        self.half = half;
        let done = self.done();
        self.budgets[half as usize].begin(done);
        if self.is_spent() {
            return self.end_turn(task, Poll::Pending);
        }
        let waker = self.wakers.register(half, task.waker());
        let cx = &mut TaskContext::from_waker(&waker);
        let now = clock::timestamp(R::now());
        let before = self.openness();
        let (cramped, unwritten) = (!self.has_room(), self.engine.has_bytes_to_write());
        let (was_empty, crowded) = (self.ahead.is_empty(), !self.ahead.has_much_room());
        self.engine.io.begin_turn();
        self.engine.session.lend(thread_memory::take());
        if self.engine.is_due(now) {
            // The last turn may be long ago: handle the stream's input first, then the deadlines.
            self.exhausted = false;
            let _ = self.poll_transport(cx, now);
        }
        let mut result = work(self, cx, now); // decodes what was read
        let expired = self.timing.judge(cx, self.engine.session.poll_timeout(), now) == Due::Now;
        if expired {
            self.engine.session.handle_timeout(now);
            if result.is_pending() {
                result = work(self, cx, now);
            }
        }
        thread_memory::give_back(self.engine.session.take_back());
        // A task that waits to receive also writes. The stream may then forget the task that waited to
        // write.
        let relieved = cramped && self.has_room() || unwritten && !self.engine.has_bytes_to_write();
        let changed = before != self.openness();
        let moved = was_empty && !self.ahead.is_empty() || crowded && self.ahead.has_much_room();
        if expired || changed || relieved || moved {
            self.wakers.wake_other(half);
        }
        if result.is_ready() {
            self.wakers.forget(half);
            self.timing.end_wait();
        } else if self.poll_timer(cx, now, half).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.end_turn(task, result)
    }

    /// Whether the session is open, and whether it is over. A change of either wakes both halves.
    fn openness(&self) -> (bool, bool) {
        (self.engine.session.is_open(), self.engine.session.is_over())
    }

    /// Yields if the budget is used up, and counts the result.
    fn end_turn<T>(&mut self, task: &mut TaskContext<'_>, result: Poll<T>) -> Poll<T> {
        if self.yields && result.is_pending() {
            R::yield_now(task);
        }
        self.yields = false;
        self.budgets[self.half as usize].end(result.is_ready());
        result
    }

    /// Arranges to be woken at the next deadline. Ready if that time has come.
    fn poll_timer(&mut self, cx: &mut TaskContext<'_>, now: Timestamp, half: Half) -> Poll<()> {
        let stuck =
            self.stuck.as_ref().filter(|stuck| stuck.is_full && self.wakers.is_awaited(Half::Sending));
        let at = stuck.map(|stuck| stuck.since + STUCK_AFTER);
        if at.is_some_and(|at| at <= now) {
            self.wakers.wake_other(half); // the sending half must notice
        }
        let stuck_at = at.filter(|at| *at > now);
        self.timing.poll(cx, earlier(self.engine.session.poll_timeout(), stuck_at))
    }
}

impl<R: Runtime, I, P: Protocol> fmt::Debug for Connection<R, I, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.closed).finish_non_exhaustive()
    }
}
