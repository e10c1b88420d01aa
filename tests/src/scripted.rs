//! [`Scripted`]: one session on a transport that follows a script.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use bytes::Buf;
use getty_core::{CloseReason, Event, In, Protocol, Session};

use crate::clock::Clock;

/// More events than a session can have at one time.
const ENDLESS: usize = 1_000_000;

/// The transport's result of one read.
#[derive(Debug, Clone)]
pub enum Read {
    /// These bytes.
    Data(Vec<u8>),
    /// Nothing for now; ends the turn.
    Pending,
    /// A failure.
    Fails(io::ErrorKind),
    /// The end of the peer's stream.
    Eof,
}

/// The transport's result of one write.
#[derive(Debug, Clone, Copy)]
pub enum Write {
    /// Takes this many bytes, or all if there are fewer.
    Takes(usize),
    /// Takes nothing for now.
    Pending,
    /// Fails.
    Fails(io::ErrorKind),
}

/// A session on a scripted transport. Each read and each write uses one entry of its script.
///
/// After the read script reads are pending; after the write script everything is taken.
pub struct Scripted<P: Protocol> {
    /// The session. Call it as you like.
    pub session: Session<P>,
    /// Its time.
    pub clock: Clock,
    /// The remaining read script.
    pub reads: VecDeque<Read>,
    /// The remaining write script.
    pub writes: VecDeque<Write>,
    /// Bytes taken by the transport.
    pub written: Vec<u8>,
    /// Whether the sending side was shut down.
    pub shut_down: bool,
    /// The session's events.
    pub events: Vec<Event<In<P>>>,
}

impl<P: Protocol> Scripted<P> {
    /// Makes a transport for `session`, which must begin at the start of a new [`Clock`].
    pub fn new(session: Session<P>) -> Self {
        Scripted {
            session,
            clock: Clock::new(),
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            written: Vec::new(),
            shut_down: false,
            events: Vec::new(),
        }
    }

    /// Adds to the read script.
    #[must_use]
    pub fn reading(mut self, reads: impl IntoIterator<Item = Read>) -> Self {
        self.reads.extend(reads);
        self
    }

    /// Adds to the write script.
    #[must_use]
    pub fn writing(mut self, writes: impl IntoIterator<Item = Write>) -> Self {
        self.writes.extend(writes);
        self
    }

    /// Runs one turn: timer, events, writes until one is pending, shutdown of the sending side, one read.
    /// Returns whether the session has more to do at once.
    pub fn turn(&mut self) -> bool {
        let now = self.clock.now();
        self.session.handle_timeout(now);
        let mut busy = self.poll();
        self.write();
        if self.session.wants_shutdown() {
            self.shut_down = true;
            self.session.handle_shutdown(now);
            busy = true;
        }
        if self.session.wants_read() {
            busy |= self.read();
        }
        self.poll() || busy
    }

    /// Runs turns until nothing more happens at this time.
    ///
    /// # Panics
    /// After 100 000 turns: the session is in a busy loop.
    pub fn run(&mut self) {
        let turns = (0..100_000).take_while(|_| self.turn()).count();
        assert!(turns < 100_000, "the session stays busy: {:?}", self.session.stats());
    }

    /// The reason of the close, if the session is closed.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::Closed(reason) => Some(&**reason),
            _ => None,
        })
    }

    fn poll(&mut self) -> bool {
        let before = self.events.len();
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()).take(ENDLESS));
        let told = self.events.len() - before;
        assert!(told < ENDLESS, "the session reports events without end: {:?}", self.session.stats());
        told > 0
    }

    fn write(&mut self) {
        let now = self.clock.now();
        loop {
            let mut out = self.session.outbound(now);
            if !out.has_remaining() {
                return;
            }
            match self.writes.pop_front().unwrap_or(Write::Takes(usize::MAX)) {
                Write::Takes(n) => {
                    let n = n.min(out.chunk().len());
                    self.written.extend_from_slice(&out.chunk()[..n]);
                    out.advance(n);
                }
                Write::Pending => return,
                Write::Fails(kind) => {
                    drop(out);
                    return self.session.handle_io_error(now, kind);
                }
            }
        }
    }

    fn read(&mut self) -> bool {
        let now = self.clock.now();
        match self.reads.pop_front() {
            None | Some(Read::Pending) => return false,
            Some(Read::Data(bytes)) => self.session.handle_input(now, &bytes),
            Some(Read::Fails(kind)) => self.session.handle_io_error(now, kind),
            Some(Read::Eof) => self.session.handle_eof(now),
        }
        true
    }
}

impl<P: Protocol> fmt::Debug for Scripted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scripted { clock, reads, writes, .. } = self;
        let stats = self.session.stats();
        f.debug_struct("Scripted")
            .field("stats", &stats)
            .field("clock", clock)
            .field("reads", reads)
            .field("writes", writes)
            .finish_non_exhaustive()
    }
}
