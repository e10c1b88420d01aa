//! [`PacketDriver`]: the task of one session over a datagram socket.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use getty_core::codec::{Decoder, Encoder};
use getty_core::datagram::{Packets, Path};
use getty_core::{Accepted, Close, CloseReason, Config, Items, SendError, Seq, Stats, Timestamp};

use crate::drive::actor::Actor;
use crate::drive::packet_engine::PacketEngine;
use crate::drive::task::Task;
use crate::runtime::Runtime;
use crate::runtime::io::PacketIo;
use crate::session::context::AnySession;
use crate::session::handle::Handle;
use crate::session::listener::Listener;

/// The task of one session over a datagram socket: a future that drives the socket and calls the listener,
/// and that is ready when the session is over.
///
/// One turn (one poll): read the clock once, take what handles posted; then receive batches and call the
/// listener for everything received, until there is no more input or the budget is used up: 128 events,
/// 1024 posted items, or 16 batches; then deadlines, [`Listener::on_turn`], and all replies are sent in as
/// few calls as the system allows. If more work remains, the task [yields](Runtime::yield_now) to others.
///
/// # Cancel safety
/// Dropping the future ends the session at once without a callback, as for [`Driver`](crate::Driver).
#[must_use = "futures do nothing unless polled"]
pub struct PacketDriver<R: Runtime, I: PacketIo, C: Decoder + Encoder<O>, O, L>(
    Task<R, PacketEngine<I, Packets<C, O>>, L>,
);

impl<R, I, C, O, L> PacketDriver<R, I, C, O, L>
where
    R: Runtime,
    I: PacketIo,
    C: Decoder + Encoder<O>,
    L: Listener<Items<C::Item, O>>,
{
    /// Drives `packets` over `io`.
    pub fn new(packets: Packets<C, O>, io: I, listener: L) -> Self {
        let addresses = [io.local_addr(), io.peer_addr()];
        let actor = Actor::new(listener, addresses, packets.last_active(), false);
        PacketDriver(Task::new(PacketEngine::new(packets, io), actor))
    }

    /// A handle to the session.
    pub fn handle(&mut self) -> Handle<O> {
        self.0.handle()
    }

    /// The task, for endpoints.
    pub(crate) fn task(&mut self) -> &mut Task<R, PacketEngine<I, Packets<C, O>>, L> {
        &mut self.0
    }
}

impl<R, I, C, O, L> Future for PacketDriver<R, I, C, O, L>
where
    R: Runtime,
    I: PacketIo,
    C: Decoder + Encoder<O>,
    L: Listener<Items<C::Item, O>>,
{
    type Output = Box<CloseReason>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Box<CloseReason>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<C: Decoder + Encoder<O>, O> AnySession<Items<C::Item, O>> for Packets<C, O> {
    /// Sends to the peer of a connected socket, or of the message being handled.
    #[inline]
    fn send(&mut self, item: O) -> Result<Accepted, SendError<O>> {
        self.reply(item)
    }

    fn send_to(&mut self, path: Path, item: O) -> Result<Accepted, SendError<O>> {
        Packets::send_to(self, path, item)
    }

    #[inline]
    fn next_message(&mut self, _: u64) -> Option<C::Item> {
        self.poll_message()
    }

    fn last_weight(&self) -> usize {
        Packets::last_weight(self)
    }

    fn path(&self) -> Option<Path> {
        Packets::path(self)
    }

    fn end_reply(&mut self) {
        Packets::end_reply(self);
    }

    fn close(&mut self, now: Timestamp, how: Close) {
        Packets::close(self, now, how);
    }

    fn pause(&mut self) {
        Packets::pause(self);
    }

    fn resume(&mut self, now: Timestamp) {
        Packets::resume(self, now);
    }

    fn is_open(&self) -> bool {
        Packets::is_open(self)
    }

    fn is_over(&self) -> bool {
        Packets::is_over(self)
    }

    fn is_writable(&self) -> bool {
        Packets::is_writable(self)
    }

    fn notify_flushed(&mut self) -> Option<Seq> {
        Packets::notify_flushed(self)
    }

    fn update_active(&mut self, now: Timestamp) {
        Packets::update_active(self, now);
    }

    fn last_active(&self) -> Timestamp {
        Packets::last_active(self)
    }

    fn stats(&self) -> Stats {
        Packets::stats(self)
    }

    fn config(&self) -> &Config {
        Packets::config(self)
    }
}
