//! Any order of calls on one WebSocket session, made from bytes, checked against its guarantees.
//!
//! Checked throughout: `Request` comes before `Open`, and `Open` before any message; `Closed` comes exactly
//! once and last; messages come whole, in order and once; the output is a handshake and then well-formed
//! frames with exactly the accepted messages, in order; progress is correct; queues stay within their limits;
//! no deadline stays due after it was handled.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use getty_core::websocket::{
    Accept, ClientRequest, CloseCode, CloseFrame, Message, Response, ServerOptions, Verdict, WebSocket,
};
use getty_core::{Close, Config, Event, Idle, Memory, SendError, Seq, Session, Timestamp};
use tungstenite::handshake::derive_accept_key;

use super::frames::{self, CLOSE, CONTINUATION, FIN, Frame, PING, PONG};
use super::random;
use crate::clock::Clock;
use crate::script::parts::Script;

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

const MAX_FRAME: usize = 4096;
const MAX_MESSAGE: usize = 6000;

/// Bytes of a handshake, a close frame and a ping, which no watermark holds back.
const OWN: usize = 1024;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

struct Run {
    session: Session<WebSocket>,
    server: bool,
    clock: Clock,
    memory: Option<Memory>,
    lent: bool,
    /// Bytes sent by the peer and not handed in yet.
    incoming: VecDeque<u8>,
    /// Messages that must still come, oldest first. No others may come.
    expected: VecDeque<Message>,
    made: u8,
    /// Whether the peer's handshake is in flight, and its close frame.
    shook: bool,
    said_close: bool,
    /// Whether the peer sent an invalid frame: any message may come then.
    garbled: bool,
    /// The accepted messages, and the output.
    accepted: Vec<Message>,
    written: Vec<u8>,
    asked: bool,
    opened: bool,
    /// Whether messages may neither come nor be accepted.
    closed: bool,
    draining: bool,
    told_closed: bool,
    flush_wanted: Vec<Seq>,
    eof: bool,
}

impl Run {
    fn new(script: &mut Script<'_>) -> Self {
        let clock = Clock::new();
        let (how, periods, limits) = (script.byte(), script.byte(), script.byte());
        let on = |bit: u8, ms: u64| (periods >> bit & 1 == 1).then(|| Duration::from_millis(ms));
        let config = Config::builder()
            .max_frame(MAX_FRAME)
            .max_message(MAX_MESSAGE)
            .watermarks(limits * 16, limits * 32)
            .max_queued(limits * 64)
            .zero_copy_from(64)
            .cron_period(on(0, 700))
            .idle_read(on(1, 1000))
            .idle_both(on(2, 1100))
            .idle_timeout(on(7, 1300))
            .partial_frame_timeout(on(3, 3000))
            .write_stall_timeout(on(4, 2000))
            .heartbeat_period(on(5, 800))
            .pong_timeout(on(6, 1500))
            .handshake_timeout(Duration::from_millis(5000))
            .close_timeout(Duration::from_millis(500))
            .build()
            .expect("valid");
        let server = how & 1 == 0;
        let protocol = match server {
            true => WebSocket::server(ServerOptions::new()),
            false => WebSocket::client(ClientRequest::new("ws://a/").expect("valid"), random(5)),
        };
        let mut run = Run {
            session: Session::new(protocol, config, clock.now()),
            server,
            clock,
            memory: (how & 2 != 0).then(Memory::new),
            lent: false,
            incoming: VecDeque::new(),
            expected: VecDeque::new(),
            made: 0,
            shook: false,
            said_close: false,
            garbled: false,
            accepted: Vec::new(),
            written: Vec::new(),
            asked: false,
            opened: false,
            closed: false,
            draining: false,
            told_closed: false,
            flush_wanted: Vec::new(),
            eof: false,
        };
        if how & 4 == 0 {
            run.shake_hands();
        }
        run
    }

    fn shake_hands(&mut self) {
        self.write(usize::MAX);
        self.peer_shakes_hands();
        self.hand_in(usize::MAX);
        self.poll_event();
        self.answer(0);
        self.write(usize::MAX);
        self.poll_event();
        assert!(self.opened);
    }

    fn step(&mut self, op: u8, script: &mut Script<'_>) {
        let now = self.clock.now();
        match op % 28 {
            0 | 1 => self.peer_sends(script.size(), 1),
            2 => self.peer_sends(script.size(), script.byte()),
            3 => self.peer_says(PING, script.size()),
            4 => self.peer_says(PONG, script.size()),
            5 => self.peer_pongs(),
            6 => self.peer_closes(script.size()),
            7 | 8 => self.hand_in(script.size()),
            9 => self.read_into(script.size()),
            10 | 11 => self.send(script.size(), script.byte()),
            12 => drop(self.poll_event()),
            13 => while self.poll_event() {},
            14 => self.poll_batch(script.byte()),
            15 | 16 => self.write(script.size()),
            17 => self.tick(Duration::from_millis(script.size() as u64)),
            18 => self.tick_to_deadline(),
            19 => self.tick(Duration::from_secs(script.byte() as u64)),
            20 => self.session.pause(),
            21 => self.session.resume(now),
            22 => self.turn_memory(),
            23 => self.ask_flushed(),
            24 => self.answer(script.byte()),
            25 => self.peer_shakes_hands(),
            26 => self.ends(script.byte(), script.byte()),
            _ => self.session.end_reply(),
        }
    }

    fn peer_shakes_hands(&mut self) {
        if std::mem::replace(&mut self.shook, true) || self.garbled || self.eof {
            return;
        }
        if self.server {
            self.incoming.extend(REQUEST.bytes());
            return;
        }
        let request = String::from_utf8_lossy(&self.written).into_owned();
        let Some((_, rest)) = request.split_once("Sec-WebSocket-Key: ") else {
            self.shook = false; // the request has not been sent yet
            return;
        };
        let Some((key, _)) = rest.split_once("\r\n").filter(|_| request.ends_with("\r\n\r\n")) else {
            self.shook = false;
            return;
        };
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.incoming.extend(answer.bytes());
    }

    fn peer_sends(&mut self, size: usize, fragments: usize) {
        if self.is_mute() {
            return;
        }
        self.made = self.made.wrapping_add(1);
        let message = message(self.made, size);
        let opcode = if matches!(message, Message::Text(_)) { frames::TEXT } else { frames::BINARY };
        let pieces = (fragments % 5).max(1);
        for piece in 0..pieces {
            let (from, to) = (size * piece / pieces, size * (piece + 1) / pieces);
            let opcode = if piece == 0 { opcode } else { CONTINUATION };
            let fin = if piece + 1 == pieces { FIN } else { 0 };
            self.frame(opcode | fin, &message.as_bytes()[from..to]);
        }
        if !self.garbled {
            self.expected.push_back(message);
        }
    }

    fn peer_says(&mut self, opcode: u8, size: usize) {
        if !self.is_mute() {
            self.frame(opcode | FIN, &vec![self.made; size.min(125)]);
        }
    }

    /// Answers the latest ping.
    fn peer_pongs(&mut self) {
        let pings = self.sent().pings;
        if let Some(ping) = pings.last().filter(|_| !self.is_mute()) {
            self.frame(PONG | FIN, ping);
        }
    }

    fn peer_closes(&mut self, size: usize) {
        if self.is_mute() {
            return;
        }
        let payload = match size % 4 {
            0 => Vec::new(),
            1 => vec![0x03, 0xe8],
            2 => [&[0x0f, 0xa0], "ende".as_bytes()].concat(),
            _ => vec![0x03],
        };
        self.frame(CLOSE | FIN, &payload);
        self.said_close = true;
    }

    /// Whether the peer may not send, or not yet.
    fn is_mute(&self) -> bool {
        !self.shook || self.eof || self.said_close
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        let mask = self.server.then_some([self.made, 2, 3, 4]);
        let mut wire = Vec::new();
        Frame { mask, first, ..Frame::new(0, None, payload) }.write(&mut wire);
        self.incoming.extend(wire);
    }

    fn hand_in(&mut self, size: usize) {
        let bytes: Vec<u8> = self.incoming.drain(..size.min(self.incoming.len())).collect();
        self.session.handle_input(self.clock.now(), &bytes);
    }

    fn read_into(&mut self, size: usize) {
        let mut room = self.session.recv_buf();
        let n = size.min(self.incoming.len()).min(room.remaining_mut());
        for byte in self.incoming.drain(..n) {
            room.put_u8(byte);
        }
        self.session.handle_read(self.clock.now());
    }

    fn send(&mut self, size: usize, kind: usize) {
        let message = message(kind as u8, size);
        let before = self.session.stats();
        match self.session.send(message.clone()) {
            Ok(accepted) => {
                assert!(!self.closed || self.draining, "taken after the close");
                assert!(self.asked || self.opened || !self.server, "taken before the handshake");
                self.accepted.push(message);
                assert_eq!(accepted.seq.get(), self.accepted.len() as u64);
                let header = if size < 126 { 2 } else { 4 } + if self.server { 0 } else { 4 };
                assert_eq!(accepted.bytes, size + header);
            }
            Err(error) => {
                assert_eq!(self.session.stats().queued, before.queued);
                assert_eq!(self.session.stats().progress, before.progress);
                match &error {
                    SendError::Blocked(_) => assert!(before.queued > self.session.config().high_watermark()),
                    SendError::TooLarge { .. } => assert!(size > MAX_FRAME),
                    _ => assert!(!self.session.is_open(), "{error:?}"),
                }
                assert!(error.into_item().is_none_or(|back| back == message));
            }
        }
    }

    fn poll_event(&mut self) -> bool {
        let wanted = self.session.wants_poll();
        let Some(event) = self.session.poll_event() else { return false };
        assert!(wanted, "{event:?} without wants_poll");
        assert!(!self.told_closed, "{event:?} after Closed");
        match event {
            Event::Request(_) => {
                assert!(self.server && !self.asked && !self.opened);
                self.asked = true;
            }
            Event::Open(_) => {
                assert!(!self.opened && (self.asked || !self.server));
                self.opened = true;
            }
            Event::Message(message) => self.got(&message),
            Event::Pong { .. } => assert!(self.opened && !self.sent().pings.is_empty()),
            Event::Flushed(seq) => {
                let wanted = self.flush_wanted.len();
                self.flush_wanted.retain(|&waits| waits > seq);
                assert!(self.flush_wanted.len() < wanted, "Flushed({seq}) was not requested");
            }
            Event::Eof => panic!("a WebSocket has no half-closed state"),
            Event::Closed(_) => self.told_closed = true,
            _ => assert!(self.opened),
        }
        true
    }

    fn poll_batch(&mut self, max: usize) {
        let mut batch = Vec::new();
        assert_eq!(self.session.poll_messages(&mut batch, max), batch.len());
        assert!(batch.len() <= max);
        batch.iter().for_each(|message| self.got(message));
    }

    fn got(&mut self, message: &Message) {
        assert!(self.opened, "a message before Open");
        assert!(!self.closed || self.draining, "a message after the close");
        assert!(message.len() <= MAX_MESSAGE);
        if !self.garbled {
            assert_eq!(self.expected.pop_front().as_ref(), Some(message));
        }
    }

    fn write(&mut self, size: usize) {
        let mut out = self.session.outbound(self.clock.now());
        let mut slices = [io::IoSlice::new(&[]); 4];
        let filled = out.chunks_vectored(&mut slices);
        let shown: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        assert_eq!(shown.is_empty(), !out.has_remaining());
        let n = size.min(shown.len());
        out.advance(n);
        self.written.extend_from_slice(&shown[..n]);
    }

    /// The output after the handshake.
    fn sent(&self) -> frames::Sent {
        let head = self
            .written
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .map_or(self.written.len(), |at| at + 4);
        if self.server && !self.written.starts_with(b"HTTP/1.1 101 ") {
            return frames::Sent::default();
        }
        frames::check(&self.written[head..], !self.server, false)
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

    fn handle_timeout(&mut self, now: Timestamp) {
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
        assert_eq!(asked.map_or(0, Seq::get), self.accepted.len() as u64);
        self.flush_wanted.extend(asked);
    }

    fn answer(&mut self, how: usize) {
        let verdict = match how % 4 {
            1 => Verdict::Defer,
            2 => Verdict::Respond(Response::new(404).expect("a status").body("none")),
            _ => Verdict::Accept(Accept::new()),
        };
        let may = self.asked && !self.opened && !self.closed && !self.session.is_over();
        let answered = self.session.respond(self.clock.now(), verdict);
        assert!(may || answered.is_err(), "no request waits");
    }

    fn ends(&mut self, how: usize, more: usize) {
        let now = self.clock.now();
        let close = match how % 11 {
            0 => Close::graceful(),
            1 => Close::graceful().with_drain(),
            2 => Close::abort(),
            3 => Close::idle(Idle::Both),
            4 => Close::panicked(),
            5 => {
                let code = CloseCode::new(3000 + more as u16).expect("a free one");
                Close::graceful().with_frame(CloseFrame::new(code, &"é".repeat(more)))
            }
            6 if self.incoming.is_empty() => {
                self.eof = true;
                return self.session.handle_eof(now);
            }
            7 => {
                self.draining |= self.session.is_open();
                self.closed = true;
                return self.session.handle_io_error(now, io::ErrorKind::ConnectionReset);
            }
            8 => return self.session.handle_shutdown(now),
            9 => {
                self.garbled = true;
                self.shook = true;
                return self.incoming.extend(std::iter::repeat_n(more as u8, 9));
            }
            _ => return,
        };
        let drains = how % 11 == 1 && (!self.closed || self.draining);
        self.session.close(now, close);
        (self.closed, self.draining) = (true, drains);
    }

    fn check(&mut self) {
        let stats = self.session.stats();
        let config = self.session.config();
        let unasked = config.max_queued().max(config.high_watermark() + MAX_FRAME);
        let limit = unasked + config.high_watermark() + MAX_FRAME + OWN;
        assert!(stats.queued <= limit, "{} bytes are queued", stats.queued);
        assert_eq!(stats.progress.accepted.map_or(0, Seq::get), self.accepted.len() as u64);
        assert_eq!(stats.sent.bytes, self.written.len() as u64);
        if self.told_closed {
            assert!(self.session.is_closed() && !self.session.is_open() && !self.session.is_writable());
            assert!(!self.session.wants_read() && !self.session.wants_shutdown());
            assert_eq!((self.session.poll_timeout(), self.session.queued(), stats.buffered), (None, 0, 0));
        }
    }

    fn check_written(&self) {
        let sent = self.sent();
        let flushed = self.session.stats().progress.flushed.map_or(0, Seq::get);
        assert_eq!(sent.messages.len() as u64, flushed, "wrong progress");
        assert!(sent.messages.len() <= self.accepted.len());
        for ((opcode, compressed, payload), accepted) in sent.messages.iter().zip(&self.accepted) {
            assert!(!compressed && payload == accepted.as_bytes(), "other bytes than accepted");
            assert_eq!(*opcode == frames::TEXT, matches!(accepted, Message::Text(_)));
        }
    }

    /// Acts as a peer that takes everything and ends its stream: the session must end.
    fn finish(mut self) {
        self.session.resume(self.clock.now());
        self.hand_in(usize::MAX);
        while self.poll_event() {}
        self.answer(0);
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
            self.write(usize::MAX);
            if self.session.wants_shutdown() {
                self.session.handle_shutdown(self.clock.now());
            }
            self.check();
        }
        self.check_written();
        self.send(10, 1);
        self.write(usize::MAX);
        self.session.notify_flushed();
        self.session.handle_input(self.clock.now(), b"late");
        self.tick(Duration::from_secs(3600));
        self.answer(0);
        self.session.close(self.clock.now(), Close::abort());
        assert!(self.session.poll_event().is_none(), "an event after Closed");
        self.check();
        self.check_written();
    }
}

/// Makes a message that differs from its neighbours.
fn message(made: u8, size: usize) -> Message {
    if made.is_multiple_of(2) {
        Message::text(char::from(b'a' + made % 26).to_string().repeat(size))
    } else {
        Message::binary(Bytes::from(vec![made; size]))
    }
}
