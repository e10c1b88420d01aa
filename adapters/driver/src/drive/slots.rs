//! [`Members`]: the slots of an endpoint's tasks, and the order in which those came that are not open yet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::task::Waker;
use std::time::Instant;

use getty_core::CloseReason;
use slab::Slab;

use crate::drive::limits::{Counted, SessionInfo};

/// What a task does for its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Brings sessions into being.
    Acceptor,
    /// Is a session.
    Session,
    /// Is the one session that there will ever be.
    Sole,
    /// Drives sessions that are not tasks themselves.
    Host,
    /// Is a session that a host drives, and tells of.
    Guest,
}

impl Role {
    pub(super) fn is_session(self) -> bool {
        matches!(self, Role::Session | Role::Sole | Role::Guest)
    }

    /// Whether there will be no more sessions when it has left.
    pub(super) fn is_source(self) -> bool {
        matches!(self, Role::Acceptor | Role::Sole | Role::Host)
    }

    /// Whether it tells of sessions when it is asked.
    pub(super) fn answers(self) -> bool {
        matches!(self, Role::Session | Role::Sole | Role::Host)
    }
}

pub(super) struct Members {
    pub(super) slots: Slab<Slot>,
    /// How many of them are sessions.
    pub(super) sessions: usize,
    /// Those of them that are not open yet, and the keys of the oldest and the newest of these.
    pub(super) opening: usize,
    pub(super) oldest: usize,
    pub(super) newest: usize,
    /// Sessions that have lost their place, and are about to leave.
    pub(super) displaced: usize,
    /// While the endpoint shuts down: when the grace ends, and how many sessions ended only after that.
    pub(super) grace: Option<Grace>,
    pub(super) late: usize,
    /// How many wait for what sessions say of themselves.
    pub(super) listing: usize,
    /// Why there will be no more sessions, once that is so.
    pub(super) end: Option<CloseReason>,
    /// How many sessions each address has, where that is limited.
    pub(super) by_address: HashMap<IpAddr, u32>,
    pub(super) counted: Counted,
}

/// When the grace of a shutdown ends, and how to know the time.
pub(super) struct Grace {
    pub(super) ends: Instant,
    pub(super) now: fn() -> Instant,
}

/// One task.
pub(super) struct Slot {
    pub(super) waker: Option<Waker>,
    pub(super) role: Role,
    pub(super) place: Place,
    /// What it says of itself, and in which round it was asked.
    pub(super) answer: (u32, Vec<SessionInfo>),
}

/// A session's place among those that are not open yet: a linked list through the slots, so that each may
/// leave at any time at no cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is open, or no session.
    None,
    /// The neighbours' keys, or [`NOBODY`].
    Opening { older: usize, newer: usize },
    /// A newer session has taken its place.
    Displaced,
}

/// No slot has this key.
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
    /// The session is the newest of those that are not open.
    pub(super) fn begin_opening(&mut self, key: usize) {
        self.opening += 1;
        let older = std::mem::replace(&mut self.newest, key);
        self.slots[key].place = Place::Opening { older, newer: NOBODY };
        self.link(older, key);
    }

    /// The session is no longer one of those that are not open. Gives false if it was not, because it was
    /// displaced.
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
    /// If all are open, nothing happens.
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

    /// Adds the answers of the slots `keys`, unless one has yet to answer in this round or a later one.
    /// Returns whether it did. A slot may be free by now, or belong to another task that came after the
    /// question.
    pub(super) fn add_answers(&self, keys: &[usize], round: u32, all: &mut Vec<SessionInfo>) -> bool {
        let slots = || keys.iter().filter_map(|&key| self.slots.get(key)).filter(|slot| slot.role.answers());
        // Rounds wrap around, but there are never so many while a caller waits.
        if slots().any(|slot| slot.answer.0.wrapping_sub(round) >= u32::MAX / 8) {
            return false;
        }
        slots().for_each(|slot| all.extend_from_slice(&slot.answer.1));
        true
    }
}
