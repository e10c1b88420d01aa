//! [`Driver`]: the task of one session over a stream.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use getty_core::{CloseReason, Out, Protocol, Session};

use crate::drive::actor::Actor;
use crate::drive::stream_engine::StreamEngine;
use crate::drive::task::Task;
use crate::runtime::Runtime;
use crate::runtime::io::Io;
use crate::session::handle::Handle;
use crate::session::listener::Listener;

/// The task of one session: a future that drives it over a stream and calls its listener, and that is ready
/// when the session is over.
///
/// One turn (one poll): read the clock once, take what handles posted; then read and call the listener for
/// everything received, until there is no more input or the budget is used up: 128 events, 1024 posted
/// items, 4096 frames of any kind, or 1 MiB in either direction, decompressed bytes included; then
/// deadlines, [`Listener::on_turn`], and one write. If more work remains, the task
/// [yields](Runtime::yield_now) to others. If more than 64 KiB wait to be written, a part goes out before
/// the input is exhausted.
///
/// # Cancel safety
/// Dropping the future ends the session at once without a callback: the stream is dropped with it, and
/// handles see an abort.
#[must_use = "futures do nothing unless polled"]
pub struct Driver<R: Runtime, I: Io, P: Protocol, L>(Task<R, StreamEngine<I, P>, L>);

impl<R, I, P, L> Driver<R, I, P, L>
where
    R: Runtime,
    I: Io,
    P: Protocol,
    L: Listener<P::Messages>,
{
    /// Drives `session` over `io`.
    pub fn new(session: Session<P>, io: I, listener: L) -> Self {
        Self::from_engine(StreamEngine::new(session, io), listener, false)
    }

    /// Continues a session; `opened` means that no caller waits for its opening any longer.
    pub(crate) fn from_engine(engine: StreamEngine<I, P>, listener: L, opened: bool) -> Self {
        let StreamEngine { session, io, .. } = &engine;
        let addresses = [io.local_addr(), io.peer_addr()];
        let mut actor = Actor::new(listener, addresses, session.last_active(), opened);
        if opened {
            actor.observe_opened();
        }
        Driver(Task::new(engine, actor))
    }

    /// Gives the listener and the handles the two addresses, if the stream does not know them: over the TLS
    /// of another library, for example. Call it before [`handle`](Self::handle) and before the first poll.
    pub fn with_addresses(mut self, local: Option<SocketAddr>, peer: Option<SocketAddr>) -> Self {
        self.0.actor().set_addresses(local, peer);
        self
    }

    /// A handle to the session.
    pub fn handle(&mut self) -> Handle<Out<P>> {
        self.0.handle()
    }

    /// The task, for endpoints.
    pub(crate) fn task(&mut self) -> &mut Task<R, StreamEngine<I, P>, L> {
        &mut self.0
    }
}

impl<R, I, P, L> Future for Driver<R, I, P, L>
where
    R: Runtime,
    I: Io,
    P: Protocol,
    L: Listener<P::Messages>,
{
    type Output = Box<CloseReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Box<CloseReason>> {
        Pin::new(&mut self.0).poll(cx)
    }
}
