//! Codecs return the same items however their input is cut, and read what they write.

use std::num::NonZeroUsize;

use bytes::Bytes;
use getty_core::codec::{
    ByteOrder, Decoder, Delimited, Encoder, FixedLength, LengthDelimited, LengthField, Lines, Raw,
};
use getty_core::{Config, Framed};
use proptest::prelude::*;
use testkit::pair::{Pair, Split, Wire};
use testkit::{Rng, split};

use crate::common::secs;

fn config() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() }
}

/// Bytes with a meaning for the codecs: delimiters and small lengths.
fn telling() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            &b"\n"[..], b"\r\n", b"\r", b"aba", b"ab", b"a", b"\0", b"\0\0\0\x03abc", b"\0\x02ab", b"\x04abcd",
            b"\x80\0", b"\xff\xff", "\u{e9}".as_bytes(), b"\xc3", b"some text",
        ])
        .prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(wire in prop::collection::vec(any::<u8>(), 0..300), seed: u64) {
        split::check(&wire, seed);
    }

    #[test]
    fn telling_bytes_give_the_same_however_they_are_cut(wire in telling(), seed: u64) {
        split::check(&wire, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..config() })]

    #[test]
    fn messages_come_as_they_were_sent(
        sizes in prop::collection::vec(prop_oneof![0usize..40, 1000usize..1100, 3000usize..5000], 1..12),
        seed: u64,
    ) {
        let big = |size: usize| Bytes::from(vec![b'm'; size]);
        let field = |field| LengthDelimited::new().field(field);
        for field in [LengthField::U16, LengthField::U24, LengthField::U32, LengthField::U64, LengthField::Varint] {
            for order in [ByteOrder::Big, ByteOrder::Little] {
                round_trip(LengthDelimited::new().field(field).byte_order(order), &sizes, big, seed);
            }
        }
        round_trip(field(LengthField::U16).adjustment(-2), &sizes, big, seed);
        round_trip(field(LengthField::U8), &[0, 1, 255], big, seed);
        round_trip(Delimited::new("\r\n").unwrap(), &sizes, big, seed);
        round_trip(Lines::new().crlf(), &sizes, |size| "l".repeat(size), seed);
        round_trip(FixedLength::new(NonZeroUsize::new(1030).unwrap()), &[1030; 4], big, seed);
    }
}

fn round_trip<C, T>(codec: C, sizes: &[usize], item: impl Fn(usize) -> T, seed: u64)
where
    C: Decoder<Item = T> + Encoder<T> + Clone,
    T: Clone + PartialEq + std::fmt::Debug,
{
    let framed = || Framed::<C, T>::new(codec.clone());
    for split in [Split::Whole, Split::Every(7), Split::Random(Rng::new(seed), 2000)] {
        let config = Config::builder().build().unwrap();
        let wire = Wire { split, capacity: 3000, ..Wire::default() };
        let mut pair = Pair::new(framed(), framed(), config).wires(wire).lending();
        let items: Vec<T> = sizes.iter().map(|&size| item(size)).collect();
        for item in &items {
            pair.a.session.send(item.clone()).unwrap();
        }
        pair.settle();
        assert_eq!(pair.b.messages(), items, "seed {seed}");
        pair.a.session.close(pair.clock.now(), getty_core::Close::graceful());
        pair.b.on_event(|session, now, event| {
            if matches!(event, getty_core::Event::Eof) {
                session.close(now, getty_core::Close::graceful());
            }
        });
        assert!(pair.run_until_closed(secs(1)), "{:?}", pair.b.close_reason());
    }
}

#[test]
fn raw_bytes_come_in_order() {
    let config = Config::builder().max_frame(100).build().unwrap();
    let wire = Wire { split: Split::Every(70), ..Wire::default() };
    let mut pair = Pair::new(Framed::new(Raw), Framed::new(Raw), config).wires(wire);
    let sent: Vec<u8> = (0..1000).map(|n| n as u8).collect();
    for piece in sent.chunks(90) {
        pair.a.session.send(Bytes::copy_from_slice(piece)).unwrap();
    }
    pair.settle();
    assert!(pair.b.messages().iter().all(|m| m.len() <= 100));
    assert_eq!(pair.b.messages().concat(), sent);
}

/// The fuzz targets are named after the codecs.
#[test]
fn every_codec_can_be_fuzzed() {
    for codec in ["length_delimited", "delimited", "lines", "fixed_length", "raw"] {
        split::run(codec, b"\x01\x02 some bytes\r\n and some more\n");
    }
}
