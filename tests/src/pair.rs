//! [`Pair`]: two sessions and the wires between them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use getty_core::{CloseReason, Config, Event, In, Memory, Protocol, Session, Timestamp};

use crate::clock::Clock;
use crate::wire::{Arrived, Pipe};

pub use crate::wire::{Split, Wire};

/// More work than a session can have at one time.
const ENDLESS: u32 = 1_000_000;

/// Called with each event before it is recorded.
type Callback<P> = Box<dyn FnMut(&mut Session<P>, Timestamp, &Event<In<P>>)>;

/// One end of a [`Pair`].
pub struct End<P: Protocol> {
    /// The session. Call it as you like between steps.
    pub session: Session<P>,
    /// Its events, with the time.
    pub events: Vec<(Timestamp, Event<In<P>>)>,
    /// Whether events are recorded. Default true.
    pub records: bool,
    /// Whether its transport works: reads, writes and ends. A dead one transfers nothing. Default true.
    pub transport: bool,
    callback: Option<Callback<P>>,
    memory: Option<Memory>,
}

/// Two sessions and the wires between them, on a virtual clock that jumps to the next event.
///
/// Messages, half-closes and resets behave as on TCP: an end whose session has ended goes away, and sending
/// to it fails.
pub struct Pair<A: Protocol, B: Protocol = A> {
    /// The time of both ends.
    pub clock: Clock,
    /// One end.
    pub a: End<A>,
    /// The other end.
    pub b: End<B>,
    a_to_b: Pipe,
    b_to_a: Pipe,
    /// Number of jumps that did not advance the time.
    standstill: u32,
}

impl<A: Protocol, B: Protocol> Pair<A, B> {
    /// Makes a pair of new sessions with perfect wires.
    pub fn new(a: A, b: B, config: Arc<Config>) -> Self {
        Self::with_configs(a, config.clone(), b, config)
    }

    /// Makes a pair whose ends have different limits.
    pub fn with_configs(a: A, config_a: Arc<Config>, b: B, config_b: Arc<Config>) -> Self {
        let clock = Clock::new();
        let a = End::new(Session::new(a, config_a, clock.now()));
        let b = End::new(Session::new(b, config_b, clock.now()));
        let [a_to_b, b_to_a] = [Pipe::new(Wire::default()), Pipe::new(Wire::default())];
        Pair { clock, a, b, a_to_b, b_to_a, standstill: 0 }
    }

    /// Sets the behaviour of both wires. Call this before any bytes are in flight.
    #[must_use]
    pub fn wires(mut self, wire: Wire) -> Self {
        self.a_to_b = Pipe::new(wire.clone());
        self.b_to_a = Pipe::new(wire);
        self
    }

    /// Makes both sessions work in lent memory, one for each.
    #[must_use]
    pub fn lending(mut self) -> Self {
        self.a.memory = Some(Memory::new());
        self.b.memory = Some(Memory::new());
        self
    }

    /// Cuts both wires: bytes in flight are lost and both ends fail with a reset.
    pub fn cut(&mut self) {
        for pipe in [&mut self.a_to_b, &mut self.b_to_a] {
            pipe.reset();
        }
    }

    /// Bytes in flight from `a` to `b`, and from `b` to `a`.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.a_to_b.held, self.b_to_a.held)
    }

    /// Does all work that is possible now, then jumps to the next arrival or deadline. Returns false if there
    /// is none.
    pub fn step(&mut self) -> bool {
        self.work();
        match [self.next_arrival(), self.next_deadline()].into_iter().flatten().min() {
            Some(at) => {
                self.jump(at);
                true
            }
            None => false,
        }
    }

    /// Runs until no bytes in flight have a reader. Time passes only for arrivals, and for deadlines before
    /// them.
    pub fn settle(&mut self) {
        self.work();
        while let Some(at) = self.next_arrival() {
            let at = self.next_deadline().map_or(at, |deadline| deadline.min(at));
            self.jump(at);
            self.work();
        }
    }

    /// Runs for `period`, with all arrivals and deadlines in it.
    pub fn run_for(&mut self, period: Duration) {
        self.run_until(self.clock.now() + period);
    }

    /// Runs until both sessions are closed. Returns false if they are not within `limit`.
    pub fn run_until_closed(&mut self, limit: Duration) -> bool {
        let end = self.clock.now() + limit;
        while !(self.a.session.is_closed() && self.b.session.is_closed()) {
            if !self.step() || self.clock.now() > end {
                break;
            }
        }
        self.a.session.is_closed() && self.b.session.is_closed()
    }

    fn run_until(&mut self, end: Timestamp) {
        self.work();
        while let Some(at) = [self.next_arrival(), self.next_deadline()].into_iter().flatten().min()
            && at <= end
        {
            self.jump(at);
            self.work();
        }
        self.clock.jump(end);
        self.work();
    }

    fn jump(&mut self, at: Timestamp) {
        self.standstill = if at > self.clock.now() { 0 } else { self.standstill + 1 };
        assert!(self.standstill < 100, "a deadline stays due at {:?}: {self:?}", self.clock.now());
        self.clock.jump(self.clock.now().max(at));
    }

    fn work(&mut self) {
        let now = self.clock.now();
        for _ in 0..ENDLESS {
            let a = self.a.turn(now, &mut self.a_to_b, &mut self.b_to_a);
            let b = self.b.turn(now, &mut self.b_to_a, &mut self.a_to_b);
            if !a && !b {
                return;
            }
        }
        panic!("the sessions stay busy at {now:?}: {:?}, {:?}", self.a, self.b);
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        [self.a.session.poll_timeout(), self.b.session.poll_timeout()].into_iter().flatten().min()
    }

    /// The time when the next bytes (or end) arrive at an end that reads. Bytes that have arrived already do
    /// not count.
    fn next_arrival(&self) -> Option<Timestamp> {
        let arrival = |pipe: &Pipe, wants: bool| pipe.next_at().filter(|&at| wants && at > self.clock.now());
        let to_a = arrival(&self.b_to_a, self.a.transport && self.a.session.wants_read());
        let to_b = arrival(&self.a_to_b, self.b.transport && self.b.session.wants_read());
        [to_a, to_b].into_iter().flatten().min()
    }
}

impl<P: Protocol> End<P> {
    fn new(session: Session<P>) -> Self {
        End { session, events: Vec::new(), records: true, transport: true, callback: None, memory: None }
    }

    /// Calls `callback` with each event from now on.
    pub fn on_event(&mut self, callback: impl FnMut(&mut Session<P>, Timestamp, &Event<In<P>>) + 'static) {
        self.callback = Some(Box::new(callback));
    }

    /// The received messages.
    pub fn messages(&self) -> Vec<In<P>>
    where
        In<P>: Clone,
    {
        let message = |(_, event): &(_, Event<In<P>>)| match event {
            Event::Message(message) => Some(message.clone()),
            _ => None,
        };
        self.events.iter().filter_map(message).collect()
    }

    /// The reason of the close, if the session is closed.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.events.iter().find_map(|(_, event)| match event {
            Event::Closed(reason) => Some(&**reason),
            _ => None,
        })
    }

    /// Does all work that is possible at `now`. Returns whether there was any.
    fn turn(&mut self, now: Timestamp, out: &mut Pipe, incoming: &mut Pipe) -> bool {
        if let Some(memory) = self.memory.take() {
            self.session.lend(memory);
            let busy = self.turn_in_memory(now, out, incoming);
            self.memory = Some(self.session.take_back());
            return busy;
        }
        self.turn_in_memory(now, out, incoming)
    }

    fn turn_in_memory(&mut self, now: Timestamp, out: &mut Pipe, incoming: &mut Pipe) -> bool {
        self.session.handle_timeout(now);
        let mut busy = self.poll(now);
        if self.transport && !self.session.is_closed() {
            busy |= self.write(now, out);
            busy |= self.read(now, incoming);
            busy |= self.poll(now);
        }
        if self.transport && self.session.is_closed() {
            self.transport = false;
            out.leave(now, incoming);
            busy = true;
        }
        busy
    }

    fn poll(&mut self, now: Timestamp) -> bool {
        let mut told = 0;
        while let Some(event) = self.session.poll_event() {
            told += 1;
            assert!(told < ENDLESS, "the session reports events without end: {self:?}");
            if let Some(callback) = &mut self.callback {
                callback(&mut self.session, now, &event);
            }
            if self.records {
                self.events.push((now, event));
            }
        }
        told > 0
    }

    fn write(&mut self, now: Timestamp, pipe: &mut Pipe) -> bool {
        let mut outbound = self.session.outbound(now);
        let mut taken = 0;
        let mut failed = false;
        while outbound.has_remaining() && !failed {
            failed = pipe.broken;
            let n = outbound.chunk().len().min(pipe.room());
            if n == 0 || failed {
                break;
            }
            pipe.push(now, &outbound.chunk()[..n]);
            outbound.advance(n);
            taken += n;
        }
        drop(outbound);
        if failed {
            self.session.handle_io_error(now, io::ErrorKind::BrokenPipe);
        } else if self.session.wants_shutdown() {
            pipe.end(now);
            self.session.handle_shutdown(now);
            return true;
        }
        failed || taken > 0
    }

    fn read(&mut self, now: Timestamp, pipe: &mut Pipe) -> bool {
        if !self.session.wants_read() {
            return false;
        }
        match pipe.pull(now) {
            Arrived::Nothing => return false,
            Arrived::Bytes(bytes) => self.session.handle_input(now, &bytes),
            Arrived::End => self.session.handle_eof(now),
            Arrived::Reset => self.session.handle_io_error(now, io::ErrorKind::ConnectionReset),
        }
        true
    }
}

impl<P: Protocol> fmt::Debug for End<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.session.stats();
        f.debug_struct("End")
            .field("stats", &stats)
            .field("events", &self.events.len())
            .finish_non_exhaustive()
    }
}

impl<A: Protocol, B: Protocol> fmt::Debug for Pair<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pair { clock, a, b, .. } = self;
        f.debug_struct("Pair").field("clock", clock).field("a", a).field("b", b).finish_non_exhaustive()
    }
}
