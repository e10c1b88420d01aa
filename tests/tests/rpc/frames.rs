//! Frames are read as they were written, however their bytes are cut.

use std::time::Duration;

use bytes::BytesMut;
use getty_core::codec::{Encoder, Sink, Text};
use getty_core::rpc::{
    Body, Code, CodecName, Coding, EncodeFrameError, Executed, Frame, FrameFault, Frames, GoAway, GoAwayCode,
    Hello, Origin, Reply, Request, Status,
};
use proptest::prelude::*;
use testkit::split::cut;

use crate::any;
use crate::bytes::{MAX_FRAME, PREFACE, decode, encode, parts, raw, received, try_encode};

fn stream(frames: &[Frame]) -> Vec<u8> {
    let mut codec = Frames::new();
    let mut bytes = BytesMut::new();
    for frame in frames {
        let (announced, before) = (codec.encoded_len(frame), bytes.len());
        codec.encode(frame.clone(), &mut Sink::new(&mut bytes)).unwrap();
        assert_eq!(announced, Some(bytes.len() - before));
    }
    bytes.to_vec()
}

proptest! {
    #![proptest_config(any::config(60))]

    #[test]
    fn frames_come_as_they_were_sent_however_their_bytes_are_cut(
        frames in prop::collection::vec(any::frame(), 1..5),
        rest in prop::collection::vec(any::<u8>(), 0..12),
        seed: u64,
    ) {
        let mut wire = stream(&frames);
        wire.extend(rest);
        let whole = received(&[&wire]);
        prop_assert!(whole.0.len() >= frames.len(), "{whole:?}");
        for (sent, came) in frames.iter().zip(&whole.0) {
            prop_assert!(any::same(sent, came), "{sent:?} came as {came:?}");
        }
        for pieces in [wire.chunks(1).collect(), cut(&wire, 3, seed), cut(&wire, 700, seed)] {
            prop_assert_eq!(&received(&pieces), &whole);
        }
    }

    #[test]
    fn a_frame_by_itself_comes_as_it_was_sent(frame in any::frame()) {
        let came = decode(&encode(&frame));
        prop_assert!(any::same(&frame, &came), "{frame:?} came as {came:?}");
    }
}

/// The bytes are those of the specification, so that both ends can't be wrong in the same way.
#[test]
fn frames_have_the_bytes_of_the_specification() {
    let mut request = Request::new("a.B/C", CodecName::Json, "{}");
    request.timeout = Some(Duration::from_millis(1));
    let wire = stream(&[Frame::Request(3, request), Frame::End(3)]);
    let expected = b"\xfagty\x02\0\0\0\
        \x12\0\0\0\x01\0\x10\0\x03\0\0\0\x0a\x05a.B/C\x10\xe8\x07\x1a\x04json{}\
        \0\0\0\0\x06\0\0\0\x03\0\0\0";
    assert_eq!(wire, expected);
}

#[test]
fn every_kind_has_its_number() {
    let hello = Hello { max_calls: 16, window: 16384, max_frame: 65536, deflate: false, software: "".into() };
    let away = GoAway { code: GoAwayCode::Timeout, text: "".into() };
    let frames = [
        Frame::Hello(hello),
        Frame::Request(2, Request::new("m", CodecName::Raw, "")),
        Frame::Reply(2, Reply::default()),
        Frame::Error(2, Status::internal("")),
        Frame::Cancel(2),
        Frame::Item(2, Body::default()),
        Frame::End(2),
        Frame::Window(2, 1),
        Frame::Ping(1),
        Frame::Pong(1),
        Frame::GoAway(away),
        Frame::Calls(1),
    ];
    for (number, frame) in (0..).zip(frames) {
        assert_eq!(encode(&frame)[4], number, "{frame:?}");
    }
}

#[test]
fn flags_have_their_bits() {
    let request = |set: fn(&mut Request)| {
        let mut request = Request::new("m", CodecName::Raw, "body");
        set(&mut request);
        Frame::Request(2, request)
    };
    let compressed = Body { bytes: "\x01x".into(), coding: Coding::Compressed };
    let not_executed = Status::unavailable("").with_executed(Executed::No);
    for (frame, flags) in [
        (request(|request| request.body.coding = Coding::Compressed), 1),
        (request(|request| request.more = true), 2),
        (request(|request| request.one_way = true), 8),
        (Frame::Item(2, compressed.clone()), 1),
        (Frame::Reply(2, Reply { body: compressed, ..Reply::default() }), 1),
        (Frame::Error(2, not_executed), 4),
        (Frame::Error(2, Status::unavailable("").with_executed(Executed::Maybe)), 0),
    ] {
        assert_eq!(encode(&frame)[5], flags, "{frame:?}");
    }
}

/// The upper half of the flags is for later versions.
#[test]
fn flags_of_later_versions_are_ignored() {
    let frame = encode(&Frame::Item(2, "body".into()));
    let mut later = frame.to_vec();
    later[5] |= 0xf0;
    assert_eq!(decode(&later), decode(&frame));
}

/// As TLS does with GREASE: these kinds stay usable only if they are sent now and then.
#[test]
fn kinds_from_128_on_are_skipped() {
    let hello = encode(&Frame::Ping(1));
    for kind in [0x80, 0x8a, 0xfe, 0xff] {
        let unknown = raw(kind, 0xff, u32::MAX, b"no head", &[0; 1000]);
        let wire = [PREFACE, &unknown, &hello, &unknown[..600]].concat();
        for pieces in [vec![&wire[..]], wire.chunks(1).collect()] {
            let (frames, end) = received(&pieces);
            assert_eq!(frames, [Frame::Skipped(kind), Frame::Ping(1)]);
            assert!(end.contains("mid_frame: true"), "{end}");
        }
        // Nothing in it is looked at, not even the length of its head.
        let mut wire = raw(kind, 0, 0, b"", b"");
        wire[6..8].copy_from_slice(&[0xff; 2]);
        assert_eq!(decode(&wire), Frame::Skipped(kind));
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_before_it_has_come() {
    let largest = raw(5, 0, 2, b"", &vec![0; MAX_FRAME - 12]);
    let (frames, _) = received(&[PREFACE, &largest]);
    assert!(matches!(&frames[..], [Frame::Item(2, body)] if body.bytes.len() == MAX_FRAME - 12));
    for kind in [5, 0x80] {
        for length in [MAX_FRAME as u32 - 11, u32::MAX] {
            let mut header = raw(kind, 0, 2, b"", b"");
            header[..4].copy_from_slice(&length.to_le_bytes());
            let (frames, end) = received(&[PREFACE, &header]);
            assert_eq!(frames, []);
            let size = u64::from(length) + 12;
            let expected =
                format!("a frame of {size} bytes (header included) is over the limit of {MAX_FRAME}");
            assert!(end.contains(&expected), "{end}");
        }
    }
}

#[test]
fn errors_say_who_made_them_and_whether_the_call_was_executed() {
    let mut codes = Vec::new();
    for executed in [Executed::No, Executed::Yes] {
        let sent = Status::aborted("why").with_executed(executed).with_details("typed".into());
        let Frame::Error(2, status) = decode(&encode(&Frame::Error(2, sent))) else { panic!() };
        assert_eq!((status.origin(), status.executed()), (Origin::Peer, executed));
        assert_eq!((status.message(), &status.details()[..]), ("why", &b"typed"[..]));
        codes.push(status.code());
    }
    assert_eq!(codes, [Code::Aborted; 2]);
}

#[test]
fn long_texts_are_cut_between_characters() {
    for (text, kept) in [("x", 4093), ("é", 4092), ("€", 4092), ("😀", 4092)] {
        let Frame::Error(_, status) =
            decode(&encode(&Frame::Error(2, Status::internal(text.repeat(100_000)))))
        else {
            panic!()
        };
        assert_eq!(status.message(), format!("{}...", text.repeat(kept / text.len())));
    }
    let just_fits = "x".repeat(4096);
    let Frame::Error(_, status) = decode(&encode(&Frame::Error(2, Status::internal(just_fits.clone()))))
    else {
        panic!()
    };
    assert_eq!(status.message(), just_fits);

    let away = GoAway { code: GoAwayCode::Protocol, text: "é".repeat(600).into() };
    let Frame::GoAway(away) = decode(&encode(&Frame::GoAway(away))) else { panic!() };
    assert_eq!(away.text.as_str(), format!("{}...", "é".repeat(510)));
}

#[test]
fn times_are_rounded_up_and_have_no_end() {
    let sent = |timeout| {
        let mut request = Request::new("m", CodecName::Raw, "");
        request.timeout = timeout;
        let Frame::Request(_, request) = decode(&encode(&Frame::Request(3, request))) else { panic!() };
        request.timeout
    };
    assert_eq!(sent(None), None);
    assert_eq!(sent(Some(Duration::ZERO)), Some(Duration::ZERO));
    assert_eq!(sent(Some(Duration::from_nanos(1))), Some(Duration::from_micros(1)));
    assert_eq!(sent(Some(Duration::from_nanos(1000))), Some(Duration::from_micros(1)));
    assert_eq!(sent(Some(Duration::from_nanos(1001))), Some(Duration::from_micros(2)));
    assert_eq!(sent(Some(Duration::MAX)), Some(Duration::from_micros(u64::MAX)));
    let end = getty_core::Timestamp::ORIGIN + Duration::from_micros(u64::MAX);
    assert_eq!(end + Duration::from_secs(1), end, "a deadline that far is the last moment");

    let status = Status::unavailable("").with_retry_after(Duration::MAX);
    let Frame::Error(_, status) = decode(&encode(&Frame::Error(3, status))) else { panic!() };
    assert_eq!(status.retry_after(), Some(Duration::from_micros(u64::MAX)));
}

#[test]
fn a_trace_state_that_is_too_long_is_not_sent() {
    let state = |length: usize| {
        let mut request = Request::new("m", CodecName::Raw, "");
        let state = "s".repeat(length).into();
        request.set_trace(Some(getty_core::rpc::Trace { parent: [1; 25], state }));
        let Frame::Request(_, request) = decode(&encode(&Frame::Request(3, request))) else { panic!() };
        request.trace().unwrap().state.clone()
    };
    assert_eq!(state(4096).as_str().len(), 4096);
    assert_eq!(state(4097), Text::default());
}

#[test]
fn what_the_peer_would_refuse_is_not_sent() {
    let fault = |frame: Frame| match try_encode(&frame) {
        Err(EncodeFrameError::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    };
    let request =
        |method: &str, codec: CodecName| Frame::Request(2, Request::new(method.to_owned(), codec, "body"));
    let other = |length: usize| CodecName::new("c".repeat(length));
    assert_eq!(fault(request("", CodecName::Raw)), FrameFault::Missing(1));
    assert_eq!(fault(request(&"m".repeat(1025), CodecName::Raw)), FrameFault::Field(1));
    assert_eq!(fault(request("m", other(0))), FrameFault::Missing(3));
    assert_eq!(fault(request("m", other(256))), FrameFault::Field(3));
    let mut both = Request::new("m", CodecName::Raw, "");
    (both.more, both.one_way) = (true, true);
    assert_eq!(fault(Frame::Request(2, both)), FrameFault::Flags { kind: 1, flags: 10 });
    for id in [0, 1, 131_074, u32::MAX] {
        assert_eq!(fault(Frame::Cancel(id)), FrameFault::Id(id));
    }
    let hello = |set: fn(&mut Hello)| {
        let (max_calls, window, max_frame) = (Hello::MIN_CALLS, Hello::MIN_WINDOW, Hello::MIN_FRAME);
        let mut hello = Hello { max_calls, window, max_frame, deflate: true, software: "s".into() };
        set(&mut hello);
        fault(Frame::Hello(hello))
    };
    assert_eq!(hello(|hello| hello.max_calls = 15), FrameFault::Field(1));
    assert_eq!(hello(|hello| hello.window = 0), FrameFault::Missing(2));
    assert_eq!(hello(|hello| hello.window = 1 << 31), FrameFault::Field(2));
    assert_eq!(hello(|hello| hello.max_frame = 65_535), FrameFault::Field(3));
    assert_eq!(hello(|hello| hello.software = "s".repeat(256).into()), FrameFault::Field(5));
    let invalid = getty_core::rpc::Invalid { kind: 0, id: 0, fault: FrameFault::Head };
    for frame in [Frame::Skipped(0x80), Frame::Invalid(invalid)] {
        assert_eq!(try_encode(&frame), Err(EncodeFrameError::OnlyReceived));
    }
}

/// A refused frame leaves no trace: the preface is written with the first frame that is taken.
#[test]
fn a_refused_first_frame_does_not_take_the_preface_with_it() {
    let mut codec = Frames::new();
    let mut bytes = BytesMut::new();
    codec.encode(Frame::Cancel(0), &mut Sink::new(&mut bytes)).unwrap_err();
    codec.encode(Frame::Cancel(2), &mut Sink::new(&mut bytes)).unwrap();
    codec.encode(Frame::Cancel(4), &mut Sink::new(&mut bytes)).unwrap();
    assert_eq!(&bytes[..8], PREFACE);
    assert_eq!(bytes.len(), 8 + 12 + 12);
}

/// The largest head that the limits of its fields allow is within the limit for heads.
#[test]
fn the_largest_heads_fit() {
    let mut metadata = getty_core::rpc::Metadata::new();
    for _ in 0..64 {
        metadata.insert(&"k".repeat(28), [0; 100]).unwrap();
    }
    let longest = Duration::from_micros(u64::MAX);
    let mut request = Request::new("m".repeat(1024), CodecName::new("c".repeat(255)), "");
    request.timeout = Some(longest);
    request.set_attempt(u32::MAX);
    *request.metadata_mut() = metadata.clone();
    let state = "s".repeat(4096).into();
    request.set_trace(Some(getty_core::rpc::Trace { parent: [1; 25], state }));
    let status = Status::internal("t".repeat(4096)).with_metadata(metadata).with_retry_after(longest);
    for frame in [Frame::Request(2, request), Frame::Error(2, status)] {
        let bytes = encode(&frame);
        assert!(parts(&bytes).0.len() > 12_000);
        assert!(any::same(&frame, &decode(&bytes)));
    }
}
