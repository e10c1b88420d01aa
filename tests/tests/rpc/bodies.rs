//! Bodies that are compressed on the wire. flate2 itself makes and reads what goes over it.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use getty_core::rpc::{
    Body, CallId, Cancelled, Code, Coders, Coding, Config, ConfigBuilder, Event, Executed, Frame, GoAway,
    GoAwayCode, Hello, ItemError, Reply, Request, Side, Status,
};
use testkit::alloc::measure;
use testkit::rpc::Link;

use crate::calls::{events, taken};
use crate::solo::{MS, Solo, hello, more, one_way, request};

/// `size` bytes of what repeats after 64 KiB, which is farther than DEFLATE looks back.
fn repeated(base: impl Iterator<Item = u8>, size: usize) -> Bytes {
    let base: Vec<u8> = base.take(size.min(64 * 1024)).collect();
    base.iter().copied().cycle().take(size).collect()
}

/// Text that gets smaller.
fn words(size: usize) -> Bytes {
    let words = (0_u32..).flat_map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) % 997).into_bytes());
    repeated(words, size)
}

/// Bytes that do not.
fn noise(size: usize) -> Bytes {
    let mut state = 88_172_645_463_325_252_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state as u8)
    };
    repeated(std::iter::from_fn(next), size)
}

/// The body that another implementation sends for `bytes`.
fn deflated(bytes: &[u8]) -> Body {
    let mut encoder = DeflateEncoder::new(vec![1], Compression::new(6));
    encoder.write_all(bytes).unwrap();
    Body { bytes: encoder.finish().unwrap().into(), coding: Coding::Compressed }
}

/// What another implementation reads of a body.
#[track_caller]
fn inflated(body: &Body) -> Vec<u8> {
    assert!(body.is_compressed(), "{body:?}");
    assert_eq!(body.bytes[0], 1, "the algorithm");
    let (mut decoder, mut out) = (DeflateDecoder::new(&body.bytes[1..]), Vec::new());
    decoder.read_to_end(&mut out).unwrap();
    assert_eq!(decoder.total_in(), body.bytes.len() as u64 - 1, "nothing after the stream");
    out
}

/// Bodies that nobody can read, the code that says so, and a word of its text.
fn broken() -> [(Body, Code, &'static str); 5] {
    let of = |bytes: &'static [u8]| Body { bytes: bytes.into(), coding: Coding::Compressed };
    let cut = deflated(&words(3000)).bytes.slice(..500);
    [
        (of(b"\x02\x03\x00"), Code::Unimplemented, "algorithm 2"),
        (of(b"\x01\xff\xff"), Code::Internal, "corrupt"),
        (of(b""), Code::Internal, "empty"),
        (Body { bytes: cut, coding: Coding::Compressed }, Code::Internal, "corrupt"),
        (deflated(&vec![0; 9 << 20]), Code::ResourceExhausted, "larger than the limit"),
    ]
}

fn config() -> ConfigBuilder {
    Config::builder().deflate(true)
}

/// A peer that takes compressed bodies, as the other end does.
fn solo_with(config: Arc<Config>, side: Side) -> Solo {
    let mut solo = Solo::new(config, side);
    solo.hear(Frame::Hello(Hello { deflate: true, ..hello() })).unwrap();
    assert!(matches!(&solo.frames()[..], [Frame::Hello(Hello { deflate: true, .. })]));
    assert!(matches!(solo.events()[..], [Event::Hello(_)]));
    solo
}

fn solo(side: Side) -> Solo {
    solo_with(config().build().unwrap(), side)
}

/// Does all the work that waits, and returns the number of steps.
fn work(solo: &mut Solo) -> usize {
    let mut coders = Coders::default();
    let mut steps = 0;
    while solo.peer.has_work() {
        solo.peer.work(0, &mut coders);
        steps += 1;
    }
    steps
}

/// Works, and reports.
fn worked_events(solo: &mut Solo) -> Vec<Event> {
    let mut events = solo.events();
    while solo.peer.has_work() {
        work(solo);
        events.extend(solo.events());
    }
    events
}

/// Works, and sends.
fn worked_frames(solo: &mut Solo) -> Vec<Frame> {
    let mut frames = solo.frames();
    while solo.peer.has_work() {
        work(solo);
        frames.extend(solo.frames());
    }
    frames
}

fn reply(body: impl Into<Body>) -> Reply {
    Reply { body: body.into(), ..Reply::default() }
}

fn with_body(request: Request, body: impl Into<Body>) -> Request {
    Request { body: body.into(), ..request }
}

#[track_caller]
fn ended(events: Vec<Event>) -> (CallId, Status) {
    match <[Event; 1]>::try_from(events) {
        Ok([Event::Ended(id, Err(status))]) => (id, status),
        other => panic!("not one failure: {other:?}"),
    }
}

/// A call that works shows that the connection goes on, and that nothing is held: it is as large as the limit
/// allows.
#[track_caller]
fn goes_on(solo: &mut Solo, id: u32) {
    let whole = solo.peer.config().max_pending_bytes().min(8 << 20) - 100;
    let call = solo.take(id, request(whole));
    solo.peer.respond(call, Ok(Reply::default()));
    assert_eq!(solo.frames(), [Frame::Reply(id, Reply::default())]);
    assert!(!solo.peer.has_work());
}

#[test]
fn what_goes_out_is_deflate_as_others_read_it() {
    let body = words(200_000);
    let compressible = || Body::from(body.clone()).compressible();
    let mut caller = solo(Side::Connecting);
    let call = caller.peer.call(caller.now, with_body(more(), compressible()), None).unwrap();
    caller.peer.send_item(call, compressible()).unwrap();
    let frames = worked_frames(&mut caller);
    let [Frame::Request(3, request), Frame::Item(3, item)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((inflated(&request.body), inflated(item)), (body.to_vec(), body.to_vec()));

    let mut callee = solo(Side::Accepting);
    let call = callee.take(3, more());
    callee.peer.send_item(call, compressible()).unwrap();
    callee.peer.respond(call, Ok(reply(compressible())));
    let frames = worked_frames(&mut callee);
    let [Frame::Item(3, item), Frame::Reply(3, reply)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!((inflated(item), inflated(&reply.body)), (body.to_vec(), body.to_vec()));
    assert_eq!([caller.peer.open_calls(), callee.peer.open_calls()], [1, 0]);
}

#[test]
fn a_peer_that_does_not_take_it_gets_bodies_as_they_are() {
    let body = || Body::from(words(5000)).compressible();
    let config = || config().build().unwrap();
    let mut silent = Solo::new(config(), Side::Connecting);
    silent.peer.call(silent.now, with_body(request(0), body()), None).unwrap();
    let mut caller = Solo::with(config(), Side::Connecting);
    caller.peer.call(caller.now, with_body(request(0), body()), None).unwrap();
    for solo in [&mut silent, &mut caller] {
        let frames = solo.frames();
        let Some(Frame::Request(_, request)) = frames.last() else { panic!("{frames:?}") };
        assert_eq!(request.body, Body::from(words(5000)));
        assert!(!solo.peer.has_work());
    }
    let mut callee = Solo::with(config(), Side::Accepting);
    let call = callee.take(3, more());
    callee.peer.send_item(call, body()).unwrap();
    callee.peer.respond(call, Ok(reply(body())));
    let plain = || Body::from(words(5000));
    assert_eq!(callee.frames(), [Frame::Item(3, plain()), Frame::Reply(3, reply(plain()))]);
    assert!(!callee.peer.has_work());
}

#[test]
fn small_bodies_and_those_that_do_not_get_smaller_go_as_they_are() {
    let mut callee = solo(Side::Accepting);
    for (body, works) in
        [(Bytes::new(), false), (words(1023), false), (noise(1024), true), (noise(99_999), true)]
    {
        let call = callee.take(3, request(0));
        callee.peer.respond(call, Ok(reply(Body::from(body.clone()).compressible())));
        let before = callee.frames();
        assert_eq!(callee.peer.has_work(), works, "{} bytes", body.len());
        let frames = if works { worked_frames(&mut callee) } else { before };
        assert_eq!(frames, [Frame::Reply(3, reply(body))]);
    }
}

#[test]
fn what_others_have_compressed_comes_as_it_was() {
    for body in [words(200_000), Bytes::new(), noise(5000), vec![0; 1 << 20].into()] {
        let mut callee = solo(Side::Accepting);
        callee.hear(Frame::Request(3, with_body(more(), deflated(&body)))).unwrap();
        callee.hear(Frame::Item(3, deflated(&body))).unwrap();
        callee.hear(Frame::Item(3, body.clone().slice(..body.len() / 9).into())).unwrap();
        callee.hear(Frame::End(3)).unwrap();
        let events = worked_events(&mut callee);
        let [Event::Request(_, request), Event::Item(_, first), Event::Item(_, second), Event::End(_)] =
            &events[..]
        else {
            panic!("{events:?}")
        };
        assert!(request.body == body.clone().into() && *first == body.clone().into());
        assert_eq!(second.bytes, body.slice(..body.len() / 9));

        let mut caller = solo(Side::Connecting);
        let id = caller.call(more(), None);
        caller.hear(Frame::Item(3, deflated(&body))).unwrap();
        caller.hear(Frame::Reply(3, reply(deflated(&body)))).unwrap();
        let events = worked_events(&mut caller);
        let body = || Body::from(body.clone());
        assert!(events == [Event::Item(id, body()), Event::Ended(id, Ok(reply(body())))], "{events:?}");
        assert_eq!(caller.peer.open_calls(), 0);
    }
}

#[test]
fn a_one_way_call_is_taken_once_it_is_decompressed() {
    let mut callee = solo(Side::Accepting);
    callee.hear(Frame::Request(3, with_body(one_way(), deflated(&words(5000))))).unwrap();
    assert!(callee.events().is_empty() && callee.frames().is_empty());
    assert!(matches!(&worked_events(&mut callee)[..], [Event::Request(_, r)] if r.body.bytes == words(5000)));
    assert_eq!(callee.frames(), [Frame::Reply(3, Reply::default())]);
}

#[test]
fn a_side_that_did_not_say_so_reports_bodies_as_they_came() {
    let mut callee = Solo::accepting();
    callee.hear(Frame::Request(3, with_body(request(0), deflated(&words(5000))))).unwrap();
    let [Event::Request(_, request)] = &callee.events()[..] else { panic!("no request") };
    assert!(request.body.is_compressed() && !callee.peer.has_work());
}

#[test]
fn a_broken_request_is_refused_alone() {
    for (body, code, text) in broken() {
        for request in [request(0), more(), one_way()] {
            let mut callee = solo(Side::Accepting);
            callee.hear(Frame::Request(3, with_body(request.clone(), body.clone()))).unwrap();
            if request.more {
                callee.hear(Frame::Item(3, deflated(&words(5000)))).unwrap();
            }
            assert_eq!(worked_events(&mut callee), []);
            let [Frame::Error(3, status)] = &callee.frames()[..] else { panic!("no error: {text}") };
            assert_eq!((status.code(), status.executed()), (code, Executed::No), "{status}");
            assert!(status.message().contains(text), "{status}");
            goes_on(&mut callee, 5);
        }
    }
}

#[test]
fn a_broken_answer_ends_its_call_alone() {
    for (body, code, text) in broken() {
        let mut caller = solo(Side::Connecting);
        let id = caller.call(request(1), None);
        caller.hear(Frame::Reply(3, reply(body))).unwrap();
        let (ended, status) = ended(worked_events(&mut caller));
        assert_eq!((ended, status.code(), status.executed()), (id, code, Executed::Yes), "{status}");
        assert!(status.message().contains(text), "{status}");
        assert_eq!((caller.frames(), caller.peer.open_calls()), (vec![], 0));
        goes_on(&mut caller, 2);
    }
}

#[test]
fn a_broken_item_ends_its_call_alone() {
    for (body, code, text) in broken() {
        // Of the caller.
        let mut callee = solo(Side::Accepting);
        let call = callee.take(3, more());
        callee.hear(Frame::Item(3, body.clone())).unwrap();
        callee.hear(Frame::Item(3, words(10).into())).unwrap();
        assert_eq!(worked_events(&mut callee), [Event::Cancelled(call, Cancelled::Fault)]);
        callee.peer.release(call);
        let [Frame::Error(3, status)] = &callee.frames()[..] else { panic!("no error: {text}") };
        assert_eq!((status.code(), status.executed()), (code, Executed::Yes), "{status}");
        goes_on(&mut callee, 5);

        // Of the callee: of a call that is open, and of one that was answered since.
        for is_answered in [false, true] {
            let mut caller = solo(Side::Connecting);
            let id = caller.call(request(1), None);
            caller.hear(Frame::Item(3, body.clone())).unwrap();
            if is_answered {
                caller.hear(Frame::Reply(3, Reply::default())).unwrap();
            }
            let (ended, status) = ended(worked_events(&mut caller));
            assert_eq!((ended, status.code()), (id, code), "{status}");
            assert!(status.message().contains(text), "{status}");
            let (frames, executed) =
                if is_answered { (vec![], Executed::Yes) } else { (vec![Frame::Cancel(3)], Executed::Maybe) };
            assert_eq!((caller.frames(), status.executed()), (frames, executed));
            goes_on(&mut caller, 2);
        }
    }
}

#[test]
fn an_item_is_at_most_as_large_as_one_that_is_not_compressed() {
    let limit = Config::default().max_item();
    for (size, is_taken) in [(limit, true), (limit + 1, false)] {
        let mut callee = solo(Side::Accepting);
        let call = callee.take(3, more());
        callee.hear(Frame::Item(3, deflated(&vec![7; size]))).unwrap();
        let events = worked_events(&mut callee);
        match is_taken {
            true => assert!(matches!(&events[..], [Event::Item(_, item)] if item.bytes.len() == limit)),
            false => assert_eq!(events, [Event::Cancelled(call, Cancelled::Fault)]),
        }
    }
}

#[test]
fn a_bomb_takes_bounded_memory_and_steps() {
    const MIB: usize = 1 << 20;
    let bomb = deflated(&vec![0; 10 * MIB]);
    assert!(bomb.bytes.len() * 900 < 10 * MIB);
    let mut callee = solo(Side::Accepting);
    callee.hear(Frame::Request(3, with_body(request(0), bomb))).unwrap();
    assert_eq!(callee.events(), []);
    let mut steps = 0;
    let ((), usage) = measure(|| steps = work(&mut callee));
    // The body at its limit, and its last half while it grew.
    assert!(usage.peak < 13 * MIB as i64, "{usage:?}");
    assert!(usage.live < 1000, "{usage:?}");
    assert!((100..200).contains(&steps), "{steps} steps for 8 MiB");
    assert!(matches!(&callee.frames()[..], [Frame::Error(3, _)]));
}

/// What is decompressed counts from its first piece on, and as long as its handler runs.
#[test]
fn decompressed_requests_count_with_their_full_length() {
    let mut callee = solo_with(config().max_pending_bytes(5_000_000).build().unwrap(), Side::Accepting);
    let body = deflated(&vec![0; 2_000_000]);
    let hear = |callee: &mut Solo, id| {
        callee.hear(Frame::Request(id, with_body(request(0), body.clone()))).unwrap();
        worked_events(callee)
    };
    let [Event::Request(first, _)] = hear(&mut callee, 3)[..] else { panic!("no request") };
    assert!(matches!(hear(&mut callee, 5)[..], [Event::Request(..)]));
    assert_eq!(hear(&mut callee, 7), []);
    let [Frame::Error(7, status)] = &callee.frames()[..] else { panic!("no error") };
    assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::No));
    callee.peer.respond(first, Ok(Reply::default()));
    callee.frames();
    assert!(matches!(hear(&mut callee, 9)[..], [Event::Request(..)]));
    // An answer is within the same limit while it is decompressed.
    let id = callee.call(request(1), None).slot() as u32 * 2 + 2;
    callee.hear(Frame::Reply(id, reply(body.clone()))).unwrap();
    let (_, status) = ended(worked_events(&mut callee));
    assert_eq!((status.code(), status.executed()), (Code::ResourceExhausted, Executed::Yes));
}

#[test]
fn a_large_body_is_done_in_many_steps() {
    const SIZE: usize = 3 << 20;
    let body = words(SIZE);
    let mut coders = Coders::default();
    let mut callee = solo(Side::Accepting);
    callee.hear(Frame::Request(3, with_body(request(0), deflated(&body)))).unwrap();
    assert_eq!(callee.events(), []);
    let mut steps = 0;
    while callee.peer.has_work() {
        let work = callee.peer.work(1, &mut coders);
        assert!(work <= 80 * 1024, "{work}");
        steps += 1;
    }
    assert!(steps >= SIZE / (80 * 1024), "{steps}");
    let [Event::Request(_, whole)] = &callee.events()[..] else { panic!("no request") };
    assert!(whole.body.bytes == body);

    let mut caller = solo(Side::Connecting);
    let large = Body::from(body).compressible();
    caller.peer.call(caller.now, with_body(request(0), large), None).unwrap();
    assert_eq!(caller.frames(), []);
    let mut steps = 0;
    while caller.peer.has_work() {
        let work = caller.peer.work(1, &mut coders);
        assert!(work <= 16 * 64 * 1024, "{work}");
        steps += 1;
    }
    assert_eq!(steps, SIZE / (64 * 1024));
    assert!(matches!(&caller.frames()[..], [Frame::Request(_, request)] if request.body.is_compressed()));
}

/// Small bodies count too: beginning one takes as long as tens of KiB of a large one.
#[test]
fn work_stops_at_its_limit() {
    let mut callee = solo(Side::Accepting);
    for id in 0..64 {
        callee.hear(Frame::Request(3 + 2 * id, with_body(request(0), deflated(b"small")))).unwrap();
    }
    assert_eq!(callee.events(), []);
    let mut coders = Coders::default();
    assert_eq!(callee.peer.work(256 * 1024, &mut coders), 256 * 1024);
    assert_eq!(callee.events().len(), 16);
    assert_eq!(callee.peer.work(u64::MAX, &mut coders), 48 * 16 * 1024);
    let requests = callee.events();
    assert_eq!((requests.len(), callee.peer.has_work()), (48, false));
    for event in requests {
        let Event::Request(id, _) = event else { panic!("{event:?}") };
        callee.peer.respond(id, Ok(reply(Body::from(words(1024)).compressible())));
    }
    assert_eq!(callee.frames(), []);
    assert_eq!(callee.peer.work(256 * 1024, &mut coders), 256 * 1024);
    assert_eq!(callee.frames().len(), 4);
}

/// The compressor and the decompressor are the thread's: bodies of one piece make none.
#[test]
fn coders_are_used_again() {
    let mut callee = solo(Side::Accepting);
    let mut coders = Coders::default();
    let body = deflated(&words(5000));
    let mut exchange = |id: u32| {
        callee.hear(Frame::Request(id, with_body(request(0), body.clone()))).unwrap();
        assert_eq!(callee.events(), []);
        callee.peer.work(1, &mut coders);
        let [Event::Request(call, _)] = callee.events()[..] else { panic!("no request") };
        callee.peer.respond(call, Ok(reply(Body::from(words(5000)).compressible())));
        assert_eq!(callee.frames(), []);
        callee.peer.work(1, &mut coders);
        assert!(matches!(callee.frames()[..], [Frame::Reply(..)]));
    };
    let ((), first) = measure(|| exchange(3));
    assert!((100_000..600_000).contains(&first.live), "what the coders hold: {first:?}");
    let ((), other) = measure(|| (0..10).for_each(|id| exchange(5 + 2 * id)));
    assert!(other.peak < 100_000 && other.live == 0, "{other:?}");
}

#[test]
fn items_of_all_sizes_keep_their_order_and_their_credit() {
    for window in [16 * 1024, 64 * 1024] {
        let config = config().window(window).build().unwrap();
        let mut link = Link::new(config.clone(), config, 10_000);
        link.settle();
        (0..2).for_each(|end| drop(events(&mut link, end)));
        let now = link.now();
        let id = link.ends[0].peer.call(now, more(), None).unwrap();
        link.settle();
        let (theirs, _) = taken(&mut link, 1);
        let (noise, words) = (noise(200_000), words(200_000));
        let item = |n: u32| {
            let size = [0, 5, 1100, 3000, 20_000, 200_000][n as usize % 6];
            let bytes =
                [&n.to_be_bytes()[..], if n.is_multiple_of(5) { &noise[..size] } else { &words[..size] }];
            let body = Body::from(bytes.concat());
            if n.is_multiple_of(7) { body } else { body.compressible() }
        };
        let (mut sent, mut received) = ([0, 0], [0, 0]);
        const ITEMS: u32 = 50;
        for round in 0.. {
            assert!(round < 100_000, "it stops at {sent:?} and {received:?}");
            for (end, call) in [(0, id), (1, theirs)] {
                while sent[end] < ITEMS {
                    match link.ends[end].peer.send_item(call, item(sent[end])) {
                        Ok(()) => sent[end] += 1,
                        Err(ItemError::Blocked(_)) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
                for event in events(&mut link, end) {
                    match event {
                        Event::Item(id, body) => {
                            assert!(body.bytes == item(received[end]).bytes, "out of order");
                            received[end] += 1;
                            link.ends[end].peer.consumed(id, body.bytes.len());
                        }
                        Event::Room(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            link.step();
            if received == [ITEMS, ITEMS] {
                break;
            }
        }
        link.ends[0].peer.finish(id);
        link.ends[1].peer.respond(theirs, Ok(Reply::default()));
        link.settle();
        assert_eq!(events(&mut link, 0), [Event::Ended(id, Ok(Reply::default()))]);
        assert!(link.ends.iter().all(|end| end.fault.is_none() && end.peer.open_calls() == 0));
    }
}

/// The credit is that of the wire: items that get smaller cost less.
#[test]
fn compressed_items_cost_what_goes_over_the_wire() {
    let mut caller = solo(Side::Connecting);
    let id = caller.call(more(), None);
    let item = || Body::from(vec![7; 200_000]).compressible();
    for _ in 0..100 {
        caller.peer.send_item(id, item()).unwrap();
        assert!(matches!(caller.peer.send_item(id, item()), Err(ItemError::Blocked(_))));
        assert!(matches!(&worked_frames(&mut caller)[..], [Frame::Item(_, item)] if item.bytes.len() < 400));
        assert_eq!(caller.events(), [Event::Room(id)]);
    }
}

/// An item is decompressed when its reader has taken those before it, so a reader that takes none holds a
/// window of them, and no bomb.
#[test]
fn items_that_nobody_takes_stay_compressed() {
    let mut callee = solo(Side::Accepting);
    let call = callee.take(3, more());
    for _ in 0..100 {
        callee.hear(Frame::Item(3, deflated(&vec![7; 200_000]))).unwrap();
    }
    callee.hear(Frame::End(3)).unwrap();
    for n in 0..100 {
        let events = worked_events(&mut callee);
        let Event::Item(_, item) = &events[0] else { panic!("{n}: {events:?}") };
        assert_eq!(item.bytes.len(), 200_000);
        assert_eq!(events[1..], if n == 99 { vec![Event::End(call)] } else { vec![] });
        callee.peer.consumed(call, 200_000);
    }
    callee.peer.respond(call, Ok(Reply::default()));
    callee.frames();
    goes_on(&mut callee, 5);
}

#[test]
fn calls_beside_a_large_body_go_on() {
    let mut callee = solo(Side::Accepting);
    let large = callee.take(3, request(0));
    callee.peer.respond(large, Ok(reply(Body::from(words(1 << 20)).compressible())));
    assert_eq!(callee.frames(), []);
    let mut coders = Coders::default();
    let mut turns = 0;
    while callee.peer.has_work() {
        callee.peer.work(1, &mut coders);
        goes_on_beside(&mut callee, 5);
        turns += 1;
    }
    assert!(turns >= 16, "{turns}");
    assert_eq!(callee.peer.open_calls(), 0);
}

fn goes_on_beside(callee: &mut Solo, id: u32) {
    let call = callee.take(id, request(10));
    callee.peer.respond(call, Ok(reply(words(100))));
    let frames = callee.frames();
    assert!(frames.contains(&Frame::Reply(id, reply(words(100)))), "{frames:?}");
}

/// Whatever ends a call while a body of it is at work frees that, and leaves nothing behind.
#[test]
fn the_end_of_a_call_ends_the_work_on_its_bodies() {
    let large = || deflated(&vec![0; 1 << 20]);
    let compressible = || Body::from(words(1 << 20)).compressible();
    let step = |solo: &mut Solo| {
        assert!(solo.peer.has_work());
        solo.peer.work(1, &mut Coders::default());
        assert!(solo.peer.has_work());
    };

    // A request that comes: cancelled, late.
    for how in 0..2 {
        let mut callee = solo(Side::Accepting);
        let timeout = Some(50 * MS);
        callee.hear(Frame::Request(3, Request { timeout, ..with_body(request(0), large()) })).unwrap();
        assert_eq!(callee.events(), []);
        step(&mut callee);
        match how {
            0 => callee.hear(Frame::Cancel(3)).unwrap(),
            _ => callee.run(50 * MS).unwrap(),
        }
        assert_eq!((work(&mut callee), callee.events()), (1, vec![]));
        let [Frame::Error(3, status)] = &callee.frames()[..] else { panic!("no error") };
        assert_eq!(status.executed(), Executed::No);
        goes_on(&mut callee, 5);
    }

    // An answer that comes: its caller does not want it any longer.
    let mut caller = solo(Side::Connecting);
    let id = caller.call(request(1), None);
    caller.hear(Frame::Reply(3, reply(large()))).unwrap();
    assert_eq!(caller.events(), []);
    step(&mut caller);
    caller.peer.cancel(caller.now, id);
    assert_eq!((work(&mut caller), caller.events(), caller.frames()), (1, vec![], vec![]));
    assert_eq!(caller.peer.open_calls(), 0);
    goes_on(&mut caller, 2);

    // A request that goes: given up, late, after a go-away of either side.
    for how in 0..4 {
        let mut caller = solo(Side::Connecting);
        let deadline = Some(caller.now + 50 * MS);
        let id = caller.peer.call(caller.now, with_body(request(0), compressible()), deadline).unwrap();
        assert_eq!(caller.frames(), []);
        step(&mut caller);
        let go_away = || GoAway { code: GoAwayCode::Shutdown, text: "bye".into() };
        match how {
            0 => caller.peer.cancel(caller.now, id),
            1 => caller.run(50 * MS).unwrap(),
            2 => caller.peer.go_away(caller.now, GoAwayCode::Shutdown, "bye"),
            _ => caller.hear(Frame::GoAway(go_away())).unwrap(),
        }
        work(&mut caller);
        assert!(!caller.frames().iter().any(|frame| matches!(frame, Frame::Request(..))), "{how}");
        let events = caller.events();
        let ends = events.iter().filter(
            |event| matches!(event, Event::Ended(_, Err(status)) if status.executed() == Executed::No),
        );
        assert_eq!(ends.count(), usize::from(how > 0), "{how}: {events:?}");
        assert_eq!((caller.peer.open_calls(), caller.peer.has_work()), (0, false));
    }

    // An item that goes, and one that comes: the call is cancelled.
    let mut callee = solo(Side::Accepting);
    let call = callee.take(3, more());
    callee.peer.send_item(call, compressible()).unwrap();
    callee.hear(Frame::Item(3, large())).unwrap();
    assert_eq!((callee.events(), callee.frames()), (vec![], vec![]));
    step(&mut callee);
    callee.hear(Frame::Cancel(3)).unwrap();
    work(&mut callee);
    assert_eq!(callee.events(), [Event::Cancelled(call, Cancelled::ByCaller)]);
    callee.peer.release(call);
    assert!(matches!(callee.frames()[..], [Frame::Error(3, _)]));
    goes_on(&mut callee, 5);
}

/// What has come and was not decompressed is lost with the connection. Its call says that it was executed.
#[test]
fn the_end_of_the_connection_ends_the_work() {
    for steps in [0, 1] {
        let mut caller = solo(Side::Connecting);
        let id = caller.call(request(1), None);
        caller.hear(Frame::Reply(3, reply(deflated(&vec![0; 1 << 20])))).unwrap();
        if steps > 0 {
            assert_eq!(caller.events(), []);
            caller.peer.work(1, &mut Coders::default());
        }
        caller.close();
        assert!(!caller.peer.has_work());
        let (ended, status) = ended(caller.events());
        assert_eq!((ended, status.code(), status.executed()), (id, Code::Unavailable, Executed::Yes));
        assert_eq!(caller.peer.open_calls(), 0);
    }
    // A stream keeps its own end; those who wait for a handler are gone.
    let mut caller = solo(Side::Connecting);
    caller.call(request(1), None);
    caller.hear(Frame::Item(3, deflated(&words(5000)))).unwrap();
    caller.hear(Frame::Request(2, with_body(request(0), deflated(&words(5000))))).unwrap();
    assert_eq!(caller.events(), []);
    caller.close();
    let (_, status) = ended(caller.events());
    assert_eq!((status.code(), status.executed()), (Code::Unavailable, Executed::Maybe));
    assert_eq!((caller.peer.open_calls(), caller.peer.has_work()), (0, false));
}
