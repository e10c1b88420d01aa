//! Heads against another implementation of Protobuf, in both directions.

use std::time::Duration;

use getty_core::rpc::{
    CodecName, Executed, Frame, FrameFault, GoAway, Hello, Metadata, Reply, Request, Status, Trace,
};
use proptest::prelude::*;
use prost::Message;

use crate::any;
use crate::bytes::{decode, encode, fault, parts, raw};

#[derive(Clone, PartialEq, Message)]
struct PairHead {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RequestHead {
    #[prost(string, tag = "1")]
    method: String,
    #[prost(uint64, optional, tag = "2")]
    timeout_us: Option<u64>,
    #[prost(string, tag = "3")]
    codec: String,
    #[prost(bytes = "vec", tag = "4")]
    traceparent: Vec<u8>,
    #[prost(message, repeated, tag = "5")]
    metadata: Vec<PairHead>,
    #[prost(uint32, tag = "6")]
    attempt: u32,
    #[prost(string, tag = "7")]
    tracestate: String,
}

#[derive(Clone, PartialEq, Message)]
struct ReplyHead {
    #[prost(message, repeated, tag = "4")]
    metadata: Vec<PairHead>,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorHead {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(uint64, optional, tag = "3")]
    retry_after_us: Option<u64>,
    #[prost(message, repeated, tag = "4")]
    metadata: Vec<PairHead>,
}

#[derive(Clone, PartialEq, Message)]
struct HelloHead {
    #[prost(uint32, tag = "1")]
    max_calls: u32,
    #[prost(uint32, tag = "2")]
    window: u32,
    #[prost(uint32, tag = "3")]
    max_frame: u32,
    #[prost(uint32, repeated, tag = "4")]
    compressions: Vec<u32>,
    #[prost(string, tag = "5")]
    software: String,
}

/// The same with each compression in a field of its own.
#[derive(Clone, PartialEq, Message)]
struct UnpackedHello {
    #[prost(uint32, repeated, packed = "false", tag = "4")]
    compressions: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct GoAwayHead {
    #[prost(uint32, tag = "1")]
    code: u32,
    #[prost(string, tag = "2")]
    text: String,
}

#[derive(Clone, PartialEq, Message)]
struct WindowHead {
    #[prost(uint32, tag = "1")]
    bytes: u32,
}

#[derive(Clone, PartialEq, Message)]
struct CallsHead {
    #[prost(uint32, tag = "1")]
    max_calls: u32,
}

#[derive(Clone, PartialEq, Message)]
struct PingHead {
    #[prost(uint64, tag = "1")]
    number: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PongHead {
    #[prost(uint64, tag = "1")]
    number: u64,
}

/// Fields that no head has, of every type. A group stands between them.
#[derive(Clone, PartialEq, Message)]
struct UnknownFields {
    #[prost(uint64, optional, tag = "15")]
    varint: Option<u64>,
    #[prost(fixed64, optional, tag = "16")]
    eight: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "17")]
    bytes: Option<Vec<u8>>,
    #[prost(fixed32, optional, tag = "18")]
    four: Option<u32>,
    #[prost(message, optional, tag = "536870911")]
    message: Option<Box<UnknownFields>>,
}

fn unknown() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..20);
    (any::<Option<u64>>(), any::<Option<u64>>(), prop::option::of(bytes), any::<Option<u32>>()).prop_map(
        |(varint, eight, bytes, four)| {
            let fields = UnknownFields { varint, eight, bytes, four, message: None };
            let nested = UnknownFields { message: Some(Box::new(fields.clone())), ..fields };
            // Group 19 around the fields, and the fields again.
            [&b"\x9b\x01"[..], &nested.encode_to_vec(), b"\x9c\x01", &nested.encode_to_vec()].concat()
        },
    )
}

fn pairs(metadata: &Metadata) -> Vec<PairHead> {
    metadata.iter().map(|(key, value)| PairHead { key: key.into(), value: value.into() }).collect()
}

fn request_head(request: &Request) -> RequestHead {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap();
    RequestHead {
        method: request.method.to_string(),
        timeout_us: request.timeout.map(micros),
        codec: request.codec.to_string(),
        traceparent: request.trace().map_or(Vec::new(), |trace| trace.parent.into()),
        metadata: pairs(request.metadata()),
        attempt: request.attempt(),
        tracestate: request.trace().map_or(String::new(), |trace| trace.state.to_string()),
    }
}

fn error_head(status: &Status) -> ErrorHead {
    ErrorHead {
        code: status.code().number(),
        message: status.message().to_owned(),
        retry_after_us: status.retry_after().map(|time| u64::try_from(time.as_micros()).unwrap()),
        metadata: status.metadata().map_or(Vec::new(), pairs),
    }
}

fn hello_head(hello: &Hello) -> HelloHead {
    let &Hello { max_calls, window, max_frame, deflate, ref software } = hello;
    let compressions = if deflate { vec![1] } else { Vec::new() };
    HelloHead { max_calls, window, max_frame, compressions, software: software.to_string() }
}

/// The head of `frame` as the other implementation writes it.
fn written_by_prost(frame: &Frame) -> Vec<u8> {
    match frame {
        Frame::Hello(hello) => hello_head(hello).encode_to_vec(),
        Frame::Request(_, request) => request_head(request).encode_to_vec(),
        Frame::Reply(_, Reply { metadata, .. }) => ReplyHead { metadata: pairs(metadata) }.encode_to_vec(),
        Frame::Error(_, status) => error_head(status).encode_to_vec(),
        &Frame::Window(_, bytes) => WindowHead { bytes }.encode_to_vec(),
        &Frame::Calls(max_calls) => CallsHead { max_calls }.encode_to_vec(),
        &Frame::Ping(number) => PingHead { number }.encode_to_vec(),
        &Frame::Pong(number) => PongHead { number }.encode_to_vec(),
        Frame::GoAway(GoAway { code, text }) => {
            GoAwayHead { code: code.number(), text: text.to_string() }.encode_to_vec()
        }
        _ => Vec::new(),
    }
}

/// `frame`, with another head.
fn with_head(frame: &Frame, head: &[u8]) -> Vec<u8> {
    let bytes = encode(frame);
    let id = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
    raw(bytes[4], bytes[5], id, head, parts(&bytes).1)
}

/// The fields of `head`, each with its tag.
fn fields(mut head: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = Vec::new();
    while !head.is_empty() {
        let mut rest = head;
        let (tag, kind) = prost::encoding::decode_key(&mut rest).unwrap();
        prost::encoding::skip_field(kind, tag, &mut rest, Default::default()).unwrap();
        let (field, after) = head.split_at(head.len() - rest.len());
        fields.push(field.to_vec());
        head = after;
    }
    fields
}

proptest! {
    #![proptest_config(any::config(200))]

    #[test]
    fn heads_are_written_as_others_write_them(frame in any::frame()) {
        let bytes = encode(&frame);
        prop_assert_eq!(parts(&bytes).0, written_by_prost(&frame));
    }

    #[test]
    fn fields_of_later_versions_are_skipped_wherever_they_are(
        frame in any::frame(),
        more in unknown(),
        seed: u64,
    ) {
        let mut rng = testkit::Rng::new(seed);
        let mut head = fields(&written_by_prost(&frame));
        for field in fields(&more) {
            head.insert(rng.below(head.len() + 1), field);
        }
        let head = head.concat();
        prop_assume!(head.len() <= 16 * 1024);
        let came = decode(&with_head(&frame, &head));
        prop_assert!(any::same(&frame, &came), "{frame:?} came as {came:?}");
    }

    #[test]
    fn fields_may_come_in_any_order_and_the_last_value_counts(
        (id, request, earlier) in (any::id(), any::request(), any::request()),
        seed: u64,
    ) {
        let mut earlier = earlier;
        *earlier.metadata_mut() = Metadata::new();
        // Values that are not sent again would stay.
        request.timeout.is_none().then(|| earlier.timeout = None);
        (request.attempt() == 0).then(|| earlier.set_attempt(0));
        if request.trace().is_none_or(|trace| trace.state.as_bytes().is_empty()) {
            earlier.set_trace(None);
        }
        let mut rng = testkit::Rng::new(seed);
        let mut head = fields(&request_head(&request).encode_to_vec());
        // Pairs keep their order among themselves; the others go anywhere.
        let others: Vec<_> = head.extract_if(.., |field| field[0] != 0x2a).collect();
        for field in others {
            head.insert(rng.below(head.len() + 1), field);
        }
        let head = [request_head(&earlier).encode_to_vec(), head.concat()].concat();
        prop_assume!(head.len() <= 16 * 1024);
        let frame = Frame::Request(id, request);
        let came = decode(&with_head(&frame, &head));
        prop_assert!(any::same(&frame, &came), "{frame:?} came as {came:?}");
    }

    #[test]
    fn what_others_refuse_is_refused(
        request in any::request(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut head = request_head(&request).encode_to_vec();
        *at.get_mut(&mut head) = byte;
        let refused = RequestHead::decode(&head[..]).is_err();
        let came = decode(&raw(1, 0, 2, &head, b""));
        prop_assert!(!refused || matches!(came, Frame::Invalid(_)), "{came:?}");
        if let Frame::Request(_, request) = came {
            let theirs = RequestHead::decode(&head[..]).unwrap();
            prop_assert_eq!(&*theirs.method, request.method.as_str());
            prop_assert_eq!(theirs.metadata, pairs(request.metadata()));
        }
    }
}

/// The fields in `rpc.proto`, such as `Request.attempt: uint32 = 6`.
fn published() -> Vec<String> {
    let (mut message, mut fields) = ("", Vec::new());
    for line in include_str!("../../../core/src/rpc/rpc.proto").lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("message ") {
            message = rest.split(' ').next().unwrap();
        } else if let Some((field, number)) = line.strip_suffix(';').and_then(|line| line.split_once(" = ")) {
            let Some((kind, name)) = field.rsplit_once(' ') else { continue };
            fields.push(format!("{message}.{name}: {kind} = {number}"));
        }
    }
    fields
}

/// The same for the structures above, whose names end with `Head`.
fn tested() -> Vec<String> {
    let (mut message, mut fields) = ("", Vec::new());
    let mut lines = include_str!("heads.rs").lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("struct ") {
            message = name.strip_suffix("Head {").unwrap_or_default();
        } else if let Some(attribute) = line.strip_prefix("#[prost(").filter(|_| !message.is_empty()) {
            let parts: Vec<_> = attribute.trim_end_matches(")]").split(", ").collect();
            let label = if let [_, label, _] = parts[..] { format!("{label} ") } else { String::new() };
            let kind = parts[0].trim_end_matches(" = \"vec\"").replace("message", "Pair");
            let number = parts.last().unwrap().trim_start_matches("tag = ").trim_matches('"');
            let name = lines.next().unwrap().split(':').next().unwrap();
            fields.push(format!("{message}.{name}: {label}{kind} = {number}"));
        }
    }
    fields
}

#[test]
fn the_published_heads_are_those_tested_here() {
    let [mut published, mut tested] = [published(), tested()];
    published.sort();
    tested.sort();
    assert!(published.contains(&"Request.timeout_us: optional uint64 = 2".to_owned()), "{published:?}");
    assert_eq!(published, tested);
}

#[test]
fn compressions_may_be_packed_or_not_and_unknown_ones_are_ignored() {
    let hello = |compressions: &[u8]| {
        let least = HelloHead { max_calls: 16, window: 16384, max_frame: 65536, ..HelloHead::default() };
        let head = [&least.encode_to_vec()[..], compressions].concat();
        let Frame::Hello(hello) = decode(&raw(0, 0, 0, &head, b"")) else { panic!() };
        hello.deflate
    };
    for (compressions, deflate) in [
        (&[][..], false),
        (&[1], true),
        (&[2], false),
        (&[2, 1], true),
        (&[1, 300], true),
        (&[300, 257], false),
    ] {
        let compressions = compressions.to_vec();
        let packed = HelloHead { compressions: compressions.clone(), ..HelloHead::default() };
        let unpacked = UnpackedHello { compressions };
        assert_eq!(hello(&packed.encode_to_vec()), deflate);
        assert_eq!(hello(&unpacked.encode_to_vec()), deflate);
        assert_eq!(hello(&[packed.encode_to_vec(), unpacked.encode_to_vec()].concat()), deflate);
    }
    let least = b"\x08\x10\x10\x80\x80\x01\x18\x80\x80\x04";
    assert_eq!(fault(&raw(0, 0, 0, &[&least[..], b"\x22\x01\x80"].concat(), b"")), FrameFault::Head);
    assert_eq!(fault(&raw(0, 0, 0, &[&least[..], b"\x25abcd"].concat(), b"")), FrameFault::Field(4));
}

#[test]
fn unknown_codes_are_read_as_the_general_ones() {
    for (code, read) in [(0, 2), (1, 1), (16, 16), (17, 2), (u32::MAX, 2)] {
        let head = ErrorHead { code, message: "m".into(), ..ErrorHead::default() }.encode_to_vec();
        let Frame::Error(2, status) = decode(&raw(3, 0, 2, &head, b"")) else { panic!() };
        assert_eq!((status.code().number(), status.executed()), (read, Executed::Yes));
    }
    for (code, read) in [(0, 0), (1, 1), (2, 2), (3, 3), (4, 0), (u32::MAX, 0)] {
        let head = GoAwayHead { code, text: "t".into() }.encode_to_vec();
        let Frame::GoAway(away) = decode(&raw(10, 0, 0, &head, b"")) else { panic!() };
        assert_eq!(away.code.number(), read);
    }
}

/// A trace is one only with its place.
#[test]
fn a_trace_state_without_a_parent_is_ignored() {
    let head = RequestHead {
        method: "m".into(),
        codec: "json".into(),
        tracestate: "a=b".into(),
        ..RequestHead::default()
    };
    let Frame::Request(_, request) = decode(&raw(1, 0, 2, &head.encode_to_vec(), b"")) else { panic!() };
    assert_eq!(request.trace(), None);
    let head = RequestHead { traceparent: vec![9; 25], ..head };
    let Frame::Request(_, request) = decode(&raw(1, 0, 2, &head.encode_to_vec(), b"")) else { panic!() };
    assert_eq!(request.trace(), Some(&Trace { parent: [9; 25], state: "a=b".into() }));
}

#[test]
fn a_trace_has_ids() {
    let trace = Trace::new(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331, true);
    assert_eq!(format!("{:032x}", trace.trace_id()), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(format!("{:016x}", trace.parent_id()), "b7ad6b7169203331");
    assert_eq!(trace.parent[..3], [0x0a, 0xf7, 0x65], "in the order of the text");
    assert_eq!(trace.parent[16..], [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31, 1]);
    assert!(trace.is_valid() && trace.is_sampled());
    let below = trace.clone().with_parent_id(7);
    assert_eq!((below.trace_id(), below.parent_id(), below.is_sampled()), (trace.trace_id(), 7, true));
    assert!(!below.with_parent_id(0).is_valid() && !Trace::new(0, 1, true).is_valid());
    assert!(!Trace::new(1, 1, false).is_sampled());
    // Other flags mean nothing yet.
    assert!(!Trace { parent: [2; 25], state: "a=b".into() }.is_sampled());
}

#[test]
fn codecs_are_known_by_name() {
    for (name, codec) in [
        ("json", CodecName::Json),
        ("proto", CodecName::Protobuf),
        ("raw", CodecName::Raw),
        ("jsonl", CodecName::new("jsonl")),
    ] {
        let head = RequestHead { method: "m".into(), codec: name.into(), ..RequestHead::default() };
        let Frame::Request(_, request) = decode(&raw(1, 0, 2, &head.encode_to_vec(), b"")) else { panic!() };
        assert_eq!(request.codec, codec);
    }
}
