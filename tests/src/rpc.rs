//! [`Link`]: two RPC peers with their sessions, joined by pipes of limited capacity, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use getty_core::rpc::{Coders, Config, Event, Frame, Frames, Peer, PeerFault, Side};
use getty_core::{Close, CloseReason, Event as SessionEvent, Framed, IoFailure, Session, Timestamp};

use crate::clock::Clock;

/// One end of a [`Link`].
#[derive(Debug)]
pub struct End {
    /// The session.
    pub session: Session<Framed<Frames>>,
    /// The machine.
    pub peer: Peer,
    /// The rule that the other end broke.
    pub fault: Option<PeerFault>,
    /// The reason why the session ended.
    pub closed: Option<Box<CloseReason>>,
    /// Whether the session wanted to read at the end of each turn while it was open.
    pub always_read: bool,
    /// Reads nothing, as if its program had stopped.
    pub stalled: bool,
    coders: Coders,
}

impl End {
    fn new(rpc: Arc<Config>, session: Arc<getty_core::Config>, side: Side, now: Timestamp) -> Self {
        End {
            session: Session::new(Framed::new(Frames::new()), session, now),
            peer: Peer::new(rpc, side, now),
            fault: None,
            closed: None,
            always_read: true,
            stalled: false,
            coders: Coders::default(),
        }
    }

    /// Hands the peer what the session has received.
    fn receive(&mut self, now: Timestamp) -> bool {
        let mut moved = false;
        while let Some(event) = self.session.poll_event() {
            moved = true;
            match event {
                SessionEvent::Message(frame) => {
                    if let Err(fault) = self.peer.handle_frame(now, frame) {
                        self.fail(now, fault);
                    }
                }
                SessionEvent::Eof => self.session.close(now, Close::graceful()),
                SessionEvent::Closed(reason) => {
                    let progress = self.session.stats().progress;
                    self.peer.handle_closed(now, &reason, &progress);
                    self.closed = Some(reason);
                }
                _ => {}
            }
        }
        moved
    }

    fn fail(&mut self, now: Timestamp, fault: PeerFault) {
        self.fault = Some(fault);
        self.send(now);
        self.session.close(now, Close::fault(Arc::new(fault)));
    }

    /// Sends what the peer has while there is room.
    fn send(&mut self, now: Timestamp) -> bool {
        let mut moved = false;
        self.session.end_reply();
        while self.session.is_open() && self.session.is_writable() {
            let Some(frame) = self.peer.poll_frame(now) else {
                assert!(!self.peer.wants_write(), "it wants to write and has nothing");
                break;
            };
            moved = true;
            match self.session.send(frame) {
                Ok(accepted) => self.peer.frame_sent(accepted),
                Err(error) => self.peer.frame_refused(error),
            }
        }
        moved
    }

    fn turn(&mut self, now: Timestamp) -> bool {
        let received = self.receive(now);
        self.session.handle_timeout(now);
        if let Err(fault) = self.peer.handle_timeout(now) {
            self.fail(now, fault);
        }
        let worked = self.peer.has_work();
        self.peer.work(0, &mut self.coders);
        let sent = self.send(now);
        if self.session.is_open() {
            self.always_read &= self.session.wants_read();
        }
        received || worked || sent
    }
}

/// Two RPC peers with their sessions, joined by pipes, in virtual time. The first end connected.
#[derive(Debug)]
pub struct Link {
    /// The time.
    pub clock: Clock,
    /// The two ends.
    pub ends: [End; 2],
    pipes: [BytesMut; 2],
    capacity: usize,
    is_cut: bool,
}

impl Link {
    /// Joins two ends by pipes of `capacity` bytes.
    pub fn new(a: Arc<Config>, b: Arc<Config>, capacity: usize) -> Self {
        let session = getty_core::Config::builder().max_frame(16 << 20).build().expect("a valid config");
        let clock = Clock::new();
        let ends = [(a, Side::Connecting), (b, Side::Accepting)];
        let ends = ends.map(|(rpc, side)| End::new(rpc, session.clone(), side, clock.now()));
        Link { clock, ends, pipes: Default::default(), capacity, is_cut: false }
    }

    /// Joins two ends with the default limits by pipes of 64 KiB, and lets them open.
    pub fn open() -> Self {
        let mut link = Link::new(Arc::default(), Arc::default(), 64 * 1024);
        link.settle();
        for end in &mut link.ends {
            assert!(matches!(end.peer.poll_event(), Some(Event::Hello(_))));
        }
        link
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets each end have one turn and moves bytes. Returns whether anything happened.
    pub fn step(&mut self) -> bool {
        let now = self.clock.now();
        let mut moved = false;
        for (from, to) in [(0, 1), (1, 0)] {
            moved |= self.ends[from].turn(now);
            let pipe = &mut self.pipes[from];
            if !self.is_cut {
                let mut outbound = self.ends[from].session.outbound(now);
                while outbound.has_remaining() && pipe.len() < self.capacity {
                    let n = outbound.chunk().len().min(self.capacity - pipe.len());
                    pipe.extend_from_slice(&outbound.chunk()[..n]);
                    outbound.advance(n);
                    moved = true;
                }
                drop(outbound);
                if self.ends[from].session.wants_shutdown() {
                    self.ends[from].session.handle_shutdown(now);
                    self.ends[to].session.handle_eof(now);
                    moved = true;
                }
            }
            let receiver = &mut self.ends[to];
            if !pipe.is_empty() && receiver.session.wants_read() && !receiver.stalled {
                receiver.session.handle_input(now, pipe);
                pipe.clear();
                moved = true;
            }
        }
        moved
    }

    /// Steps until nothing happens any longer at this time.
    ///
    /// # Panics
    /// Panics if that takes more than a million steps.
    pub fn settle(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the ends do not settle");
    }

    /// Lets time pass, with a turn at every deadline.
    pub fn run_for(&mut self, period: Duration) {
        let end = self.clock.now() + period;
        loop {
            self.settle();
            let deadlines = self.ends.iter().flat_map(|e| [e.peer.poll_timeout(), e.session.poll_timeout()]);
            let next = deadlines.flatten().min().filter(|&next| next < end);
            let next = next.unwrap_or(end).max(self.clock.now());
            self.clock.jump(next);
            if next >= end {
                self.settle();
                return;
            }
        }
    }

    /// Cuts the connection: what is in the pipes is lost.
    pub fn cut(&mut self) {
        let now = self.clock.now();
        self.is_cut = true;
        self.pipes = Default::default();
        for end in &mut self.ends {
            end.session.handle_io_error(now, IoFailure::from(std::io::ErrorKind::ConnectionReset));
        }
        self.settle();
    }

    /// Hands a frame to an end, as if the other one had sent it.
    pub fn hear(&mut self, end: usize, frame: Frame) {
        let now = self.clock.now();
        let end = &mut self.ends[end];
        if let Err(fault) = end.peer.handle_frame(now, frame) {
            end.fail(now, fault);
        }
    }

    /// The bytes on the way from an end.
    pub fn in_flight(&self, from: usize) -> usize {
        self.pipes[from].len()
    }
}
