//! [`Handle`]: a session, from anywhere.

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
use crate::session::outcome::{Fate, fate};
use crate::session::shared::{Entry, NotPosted, Shared};

/// A session, from anywhere: sends and closes without owning it. Cheap to clone; one type for every transport.
///
/// What is posted goes through a queue of [`Config::handle_queue`](getty_core::Config::handle_queue) items
/// to the task that owns the session. A handle does not keep the session alive.
///
/// That queue counts items, not bytes: the size of an item is not known before the session encodes it.
/// Nothing is posted while more than the high [watermark](getty_core::ConfigBuilder::watermarks) waits to be
/// written, but until the session has its next turn the queue may fill with items of any size: 256 of 1 MiB
/// are 256 MiB. Where items are large, lower `handle_queue`, or wait for [`send_flushed`](Self::send_flushed)
/// before the next one is made.
pub struct Handle<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Handle<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>) -> Self {
        Handle { shared }
    }

    /// Posts an item, if there is room for it now.
    ///
    /// `Ok` means posted. If it then turns out too large or not encodable,
    /// [`Listener::on_send_error`](crate::Listener::on_send_error) is told.
    ///
    /// # Errors
    /// [`SendError::Blocked`] if the queue is full or the session is above its high watermark,
    /// [`SendError::Closed`] if the session is over, or a handle has asked to close it. Both give the item back.
    pub fn try_send(&self, item: T) -> Result<(), SendError<T>> {
        self.shared.try_post(Entry::new(item))
    }

    /// The same for a session of a datagram socket that is not connected: the item is for `peer`.
    ///
    /// # Errors
    /// As for [`try_send`](Self::try_send). That the session has one peer only is told to
    /// [`Listener::on_send_error`](crate::Listener::on_send_error).
    pub fn try_send_to(&self, peer: SocketAddr, item: T) -> Result<(), SendError<T>> {
        self.shared.try_post(Entry { to: Some(peer), ..Entry::new(item) })
    }

    /// Posts an item, and waits for room if there is none.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the session is over, with the item.
    ///
    /// # Cancel safety
    /// An item whose future is dropped before it is ready was not posted, and is dropped with it.
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        self.post_when_there_is_room(Entry::new(item), pin!(pending::<()>())).await
    }

    /// The same for a session of a datagram socket that is not connected: the item is for `peer`.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the session is over, with the item.
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub async fn send_to(&self, peer: SocketAddr, item: T) -> Result<(), SendError<T>> {
        let entry = Entry { to: Some(peer), ..Entry::new(item) };
        self.post_when_there_is_room(entry, pin!(pending::<()>())).await
    }

    /// Posts an item and waits until the transport has all of it, or until it is known that it will not.
    ///
    /// # Errors
    /// [`NotFlushed`] tells what is known of the item.
    ///
    /// # Cancel safety
    /// Once the item is posted, dropping the future does not take it back. To stop waiting, and to know where the item
    /// is then, use [`send_flushed_until`](Self::send_flushed_until).
    pub async fn send_flushed(&self, item: T) -> Result<Seq, NotFlushed<T>> {
        self.send_flushed_until(item, pending::<()>()).await
    }

    /// The same, but waits no longer than `until` does: a timer of the runtime as a rule. It limits this send and nothing
    /// else: the session goes on, with its own [write stall limit](getty_core::ConfigBuilder::write_stall_timeout).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use getty_driver::{Handle, NotFlushed};
    /// # async fn sleep(_: Duration) {}
    /// # async fn example(handle: Handle<String>, item: String) {
    /// match handle.send_flushed_until(item, sleep(Duration::from_secs(1))).await {
    ///     Ok(seq) => println!("the transport has {seq} and all before it"),
    ///     Err(NotFlushed::TakenBack(item)) => println!("{item} was surely not sent: it may go another way"),
    ///     Err(NotFlushed::Pending(seq)) => println!("{seq} is under way, and can't be called back"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotFlushed`] tells what is known of the item. If `until` was first, that is [`NotFlushed::TakenBack`] as long as the
    /// session had not taken it, and [`NotFlushed::Pending`] after that.
    ///
    /// # Cancel safety
    /// As for [`send_flushed`](Self::send_flushed).
    pub async fn send_flushed_until(&self, item: T, until: impl Future) -> Result<Seq, NotFlushed<T>> {
        let mut until = pin!(until);
        let (teller, ticket) = fate();
        let entry = Entry { teller: Some(teller), ..Entry::new(item) };
        self.post_when_there_is_room(entry, until.as_mut()).await.map_err(|error| match error {
            SendError::Blocked(item) => NotFlushed::TakenBack(item),
            error => NotFlushed::NotSent(error),
        })?;
        let mut is_over = false;
        poll_fn(|cx| {
            if let Poll::Ready(fate) = ticket.poll(cx) {
                return Poll::Ready(match fate {
                    Fate::Flushed(seq) => Ok(seq),
                    Fate::Partly(seq) => Err(NotFlushed::Partly(seq)),
                    Fate::Unknown(seq) => Err(NotFlushed::Unknown(seq)),
                    Fate::Unwritten(seq) => Err(NotFlushed::Unwritten(seq)),
                    Fate::NotTaken => Err(NotFlushed::Dropped),
                    Fate::Unsent(seq, failure) => Err(NotFlushed::Unsent(seq, failure)),
                });
            }
            is_over = is_over || until.as_mut().poll(cx).is_ready();
            if !is_over {
                return Poll::Pending;
            }
            match (ticket.hurry(), self.shared.take_back(&ticket)) {
                (Some(seq), _) => Poll::Ready(Err(NotFlushed::Pending(seq))),
                (None, Some(item)) => Poll::Ready(Err(NotFlushed::TakenBack(item))),
                // The session looks at it right now, and tells when it is done.
                (None, None) => Poll::Pending,
            }
        })
        .await
    }

    /// Gives the item back as blocked if `until` is first.
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
                // There may have been room before this one listened: once more.
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

    /// Ends the session. A graceful close comes after what was posted before it; nothing can be posted after. While a
    /// handshake is under way (TLS, WebSocket) nothing can be sent: what was posted is then given back by
    /// [`take_unsent`](Self::take_unsent).
    pub fn close(&self, how: Close) {
        self.shared.close(how);
    }

    /// Ends the sending side of the session, which goes on reading: "send, end, read the answer". What was posted
    /// before is sent first; nothing can be posted after. See [`Session::half_close`](getty_core::Session::half_close).
    ///
    /// # Errors
    /// [`HalfCloseError`]: the session is closing or closed, or it is a WebSocket or of datagrams, which have no half-close.
    /// Those go on.
    ///
    /// # Cancel safety
    /// The request stands if the future is dropped.
    pub async fn half_close(&self) -> Result<(), HalfCloseError> {
        self.shared.half_close().await
    }

    /// Answers a WebSocket client that asked to be let in, after the listener said [`Verdict::Later`]. The first answer
    /// counts; when nothing waits for one any more, nothing happens.
    #[cfg(feature = "websocket")]
    pub fn answer(&self, verdict: Verdict) {
        self.shared.ask(|asked| {
            asked.verdict.get_or_insert_with(|| Box::new(verdict));
        });
    }

    /// Stops delivering messages to the listener, and so stops reading, until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.shared.ask(|asked| asked.pause = Some(true));
    }

    /// Goes on delivering messages.
    pub fn resume(&self) {
        self.shared.ask(|asked| asked.pause = Some(false));
    }

    /// Ends what the queue of a receiver holds up.
    pub(crate) fn release(&self) {
        self.shared.ask(|asked| asked.release = true);
    }

    /// Waits until the session is over and says why.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn closed(&self) -> CloseReason {
        self.shared.closed().await
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.shared.is_over()
    }

    /// Takes the items that were posted but never reached the session, in order. Empty until the session is
    /// over. What was posted to a [`Pool`](crate::Pool) is none of these: the pool gives it to another session.
    pub fn take_unsent(&self) -> Vec<T> {
        self.shared.take_items(false)
    }

    /// Posts an item of a pool: it is not with [`take_unsent`](Self::take_unsent), but with
    /// [`take_pooled`](Self::take_pooled).
    pub(crate) fn post_pooled(&self, item: T) -> Result<(), SendError<T>> {
        self.shared.try_post(Entry { pooled: true, ..Entry::new(item) })
    }

    /// Takes the items of a pool that never reached the session, which is over.
    pub(crate) fn take_pooled(&self) -> Vec<T> {
        self.shared.take_items(true)
    }

    /// Whether an item could be posted now.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    /// How much waits to be sent: bytes that the peer has not taken, and an item that is not encoded yet as one. `None` if
    /// nothing more can be posted.
    pub(crate) fn load(&self) -> Option<usize> {
        self.shared.load()
    }

    /// Hears of room, or that there will be none.
    pub(crate) fn listen_for_room(&self) -> EventListener {
        self.shared.listen_for_room()
    }

    /// When the peer last gave a sign of life, as of the session's last turn.
    pub fn last_active(&self) -> Instant {
        self.shared.last_active()
    }

    /// What the session has done, as of its last turn.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The session's number.
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// This end's address, where the transport has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.shared.local
    }

    /// The peer's address, where the transport has one.
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

    /// The attribute of type `A`, if one was set. Attributes are gone when the session is over.
    pub fn attribute<A: Any + Send + Sync>(&self) -> Option<Arc<A>> {
        self.shared.attribute()
    }

    /// Keeps `value` with the session, under its type; gives what was there before.
    pub fn set_attribute<A: Any + Send + Sync>(&self, value: A) -> Option<Arc<A>> {
        self.shared.set_attribute(value)
    }

    /// Takes the attribute of type `A` away.
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

/// Why [`Handle::send_flushed`] failed: what is known of the item.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NotFlushed<T> {
    /// It was not posted; it is given back.
    #[error("not sent: {0}")]
    NotSent(SendError<T>),
    /// The time was over before the session took it; it is given back.
    #[error("not sent: the session did not take it in time")]
    TakenBack(T),
    /// The time was over, and the session had taken it: it goes on sending it. [`Handle::stats`] tells how far it is.
    #[error("not sent yet: message {0} is under way")]
    Pending(Seq),
    /// It never became part of what the session sends: the session ended before (the item is with
    /// [`Handle::take_unsent`]), or refused it (it was given to
    /// [`Listener::on_send_error`](crate::Listener::on_send_error)), or its encoder panicked.
    #[error("not sent: the session did not take it")]
    Dropped,
    /// The transport took none of it.
    #[error("not sent: the session ended before message {0} was written")]
    Unwritten(Seq),
    /// The transport took a part of it.
    #[error("partly sent: the session ended in the middle of message {0}")]
    Partly(Seq),
    /// The socket could not send its datagram. The session goes on.
    #[error("not sent: the socket did not take the datagram of message {0}: {1}")]
    Unsent(Seq, IoFailure),
    /// A layer (TLS) had sealed it together with others, and the transport took a part of that: whether the peer can make it
    /// out is not known.
    #[error(
        "not known whether it was sent: the session ended while message {0} was written, sealed with others"
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
