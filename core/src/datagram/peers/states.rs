//! [`PeerStates`]: the part of a peer table that is independent of the codec.

use std::collections::VecDeque;
use std::sync::Arc;

use super::PeerLimits;
use crate::close::CloseReason;
use crate::config::Config;
use crate::datagram::activity::{IDLE_TIMEOUT, tick};
use crate::datagram::drops::Drops;
use crate::datagram::inbox::Inbox;
use crate::datagram::outgoing::Outgoing;
use crate::datagram::table::{Found, PeerKey, Table};
use crate::datagram::{PacketOptions, Path};
use crate::deadline::{Deadline, Idle};
use crate::event::{Event, Opened};
use crate::pending;
use crate::stats::Seq;
use crate::time::Timestamp;
use crate::wheel::Wheel;

/// The bit of [`Event::Closed`] among those of [`pending`].
pub(super) const CLOSED: u16 = 1 << 15;

/// The codec-independent state.
#[derive(Debug)]
pub(super) struct PeerStates {
    pub(super) config: Arc<Config>,
    pub(super) several_frames: bool,
    pub(super) getty_compat: bool,
    pub(super) limits: PeerLimits,
    pub(super) inbox: Inbox,
    pub(super) outgoing: Outgoing,
    /// The peers of the datagrams in `outgoing`, in order.
    pub(super) owners: VecDeque<PeerKey>,
    pub(super) drops: Drops,
    pub(super) table: Table,
    pub(super) wheel: Wheel,
    /// Peers with events, each listed once.
    pub(super) ready: VecDeque<u32>,
    /// Peers whose messages were refused for lack of room.
    pub(super) refused: Vec<PeerKey>,
    /// The peer whose end was reported last. Kept until the next poll, for its statistics.
    pub(super) reported_end: Option<u32>,
    /// Expired deadlines while they are handled.
    pub(super) due: Vec<u32>,
    /// The peers of the datagrams in each slot of the batch, as known when it came.
    pub(super) found: Found,
    pub(super) now: Timestamp,
    /// The time of the next new peer if they came at the maximum rate.
    pub(super) next_new: Timestamp,
    pub(super) phase: Phase,
    pub(super) reason: Option<Box<CloseReason>>,
    pub(super) close_at: Option<Timestamp>,
    /// The peer to be admitted or not, and its datagram's size.
    pub(super) asked: Option<(Path, usize)>,
    /// The peer whose datagram is being decoded.
    pub(super) begun: Option<PeerKey>,
    /// The peer whose message was polled last: messages sent to it now are replies.
    pub(super) replying: Option<PeerKey>,
    /// Replies exceeded the high watermark and are not yet down to the low one: nothing is delivered.
    pub(super) blocked: bool,
    /// The time since which messages are delivered. Earlier ones had to wait, so their peers are not blamed.
    pub(super) read_since: Timestamp,
}

/// The phase of the socket's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Every peer is ending; waiting datagrams are sent.
    Flushing,
    /// Ended and reported.
    Ended,
}

impl PeerStates {
    pub(super) fn new(
        options: PacketOptions,
        limits: PeerLimits,
        config: Arc<Config>,
        seed: [u64; 2],
        now: Timestamp,
    ) -> Self {
        PeerStates {
            several_frames: options.several_frames,
            getty_compat: options.getty_compat,
            limits,
            inbox: Inbox::default(),
            outgoing: Outgoing::default(),
            owners: VecDeque::new(),
            drops: Drops::default(),
            table: Table::new(seed, limits.moment(), now),
            wheel: Wheel::new(tick(&config), now),
            ready: VecDeque::new(),
            refused: Vec::new(),
            reported_end: None,
            due: Vec::new(),
            found: Found::default(),
            now,
            next_new: now,
            phase: Phase::Open,
            reason: None,
            close_at: None,
            asked: None,
            begun: None,
            replying: None,
            blocked: false,
            read_since: now,
            config,
        }
    }

    /// Advances the time, which never goes back.
    pub(super) fn advance_time(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// Records that a peer has events.
    pub(super) fn set_pending(&mut self, index: u32, bits: u16) {
        let Some(peer) = self.table.get_mut(index) else { return };
        peer.pending |= bits;
        if peer.pending != 0 && !std::mem::replace(&mut peer.ready, true) {
            self.ready.push_back(index);
        }
    }

    /// Takes the next pending event of a peer.
    pub(super) fn next_ready<T>(&mut self) -> Option<(PeerKey, Event<T>)> {
        const ORDER: [u16; 8] = [
            pending::OPEN,
            pending::FLUSHED,
            pending::WRITABLE,
            pending::CRON,
            pending::IDLE_READ,
            pending::IDLE_WRITE,
            pending::IDLE_BOTH,
            CLOSED,
        ];
        loop {
            let index = *self.ready.front()?;
            let key = self.table.key(index);
            let Some(peer) = self.table.get_mut(index) else {
                self.ready.pop_front();
                continue;
            };
            let Some(bit) = ORDER.into_iter().find(|bit| peer.pending & bit != 0) else {
                peer.ready = false;
                self.ready.pop_front();
                continue;
            };
            peer.pending &= !bit;
            let event = match bit {
                pending::OPEN => Event::Open(Box::new(opened(peer.path()))),
                pending::FLUSHED => Event::Flushed(Seq::new(peer.done()).unwrap_or(Seq::FIRST)),
                pending::WRITABLE => Event::Writable,
                pending::CRON => Event::Cron,
                pending::IDLE_READ => Event::Idle(Idle::Read),
                pending::IDLE_WRITE => Event::Idle(Idle::Write),
                pending::IDLE_BOTH => Event::Idle(Idle::Both),
                _ => {
                    let reason = self
                        .table
                        .cold(index)
                        .reason
                        .clone()
                        .unwrap_or_else(|| Box::new(CloseReason::Local { flushed: false }));
                    self.ready.pop_front();
                    self.wheel.set(index, None);
                    self.reported_end = Some(index);
                    return Some((key, Event::Closed(reason)));
                }
            };
            return Some((key, event));
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.advance_time(now);
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(self.now, &mut due);
        for index in due.drain(..) {
            let Some((peer, cold)) = self.table.whole(index) else { continue };
            if peer.ending {
                self.end_late(index);
                continue;
            }
            let read_since = if peer.paused || self.blocked { self.now } else { self.read_since };
            let (bits, next) = cold.periods.expire(&mut peer.activity, &self.config, self.now, read_since);
            if bits & IDLE_TIMEOUT != 0 {
                let reason = CloseReason::Timeout(Deadline::Idle);
                self.end_peer(self.table.key(index), true, Some(reason));
                continue;
            }
            self.wheel.set(index, next);
            self.set_pending(index, bits);
        }
        self.due = due;
        if self.close_at.is_some_and(|at| at <= self.now) {
            let reason = self.reason.take().map_or(CloseReason::Timeout(Deadline::Close), |reason| *reason);
            self.abort(reason);
        }
    }
}

fn opened(path: Path) -> Opened {
    Opened { peer: Some(path.peer), ..Opened::default() }
}
