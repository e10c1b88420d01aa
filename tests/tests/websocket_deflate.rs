//! permessage-deflate (RFC 7692) end to end, with flate2 to check the bytes on the wire.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use getty_core::codec::Raw;
use getty_core::websocket::{
    ClientRequest, Deflate, HandshakeError, Message, MessageKind, Packages, Params, Part, Parts,
    ProtocolError, ServerOptions, WebSocket,
};
use getty_core::{CloseReason, Event};
use testkit::alloc::{Counting, measure};
use testkit::pair::{Pair, Split, Wire};
use testkit::websocket::peers::{Frame, Solo, answer_to, client_request, config, pair, random};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NONE: [&str; 0] = [];
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Compression with contexts that are kept, as most peers offer it.
fn keeping() -> Deflate {
    Deflate::new().server_no_context_takeover(false).client_no_context_takeover(false).min_size(0)
}

fn request(deflate: Deflate) -> ClientRequest {
    client_request().deflate(deflate)
}

fn options(deflate: Deflate) -> ServerOptions {
    ServerOptions::new().deflate(deflate)
}

/// An open server and an open client whose peers have agreed to compress with `parameters`.
fn both(deflate: Deflate, parameters: &str) -> [Solo; 2] {
    both_with(deflate, parameters, 8 << 20)
}

fn both_with(deflate: Deflate, parameters: &str, max_message: usize) -> [Solo; 2] {
    let headers = format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n");
    let config = || config(|c| c.max_message(max_message));
    [
        Solo::server(options(deflate.clone()), config()).opened_with(&headers),
        Solo::client(request(deflate), config()).opened_with(&headers),
    ]
}

/// The compressor of the other side, and flate2's decompressor for the output of this library.
struct Oracle {
    compress: Compress,
    decompress: Decompress,
    /// Whether every message stands alone.
    resets: bool,
}

impl Oracle {
    fn new(resets: bool) -> Self {
        Oracle {
            compress: Compress::new(Compression::new(6), false),
            decompress: Decompress::new(false),
            resets,
        }
    }

    fn compress(&mut self, message: &[u8]) -> Vec<u8> {
        if self.resets {
            self.compress.reset();
        }
        if message.is_empty() {
            return vec![0]; // flate2 has nothing to flush
        }
        let mut out = Vec::with_capacity(message.len() + 1000);
        self.compress.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
        assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        out
    }

    /// Inflates a message of at most 1 MiB.
    fn inflate(&mut self, payload: &[u8]) -> Vec<u8> {
        if self.resets {
            self.decompress.reset(false);
        }
        let mut out = Vec::with_capacity(1 << 20);
        let data = [payload, &TAIL].concat();
        let before = self.decompress.total_in();
        self.decompress.decompress_vec(&data, &mut out, FlushDecompress::Sync).unwrap();
        assert_eq!(
            self.decompress.total_in() - before,
            data.len() as u64,
            "there are bytes after the message"
        );
        out
    }
}

fn compressed(kind: u8, payload: Vec<u8>) -> Frame {
    Frame::new(kind, payload).rsv(4)
}

const PROSE: &str = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of \
    foolishness, it was the epoch of belief, it was the epoch of incredulity. ";

#[test]
fn two_sessions_agree_and_understand_each_other() {
    let small = keeping().server_max_window_bits(9).client_max_window_bits(9);
    let wishes = [Deflate::new(), keeping(), small, keeping().level(0)];
    let text = |n: usize| Message::text(PROSE.repeat(n / PROSE.len() + 1)[..n].to_owned());
    let noise: Vec<u8> = (0..70_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let mut said: Vec<_> = [0, 1, 5, 125, 126, 127, 128, 1000, 20_000].map(text).into();
    said.push(Message::binary(noise));
    for client in &wishes {
        for server in &wishes {
            let wire = Wire { split: Split::Every(997), ..Wire::default() };
            let mut pair = pair(request(client.clone()), options(server.clone()), config(|c| c)).wires(wire);
            pair.settle();
            for message in said.iter().chain(&said) {
                pair.a.session.send(message.clone()).unwrap();
                pair.b.session.send(message.clone()).unwrap();
                pair.settle();
            }
            let twice = [&said[..], &said].concat();
            assert!(pair.a.messages() == twice && pair.b.messages() == twice, "{client:?} {server:?}");
        }
    }
}

fn agreed(pair: &Pair<WebSocket>) -> [Option<Params>; 2] {
    [&pair.a, &pair.b].map(|end| {
        let upgrade = end.events.iter().find_map(|(_, event)| match event {
            Event::Open(opened) => opened.upgrade.clone(),
            _ => None,
        });
        upgrade.expect("open").deflate().copied()
    })
}

#[test]
fn both_sides_know_what_was_agreed_on() {
    let mut params =
        pair(request(keeping().client_max_window_bits(10)), options(Deflate::new()), config(|c| c));
    params.settle();
    let [client, server] = agreed(&params);
    let told = client.expect("compression");
    assert_eq!(server, client);
    assert!(told.server_no_context_takeover && told.client_no_context_takeover);
    assert_eq!((told.server_max_window_bits, told.client_max_window_bits), (15, 10));

    let mut only_client = pair(request(keeping()), ServerOptions::new(), config(|c| c));
    only_client.settle();
    assert_eq!(agreed(&only_client), [None, None]);
    let mut only_server = pair(client_request(), options(keeping()), config(|c| c));
    only_server.settle();
    assert_eq!(agreed(&only_server), [None, None]);
}

#[test]
fn a_bad_answer_fails_the_handshake() {
    for parameters in ["; server_max_window_bits=16", "; x", "; client_max_window_bits", ", other"] {
        let mut client = Solo::client(request(keeping()), config(|c| c));
        let headers = format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n");
        let answer = answer_to(&client.written(), &headers);
        client.input(answer.as_bytes());
        assert_eq!(client.poll(), NONE);
        client.shut_down();
        client.eof();
        match client.closed() {
            CloseReason::Handshake(error) => assert!(matches!(*error, HandshakeError::Deflate(_)), "{error}"),
            other => panic!("{other}"),
        }
    }
    // A server declines offers that it does not understand, and goes on without compression.
    for parameters in
        ["; server_max_window_bits=16", "; x", "; server_max_window_bits", "; client_max_window_bits=7"]
    {
        let mut server = server_asked(keeping(), parameters);
        server.session.send(Message::text(PROSE)).unwrap();
        assert_eq!(server.sent(), [Frame::text(PROSE)]);
    }
}

/// The peer may keep its context although it was asked not to. Then the decompressor keeps it too, and the
/// session goes on.
#[test]
fn a_server_that_keeps_its_context_is_understood_unless_the_client_insists() {
    let client = |deflate: Deflate, parameters: &str| {
        let mut client = Solo::client(request(deflate), config(|c| c));
        let headers = format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n");
        let answer = answer_to(&client.written(), &headers);
        client.input(answer.as_bytes());
        client
    };
    let mut opened = client(Deflate::new().min_size(0), "");
    let Some(Event::Open(told)) = opened.session.poll_event() else { panic!("not open") };
    let agreed = *told.upgrade.as_ref().unwrap().deflate().unwrap();
    assert!(!agreed.server_no_context_takeover && agreed.client_no_context_takeover);
    let mut oracle = Oracle::new(false);
    let sizes = [PROSE, PROSE, PROSE].map(|text| {
        let payload = oracle.compress(text.as_bytes());
        let size = payload.len();
        opened.peer(compressed(1, payload));
        assert_eq!(opened.messages(), [Message::text(text)]);
        size
    });
    assert!(sizes[1] < sizes[0] / 4, "the second message refers to the first: {sizes:?}");

    let insisting = || Deflate::new().insist_on_server_no_context_takeover(true);
    assert_eq!(client(insisting(), "; server_no_context_takeover").poll(), ["Open"]);
    let mut refused = client(insisting(), "");
    assert_eq!(refused.poll(), NONE);
    refused.shut_down();
    refused.eof();
    let reason = refused.closed().to_string();
    assert!(reason.contains("server_no_context_takeover"), "{reason}");
}

/// An open server whose client has offered to compress with `parameters`.
fn server_asked(deflate: Deflate, parameters: &str) -> Solo {
    let headers = format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n");
    Solo::server(options(deflate), config(|c| c)).opened_with(&headers)
}

/// flate2 reads the output in both roles, with and without context takeover.
#[test]
fn what_is_sent_is_what_flate2_reads() {
    let nothing_kept = "; server_no_context_takeover; client_no_context_takeover";
    for (deflate, parameters, resets) in
        [(keeping(), "", false), (Deflate::new().min_size(0), nothing_kept, true)]
    {
        for mut solo in both(deflate, parameters) {
            let mut oracle = Oracle::new(resets);
            let mut sizes = Vec::new();
            for text in [PROSE, PROSE, "", "a", PROSE] {
                solo.session.send(Message::text(text)).unwrap();
                let [frame] = &solo.sent()[..] else { panic!() };
                assert_eq!((frame.fin, frame.rsv, frame.opcode), (true, 4, 1));
                assert_eq!(oracle.inflate(&frame.payload), text.as_bytes());
                sizes.push(frame.payload.len());
            }
            assert_eq!(sizes[0] == sizes[1], resets, "{sizes:?}");
            assert!(resets || sizes[1] * 5 < sizes[0], "a repetition is short: {sizes:?}");
        }
    }
}

#[test]
fn what_flate2_writes_is_understood() {
    let nothing_kept = "; server_no_context_takeover; client_no_context_takeover";
    for (deflate, parameters, resets) in
        [(keeping(), "", false), (Deflate::new().min_size(0), nothing_kept, true)]
    {
        for mut solo in both(deflate, parameters) {
            let mut oracle = Oracle::new(resets);
            for n in [1, 1, 0, 3, 200] {
                let text = PROSE.repeat(n);
                let payload = oracle.compress(text.as_bytes());
                solo.peer(compressed(1, payload));
                assert_eq!(solo.messages(), [Message::text(text)]);
            }
            solo.peer(Frame::text("not compressed"));
            assert_eq!(solo.messages(), [Message::text("not compressed")]);
        }
    }
}

/// The examples of RFC 7692 section 7.2.3, as frames.
#[test]
fn the_examples_of_the_rfc() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let table: [&[Frame]; 6] = [
        &[compressed(1, hello.to_vec())],
        &[compressed(1, hello[..3].to_vec()).more(), Frame::continuation(&hello[3..])],
        &[compressed(1, hello.to_vec()), compressed(1, vec![0xf2, 0x00, 0x11, 0x00, 0x00])],
        &[compressed(1, vec![0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00])],
        &[compressed(1, vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00])],
        &[compressed(1, vec![0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00])],
    ];
    for frames in table {
        for mut solo in both(keeping(), "") {
            let bytes = solo.peers(frames.iter().cloned());
            solo.input(&bytes);
            let messages = solo.messages();
            assert!(
                !messages.is_empty() && messages.iter().all(|m| *m == Message::text("Hello")),
                "{frames:?}"
            );
        }
    }
    for mut solo in both(keeping(), "") {
        solo.peer(compressed(1, vec![0]));
        assert_eq!(solo.messages(), [Message::text("")]);
        solo.session.send(Message::text("")).unwrap();
        assert_eq!(solo.sent(), [compressed(1, vec![0])]);
    }
}

#[test]
fn only_messages_of_the_smallest_size_are_compressed() {
    for mut solo in both(keeping().min_size(100), "") {
        for (size, rsv) in [(0, 0), (99, 0), (100, 4), (101, 4)] {
            solo.session.send(Message::binary(vec![b'a'; size])).unwrap();
            let [frame] = &solo.sent()[..] else { panic!() };
            assert_eq!(frame.rsv, rsv, "of {size} bytes");
        }
    }
}

/// The agreed window is respected: nothing refers further back.
#[test]
fn a_small_window_is_kept_to() {
    let noise: Vec<u8> = {
        let mut rng = testkit::Rng::new(5);
        (0..2000).map(|_| rng.below(256) as u8).collect()
    };
    let again = [&noise[..], &noise].concat();
    let size = |bits: u8| {
        let mut server = server_asked(keeping(), &format!("; server_max_window_bits={bits}"));
        server.session.send(Message::binary(again.clone())).unwrap();
        let [frame] = &server.sent()[..] else { panic!() };
        assert_eq!(Oracle::new(true).inflate(&frame.payload), again);
        frame.payload.len()
    };
    assert!(size(15) < 2200, "the second half refers to the first");
    for bits in [8, 9, 10] {
        assert!(size(bits) > 3900, "{} bytes: it referred 2000 bytes back", size(bits));
    }
}

/// An attack like CVE-2026-1526, with a ratio of 1000 to 1.
#[test]
fn a_bomb_stops_at_the_limit_and_holds_no_more_than_that() {
    const LIMIT: usize = 1 << 20;
    let mut oracle = Oracle::new(true);
    let bomb = oracle.compress(&vec![0; 64 << 20]);
    assert!(bomb.len() < 100_000);
    for fragments in [1, 10] {
        for mut solo in both_with(keeping(), "", LIMIT) {
            let size = bomb.len() / fragments + 1;
            let mut frames: Vec<_> =
                bomb.chunks(size).map(|piece| Frame::continuation(piece).more()).collect();
            frames[0] = Frame { opcode: 2, rsv: 4, ..frames[0].clone() };
            frames.last_mut().unwrap().fin = true;
            let pieces: Vec<_> = frames.into_iter().map(|frame| solo.as_peer(frame).bytes()).collect();
            let ((), usage) = measure(|| {
                for piece in &pieces {
                    solo.input(piece);
                    assert_eq!(solo.poll(), NONE);
                }
            });
            // The output, the half of its size that it grew from, the input twice, and the decompressor.
            let most = LIMIT * 3 / 2 + 2 * pieces[0].len() + 64 * 1024;
            assert!(usage.peak <= most as i64, "{usage:?}, {most} allowed");
            let error = ProtocolError::MessageTooLarge { limit: LIMIT };
            assert!(matches!(solo.failed_with(1009), CloseReason::Protocol(told) if told == error));
        }
    }
    // A message of exactly the limit is accepted.
    for mut solo in both_with(keeping(), "", LIMIT) {
        let payload = Oracle::new(true).compress(&vec![0; LIMIT]);
        solo.peer(compressed(2, payload));
        assert_eq!(solo.messages(), [Message::binary(vec![0; LIMIT])]);
    }
}

#[test]
fn the_compressed_bit_is_for_the_first_frame_of_a_message() {
    let cases: [&[Frame]; 5] = [
        &[Frame::text("a").more(), Frame::continuation("b").rsv(4)],
        &[compressed(1, vec![0xf2]).more(), Frame::continuation([0x48]).rsv(4)],
        &[Frame::ping("").rsv(4)],
        &[Frame::pong("").rsv(4)],
        &[Frame::close(1000, "").rsv(4)],
    ];
    for frames in cases {
        for mut solo in both(keeping(), "") {
            let bytes = solo.peers(frames.iter().cloned());
            solo.input(&bytes);
            let error = ProtocolError::ReservedBits { bits: 4 };
            assert!(
                matches!(solo.failed_with(1002), CloseReason::Protocol(told) if told == error),
                "{frames:?}"
            );
        }
    }
    for bits in [1, 2, 3, 5, 6, 7] {
        for mut solo in both(keeping(), "") {
            solo.peer(Frame::text("a").rsv(bits));
            let error = ProtocolError::ReservedBits { bits: bits & 3 };
            assert!(matches!(solo.failed_with(1002), CloseReason::Protocol(told) if told == error));
        }
    }
}

#[test]
fn control_frames_are_never_compressed() {
    for mut solo in both(keeping(), "") {
        let said = "a".repeat(125);
        solo.peer(Frame::ping(&said));
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::pong(&said)]);
        solo.peer(Frame::close(1000, &"a".repeat(100)));
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
    }
}

/// Fragments and reads are cut anywhere, with pings between them.
#[test]
fn a_compressed_message_may_come_in_fragments() {
    let text = "κόσμε ".repeat(20);
    for cut in 0..30 {
        for at_once in [1, usize::MAX] {
            for mut solo in both(keeping(), "") {
                let mut oracle = Oracle::new(false);
                for _ in 0..2 {
                    let payload = oracle.compress(text.as_bytes());
                    let (front, back) = payload.split_at(cut.min(payload.len()));
                    let frames = [
                        compressed(1, front.to_vec()).more(),
                        Frame::ping("between"),
                        Frame::continuation("").more(),
                        Frame::continuation(back),
                    ];
                    let bytes = solo.peers(frames);
                    let mut messages = Vec::new();
                    for piece in bytes.chunks(at_once.min(bytes.len())) {
                        solo.input(piece);
                        messages.extend(solo.messages());
                    }
                    assert_eq!(messages, [Message::text(text.clone())], "cut at {cut}");
                    assert_eq!(solo.sent(), [Frame::pong("between")]);
                }
            }
        }
    }
}

#[test]
fn compressed_text_must_be_utf8_too() {
    for bytes in [&b"ab\xff"[..], b"ab\xce", b"\xed\xa0\x80"] {
        for mut solo in both(keeping(), "") {
            let payload = Oracle::new(true).compress(bytes);
            solo.peer(compressed(1, payload.clone()));
            assert!(matches!(solo.failed_with(1007), CloseReason::Protocol(ProtocolError::Utf8)));
        }
        for mut solo in both(keeping(), "") {
            let payload = Oracle::new(true).compress(bytes);
            solo.peer(compressed(2, payload));
            assert_eq!(solo.messages(), [Message::binary(bytes.to_vec())]);
        }
    }
    // Refused as soon as a fragment shows it.
    for mut solo in both(keeping(), "") {
        let mut oracle = Oracle::new(true);
        let mut out = Vec::with_capacity(1000);
        oracle.compress.compress_vec(b"ab\xff", &mut out, FlushCompress::Sync).unwrap();
        solo.peer(compressed(1, out).more());
        assert!(matches!(solo.failed_with(1007), CloseReason::Protocol(ProtocolError::Utf8)));
    }
}

#[test]
fn what_is_not_deflate_is_refused() {
    for payload in [&[0xff, 0xff, 0xff][..], &[0x06], &[0x00, 0x05, 0x00, 0x00, 0x00, 0x48]] {
        for mut solo in both(keeping(), "") {
            solo.peer(compressed(2, payload.to_vec()));
            assert!(
                matches!(solo.failed_with(1007), CloseReason::Protocol(ProtocolError::Deflate)),
                "{payload:x?}"
            );
        }
    }
    for mut solo in Solo::opened_both(|c| c) {
        solo.peer(compressed(2, vec![0]));
        let error = ProtocolError::ReservedBits { bits: 4 };
        assert!(
            matches!(solo.failed_with(1002), CloseReason::Protocol(told) if told == error),
            "without an agreement"
        );
    }
}

/// Empty blocks marked as final, in each form that a block can have.
const FINAL_BLOCKS: [&[u8]; 4] = [
    // Fixed codes; stored; and stored, behind a block that is not final.
    b"\x03\x00",
    b"\x01\x00\x00\xff\xff",
    b"\x00\x00\x00\xff\xff\x01\x00\x00\xff\xff",
    // Dynamic codes: one for the end of a block, and no other.
    b"\x05\xc0\x81\x08\x00\x00\x00\x00\x20\x7f\xeb\x07",
];

/// Each of these blocks starts a new stream, which costs as much as a hundred bytes and adds nothing.
#[test]
fn a_flood_of_final_blocks_is_refused_with_1008() {
    for block in FINAL_BLOCKS {
        let mut oracle = Decompress::new(false);
        let status = oracle.decompress(block, &mut [0], FlushDecompress::Sync).unwrap();
        assert_eq!((status, oracle.total_in()), (Status::StreamEnd, block.len() as u64));
        for parameters in ["", "; server_no_context_takeover; client_no_context_takeover"] {
            for fragments in [1, 2, 50] {
                for mut solo in both(keeping(), parameters) {
                    let mut flood = block.repeat(100);
                    flood.push(0);
                    let pieces: Vec<&[u8]> = flood.chunks(flood.len().div_ceil(fragments)).collect();
                    for (i, piece) in pieces.iter().enumerate() {
                        let mut frame = Frame::continuation(piece);
                        if i == 0 {
                            frame = compressed(2, piece.to_vec());
                        }
                        let last = i + 1 == pieces.len();
                        solo.peer(if last { frame } else { frame.more() });
                    }
                    let reason = solo.failed_with(1008);
                    assert!(reason.to_string().contains("final blocks"), "{reason}");
                }
            }
        }
    }
}

/// Sixteen streams are allowed in any message, and one more for each 32 bytes on the wire.
#[test]
fn a_message_of_several_streams_is_understood() {
    let streams = |n: usize, payload: &[u8]| {
        let mut data = Vec::new();
        for _ in 0..n {
            let mut compress = Compress::new(Compression::new(6), false);
            let mut stream = Vec::with_capacity(payload.len() + 64);
            compress.compress_vec(payload, &mut stream, FlushCompress::Finish).unwrap();
            data.extend(stream);
        }
        data.push(0); // the header of the block that ends a message
        data
    };
    let noise: Vec<u8> = (0..200u8).map(|n| n.wrapping_mul(n).wrapping_mul(151)).collect();
    for (n, payload) in [(1, &b"Hello"[..]), (16, b""), (16, b"Hello"), (1000, &noise), (1000, &noise[..40])]
    {
        let data = streams(n, payload);
        for piece in [data.len(), 64] {
            for mut solo in both(keeping(), "") {
                // Several times: a message does not count for the next one.
                for _ in 0..3 {
                    let mut frames: Vec<Frame> =
                        data.chunks(piece).map(|p| Frame::continuation(p).more()).collect();
                    frames[0] = compressed(2, frames[0].payload.clone()).more();
                    frames.last_mut().unwrap().fin = true;
                    let bytes = solo.peers(frames);
                    solo.input(&bytes);
                    assert_eq!(
                        solo.messages(),
                        [Message::binary(payload.repeat(n))],
                        "{n} of {}",
                        payload.len()
                    );
                }
            }
        }
    }
}

/// Parts are compressed as they are sent, so that each can be read on arrival.
#[test]
fn a_message_in_parts_is_one_compressed_message() {
    let headers = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let protocol = WebSocket::server_of(Parts, options(keeping()));
    let mut server = Solo::new(protocol, config(|c| c), true).opened_with(headers);
    let protocol = WebSocket::client_of(Parts, request(keeping()), random(1));
    let mut client = Solo::new(protocol, config(|c| c), false).opened_with(headers);
    for _ in 0..2 {
        let mut heard = Vec::new();
        for (part, first, last) in
            [("It was ", true, false), ("", false, false), (PROSE, false, false), ("", false, true)]
        {
            client.session.send(Part::new(MessageKind::Text, part, first, last)).unwrap();
            let wire = client.written();
            let [frame] = &Frame::parse_all(&wire)[..] else { panic!() };
            assert_eq!(
                (frame.rsv, frame.opcode, frame.fin),
                if first { (4, 1, false) } else { (0, 0, last) }
            );
            server.input(&wire);
            let parts = server.messages();
            assert_eq!(parts.len(), 1);
            assert_eq!(
                (&parts[0].payload[..], parts[0].first, parts[0].last),
                (part.as_bytes(), first, last)
            );
            heard.extend_from_slice(&parts[0].payload);
        }
        assert_eq!(heard, format!("It was {PROSE}").as_bytes());
    }
}

/// The final size of a message in parts is not known, so all are compressed except a small one in a single
/// part.
#[test]
fn a_small_message_in_one_part_is_not_compressed() {
    let headers = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let protocol = WebSocket::server_of(Parts, options(keeping().min_size(100)));
    let mut server = Solo::new(protocol, config(|c| c), true).opened_with(headers);
    for (size, last, rsv) in [(99, true, 0), (100, true, 4), (1, false, 4)] {
        server.session.send(Part::new(MessageKind::Binary, vec![b'a'; size], true, last)).unwrap();
        let [frame] = &server.sent()[..] else { panic!() };
        assert_eq!((frame.rsv, frame.fin), (rsv, last), "of {size} bytes");
    }
}

#[test]
fn packages_are_compressed_too() {
    let headers = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let protocol = WebSocket::server_of(Packages::new(Raw), options(keeping()));
    let mut server = Solo::new(protocol, config(|c| c), true).opened_with(headers);
    let mut oracle = Oracle::new(false);
    for _ in 0..3 {
        server.session.send(PROSE.into()).unwrap();
        let [frame] = &server.sent()[..] else { panic!() };
        assert_eq!((frame.opcode, frame.rsv), (2, 4));
        assert_eq!(oracle.inflate(&frame.payload), PROSE.as_bytes());
        let payload = oracle.compress(PROSE.as_bytes());
        server.peer(compressed(2, payload));
        assert_eq!(server.messages(), [PROSE]);
    }
}

/// Without context takeover, an idle session holds nothing of zlib. With it, it holds as much as documented.
#[test]
fn what_stays_between_messages_is_what_was_agreed_on() {
    let nothing_kept = "; server_no_context_takeover; client_no_context_takeover";
    for mut solo in both(Deflate::new().min_size(0), nothing_kept) {
        let ((), usage) = measure(|| {
            for _ in 0..3 {
                let payload = Oracle::new(true).compress(PROSE.as_bytes());
                solo.peer(compressed(1, payload));
                solo.messages();
                solo.session.send(Message::text(PROSE)).unwrap();
                solo.sent();
            }
        });
        assert!(usage.live < 20_000, "{usage:?}");
        assert!(usage.peak > 200_000, "a compressor is large: {usage:?}");
    }
    for mut solo in both(keeping(), "") {
        let ((), usage) = measure(|| {
            solo.session.send(Message::text(PROSE)).unwrap();
            solo.sent();
        });
        assert!((300_000..450_000).contains(&usage.live), "{usage:?}");
    }
}
