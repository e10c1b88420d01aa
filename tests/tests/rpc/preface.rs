//! The first bytes of a stream.

use getty_core::rpc::{Frame, FrameFault, Invalid};

use crate::bytes::{PREFACE, encode, received};

/// What a session says whose peer begins with `bytes`, whole and cut. No frame comes.
#[track_caller]
fn end(bytes: &[u8]) -> String {
    let whole = received(&[bytes]);
    assert_eq!(received(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    assert_eq!(whole.0, []);
    whole.1
}

#[test]
fn peers_of_other_protocols_are_named() {
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let alert = b"\x15\x03\x03\x00\x02\x02\x46";
    let go_getty = b"\x05\x09\x16\x20\0\0\0\0";
    for (bytes, name) in [
        (&tls[..], "the peer speaks TLS"),
        (alert, "the peer speaks TLS"),
        (b"GET / HTTP/1.1\r\n", "the peer speaks HTTP"),
        (b"POST /x HTTP/1.1\r\n", "the peer speaks HTTP"),
        (b"PRI * HTTP/2.0\r\n", "the peer speaks HTTP"),
        (b"HTTP/1.1 400 Bad Request\r\n", "the peer speaks HTTP"),
        (b"{\"jsonrpc\":\"2.0\"}\n", "the peer speaks JSON"),
        (b"[{}]\n", "the peer speaks JSON"),
        (go_getty, "the peer speaks the RPC of Go getty"),
        (b"\0\0\0\x05hello", "byte 0 from the peer is 00"),
        (b"\x05\x01\0", "byte 1 from the peer is 01"),
        (b"\xfagtz\x02\0\0\0", "byte 3 from the peer is 7a"),
    ] {
        let end = end(bytes);
        assert!(end.contains("this side speaks getty rpc 2") && end.contains(name), "{bytes:x?}: {end}");
    }
}

/// One letter is enough: what comes after it may be a body that a stranger has chosen.
#[test]
fn http_is_refused_at_its_first_letter() {
    for letter in [b'G', b'P', b'H', b'D', b'O', b'C', b'T', b'g'] {
        let end = end(&[letter]);
        assert!(end.contains("the peer speaks HTTP"), "{end}");
    }
}

#[test]
fn later_versions_and_the_room_in_the_preface_are_accepted() {
    let ping = encode(&Frame::Ping(7));
    for preface in [PREFACE, b"\xfagty\x02\x01\xff\x80", b"\xfagty\x03\0\0\0", b"\xfagty\xff\0\0\0"] {
        let wire = [preface, &ping].concat();
        for pieces in [vec![&wire[..]], wire.chunks(1).collect(), wire.chunks(9).collect()] {
            assert_eq!(received(&pieces).0, [Frame::Ping(7)]);
        }
    }
}

/// This side may still say that it goes away, after a preface with its own version.
#[test]
fn a_peer_without_a_version_in_common_is_reported_once_and_not_read_further() {
    for version in [0, 1] {
        let wire = [&b"\xfagty"[..], &[version, 0, 0, 0], &encode(&Frame::Ping(7)), &[0xff; 100]].concat();
        let invalid = Invalid { kind: 0, id: 0, fault: FrameFault::Version(version) };
        for pieces in [vec![&wire[..]], wire.chunks(1).collect(), wire.chunks(50).collect()] {
            let (frames, end) = received(&pieces);
            assert_eq!(frames, [Frame::Invalid(invalid.clone())]);
            assert!(end.starts_with("between frames"), "{end}");
        }
    }
}

#[test]
fn a_stream_that_ends_within_the_preface_was_cut_off() {
    for length in 1..PREFACE.len() {
        assert!(end(&PREFACE[..length]).contains("mid_frame: true"));
    }
    assert!(end(PREFACE).starts_with("between frames"));
    assert!(end(b"").starts_with("between frames"));
}
