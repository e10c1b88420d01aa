//! [`Context`]: what a callback can do with its session.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use getty_core::datagram::Path;
#[cfg(feature = "websocket")]
use getty_core::websocket::{AnswerError, Verdict};
use getty_core::{
    Accepted, Close, HalfCloseError, In, Messages, Out, Protocol, SendError, Seq, Session, Stats,
    StreamProtocol, Timestamp,
};

use crate::runtime::clock;
use crate::session::handle::Handle;
use crate::session::id::SessionId;
use crate::session::shared::Shared;

/// How many messages and other events are delivered in one turn.
pub(crate) const TURN_MESSAGES: u32 = 128;

/// The session of a callback: commands and facts. The same type over every transport.
pub struct Context<'a, M: Messages> {
    session: &'a mut dyn Commands<M>,
    side: &'a mut Side<M::Out>,
    first: &'a mut Option<M::In>,
    now: Timestamp,
}

/// What a driver knows of its session besides the session.
pub(crate) struct Side<T> {
    pub(crate) id: SessionId,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    /// What handles and the driver share. Made on first use.
    pub(crate) shared: Option<Arc<Shared<T>>>,
    /// How many messages may still be delivered in this turn.
    pub(crate) budget: u32,
    /// The most that the session's work may come to in this turn.
    pub(crate) work_limit: u64,
    pub(crate) handle_queue: usize,
    pub(crate) holds: Holds,
    /// `on_open` was called.
    pub(crate) opened: bool,
}

/// Who wants the session to be paused. It is resumed when neither does.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Holds {
    pub(crate) user: bool,
    /// The queue of a receiver is full.
    pub(crate) queue: bool,
}

impl Holds {
    pub(crate) fn any(self) -> bool {
        self.user || self.queue
    }
}

impl<T> Side<T> {
    pub(crate) fn shared(&mut self) -> &Arc<Shared<T>> {
        let Side { id, local, peer, handle_queue, .. } = *self;
        self.shared.get_or_insert_with(|| Arc::new(Shared::new(id, local, peer, handle_queue)))
    }
}

impl<'a, M: Messages> Context<'a, M> {
    pub(crate) fn new(
        session: &'a mut dyn Commands<M>,
        side: &'a mut Side<M::Out>,
        first: &'a mut Option<M::In>,
        now: Timestamp,
    ) -> Self {
        Context { session, side, first, now }
    }

    /// Sends a message. It is written with others when all input of this turn has been handled.
    ///
    /// # Errors
    /// [`SendError`] says why not. A listener that answers each message with one of like size is never
    /// [`Blocked`](SendError::Blocked); after that error, `on_writable` tells when there is room.
    #[inline]
    pub fn send(&mut self, item: M::Out) -> Result<Accepted, SendError<M::Out>> {
        self.session.send(item)
    }

    /// Sends a message to any peer, over a datagram socket that is not connected. There,
    /// [`send`](Self::send) answers the peer of the message that is being handled.
    ///
    /// # Errors
    /// As for [`send`](Self::send); [`SendError::Connected`] if the session has one peer only, as all streams do.
    pub fn send_to(&mut self, peer: SocketAddr, item: M::Out) -> Result<Accepted, SendError<M::Out>> {
        self.session.send_to(peer.into(), item)
    }

    /// The peer has shown that it is where it says, by sending back something that only it can know, for example: from here
    /// on any amount may be sent to it. For sessions of a datagram socket's peers; elsewhere it does nothing. See
    /// [`PeerLimits::amplification`](getty_core::datagram::PeerLimits::amplification).
    pub fn validate_peer(&mut self) {
        self.session.validate();
    }

    /// Takes the next message that is here, in a batch of messages. See
    /// [`Listener::on_messages`](crate::Listener::on_messages).
    ///
    /// `None` means that this turn of the session has no more, not that no more will come.
    #[inline]
    pub fn next_message(&mut self) -> Option<M::In> {
        if self.first.is_some() {
            return self.first.take();
        }
        // What is found is not looked at here: passing it on as it is saves a copy per message.
        self.side.budget = self.side.budget.checked_sub(1)?;
        self.session.next_message(self.side.work_limit)
    }

    /// Ends the session. `on_close` comes when it is done.
    pub fn close(&mut self, how: Close) {
        self.session.close(self.now, how);
    }

    /// Ends the sending side and goes on reading: "send, end, read the answer". See
    /// [`Session::half_close`](getty_core::Session::half_close).
    ///
    /// # Errors
    /// [`HalfCloseError`]: the session is not open, or it is a WebSocket or of datagrams, which have no half-close.
    pub fn half_close(&mut self) -> Result<(), HalfCloseError> {
        self.session.half_close(self.now)
    }

    /// Stops delivering messages, and so stops reading, until [`resume`](Self::resume).
    pub fn pause(&mut self) {
        self.side.holds.user = true;
        self.session.pause();
    }

    /// The weight of the message that is being handled, in bytes.
    pub(crate) fn last_weight(&self) -> usize {
        self.session.last_weight()
    }

    /// The same for the queue of a receiver, which is another matter than what the user wants.
    pub(crate) fn hold(&mut self) {
        self.side.holds.queue = true;
        self.session.pause();
    }

    /// Goes on delivering messages.
    pub fn resume(&mut self) {
        self.side.holds.user = false;
        if !self.side.holds.any() {
            self.session.resume(self.now);
        }
    }

    /// Whether the send queue is at or below its high watermark.
    pub fn is_writable(&self) -> bool {
        self.session.is_writable()
    }

    /// Asks for `on_flushed` once the transport has every message sent so far; gives the last of them.
    pub fn notify_flushed(&mut self) -> Option<Seq> {
        self.session.notify_flushed()
    }

    /// Notes a sign of life of the peer, such as the application's own heartbeat (Go getty's
    /// `UpdateActive`).
    pub fn update_active(&mut self) {
        self.session.update_active(self.now);
    }

    /// The time of this turn, by the runtime's clock. Costs no reading of it.
    pub fn now(&self) -> Instant {
        clock::instant(self.now)
    }

    /// When the peer last gave a sign of life: the opening, the last received bytes, or the last
    /// [`update_active`](Self::update_active).
    pub fn last_active(&self) -> Instant {
        clock::instant(self.session.last_active())
    }

    /// What the session has done so far.
    pub fn stats(&self) -> Stats {
        self.session.stats()
    }

    /// The session's number, unique in this process.
    pub fn id(&self) -> SessionId {
        self.side.id
    }

    /// This end's address, where the transport has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.side.local
    }

    /// The peer's address, where the transport has one. Over a datagram socket that is not connected, whose message is
    /// being handled.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.path().map(|path| path.peer).or(self.side.peer)
    }

    /// Over a datagram socket, the way that the message took which is being handled.
    pub fn path(&self) -> Option<Path> {
        self.session.path()
    }

    /// Whether [`on_open`](crate::Listener::on_open) was called: not in
    /// [`on_close`](crate::Listener::on_close) of a session whose handshake failed, for one.
    pub fn was_opened(&self) -> bool {
        self.side.opened
    }

    /// The name given by [`set_name`](Self::set_name).
    pub fn name(&self) -> Option<Arc<str>> {
        self.side.shared.as_ref()?.name()
    }

    /// Names the session, for logs and for whoever holds a handle.
    pub fn set_name(&mut self, name: impl Into<Arc<str>>) {
        self.side.shared().set_name(name.into());
    }

    /// The attribute of type `T`, if one was set.
    pub fn attribute<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.side.shared.as_ref()?.attribute()
    }

    /// Keeps `value` with the session, under its type; gives what was there before.
    pub fn set_attribute<T: Any + Send + Sync>(&mut self, value: T) -> Option<Arc<T>> {
        self.side.shared().set_attribute(value)
    }

    /// Takes the attribute of type `T` away.
    pub fn remove_attribute<T: Any + Send + Sync>(&mut self) -> Option<Arc<T>> {
        self.side.shared.as_ref()?.remove_attribute()
    }

    /// A handle, to send and to close from anywhere.
    pub fn handle(&mut self) -> Handle<M::Out> {
        let last_active = self.session.last_active();
        let stats = self.session.stats();
        let shared = self.side.shared();
        shared.publish(last_active, stats);
        Handle::new(shared.clone())
    }
}

impl<M: Messages> std::fmt::Debug for Context<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.side.id)
            .field("peer", &self.side.peer)
            .finish_non_exhaustive()
    }
}

/// What a callback or a handle may ask of a session, whatever the session speaks.
pub(crate) trait Commands<M: Messages> {
    fn send(&mut self, item: M::Out) -> Result<Accepted, SendError<M::Out>>;
    fn send_to(&mut self, _path: Path, item: M::Out) -> Result<Accepted, SendError<M::Out>> {
        Err(SendError::Connected(item))
    }
    /// What [`Work::bytes`](getty_core::Work::bytes) has come to; 0 where there is no such work.
    fn worked(&self) -> u64 {
        0
    }
    /// The next message, unless the session's work has come to `work_limit`.
    fn next_message(&mut self, work_limit: u64) -> Option<M::In>;
    /// The weight of the message that was taken last; 0 where it is not needed.
    fn last_weight(&self) -> usize {
        0
    }
    fn path(&self) -> Option<Path> {
        None
    }
    fn validate(&mut self) {}
    #[cfg(feature = "websocket")]
    fn answer(&mut self, _now: Timestamp, _verdict: Verdict) -> Result<(), AnswerError> {
        Err(AnswerError::NotAsked)
    }
    fn end_answer(&mut self);
    fn close(&mut self, now: Timestamp, how: Close);
    fn half_close(&mut self, _now: Timestamp) -> Result<(), HalfCloseError> {
        Err(HalfCloseError::Unsupported)
    }
    fn pause(&mut self);
    fn resume(&mut self, now: Timestamp);
    fn is_opening(&self) -> bool {
        false
    }
    fn is_open(&self) -> bool;
    /// Whether it is open, or only its sending side has ended.
    fn is_live(&self) -> bool {
        self.is_open()
    }
    fn is_over(&self) -> bool;
    fn is_writable(&self) -> bool;
    fn notify_flushed(&mut self) -> Option<Seq>;
    fn update_active(&mut self, now: Timestamp);
    fn last_active(&self) -> Timestamp;
    fn stats(&self) -> Stats;
}

impl<P: StreamProtocol> Commands<<P as Protocol>::Messages> for Session<P> {
    #[inline]
    fn send(&mut self, item: Out<P>) -> Result<Accepted, SendError<Out<P>>> {
        Session::send(self, item)
    }

    #[inline]
    fn next_message(&mut self, work_limit: u64) -> Option<In<P>> {
        if self.worked() >= work_limit {
            return None;
        }
        Session::poll_message(self)
    }

    #[inline]
    fn worked(&self) -> u64 {
        self.work().bytes
    }

    fn last_weight(&self) -> usize {
        Session::last_weight(self)
    }

    #[cfg(feature = "websocket")]
    fn answer(&mut self, now: Timestamp, verdict: Verdict) -> Result<(), AnswerError> {
        Session::answer(self, now, verdict)
    }

    fn end_answer(&mut self) {
        Session::end_answer(self);
    }

    fn close(&mut self, now: Timestamp, how: Close) {
        Session::close(self, now, how);
    }

    fn half_close(&mut self, now: Timestamp) -> Result<(), HalfCloseError> {
        Session::half_close(self, now)
    }

    fn pause(&mut self) {
        Session::pause(self);
    }

    fn resume(&mut self, now: Timestamp) {
        Session::resume(self, now);
    }

    fn is_opening(&self) -> bool {
        Session::is_opening(self)
    }

    fn is_open(&self) -> bool {
        Session::is_open(self)
    }

    fn is_live(&self) -> bool {
        self.is_open() || !self.is_opening() && self.close_reason().is_none() && !self.is_over()
    }

    fn is_over(&self) -> bool {
        Session::is_over(self)
    }

    fn is_writable(&self) -> bool {
        Session::is_writable(self)
    }

    fn notify_flushed(&mut self) -> Option<Seq> {
        Session::notify_flushed(self)
    }

    fn update_active(&mut self, now: Timestamp) {
        Session::update_active(self, now);
    }

    fn last_active(&self) -> Timestamp {
        Session::last_active(self)
    }

    fn stats(&self) -> Stats {
        Session::stats(self)
    }
}
