//! [`Listener`]: what an application does about the events of a session.

use std::error::Error;
use std::sync::Arc;
use std::task;
use std::time::{Duration, Instant};

use getty_core::datagram::Dropped;
#[cfg(feature = "websocket")]
use getty_core::websocket::{Accept, CloseCode, CloseFrame, Request, Verdict};
use getty_core::{Close, CloseReason, Idle, Messages, Opened, SendError, Seq};

use crate::session::context::Context;

/// What an application does about the events of one session (Go getty's `EventListener`).
///
/// Each session has a listener of its own, whose state needs no lock: its callbacks are called one at a time
/// by the task that owns the session. They must not block that task; for slow work, take a
/// [`Handle`](crate::Handle) from the context, do the work elsewhere and send from there.
///
/// `M` is what is received and sent, [`Items<In, Out>`](getty_core::Items); nothing here knows the transport.
///
/// A panic in a callback ends that session, and that session only: no other callback of it runs, and the
/// endpoint's `on_panic` is told.
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
#[allow(unused_variables, reason = "default callbacks do nothing with what they are told")]
pub trait Listener<M: Messages>: 'static {
    /// A WebSocket client asks to be let in; the session is not open yet. By default it is let in.
    ///
    /// For an answer that takes time, take a [`Handle`](crate::Handle) from the context, say [`Verdict::Later`], and
    /// answer with [`Handle::answer`](crate::Handle::answer) within the handshake's deadline. A verdict that does not
    /// fit the request (a sub-protocol that was not offered, a plain request let in) is answered with an error status.
    #[cfg(feature = "websocket")]
    fn on_request(&mut self, cx: &mut Context<'_, M>, request: &Request) -> Verdict {
        Verdict::Accept(Accept::new())
    }

    /// The session is open. An error refuses it: what was sent in this callback still goes out, then the
    /// session closes with [`CloseReason::Refused`].
    ///
    /// # Errors
    /// Whatever the application refuses the session for.
    fn on_open(&mut self, cx: &mut Context<'_, M>, opened: &Opened) -> Result<(), Refuse> {
        Ok(())
    }

    /// A message came.
    fn on_message(&mut self, cx: &mut Context<'_, M>, message: M::In);

    /// Messages came. By default each goes to [`on_message`](Self::on_message).
    ///
    /// Override it to treat what came together as one batch: take the messages with
    /// [`Context::next_message`] until it gives `None`. A first message that is not taken goes to
    /// `on_message`.
    fn on_messages(&mut self, cx: &mut Context<'_, M>) {
        while let Some(message) = cx.next_message() {
            self.on_message(cx, message);
        }
    }

    /// Another [`Config::cron_period`](getty_core::Config::cron_period) is over.
    fn on_cron(&mut self, cx: &mut Context<'_, M>) {}

    /// Nothing moved for as long as the configuration says.
    fn on_idle(&mut self, cx: &mut Context<'_, M>, idle: Idle) {}

    /// The peer answered a ping (WebSocket), `rtt` after it was sent.
    fn on_pong(&mut self, cx: &mut Context<'_, M>, rtt: Duration) {}

    /// There is room again after a send was refused as [`SendError::Blocked`].
    fn on_writable(&mut self, cx: &mut Context<'_, M>) {}

    /// The transport has every message up to `seq`, but for datagrams that could not be sent; comes after [`Context::notify_flushed`].
    fn on_flushed(&mut self, cx: &mut Context<'_, M>, seq: Seq) {}

    /// An item from a [`Handle`](crate::Handle) could not be sent: it is too large, or can't be encoded; over a datagram
    /// socket also, it has no peer to go to, or names one where the socket is connected. The session goes on. (Sending
    /// from a context gives the error to the caller instead.)
    fn on_send_error(&mut self, cx: &mut Context<'_, M>, error: SendError<M::Out>) {}

    /// Datagrams came to nothing: they were empty, too large, not decodable, or did not arrive. Once a second at the most;
    /// over datagram sockets only. Nothing has to be done.
    fn on_dropped(&mut self, cx: &mut Context<'_, M>, dropped: &Dropped) {}

    /// The peer ended its stream, between two messages; it may still read. By default the session is closed
    /// gracefully, with everything sent that was accepted.
    fn on_read_end(&mut self, cx: &mut Context<'_, M>) {
        cx.close(Close::graceful());
    }

    /// The endpoint shuts down. By default the session is closed gracefully, after messages that are already
    /// here; a WebSocket peer is told 1001. Sessions that are still there when the grace period ends are aborted.
    fn on_shutdown(&mut self, cx: &mut Context<'_, M>) {
        cx.close(going_away().with_drain());
    }

    /// A turn of the session's task: for a listener that polls futures of its own, or has deadlines of its own.
    ///
    /// Called exactly once in every turn of an open session, whatever the turn came for, after everything that could be read
    /// was delivered and before what is queued is written. So what is sent here goes out with the replies of this turn (it
    /// does not count as a reply itself), and a deadline is judged only after what waited in the transport. Where writing
    /// brings further callbacks, [`on_flushed`](Self::on_flushed) for one, they and another call make a turn of their own. What
    /// it does counts in the budget of the task's poll.
    ///
    /// `task` is the session's task: waking it brings a turn. The result is when to have a turn at the latest, by the clock
    /// of [`Context::now`]; `None` is no such time. It replaces the result of the call before, but the timer is not touched
    /// for a later time than it is set to: that brings a turn too, as anything may. After a time that has passed, the next
    /// turn comes at once.
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
    /// /// Answers with what a future gives, one message after the other.
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

    /// The session is over: the last callback (Go getty's `OnError` and `OnClose` in one). It comes exactly once,
    /// unless a callback has panicked or the task was dropped.
    ///
    /// The context still knows the session: its id, name, addresses, statistics and attributes (which are dropped after
    /// this), and whether [`on_open`](Self::on_open) came: [`Context::was_opened`]. Nothing can be sent.
    fn on_close(&mut self, cx: &mut Context<'_, M>, reason: &CloseReason) {}
}

/// A graceful close because the endpoint goes away.
pub(crate) fn going_away() -> Close {
    #[cfg(feature = "websocket")]
    return Close::graceful().with_frame(CloseFrame::new(CloseCode::GOING_AWAY, ""));
    #[cfg(not(feature = "websocket"))]
    return Close::graceful();
}

/// Why a listener does not want a session. Made by `?` or `into()` from any error, or from a text.
#[derive(Debug, Clone)]
pub struct Refuse(pub(crate) Arc<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Refuse {
    fn from(error: E) -> Self {
        Refuse(Arc::from(error.into()))
    }
}
