//! Any order of calls on one session, made from bytes, checked against its guarantees.
//!
//! [`run`] is for fuzz targets and property tests: every input is a valid script.
//!
//! Checked throughout: `Closed` comes exactly once and last; messages come whole, in order and once; the
//! output is exactly the accepted messages, in order; progress is correct; sending is refused after the
//! close; nothing is delivered after a close without drain; queues stay within their limits; no deadline
//! stays due after it was handled.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use getty_core::codec::LengthDelimited;
use getty_core::{Close, Config, Event, Framed, Idle, Memory, SendError, Seq, Session};

use crate::clock::Clock;

pub(crate) mod parts;

use parts::{Codec, Script, UNENCODABLE, Unencodable};

/// Runs the script in `data`.
///
/// # Panics
/// If the session violates a guarantee.
pub fn run(data: &[u8]) {
    let mut script = Script { data };
    let mut run = Run::new(&mut script);
    while let Some(op) = script.next() {
        run.step(op, &mut script);
        run.check();
    }
    run.finish();
}

struct Run {
    session: Session<Framed<Codec>>,
    clock: Clock,
    memory: Option<Memory>,
    lent: bool,
    /// Bytes sent by the peer and not handed in yet.
    incoming: VecDeque<u8>,
    /// Messages that must still come, oldest first. No others may come.
    expected: VecDeque<Vec<u8>>,
    made: u8,
    /// Number of bytes handed in.
    handed: u64,
    /// Whether the peer sent an invalid frame: any message may come then.
    garbled: bool,
    /// Accepted bytes not written yet.
    outgoing: VecDeque<u8>,
    /// The end of each accepted message, in bytes since the start.
    ends: Vec<u64>,
    written: u64,
    /// Whether messages may neither come nor be accepted.
    closed: bool,
    draining: bool,
    failed: bool,
    events: u64,
    told_closed: bool,
    half_closed: bool,
    /// Requested `Flushed` events that have not come.
    flush_wanted: Vec<Seq>,
    eof: bool,
}

const MAX_FRAME: usize = 4096;

impl Run {
    fn new(script: &mut Script<'_>) -> Self {
        let clock = Clock::new();
        let (periods, limits) = (script.byte(), script.byte());
        let on = |bit: u8, ms: u64| (periods >> bit & 1 == 1).then(|| Duration::from_millis(ms));
        let config = Config::builder()
            .max_frame(MAX_FRAME)
            .watermarks(limits * 16, limits * 32)
            .max_queued(limits * 64)
            .zero_copy_from(64)
            .cron_period(on(0, 700))
            .idle_read(on(1, 1000))
            .idle_write(on(2, 900))
            .idle_both(on(3, 1100))
            .idle_timeout(on(6, 1300))
            .partial_frame_timeout(on(4, 3000))
            .write_stall_timeout(on(5, 2000))
            .close_timeout(Duration::from_millis(500))
            .build()
            .expect("valid");
        Run {
            session: Session::new(Framed::new(Codec(LengthDelimited::new())), config, clock.now()),
            clock,
            memory: (periods >> 6 & 1 == 1).then(Memory::new),
            lent: false,
            incoming: VecDeque::new(),
            expected: VecDeque::new(),
            made: 0,
            handed: 0,
            garbled: false,
            outgoing: VecDeque::new(),
            ends: Vec::new(),
            written: 0,
            closed: false,
            draining: false,
            failed: false,
            events: 0,
            told_closed: false,
            half_closed: false,
            flush_wanted: Vec::new(),
            eof: false,
        }
    }

    fn step(&mut self, op: u8, script: &mut Script<'_>) {
        let now = self.clock.now();
        match op % 24 {
            0..=2 => self.peer_sends(script.size()),
            3 | 4 => self.hand_in(script.size()),
            5 => self.read_into(script.size()),
            6..=8 => self.send(script.size()),
            9 => self.send_unencodable(),
            10 => self.poll_one(),
            11 => while self.poll_event() {},
            12 => self.poll_batch(script.byte()),
            13 | 14 => self.write(script.size(), op.is_multiple_of(2)),
            15 => self.tick(Duration::from_millis(script.size() as u64)),
            16 => self.tick_to_deadline(),
            17 => self.jump(script.byte()),
            18 => self.session.pause(),
            19 => self.session.resume(now),
            20 => self.turn_memory(),
            21 => self.ask_flushed(),
            22 => self.session.update_active(now),
            _ => self.ends(script.byte(), script.byte()),
        }
    }

    fn peer_sends(&mut self, size: usize) {
        if self.eof {
            return;
        }
        self.made = self.made.wrapping_add(1);
        self.incoming.extend((size as u32).to_be_bytes());
        self.incoming.extend(std::iter::repeat_n(self.made, size));
        if !self.garbled {
            self.expected.push_back(vec![self.made; size]);
        }
    }

    fn hand_in(&mut self, size: usize) {
        let bytes: Vec<u8> = self.incoming.drain(..size.min(self.incoming.len())).collect();
        self.handed += bytes.len() as u64;
        self.session.handle_input(self.clock.now(), &bytes);
    }

    fn read_into(&mut self, size: usize) {
        let mut room = self.session.recv_buf();
        let n = size.min(self.incoming.len()).min(room.remaining_mut());
        for byte in self.incoming.drain(..n) {
            room.put_u8(byte);
        }
        self.handed += n as u64;
        self.session.handle_read(self.clock.now());
    }

    fn send(&mut self, size: usize) {
        let item = Bytes::from(vec![size as u8; size]);
        if item == UNENCODABLE {
            return;
        }
        let before = self.session.stats();
        match self.session.send(item.clone()) {
            Ok(accepted) => {
                assert!(!self.closed || self.draining, "taken after the close");
                assert!(!self.half_closed, "taken after the half-close");
                assert_eq!(accepted.bytes, size + 4);
                self.outgoing.extend((size as u32).to_be_bytes());
                self.outgoing.extend(&item);
                self.ends.push(self.ends.last().unwrap_or(&0) + accepted.bytes as u64);
                assert_eq!(accepted.seq.get(), self.ends.len() as u64);
            }
            Err(error) => {
                assert_eq!(self.session.stats().queued, before.queued);
                assert_eq!(self.session.stats().progress, before.progress);
                match &error {
                    SendError::Blocked(_) => assert!(before.queued > self.session.config().high_watermark()),
                    SendError::TooLarge { .. } | SendError::Encode(_) => assert!(size + 4 > MAX_FRAME),
                    _ => assert!(!self.session.is_open()),
                }
                assert!(error.into_item().is_none_or(|back| back == item));
            }
        }
    }

    fn send_unencodable(&mut self) {
        let before = (self.session.queued(), self.session.stats().progress);
        assert!(self.session.send(Bytes::from_static(UNENCODABLE)).is_err());
        assert_eq!((self.session.queued(), self.session.stats().progress), before);
    }

    fn poll_one(&mut self) {
        self.poll_event();
    }

    fn poll_event(&mut self) -> bool {
        let wanted = self.session.wants_poll();
        let Some(event) = self.session.poll_event() else { return false };
        assert!(wanted, "{event:?} without wants_poll");
        assert!(!self.told_closed, "{event:?} after Closed");
        self.events += 1;
        match event {
            Event::Open(_) => assert_eq!(self.events, 1),
            Event::Message(message) => self.got(&message),
            Event::Flushed(seq) => {
                let wanted = self.flush_wanted.len();
                self.flush_wanted.retain(|&waits| waits > seq);
                assert!(self.flush_wanted.len() < wanted, "Flushed({seq}) was not requested");
            }
            Event::Eof => assert!(self.eof && (self.garbled || self.expected.is_empty())),
            Event::Closed(_) => self.told_closed = true,
            _ => {}
        }
        true
    }

    fn poll_batch(&mut self, max: usize) {
        let mut batch = Vec::new();
        assert_eq!(self.session.poll_messages(&mut batch, max), batch.len());
        assert!(batch.len() <= max);
        for message in batch {
            self.got(&message);
        }
    }

    fn got(&mut self, message: &Bytes) {
        assert!(!self.closed || self.draining, "a message after the close");
        if !self.garbled {
            assert_eq!(self.expected.pop_front().as_deref(), Some(&message[..]));
        }
    }

    fn write(&mut self, size: usize, as_shown: bool) {
        let mut out = self.session.outbound(self.clock.now());
        let remaining = out.remaining();
        let mut slices = [io::IoSlice::new(&[]); 4];
        let filled = out.chunks_vectored(&mut slices);
        let shown: Vec<u8> = slices[..filled].iter().flat_map(|s| s.iter().copied()).collect();
        assert!(shown.starts_with(out.chunk()) && shown.len() <= remaining);
        assert_eq!(shown.is_empty(), remaining == 0, "chunks and remaining bytes disagree");
        assert!(self.outgoing.iter().take(shown.len()).eq(shown.iter()), "other bytes than accepted");
        let n = size.min(shown.len());
        // Chunks may show less than is queued, and transports may report too much.
        out.advance(if as_shown { n } else { size });
        let n = if as_shown { n } else { size.min(remaining) };
        self.outgoing.drain(..n);
        self.written += n as u64;
    }

    fn tick(&mut self, step: Duration) {
        let now = self.clock.advance(step);
        self.handle_timeout(now);
    }

    fn tick_to_deadline(&mut self) {
        if let Some(at) = self.session.poll_timeout() {
            let now = self.clock.jump(at.max(self.clock.now()));
            self.handle_timeout(now);
        }
    }

    fn jump(&mut self, how: usize) {
        let now = match how % 4 {
            0 => self.clock.now(),
            1 => self.clock.now() + Duration::from_secs(3600),
            2 => self.clock.now() + Duration::from_secs(49 * 86_400),
            _ => self.clock.at(Duration::ZERO),
        };
        // A clock that goes back is a mistake of the caller; the session's own time never does.
        self.session.handle_timeout(now);
        let now = self.clock.jump(self.clock.now().max(now));
        self.handle_timeout(now);
    }

    fn handle_timeout(&mut self, now: getty_core::Timestamp) {
        self.session.handle_timeout(now);
        assert!(self.session.poll_timeout().is_none_or(|at| at > now), "a deadline stays due");
        assert_eq!(self.session.poll_timeout().is_some(), self.session.timeout_reason().is_some());
    }

    fn turn_memory(&mut self) {
        let before = self.session.stats();
        if let Some(memory) = self.memory.take() {
            self.session.lend(memory);
            self.lent = true;
        } else if self.lent {
            self.memory = Some(self.session.take_back());
            self.lent = false;
        }
        assert_eq!(self.session.stats(), before);
    }

    fn ask_flushed(&mut self) {
        let asked = self.session.notify_flushed();
        assert_eq!(asked.map_or(0, Seq::get), self.ends.len() as u64);
        self.flush_wanted.extend(asked);
    }

    fn ends(&mut self, how: usize, more: usize) {
        let now = self.clock.now();
        let close = match how % 10 {
            0 => Close::graceful(),
            1 => Close::graceful().with_drain(),
            2 => Close::abort(),
            3 => Close::idle(Idle::Both),
            4 => Close::refuse(Arc::new(Unencodable)),
            5 => Close::panicked(),
            6 if self.incoming.is_empty() => {
                self.eof = true;
                return self.session.handle_eof(now);
            }
            6 => return self.half_closed |= self.session.half_close(now).is_ok(),
            7 => {
                self.draining |= self.session.is_open() || self.half_closed && !self.closed;
                (self.failed, self.closed) = (true, true);
                return self.session.handle_io_error(now, io::ErrorKind::ConnectionReset);
            }
            8 => return self.session.handle_shutdown(now),
            9 => {
                self.garbled = true;
                return self.incoming.extend(std::iter::repeat_n(more as u8, 9));
            }
            _ => return,
        };
        let drains = how % 10 == 1 && (!self.closed || self.draining);
        self.session.close(now, close);
        (self.closed, self.draining) = (true, drains);
    }

    fn check(&mut self) {
        let stats = self.session.stats();
        let config = self.session.config();
        let unasked = config.max_queued().max(config.high_watermark() + MAX_FRAME);
        let limit = unasked + config.high_watermark() + MAX_FRAME;
        assert!(stats.queued <= limit, "{} bytes are queued", stats.queued);
        let flushed = self.ends.iter().filter(|&&end| end <= self.written).count() as u64;
        let partly = self.written > flushed.checked_sub(1).map_or(0, |last| self.ends[last as usize]);
        assert_eq!(stats.progress.flushed.map_or(0, Seq::get), flushed);
        assert_eq!(stats.progress.partly_written, partly);
        assert_eq!(stats.progress.accepted.map_or(0, Seq::get), self.ends.len() as u64);
        assert_eq!(stats.sent.bytes, self.written);
        assert!(stats.received.bytes <= self.handed, "counted twice");
        if self.session.queued() > 0 {
            assert_eq!(self.session.queued(), self.outgoing.len());
        }
        if self.told_closed {
            assert!(self.session.is_closed() && !self.session.is_open() && !self.session.is_writable());
            assert!(!self.session.wants_read() && !self.session.wants_shutdown());
            assert_eq!((self.session.poll_timeout(), self.session.queued(), stats.buffered), (None, 0, 0));
        }
    }

    /// Acts as a peer that takes everything and ends its stream: the session must end.
    fn finish(mut self) {
        self.session.resume(self.clock.now());
        self.hand_in(usize::MAX);
        self.session.handle_eof(self.clock.now());
        self.eof = true;
        for round in 0.. {
            assert!(round < 10_000, "the session does not end: {:?}", self.session);
            while self.poll_event() {
                self.check();
            }
            if self.told_closed {
                break;
            }
            self.write(usize::MAX, true);
            if self.session.wants_shutdown() {
                self.session.handle_shutdown(self.clock.now());
            }
            if self.session.is_open() && self.session.queued() == 0 && round > 3 {
                self.session.close(self.clock.now(), Close::graceful().with_drain());
                (self.closed, self.draining) = (true, true);
            }
            self.check();
        }
        self.send(10);
        self.write(usize::MAX, false);
        self.session.notify_flushed();
        self.session.handle_input(self.clock.now(), b"late");
        self.handed += 4;
        self.tick(Duration::from_secs(3600));
        self.session.close(self.clock.now(), Close::abort());
        assert!(self.session.poll_event().is_none(), "an event after Closed");
        self.check();
    }
}
