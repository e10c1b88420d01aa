//! [`Listener`]: the application's callbacks for a session.

use std::error::Error;
use std::sync::Arc;
use std::task;
use std::time::{Duration, Instant};

use getty_core::datagram::Dropped;
#[cfg(feature = "websocket")]
use getty_core::websocket::{Accept, CloseCode, CloseFrame, Request, Verdict};
use getty_core::{Close, CloseReason, Idle, Messages, Opened, SendError, Seq};

use crate::session::context::Context;

/// The application's callbacks for one session (Go getty's `EventListener`).
///
/// Each session has its own listener, whose state needs no lock: the task that owns the session makes one
/// call at a time. Callbacks must not block that task. For slow work, take a [`Handle`](crate::Handle) from
/// the context, do the work elsewhere and send from there.
///
/// `M` gives the types of received and sent messages, [`Items<In, Out>`](getty_core::Items). A listener
/// does not depend on the transport.
///
/// A panic in a callback ends that session only: no further callback of it runs, and the endpoint's
/// `on_panic` is called.
///
/// ```
/// use bytes::Bytes;
/// use getty_driver::{Context, Items, Listener};
///
/// struct Echo;
///
/// impl Listener<Items<Bytes>> for Echo {
///     fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, message: Bytes) {
///         let _ = cx.send(message); // refused only if the session is closing
///     }
/// }
/// ```
#[allow(unused_variables, reason = "default callbacks ignore their arguments")]
pub trait Listener<M: Messages>: 'static {
    /// A WebSocket client requests to open the session, which is not open yet. The default accepts it.
    ///
    /// To decide later, take a [`Handle`](crate::Handle) from the context, return [`Verdict::Defer`], and
    /// call [`Handle::respond`](crate::Handle::respond) before the handshake's deadline. A verdict that does
    /// not fit the request (a sub-protocol that was not offered, a plain request accepted) becomes an error
    /// status.
    #[cfg(feature = "websocket")]
    fn on_request(&mut self, cx: &mut Context<'_, M>, request: &Request) -> Verdict {
        Verdict::Accept(Accept::new())
    }

    /// The session is open. An error refuses it: messages sent in this callback still go out, then the
    /// session closes with [`CloseReason::Refused`].
    ///
    /// # Errors
    /// The application's reason to refuse the session.
    fn on_open(&mut self, cx: &mut Context<'_, M>, opened: &Opened) -> Result<(), Refuse> {
        Ok(())
    }

    /// A message was received.
    fn on_message(&mut self, cx: &mut Context<'_, M>, message: M::In);

    /// Messages were received. The default passes each to [`on_message`](Self::on_message).
    ///
    /// Override it to process messages that arrived together as one batch: take them with
    /// [`Context::next_message`] until it returns `None`. If the first message is not taken, it goes to
    /// `on_message`.
    fn on_messages(&mut self, cx: &mut Context<'_, M>) {
        while let Some(message) = cx.next_message() {
            self.on_message(cx, message);
        }
    }

    /// Another [`Config::cron_period`](getty_core::Config::cron_period) has passed.
    fn on_cron(&mut self, cx: &mut Context<'_, M>) {}

    /// No traffic for the configured time.
    fn on_idle(&mut self, cx: &mut Context<'_, M>, idle: Idle) {}

    /// The peer answered a ping (WebSocket); `rtt` is the time since the ping was sent.
    fn on_pong(&mut self, cx: &mut Context<'_, M>, rtt: Duration) {}

    /// There is room again after a send was refused as [`SendError::Blocked`].
    fn on_writable(&mut self, cx: &mut Context<'_, M>) {}

    /// The transport has every message up to `seq`, except datagrams that could not be sent. Follows
    /// [`Context::notify_flushed`].
    fn on_flushed(&mut self, cx: &mut Context<'_, M>, seq: Seq) {}

    /// An item from a [`Handle`](crate::Handle) could not be sent: it is too large or cannot be encoded.
    /// Over a datagram socket, it may also lack a peer, or name one although the socket is connected. The
    /// session goes on. (Sending from a context returns the error to the caller instead.)
    fn on_send_error(&mut self, cx: &mut Context<'_, M>, error: SendError<M::Out>) {}

    /// Datagrams were dropped: empty, too large, not decodable, or undelivered. Called at most once a
    /// second, over datagram sockets only. No action is needed.
    fn on_dropped(&mut self, cx: &mut Context<'_, M>, dropped: &Dropped) {}

    /// The peer ended its stream between two messages; it may still read. The default closes the session
    /// gracefully, after everything accepted for sending.
    fn on_eof(&mut self, cx: &mut Context<'_, M>) {
        cx.close(Close::graceful());
    }

    /// The endpoint is shutting down, or a pool [drains](crate::Pool::set_addresses) this session. The
    /// default closes the session gracefully, after the messages already received; a WebSocket peer gets
    /// close code 1001. Sessions that remain when the grace period of a shutdown ends are aborted.
    fn on_shutdown(&mut self, cx: &mut Context<'_, M>) {
        cx.close(going_away().with_drain());
    }

    /// A turn of the session's task, for listeners that poll their own futures or have their own deadlines.
    ///
    /// Called exactly once in every turn of an open session, whatever caused the turn: after everything
    /// readable was delivered and before the queue is written. So messages sent here go out with the
    /// replies of this turn (they do not count as replies themselves), and a deadline is judged only after
    /// the input that waited in the transport. If writing causes further callbacks, such as
    /// [`on_flushed`](Self::on_flushed), those and another call form a turn of their own. The work done
    /// here counts towards the budget of the task's poll.
    ///
    /// `task` belongs to the session's task: waking it causes a turn. The result is the latest time of the
    /// next turn, by the clock of [`Context::now`]; `None` sets no time. It replaces the result of the
    /// previous call. The timer is not moved to a later time, so a turn may still come at the earlier one,
    /// as it may for any reason. If the time has already passed, the next turn comes at once.
    ///
    /// ```
    /// use std::future::Future;
    /// use std::pin::Pin;
    /// use std::task;
    /// use std::time::Instant;
    ///
    /// use bytes::Bytes;
    /// use getty_driver::{Context, Items, Listener};
    ///
    /// /// Replies with the result of a future, one message after the other.
    /// struct Ask {
    ///     answer: Option<Pin<Box<dyn Future<Output = Bytes> + Send>>>,
    /// }
    ///
    /// impl Listener<Items<Bytes>> for Ask {
    ///     fn on_message(&mut self, cx: &mut Context<'_, Items<Bytes>>, question: Bytes) {
    ///         self.answer = Some(Box::pin(async move { question }));
    ///         cx.pause(); // until it is answered
    ///     }
    ///
    ///     fn on_turn(
    ///         &mut self,
    ///         cx: &mut Context<'_, Items<Bytes>>,
    ///         task: &mut task::Context<'_>,
    ///     ) -> Option<Instant> {
    ///         if let Some(answer) = &mut self.answer {
    ///             if let task::Poll::Ready(answer) = answer.as_mut().poll(task) {
    ///                 let _ = cx.send(answer); // refused only if the session is closing
    ///                 self.answer = None;
    ///                 cx.resume();
    ///             }
    ///         }
    ///         None
    ///     }
    /// }
    /// ```
    fn on_turn(&mut self, cx: &mut Context<'_, M>, task: &mut task::Context<'_>) -> Option<Instant> {
        None
    }

    /// The session is over: the last callback (Go getty's `OnError` and `OnClose` in one). Called exactly
    /// once, unless a callback has panicked or the task was dropped.
    ///
    /// The context still has the session's id, name, addresses, statistics and attributes (which are
    /// dropped afterwards), and [`Context::was_opened`] says whether [`on_open`](Self::on_open) was called.
    /// Nothing can be sent.
    fn on_close(&mut self, cx: &mut Context<'_, M>, reason: &CloseReason) {}
}

/// A listener that is chosen at run time, such as `Box<dyn Listener<M> + Send>`. Endpoints with different
/// listeners then share their compiled code.
impl<M: Messages, L: Listener<M> + ?Sized> Listener<M> for Box<L> {
    #[cfg(feature = "websocket")]
    fn on_request(&mut self, cx: &mut Context<'_, M>, request: &Request) -> Verdict {
        (**self).on_request(cx, request)
    }

    fn on_open(&mut self, cx: &mut Context<'_, M>, opened: &Opened) -> Result<(), Refuse> {
        (**self).on_open(cx, opened)
    }

    fn on_message(&mut self, cx: &mut Context<'_, M>, message: M::In) {
        (**self).on_message(cx, message);
    }

    fn on_messages(&mut self, cx: &mut Context<'_, M>) {
        (**self).on_messages(cx);
    }

    fn on_cron(&mut self, cx: &mut Context<'_, M>) {
        (**self).on_cron(cx);
    }

    fn on_idle(&mut self, cx: &mut Context<'_, M>, idle: Idle) {
        (**self).on_idle(cx, idle);
    }

    fn on_pong(&mut self, cx: &mut Context<'_, M>, rtt: Duration) {
        (**self).on_pong(cx, rtt);
    }

    fn on_writable(&mut self, cx: &mut Context<'_, M>) {
        (**self).on_writable(cx);
    }

    fn on_flushed(&mut self, cx: &mut Context<'_, M>, seq: Seq) {
        (**self).on_flushed(cx, seq);
    }

    fn on_send_error(&mut self, cx: &mut Context<'_, M>, error: SendError<M::Out>) {
        (**self).on_send_error(cx, error);
    }

    fn on_dropped(&mut self, cx: &mut Context<'_, M>, dropped: &Dropped) {
        (**self).on_dropped(cx, dropped);
    }

    fn on_eof(&mut self, cx: &mut Context<'_, M>) {
        (**self).on_eof(cx);
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_, M>) {
        (**self).on_shutdown(cx);
    }

    fn on_turn(&mut self, cx: &mut Context<'_, M>, task: &mut task::Context<'_>) -> Option<Instant> {
        (**self).on_turn(cx, task)
    }

    fn on_close(&mut self, cx: &mut Context<'_, M>, reason: &CloseReason) {
        (**self).on_close(cx, reason);
    }
}

/// A graceful close for an endpoint that is shutting down.
pub(crate) fn going_away() -> Close {
    #[cfg(feature = "websocket")]
    return Close::graceful().with_frame(CloseFrame::new(CloseCode::GOING_AWAY, ""));
    #[cfg(not(feature = "websocket"))]
    return Close::graceful();
}

/// A listener's reason to refuse a session. Made by `?` or `into()` from any error or text.
#[derive(Debug, Clone)]
pub struct Refuse(pub(crate) Arc<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Refuse {
    fn from(error: E) -> Self {
        Refuse(Arc::from(error.into()))
    }
}
