//! [`Paths`]: several paths of a WebSocket server, each with its own listeners.

use std::fmt;
use std::sync::Arc;
use std::task;
use std::time::{Duration, Instant};

use getty_core::datagram::Dropped;
use getty_core::websocket::{Request, Response, Verdict};
use getty_core::{CloseReason, Idle, Messages, Opened, SendError, Seq};

use crate::session::context::Context;
use crate::session::listener::{Listener, Refuse};

/// Several paths on one port, each with its own listeners. Requests for other paths are answered with 404.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use getty_driver::{Context, Items, Listener, Paths, core::websocket::*};
/// # struct Echo;
/// # impl Listener<Items<Message>> for Echo {
/// #     fn on_message(&mut self, _: &mut Context<'_, Items<Message>>, _: Message) {}
/// # }
/// # struct Chat(Arc<str>);
/// # impl Listener<Items<Message>> for Chat {
/// #     fn on_message(&mut self, _: &mut Context<'_, Items<Message>>, _: Message) {}
/// # }
/// let room: Arc<str> = "lobby".into();
/// let paths = Paths::new().path("/echo", || Echo).path("/chat", move || Chat(room.clone()));
/// let listeners = paths.into_listeners(); // for ServerBuilder::tcp, beside WebSocket::serving
/// # let _ = listeners();
/// ```
pub struct Paths<M>(Vec<(String, MakeListener<M>)>);

type AnyListener<M> = Box<dyn Listener<M> + Send>;
type MakeListener<M> = Box<dyn Fn() -> AnyListener<M> + Send + Sync>;

impl<M: Messages + 'static> Paths<M> {
    /// Returns an empty set of paths.
    pub fn new() -> Self {
        Paths(Vec::new())
    }

    /// Adds a path. Sessions that request `path` get a listener from `listener`. The path is compared as it
    /// is in the request, without the query.
    #[must_use]
    pub fn path<L>(mut self, path: &str, listener: impl Fn() -> L + Send + Sync + 'static) -> Self
    where
        L: Listener<M> + Send,
    {
        self.0.push((path.to_owned(), Box::new(move || Box::new(listener()))));
        self
    }

    /// Returns a function that makes the listeners of a server.
    pub fn into_listeners(self) -> impl Fn() -> PathListener<M> + Send + Sync + Clone {
        let paths = Arc::new(self);
        move || PathListener { paths: paths.clone(), chosen: None }
    }
}

impl<M: Messages + 'static> Default for Paths<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> fmt::Debug for Paths<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(path, _)| path)).finish()
    }
}

/// A listener that hands over to the listener of the requested path.
pub struct PathListener<M> {
    paths: Arc<Paths<M>>,
    chosen: Option<AnyListener<M>>,
}

impl<M> fmt::Debug for PathListener<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PathListener").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<M: Messages + 'static> Listener<M> for PathListener<M> {
    fn on_request(&mut self, cx: &mut Context<'_, M>, request: &Request) -> Verdict {
        let Some((_, make)) = self.paths.0.iter().find(|(path, _)| path == request.path()) else {
            return Response::new(404).map_or(Verdict::Defer, Verdict::Respond);
        };
        self.chosen.insert(make()).on_request(cx, request)
    }

    fn on_open(&mut self, cx: &mut Context<'_, M>, opened: &Opened) -> Result<(), Refuse> {
        self.chosen.as_mut().map_or(Ok(()), |listener| listener.on_open(cx, opened))
    }

    fn on_message(&mut self, cx: &mut Context<'_, M>, message: M::In) {
        if let Some(listener) = &mut self.chosen {
            listener.on_message(cx, message);
        }
    }

    fn on_messages(&mut self, cx: &mut Context<'_, M>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_messages(cx);
        }
    }

    fn on_cron(&mut self, cx: &mut Context<'_, M>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_cron(cx);
        }
    }

    fn on_idle(&mut self, cx: &mut Context<'_, M>, idle: Idle) {
        if let Some(listener) = &mut self.chosen {
            listener.on_idle(cx, idle);
        }
    }

    fn on_pong(&mut self, cx: &mut Context<'_, M>, rtt: Duration) {
        if let Some(listener) = &mut self.chosen {
            listener.on_pong(cx, rtt);
        }
    }

    fn on_writable(&mut self, cx: &mut Context<'_, M>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_writable(cx);
        }
    }

    fn on_flushed(&mut self, cx: &mut Context<'_, M>, seq: Seq) {
        if let Some(listener) = &mut self.chosen {
            listener.on_flushed(cx, seq);
        }
    }

    fn on_send_error(&mut self, cx: &mut Context<'_, M>, error: SendError<M::Out>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_send_error(cx, error);
        }
    }

    fn on_dropped(&mut self, cx: &mut Context<'_, M>, dropped: &Dropped) {
        if let Some(listener) = &mut self.chosen {
            listener.on_dropped(cx, dropped);
        }
    }

    fn on_eof(&mut self, cx: &mut Context<'_, M>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_eof(cx);
        }
    }

    fn on_shutdown(&mut self, cx: &mut Context<'_, M>) {
        if let Some(listener) = &mut self.chosen {
            listener.on_shutdown(cx);
        }
    }

    fn on_turn(&mut self, cx: &mut Context<'_, M>, task: &mut task::Context<'_>) -> Option<Instant> {
        self.chosen.as_mut().and_then(|listener| listener.on_turn(cx, task))
    }

    fn on_close(&mut self, cx: &mut Context<'_, M>, reason: &CloseReason) {
        if let Some(listener) = &mut self.chosen {
            listener.on_close(cx, reason);
        }
    }
}
