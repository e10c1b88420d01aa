//! [`Sessions`]: the part of a peer table that does not depend on its codec.

use std::collections::VecDeque;
use std::sync::Arc;

use super::PeerLimits;
use crate::close::CloseReason;
use crate::config::Config;
use crate::datagram::activity::IDLE_TIMEOUT;
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

/// What does not depend on the codec.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) config: Arc<Config>,
    pub(super) several_frames: bool,
    pub(super) getty_compat: bool,
    pub(super) limits: PeerLimits,
    pub(super) inbox: Inbox,
    pub(super) outgoing: Outgoing,
    /// Whose the datagrams of `outgoing` are, in order.
    pub(super) owners: VecDeque<PeerKey>,
    pub(super) drops: Drops,
    pub(super) table: Table,
    pub(super) wheel: Wheel,
    /// Those that have something to tell, each once.
    pub(super) ready: VecDeque<u32>,
    /// Those that were refused for lack of room.
    pub(super) refused: Vec<PeerKey>,
    /// Whose end was told last: it is there until the next poll, for its statistics.
    pub(super) told_end: Option<u32>,
    /// Deadlines that have passed, while they are looked at.
    pub(super) due: Vec<u32>,
    /// Whose the datagrams of each slot of the batch are, as far as they were known when it came.
    pub(super) found: Found,
    pub(super) now: Timestamp,
    /// When the next new peer would have come if they came one after the other.
    pub(super) next_new: Timestamp,
    pub(super) phase: Phase,
    pub(super) reason: Option<Box<CloseReason>>,
    pub(super) close_at: Option<Timestamp>,
    /// Who is to be admitted or not, and the size of the datagram.
    pub(super) asked: Option<(Path, usize)>,
    /// Whose datagram is being decoded.
    pub(super) begun: Option<PeerKey>,
    /// Whose message was polled last: what is sent to it now is an answer.
    pub(super) answering: Option<PeerKey>,
    /// Answers went over the high watermark and have not come down to the low one since: no delivery.
    pub(super) blocked: bool,
    /// Since when there was delivery: what came before waited, and its peers can't be blamed.
    pub(super) read_since: Timestamp,
}

/// Where the socket is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Every peer is ending; what waits is sent.
    Flushing,
    /// Over and told.
    Ended,
}

impl Sessions {
    pub(super) fn new(
        options: PacketOptions,
        limits: PeerLimits,
        config: Arc<Config>,
        seed: [u64; 2],
        now: Timestamp,
    ) -> Self {
        Sessions {
            several_frames: options.several_frames,
            getty_compat: options.getty_compat,
            limits,
            inbox: Inbox::default(),
            outgoing: Outgoing::default(),
            owners: VecDeque::new(),
            drops: Drops::default(),
            table: Table::new(seed, limits.moment(), now),
            wheel: Wheel::new(&config, now),
            ready: VecDeque::new(),
            refused: Vec::new(),
            told_end: None,
            due: Vec::new(),
            found: Found::default(),
            now,
            next_new: now,
            phase: Phase::Open,
            reason: None,
            close_at: None,
            asked: None,
            begun: None,
            answering: None,
            blocked: false,
            read_since: now,
            config,
        }
    }

    /// Takes note of the time; it never goes back.
    pub(super) fn clock(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }

    /// Notes that a peer has something to tell.
    pub(super) fn tell(&mut self, index: u32, bits: u16) {
        let Some(peer) = self.table.get_mut(index) else { return };
        peer.pending |= bits;
        if peer.pending != 0 && !std::mem::replace(&mut peer.ready, true) {
            self.ready.push_back(index);
        }
    }

    /// The next event that waits with a peer.
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
                    self.told_end = Some(index);
                    return Some((key, Event::Closed(reason)));
                }
            };
            return Some((key, event));
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.clock(now);
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
            self.tell(index, bits);
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
