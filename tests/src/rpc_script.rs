//! Any order of calls, streams, cancels, faults and clock steps on two RPC peers, made from bytes.
//!
//! [`run`] is for fuzz targets and property tests: every input is a valid script.
//!
//! Checked throughout: every call ends exactly once unless it was given up; what a failure says about its
//! execution is true; items come in order, once, and all of them before the end; honest peers break no rule;
//! limits hold; both ends go on reading; no deadline stays due. In the end everything that is answered and
//! taken ends, and no call is left on either side. While one end sends frames made by hand, what it says is
//! not checked, and all else is.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use getty_core::rpc::{
    Body, CallId, Cancelled, Code, CodecName, Coding, Config, Event, Executed, Frame, FrameFault, GoAway,
    GoAwayCode, Hello, Invalid, ItemError, PeerFault, Reply, Request, Status,
};
use getty_core::{Close, Timestamp};

use crate::rpc::Link;
use crate::script::parts::Script;

/// The number of a request that was made by hand.
const FORGED: u32 = u32::MAX;

/// Runs the script in `data`.
///
/// # Panics
/// If a peer violates a guarantee.
pub fn run(data: &[u8]) {
    let mut script = Script { data };
    let mut run = Run::new(script.byte());
    while let Some(op) = script.next() {
        run.step(op, &mut script);
        run.check();
    }
    run.finish();
}

/// A call, as both applications see it.
#[derive(Debug, Default)]
struct Record {
    more: bool,
    begun: bool,
    /// The caller has given it up.
    given_up: bool,
    /// How it ended: without `Executed`, well.
    ended: Option<Option<Executed>>,
    /// Items accepted from the caller, and from the handler.
    sent: [u32; 2],
    /// Items reported to the handler, and to the caller.
    received: [u32; 2],
    finished: bool,
    end_reported: bool,
}

/// A call of an end.
#[derive(Debug)]
struct Own {
    id: CallId,
    number: u32,
}

/// A call that an end takes.
#[derive(Debug)]
struct Handler {
    id: CallId,
    number: u32,
    bytes: usize,
    /// No answer is wanted: it was one-way, or is cancelled.
    runs_on: bool,
    cancelled: bool,
}

#[derive(Debug, Default)]
struct App {
    own: Vec<Own>,
    handlers: Vec<Handler>,
    /// Items that were reported and not consumed.
    held: Vec<(CallId, usize)>,
    /// Calls that are over.
    stale: Vec<CallId>,
    drained: bool,
}

struct Run {
    link: Link,
    apps: [App; 2],
    records: Vec<Record>,
    config: Arc<Config>,
    max_pending: usize,
    start: Timestamp,
    honest: bool,
    /// The session was closed or cut by the script.
    over: bool,
}

impl Run {
    fn new(setup: usize) -> Self {
        let max_pending = if setup & 1 > 0 { 16 << 20 } else { 40_000 };
        let window = if setup & 2 > 0 { 64 * 1024 } else { 16 * 1024 };
        let capacity = [100, 3000, 64 * 1024, 1 << 20][setup >> 2 & 3];
        let heartbeat = (setup & 16 > 0).then_some(Duration::from_secs(3));
        let mut config = Config::builder()
            .max_calls(16)
            .max_waiting(40)
            .max_pending_bytes(max_pending)
            .window(window)
            .max_item(100_000)
            .max_frame(if setup & 32 > 0 { 8 << 20 } else { 64 * 1024 })
            .resets(5000, 10)
            .deflate(setup & 32 == 0)
            .heartbeat(heartbeat);
        if setup & 64 > 0 {
            let ms = Duration::from_millis;
            config = config.deadlines(ms(2), ms(5000), ms(1000));
        }
        let config = config.build().expect("a valid config");
        let mut link = Link::new(config.clone(), config.clone(), capacity);
        if setup & 128 > 0 {
            link.settle();
        }
        Run {
            start: link.now(),
            link,
            apps: Default::default(),
            records: Vec::new(),
            config,
            max_pending,
            honest: true,
            over: false,
        }
    }

    fn step(&mut self, op: u8, script: &mut Script<'_>) {
        let at = usize::from(op & 1);
        let now = self.link.now();
        match op >> 1 & 31 {
            kind @ 0..=3 => self.call(at, kind, script),
            4 => self.respond(at, script.byte(), Ok(script.size() * 20)),
            5 => self.respond(at, script.byte(), Err(script.byte())),
            6 => {
                if let Some(handler) = self.take_handler(at, script.byte()) {
                    self.link.ends[at].peer.release(handler.id);
                }
            }
            7 => self.send_item(at, true, script.byte(), script.size() * 16),
            8 => self.send_item(at, false, script.byte(), script.size() * 16),
            9 => self.finish_stream(at, script.byte()),
            10 => self.consume(at, 1 + script.byte() / 32),
            11 => self.cancel(at, script.byte()),
            12 => self.poll(at, 1 + script.byte() / 16),
            13 => self.poll(at, usize::MAX),
            14 => self.exchange(),
            15 | 16 => {
                self.link.step();
            }
            17 => (0..4).for_each(|_| self.exchange()),
            18 => self.pass(Duration::from_micros(1 << (script.byte() % 15))),
            19 => self.pass(Duration::from_millis(script.byte() as u64 * 20)),
            20 => self.link.ends[at].stalled ^= true,
            21 => {
                if script.byte().is_multiple_of(4) {
                    self.link.ends[at].peer.go_away(now, GoAwayCode::Shutdown, "bye");
                }
            }
            22 => {
                if script.byte().is_multiple_of(4) {
                    self.over = true;
                    self.link.cut();
                }
            }
            23 => {
                if script.byte().is_multiple_of(4) {
                    self.over = true;
                    self.link.ends[at].session.close(now, Close::graceful());
                }
            }
            24 => self.stale(at, script.byte()),
            25 => {
                if script.byte().is_multiple_of(4) {
                    self.honest = false;
                    let frame = forge(script);
                    self.link.hear(at, frame);
                }
            }
            26 => {
                if !self.honest {
                    let frame = forge(script);
                    self.link.hear(at, frame);
                }
            }
            27 => {
                // A clock that goes back.
                let back = Duration::from_millis(script.byte() as u64);
                let to = Timestamp::from_nanos(now.as_nanos().saturating_sub(back.as_nanos() as u64));
                self.link.clock.jump(to);
                self.link.step();
                self.link.clock.jump(now);
            }
            28 => self.link.ends[at].peer.handle_alive(now),
            29 => self.refuse(at),
            _ => self.exchange(),
        }
    }

    /// One turn of both ends, and of both applications.
    fn exchange(&mut self) {
        self.link.step();
        self.poll(0, usize::MAX);
        self.poll(1, usize::MAX);
    }

    fn pass(&mut self, time: Duration) {
        self.link.clock.advance(time);
        self.link.step();
    }

    fn call(&mut self, at: usize, kind: u8, script: &mut Script<'_>) {
        let now = self.link.now();
        let number = self.records.len() as u32;
        let mut body = BytesMut::new();
        body.put_u32(number);
        body.put_bytes(7, script.size() * if kind == 1 { 40 } else { 1 });
        let request = Request {
            one_way: kind == 2,
            more: kind == 3,
            ..Request::new("a/b", CodecName::Raw, coded(number, body.freeze()))
        };
        let more = request.more;
        let deadline = match script.byte() {
            n @ 0..=99 => Some(now + Duration::from_micros(n as u64 * n as u64 * 100)),
            255 => Some(now + Duration::MAX),
            _ => None,
        };
        match self.link.ends[at].peer.call(now, request, deadline) {
            Ok(id) => {
                self.apps[at].own.push(Own { id, number });
                self.records.push(Record { more, ..Record::default() });
            }
            Err(refused) => assert_eq!(refused.status.executed(), Executed::No),
        }
    }

    fn take_handler(&mut self, at: usize, nth: usize) -> Option<Handler> {
        let app = &mut self.apps[at];
        let nth = nth.checked_rem(app.handlers.len())?;
        let handler = app.handlers.swap_remove(nth);
        app.stale.push(handler.id);
        app.held.retain(|(id, _)| *id != handler.id);
        Some(handler)
    }

    fn respond(&mut self, at: usize, nth: usize, answer: Result<usize, usize>) {
        let Some(handler) = self.take_handler(at, nth) else { return };
        let answer = match answer {
            Ok(size) => {
                Ok(Reply { body: coded(handler.number, Bytes::from(vec![1; size])), ..Reply::default() })
            }
            Err(code) => {
                let details = Bytes::from(vec![2; code * 400]);
                Err(Status::aborted("e".repeat(code * 100)).with_details(details))
            }
        };
        self.link.ends[at].peer.respond(handler.id, answer);
    }

    fn send_item(&mut self, at: usize, own: bool, nth: usize, size: usize) {
        let app = &self.apps[at];
        let count = if own { app.own.len() } else { app.handlers.len() };
        let Some(nth) = nth.checked_rem(count) else { return };
        let (id, number) = match own {
            true => (app.own[nth].id, app.own[nth].number),
            false => (app.handlers[nth].id, app.handlers[nth].number),
        };
        let Some(record) = self.records.get_mut(number as usize) else { return };
        let mut body = BytesMut::new();
        body.put_u32(record.sent[usize::from(!own)]);
        body.put_bytes(3, size);
        let item = coded(record.sent[usize::from(!own)], body.freeze());
        match self.link.ends[at].peer.send_item(id, item) {
            Ok(()) => {
                assert!(!own || record.more && !record.finished);
                record.sent[usize::from(!own)] += 1;
            }
            Err(ItemError::Blocked(item)) => assert_eq!(item.bytes.len(), size + 4),
            Err(ItemError::TooLarge { bytes, limit }) => assert!(bytes > limit),
            Err(_) => {}
        }
    }

    fn finish_stream(&mut self, at: usize, nth: usize) {
        let app = &self.apps[at];
        let Some(nth) = nth.checked_rem(app.own.len()) else { return };
        self.records[app.own[nth].number as usize].finished = true;
        self.link.ends[at].peer.finish(app.own[nth].id);
    }

    /// Consumes the first items that were reported.
    fn consume(&mut self, at: usize, most: usize) {
        let app = &mut self.apps[at];
        for (id, bytes) in app.held.drain(..most.min(app.held.len())) {
            self.link.ends[at].peer.consumed(id, bytes);
        }
    }

    fn cancel(&mut self, at: usize, nth: usize) {
        let app = &mut self.apps[at];
        let Some(nth) = nth.checked_rem(app.own.len()) else { return };
        let own = app.own.swap_remove(nth);
        app.stale.push(own.id);
        app.held.retain(|(id, _)| *id != own.id);
        self.records[own.number as usize].given_up = true;
        self.link.ends[at].peer.cancel(self.link.clock.now(), own.id);
    }

    /// Commands about a call that is over.
    fn stale(&mut self, at: usize, nth: usize) {
        let app = &self.apps[at];
        let Some(nth) = nth.checked_rem(app.stale.len()) else { return };
        let id = app.stale[nth];
        let peer = &mut self.link.ends[at].peer;
        peer.cancel(self.link.clock.now(), id);
        peer.respond(id, Ok(Reply::default()));
        peer.release(id);
        peer.finish(id);
        peer.consumed(id, 10_000);
        assert!(peer.send_item(id, Body::default()).is_err());
    }

    /// The session has no room for the next frame.
    fn refuse(&mut self, at: usize) {
        let end = &mut self.link.ends[at];
        if let Some(frame) = end.peer.poll_frame(self.link.clock.now()) {
            end.peer.frame_refused(getty_core::SendError::Blocked(frame));
        }
    }

    fn poll(&mut self, at: usize, most: usize) {
        for polled in 0..most {
            assert!(polled < 100_000, "events without end");
            let Some(event) = self.link.ends[at].peer.poll_event() else { return };
            self.event(at, event);
        }
    }

    fn event(&mut self, at: usize, event: Event) {
        let app = &mut self.apps[at];
        match event {
            Event::Request(id, request) => {
                let bytes = request.body.bytes.len();
                let number = number(&request.body);
                if let Some(record) = self.records.get_mut(number as usize) {
                    assert!(!std::mem::replace(&mut record.begun, true), "it begins twice");
                    if self.honest {
                        assert_ne!(record.ended, Some(Some(Executed::No)), "it begins after all");
                        assert_eq!(record.more, request.more);
                    }
                }
                app.handlers.push(Handler { id, number, bytes, runs_on: request.one_way, cancelled: false });
            }
            Event::Ended(id, result) => {
                let nth = app.own.iter().position(|own| own.id == id).expect("a call that is not over");
                let own = app.own.swap_remove(nth);
                app.stale.push(id);
                app.held.retain(|(held, _)| *held != id);
                let record = &mut self.records[own.number as usize];
                assert!(record.ended.is_none() && !record.given_up);
                let broken = matches!(&result, Err(status)
                    if status.code() == Code::InvalidArgument || status.message().contains("broke a rule"));
                assert!(!broken || !self.honest, "an honest peer broke a rule of a call: {result:?}");
                let executed = result.err().map(|status| status.executed());
                record.ended = Some(executed);
                if self.honest {
                    match executed {
                        Some(Executed::No) => assert!(!record.begun, "it has begun"),
                        Some(Executed::Yes) => assert!(record.begun, "it has not begun"),
                        Some(Executed::Maybe) => {}
                        None => {
                            assert!(record.begun);
                            assert_eq!(record.received[1], record.sent[1], "items are missing");
                        }
                    }
                }
            }
            Event::Item(id, item) => {
                let own = app.own.iter().find(|own| own.id == id).map(|own| (own.number, 1));
                let handler = app.handlers.iter().find(|handler| handler.id == id).map(|h| (h.number, 0));
                let (call, half) = own.or(handler).expect("an item of a call that is open");
                app.held.push((id, item.bytes.len()));
                if let Some(record) = self.records.get_mut(call as usize).filter(|_| self.honest) {
                    assert_eq!(number(&item), record.received[half], "out of order");
                    record.received[half] += 1;
                }
            }
            Event::End(id) => {
                let handler =
                    app.handlers.iter().find(|handler| handler.id == id).expect("a call that is open");
                if let Some(record) = self.records.get_mut(handler.number as usize).filter(|_| self.honest) {
                    assert!(!std::mem::replace(&mut record.end_reported, true) && record.finished);
                    assert_eq!(record.received[0], record.sent[0], "items are missing");
                }
            }
            Event::Cancelled(id, why) => {
                let nth =
                    app.handlers.iter().position(|handler| handler.id == id).expect("a call that is open");
                let handler = &mut app.handlers[nth];
                assert!(!std::mem::replace(&mut handler.cancelled, true), "cancelled twice");
                handler.runs_on = true;
                assert!(!self.honest || why != Cancelled::Fault || self.config.max_pending_bytes() < 1 << 20);
                app.held.retain(|(held, _)| *held != id);
                if handler.number.is_multiple_of(2) {
                    let handler = app.handlers.swap_remove(nth);
                    app.stale.push(id);
                    self.link.ends[at].peer.release(handler.id);
                }
            }
            Event::Room(id) => {
                let is_open = app.own.iter().any(|own| own.id == id);
                assert!(is_open || app.handlers.iter().any(|handler| handler.id == id));
            }
            Event::Drained => {
                assert!(!std::mem::replace(&mut app.drained, true), "drained twice");
                assert!(app.own.is_empty() && app.handlers.is_empty());
            }
            _ => {}
        }
    }

    fn check(&mut self) {
        let now = self.link.now();
        for (end, app) in self.link.ends.iter_mut().zip(&self.apps) {
            assert!(end.always_read, "an end has stopped reading");
            assert!(app.handlers.len() <= self.config.max_calls() as usize, "too many handlers");
            let bytes: usize = app.handlers.iter().map(|handler| handler.bytes).sum();
            let held: usize = app.held.iter().map(|(_, bytes)| bytes).sum();
            // The item that exceeds the limit ends its call once it was reported.
            assert!(bytes + held <= self.max_pending, "{bytes} + {held} bytes of the peer");
            let _ = end.peer.handle_timeout(now);
            let due = end.peer.poll_timeout();
            assert!(due.is_none_or(|at| at > now), "a deadline that stays due");
            if let Some(fault) = end.fault.filter(|_| self.honest) {
                let of_time =
                    matches!(fault, PeerFault::Silent | PeerFault::HelloTimeout | PeerFault::CancelIgnored);
                let waited = now.saturating_duration_since(self.start) > Duration::from_secs(2);
                assert!(of_time && waited, "an honest peer broke a rule: {fault}");
            }
        }
    }

    /// Lets everything finish.
    fn finish(mut self) {
        self.link.ends.iter_mut().for_each(|end| end.stalled = false);
        self.rest();
        // A call whose deadline has passed at one end ends at the other by its own.
        self.link.run_for(Duration::from_secs(6));
        self.rest();
        self.settled();
    }

    /// Answers and takes everything until nothing happens any longer.
    fn rest(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "it does not come to rest");
            let mut moved = self.link.step();
            for at in [0, 1] {
                while let Some(event) = self.link.ends[at].peer.poll_event() {
                    self.event(at, event);
                    moved = true;
                }
                self.consume(at, usize::MAX);
                for nth in 0..self.apps[at].own.len() {
                    self.finish_stream(at, nth);
                }
                // Streams are read to their end first.
                let ready = |handler: &Handler| {
                    let record = self.records.get(handler.number as usize);
                    let waits = record.is_some_and(|record| record.more && !record.end_reported);
                    !waits || handler.runs_on || !self.honest
                };
                if let Some(nth) = self.apps[at].handlers.iter().position(ready) {
                    self.respond(at, nth, Ok(10));
                    moved = true;
                }
            }
            self.check();
            if !moved {
                return;
            }
        }
    }

    /// Checks that nothing is left, and then that nothing is left once the connection has ended.
    fn settled(mut self) {
        let lives = self.honest && !self.over && self.link.ends.iter().all(|end| end.closed.is_none());
        if lives {
            for (end, app) in self.link.ends.iter().zip(&self.apps) {
                assert_eq!(app.own.len(), 0, "calls without an end");
                assert_eq!(app.handlers.len(), 0, "handlers without an end");
                assert_eq!((end.peer.open_calls(), end.peer.wants_write()), (0, false));
                assert!(!end.peer.has_work(), "work without a call");
                let drains = end.peer.is_leaving();
                assert_eq!(app.drained, drains, "the go-away does not end");
            }
        }
        self.link.cut();
        for at in [0, 1] {
            self.poll(at, usize::MAX);
            while let Some(handler) = self.take_handler(at, 0) {
                assert!(handler.runs_on, "it was not cancelled");
                self.link.ends[at].peer.release(handler.id);
            }
            let end = &self.link.ends[at];
            assert!(end.closed.is_some());
            assert_eq!((end.peer.open_calls(), end.peer.wants_write()), (0, false));
            assert!(self.apps[at].own.is_empty(), "calls without an end");
        }
        for record in &self.records {
            assert!(record.ended.is_some() || record.given_up);
        }
        self.link.clock.advance(Duration::from_secs(3600));
        for _ in 0..3 {
            self.check();
        }
        assert!(self.link.ends.iter().all(|end| end.peer.poll_timeout().is_none()));
    }
}

/// A body that is compressed where its number is odd.
fn coded(number: u32, bytes: Bytes) -> Body {
    let body = Body::from(bytes);
    if number % 2 == 1 { body.compressible() } else { body }
}

/// The number in a body.
fn number(body: &Body) -> u32 {
    body.bytes.first_chunk().map_or(FORGED, |bytes| u32::from_be_bytes(*bytes))
}

/// A frame that nobody meant.
fn forge(script: &mut Script<'_>) -> Frame {
    let id = match script.byte() {
        255 => 131_073,
        254 => 131_074,
        n => n as u32 % 24,
    };
    let body = |size: usize| {
        if id % 8 != 6 {
            return Body::from(Bytes::from(vec![0xff; size]));
        }
        // Nothing, what is not DEFLATE, and an algorithm that is not known.
        let bytes: [&'static [u8]; 3] = [b"\x01\x03\x00", b"\x01\xff\x00", b"\x02\x03\x00"];
        Body { bytes: bytes[size % 3].into(), coding: Coding::Compressed }
    };
    let request = |script: &mut Script<'_>, size| {
        let flags = script.byte();
        let timeout = (flags & 4 > 0).then(|| Duration::from_millis(script.byte() as u64));
        let request = Request::new("a/b", CodecName::Raw, body(size));
        Request { more: flags & 3 == 1, one_way: flags & 3 == 2, timeout, ..request }
    };
    match script.byte() % 20 {
        0 => Frame::Hello(Hello {
            max_calls: script.byte() as u32,
            window: 16_384 + script.byte() as u32,
            max_frame: 65_536,
            deflate: false,
            software: "".into(),
        }),
        1..=4 => {
            let size = script.size() * 16;
            Frame::Request(id, request(script, size))
        }
        5 => Frame::Reply(id, Reply { body: body(script.byte()), ..Reply::default() }),
        6 => Frame::Error(id, Status::aborted("forged").with_executed(Executed::No)),
        7 | 8 => Frame::Cancel(id),
        9..=11 => Frame::Item(id, body(script.size() * 30)),
        12 => Frame::End(id),
        13 => Frame::Window(id, [0, 1, 70_000, 1 << 30, u32::MAX][script.byte() % 5]),
        14 => Frame::Ping(script.byte() as u64),
        15 => Frame::Pong(script.byte() as u64),
        16 => Frame::GoAway(GoAway { code: GoAwayCode::Shutdown, text: "forged".into() }),
        17 => Frame::Calls([0, 16, 17, u32::MAX][script.byte() % 4]),
        18 => Frame::Skipped(200),
        _ => {
            let fault = [FrameFault::Head, FrameFault::Field(1), FrameFault::Kind(99)][script.byte() % 3];
            Frame::Invalid(Invalid { kind: [1, 2, 3, 5, 7, 99][script.byte() % 6], id, fault })
        }
    }
}
