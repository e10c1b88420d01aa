//! Large compressed messages: the work for them stops at a limit, and goes on.

use std::time::Duration;

use bytes::{Buf, Bytes};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use getty_core::codec::{Decoded, Decoder, Encoder, MessageKind, Sink, Source};
use getty_core::websocket::{Deflate, Form, Message, Packages, Part, Parts, ServerOptions, WebSocket};
use getty_core::{Close, CloseReason, ConfigBuilder, Deadline, Event, Memory, SendError};
use testkit::websocket::peers::{Frame, Solo, client_request, config, pair, random};

const NONE: [&str; 0] = [];
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
const LIMIT: usize = 8 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// The work of one piece: to compress it, and to decompress it.
const PIECE: u64 = 16 * (64 << 10);
const INFLATED_PIECE: u64 = 320 << 10;

fn deflate() -> Deflate {
    Deflate::new().server_no_context_takeover(false).client_no_context_takeover(false)
}

/// An open server and an open client that compress.
fn both() -> [Solo; 2] {
    let headers = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let config =
        || config(|c| c.max_message(LIMIT).max_frame(LIMIT).handshake_timeout(Duration::from_secs(5)));
    [
        Solo::server(ServerOptions::new().deflate(deflate()), config()).opened_with(headers),
        Solo::client(client_request().deflate(deflate()), config()).opened_with(headers),
    ]
}

/// A server or a client for messages in parts.
fn both_in_parts() -> [Solo<Parts>; 2] {
    let headers = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let options = ServerOptions::new().deflate(deflate());
    let request = client_request().deflate(deflate());
    [
        Solo::new(WebSocket::server_of(Parts, options), config(|c| c), true).opened_with(headers),
        Solo::new(WebSocket::client_of(Parts, request, random(1)), config(|c| c), false).opened_with(headers),
    ]
}

fn zeros(size: usize) -> Vec<u8> {
    vec![0; size]
}

fn noise(size: usize) -> Vec<u8> {
    let mut rng = testkit::Rng::new(1);
    (0..size).map(|_| rng.next_u64() as u8).collect()
}

fn text(size: usize) -> String {
    let mut rng = testkit::Rng::new(2);
    let words = ["κόσμε ", "world ", "χαῖρε ", "hello "];
    let mut text = String::new();
    while text.len() < size {
        text.push_str(words[rng.next_u64() as usize % 4]);
    }
    text
}

/// `payload`, compressed by flate2.
fn compressed(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + payload.len() / 8 + 1000);
    let mut compress = Compress::new(Compression::new(6), false);
    compress.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert_eq!(out.split_off(out.len() - 4), TAIL);
    out
}

/// What flate2 decompresses `frames`, the messages of one direction, to.
fn inflated(frames: &[Frame]) -> Vec<Vec<u8>> {
    let mut decompress = Decompress::new(false);
    let inflate = |frame: &Frame| {
        if frame.rsv == 0 {
            return frame.payload.clone();
        }
        let mut out = Vec::with_capacity(LIMIT + 1);
        let data = [&frame.payload[..], &TAIL].concat();
        decompress.decompress_vec(&data, &mut out, FlushDecompress::Sync).unwrap();
        out
    };
    frames.iter().map(inflate).collect()
}

/// A million bytes of blocks without data, and a message without them.
fn nothing(blocks: &[u8]) -> Vec<u8> {
    [blocks.repeat(1_000_000 / blocks.len()), vec![0]].concat()
}

/// Polls with a limit of a piece at a time, in lent memory, until there is an event. Returns the event, and
/// the number of calls that had none.
fn poll_in_pieces<F: Form>(
    solo: &mut Solo<F>,
    piece: u64,
) -> (Event<<F::Messages as getty_core::Messages>::In>, usize) {
    let mut memory = Memory::default();
    for calls in 0.. {
        let before = solo.session.work().bytes;
        solo.session.lend(memory);
        let event = solo.session.poll_event_within(before + 1);
        memory = solo.session.take_back();
        let worked = solo.session.work().bytes - before;
        assert!(worked <= piece, "{worked} in one call");
        if let Some(event) = event {
            return (event, calls);
        }
        assert!(solo.session.wants_poll(), "it goes on with the next poll");
        assert!(worked > 0, "no call is in vain");
    }
    unreachable!()
}

/// Takes what is there to write, without finishing a message that is being encoded.
fn written_so_far<F: Form>(solo: &mut Solo<F>) -> Vec<u8> {
    let mut outbound = solo.session.outbound_within(solo.clock.now(), 0);
    outbound.copy_to_bytes(outbound.remaining()).to_vec()
}

fn message(event: Event<Message>) -> Message {
    let Event::Message(message) = event else { panic!("{event:?}") };
    message
}

#[test]
fn decompressing_stops_at_the_limit_and_goes_on() {
    let text = text(1 << 20);
    let kinds = [
        ("zeros", 2, compressed(&zeros(LIMIT)), Message::binary(zeros(LIMIT)), 100),
        ("noise", 2, compressed(&noise(1 << 20)), Message::binary(noise(1 << 20)), 16),
        ("text", 1, compressed(text.as_bytes()), Message::text(text), 12),
        ("stored blocks", 2, nothing(&[0, 0, 0, 0xff, 0xff]), Message::binary(""), 60),
        ("fixed blocks", 2, nothing(&[0x02, 0x08, 0x20, 0x80, 0x00]), Message::binary(""), 60),
    ];
    for (name, opcode, data, expected, least) in kinds {
        for mut solo in both() {
            let (front, back) = data.split_at(data.len() / 2);
            let whole = Frame::new(opcode, &data).rsv(4);
            let parts = [Frame::new(opcode, front).rsv(4).more(), Frame::continuation(back)];
            for frames in [&[whole][..], &parts] {
                let bytes = solo.peers(frames.iter().cloned());
                solo.input(&bytes);
                let (event, calls) = poll_in_pieces(&mut solo, INFLATED_PIECE);
                assert!(message(event) == expected, "{name}");
                assert!(calls >= least, "{name}: {calls} calls");
                assert_eq!(solo.poll(), NONE);
            }
        }
    }
}

#[test]
fn what_is_not_decompressed_yet_is_not_late() {
    for mut solo in both() {
        let frame = Frame::binary(compressed(&zeros(1 << 20))).rsv(4);
        let bytes = solo.as_peer(frame).bytes();
        solo.input(&bytes);
        let limit = solo.session.work().bytes + 1;
        assert!(solo.session.poll_event_within(limit).is_none());
        assert!(!solo.session.wants_read(), "what is here comes first");
        // Long after `partial_frame_timeout`; and the stream ends.
        let now = solo.clock.jump(solo.clock.at(Duration::from_secs(3600)));
        solo.session.handle_timeout(now);
        solo.eof();
        assert!(solo.session.poll_event_within(limit + 100_000).is_none());
        let first = solo.session.poll_event();
        assert!(matches!(first, Some(Event::Message(m)) if m == Message::binary(zeros(1 << 20))));
        assert!(solo.session.close_reason().is_none());
    }
}

#[test]
fn invalid_text_is_found_in_any_piece() {
    for bad in [0, 100_000, (1 << 20) - 1] {
        for mut solo in both() {
            let mut payload = vec![b'a'; 1 << 20];
            payload[bad] = 0xce; // the first half of a letter
            solo.peer(Frame::text(compressed(&payload)).rsv(4));
            while solo.session.close_reason().is_none() {
                let limit = solo.session.work().bytes + 1;
                assert!(solo.session.poll_event_within(limit).is_none(), "{bad}");
            }
            solo.failed_with(1007);
        }
    }
}

#[test]
fn a_part_of_a_compressed_message_is_not_large() {
    for mut solo in both_in_parts() {
        solo.peer(Frame::binary(compressed(&zeros(LIMIT))).rsv(4));
        let mut received = 0;
        for number in 0.. {
            let (event, _) = poll_in_pieces(&mut solo, INFLATED_PIECE);
            let Event::Message(part) = event else { panic!("{event:?}") };
            assert!(part.payload.len() <= 80 << 10, "{} bytes", part.payload.len());
            assert_eq!((part.kind, part.first), (MessageKind::Binary, number == 0));
            received += part.payload.len();
            if part.last {
                break;
            }
        }
        assert_eq!(received, LIMIT);
        assert_eq!(solo.poll(), NONE);
    }
}

#[test]
fn compressing_stops_at_the_limit_and_goes_on() {
    let text = text(1 << 20);
    let said = [
        (Message::binary(zeros(LIMIT)), 127),
        (Message::text(text.clone()), 15),
        (Message::binary(zeros((64 << 10) + 1)), 1),
        (Message::binary(noise(1 << 20)), 15),
        (Message::text("the end"), 0),
    ];
    for mut solo in both() {
        let mut sent = Vec::new();
        for (number, (message, least)) in said.iter().enumerate() {
            let accepted = solo.session.send(message.clone()).unwrap();
            assert_eq!(accepted.seq.get(), number as u64 + 1);
            assert_eq!(solo.session.is_encoding(), *least > 0);
            assert_eq!(solo.session.is_writable(), *least == 0);
            assert!(*least == 0 || accepted.bytes >= message.len() && solo.session.queued() == 0);
            // What the peer says waits: its answer would have to be compressed, too.
            solo.peer(Frame::text("next"));
            let (event, calls) = poll_in_pieces(&mut solo, PIECE);
            assert_eq!(self::message(event), Message::text("next"));
            assert!(calls >= *least, "{calls} calls");
            assert!(!solo.session.is_encoding());
            let progress = solo.session.stats().progress;
            assert_eq!(progress.accepted, Some(accepted.seq));
            assert!(progress.flushed < progress.accepted);
            sent.extend(solo.sent());
            assert_eq!(solo.session.stats().progress.flushed, Some(accepted.seq));
        }
        assert!(sent.iter().all(|frame| frame.fin && (frame.rsv == 4) == (frame.payload != b"the end")));
        let expected: Vec<_> = said.iter().map(|(message, _)| message.as_bytes().to_vec()).collect();
        assert!(inflated(&sent) == expected);
    }
}

#[test]
fn a_large_part_is_compressed_in_pieces() {
    for mut solo in both_in_parts() {
        let parts = [(noise(100_000), false), (zeros(1 << 20), false), (zeros(70_000), true)];
        let mut sent = Vec::new();
        for (number, (payload, last)) in parts.iter().enumerate() {
            let (first, last) = (number == 0, *last);
            let part = Part::new(MessageKind::Binary, payload.clone(), first, last);
            solo.session.send(part).unwrap();
            assert!(solo.session.is_encoding());
            solo.peer(Frame::ping("are you there?"));
            let before = solo.session.work().bytes;
            assert!(solo.session.poll_event_within(before + 1).is_none());
            assert_eq!(written_so_far(&mut solo), b"", "one piece of several");
            assert_eq!(solo.poll(), NONE);
            let mut answers = solo.sent();
            sent.push(answers.remove(0));
            assert_eq!(solo.poll(), NONE);
            answers.extend(solo.sent()); // not before the part is written, if that is above the watermark
            assert_eq!(answers, [Frame::pong("are you there?")]);
        }
        let shape: Vec<_> = sent.iter().map(|frame| (frame.opcode, frame.rsv, frame.fin)).collect();
        assert_eq!(shape, [(2, 4, false), (0, 0, false), (0, 0, true)]);
        let data: Vec<u8> = sent.iter().flat_map(|frame| frame.payload.clone()).collect();
        let whole: Vec<u8> = parts.into_iter().flat_map(|(payload, _)| payload).collect();
        assert!(inflated(&[Frame::binary(data).rsv(4)]) == [whole]);
    }
}

/// Level 1 makes noise 6 % larger.
#[test]
fn a_part_that_exceeds_the_limit_is_sent_in_several_frames() {
    const LIMIT: usize = 100_000;
    let fast = || deflate().level(1);
    let headers = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let limited = || config(|c| c.max_message(LIMIT).max_frame(LIMIT));
    let server = WebSocket::server_of(Parts, ServerOptions::new().deflate(fast()));
    let client = WebSocket::client_of(Parts, client_request().deflate(fast()), random(1));
    for mut solo in [
        Solo::new(server, limited(), true).opened_with(headers),
        Solo::new(client, limited(), false).opened_with(headers),
    ] {
        let sizes = [LIMIT, 65_536, 1000, 64_000, LIMIT - 3000];
        let mut sent = Vec::new();
        for (number, size) in sizes.into_iter().enumerate() {
            let (first, last) = (number == 0, number + 1 == sizes.len());
            solo.session.send(Part::new(MessageKind::Binary, noise(size), first, last)).unwrap();
            sent.extend(solo.sent());
        }
        assert!(sent.len() > sizes.len() && sent.iter().all(|frame| frame.payload.len() <= LIMIT));
        let shape = sent.iter().map(|frame| (frame.opcode, frame.rsv, frame.fin));
        let end = sent.len() - 1;
        assert!(shape.eq((0..=end).map(|n| if n == 0 { (2, 4, false) } else { (0, 0, n == end) })));
        let data: Vec<u8> = sent.into_iter().flat_map(|frame| frame.payload).collect();
        assert!(inflated(&[Frame::binary(data).rsv(4)]) == [sizes.map(noise).concat()]);
        // The next message refers to nothing that was not sent.
        solo.session.send(Part::new(MessageKind::Binary, noise(1000), true, true)).unwrap();
        assert_eq!(solo.sent().len(), 1);
    }
}

/// Compression enlarges noise: it is sent as it is.
#[test]
fn a_message_that_would_exceed_the_limit_is_sent_uncompressed() {
    for mut solo in both() {
        let (large, next) = (Message::binary(noise(LIMIT)), Message::text(text(100_000)));
        solo.session.send(large.clone()).unwrap();
        let mut sent = solo.sent();
        solo.session.send(next.clone()).unwrap();
        sent.extend(solo.sent());
        assert_eq!(sent.iter().map(|frame| frame.rsv).collect::<Vec<_>>(), [0, 4]);
        assert!(inflated(&sent) == [large, next].map(|message| message.as_bytes().to_vec()));
    }
}

#[test]
fn another_message_finishes_the_one_before() {
    for mut solo in both() {
        for message in [Message::binary(zeros(LIMIT)), Message::text("x"), Message::binary(zeros(LIMIT))] {
            solo.session.send(message).unwrap();
        }
        assert!(solo.session.is_encoding(), "the last one");
        assert_eq!(solo.poll(), NONE);
        assert!(inflated(&solo.sent()) == [zeros(LIMIT), b"x".to_vec(), zeros(LIMIT)]);
    }
}

#[test]
fn it_is_flushed_when_it_is_written() {
    for mut solo in both() {
        solo.session.send(Message::text("first")).unwrap();
        let seq = solo.session.send(Message::binary(zeros(LIMIT))).unwrap().seq;
        assert!(!written_so_far(&mut solo).is_empty());
        assert_eq!(solo.session.notify_flushed(), Some(seq));
        assert_eq!(solo.poll(), NONE, "compressed, but not written");
        assert_eq!(solo.sent().len(), 1);
        assert_eq!(solo.poll(), [format!("Flushed {seq}")]);
    }
}

#[test]
fn a_close_waits_for_it() {
    for drain in [false, true] {
        for mut solo in both() {
            solo.session.send(Message::binary(zeros(LIMIT))).unwrap();
            let how = if drain { Close::graceful().with_drain() } else { Close::graceful() };
            solo.session.close(solo.clock.now(), how);
            if !drain {
                let refused = solo.session.send(Message::text("late"));
                assert!(matches!(refused, Err(SendError::Closed(_))), "{refused:?}");
            }
            for _ in 0..100 {
                let before = solo.session.work().bytes;
                assert!(solo.session.poll_event_within(before + 1).is_none());
                assert!(solo.session.work().bytes - before <= PIECE);
                assert!(!solo.session.wants_shutdown() && solo.session.wants_poll());
                assert_eq!(written_so_far(&mut solo), b"");
            }
            assert_eq!(solo.poll(), NONE);
            let sent = solo.sent();
            assert_eq!(sent[1], Frame::close(1000, ""));
            assert!(inflated(&sent[..1]) == [zeros(LIMIT)]);
            solo.peer(Frame::close(1000, ""));
            solo.eof();
            assert_eq!(solo.poll(), NONE);
            solo.shut_down();
            assert!(matches!(solo.closed(), CloseReason::Local { flushed: true }));
        }
    }
}

#[test]
fn an_end_at_once_does_not_wait_for_it() {
    type End = fn(&mut Solo);
    let ends: [(&str, End); 3] = [
        ("abort", |solo| solo.session.close(solo.clock.now(), Close::abort())),
        ("failure", |solo| {
            solo.session.handle_io_error(solo.clock.now(), std::io::ErrorKind::ConnectionReset)
        }),
        ("abort of a close", |solo| {
            solo.session.close(solo.clock.now(), Close::graceful());
            solo.session.close(solo.clock.now(), Close::abort());
        }),
    ];
    for (name, end) in ends {
        for mut solo in both() {
            let payload = Bytes::from(zeros(LIMIT));
            solo.session.send(Message::binary(payload.clone())).unwrap();
            let limit = solo.session.work().bytes + 1;
            assert!(solo.session.poll_event_within(limit).is_none());
            end(&mut solo);
            let reason = solo.closed();
            assert!(!matches!(reason, CloseReason::Local { flushed: true }), "{name}: {reason}");
            assert!(solo.session.work().bytes <= limit + PIECE, "{name}: it went on");
            assert!(payload.is_unique(), "{name}: it is held after the end");
            let progress = solo.session.stats().progress;
            assert_eq!((progress.accepted.unwrap().get(), progress.flushed), (1, None), "{name}");
        }
    }
}

#[test]
fn the_time_that_encoding_takes_is_not_the_peers() {
    let headers = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let periods = |c: ConfigBuilder| {
        let c = c.idle_timeout(SECOND * 20).idle_read(SECOND * 20).pong_timeout(SECOND * 5);
        c.max_message(LIMIT).heartbeat_period(SECOND * 10)
    };
    let options = ServerOptions::new().deflate(deflate());
    let mut solo = Solo::server(options, config(periods)).opened_with(headers);
    solo.peer(Frame::text("a part").more());
    assert_eq!(solo.poll(), NONE);
    let pinged = solo.at(SECOND * 10);
    assert_eq!((pinged, solo.sent().len()), (vec![], 1));
    solo.session.send(Message::binary(zeros(LIMIT))).unwrap();
    let piece = |solo: &mut Solo, second: u32| {
        let now = solo.clock.jump(solo.clock.at(SECOND * second));
        solo.session.handle_timeout(now);
        let limit = solo.session.work().bytes + 1;
        assert!(solo.session.poll_event_within(limit).is_none(), "{second} s");
        assert!(solo.session.is_encoding() && !solo.session.wants_read(), "{second} s");
    };
    (11..60).for_each(|second| piece(&mut solo, second));
    assert!(solo.session.close_reason().is_none());
    // A close gets its time once the message is encoded.
    solo.session.close(solo.clock.now(), Close::graceful());
    (60..80).for_each(|second| piece(&mut solo, second));
    assert_eq!(solo.poll(), NONE);
    let sent = solo.sent();
    assert_eq!(sent.last(), Some(&Frame::close(1000, "")));
    assert_eq!(solo.at(SECOND * 83), NONE);
    assert_eq!(solo.session.timeout_reason(), Some(Deadline::Close));
    let _ = solo.clock.jump(solo.clock.at(SECOND * 90));
    solo.session.handle_timeout(solo.clock.now());
    assert!(matches!(solo.closed(), CloseReason::Timeout(Deadline::Close)));
}

/// After its own close frame, a session reads only to find the peer's.
#[test]
fn what_comes_before_the_close_frame_is_bounded_too() {
    for mut solo in both() {
        solo.session.close(solo.clock.now(), Close::graceful());
        assert_eq!(solo.poll(), NONE);
        assert_eq!(solo.sent(), [Frame::close(1000, "")]);
        let bomb = Frame::binary(compressed(&zeros(LIMIT))).rsv(4);
        let bytes = solo.peers([bomb.clone(), bomb, Frame::close(1000, "")]);
        solo.input(&bytes);
        for calls in 0.. {
            let before = solo.session.work().bytes;
            assert!(solo.session.poll_event_within(before + 1).is_none());
            assert!(solo.session.work().bytes - before <= INFLATED_PIECE);
            if !solo.session.wants_poll() {
                assert!(calls > 200, "{calls} calls");
                break;
            }
        }
        solo.eof();
        solo.shut_down();
        assert!(matches!(solo.closed(), CloseReason::Local { flushed: true }));
    }
}

/// A codec that does not know sizes in advance.
struct Unsized;

impl Decoder for Unsized {
    type Item = Bytes;
    type Error = std::convert::Infallible;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, Self::Error> {
        let all = src.len();
        Ok(Decoded::Frame(src.take(all)))
    }
}

impl Encoder<Bytes> for Unsized {
    type Error = std::convert::Infallible;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), Self::Error> {
        dst.put_bytes(item);
        Ok(())
    }
}

#[test]
fn its_size_is_known_whatever_the_codec() {
    let headers = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let protocol = WebSocket::server_of(Packages::new(Unsized), ServerOptions::new().deflate(deflate()));
    let mut solo = Solo::new(protocol, config(|c| c), true).opened_with(headers);
    let accepted = solo.session.send(Bytes::from(zeros(100_000))).unwrap();
    assert_eq!(accepted.bytes, 100_010);
    assert!(inflated(&solo.sent()) == [zeros(100_000)]);
}

/// One direction of a conversation: bytes on their way, messages said, and messages heard.
#[derive(Default)]
struct Direction {
    wire: Vec<u8>,
    said: Vec<Message>,
    heard: Vec<Message>,
}

#[test]
fn messages_arrive_whole_and_in_order_whatever_the_limits() {
    let kinds = [zeros(300_000), noise(70_000), text(200_000).into_bytes(), zeros(65_536), b"small".to_vec()];
    for seed in 0..6 {
        let mut rng = testkit::Rng::new(seed);
        let options = ServerOptions::new().deflate(deflate());
        let mut pair = pair(client_request().deflate(deflate()), options, config(|c| c));
        pair.settle();
        let now = pair.clock.now();
        let ends = [&mut pair.a.session, &mut pair.b.session];
        let mut ways = [Direction::default(), Direction::default()];
        for step in 0..20_000 {
            // In the end, what is on its way arrives.
            if step >= 300 && ways.iter().all(|way| way.said.len() == way.heard.len()) {
                break;
            }
            let (from, to) = if rng.next_u64().is_multiple_of(2) { (0, 1) } else { (1, 0) };
            let limit = ends[from].work().bytes + rng.next_u64() % (3 << 20);
            match rng.next_u64() % if step < 300 { 4 } else { 3 } {
                0 => match ends[from].poll_event_within(limit) {
                    Some(Event::Message(message)) => ways[to].heard.push(message),
                    None => {}
                    event => panic!("{event:?}"),
                },
                1 => {
                    let limit = if rng.next_u64().is_multiple_of(10) { u64::MAX } else { limit };
                    let mut outbound = ends[from].outbound_within(now, limit);
                    let size = (outbound.remaining() as u64).min(1 + rng.next_u64() % 100_000);
                    ways[from].wire.extend_from_slice(&outbound.copy_to_bytes(size as usize));
                }
                2 if ends[to].wants_read() => {
                    let size = ways[from].wire.len().min(1 + (rng.next_u64() % 50_000) as usize);
                    let bytes: Vec<u8> = ways[from].wire.drain(..size).collect();
                    ends[to].handle_input(now, &bytes);
                }
                3 => {
                    let kind = &kinds[rng.next_u64() as usize % kinds.len()];
                    let message = Message::binary(kind.clone());
                    if ends[from].send(message.clone()).is_ok() {
                        ways[from].said.push(message);
                    }
                }
                _ => {}
            }
        }
        for way in ways {
            assert!(way.said.len() > 5, "{seed}: {}", way.said.len());
            assert!(way.said == way.heard, "{seed}: {} of {}", way.heard.len(), way.said.len());
        }
    }
}
