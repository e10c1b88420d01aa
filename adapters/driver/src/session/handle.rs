//! [`Handle`]: access to a session from anywhere.

use std::any::Any;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use event_listener::EventListener;
#[cfg(feature = "websocket")]
use getty_core::websocket::Verdict;
use getty_core::{Close, CloseReason, HalfCloseError, IoFailure, SendError, Seq, Stats};

use crate::session::id::SessionId;
use crate::session::outcome::{Outcome, outcome};
use crate::session::shared::{Entry, NotPosted, Shared};

/// Sends to a session and closes it from anywhere, without owning it. Cheap to clone; one type for every
/// transport.
///
/// Posted items go through a queue of [`Config::handle_queue`](getty_core::Config::handle_queue) items to
/// the task that owns the session. A handle does not keep the session alive.
///
/// The queue counts items, not bytes: the size of an item is unknown until the session encodes it. Nothing
/// can be posted while more than the high [watermark](getty_core::ConfigBuilder::watermarks) waits to be
/// written, but until the session's next turn the queue may fill with items of any size: 256 of 1 MiB are
/// 256 MiB. For large items, lower `handle_queue`, or await [`send_flushed`](Self::send_flushed) before
/// making the next one.
pub struct Handle<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Handle<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Self {
        Handle { shared }
    }

    /// Posts an item if there is room for it now.
    ///
    /// `Ok` means posted. If the item later proves too large or cannot be encoded,
    /// [`Listener::on_send_error`](crate::Listener::on_send_error) receives the error.
    ///
    /// # Errors
    /// [`SendError::Blocked`] if the queue is full, the session is above its high watermark or compresses a
    /// large message, or a [half-close](Self::half_close) is not decided yet. [`SendError::Closed`] if the
    /// session or its sending side has ended, or a handle has requested its close. Both return the item.
    pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        self.shared.try_post(Entry::new(item))
    }

    /// Posts an item for `peer`, over an unconnected datagram socket, if there is room for it now.
    ///
    /// # Errors
    /// As for [`try_send`](Self::try_send). If the session has a single peer,
    /// [`Listener::on_send_error`](crate::Listener::on_send_error) receives the error.
    pub fn try_send_to(&self, peer: SocketAddr, item: T) -> Result<(), SendError<T>> {
        self.shared.try_post(Entry { to: Some(peer), ..Entry::new(item) })
    }

    /// Posts an item; waits for room if there is none.
    ///
    /// # Errors
    /// [`SendError::Closed`] with the item, if the session or its sending side has ended.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, the item was not posted and is dropped with it.
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.post_when_there_is_room(Entry::new(item), pin!(pending::<()>())).await
    }

    /// Posts an item for `peer`, over an unconnected datagram socket; waits for room if there is none.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub async fn send_to(&self, peer: SocketAddr, item: T) -> Result<(), SendError<T>> {
        let entry = Entry { to: Some(peer), ..Entry::new(item) };
        self.post_when_there_is_room(entry, pin!(pending::<()>())).await
    }

    /// Posts an item and waits until the transport has all of it, or until it is certain that it will not.
    ///
    /// # Errors
    /// [`NotFlushed`] says what is known of the item.
    ///
    /// # Cancel safety
    /// Once the item is posted, dropping the future does not take it back. To stop waiting and learn where
    /// the item is, use [`send_flushed_until`](Self::send_flushed_until).
    pub async fn send_flushed(&self, item: T) -> Result<Seq, NotFlushed<T>> {
        self.send_flushed_until(item, pending::<()>()).await
    }

    /// As [`send_flushed`](Self::send_flushed), but waits only until `until` is ready: typically a timer of
    /// the runtime. It limits this send alone: the session goes on, with its own [write stall
    /// limit](getty_core::ConfigBuilder::write_stall_timeout).
    /// ```
    /// # use std::time::Duration;
    /// # use getty_driver::{Handle, NotFlushed};
    /// # async fn sleep(_: Duration) {}
    /// # async fn example(handle: Handle<String>, item: String) {
    /// match handle.send_flushed_until(item, sleep(Duration::from_secs(1))).await {
    ///     Ok(seq) => println!("the transport has {seq} and all before it"),
    ///     Err(NotFlushed::TakenBack(item)) => println!("{item} was not sent: it may go another way"),
    ///     Err(NotFlushed::Pending(seq)) => println!("{seq} is in progress and cannot be taken back"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotFlushed`] says what is known of the item. If `until` is ready first, that is
    /// [`NotFlushed::TakenBack`] while the session has not taken the item, and [`NotFlushed::Pending`]
    /// afterwards.
    ///
    /// # Cancel safety
    /// As for [`send_flushed`](Self::send_flushed).
    pub async fn send_flushed_until(&self, item: T, until: impl Future) -> Result<Seq, NotFlushed<T>> {
        let mut until = pin!(until);
        let (reporter, waiter) = outcome();
        let entry = Entry { reporter: Some(reporter), ..Entry::new(item) };
        self.post_when_there_is_room(entry, until.as_mut()).await.map_err(|error| match error {
            SendError::Blocked(item) => NotFlushed::TakenBack(item),
            error => NotFlushed::NotSent(error),
        })?;
        let mut is_over = false;
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = waiter.poll(cx) {
                return Poll::Ready(match outcome {
                    Outcome::Flushed(seq) => Ok(seq),
                    Outcome::Partly(seq) => Err(NotFlushed::Partly(seq)),
                    Outcome::Unknown(seq) => Err(NotFlushed::Unknown(seq)),
                    Outcome::Unwritten(seq) => Err(NotFlushed::Unwritten(seq)),
                    Outcome::NotTaken => Err(NotFlushed::Dropped),
                    Outcome::Unsent(seq, failure) => Err(NotFlushed::Unsent(seq, failure)),
                });
            }
            is_over = is_over || until.as_mut().poll(cx).is_ready();
            if !is_over {
                return Poll::Pending;
            }
            match (waiter.hurry(), self.shared.take_back(&waiter)) {
                (Some(seq), _) => Poll::Ready(Err(NotFlushed::Pending(seq))),
                (None, Some(item)) => Poll::Ready(Err(NotFlushed::TakenBack(item))),
                // The session is processing the item right now and reports when it is done.
                (None, None) => Poll::Pending,
            }
        })
        .await
    }

    /// Returns the item as blocked if `until` is ready first.
    async fn post_when_there_is_room(
        &self,
        mut entry: Entry<T>,
        mut until: Pin<&mut impl Future>,
    ) -> Result<(), SendError<T>> {
        let mut listener: Option<EventListener> = None;
        loop {
            entry = match self.shared.post(entry) {
                Ok(()) => return Ok(()),
                Err((entry, NotPosted::Closed)) => return Err(SendError::Closed(entry.item)),
                Err((entry, NotPosted::Blocked)) => entry,
            };
            let Some(mut heard) = listener.take() else {
                // Room may have appeared before this listener was registered: try once more.
                listener = Some(self.shared.listen_for_room());
                continue;
            };
            let in_time = poll_fn(|cx| match Pin::new(&mut heard).poll(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => until.as_mut().poll(cx).map(|_| false),
            });
            if !in_time.await {
                return Err(SendError::Blocked(entry.item));
            }
        }
    }

    /// Ends the session. A graceful close comes after everything posted before it; nothing can be posted
    /// after it. While a handshake is in progress (TLS, WebSocket) nothing can be sent:
    /// [`take_unsent`](Self::take_unsent) then returns what was posted.
    pub fn close(&self, how: Close) {
        self.shared.close(how);
    }

    /// Ends the sending side of the session, which goes on reading: "send, end, read the answer". What was
    /// posted before is sent first; nothing can be posted after, unless the half-close is refused: until that
    /// is decided, senders wait. See [`Session::half_close`](getty_core::Session::half_close).
    ///
    /// # Errors
    /// [`HalfCloseError`]: the session is closing or closed, or it is a WebSocket or of datagrams, which have
    /// no half-close. Those go on.
    ///
    /// # Cancel safety
    /// The request stands if the future is dropped.
    pub async fn half_close(&self) -> Result<(), HalfCloseError> {
        self.shared.half_close().await
    }

    /// Responds to a WebSocket client's request after the listener returned [`Verdict::Defer`]. The first
    /// response counts. Has no effect when no request is waiting.
    #[cfg(feature = "websocket")]
    pub fn respond(&self, verdict: Verdict) {
        self.shared.ask(|asked| {
            asked.verdict.get_or_insert_with(|| Box::new(verdict));
        });
    }

    /// Stops delivering messages to the listener, and so stops reading, until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.shared.ask(|asked| asked.pause = Some(true));
    }

    /// Resumes delivering messages.
    pub fn resume(&self) {
        self.shared.ask(|asked| asked.pause = Some(false));
    }

    /// Ends the pause caused by a receiver's full queue.
    pub(crate) fn end_queue_pause(&self) {
        self.shared.ask(|asked| asked.end_queue_pause = true);
    }

    /// Waits until the session is over and returns the reason.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn closed(&self) -> CloseReason {
        self.shared.closed().await
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.shared.is_over()
    }

    /// Takes the items that were posted but never reached the session, in order. Empty until the session is
    /// over. Items posted to a [`Pool`](crate::Pool) are not among them: the pool gives those to another
    /// session.
    pub fn take_unsent(&self) -> Vec<T> {
        self.shared.take_items(false)
    }

    /// Posts an item of a pool. [`take_pooled`](Self::take_pooled) returns it, not
    /// [`take_unsent`](Self::take_unsent).
    pub(crate) fn post_pooled(&self, item: T) -> Result<(), SendError<T>> {
        self.shared.try_post(Entry { pooled: true, ..Entry::new(item) })
    }

    /// Takes the items of a pool that never reached the session. Empty until the session is over.
    pub(crate) fn take_pooled(&self) -> Vec<T> {
        self.shared.take_items(true)
    }

    /// Whether an item can be posted now.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    /// The load waiting to be sent: bytes that the peer has not taken, with each unencoded item counted as
    /// one. `None` if nothing can be posted any longer.
    pub(crate) fn load(&self) -> Option<usize> {
        self.shared.load()
    }

    /// Listens for room, or for the end of the session.
    pub(crate) fn listen_for_room(&self) -> EventListener {
        self.shared.listen_for_room()
    }

    /// The time of the peer's last sign of life, as of the session's last turn.
    pub fn last_active(&self) -> Instant {
        self.shared.last_active()
    }

    /// Statistics of the session, as of its last turn.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The session's number.
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// The local address, if the transport has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.shared.local
    }

    /// The peer's address, if the transport has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.shared.peer
    }

    /// The name given by [`set_name`](Self::set_name).
    pub fn name(&self) -> Option<Arc<str>> {
        self.shared.name()
    }

    /// Names the session.
    pub fn set_name(&self, name: impl Into<Arc<str>>) {
        self.shared.set_name(name.into());
    }

    /// The attribute of type `A`, if one was set. Attributes are dropped when the session is over.
    pub fn attribute<A: Any + Send + Sync>(&self) -> Option<Arc<A>> {
        self.shared.attribute()
    }

    /// Stores `value` with the session under its type; returns the previous value.
    pub fn set_attribute<A: Any + Send + Sync>(&self, value: A) -> Option<Arc<A>> {
        self.shared.set_attribute(value)
    }

    /// Removes and returns the attribute of type `A`.
    pub fn remove_attribute<A: Any + Send + Sync>(&self) -> Option<Arc<A>> {
        self.shared.remove_attribute()
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Handle { shared: self.shared.clone() }
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("id", &self.shared.id)
            .field("peer", &self.shared.peer)
            .finish_non_exhaustive()
    }
}

/// Reason for the failure of [`Handle::send_flushed`]: what is known of the item.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NotFlushed<T> {
    /// The item was not posted; it is returned.
    #[error("not sent: {0}")]
    NotSent(SendError<T>),
    /// The time ran out before the session took the item; it is returned.
    #[error("not sent: the time ran out before the session took it")]
    TakenBack(T),
    /// The time ran out after the session took the item. The session goes on sending it; [`Handle::stats`]
    /// shows the progress.
    #[error("not sent yet: message {0} is still being written; the session goes on sending it")]
    Pending(Seq),
    /// The item never became part of the session's output. Either the session ended before
    /// ([`Handle::take_unsent`] has the item), or it refused the item
    /// ([`Listener::on_send_error`](crate::Listener::on_send_error) has it), or its encoder panicked.
    #[error("not sent: the session ended before it took the item, or refused it")]
    Dropped,
    /// The transport took none of the item.
    #[error("not sent: the session ended before message {0} was written")]
    Unwritten(Seq),
    /// The transport took a part of the item.
    #[error("partly sent: the session ended after a part of message {0} was written")]
    Partly(Seq),
    /// The socket could not send its datagram. The session goes on.
    #[error("not sent: the socket refused the datagram of message {0}: {1}")]
    Unsent(Seq, IoFailure),
    /// A layer (TLS) sealed the item together with others, and the transport took a part of the result.
    /// Whether the peer can read the item is unknown.
    #[error(
        "unknown whether sent: the session ended while message {0} was being written, sealed with others"
    )]
    Unknown(Seq),
}

impl<T> fmt::Debug for NotFlushed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotFlushed::NotSent(error) => f.debug_tuple("NotSent").field(error).finish(),
            NotFlushed::TakenBack(_) => f.debug_tuple("TakenBack").finish_non_exhaustive(),
            NotFlushed::Pending(seq) => f.debug_tuple("Pending").field(seq).finish(),
            NotFlushed::Dropped => f.write_str("Dropped"),
            NotFlushed::Unwritten(seq) => f.debug_tuple("Unwritten").field(seq).finish(),
            NotFlushed::Partly(seq) => f.debug_tuple("Partly").field(seq).finish(),
            NotFlushed::Unsent(seq, failure) => f.debug_tuple("Unsent").field(seq).field(failure).finish(),
            NotFlushed::Unknown(seq) => f.debug_tuple("Unknown").field(seq).finish(),
        }
    }
}
