//! Polling a session: decoding what was received, and finding the next event.

use super::Session;
use super::host::Host;
use super::phase::Phase;
use super::protocol::{Found, In, Protocol};
use crate::close::CloseReason;
use crate::event::Event;
use crate::hint::likely;
use crate::pending;

impl<P: Protocol> Session<P> {
    /// Returns the next event, or `None` if there is none until something else happens.
    #[must_use]
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event<In<P>>> {
        self.poll_event_within(u64::MAX)
    }

    /// Returns the next event, as [`poll_event`](Self::poll_event) does, or `None` once
    /// [`Work::bytes`](crate::Work::bytes) has reached `limit`, even if there is one: compressing and
    /// decompressing stop in the middle of a message. Then [`wants_poll`](Self::wants_poll) is still true,
    /// and the next call goes on.
    ///
    /// For drivers of many sessions on one thread. A call exceeds the limit by the work for 64 KiB of a
    /// message at most.
    #[must_use]
    #[inline]
    pub fn poll_event_within(&mut self, limit: u64) -> Option<Event<In<P>>> {
        self.state.replying = false;
        // Most polls find a message, or nothing.
        if likely(self.state.status.is_ordinary()) {
            if self.state.has_nothing_to_decode() {
                return None;
            }
            if let Some(message) = self.decode_message(limit) {
                return Some(Event::Message(message));
            }
            if self.protocol.worked() >= limit {
                return None;
            }
        }
        self.poll_any(limit)
    }

    /// Polls for an event of any kind.
    #[inline(never)]
    fn poll_any(&mut self, limit: u64) -> Option<Event<In<P>>> {
        match self.poll_once(limit) {
            None => self.poll_on(limit),
            event => event,
        }
    }

    /// Returns the next message, if that is the next event. After `None`, go on with
    /// [`poll_event`](Self::poll_event).
    ///
    /// Polling this way first is faster for small messages, by up to a third: they are not moved as events.
    #[inline]
    pub fn poll_message(&mut self) -> Option<In<P>> {
        self.poll_message_within(u64::MAX)
    }

    /// Returns the next message, if that is the next event and [`Work::bytes`](crate::Work::bytes) does not
    /// reach `limit` before; see [`poll_event_within`](Self::poll_event_within).
    #[inline]
    pub fn poll_message_within(&mut self, limit: u64) -> Option<In<P>> {
        self.state.replying = false;
        if self.state.has_nothing_to_decode() { None } else { self.decode_message(limit) }
    }

    /// Decodes until there is a message. A function of its own, so that finding nothing takes few
    /// instructions.
    #[inline(never)]
    fn decode_message(&mut self, limit: u64) -> Option<In<P>> {
        match self.step() {
            Step::Message(message) => Some(message),
            Step::Stop => None,
            Step::Stuck => self.step_on(true, limit),
            Step::Again => self.step_on(false, limit),
        }
    }

    /// Appends up to `max` consecutive messages to `out` and returns their number. Stops before any other
    /// event.
    pub fn poll_messages(&mut self, out: &mut Vec<In<P>>, max: usize) -> usize {
        let before = out.len();
        out.extend(std::iter::from_fn(|| self.poll_message()).take(max));
        out.len() - before
    }

    /// Looks for an event once.
    #[inline(always)]
    fn poll_once(&mut self, limit: u64) -> Option<Event<In<P>>> {
        self.write_due();
        if self.state.status.pending != 0 {
            let event = self.pending_event(limit);
            if event.is_some() || self.protocol.worked() >= limit {
                return event;
            }
        }
        self.poll_message_within(limit).map(Event::Message)
    }

    /// Goes on looking for an event where the first look found none.
    #[inline(never)]
    fn poll_on(&mut self, limit: u64) -> Option<Event<In<P>>> {
        loop {
            if self.state.is_handshaking() {
                self.decode_handshake(limit);
            }
            if self.state.has_ended_both_sides() {
                self.state.read_end_reached();
            }
            // Decoding may have ended the session, or found the end of the stream.
            match self.state.status.phase {
                Phase::Closed => {
                    self.protocol.drop_encoding();
                    return Some(self.state.take_closed());
                }
                _ if self.state.is_encoding() => return None,
                _ if self.state.status.pending == 0 && self.state.status.dues.is_empty() => return None,
                _ => {}
            }
            if let Some(event) = self.poll_once(limit) {
                return Some(event);
            }
        }
    }

    /// Decodes once. Not a loop, so that the path of a message is straight; see [`likely`].
    #[inline(always)]
    fn step(&mut self) -> Step<In<P>> {
        let Session { protocol, state } = self;
        if !likely(state.status.is_ordinary() || state.may_deliver()) {
            return Step::Stop;
        }
        let before = state.buffers.as_ref().map_or(0, |b| b.received.len());
        if !likely(state.inbox.is_worth_decoding(before)) {
            return Step::Stuck;
        }
        let Some(buffers) = &mut state.buffers else { return Step::Stuck };
        let mut src = buffers.received.source(state.config.max_frame());
        let decoded = protocol.decode(&mut src);
        let left = src.len();
        match decoded {
            Ok(Found::Message(message)) if likely(left < before) => {
                state.weight = u32::try_from(src.weight(before - left)).unwrap_or(u32::MAX);
                state.inbox.decoded();
                state.unwatched |= P::IN_PARTS;
                if P::HAS_UNFINISHED && state.inbox.is_incomplete() {
                    state.inbox.watch_message(protocol.unfinished(), left, state.now);
                }
                state.delivered += 1;
                state.replying = true;
                Step::Message(message)
            }
            Ok(Found::Control) if left < before => {
                self.act_on_control();
                Step::Again
            }
            other => {
                state.undecoded(other.map(Found::erase), left);
                if state.layer_waits { Step::Again } else { Step::Stuck }
            }
        }
    }

    /// Goes on decoding after a step that brought no message. `stuck`: no whole message is buffered.
    #[inline(never)]
    fn step_on(&mut self, mut stuck: bool, limit: u64) -> Option<In<P>> {
        loop {
            if stuck && !self.state.layer_waits {
                return self.poll_undecodable();
            }
            if self.protocol.worked() >= limit {
                return None;
            }
            if stuck && !self.unseal_more() {
                return self.poll_undecodable();
            }
            match self.step() {
                Step::Message(message) => return Some(message),
                Step::Stop => return None,
                step => stuck = matches!(step, Step::Stuck),
            }
        }
    }

    /// Lets the protocol write what is due.
    #[inline]
    pub(super) fn write_due(&mut self) {
        if !self.state.status.dues.is_empty() {
            self.write_all_due();
        }
    }

    #[inline(never)]
    fn write_all_due(&mut self) {
        while let Some(due) = self.state.take_due() {
            self.protocol.write_due(&mut Host::new(&mut self.state), due);
        }
    }

    #[inline(never)]
    fn pending_event(&mut self, limit: u64) -> Option<Event<In<P>>> {
        if !self.continue_encoding(limit) {
            return None;
        }
        match self.state.take_pending() {
            pending::OPEN => Some(Event::Open(self.protocol.opened())),
            #[cfg(feature = "websocket")]
            pending::REQUEST => self.protocol.request().map(Event::Request),
            bit => self.state.event(bit),
        }
    }

    /// Lets the layer go on where it had to wait for room. Returns false if it did not.
    #[cold]
    fn unseal_more(&mut self) -> bool {
        let Some(layer) = self.protocol.layer() else { return false };
        self.state.unseal_more(layer);
        true
    }

    fn act_on_control(&mut self) {
        self.state.inbox.decoded();
        self.state.unwatched = true;
        self.state.other_frames += 1;
        self.protocol.handle_control(&mut Host::new(&mut self.state));
    }

    /// Decodes what the application does not see: the opening handshake, and what comes before the peer's
    /// close frame.
    fn decode_handshake(&mut self, limit: u64) {
        while self.protocol.worked() < limit {
            let Session { protocol, state } = self;
            if !state.has_handshake_to_decode() {
                if state.may_unseal_handshake() && self.unseal_more() {
                    continue;
                }
                break;
            }
            let Some(buffers) = &mut state.buffers else { return };
            let before = buffers.received.len();
            let mut src = buffers.received.source(state.config.max_frame());
            let found = protocol.decode(&mut src);
            let left = src.len();
            match found {
                Ok(Found::Message(_)) if left < before => {
                    state.inbox.decoded();
                    state.other_frames += 1;
                }
                Ok(Found::Control) if left < before => self.act_on_control(),
                other => state.undecoded(other.map(Found::erase), left),
            }
        }
        let is_cut_off = self.state.status.read_ended && !self.state.has_handshake_to_decode();
        if self.state.status.phase == Phase::Opening && is_cut_off {
            self.state.finish(CloseReason::Eof { mid_frame: true });
        }
    }

    /// Handles that no whole message is buffered, which may be the end of the stream.
    fn poll_undecodable(&mut self) -> Option<In<P>> {
        let Session { protocol, state } = self;
        if !state.is_delivering() {
            return None;
        }
        let unfinished = if P::HAS_UNFINISHED { protocol.unfinished() } else { None };
        state.unwatched = false;
        if unfinished.is_some() || state.inbox.is_incomplete() {
            state.inbox.watch_message(unfinished, state.buffered(), state.now);
        }
        if state.has_unopened() {
            state.inbox.begin_partial(state.received.bytes, state.now);
        }
        state.watch_partial();
        if state.status.read_ended && !state.read_end_reported {
            if let Some(buffers) = state.buffers.as_mut().filter(|b| !b.received.is_empty()) {
                let before = buffers.received.len();
                match state.inbox.decode_eof(protocol, &mut buffers.received, &state.config) {
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        state.weight = u32::try_from(before - buffers.received.len()).unwrap_or(u32::MAX);
                        state.delivered += 1;
                        state.replying = true;
                        return Some(message);
                    }
                    Err(reason) => {
                        state.fail_decoding(*reason);
                        return None;
                    }
                }
            }
        }
        match state.status.phase {
            Phase::Draining | Phase::LastMessages => state.end_drain(),
            _ if state.status.read_ended => state.read_end_reached(),
            _ => {}
        }
        None
    }
}

/// The result of decoding once.
enum Step<T> {
    Message(T),
    /// There is no message, and nothing to do about it.
    Stop,
    /// No whole message is buffered.
    Stuck,
    /// There was something other than a message.
    Again,
}
