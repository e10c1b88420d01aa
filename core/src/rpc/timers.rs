//! Deadlines of calls, and what the peer owes in time.

use std::time::Duration;

use crate::rpc::config::Config;
use crate::rpc::event::Cancelled;
use crate::rpc::fault::PeerFault;
use crate::rpc::peer::{Peer, PeerPhase};
use crate::rpc::slots::{Content, Phase, Ring};
use crate::rpc::status::{Executed, Status};
use crate::time::Timestamp;
use crate::wheel::Wheel;

/// The tick of deadlines. A call ends late by less than this.
const TICK: Duration = Duration::from_millis(1);

/// A connection without a call for this long gives up the memory of its calls.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Timers {
    /// Deadlines of calls. Made with the first, and given up when there has been no call for a second.
    wheel: Option<Box<Wheel>>,
    /// The time of the next look. Between two looks it only moves to an earlier time, so that calls that come
    /// and go do not move a timer.
    wake: Option<Timestamp>,
    hello: Option<Timestamp>,
    heartbeat: Option<Timestamp>,
    grace: Option<Timestamp>,
    idle: Option<Timestamp>,
    /// The peer's last sign of life.
    pub(super) heard: Timestamp,
    /// The time of the last ping that may still be answered, and the number of pings.
    pub(super) pinged: Option<Timestamp>,
    pub(super) pings: u64,
    /// When a call was abandoned and there was no other without an answer.
    abandoned_since: Timestamp,
    /// When the last call ended.
    last_call: Timestamp,
}

impl Timers {
    pub(super) fn new(config: &Config, now: Timestamp) -> Self {
        let hello = Some(now + config.hello_timeout());
        let heartbeat = config.heartbeat().map(|period| now + period);
        Timers {
            wheel: None,
            wake: hello.into_iter().chain(heartbeat).min(),
            hello,
            heartbeat,
            grace: None,
            idle: None,
            heard: now,
            pinged: None,
            pings: 0,
            abandoned_since: now,
            last_call: now,
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

impl Peer {
    /// The latest time to call [`handle_timeout`](Self::handle_timeout). There may be nothing to do then.
    /// Calls that begin and end do not move it to a later time.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.wake
    }

    /// Records a sign of life of the peer other than a frame, such as a part of a large one.
    pub fn handle_alive(&mut self, at: Timestamp) {
        self.timers.heard = self.timers.heard.max(at);
    }

    /// Applies the deadlines that have passed.
    ///
    /// # Errors
    /// [`PeerFault`]: the peer is silent, or does not do what it owes. The connection can't go on.
    pub fn handle_timeout(&mut self, now: Timestamp) -> Result<(), PeerFault> {
        self.advance(now);
        if self.timers.wake.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        self.expire_calls();
        let result = match self.phase {
            PeerPhase::Closed | PeerPhase::Failed(_) => Ok(()),
            _ => self.check_peer().map_err(|fault| self.fail(fault)),
        };
        if matches!(self.phase, PeerPhase::Closed | PeerPhase::Failed(_)) {
            let timers = &mut self.timers;
            (timers.hello, timers.heartbeat, timers.grace) = (None, None, None);
        }
        if self.timers.idle.is_some_and(|at| at <= self.now) {
            self.timers.idle = None;
            if self.slots.is_empty() {
                let at = self.timers.last_call + IDLE;
                if at > self.now {
                    self.timers.idle = Some(at);
                } else {
                    self.slots.trim();
                    self.timers.wheel = None;
                }
            }
        }
        let Timers { wheel, hello, heartbeat, grace, idle, .. } = &self.timers;
        let deadline = wheel.as_ref().and_then(|wheel| wheel.next_at());
        self.timers.wake = [deadline, *hello, *heartbeat, *grace, *idle].into_iter().flatten().min();
        result
    }

    fn expire_calls(&mut self) {
        let Some(wheel) = &mut self.timers.wheel else { return };
        let mut due = Vec::new();
        wheel.expire(self.now, &mut due);
        for slot in due {
            self.slots.at(slot).deadline = None;
            self.expire(slot);
        }
    }

    /// Ends a call whose deadline has passed. The peer is not told: it ends the call itself.
    pub(super) fn expire(&mut self, slot: u32) {
        let late = Status::deadline_exceeded("the deadline has passed");
        let call = self.slots.at(slot);
        let (wire, phase) = (call.wire, call.phase);
        match phase {
            Phase::Waiting => {
                self.take_back(slot);
                self.end(slot, Err(late.with_executed(Executed::No)));
            }
            Phase::Open if self.is_held_back(wire) => {
                self.due.again = None;
                self.unsend(slot, wire, &late);
            }
            Phase::Open => {
                self.abandon(slot);
                self.slots.at(slot).content = Content::Answer(Err(late.with_executed(Executed::Maybe)));
                self.slots.push(Ring::Events, slot);
            }
            Phase::New | Phase::Running => self.cut_short(slot, late, Cancelled::Deadline),
            // The handler of a one-way call.
            Phase::Answered { running: true } | Phase::Held => {
                self.slots.at(slot).due.cancelled = Some(Cancelled::Deadline);
                self.slots.push(Ring::Events, slot);
            }
            _ => {}
        }
    }

    /// Checks that the peer does in time what it owes.
    fn check_peer(&mut self) -> Result<(), PeerFault> {
        if self.timers.hello.is_some_and(|at| at <= self.now) {
            self.timers.hello = None;
            return Err(PeerFault::HelloTimeout);
        }
        if self.timers.grace.is_some_and(|at| at <= self.now) {
            let since = self.timers.abandoned_since.max(self.timers.heard);
            let at = since + self.config.cancel_grace();
            let owed = self.slots.abandoned > 0;
            self.timers.grace = owed.then_some(at);
            if owed && at <= self.now {
                self.timers.grace = None;
                return Err(PeerFault::CancelIgnored);
            }
        }
        match self.timers.heartbeat {
            Some(at) if at <= self.now => self.beat(),
            _ => Ok(()),
        }
    }

    /// Pings a peer that is silent, and judges one that stays so.
    fn beat(&mut self) -> Result<(), PeerFault> {
        let Some(period) = self.config.heartbeat() else { return Ok(()) };
        let timers = &mut self.timers;
        let next = match timers.pinged.filter(|&pinged| timers.heard <= pinged) {
            Some(pinged) => pinged + self.config.heartbeat_timeout(),
            None => timers.heard + period,
        };
        if next > self.now {
            timers.heartbeat = Some(next);
            return Ok(());
        }
        if timers.pinged.is_some_and(|pinged| timers.heard <= pinged) {
            timers.heartbeat = None;
            return Err(PeerFault::Silent);
        }
        timers.pings += 1;
        timers.pinged = Some(self.now);
        timers.heartbeat = Some(self.now + self.config.heartbeat_timeout());
        self.due.ping = true;
        Ok(())
    }

    /// Watches that the peer answers the calls that this side has given up.
    pub(super) fn watch_abandoned(&mut self) {
        if self.slots.abandoned == 1 {
            self.timers.abandoned_since = self.now;
        }
        if self.timers.grace.is_none() {
            let at = self.now + self.config.cancel_grace();
            self.timers.grace = Some(at);
            self.timers.wake_at(at);
        }
    }

    /// Watches for the end of calls: a connection without any gives up their memory.
    pub(super) fn watch_idle(&mut self) {
        self.timers.last_call = self.now;
        if self.slots.is_empty() && self.timers.idle.is_none() {
            let at = self.now + IDLE;
            self.timers.idle = Some(at);
            self.timers.wake_at(at);
        }
    }

    /// The peer's Hello is there: it is not waited for any longer.
    pub(super) fn hello_came(&mut self) {
        self.timers.hello = None;
    }

    /// Sets the deadline of a call.
    pub(super) fn set_deadline(&mut self, slot: u32, deadline: Option<Timestamp>) {
        let Some(at) = deadline else { return };
        self.slots.at(slot).deadline = Some(at);
        let now = self.now;
        let wheel = self.timers.wheel.get_or_insert_with(|| Box::new(Wheel::new(TICK, now)));
        wheel.grow(self.slots.count());
        wheel.set(slot, Some(at));
        if let Some(at) = wheel.next_at() {
            self.timers.wake_at(at);
        }
    }

    pub(super) fn clear_deadline(&mut self, slot: u32) {
        if self.slots.at(slot).deadline.take().is_some() {
            if let Some(wheel) = &mut self.timers.wheel {
                wheel.set(slot, None);
            }
        }
    }
}
