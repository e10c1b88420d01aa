//! The connection is cut at every byte of a conversation, in both directions: each call ends once, and what
//! is said about its execution is true.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use getty_core::rpc::{CallId, CodecName, Event, Executed, Frames, Peer, Reply, Request, Side};
use getty_core::{Event as SessionEvent, Framed, IoFailure, Session, Timestamp};

struct End {
    session: Session<Framed<Frames>>,
    peer: Peer,
    calls: HashMap<CallId, usize>,
    ended: HashMap<usize, Option<Executed>>,
}

/// Two ends, one of which can send only a few bytes.
struct Conversation {
    ends: [End; 2],
    begun: HashMap<usize, u32>,
    left: [usize; 2],
    sent: [usize; 2],
    now: Timestamp,
}

impl Conversation {
    fn new(left: [usize; 2]) -> Self {
        let now = Timestamp::from_nanos(1);
        let config = getty_core::Config::builder().build().unwrap();
        let ends = [Side::Connecting, Side::Accepting].map(|side| End {
            session: Session::new(Framed::new(Frames::new()), config.clone(), now),
            peer: Peer::new(Arc::default(), side, now),
            calls: HashMap::new(),
            ended: HashMap::new(),
        });
        Conversation { ends, begun: HashMap::new(), left, sent: [0; 2], now }
    }

    fn call(&mut self, end: usize, number: usize) {
        let body = Bytes::from(vec![number as u8; 20]);
        let request = Request { more: number % 4 == 3, ..Request::new("a/b", CodecName::Raw, body) };
        let more = request.more;
        let end = &mut self.ends[end];
        match end.peer.call(self.now, request, None) {
            Ok(id) => {
                end.calls.insert(id, number);
                if more {
                    end.peer.send_item(id, Bytes::from_static(b"item").into()).unwrap();
                    end.peer.finish(id);
                }
            }
            Err(refused) => {
                assert_eq!(refused.status.executed(), Executed::No);
                end.ended.insert(number, Some(Executed::No));
            }
        }
    }

    /// Handles what an end has received, and sends.
    fn turn(&mut self, at: usize) {
        let end = &mut self.ends[at];
        while let Some(event) = end.session.poll_event() {
            match event {
                SessionEvent::Message(frame) => end.peer.handle_frame(self.now, frame).unwrap(),
                SessionEvent::Closed(reason) => {
                    let progress = end.session.stats().progress;
                    end.peer.handle_closed(self.now, &reason, &progress);
                }
                _ => {}
            }
        }
        while let Some(event) = end.peer.poll_event() {
            match event {
                Event::Request(id, request) => {
                    let number = usize::from(request.body.bytes[0]);
                    *self.begun.entry(number).or_default() += 1;
                    if !request.more {
                        end.peer.respond(id, Ok(Reply { body: request.body, ..Reply::default() }));
                    }
                }
                Event::End(id) => end.peer.respond(id, Ok(Reply::default())),
                Event::Ended(id, result) => {
                    let number = end.calls[&id];
                    let executed = result.err().map(|status| status.executed());
                    assert_eq!(end.ended.insert(number, executed), None, "it ended twice");
                }
                Event::Cancelled(id, _) => end.peer.release(id),
                _ => {}
            }
        }
        while end.session.is_open() && end.session.is_writable() {
            let Some(frame) = end.peer.poll_frame(self.now) else { break };
            match end.session.send(frame) {
                Ok(accepted) => end.peer.frame_sent(accepted),
                Err(error) => end.peer.frame_refused(error),
            }
        }
    }

    /// Moves what there is to move, until one end has used up its bytes.
    fn run(&mut self) {
        for round in 0.. {
            assert!(round < 100);
            let mut moved = false;
            for at in [0, 1] {
                self.turn(at);
                let mut bytes = Vec::new();
                let mut outbound = self.ends[at].session.outbound(self.now);
                while outbound.has_remaining() && self.left[at] > bytes.len() {
                    let n = outbound.chunk().len().min(self.left[at] - bytes.len());
                    bytes.extend_from_slice(&outbound.chunk()[..n]);
                    outbound.advance(n);
                }
                drop(outbound);
                moved |= !bytes.is_empty();
                self.left[at] -= bytes.len();
                self.sent[at] += bytes.len();
                if !bytes.is_empty() {
                    self.ends[1 - at].session.handle_input(self.now, &bytes);
                }
                self.turn(1 - at);
            }
            if !moved {
                return;
            }
        }
    }
}

fn conversation(left: [usize; 2], held_back: bool) -> [usize; 2] {
    let mut talk = Conversation::new(left);
    for number in 0..8 {
        talk.call(number % 2, number);
    }
    talk.run();
    for number in 8..16 {
        talk.call(number % 2, number);
    }
    talk.run();
    if held_back {
        talk.call(0, 16);
        talk.ends[0].peer.poll_frame(talk.now).map(|_| ()).unwrap_or_default();
    }
    let sent = talk.sent;
    for at in [0, 1] {
        talk.ends[at].session.handle_io_error(talk.now, IoFailure::from(std::io::ErrorKind::ConnectionReset));
        talk.turn(at);
        talk.turn(at);
    }
    let calls = if held_back { 17 } else { 16 };
    assert_eq!(talk.ends[0].ended.len() + talk.ends[1].ended.len(), calls, "each call ends");
    for number in 0..calls {
        let executed = talk.ends[number % 2].ended[&number];
        let begun = talk.begun.get(&number).copied().unwrap_or(0);
        assert!(begun <= 1);
        match executed {
            None | Some(Executed::Yes) => assert_eq!(begun, 1, "call {number}: {executed:?}"),
            Some(Executed::No) => assert_eq!(begun, 0, "call {number} of {left:?}"),
            Some(Executed::Maybe) => {}
        }
    }
    assert_eq!(talk.ends.each_ref().map(|end| end.peer.open_calls()), [0, 0]);
    sent
}

#[test]
fn a_cut_at_any_byte_is_accounted_for() {
    let all = conversation([usize::MAX; 2], false);
    assert!(all.iter().all(|&bytes| bytes > 500), "{all:?}");
    for (at, &bytes) in all.iter().enumerate() {
        for left in 0..bytes {
            for held_back in [false, true] {
                let mut limits = [usize::MAX; 2];
                limits[at] = left;
                conversation(limits, held_back);
            }
        }
    }
}
