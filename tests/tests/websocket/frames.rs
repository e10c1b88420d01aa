//! Frames and messages: valid ones are understood however they are cut, and invalid ones get the right code.

use std::time::Duration;

use getty_core::websocket::{Message, ProtocolError, ServerOptions};
use getty_core::{CloseReason, Deadline, Event, SendError};
use testkit::Rng;
use testkit::split::cut;
use testkit::websocket::peers::{Frame, Solo, client_request, config};

const NONE: [&str; 0] = [];

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Feeds `frames` to an open session of each role, and checks that they end it with `error` and `code`.
fn check(name: &str, frames: &[Frame], error: ProtocolError, code: u16) {
    for mut solo in Solo::opened_both(|c| c) {
        let bytes = solo.peers(frames.iter().cloned());
        check_bytes(name, &mut solo, &bytes, error, code);
    }
}

fn check_bytes(name: &str, solo: &mut Solo, bytes: &[u8], error: ProtocolError, code: u16) {
    solo.input(bytes);
    match solo.failed_with(code) {
        CloseReason::Protocol(told) => assert_eq!(told, error, "{name}"),
        other => panic!("{name}: {other}"),
    }
}

#[test]
fn reserved_bits_and_opcodes_are_refused() {
    for bits in 1..8 {
        for opcode in [0, 1, 2, 8, 9, 10] {
            check("bits", &[Frame::new(opcode, "a").rsv(bits)], ProtocolError::ReservedBits { bits }, 1002);
        }
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for frame in [Frame::new(opcode, ""), Frame::new(opcode, "a").more(), Frame::new(opcode, "a").rsv(7)]
        {
            check("opcode", &[frame], ProtocolError::Opcode { opcode }, 1002);
        }
    }
}

#[test]
fn a_server_wants_masks_and_a_client_none() {
    for frame in [Frame::text("a"), Frame::binary(""), Frame::ping(""), Frame::close(1000, "")] {
        let mut server = Solo::opened_server();
        check_bytes("unmasked", &mut server, &frame.bytes(), ProtocolError::NotMasked, 1002);
        let mut client = Solo::opened_client();
        check_bytes("masked", &mut client, &frame.masked([1; 4]).bytes(), ProtocolError::Masked, 1002);
    }
    // A key of zeros is a key, too.
    let mut server = Solo::opened_server();
    server.input(&Frame::text("a").masked([0; 4]).bytes());
    assert_eq!(server.poll(), ["Text(\"a\")"]);
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [8, 9, 10] {
        let name = opcode.to_string();
        check(&name, &[Frame::new(opcode, "").more()], ProtocolError::FragmentedControl, 1002);
        check(&name, &[Frame::new(opcode, [b'a'; 126])], ProtocolError::LongControl, 1002);
        check(&name, &[Frame::new(opcode, vec![b'a'; 65_536])], ProtocolError::LongControl, 1002);
    }
    for mut solo in Solo::opened_both(|c| c) {
        solo.peer(Frame::ping([b'a'; 125]));
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::pong([b'a'; 125])]);
    }
}

#[test]
fn a_length_has_one_form() {
    let table: [(u8, &[u8], ProtocolError); 8] = [
        (126, &[0, 0], ProtocolError::LongLength { length: 0 }),
        (126, &[0, 125], ProtocolError::LongLength { length: 125 }),
        (127, &5u64.to_be_bytes(), ProtocolError::LongLength { length: 5 }),
        (127, &0xffffu64.to_be_bytes(), ProtocolError::LongLength { length: 0xffff }),
        (127, &(1u64 << 63).to_be_bytes(), ProtocolError::NegativeLength),
        (127, &u64::MAX.to_be_bytes(), ProtocolError::NegativeLength),
        (126, &[0, 1], ProtocolError::LongLength { length: 1 }),
        (127, &(i64::MIN as u64 | 5).to_be_bytes(), ProtocolError::NegativeLength),
    ];
    for (short, extended, error) in table {
        for mut solo in Solo::opened_both(|c| c) {
            let header = solo.as_peer(Frame::binary("")).header_with(short, extended);
            check_bytes("length", &mut solo, &header, error, 1002);
        }
    }
}

/// The header alone is enough: the payload never comes.
#[test]
fn a_frame_over_the_limit_is_refused_with_1009() {
    for claim in [1001, 1 << 16, 1 << 32, 1 << 62, i64::MAX as u64] {
        for mut solo in Solo::opened_both(|c| c.max_frame(1000)) {
            let header = solo.as_peer(Frame::binary("")).header(claim);
            let error = ProtocolError::FrameTooLarge { bytes: claim, limit: 1000 };
            check_bytes("claim", &mut solo, &header, error, 1009);
        }
        for mut solo in Solo::opened_both(|c| c.max_message(1000).max_frame(usize::MAX)) {
            let header = solo.as_peer(Frame::text("")).header(claim);
            let error = ProtocolError::MessageTooLarge { limit: 1000 };
            check_bytes("claim", &mut solo, &header, error, 1009);
        }
    }
    for mut solo in Solo::opened_both(|c| c.max_frame(1000).max_message(1000)) {
        solo.peer(Frame::binary([7; 1000]));
        assert_eq!(solo.messages(), [Message::binary(vec![7; 1000])], "the limit itself is allowed");
    }
}

#[test]
fn the_fragments_of_a_message_count_together() {
    for mut solo in Solo::opened_both(|c| c.max_message(1000)) {
        let frames = [Frame::binary([7; 600]).more(), Frame::continuation([7; 400])];
        let fits = solo.peers(frames);
        solo.input(&fits);
        assert_eq!(solo.messages(), [Message::binary(vec![7; 1000])]);
        let frames = [Frame::text([b'a'; 600]).more(), Frame::continuation([b'a'; 400]).more()];
        let first = solo.peers(frames);
        solo.input(&first);
        assert_eq!(solo.poll(), NONE);
        let header = solo.as_peer(Frame::continuation("")).header(1);
        let error = ProtocolError::MessageTooLarge { limit: 1000 };
        check_bytes("sum", &mut solo, &header, error, 1009);
    }
}

/// An attack like CVE-2026-48779: 1024 fragments are free, and each one after that needs 32 bytes of the
/// message.
#[test]
fn a_flood_of_fragments_ends_with_1008_early() {
    let fragments = |solo: &mut Solo, size: usize, most: usize| {
        solo.peer(Frame::binary(vec![7; size]).more());
        for count in 1..most {
            assert_eq!(solo.poll(), NONE);
            if !solo.session.is_open() {
                return count;
            }
            solo.peer(Frame::continuation(vec![7; size]).more());
        }
        most
    };
    for (size, after) in [(0, 1025), (1, 1058), (16, 2049), (31, 32_769)] {
        for mut solo in Solo::opened_both(|c| c) {
            assert_eq!(fragments(&mut solo, size, 1_000_000), after, "of {size} bytes");
            let reason = solo.failed_with(1008);
            let bytes = (after * size) as u64;
            let error = ProtocolError::Fragments { fragments: after as u64, bytes };
            assert!(matches!(reason, CloseReason::Protocol(told) if told == error), "{reason}");
        }
    }
    let [mut server, _] = Solo::opened_both(|c| c);
    assert_eq!(fragments(&mut server, 32, 50_000), 50_000);
}

/// Autobahn 9.3.1.
#[test]
fn four_mebibytes_in_fragments_of_64_bytes_are_a_message() {
    for mut solo in Solo::opened_both(|c| c) {
        let mut stream = solo.peers([Frame::text([b'a'; 64]).more()]);
        for _ in 2..65_536 {
            stream.extend(solo.as_peer(Frame::continuation([b'a'; 64]).more()).bytes());
        }
        stream.extend(solo.as_peer(Frame::continuation([b'a'; 64])).bytes());
        solo.input(&stream);
        let messages = solo.messages();
        assert!(matches!(&messages[..], [Message::Text(text)] if text.as_bytes().len() == 4 << 20));
    }
}

#[test]
fn messages_are_not_interleaved_and_continuations_need_a_start() {
    check("start", &[Frame::continuation("a")], ProtocolError::NothingToContinue, 1002);
    check("start", &[Frame::continuation("a").more()], ProtocolError::NothingToContinue, 1002);
    for opcode in [1, 2] {
        for next in [Frame::new(opcode, "b"), Frame::new(opcode, "b").more(), Frame::new(3 - opcode, "")] {
            check("next", &[Frame::new(opcode, "a").more(), next], ProtocolError::Interleaved, 1002);
        }
    }
    for mut solo in Solo::opened_both(|c| c) {
        let frames = [Frame::text("a").more(), Frame::continuation("b"), Frame::continuation("c")];
        let bytes = solo.peers(frames);
        solo.input(&bytes);
        assert!(matches!(solo.session.poll_event(), Some(Event::Message(Message::Text(_)))));
        check_bytes("after", &mut solo, b"", ProtocolError::NothingToContinue, 1002);
    }
}

/// A new message within another one is refused at its header.
#[test]
fn what_is_out_of_order_is_refused_before_its_payload_comes() {
    for mut solo in Solo::opened_both(|c| c) {
        solo.peer(Frame::text("a").more());
        let header = solo.as_peer(Frame::binary("")).header(1000);
        check_bytes("header", &mut solo, &header, ProtocolError::Interleaved, 1002);
    }
    for mut solo in Solo::opened_both(|c| c) {
        let header = solo.as_peer(Frame::continuation("")).header(1000);
        check_bytes("header", &mut solo, &header, ProtocolError::NothingToContinue, 1002);
    }
}

#[test]
fn a_message_in_fragments_is_one_message_with_its_kind() {
    for mut solo in Solo::opened_both(|c| c) {
        let frames = [
            Frame::text("").more(),
            Frame::continuation("Hel").more(),
            Frame::ping("between"),
            Frame::continuation("").more(),
            Frame::pong("unasked"),
            Frame::continuation("lo"),
            Frame::binary("a").more(),
            Frame::continuation(""),
            Frame::text(""),
            Frame::binary(""),
        ];
        let bytes = solo.peers(frames);
        solo.input(&bytes);
        let whole = [Message::text("Hello"), Message::binary("a"), Message::text(""), Message::binary("")];
        assert_eq!(solo.messages(), whole);
        assert_eq!(solo.sent(), [Frame::pong("between")]);
        assert_eq!(solo.session.stats().received.messages, 4);
    }
}

#[test]
fn malformed_close_frames_are_told() {
    check("length", &[Frame::new(8, [3])], ProtocolError::CloseLength, 1002);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 25_209, u16::MAX] {
        check("code", &[Frame::close(code, "")], ProtocolError::CloseCode { code }, 1002);
    }
    for reason in [&b"\xff"[..], b"a\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"] {
        let frame = Frame::new(8, [&[3, 232], reason].concat());
        check("reason", &[frame], ProtocolError::CloseReason, 1007);
    }
}

/// A fault ends the session after the messages before it, and queued messages are still written.
#[test]
fn what_came_and_what_was_sent_before_a_fault_counts() {
    for mut solo in Solo::opened_both(|c| c) {
        solo.session.send(Message::text("queued")).unwrap();
        let bytes = solo.peers([Frame::text("a"), Frame::new(3, "b"), Frame::text("c")]);
        solo.input(&bytes);
        assert_eq!(solo.poll(), ["Text(\"a\")"]);
        let sent = solo.sent();
        assert_eq!(sent[0], Frame::text("queued"));
        assert_eq!((sent.len(), sent[1].code()), (2, Some(1002)));
        assert_eq!(sent[1].payload[2..], *b"opcode 3 is reserved", "the reason is for people");
        assert!(matches!(solo.session.send("late".into()), Err(SendError::Closed(_))));
    }
}

const VALID: &str = "κόσμε \u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff} 👍";

/// Invalid UTF-8, with the number of bytes up to and including the first one that can't be part of any valid
/// text.
const INVALID: [(&[u8], usize); 9] = [
    (b"a\x80", 2),
    (b"\xc0\xaf", 1),
    (b"\xc3(", 2),
    (b"\xe0\x80\x80", 2),
    (b"\xed\xa0\x80", 2),
    (b"ab\xf0\x80\x80\x80", 4),
    (b"\xf4\x90\x80\x80edited", 2),
    (b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited", 13),
    (b"\xff", 1),
];

/// Text in three fragments, cut anywhere, even within characters, in reads of any size.
#[test]
fn text_may_be_cut_within_characters() {
    let text = VALID.as_bytes();
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let [mut server, mut client] = Solo::opened_both(|c| c);
            for (solo, at_once) in [(&mut server, 1), (&mut client, usize::MAX)] {
                let frames = [
                    Frame::text(&text[..first]).more(),
                    Frame::continuation(&text[first..second]).more(),
                    Frame::continuation(&text[second..]),
                ];
                let bytes = solo.peers(frames);
                let mut messages = Vec::new();
                for piece in bytes.chunks(at_once.min(bytes.len())) {
                    solo.input(piece);
                    messages.extend(solo.messages());
                }
                assert_eq!(messages, [Message::text(VALID)]);
            }
        }
    }
}

/// The text may be valid up to its end, and the last fragment empty.
#[test]
fn text_that_ends_within_a_character_is_refused() {
    let text = VALID.as_bytes();
    for end in (0..text.len()).filter(|&end| !VALID.is_char_boundary(end)) {
        check("whole", &[Frame::text(&text[..end])], ProtocolError::Utf8, 1007);
        let frames = [Frame::text(&text[..end]).more(), Frame::continuation("")];
        check("fragments", &frames, ProtocolError::Utf8, 1007);
    }
}

/// Autobahn 6.4.3 and 6.4.4 and similar texts, in one frame that never ends.
#[test]
fn text_is_refused_at_its_first_bad_byte_within_a_frame() {
    for (text, bad) in INVALID {
        for mut solo in Solo::opened_both(|c| c) {
            let frame = solo.as_peer(Frame::text([text, &[b'a'; 1000]].concat())).bytes();
            let header = frame.len() - text.len() - 1000;
            for byte in &frame[..header + bad - 1] {
                solo.input(&[*byte]);
                assert_eq!(solo.poll(), NONE);
                assert!(solo.session.is_open(), "{text:x?} is valid so far");
            }
            check_bytes("byte", &mut solo, &frame[header + bad - 1..][..1], ProtocolError::Utf8, 1007);
        }
    }
}

/// Autobahn 6.4.1 and 6.4.2 and similar texts, in fragments that announce more.
#[test]
fn text_is_refused_at_its_first_bad_byte_across_fragments() {
    for (text, bad) in INVALID {
        for cut in 0..bad {
            for mut solo in Solo::opened_both(|c| c) {
                solo.peer(Frame::text(&text[..cut]).more());
                assert_eq!(solo.poll(), NONE);
                assert!(solo.session.is_open());
                let next = solo.peers([Frame::continuation(&text[cut..bad]).more()]);
                check_bytes("fragment", &mut solo, &next, ProtocolError::Utf8, 1007);
            }
        }
    }
}

#[test]
fn binary_may_be_anything() {
    for mut solo in Solo::opened_both(|c| c) {
        for (bytes, _) in INVALID {
            solo.peer(Frame::binary(bytes));
            assert_eq!(solo.messages(), [Message::binary(bytes)]);
        }
    }
}

/// The results of a session for some bytes.
#[derive(Debug, PartialEq)]
struct Heard {
    messages: Vec<Message>,
    answers: Vec<Frame>,
    reason: Option<String>,
}

fn hear(mut solo: Solo, pieces: &[&[u8]]) -> Heard {
    let mut heard = Heard { messages: vec![], answers: vec![], reason: None };
    for piece in pieces {
        solo.input(piece);
        heard.messages.extend(solo.messages());
        heard.answers.extend(solo.sent());
    }
    if !solo.session.is_open() {
        solo.eof();
        solo.shut_down();
        heard.reason = Some(format!("{:?}", solo.closed()));
    }
    heard
}

fn script() -> Vec<Frame> {
    vec![
        Frame::text("one"),
        Frame::ping("1"),
        Frame::binary([1; 200]),
        Frame::text("κό").more(),
        Frame::ping("2"),
        Frame::continuation("σμε"),
        Frame::text([b'x'; 130]),
        Frame::binary("").more(),
        Frame::continuation([2; 70]).more(),
        Frame::pong("no"),
        Frame::continuation(""),
        Frame::text(""),
        Frame::close(1001, "bye"),
    ]
}

fn opened(is_server: bool) -> Solo {
    let [server, client] = Solo::opened_both(|c| c.max_message(1000));
    if is_server { server } else { client }
}

#[test]
fn frames_are_the_same_however_they_are_cut() {
    for is_server in [true, false] {
        let bytes = opened(is_server).peers(script());
        let whole = hear(opened(is_server), &[&bytes]);
        assert_eq!((whole.messages.len(), whole.answers.len()), (6, 3));
        assert!(whole.reason.as_ref().unwrap().starts_with("Peer"), "{whole:?}");
        for at in 1..bytes.len() {
            let (front, back) = bytes.split_at(at);
            assert_eq!(hear(opened(is_server), &[front, back]), whole, "cut at {at}");
        }
        assert_eq!(hear(opened(is_server), &bytes.chunks(1).collect::<Vec<_>>()), whole);
        for seed in 0..20 {
            assert_eq!(hear(opened(is_server), &cut(&bytes, 50, seed)), whole, "seed {seed}");
        }
    }
}

/// The same for bytes with faults anywhere.
#[test]
fn faults_are_the_same_however_the_bytes_are_cut() {
    let mut rng = Rng::new(42);
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..1500 {
        let is_server = rng.below(2) == 0;
        let mut bytes = opened(is_server).peers(script());
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
        bytes.truncate(bytes.len() - rng.below(30));
        let whole = hear(opened(is_server), &[&bytes]);
        kinds.extend(whole.reason.iter().map(|reason| reason.split([' ', '{']).next().unwrap().to_owned()));
        for pieces in [bytes.chunks(1).collect(), cut(&bytes, 20, seed)] {
            assert_eq!(hear(opened(is_server), &pieces), whole, "seed {seed}: {pieces:x?}");
        }
    }
    assert!(kinds.len() > 8, "only {kinds:?}");
}

/// An incomplete frame has as much time as with any other protocol, and no more.
#[test]
fn a_frame_that_never_ends_times_out() {
    for make in [Frame::text, Frame::binary] as [fn([u8; 100]) -> Frame; 2] {
        for mut solo in Solo::opened_both(|c| c.partial_frame_timeout(secs(3))) {
            let frame = solo.as_peer(make([b'a'; 100])).bytes();
            solo.input(&frame[..10]);
            assert_eq!(solo.poll(), NONE);
            for second in 1..3 {
                assert_eq!(solo.at(secs(second)), NONE);
                solo.input(&frame[9 + second as usize..][..1]);
                assert_eq!(solo.poll(), NONE);
            }
            solo.session.handle_timeout(solo.clock.at(secs(3)));
            assert!(matches!(solo.closed(), CloseReason::Timeout(Deadline::PartialFrame)));
        }
    }
}

/// A message over this end's own limit is not sent, since the peer is assumed to have the same limit.
#[test]
fn a_message_over_the_limit_is_given_back() {
    let options = || config(|c| c.max_message(1000).max_frame(2000));
    for mut solo in [
        Solo::server(ServerOptions::new(), options()).opened(),
        Solo::client(client_request(), options()).opened(),
    ] {
        assert!(solo.session.send(Message::binary(vec![1; 1000])).is_ok());
        match solo.session.send(Message::binary(vec![1; 1001])) {
            Err(SendError::TooLarge { item, .. }) => assert_eq!(item.len(), 1001),
            other => panic!("{other:?}"),
        }
        assert_eq!(solo.sent().len(), 1);
        assert!(solo.session.is_open());
    }
}

#[test]
fn the_mask_is_new_for_every_frame() {
    let mut client = Solo::opened_client();
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..10_000 {
        client.session.send(Message::text("a")).unwrap();
        let frames = Frame::parse_all(&client.written());
        keys.insert(frames[0].key.unwrap());
    }
    assert!(keys.len() > 9_990, "{} keys for 10 000 frames", keys.len());
}
