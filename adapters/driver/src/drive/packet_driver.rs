//! [`PacketDriver`]: the task of one session over a datagram socket.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use getty_core::codec::{Decoder, Encoder};
use getty_core::datagram::{Packets, Path};
use getty_core::{Accepted, Close, CloseReason, Event, Items, SendError, Seq, Stats, Timestamp};

use crate::drive::actor::{Actor, OnPanic};
use crate::drive::members::{Member, Membership};
use crate::drive::packet_engine::PacketEngine;
use crate::runtime::io::PacketIo;
use crate::runtime::{Runtime, clock};
use crate::session::context::Commands;
use crate::session::handle::Handle;
use crate::session::listener::Listener;

/// How many times a turn receives; each may bring many datagrams.
const TURN_READS: u32 = 16;

/// The task of one session over a datagram socket: a future that drives it and calls its listener, and that is ready when
/// the session is over.
///
/// One turn (one poll): what handles posted, the clock once; then receive a batch, call the listener for all
/// that came, and when there is no more or enough was done, send all answers in as few calls as the system allows; up to
/// 128 events, 1024 posted items and 16 batches; then deadlines, and the task wakes itself again if there is more to do, so
/// that others have their turn.
///
/// # Cancel safety
/// Dropping the future ends the session at once without a callback, as for [`Driver`](crate::Driver).
#[must_use = "futures do nothing unless polled"]
pub struct PacketDriver<R: Runtime, I, C: Decoder + Encoder<O>, O, L> {
    engine: PacketEngine<R, I, Packets<C, O>>,
    actor: Actor<L, Items<C::Item, O>>,
    /// Dropped after the socket and the listener: whoever waits for the members waits for those.
    membership: Membership,
}

// No field is ever pinned.
impl<R: Runtime, I, C: Decoder + Encoder<O>, O, L> Unpin for PacketDriver<R, I, C, O, L> {}

impl<R, I, C, O, L> PacketDriver<R, I, C, O, L>
where
    R: Runtime,
    I: PacketIo,
    C: Decoder + Encoder<O>,
    L: Listener<Items<C::Item, O>>,
{
    /// Drives `packets` over `io`.
    pub fn new(packets: Packets<C, O>, io: I, listener: L) -> Self {
        let actor = Actor::new(
            listener,
            [io.local_addr(), io.peer_addr()],
            packets.config(),
            packets.last_active(),
            false,
        );
        let engine = PacketEngine::new(packets, io);
        PacketDriver { engine, actor, membership: Membership::none() }
    }

    /// A handle to the session.
    pub fn handle(&mut self) -> Handle<O> {
        self.actor.handle(&self.engine.machine, self.membership.waker())
    }

    /// Makes it a session of an endpoint; there is nobody to shake hands with.
    pub(crate) fn set_member(&mut self, member: Member) {
        self.membership.set(member);
        self.membership.open();
    }

    pub(crate) fn set_on_panic(&mut self, on_panic: Option<OnPanic>) {
        self.actor.set_on_panic(on_panic);
    }

    /// Everything that can be done now. Deadlines come last, as for [`Driver`](crate::Driver).
    fn turn(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> Poll<Box<CloseReason>> {
        self.actor.begin_turn();
        let mut reads = TURN_READS;
        let worked = self.work(cx, now, &mut reads);
        if worked.is_ready() || !self.engine.expire(cx, now) {
            return worked;
        }
        self.work(cx, now, &mut reads)
    }

    fn work(&mut self, cx: &mut TaskContext<'_>, now: Timestamp, reads: &mut u32) -> Poll<Box<CloseReason>> {
        let mut exhausted = false; // there is nothing more to receive for now
        loop {
            self.actor.take_posted(&mut self.engine.machine, now);
            let opened = self.actor.is_opened();
            if let Some(reason) = self.deliver(now) {
                return Poll::Ready(self.actor.finish(&self.engine.machine, reason));
            }
            if self.actor.is_opened() != opened && self.actor.has_backlog() {
                continue; // what was posted meanwhile comes after what the listener sent when it opened
            }
            if self.obey_endpoint(now) {
                continue;
            }
            let spent = self.actor.is_spent() || *reads == 0;
            let due = exhausted || spent || self.engine.is_send_due() || !self.engine.machine.wants_read();
            let actor = &self.actor;
            let unsent = |seq, failure| actor.tell_unsent(seq, failure);
            if due && self.engine.send(cx, now, unsent) && !spent {
                continue; // room for messages that were held back, or the end
            }
            if spent {
                R::yield_now(cx);
                return Poll::Pending;
            }
            if exhausted || !self.engine.machine.wants_read() {
                return Poll::Pending;
            }
            *reads -= 1;
            exhausted = self.engine.poll_receive(cx, now).is_pending();
        }
    }

    /// Calls the listener for every event there is, as far as the turn's budget goes; the close reason when the session is
    /// over.
    fn deliver(&mut self, now: Timestamp) -> Option<Box<CloseReason>> {
        while self.engine.machine.wants_poll() && self.actor.spend(0) {
            let event = self.engine.machine.poll_event()?;
            let closed = self.actor.handle_event(&mut self.engine.machine, now, event);
            if closed.is_some() {
                return closed;
            }
        }
        None
    }

    /// Follows the endpoint that this session belongs to; says whether there was something to follow.
    fn obey_endpoint(&mut self, now: Timestamp) -> bool {
        let phase = self.membership.look();
        self.actor.obey(&mut self.engine.machine, now, phase)
    }

    /// Something other than a callback panicked, a codec as a rule: ends the session.
    #[cold]
    fn end_panicked(&mut self, now: Timestamp, panic: &(dyn Any + Send)) -> Poll<Box<CloseReason>> {
        self.actor.tell_panic(panic);
        self.engine.machine.close(now, Close::panicked());
        loop {
            match self.engine.machine.poll_event() {
                Some(Event::Closed(reason)) => {
                    return Poll::Ready(self.actor.finish(&self.engine.machine, reason));
                }
                Some(_) => {}
                None => {
                    return Poll::Ready(
                        self.actor.finish(&self.engine.machine, Box::new(CloseReason::Panicked)),
                    );
                }
            }
        }
    }

    /// Sees to it that the task is woken for whatever comes next.
    fn end_turn(&mut self, cx: &mut TaskContext<'_>) {
        if self.engine.poll_timer(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.membership.end_turn(cx.waker(), || vec![self.actor.info(&self.engine.machine)]);
        if !self.actor.end_turn(&self.engine.machine, cx.waker()) {
            cx.waker().wake_by_ref();
        }
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Box<CloseReason>> {
        let this = &mut *self;
        let now = clock::timestamp(R::now());
        let result = catch_unwind(AssertUnwindSafe(|| this.turn(cx, now)))
            .unwrap_or_else(|panic| this.end_panicked(now, &*panic));
        this.engine.give_back();
        match &result {
            Poll::Ready(reason) => this.membership.end(reason),
            Poll::Pending => this.end_turn(cx),
        }
        result
    }
}

impl<R: Runtime, I, C: Decoder + Encoder<O>, O, L> Drop for PacketDriver<R, I, C, O, L> {
    fn drop(&mut self) {
        self.actor.abandon(&self.engine.machine);
    }
}

impl<C: Decoder + Encoder<O>, O> Commands<Items<C::Item, O>> for Packets<C, O> {
    /// To the peer of a connected socket, or of the message that is being handled.
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

    fn end_answer(&mut self) {
        Packets::end_answer(self);
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
}
