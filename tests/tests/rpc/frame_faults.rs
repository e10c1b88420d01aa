//! Frames that break the rules of their kind are delivered as such, and those after them as ever.

use getty_core::rpc::{Frame, FrameFault, Invalid, MetadataError};

use crate::bytes::{PREFACE, decode, encode, fault, raw, received};

/// The head of a request for method `m` with codec `raw`, and `more` fields.
fn request(more: &[u8]) -> Vec<u8> {
    raw(1, 0, 2, &[b"\x0a\x01m\x1a\x03raw", more].concat(), b"body")
}

/// Field `number` with this content.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let [low, high] = [content.len() as u8 & 0x7f | 0x80, (content.len() >> 7) as u8];
    [&[number << 3 | 2, low, high], content].concat()
}

const HELLO: [&[u8]; 3] = [b"\x08\x10", b"\x10\x80\x80\x01", b"\x18\x80\x80\x04"];

#[test]
fn frames_after_a_fault_come_as_ever() {
    let ping = encode(&Frame::Ping(7));
    let wire = [PREFACE, &raw(0x0c, 0, 9, b"head", b"body"), &ping].concat();
    let invalid = Invalid { kind: 0x0c, id: 9, fault: FrameFault::Kind(0x0c) };
    for pieces in [vec![&wire[..]], wire.chunks(1).collect()] {
        assert_eq!(received(&pieces).0, [Frame::Invalid(invalid.clone()), Frame::Ping(7)]);
    }
}

#[test]
fn unknown_kinds_below_128_are_faults() {
    for kind in [0x0c, 0x0d, 0x20, 0x7f] {
        assert_eq!(fault(&raw(kind, 0, 2, b"", b"")), FrameFault::Kind(kind));
    }
}

#[test]
fn flags_of_another_kind_are_faults() {
    let allowed = [0, 1 | 2 | 8, 1, 4, 0, 1, 0, 0, 0, 0, 0, 0];
    for (kind, allowed) in (0..).zip(allowed) {
        for flag in [1, 2, 4, 8] {
            let frame = raw(kind, flag | 0x80, 2, b"", b"");
            let is_a_fault = matches!(
                decode(&frame),
                Frame::Invalid(Invalid { fault: FrameFault::Flags { kind: k, flags }, .. })
                    if (k, flags) == (kind, flag | 0x80)
            );
            assert_eq!(is_a_fault, allowed & flag == 0, "flag {flag} of kind {kind}");
        }
    }
    assert_eq!(fault(&raw(1, 10, 2, b"", b"")), FrameFault::Flags { kind: 1, flags: 10 });
}

#[test]
fn calls_have_ids_from_2_and_the_connection_has_0() {
    for kind in 1..=7 {
        for id in [0, 1, 131_074, u32::MAX] {
            assert_eq!(fault(&raw(kind, 0, id, b"", b"")), FrameFault::Id(id));
        }
    }
    for id in [2, 3, 131_072, 131_073] {
        assert_eq!(decode(&raw(4, 0, id, b"", b"")), Frame::Cancel(id));
    }
    for kind in [0, 8, 9, 10, 11] {
        for id in [1, 2, 3] {
            assert_eq!(fault(&raw(kind, 0, id, b"", b"")), FrameFault::Id(id));
        }
    }
}

#[test]
fn heads_are_within_their_frame_and_their_limit() {
    let with_head = |head: u16, frame: usize| {
        let mut bytes = raw(2, 0, 2, b"", &vec![0x7a; frame]);
        bytes[6..8].copy_from_slice(&head.to_le_bytes());
        bytes
    };
    assert_eq!(fault(&with_head(1, 0)), FrameFault::HeadLength { head: 1, frame: 0 });
    assert_eq!(fault(&with_head(11, 10)), FrameFault::HeadLength { head: 11, frame: 10 });
    let (head, frame) = (16 * 1024 + 1, 20_000);
    assert_eq!(fault(&with_head(head as u16, frame)), FrameFault::HeadLength { head, frame });
    // A field that fills the largest head.
    let head = field(9, &vec![0; 16 * 1024 - 3]);
    assert!(matches!(decode(&raw(2, 0, 2, &head, b"body")), Frame::Reply(..)));
}

#[test]
fn only_requests_answers_and_items_have_a_body() {
    for kind in [0, 4, 6, 7, 8, 9, 10, 11] {
        let id = if matches!(kind, 4 | 6 | 7) { 2 } else { 0 };
        assert_eq!(fault(&raw(kind, 0, id, b"", b"body")), FrameFault::Body(4));
    }
}

#[test]
fn heads_are_protobuf() {
    for kind in 0..=11 {
        let id = if matches!(kind, 0 | 8..=11) { 0 } else { 2 };
        assert_eq!(fault(&raw(kind, 0, id, b"\xff", b"")), FrameFault::Head, "kind {kind}");
        assert_eq!(fault(&raw(kind, 0, id, b"\x7a\x05abc", b"")), FrameFault::Head, "kind {kind}");
    }
}

#[test]
fn a_request_names_its_method_and_its_codec() {
    assert_eq!(fault(&raw(1, 0, 2, b"\x1a\x03raw", b"")), FrameFault::Missing(1));
    assert_eq!(fault(&raw(1, 0, 2, b"\x0a\x00\x1a\x03raw", b"")), FrameFault::Missing(1));
    assert_eq!(fault(&raw(1, 0, 2, b"\x0a\x01m", b"")), FrameFault::Missing(3));
}

#[test]
fn fields_are_what_they_are_defined_as() {
    let text = |length: usize| vec![b't'; length];
    let faulty: [(Vec<u8>, u32); 15] = [
        (request(b"\x08\x01"), 1),
        (request(b"\x0a\x01\xff"), 1),
        (request(&field(1, &text(1025))), 1),
        (request(b"\x12\x00"), 2),
        (request(b"\x15abcd"), 2),
        (request(b"\x1a\x01\xff"), 3),
        (request(&field(3, &text(256))), 3),
        (request(&field(4, &text(24))), 4),
        (request(&field(4, &text(26))), 4),
        (request(b"\x28\x01"), 5),
        (request(b"\x30\x80\x80\x80\x80\x10"), 6),
        (request(b"\x3a\x01\xff"), 7),
        (request(&field(7, &text(4097))), 7),
        (raw(7, 0, 2, b"\x08\x80\x80\x80\x80\x10", b""), 1),
        (raw(11, 0, 0, b"\x08\x80\x80\x80\x80\x10", b""), 1),
    ];
    for (frame, number) in faulty {
        assert_eq!(fault(&frame), FrameFault::Field(number), "{frame:x?}");
    }
    for (kind, id, limit) in [(3, 2, 4096), (10, 0, 1024)] {
        let frame = |length| raw(kind, 0, id, &field(2, &text(length)), b"");
        assert!(!matches!(decode(&frame(limit)), Frame::Invalid(_)));
        assert_eq!(fault(&frame(limit + 1)), FrameFault::Field(2));
        assert_eq!(fault(&raw(kind, 0, id, b"\x12\x01\xff", b"")), FrameFault::Field(2));
    }
    // The largest values, and a trace that is left empty.
    let largest =
        [field(1, &text(1024)), field(3, &text(255)), field(4, b""), field(7, &text(4096))].concat();
    assert!(matches!(decode(&request(&largest)), Frame::Request(..)));
}

#[test]
fn limits_in_a_hello_are_no_lower_than_the_least() {
    let hello = |fields: &[&[u8]]| raw(0, 0, 0, &fields.concat(), b"");
    assert!(matches!(decode(&hello(&HELLO)), Frame::Hello(_)));
    for (at, least) in
        [b"\x08\x0f".to_vec(), b"\x10\xff\x7f".to_vec(), b"\x18\xff\xff\x03".to_vec()].iter().enumerate()
    {
        let number = at as u32 + 1;
        let mut fields = HELLO;
        fields[at] = least;
        assert_eq!(fault(&hello(&fields)), FrameFault::Field(number));
        fields[at] = b"";
        assert_eq!(fault(&hello(&fields)), FrameFault::Missing(number));
    }
    let window = b"\x10\x80\x80\x80\x80\x08";
    assert_eq!(fault(&hello(&[HELLO[0], window, HELLO[2]])), FrameFault::Field(2));
    let software = field(5, &[b's'; 256]);
    assert_eq!(fault(&hello(&[HELLO[0], HELLO[1], HELLO[2], &software])), FrameFault::Field(5));
}

#[test]
fn metadata_keep_their_limits() {
    let pair = |key: &[u8], value: &[u8]| [field(1, key), field(2, value)].concat();
    let pairs = |number, pair: &[u8], count| field(number, pair).repeat(count);
    for (kind, number) in [(1, 5), (2, 4), (3, 4)] {
        let frame = |metadata: &[u8]| {
            let head = if kind == 1 { &b"\x0a\x01m\x1a\x03raw"[..] } else { b"" };
            raw(kind, 0, 2, &[head, metadata].concat(), b"")
        };
        let refused = |metadata: &[u8]| match fault(&frame(metadata)) {
            FrameFault::Metadata(error) => error,
            fault => panic!("{fault:?}"),
        };
        assert_eq!(refused(&pairs(number, b"", 1)), MetadataError::Key);
        assert_eq!(refused(&pairs(number, &pair(b"Key", b""), 1)), MetadataError::Key);
        assert_eq!(refused(&pairs(number, &pair(&[b'k'; 65], b""), 1)), MetadataError::Key);
        assert_eq!(refused(&pairs(number, &pair(b"k", b""), 65)), MetadataError::Pairs);
        assert_eq!(refused(&pairs(number, &pair(b"k", &[0; 4096]), 2)), MetadataError::Bytes(8194));
        // Only users may not have them: the protocol may, later.
        let reserved = decode(&frame(&pairs(number, &pair(b"getty-x", b"1"), 1)));
        assert!(!matches!(reserved, Frame::Invalid(_)), "{reserved:?}");
    }
}
