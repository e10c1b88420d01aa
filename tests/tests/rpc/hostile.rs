//! Bytes that nobody sends on purpose: no panic, no difference by how they are cut, and nothing is read that
//! could not have been written.

use getty_core::rpc::Frame;
use proptest::prelude::*;
use testkit::split::cut;

use crate::any;
use crate::bytes::{PREFACE, decode, encode, raw, received, try_encode};

/// A stream of headers that mean something, with any content.
fn telling() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            &b""[..],
            b"\x08\x01",
            b"\x0a\x01m\x1a\x03raw",
            b"\x2a\x06\x0a\x01a\x12\x01x"
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    let kind = prop_oneof![4 => 0..13u8, 1 => any::<u8>()];
    let id = prop_oneof![Just(0), 0..6u32, any::<u32>()];
    let flags = prop_oneof![3 => Just(0), 1 => any::<u8>()];
    let frame = (kind, flags, id, head, prop::collection::vec(any::<u8>(), 0..30))
        .prop_map(|(kind, flags, id, head, body)| raw(kind, flags, id, &head, &body));
    prop::collection::vec(frame, 0..6).prop_map(|frames| [PREFACE, &frames.concat()].concat())
}

fn check(wire: &[u8], seed: u64) -> Result<(), TestCaseError> {
    let whole = received(&[wire]);
    for pieces in [wire.chunks(1).collect(), cut(wire, 3, seed), cut(wire, 50, seed)] {
        prop_assert_eq!(&received(&pieces), &whole);
    }
    for frame in &whole.0 {
        match try_encode(frame) {
            Ok(bytes) => prop_assert!(any::same(frame, &decode(&bytes)), "{frame:?}"),
            Err(error) => {
                prop_assert!(matches!(frame, Frame::Invalid(_) | Frame::Skipped(_)), "{frame:?}: {error}")
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(any::config(300))]

    #[test]
    fn any_bytes(mut wire in prop::collection::vec(any::<u8>(), 0..200), begins: bool, seed: u64) {
        if begins {
            wire.splice(0..0, PREFACE.iter().copied());
        }
        check(&wire, seed)?;
    }

    #[test]
    fn telling_bytes(wire in telling(), seed: u64) {
        check(&wire, seed)?;
    }

    #[test]
    fn frames_with_a_wrong_byte(
        frames in prop::collection::vec(any::frame(), 1..3),
        at: prop::sample::Index,
        byte: u8,
        seed: u64,
    ) {
        let frames: Vec<_> = frames.iter().map(encode).collect();
        let mut wire = [PREFACE, &frames.concat()].concat();
        *at.get_mut(&mut wire) = byte;
        check(&wire, seed)?;
    }
}
