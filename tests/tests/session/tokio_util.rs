//! tokio-util's `LengthDelimitedCodec` at the other end, in both directions.
//!
//! It differs in two ways: its length counts from the end of `num_skip`, so that the adjustment depends on
//! what is skipped; and its encoder always writes only the length, whatever the offset.

use bytes::{Bytes, BytesMut};
use getty_core::codec::{ByteOrder, LengthDelimited, LengthField};
use getty_core::{Config, Event, Framed, Session};
use proptest::prelude::*;
use testkit::clock::Clock;
use testkit::split;
use tokio_util::codec::length_delimited::{Builder, LengthDelimitedCodec};
use tokio_util::codec::{Decoder as _, Encoder as _};

use crate::common::Solo;

/// One frame format, as each library describes it.
struct Shape {
    ours: LengthDelimited,
    theirs: fn() -> Builder,
}

fn shapes() -> Vec<Shape> {
    let field = |field| LengthDelimited::new().field(field);
    let theirs = LengthDelimitedCodec::builder;
    fn with(set: impl FnOnce(&mut Builder)) -> Builder {
        let mut builder = LengthDelimitedCodec::builder();
        set(&mut builder);
        builder
    }
    vec![
        Shape { ours: LengthDelimited::new(), theirs },
        Shape {
            ours: field(LengthField::U8),
            theirs: || {
                with(|b| {
                    b.length_field_type::<u8>();
                })
            },
        },
        Shape {
            ours: field(LengthField::U16).byte_order(ByteOrder::Little),
            theirs: || {
                with(|b| {
                    b.length_field_type::<u16>().little_endian();
                })
            },
        },
        Shape {
            ours: field(LengthField::U24),
            theirs: || {
                with(|b| {
                    b.length_field_length(3);
                })
            },
        },
        Shape {
            ours: field(LengthField::U64).byte_order(ByteOrder::Little),
            theirs: || {
                with(|b| {
                    b.length_field_type::<u64>().little_endian();
                })
            },
        },
        Shape {
            // The length counts itself.
            ours: field(LengthField::U16).adjustment(-2),
            theirs: || {
                with(|b| {
                    b.length_field_type::<u16>().length_adjustment(-2);
                })
            },
        },
        Shape {
            // The length does not count the last 3 bytes.
            ours: LengthDelimited::new().adjustment(3),
            theirs: || {
                with(|b| {
                    b.length_adjustment(3);
                })
            },
        },
        Shape {
            ours: LengthDelimited::new().strip(4),
            theirs: || {
                with(|b| {
                    b.num_skip(4);
                })
            },
        },
    ]
}

fn ours(codec: &LengthDelimited) -> Session<Framed<LengthDelimited>> {
    let config = Config::builder().max_frame(1 << 20).build().unwrap();
    Session::new(Framed::new(codec.clone()), config, Clock::new().now())
}

fn written_by_us(codec: &LengthDelimited, items: &[Vec<u8>]) -> BytesMut {
    use bytes::Buf;
    let mut session = ours(codec);
    for item in items {
        session.send(Bytes::copy_from_slice(item)).unwrap();
    }
    let mut out = session.outbound(Clock::new().now());
    let n = out.remaining();
    BytesMut::from(&out.copy_to_bytes(n)[..])
}

fn read_by_us(codec: &LengthDelimited, pieces: &[&[u8]]) -> Vec<Bytes> {
    let mut session = ours(codec);
    let mut messages = Vec::new();
    for piece in pieces {
        session.handle_input(Clock::new().now(), piece);
        while let Some(event) = session.poll_event() {
            match event {
                Event::Message(message) => messages.push(message),
                Event::Closed(reason) => panic!("{reason}"),
                _ => {}
            }
        }
    }
    messages
}

fn read_by_them(codec: &mut LengthDelimitedCodec, wire: &mut BytesMut) -> Vec<BytesMut> {
    std::iter::from_fn(|| codec.decode(wire).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_one_writes_the_other_reads(
        items in prop::collection::vec(prop::collection::vec(any::<u8>(), 3..250), 0..20),
        seed: u64,
    ) {
        for shape in shapes() {
            let mut theirs = (shape.theirs)().new_codec();
            let mut wire = written_by_us(&shape.ours, &items);
            let mut their_wire = BytesMut::new();
            for item in &items {
                theirs.encode(Bytes::copy_from_slice(item), &mut their_wire).unwrap();
            }
            prop_assert_eq!(&wire, &their_wire, "both write the same bytes: {:?}", shape.ours);
            for pieces in [vec![&wire[..]], split::cut(&wire, 7, seed), split::cut(&wire, 300, seed)] {
                prop_assert_eq!(read_by_us(&shape.ours, &pieces), items.clone());
            }
            prop_assert_eq!(read_by_them(&mut theirs, &mut wire), items.clone());
            prop_assert!(wire.is_empty());
        }
    }

    /// A header with an offset: we send whole frames with the header kept. Both read either the whole frame
    /// or only the payload.
    #[test]
    fn whole_frames_with_a_header_around_the_length(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..250), 0..20),
        tag: [u8; 3],
    ) {
        // Two bytes, a little-endian u16 that counts the whole frame, a byte, the payload.
        let frames: Vec<Vec<u8>> = payloads
            .iter()
            .map(|p| [&tag[..2], &(p.len() as u16 + 5).to_le_bytes(), &tag[2..], p].concat())
            .collect();
        let ours = LengthDelimited::new()
            .offset(2)
            .field(LengthField::U16)
            .byte_order(ByteOrder::Little)
            .adjustment(-4);
        let theirs = |skip, adjustment| {
            let mut theirs = LengthDelimitedCodec::builder();
            theirs.length_field_offset(2).length_field_type::<u16>().little_endian();
            theirs.num_skip(skip).length_adjustment(adjustment).new_codec()
        };
        let wire = written_by_us(&ours.clone().keep_header(), &frames);
        prop_assert_eq!(read_by_us(&ours.clone().keep_header(), &[&wire]), frames.clone());
        prop_assert_eq!(read_by_us(&ours.strip(5), &[&wire]), payloads.clone());
        prop_assert_eq!(read_by_them(&mut theirs(0, 0), &mut wire.clone()), frames);
        prop_assert_eq!(read_by_them(&mut theirs(5, -5), &mut wire.clone()), payloads);
    }
}

#[test]
fn both_refuse_a_frame_over_the_limit_and_count_it_differently() {
    let mut theirs = LengthDelimitedCodec::builder().max_frame_length(100).new_codec();
    for (payload, ours_takes, theirs_take) in [(96, true, true), (97, false, true), (101, false, false)] {
        let wire = crate::common::frame(&vec![0; payload]);
        let mut solo = Solo::with(|c| c.max_frame(100));
        solo.input(&wire);
        assert_eq!(solo.poll().len() == 1, ours_takes, "our limit counts the header");
        assert_eq!(
            theirs.decode(&mut BytesMut::from(&wire[..])).is_ok(),
            theirs_take,
            "their limit does not"
        );
    }
}
