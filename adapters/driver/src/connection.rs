//! [`Connection`]: a session from which messages are pulled.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Wake, Waker, ready};

use futures_core::Stream;
use futures_sink::Sink;
#[cfg(feature = "websocket")]
use getty_core::websocket::{Accept, AnswerError, Verdict};
use getty_core::{
    Accepted, Close, CloseReason, Event, In, Opened, Out, SendError, Session, Stats, StreamProtocol,
    Timestamp,
};

use crate::driver::WRITE_AT;
use crate::engine::Engine;
use crate::receiver::{Forward, Receiver};
use crate::{Driver, Handle, Io, Runtime, Spawn, clock, lending};

/// A session from which messages are pulled, instead of a listener being called.
///
/// It owns everything: there is no task and no queue, and nothing happens unless one of its futures is
/// polled. That holds for timers too: deadlines pass only while something is awaited.
///
/// Receiving and sending may be awaited from two tasks (after `futures::StreamExt::split`, say); to have the
/// session live on its own, [`spawn`](Self::spawn) it.
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
pub struct Connection<R: Runtime, I, P> {
    engine: Engine<R, I, P>,
    wakers: Wakers,
    /// [`Event::Open`] has been polled.
    opened: bool,
    /// It was polled by who waited to send, and is to be told.
    untold: Option<Box<Opened>>,
    /// The peer has ended its stream.
    read_ended: bool,
    closed: Option<Box<CloseReason>>,
    /// The stream has given its error.
    failed: bool,
}

// No field is ever pinned.
impl<R: Runtime, I, P> Unpin for Connection<R, I, P> {}

impl<R: Runtime, I: Io, P: StreamProtocol> Connection<R, I, P> {
    /// Pulls messages of `session` from `io`.
    pub fn new(session: Session<P>, io: I) -> Self {
        Connection {
            engine: Engine::new(session, io),
            wakers: Wakers::default(),
            opened: false,
            untold: None,
            read_ended: false,
            closed: None,
            failed: false,
        }
    }

    /// Waits until the session is open: over TCP it is at once, over WebSocket when the handshake is done. Nothing can
    /// be sent before. What was agreed on is told once. A server lets every client in that comes so far; to choose, use [`event`](Self::event) and
    /// `answer`.
    ///
    /// # Errors
    /// Why the session ended instead.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future, except what it would have given.
    pub async fn opened(&mut self) -> Result<Box<Opened>, CloseReason> {
        poll_fn(|cx| {
            self.turn(cx, Half::Receiving, |this, cx, now| {
                while !this.opened || this.untold.is_some() {
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

    /// Answers [`Event::Request`].
    ///
    /// # Errors
    /// [`AnswerError`] says why not.
    #[cfg(feature = "websocket")]
    pub fn answer(&mut self, verdict: Verdict) -> Result<(), AnswerError> {
        self.engine.session.answer(clock::timestamp(R::now()), verdict)
    }

    /// Waits for the next message. `None` says that no more will come: the peer ended its stream (it may
    /// still read), or the session was closed. Then [`flush`](Self::flush) or [`close`](Self::close) sends what was
    /// fed last.
    ///
    /// What was [`feed`](Self::feed) is written before this waits.
    ///
    /// # Errors
    /// Why the session ended, if not cleanly. Every call after that gives the same.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn recv(&mut self) -> Result<Option<In<P>>, CloseReason> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Sends a message and waits until the transport has it.
    ///
    /// # Errors
    /// [`SinkError::Send`] if the message was not taken; it is never [`SendError::Blocked`], since this waits for
    /// room. [`SinkError::Closed`] if the session ended before the transport had all of it.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, the message may or may not have been accepted for
    /// sending; never a part of it. To know, use [`feed`](Self::feed) and [`flush`](Self::flush).
    pub async fn send(&mut self, item: Out<P>) -> Result<(), SinkError<Out<P>>> {
        self.feed(item).await?;
        self.flush().await.map_err(SinkError::Closed)
    }

    /// Accepts a message for sending, and waits if there is no room. It is written by [`flush`](Self::flush),
    /// by [`recv`](Self::recv) before it waits, or with others when much is queued.
    ///
    /// # Errors
    /// [`SendError`] says why it was not taken. [`SendError::Blocked`] does not come.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, the message was not accepted, and is dropped.
    pub async fn feed(&mut self, item: Out<P>) -> Result<Accepted, SendError<Out<P>>> {
        poll_fn(|cx| self.poll_room(cx)).await;
        self.accept(item)
    }

    /// Waits until the transport has everything that was accepted.
    ///
    /// # Errors
    /// Why the session ended, if it did.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn flush(&mut self) -> Result<(), CloseReason> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Closes the session and waits until it is over. Messages that were not pulled are dropped, whether or not `how`
    /// says to drain: [`recv`](Self::recv) them first.
    ///
    /// # Cancel safety
    /// Once polled, the session is closing; call it again to wait for the end.
    pub async fn close(&mut self, how: Close) -> CloseReason {
        let mut how = Some(how);
        poll_fn(|cx| self.poll_closed(cx, how.take())).await
    }

    /// What the session has done so far.
    pub fn stats(&self) -> Stats {
        self.engine.session.stats()
    }

    /// The stream.
    pub fn io(&self) -> &I {
        &self.engine.io
    }

    /// Moves the session to a task of its own; what it receives waits in the queue of the [`Receiver`], and
    /// the two halves may be used from different tasks.
    ///
    /// The queue holds [`Config::handle_queue`](getty_core::Config::handle_queue) messages; when it is full
    /// the session does not read.
    #[expect(clippy::type_complexity, reason = "the two halves, by what they carry")]
    pub fn spawn<S>(self, spawner: &S) -> (Handle<Out<P>>, Receiver<In<P>, Out<P>>)
    where
        S: Spawn<Driver<R, I, P, Forward<In<P>>>>,
        In<P>: 'static,
    {
        let limit = self.engine.session.config().handle_queue();
        let (forward, queue) = Forward::new(limit, self.read_ended);
        let mut driver = Driver::from_engine(self.engine, forward, self.opened);
        let handle = driver.handle();
        match self.closed {
            None => spawner.spawn(driver),
            // It is over and has been told: a task would wait for ever.
            Some(reason) => drop(driver.finish(reason)),
        }
        (handle.clone(), Receiver::new(queue, handle))
    }

    /// Waits for the next event of any kind; `None` after [`Event::Closed`].
    ///
    /// For those who want to know of cron, idleness and the rest. [`recv`](Self::recv) skips them.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
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

    /// Lets a client in, if that is what the event asks.
    #[cfg_attr(not(feature = "websocket"), expect(unused_variables, reason = "there are no requests"))]
    fn accept_client(&mut self, now: Timestamp, event: &Event<In<P>>) {
        #[cfg(feature = "websocket")]
        if let Event::Request(_) = event {
            // A plain request can't be let in; it then waits for the handshake's deadline.
            let _ = self.engine.session.answer(now, Verdict::Accept(Accept::new()));
        }
    }

    /// Who pulls messages waits for room to send; that must not stop messages from coming, as answers would.
    fn accept(&mut self, item: Out<P>) -> Result<Accepted, SendError<Out<P>>> {
        self.engine.session.end_answer();
        self.engine.session.send(item)
    }

    fn poll_room(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        self.turn(cx, Half::Sending, |this, cx, now| {
            while this.engine.session.is_opening() {
                match ready!(this.poll_event(cx, now)) {
                    Some(Event::Open(opened)) => this.untold = Some(opened),
                    Some(event) => this.accept_client(now, &event),
                    None => break,
                }
            }
            loop {
                if this.has_room() {
                    return Poll::Ready(());
                }
                ready!(this.poll_write(cx, now));
            }
        })
    }

    /// Whether who has a message to send need not wait.
    fn has_room(&self) -> bool {
        let session = &self.engine.session;
        !session.is_open() || session.is_writable() && session.queued() < WRITE_AT
    }

    fn poll_flush(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), CloseReason>> {
        self.turn(cx, Half::Sending, |this, cx, now| {
            while this.engine.wants_write() {
                ready!(this.poll_write(cx, now));
            }
            if this.engine.session.is_over() {
                while let Poll::Ready(Some(_)) = this.poll_event(cx, now) {}
                return Poll::Ready(this.closed_cleanly());
            }
            // Received messages are yet to be pulled, so the session is not over; but nothing more will be sent.
            if let Some(failure) = this.engine.unwritten() {
                return Poll::Ready(Err(CloseReason::Io(failure)));
            }
            let session = &this.engine.session;
            let progress = session.stats().progress;
            if progress.flushed < progress.accepted && !session.is_open() {
                // A layer failed, and what was queued went with it.
                let reason = session.close_reason().cloned();
                return Poll::Ready(Err(reason.unwrap_or(CloseReason::Local { flushed: false })));
            }
            Poll::Ready(Ok(()))
        })
    }

    fn poll_closed(&mut self, cx: &mut TaskContext<'_>, how: Option<Close>) -> Poll<CloseReason> {
        self.turn(cx, Half::Sending, |this, cx, now| {
            if let Some(how) = how {
                this.engine.session.close(now, how);
            }
            while ready!(this.poll_event(cx, now)).is_some() {}
            Poll::Ready(this.close_reason())
        })
    }

    /// The next event, after whatever I/O it takes.
    fn poll_event(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> Poll<Option<Event<In<P>>>> {
        loop {
            if let Some(opened) = self.untold.take() {
                return Poll::Ready(Some(Event::Open(opened)));
            }
            if self.closed.is_some() {
                return Poll::Ready(None);
            }
            if let Some(event) = self.engine.session.poll_event() {
                match &event {
                    Event::Open(_) => self.opened = true,
                    Event::ReadEnd => self.read_ended = true,
                    Event::Closed(reason) => self.closed = Some(reason.clone()),
                    _ => {}
                }
                return Poll::Ready(Some(event));
            }
            ready!(self.poll_transport(cx, now));
        }
    }

    /// Writes and reads what is possible; ready if anything changed for the session.
    fn poll_transport(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> Poll<()> {
        let wrote = self.poll_write(cx, now);
        if self.engine.session.wants_shutdown() && !self.engine.wants_write() {
            ready!(self.engine.poll_shutdown(cx, now));
            return Poll::Ready(());
        }
        if self.engine.session.wants_read() && self.engine.poll_read(cx, now).is_ready() {
            return Poll::Ready(());
        }
        wrote
    }

    /// Ready if anything was written, or writing failed.
    fn poll_write(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> Poll<()> {
        let queued = self.engine.session.queued();
        if !self.engine.wants_write() {
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

    /// Does `work` at the present time, in lent memory, and sees to it that the tasks wake for what comes.
    fn turn<T>(
        &mut self,
        cx: &mut TaskContext<'_>,
        half: Half,
        work: impl FnOnce(&mut Self, &mut TaskContext<'_>, Timestamp) -> Poll<T>,
    ) -> Poll<T> {
        let waker = self.wakers.register(half, cx.waker());
        let cx = &mut TaskContext::from_waker(waker.as_ref().unwrap_or(cx.waker()));
        let now = clock::timestamp(R::now());
        let before = (self.engine.session.is_open(), self.engine.session.is_over());
        let (cramped, unwritten) = (!self.has_room(), self.engine.wants_write());
        self.engine.io.begin_turn();
        self.engine.session.lend(lending::take());
        if self.engine.is_due(now) {
            // Nobody may have asked for long: what the stream has held since counts, and then the deadlines.
            let _ = self.poll_transport(cx, now);
        }
        let expired = self.engine.expire(cx, now);
        let result = work(self, cx, now);
        lending::give_back(self.engine.session.take_back());
        // Who waits to receive writes too, and with that a stream may forget who waited to write.
        let relieved = cramped && self.has_room() || unwritten && !self.engine.wants_write();
        let changed = before != (self.engine.session.is_open(), self.engine.session.is_over());
        if expired || changed || relieved {
            self.wakers.wake_other(half);
        }
        if result.is_ready() {
            self.wakers.forget(half);
            self.engine.end_wait();
        } else if self.engine.poll_timer(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        result
    }
}

impl<R: Runtime, I: Io, P: StreamProtocol> Stream for Connection<R, I, P> {
    type Item = Result<In<P>, CloseReason>;

    /// As [`recv`](Connection::recv), whose end without a message ends the stream. An error comes once.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let next = self.poll_recv(cx).map(Result::transpose);
        self.failed = matches!(next, Poll::Ready(Some(Err(_))));
        next
    }
}

impl<R: Runtime, I: Io, P: StreamProtocol> Sink<Out<P>> for Connection<R, I, P> {
    type Error = SinkError<Out<P>>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_room(cx).map(Ok)
    }

    fn start_send(mut self: Pin<&mut Self>, item: Out<P>) -> Result<(), Self::Error> {
        self.accept(item)?;
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        Connection::poll_flush(&mut self, cx).map_err(SinkError::Closed)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_closed(cx, Some(Close::graceful())));
        Poll::Ready(self.closed_cleanly().map_err(SinkError::Closed))
    }
}

impl<R: Runtime, I, P> fmt::Debug for Connection<R, I, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// Why a [`Connection`] as a `Sink` failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError<T> {
    /// An item was not taken.
    #[error(transparent)]
    Send(#[from] SendError<T>),
    /// The session is over.
    #[error("the session is over: {0}")]
    Closed(CloseReason),
}

/// Which future of a connection is polled.
#[derive(Debug, Clone, Copy)]
enum Half {
    Receiving,
    Sending,
}

impl Half {
    /// The places of this half and of the other one.
    fn order(self) -> [usize; 2] {
        match self {
            Half::Receiving => [0, 1],
            Half::Sending => [1, 0],
        }
    }
}

/// The tasks that wait for a connection. The transport knows one waker only, so when two tasks wait, it gets
/// one that wakes both.
#[derive(Debug, Default)]
struct Wakers {
    halves: [Option<Waker>; 2],
    both: Option<Arc<Both>>,
}

impl Wakers {
    /// Wakes who waits for the other half: something happened that is its business too. That may be the same task, whose
    /// turn with the other half is over already.
    fn wake_other(&self, half: Half) {
        let [_, other] = half.order();
        if let Some(waker) = &self.halves[other] {
            waker.wake_by_ref();
        }
    }

    /// Nobody waits for this half any more.
    fn forget(&mut self, half: Half) {
        let [mine, _] = half.order();
        self.halves[mine] = None;
    }

    /// Notes who waits; gives the waker for the transport if that is not the caller's own.
    fn register(&mut self, half: Half, waker: &Waker) -> Option<Waker> {
        let [mine, other] = half.order();
        if !self.halves[mine].as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.halves[mine] = Some(waker.clone());
        }
        if self.halves[other].as_ref().is_none_or(|known| known.will_wake(waker)) {
            return None;
        }
        let both = self.both.get_or_insert_default();
        *both.0.lock().unwrap_or_else(PoisonError::into_inner) = self.halves.clone();
        Some(Waker::from(both.clone()))
    }
}

/// Wakes both tasks.
#[derive(Debug, Default)]
struct Both(Mutex<[Option<Waker>; 2]>);

impl Wake for Both {
    fn wake(self: Arc<Self>) {
        let wakers = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
