//! [`Members`]: the slots of an endpoint's tasks, and the order of the sessions that are not open yet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::task::Waker;
use std::time::Instant;

use getty_core::CloseReason;
use slab::Slab;

use crate::drive::limits::{Counted, SessionInfo};

/// The role of a task in its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Creates sessions.
    Acceptor,
    /// Is a session.
    Session,
    /// Is the only session that the endpoint will ever have.
    Sole,
    /// Drives the sessions of a socket's peers, which are not tasks themselves.
    SocketTask,
    /// Is a peer's session, which a socket task drives and reports.
    PeerSession,
}

impl Role {
    pub(super) fn is_session(self) -> bool {
        matches!(self, Role::Session | Role::Sole | Role::PeerSession)
    }

    /// Whether no more sessions can come once the last task of this role has left.
    pub(super) fn is_source(self) -> bool {
        matches!(self, Role::Acceptor | Role::Sole | Role::SocketTask)
    }

    /// Whether the task reports sessions when asked.
    pub(super) fn answers(self) -> bool {
        matches!(self, Role::Session | Role::Sole | Role::SocketTask)
    }
}

pub(super) struct Members {
    pub(super) slots: Slab<Slot>,
    /// Number of sessions.
    pub(super) sessions: usize,
    /// Number of sessions that are not open yet, and the keys of the oldest and the newest of them.
    pub(super) opening: usize,
    pub(super) oldest: usize,
    pub(super) newest: usize,
    /// Sessions that have lost their place and are about to leave.
    pub(super) displaced: usize,
    /// While the endpoint shuts down: the end of the grace, and the number of sessions that ended only
    /// after it.
    pub(super) grace: Option<Grace>,
    pub(super) late: usize,
    /// Calls of `list` in progress.
    pub(super) listing: usize,
    /// The reason why there can be no more sessions, once that is so.
    pub(super) end: Option<CloseReason>,
    /// Sessions per address, if limited.
    pub(super) by_address: HashMap<IpAddr, u32>,
    pub(super) counted: Counted,
}

/// The end of a shutdown's grace, and its clock.
pub(super) struct Grace {
    pub(super) ends: Instant,
    pub(super) now: fn() -> Instant,
}

/// One task.
pub(super) struct Slot {
    pub(super) waker: Option<Waker>,
    pub(super) role: Role,
    pub(super) place: Place,
    /// The round of the last question and the task's answer to it.
    pub(super) answer: (u32, Vec<SessionInfo>),
}

/// A session's place among those that are not open yet: a linked list through the slots, so that leaving
/// costs the same at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Open, or not a session.
    None,
    /// The keys of the neighbours, or [`NOBODY`].
    Opening { older: usize, newer: usize },
    /// Displaced by a newer session.
    Displaced,
}

/// The key of no slot.
pub(super) const NOBODY: usize = usize::MAX;

impl Default for Members {
    fn default() -> Self {
        Members {
            slots: Slab::new(),
            sessions: 0,
            opening: 0,
            oldest: NOBODY,
            newest: NOBODY,
            displaced: 0,
            grace: None,
            late: 0,
            listing: 0,
            end: None,
            by_address: HashMap::new(),
            counted: Counted::default(),
        }
    }
}

impl Members {
    /// Adds the session as the newest of those that are not open.
    pub(super) fn begin_opening(&mut self, key: usize) {
        self.opening += 1;
        let older = std::mem::replace(&mut self.newest, key);
        self.slots[key].place = Place::Opening { older, newer: NOBODY };
        self.link(older, key);
    }

    /// Removes the session from those that are not open. Returns false if it was not among them, because it
    /// was displaced.
    pub(super) fn end_opening(&mut self, key: usize) -> bool {
        let Place::Opening { older, newer } = self.slots[key].place else { return false };
        self.opening -= 1;
        self.slots[key].place = Place::None;
        if newer == NOBODY {
            self.newest = older;
        }
        self.link(older, newer);
        true
    }

    /// Makes two sessions neighbours. Either may be [`NOBODY`].
    pub(super) fn link(&mut self, left: usize, right: usize) {
        match self.slots.get_mut(left).map(|slot| &mut slot.place) {
            Some(Place::Opening { newer, .. }) => *newer = right,
            _ => self.oldest = right,
        }
        if let Some(Place::Opening { older, .. }) = self.slots.get_mut(right).map(|slot| &mut slot.place) {
            *older = left;
        }
    }

    /// Displaces the oldest session that is not open; returns the waker of its task, if it has been polled.
    /// Does nothing if all are open.
    pub(super) fn displace_oldest(&mut self) -> Option<Waker> {
        let key = Some(self.oldest).filter(|&oldest| oldest != NOBODY)?;
        self.end_opening(key);
        self.displaced += 1;
        self.counted.displaced += 1;
        let slot = &mut self.slots[key];
        slot.place = Place::Displaced;
        slot.waker.clone()
    }

    /// The slots of tasks that describe sessions.
    pub(super) fn asked(&self) -> Vec<usize> {
        self.slots.iter().filter(|(_, slot)| slot.role.answers()).map(|(key, _)| key).collect()
    }

    pub(super) fn wakers(&self, keys: &[usize]) -> Vec<Waker> {
        keys.iter().filter_map(|&key| self.slots.get(key)?.waker.clone()).collect()
    }

    /// Adds the answers of the slots `keys`, unless one has not answered in this round or a later one.
    /// Returns whether it did. A slot may be free by now, or belong to another task that joined after the
    /// question.
    pub(super) fn add_answers(&self, keys: &[usize], round: u32, all: &mut Vec<SessionInfo>) -> bool {
        let slots = || keys.iter().filter_map(|&key| self.slots.get(key)).filter(|slot| slot.role.answers());
        // Rounds wrap around, but never this far while a caller waits.
        if slots().any(|slot| slot.answer.0.wrapping_sub(round) >= u32::MAX / 8) {
            return false;
        }
        slots().for_each(|slot| all.extend_from_slice(&slot.answer.1));
        true
    }
}
