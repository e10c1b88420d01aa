//! Any frame that may be sent.

use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::Text;
use getty_core::rpc::{
    Body, Code, CodecName, Coding, Executed, Frame, GoAway, GoAwayCode, Hello, Metadata, Reply, Request,
    Status, Trace,
};
use proptest::prelude::*;

pub fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn text(max: usize) -> impl Strategy<Value = Text> {
    let pieces =
        prop::collection::vec(prop::sample::select(vec!["a", "b/", ".", "é", "€", "😀"]), 0..=max / 4);
    pieces.prop_map(|pieces| Text::from(pieces.concat()))
}

/// `text`, not empty.
fn name(max: usize) -> impl Strategy<Value = Text> {
    text(max - 4).prop_map(|text| Text::from(format!("n{text}")))
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 0..max)]
        .prop_map(Bytes::from)
}

fn body() -> impl Strategy<Value = Body> {
    let coding = prop_oneof![Just(Coding::Plain), Just(Coding::Compressed)];
    (bytes(3000), coding).prop_map(|(bytes, coding)| Body { bytes, coding })
}

pub fn metadata() -> impl Strategy<Value = Metadata> {
    let pair = || ("[a-z0-9._-]{1,20}", bytes(150));
    let many = prop_oneof![3 => 0..1usize, 3 => 0..5usize, 1 => 0..50usize];
    many.prop_flat_map(move |many| prop::collection::vec(pair(), many)).prop_map(|pairs| {
        let mut metadata = Metadata::new();
        for (key, value) in pairs.iter().filter(|(key, _)| !key.starts_with("getty-")) {
            metadata.insert(key, value).unwrap();
        }
        metadata
    })
}

/// A time as it comes back: in whole microseconds.
fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(0), Just(1), 0..10_000_000_000u64, Just(u64::MAX)].prop_map(Duration::from_micros)
}

fn trace() -> impl Strategy<Value = Trace> {
    (any::<[u8; 25]>(), text(200)).prop_map(|(parent, state)| Trace { parent, state })
}

fn codec() -> impl Strategy<Value = CodecName> {
    let known = vec![CodecName::Json, CodecName::Protobuf, CodecName::Raw];
    prop_oneof![prop::sample::select(known), name(255).prop_map(CodecName::new)]
}

pub fn request() -> impl Strategy<Value = Request> {
    let head = (name(1024), codec(), prop::option::of(time()), metadata(), prop::option::of(trace()));
    (head, any::<u32>(), any::<bool>(), any::<bool>(), body()).prop_map(
        |(head, attempt, more, one_way, body)| {
            let (method, codec, timeout, metadata, trace) = head;
            let mut request = Request::new(method, codec, body);
            (request.timeout, request.more, request.one_way) = (timeout, more, one_way && !more);
            *request.metadata_mut() = metadata;
            request.set_trace(trace);
            request.set_attempt(attempt);
            request
        },
    )
}

pub fn status() -> impl Strategy<Value = Status> {
    let parts = (1..=16u32, text(4096), any::<bool>(), prop::option::of(time()), metadata(), bytes(500));
    parts.prop_map(|(code, message, executed, wait, metadata, details)| {
        let executed = if executed { Executed::Yes } else { Executed::No };
        let mut status = Status::new(Code::from_number(code), message).with_executed(executed);
        if let Some(wait) = wait {
            status = status.with_retry_after(wait);
        }
        if !metadata.is_empty() {
            status = status.with_metadata(metadata);
        }
        if details.is_empty() { status } else { status.with_details(details) }
    })
}

pub fn hello() -> impl Strategy<Value = Hello> {
    let limits = (16..=u32::MAX, 16 * 1024..=i32::MAX as u32, 64 * 1024..=u32::MAX);
    (limits, any::<bool>(), text(255)).prop_map(|((max_calls, window, max_frame), deflate, software)| Hello {
        max_calls,
        window,
        max_frame,
        deflate,
        software,
    })
}

pub fn go_away() -> impl Strategy<Value = GoAway> {
    (0..4u32, text(1024)).prop_map(|(code, text)| GoAway { code: GoAwayCode::from_number(code), text })
}

pub fn id() -> impl Strategy<Value = u32> {
    prop_oneof![Just(2), Just(3), 2..=131_073u32, Just(131_073)]
}

/// Frames of all kinds, each as often as the others.
pub fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        hello().prop_map(Frame::Hello),
        (id(), request()).prop_map(|(id, request)| Frame::Request(id, request)),
        (id(), metadata(), body())
            .prop_map(|(id, metadata, body)| Frame::Reply(id, Reply { metadata, body })),
        (id(), status()).prop_map(|(id, status)| Frame::Error(id, status)),
        id().prop_map(Frame::Cancel),
        (id(), body()).prop_map(|(id, body)| Frame::Item(id, body)),
        id().prop_map(Frame::End),
        (id(), any::<u32>()).prop_map(|(id, bytes)| Frame::Window(id, bytes)),
        any::<u64>().prop_map(Frame::Ping),
        any::<u64>().prop_map(Frame::Pong),
        go_away().prop_map(Frame::GoAway),
        any::<u32>().prop_map(Frame::Calls),
    ]
}

/// `frame` as the receiver sees it: an error says that it came from the peer.
pub fn same(sent: &Frame, received: &Frame) -> bool {
    match (sent, received) {
        (Frame::Error(id, sent), Frame::Error(other, received)) => {
            (id, sent.code(), sent.message(), sent.executed(), sent.retry_after(), sent.details())
                == (
                    other,
                    received.code(),
                    received.message(),
                    received.executed(),
                    received.retry_after(),
                    received.details(),
                )
                && sent.metadata().cloned().unwrap_or_default()
                    == received.metadata().cloned().unwrap_or_default()
        }
        _ => sent == received,
    }
}
