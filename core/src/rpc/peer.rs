//! [`Peer`]: one end of an RPC connection.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::rpc::budget::Budget;
use crate::rpc::config::Config;
use crate::rpc::event::{CallId, Event};
use crate::rpc::fault::PeerFault;
use crate::rpc::frame::{Body, Frame, GoAway, Hello, Reply};
use crate::rpc::slots::{Content, MAX_SLOTS, Phase, Ring, Slots};
use crate::rpc::status::Status;
use crate::rpc::timers::Timers;
use crate::rpc::wire::Kind;
use crate::time::Timestamp;

/// One end of an RPC connection, which calls and is called. A pure state machine of frames: no bytes, no
/// clock, no waker.
///
/// It stands beside a [`Session`](crate::Session) whose codec is [`Frames`](super::Frames):
///
/// 1. Each frame that the session delivers goes to [`handle_frame`](Self::handle_frame), and the time to
///    [`handle_timeout`](Self::handle_timeout).
/// 2. [`poll_event`](Self::poll_event) reports, until it returns `None`: requests of the peer, answers,
///    items. Poll once everything that was received has been handed in, so that a call that is cancelled in
///    the same breath never begins.
/// 3. Commands: [`call`](Self::call), [`respond`](Self::respond), [`send_item`](Self::send_item) and so on.
/// 4. Bodies may be compressed on the wire (feature `deflate`). While `has_work` says so, `work` decompresses
///    and compresses them a piece at a time: reports and frames come of it.
/// 5. While the session is writable, [`poll_frame`](Self::poll_frame) has the next frame to send. Report the
///    outcome with [`frame_sent`](Self::frame_sent) or [`frame_refused`](Self::frame_refused). Never stop
///    reading because frames wait: the limits of [`Config`] bound what the peer can cause.
/// 6. Wait for the transport or until [`poll_timeout`](Self::poll_timeout).
///
/// When the session has ended, [`handle_closed`](Self::handle_closed) ends all calls. The chapter
/// [`embedding`](super::embedding) explains such a loop.
///
/// Any number of inputs and commands may come between polls, in any order. Each call of this side ends
/// exactly once: by [`Event::Ended`], or by [`cancel`](Self::cancel).
#[derive(Debug)]
pub struct Peer {
    pub(super) config: Arc<Config>,
    pub(super) side: Side,
    pub(super) slots: Slots,
    pub(super) theirs: Limits,
    pub(super) budget: Budget,
    pub(super) due: Due,
    /// Events of the connection.
    pub(super) notices: Option<Box<Notices>>,
    pub(super) phase: PeerPhase,
    /// Go-away frames: sent by this side (or about to be), and by the peer.
    pub(super) leaves: bool,
    pub(super) peer_leaves: bool,
    /// `Drained` was reported.
    pub(super) drained: bool,
    /// Bytes of requests of this side that were not sent.
    pub(super) waiting_bytes: usize,
    pub(super) waiting: u32,
    /// Bytes of the peer: unanswered requests, and items that were not consumed.
    pub(super) pending_bytes: usize,
    /// Bytes of answers that were not sent.
    pub(super) answer_bytes: usize,
    /// The frame polled last, if it belongs to a call.
    pub(super) polled: Option<Polled>,
    /// An item was sent last: a request has the next turn.
    pub(super) request_turn: bool,
    pub(super) answers_in_a_row: u8,
    pub(super) now: Timestamp,
    pub(super) timers: Timers,
}

/// The side of the connection, which decides the ids of its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The side that connected: it sends first and uses odd ids.
    Connecting,
    /// The side that accepted: it uses even ids.
    Accepting,
}

/// Ids 0 and 1 are not those of calls.
const FIRST_ID: u32 = 2;

impl Side {
    /// The bit in the ids of the calls of this side.
    fn bit(self) -> u32 {
        u32::from(self == Side::Connecting)
    }

    /// The id of the call of this side in `slot`.
    pub(super) fn id(self, slot: u32) -> u32 {
        (FIRST_ID + slot * 2) | self.bit()
    }
}

/// Events of the connection, in order.
#[derive(Debug, Default)]
pub(super) struct Notices(VecDeque<Event>);

impl Notices {
    /// Adds an event, in the place of an earlier one of its kind that was not reported.
    pub(super) fn push(&mut self, event: Event) {
        let kind = std::mem::discriminant(&event);
        match self.0.iter_mut().find(|known| std::mem::discriminant(*known) == kind) {
            Some(known) => *known = event,
            None => self.0.push_back(event),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeerPhase {
    /// The peer's Hello has not come.
    Opening,
    Open,
    /// The peer broke a rule. Only a go-away is sent.
    Failed(PeerFault),
    /// The session has ended.
    Closed,
}

/// The limits of the peer.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) calls: u32,
    pub(super) window: u32,
    pub(super) frame: u32,
    pub(super) deflate: bool,
}

/// Frames of the connection that are due.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) hello: bool,
    pub(super) ping: bool,
    pub(super) pong: Option<u64>,
    pub(super) go_away: Option<Box<GoAway>>,
    /// A frame that the session had no room for.
    pub(super) again: Option<Box<(Frame, Option<Polled>)>>,
}

/// A frame of a call that was polled: what the report about it needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Polled {
    pub(super) kind: Kind,
    pub(super) id: u32,
    pub(super) slot: u32,
}

impl Peer {
    /// Makes one end of a connection. Its first frames can be sent at once by the connecting side.
    pub fn new(config: Arc<Config>, side: Side, now: Timestamp) -> Self {
        let theirs = Limits {
            calls: Hello::MIN_CALLS,
            window: Hello::MIN_WINDOW,
            frame: Hello::MIN_FRAME,
            deflate: false,
        };
        let timers = Timers::new(&config, now);
        Peer {
            budget: Budget::new(&config, now),
            config,
            side,
            slots: Slots::default(),
            theirs,
            due: Due { hello: side == Side::Connecting, ..Due::default() },
            notices: None,
            phase: PeerPhase::Opening,
            leaves: false,
            peer_leaves: false,
            drained: false,
            waiting_bytes: 0,
            waiting: 0,
            pending_bytes: 0,
            answer_bytes: 0,
            polled: None,
            request_turn: false,
            answers_in_a_row: 0,
            now,
            timers,
        }
    }

    /// The limits of this side.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The number of open calls, of both sides.
    pub fn open_calls(&self) -> usize {
        self.slots.len()
    }

    /// Whether the memory of calls is held. It is given up when there has been no call for a second.
    pub fn holds_memory(&self) -> bool {
        self.slots.has_memory()
    }

    /// The deadline of a call that has not ended.
    pub fn deadline(&self, id: CallId) -> Option<Timestamp> {
        self.slots.get(self.slots.slot(id)?)?.deadline
    }

    /// Whether the peer decompresses bodies of deflate.
    pub fn may_deflate(&self) -> bool {
        self.theirs.deflate
    }

    /// The number of calls of this side that the peer would take at once now: 0 if one more would wait.
    pub fn room_for_calls(&self) -> usize {
        if self.is_leaving() {
            return 0;
        }
        (self.theirs.calls as usize).saturating_sub((self.slots.sent + self.waiting) as usize)
    }

    /// Whether this side takes no further calls to send: one of the two goes away, or the connection has
    /// ended.
    pub fn is_leaving(&self) -> bool {
        self.leaves || self.peer_leaves || matches!(self.phase, PeerPhase::Failed(_) | PeerPhase::Closed)
    }

    // Events.

    /// Returns the next report, or `None` if there is none until something else happens.
    #[must_use]
    #[inline(always)]
    pub fn poll_event(&mut self) -> Option<Event> {
        if self.notices.is_some() {
            return self.notice();
        }
        while let Some(slot) = self.slots.pop(Ring::Events) {
            let event = self.report(slot);
            if event.is_some() {
                return event;
            }
        }
        self.drained()
    }

    #[inline(never)]
    fn notice(&mut self) -> Option<Event> {
        let notices = self.notices.as_mut()?;
        let notice = notices.0.pop_front();
        if notices.0.is_empty() {
            self.notices = None;
        }
        notice
    }

    /// The next report about a call. If there may be another, the call gets in line again.
    #[inline(always)]
    fn report(&mut self, slot: u32) -> Option<Event> {
        let id = self.slots.id(slot);
        let call = self.slots.at(slot);
        if call.phase == Phase::Free {
            return None;
        }
        if call.phase == Phase::New {
            if self.phase != PeerPhase::Open {
                return None; // its answer could not be sent
            }
            if matches!(&call.content, Content::Request(request) if request.body.is_compressed())
                && self.config.deflate()
            {
                return self.decompress_first(slot);
            }
            let Content::Request(request) = std::mem::take(&mut call.content) else { return None };
            call.phase = Phase::Running;
            if call.streams.is_some() {
                self.slots.push(Ring::Events, slot);
            }
            if request.one_way {
                self.answer(slot, Ok(Reply::default()), true);
            }
            return Some(Event::Request(id, request));
        }
        if let Some(why) = call.due.cancelled.take() {
            return Some(Event::Cancelled(id, why));
        }
        if let Some(streams) = &mut call.streams {
            if streams.received.front().is_some_and(Body::is_compressed) && self.config.deflate() {
                return self.decompress_first(slot);
            }
            if let Some(item) = streams.received.pop_front() {
                self.slots.push(Ring::Events, slot);
                return Some(Event::Item(id, item));
            }
            if std::mem::take(&mut streams.reports_end) {
                self.slots.push(Ring::Events, slot);
                return Some(Event::End(id));
            }
        }
        if std::mem::take(&mut call.due.room)
            && matches!(call.phase, Phase::Open | Phase::Waiting | Phase::Running)
        {
            return Some(Event::Room(id));
        }
        if matches!(&call.content, Content::Answer(Ok(reply)) if reply.body.is_compressed())
            && call.phase == Phase::Ended
            && self.config.deflate()
        {
            return self.decompress_first(slot);
        }
        match (call.phase, std::mem::take(&mut call.content)) {
            (Phase::Ended, Content::Answer(result)) => {
                self.remove(slot);
                Some(Event::Ended(id, result))
            }
            // Given up at its deadline: the answer is still to come.
            (Phase::Abandoned, Content::Answer(result)) => Some(Event::Ended(id, result)),
            (_, content) => {
                self.slots.at(slot).content = content;
                None
            }
        }
    }

    /// Whether `id` can be the id of a call of the peer.
    pub(super) fn is_theirs(&self, id: u32) -> bool {
        let slot = (id / 2).checked_sub(FIRST_ID / 2);
        id & 1 != self.side.bit() && slot.is_some_and(|slot| (slot as usize) < MAX_SLOTS)
    }

    /// The slot of the open call `id`, of either side.
    pub(super) fn find(&self, id: u32) -> Option<u32> {
        if self.is_theirs(id) { self.slots.find(id) } else { self.find_ours(id) }
    }

    /// The slot of a call of this side that has been sent and not been answered.
    pub(super) fn find_ours(&self, id: u32) -> Option<u32> {
        let slot = (id / 2).checked_sub(FIRST_ID / 2)?;
        let call = self.slots.get(slot)?;
        let is_open = matches!(call.phase, Phase::Open | Phase::Abandoned) && call.wire == id;
        (is_open && !self.is_held_back(id)).then_some(slot)
    }

    /// Whether the session had no room for the request `id`.
    pub(super) fn is_held_back(&self, id: u32) -> bool {
        let again = self.due.again.as_ref().and_then(|again| again.1);
        again.is_some_and(|polled| polled.kind == Kind::Request && polled.id == id)
    }

    pub(super) fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
    }
}

pub(super) fn too_large(what: &str, bytes: usize, limit: usize) -> Status {
    Status::resource_exhausted(format!("a {what} of {bytes} bytes exceeds the receiver's limit of {limit}"))
}
