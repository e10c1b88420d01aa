//! [`Context`]: the session as its listener's callbacks see it.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use getty_core::datagram::Path;
#[cfg(feature = "websocket")]
use getty_core::websocket::{RespondError, Verdict};
use getty_core::{
    Accepted, Close, Config, HalfCloseError, In, Messages, Out, Protocol, SendError, Seq, Session, Stats,
    Timestamp,
};

use crate::runtime::clock;
use crate::session::handle::Handle;
use crate::session::id::SessionId;
use crate::session::shared::Shared;
use crate::session::turn_budget::TurnBudget;

/// The session in a callback: commands and facts. One type for every transport.
pub struct Context<'a, M: Messages> {
    session: &'a mut dyn AnySession<M>,
    side: &'a mut SessionData<M::Out>,
    budget: &'a mut TurnBudget,
    first: &'a mut Option<M::In>,
    now: Timestamp,
}

/// The driver's own data about a session.
pub(crate) struct SessionData<T> {
    pub(crate) id: SessionId,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
    /// State shared by handles and the driver. Created on first use.
    pub(crate) shared: Option<Arc<Shared<T>>>,
    pub(crate) pause_reasons: PauseReasons,
    /// `on_open` has been called.
    pub(crate) opened: bool,
}

/// Reasons to pause the session. It resumes when none is left.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct PauseReasons {
    pub(crate) user: bool,
    /// A receiver's queue is full.
    pub(crate) queue: bool,
}

impl PauseReasons {
    pub(crate) fn any(self) -> bool {
        self.user || self.queue
    }
}

impl<T> SessionData<T> {
    pub(crate) fn shared(&mut self, config: &Config) -> &Arc<Shared<T>> {
        let SessionData { id, local, peer, .. } = *self;
        self.shared.get_or_insert_with(|| Arc::new(Shared::new(id, local, peer, config.handle_queue())))
    }
}

impl<'a, M: Messages> Context<'a, M> {
    pub(crate) fn new(
        session: &'a mut dyn AnySession<M>,
        side: &'a mut SessionData<M::Out>,
        budget: &'a mut TurnBudget,
        first: &'a mut Option<M::In>,
        now: Timestamp,
    ) -> Self {
        Context { session, side, budget, first, now }
    }

    /// Sends a message. It is written together with others once all input of this turn has been handled.
    ///
    /// # Errors
    /// [`SendError`] gives the reason. A listener that replies to each message with one of similar size
    /// never gets [`Blocked`](SendError::Blocked). After that error, `on_writable` reports when there is
    /// room.
    #[inline]
    pub fn send(&mut self, item: M::Out) -> Result<Accepted, SendError<M::Out>> {
        self.session.send(item)
    }

    /// Sends a message to any peer over an unconnected datagram socket. There, [`send`](Self::send) replies
    /// to the peer of the message being handled.
    ///
    /// # Errors
    /// As for [`send`](Self::send); [`SendError::Connected`] if the session has a single peer, as all
    /// streams do.
    pub fn send_to(&mut self, peer: SocketAddr, item: M::Out) -> Result<Accepted, SendError<M::Out>> {
        self.session.send_to(peer.into(), item)
    }

    /// Confirms that the peer owns its address, for example because it sent back something that only it can
    /// know. From here on, any amount may be sent to it. Applies to the sessions of a datagram socket's
    /// peers; elsewhere it has no effect. See
    /// [`PeerLimits::amplification`](getty_core::datagram::PeerLimits::amplification).
    pub fn validate_peer(&mut self) {
        self.session.validate();
    }

    /// Takes the next available message of a batch. See
    /// [`Listener::on_messages`](crate::Listener::on_messages).
    ///
    /// `None` means that this turn has no more messages; later turns may.
    #[inline]
    pub fn next_message(&mut self) -> Option<M::In> {
        if self.first.is_some() {
            return self.first.take();
        }
        // The message is passed on without inspecting it, which saves a copy.
        self.budget.events = self.budget.events.checked_sub(1)?;
        self.session.next_message(self.budget.work_limit)
    }

    /// Ends the session. `on_close` is called when it is done.
    pub fn close(&mut self, how: Close) {
        self.session.close(self.now, how);
    }

    /// Ends the sending side and goes on reading: "send, end, read the answer". See
    /// [`Session::half_close`](getty_core::Session::half_close).
    ///
    /// # Errors
    /// [`HalfCloseError`]: the session is not open, or it is a WebSocket or of datagrams, which have no
    /// half-close.
    pub fn half_close(&mut self) -> Result<(), HalfCloseError> {
        self.session.half_close(self.now)
    }

    /// Stops delivering messages, and so stops reading, until [`resume`](Self::resume).
    pub fn pause(&mut self) {
        self.side.pause_reasons.user = true;
        self.session.pause();
    }

    /// Weight of the message being handled, in bytes.
    pub(crate) fn last_weight(&self) -> usize {
        self.session.last_weight()
    }

    /// Pauses because a receiver's queue is full. Independent of the user's own pause.
    pub(crate) fn pause_for_queue(&mut self) {
        self.side.pause_reasons.queue = true;
        self.session.pause();
    }

    /// Resumes delivering messages.
    pub fn resume(&mut self) {
        self.side.pause_reasons.user = false;
        if !self.side.pause_reasons.any() {
            self.session.resume(self.now);
        }
    }

    /// Whether the send queue is at or below its high watermark, and no large message
    /// [is being encoded](getty_core::Session::is_encoding).
    pub fn is_writable(&self) -> bool {
        self.session.is_writable()
    }

    /// Requests `on_flushed` once the transport has every message sent so far; returns the last of them.
    pub fn notify_flushed(&mut self) -> Option<Seq> {
        self.session.notify_flushed()
    }

    /// Records a sign of life from the peer, such as the application's own heartbeat (Go getty's
    /// `UpdateActive`).
    pub fn update_active(&mut self) {
        self.session.update_active(self.now);
    }

    /// The time of this turn, by the runtime's clock. Does not read the clock.
    pub fn now(&self) -> Instant {
        clock::instant(self.now)
    }

    /// The time of this turn as the core counts it.
    #[cfg(feature = "rpc")]
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.now
    }

    /// The time of the peer's last sign of life as the core counts it.
    #[cfg(feature = "rpc")]
    pub(crate) fn last_heard(&self) -> Timestamp {
        self.session.last_active()
    }

    /// The work of its own that the listener may do in this turn, as [`Work::bytes`](getty_core::Work::bytes)
    /// counts it.
    #[cfg(feature = "rpc")]
    pub(crate) fn work_left(&self) -> u64 {
        self.budget.work()
    }

    /// Counts work of the listener. If it `goes_on`, this turn ends, and another one comes once other tasks
    /// had theirs.
    #[cfg(feature = "rpc")]
    pub(crate) fn count_work(&mut self, bytes: u64, goes_on: bool) {
        self.budget.count_work(bytes, goes_on);
    }

    /// The limits of the session.
    #[cfg(feature = "rpc")]
    pub(crate) fn config(&self) -> &Config {
        self.session.config()
    }

    /// What the session shares with handles, if there is anything.
    #[cfg(feature = "rpc")]
    pub(crate) fn shared(&self) -> Option<&Arc<Shared<M::Out>>> {
        self.side.shared.as_ref()
    }

    /// The driver's data about the session, and its limits.
    #[cfg(feature = "rpc")]
    pub(crate) fn data(&mut self) -> (&mut SessionData<M::Out>, &Config) {
        (self.side, self.session.config())
    }

    /// A time of the core by the runtime's clock.
    #[cfg(feature = "rpc")]
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        clock::instant(at)
    }

    /// The time of the peer's last sign of life: the opening, the last received bytes, or the last
    /// [`update_active`](Self::update_active).
    pub fn last_active(&self) -> Instant {
        clock::instant(self.session.last_active())
    }

    /// Statistics of the session so far.
    pub fn stats(&self) -> Stats {
        self.session.stats()
    }

    /// The session's number, unique in this process.
    pub fn id(&self) -> SessionId {
        self.side.id
    }

    /// The local address, if the transport has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.side.local
    }

    /// The peer's address, if the transport has one. Over an unconnected datagram socket, the sender of the
    /// message being handled.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.path().map(|path| path.peer).or(self.side.peer)
    }

    /// Over a datagram socket, the path of the message being handled.
    pub fn path(&self) -> Option<Path> {
        self.session.path()
    }

    /// Whether [`on_open`](crate::Listener::on_open) was called. It was not if, for example,
    /// [`on_close`](crate::Listener::on_close) follows a failed handshake.
    pub fn was_opened(&self) -> bool {
        self.side.opened
    }

    /// The name given by [`set_name`](Self::set_name).
    pub fn name(&self) -> Option<Arc<str>> {
        self.side.shared.as_ref()?.name()
    }

    /// Names the session, for logs and for holders of a handle.
    pub fn set_name(&mut self, name: impl Into<Arc<str>>) {
        self.side.shared(self.session.config()).set_name(name.into());
    }

    /// The attribute of type `T`, if one was set.
    pub fn attribute<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.side.shared.as_ref()?.attribute()
    }

    /// Stores `value` with the session under its type; returns the previous value.
    pub fn set_attribute<T: Any + Send + Sync>(&mut self, value: T) -> Option<Arc<T>> {
        self.side.shared(self.session.config()).set_attribute(value)
    }

    /// Removes and returns the attribute of type `T`.
    pub fn remove_attribute<T: Any + Send + Sync>(&mut self) -> Option<Arc<T>> {
        self.side.shared.as_ref()?.remove_attribute()
    }

    /// A handle for sending and closing from anywhere.
    pub fn handle(&mut self) -> Handle<M::Out> {
        let last_active = self.session.last_active();
        let stats = self.session.stats();
        let shared = self.side.shared(self.session.config());
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

/// A session of any protocol, as callbacks and handles use it: commands and facts.
pub(crate) trait AnySession<M: Messages> {
    fn send(&mut self, item: M::Out) -> Result<Accepted, SendError<M::Out>>;
    fn send_to(&mut self, _path: Path, item: M::Out) -> Result<Accepted, SendError<M::Out>> {
        Err(SendError::Connected(item))
    }
    /// Whether the message sent last is still being encoded.
    fn is_encoding(&self) -> bool {
        false
    }
    /// [`Work::bytes`](getty_core::Work::bytes) so far; 0 for sessions that do not count it.
    fn worked(&self) -> u64 {
        0
    }
    /// The next message, unless the session's work has reached `work_limit`.
    fn next_message(&mut self, work_limit: u64) -> Option<M::In>;
    /// Weight of the last message taken; 0 where it is not needed.
    fn last_weight(&self) -> usize {
        0
    }
    fn path(&self) -> Option<Path> {
        None
    }
    fn validate(&mut self) {}
    #[cfg(feature = "websocket")]
    fn respond(&mut self, _now: Timestamp, _verdict: Verdict) -> Result<(), RespondError> {
        Err(RespondError::NotAsked)
    }
    fn end_reply(&mut self);
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
    /// Whether it is open, or has ended only its sending side.
    fn is_live(&self) -> bool {
        self.is_open()
    }
    fn is_over(&self) -> bool;
    fn is_writable(&self) -> bool;
    fn notify_flushed(&mut self) -> Option<Seq>;
    fn update_active(&mut self, now: Timestamp);
    fn last_active(&self) -> Timestamp;
    fn stats(&self) -> Stats;
    fn config(&self) -> &Config;
}

impl<P: Protocol> AnySession<<P as Protocol>::Messages> for Session<P> {
    #[inline]
    fn send(&mut self, item: Out<P>) -> Result<Accepted, SendError<Out<P>>> {
        Session::send(self, item)
    }

    #[inline]
    fn next_message(&mut self, work_limit: u64) -> Option<In<P>> {
        if self.worked() >= work_limit {
            return None;
        }
        Session::poll_message_within(self, work_limit)
    }

    #[inline]
    fn is_encoding(&self) -> bool {
        Session::is_encoding(self)
    }

    #[inline]
    fn worked(&self) -> u64 {
        self.work().bytes
    }

    fn last_weight(&self) -> usize {
        Session::last_weight(self)
    }

    #[cfg(feature = "websocket")]
    fn respond(&mut self, now: Timestamp, verdict: Verdict) -> Result<(), RespondError> {
        Session::respond(self, now, verdict)
    }

    fn end_reply(&mut self) {
        Session::end_reply(self);
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

    fn config(&self) -> &Config {
        Session::config(self)
    }
}
