//! Sending over a [`Connection`], and receiving ahead while it waits for room.

use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use getty_core::{Accepted, CloseReason, Event, In, Out, Protocol, SendError, Timestamp};

use super::Connection;
use super::error::FlushError;
use super::wakers::Half;
use crate::drive::stream_engine::WRITE_AT;
use crate::runtime::Runtime;
use crate::runtime::io::Io;

/// Time without progress in either direction after which the peer counts as waiting for us. One refusal of
/// the transport proves nothing: the peer may be busy with the messages it has.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);

/// State while the transport takes nothing.
pub(super) struct Stuck {
    pub(super) since: Timestamp,
    /// Bytes written when the transport stopped.
    sent: u64,
    /// No more may be received ahead, and there is more: sending waits for at most [`STUCK_AFTER`].
    pub(super) is_full: bool,
}

/// Whether another task may hold the receiving half while this one waits to send.
#[derive(Debug, Clone, Copy)]
pub(super) enum Company {
    /// The waiting future has the whole connection.
    None,
    Perhaps,
}

/// The peer takes nothing until we receive.
pub(super) struct PeerWaits;

impl<R: Runtime, I: Io, P: Protocol> Connection<R, I, P> {
    /// Accepts an item that is not a reply: replies that wait for room would keep messages from being
    /// delivered.
    pub(super) fn accept(&mut self, item: Out<P>) -> Result<Accepted, SendError<Out<P>>> {
        self.engine.session.end_reply();
        self.engine.session.send(item)
    }

    pub(super) fn poll_room(
        &mut self,
        cx: &mut TaskContext<'_>,
        company: Company,
    ) -> Poll<Result<(), PeerWaits>> {
        self.turn(cx, Half::Sending, |this, cx, now| {
            while this.engine.session.is_opening() {
                match this.decode() {
                    Some(event) => this.keep(now, event),
                    None => ready!(this.poll_transport(cx, now)),
                }
            }
            while !this.has_room() {
                ready!(this.poll_sending(cx, now, company))?;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Whether a message can be sent without waiting.
    pub(super) fn has_room(&self) -> bool {
        let session = &self.engine.session;
        !session.is_open() || session.is_writable() && session.queued() < WRITE_AT
    }

    pub(super) fn poll_flush(
        &mut self,
        cx: &mut TaskContext<'_>,
        company: Company,
    ) -> Poll<Result<(), FlushError>> {
        self.turn(cx, Half::Sending, |this, cx, now| {
            while this.engine.has_bytes_to_write() {
                ready!(this.poll_sending(cx, now, company)).map_err(|PeerWaits| FlushError::PeerWaits)?;
            }
            if this.engine.session.is_over() {
                while let Some(event) = this.decode() {
                    this.keep(now, event);
                }
                return Poll::Ready(this.closed_cleanly().map_err(FlushError::Closed));
            }
            // Received messages have not been pulled yet, so the session is not over; but nothing more will
            // be sent.
            if let Some(failure) = this.engine.unwritten() {
                return Poll::Ready(Err(FlushError::Closed(CloseReason::Io(failure))));
            }
            let session = &this.engine.session;
            let progress = session.stats().progress;
            if progress.flushed < progress.accepted && !session.is_open() {
                // A layer failed, and the queue was lost with it.
                let reason = session.close_reason().cloned();
                let reason = reason.unwrap_or(CloseReason::Local { flushed: false });
                return Poll::Ready(Err(FlushError::Closed(reason)));
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Writes, and receives available input. Ready if either changed anything for the session.
    fn poll_sending(
        &mut self,
        cx: &mut TaskContext<'_>,
        now: Timestamp,
        company: Company,
    ) -> Poll<Result<(), PeerWaits>> {
        if self.is_spent() {
            return Poll::Pending;
        }
        let is_encoding = self.engine.session.is_encoding();
        if is_encoding {
            let _ = self.engine.session.outbound_within(now, self.work_limit());
        }
        let wrote = self.poll_write(cx, now).is_ready() || is_encoding;
        if self.receive_ahead(cx, now) || wrote {
            return Poll::Ready(Ok(()));
        }
        if self.is_stuck(now, company) { Poll::Ready(Err(PeerWaits)) } else { Poll::Pending }
    }

    /// Receives available input and keeps it for later, as far as there is room. Returns whether there was
    /// any.
    fn receive_ahead(&mut self, cx: &mut TaskContext<'_>, now: Timestamp) -> bool {
        let mut any = false;
        loop {
            while !self.ahead.is_full() && !self.is_spent() {
                let Some(event) = self.decode() else { break };
                self.keep(now, event);
                any = true;
            }
            // With a full queue, a part of the next message shows that there is more.
            let sated = self.ahead.is_full() && self.has_undecoded() || self.is_spent();
            if sated || !self.engine.session.wants_read() || self.poll_read(cx, now).is_pending() {
                return any;
            }
            any = true;
        }
    }

    /// Whether undecoded bytes are left.
    fn has_undecoded(&self) -> bool {
        self.engine.session.stats().buffered > 0
    }

    /// Keeps an event for the receiving half.
    fn keep(&mut self, now: Timestamp, event: Event<In<P>>) {
        self.accept_client(now, &event);
        let weight = match &event {
            #[cfg(feature = "websocket")]
            Event::Request(_) => return,
            Event::Message(_) => self.engine.session.last_weight(),
            _ => 0,
        };
        self.ahead.push(event, weight);
    }

    /// Whether the transport takes nothing because the peer waits for us to receive: nothing was taken for
    /// a while, and there is more to receive than may be received ahead.
    fn is_stuck(&mut self, now: Timestamp, company: Company) -> bool {
        let received_by_other = matches!(company, Company::Perhaps) && self.wakers.are_apart();
        let is_full = self.ahead.is_full() && self.has_undecoded() && !received_by_other;
        let sent = self.engine.session.stats().sent.bytes;
        let before = self.stuck.take().filter(|stuck| stuck.sent == sent);
        let since = before.map_or(now, |stuck| stuck.since);
        self.stuck = Some(Stuck { since, sent, is_full });
        is_full && now >= since + STUCK_AFTER
    }
}
