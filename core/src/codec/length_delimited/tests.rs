use bytes::BytesMut;

use super::*;

type Error = LengthDelimitedError;

const FIXED: [LengthField; 8] = [
    LengthField::U8,
    LengthField::U16,
    LengthField::U24,
    LengthField::U32,
    LengthField::U40,
    LengthField::U48,
    LengthField::U56,
    LengthField::U64,
];

/// Decodes with `limit` as the session's limit.
fn decode_within(
    codec: &LengthDelimited,
    limit: usize,
    wire: &[u8],
) -> Result<Decoded<Vec<u8>>, LengthDelimitedError> {
    let (mut wire, mut slab) = (BytesMut::from(wire), BytesMut::new());
    let before = wire.len();
    let mut src = Source::copying(&mut wire, &mut slab, 1024, limit);
    let decoded = codec.clone().decode(&mut src)?;
    Ok(match decoded {
        Decoded::Frame(item) => {
            assert!(src.is_empty(), "left: {:?}", &src[..]);
            Decoded::Frame(item.to_vec())
        }
        Decoded::Need(n) => {
            assert_eq!(src.len(), before);
            Decoded::Need(n)
        }
    })
}

fn decode(codec: &LengthDelimited, wire: &[u8]) -> Result<Decoded<Vec<u8>>, LengthDelimitedError> {
    decode_within(codec, usize::MAX, wire)
}

fn encode(codec: &LengthDelimited, item: &[u8]) -> Result<Vec<u8>, LengthDelimitedError> {
    let item = Bytes::copy_from_slice(item);
    let mut wire = BytesMut::new();
    let announced = codec.encoded_len(&item);
    codec.clone().encode(item, &mut Sink::new(&mut wire))?;
    assert_eq!(announced, Some(wire.len()), "encoded_len of {codec:?}");
    Ok(wire.to_vec())
}

/// Checks that `wire` is a frame with `item`, and that each prefix asks for the right number of bytes.
fn decodes(codec: &LengthDelimited, wire: &[u8], item: &[u8]) {
    assert_eq!(decode(codec, wire), Ok(Decoded::Frame(item.to_vec())), "{codec:?}");
    for len in 0..wire.len() {
        let Ok(Decoded::Need(n)) = decode(codec, &wire[..len]) else { panic!("{codec:?} at {len}") };
        assert!(n > 0 && n <= wire.len() - len, "{codec:?} at {len} asks for {n}");
    }
    assert_eq!(decode(codec, &wire[..wire.len() - 1]), Ok(Decoded::Need(1)));
}

fn round_trips(codec: &LengthDelimited, wire: &[u8], item: &[u8]) {
    decodes(codec, wire, item);
    assert_eq!(encode(codec, item).as_deref(), Ok(wire), "{codec:?}");
}

fn only_decodes(codec: &LengthDelimited, wire: &[u8], item: &[u8]) {
    decodes(codec, wire, item);
    assert_eq!(encode(codec, item), Err(Error::CannotEncode), "{codec:?}");
    assert_eq!(codec.encoded_len(&Bytes::copy_from_slice(item)), None);
}

#[test]
fn it_is_small() {
    assert!(size_of::<LengthDelimited>() <= 40, "{}", size_of::<LengthDelimited>());
}

#[test]
fn default_is_four_bytes_big_endian() {
    let codec = LengthDelimited::default();
    assert_eq!(codec, LengthDelimited::new());
    round_trips(&codec, b"\0\0\0\x05hello", b"hello");
    round_trips(&codec, b"\0\0\0\0", b"");
    round_trips(&codec, &[&[0, 1, 0, 0], &[7; 65536][..]].concat(), &[7; 65536]);
    assert_eq!(decode(&codec, b""), Ok(Decoded::Need(4)));
    assert_eq!(decode(&codec, b"\0\0\0"), Ok(Decoded::Need(1)));
    assert_eq!(decode(&codec, b"\0\0\0\x05"), Ok(Decoded::Need(5)));
    assert_eq!(decode(&codec, b"\0\0\0\x05hell"), Ok(Decoded::Need(1)));
}

#[test]
fn frames_follow_each_other() {
    let mut wire = BytesMut::from(&b"\x01a\x00\x02bc\x03d"[..]);
    let mut src = Source::new(&mut wire);
    let mut codec = LengthDelimited::new().field(LengthField::U8);
    for item in ["a", "", "bc"] {
        assert_eq!(codec.decode(&mut src), Ok(Decoded::Frame(Bytes::from(item))));
    }
    assert_eq!(codec.decode(&mut src), Ok(Decoded::Need(2)));
}

/// The fast path and the general one must not differ.
#[test]
fn the_plain_shape_is_a_special_case_only() {
    let mut general = LengthDelimited::new().max_frame(9);
    assert_eq!(general.max_plain, 9);
    general.max_plain = 0;
    let plain = LengthDelimited::new().max_frame(9);
    let wires: [&[u8]; 7] = [
        b"",
        b"\0\0",
        b"\0\0\0\0",
        b"\0\0\0\x05",
        b"\0\0\0\x05hello",
        b"\0\0\0\x06hello!",
        b"\xff\xff\xff\xff",
    ];
    for wire in wires {
        assert_eq!(decode(&plain, wire), decode(&general, wire), "{wire:?}");
        assert_eq!(decode_within(&plain, 8, wire), decode_within(&general, 8, wire), "{wire:?}");
        assert_eq!(encode(&plain, wire), encode(&general, wire), "{wire:?}");
    }
    // A setting that is changed and restored is plain again.
    assert!(LengthDelimited::varint().field(LengthField::U32).keep_header().strip_header().max_plain > 0);
    for other in [
        LengthDelimited::varint(),
        LengthDelimited::new().byte_order(ByteOrder::Little),
        LengthDelimited::new().offset(1),
        LengthDelimited::new().adjustment(1),
        LengthDelimited::new().keep_header(),
    ] {
        assert!(other.max_plain == 0, "{other:?}");
    }
}

/// The seven examples in the documentation of Netty's LengthFieldBasedFrameDecoder.
#[test]
fn netty_examples() {
    let hello = b"HELLO, WORLD";
    let codec = LengthDelimited::new().field(LengthField::U16);
    // 2 bytes length field at offset 0, do not strip header; strip header
    round_trips(&codec.clone().strip(0), b"\x00\x0cHELLO, WORLD", b"\x00\x0cHELLO, WORLD");
    round_trips(&codec.clone().strip(2), b"\x00\x0cHELLO, WORLD", hello);
    round_trips(&codec, b"\x00\x0cHELLO, WORLD", hello);
    // do not strip header, the length field represents the length of the whole message
    let whole = codec.clone().adjustment(-2).strip(0);
    round_trips(&whole, b"\x00\x0eHELLO, WORLD", b"\x00\x0eHELLO, WORLD");
    round_trips(&whole.strip_header(), b"\x00\x0eHELLO, WORLD", hello);
    // 3 bytes length field at the end of 5 bytes header
    let wire = b"\xca\xfe\x00\x00\x0cHELLO, WORLD";
    let header = LengthDelimited::new().field(LengthField::U24).offset(2);
    round_trips(&header.clone().strip(0), wire, wire);
    only_decodes(&header, wire, hello);
    // 3 bytes length field at the beginning of 5 bytes header
    let wire = b"\x00\x00\x0c\xca\xfeHELLO, WORLD";
    let header = LengthDelimited::new().field(LengthField::U24).adjustment(2);
    round_trips(&header.clone().strip(0), wire, wire);
    round_trips(&header, wire, b"\xca\xfeHELLO, WORLD");
    // 2 bytes length field at offset 1 in the middle of 4 bytes header, strip the first header field and
    // the length field; then with a length of the whole message
    let header = codec.offset(1).strip(3);
    only_decodes(&header.clone().adjustment(1), b"\xca\x00\x0c\xfeHELLO, WORLD", b"\xfeHELLO, WORLD");
    only_decodes(&header.adjustment(-3), b"\xca\x00\x10\xfeHELLO, WORLD", b"\xfeHELLO, WORLD");
}

/// tokio-util documents the same formats, and two more. It counts from after the skipped bytes, so its
/// seventh example has an adjustment of 0 where this one needs 1 for the byte after the length.
#[test]
fn tokio_util_examples() {
    let seventh = LengthDelimited::new().field(LengthField::U24).adjustment(1).strip(4);
    only_decodes(&seventh, b"\x00\x00\x0b\xffHello world", b"Hello world");
    let little = LengthDelimited::new().field(LengthField::U16).byte_order(ByteOrder::Little);
    round_trips(&little, b"\x0b\x00Hello world", b"Hello world");
}

#[test]
fn strips_that_lose_bytes_only_decode() {
    let codec = LengthDelimited::new().field(LengthField::U16);
    let wire = b"\x00\x03abc";
    only_decodes(&codec.clone().strip(1), wire, b"\x03abc");
    only_decodes(&codec.clone().strip(4), wire, b"c");
    only_decodes(&codec.clone().strip(5), wire, b"");
    only_decodes(&LengthDelimited::varint().strip(1), b"\x03abc", b"abc");
    // From the header alone.
    let error = decode(&codec.clone().strip(6), b"\x00\x03").unwrap_err();
    assert_eq!(error, Error::Strip { length: 5, strip: 6 });
    assert_eq!(
        error.to_string(),
        "a frame of 5 bytes is shorter than the 6 bytes to strip from it; check LengthDelimited::strip"
    );
    let far = codec.offset(u16::MAX).strip(u16::MAX);
    assert_eq!(decode(&far, b"\0"), Ok(Decoded::Need(65_536)));
    only_decodes(&far, &[0; 65_537], b"\0\0");
}

#[test]
fn kept_headers_are_checked_when_encoding() {
    let codec = LengthDelimited::new().field(LengthField::U16).offset(1).keep_header();
    assert_eq!(encode(&codec, b"\x09\x00\x02ab").as_deref(), Ok(&b"\x09\x00\x02ab"[..]));
    for (item, announced) in [(&b"\x09\x00\x02a"[..], 5), (b"\x09\x00\x02abc", 5), (b"\x09\x00\x00c", 3)] {
        let error = Error::Mismatch { length: item.len(), announced };
        assert_eq!(encode(&codec, item), Err(error));
    }
    assert_eq!(encode(&codec, b""), Err(Error::NoHeader { length: 0, needed: 3 }));
    assert_eq!(encode(&codec, b"\x09\x00"), Err(Error::NoHeader { length: 2, needed: 3 }));
    let codec = codec.max_frame(5);
    assert!(encode(&codec, b"\x09\x00\x02ab").is_ok());
    assert_eq!(encode(&codec, b"\x09\x00\x03abc"), Err(Error::TooLong { length: 6, limit: 5 }));
    let varint = LengthDelimited::varint().keep_header();
    round_trips(&varint, b"\x82\x00ab", b"\x82\x00ab");
    assert_eq!(encode(&varint, b"\x82"), Err(Error::NoHeader { length: 1, needed: 2 }));
}

#[test]
fn every_width_and_order() {
    for (field, width) in FIXED.into_iter().zip(1..) {
        assert_eq!(LengthField::fixed(width), Some(field));
        assert_eq!(field.width(), Some(width));
        let codec = LengthDelimited::new().field(field);
        let mut header = vec![0; width];
        header[width - 1] = 3;
        round_trips(&codec, &[&header, &b"abc"[..]].concat(), b"abc");
        header.reverse();
        round_trips(&codec.byte_order(ByteOrder::Little), &[&header, &b"abc"[..]].concat(), b"abc");
    }
    assert_eq!((LengthField::fixed(0), LengthField::fixed(9)), (None, None));
    let codec = LengthDelimited::new().field(LengthField::U24);
    let wire = [&b"\x01\x02\x03"[..], &[9; 0x010203]].concat();
    assert_eq!(decode(&codec, &wire), Ok(Decoded::Frame(vec![9; 0x010203])));
    assert_eq!(encode(&codec, &[9; 0x010203]), Ok(wire));
    let codec = codec.byte_order(ByteOrder::Little);
    let wire = [&b"\x03\x02\x01"[..], &[9; 0x010203]].concat();
    assert_eq!(decode(&codec, &wire), Ok(Decoded::Frame(vec![9; 0x010203])));
    assert_eq!(encode(&codec, &[9; 0x010203]), Ok(wire));
}

#[test]
fn every_width_at_its_maximum() {
    for (field, width) in FIXED.into_iter().zip(1..) {
        let codec = LengthDelimited::new().field(field);
        let max = field.max();
        assert_eq!(
            max,
            [0xff, 0xffff, 0xff_ffff, 0xffff_ffff, (1 << 40) - 1, (1 << 48) - 1, (1 << 56) - 1, u64::MAX]
                [width - 1]
        );
        let header = vec![0xff; width];
        let length = max.saturating_add(width as u64);
        for limit in [0, 1, 255] {
            assert_eq!(decode_within(&codec, limit, &header), Err(Error::TooLong { length, limit }));
            assert_eq!(
                decode(&codec.clone().max_frame(limit), &header),
                Err(Error::TooLong { length, limit })
            );
        }
        // With the largest negative adjustment, a small payload needs the largest value.
        if let Ok(most) = i64::try_from(max) {
            let codec = codec.adjustment(2 - most);
            round_trips(&codec, &[&header[..], b"ab"].concat(), b"ab");
            assert_eq!(encode(&codec, b"abc"), Err(Error::Unfit { length: 3, adjustment: 2 - most, max }));
        }
    }
    for (field, max) in [(LengthField::U8, 0xff), (LengthField::U16, 0xffff)] {
        let codec = LengthDelimited::new().field(field);
        let payload = vec![5; max + 1];
        let wire = encode(&codec, &payload[1..]).unwrap();
        assert_eq!(decode(&codec, &wire), Ok(Decoded::Frame(payload[1..].to_vec())));
        let error = Error::Unfit { length: max + 1, adjustment: 0, max: max as u64 };
        assert_eq!(encode(&codec, &payload), Err(error));
        assert_eq!(codec.encoded_len(&Bytes::from(payload)), None);
    }
}

#[test]
fn huge_lengths() {
    let codec = LengthDelimited::new().field(LengthField::U64);
    let limit = 8 << 20;
    for value in [(1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX - 8, u64::MAX - 7, u64::MAX] {
        let length = value.saturating_add(8);
        let error = Err(Error::TooLong { length, limit });
        assert_eq!(decode_within(&codec, limit, &u64::to_be_bytes(value)), error);
        let little = codec.clone().byte_order(ByteOrder::Little);
        assert_eq!(decode_within(&little, limit, &u64::to_le_bytes(value)), error);
        for adjustment in [i64::MAX, 1, -1, i64::MIN] {
            let decoded = decode(&codec.clone().adjustment(adjustment), &u64::to_be_bytes(value));
            let body = i128::from(value) + i128::from(adjustment);
            match usize::try_from(body) {
                Ok(body) if body <= usize::MAX - 8 => assert!(
                    matches!(decoded, Ok(Decoded::Need(n)) if n == body)
                        || body == 0 && decoded == Ok(Decoded::Frame(vec![])),
                    "{value} {adjustment}: {decoded:?}"
                ),
                _ if body < 0 => assert_eq!(decoded, Err(Error::Negative { value, adjustment })),
                _ => assert!(
                    matches!(decoded, Err(Error::TooLong { .. })),
                    "{value} {adjustment}: {decoded:?}"
                ),
            }
        }
    }
    // Without any limit the checks must hold too.
    assert!(matches!(
        decode(&codec, &[0xff; 8]),
        Err(Error::TooLong { length: u64::MAX, limit: usize::MAX })
    ));
    if let Ok(half) = usize::try_from(1_u64 << 63) {
        assert_eq!(decode(&codec, &u64::to_be_bytes(1 << 63)), Ok(Decoded::Need(half)));
        assert_eq!(decode(&codec, &u64::to_be_bytes(u64::MAX - 8)), Ok(Decoded::Need(usize::MAX - 8)));
    }
}

#[test]
fn limits_count_the_header_and_the_smaller_one_holds() {
    for codec in [LengthDelimited::new(), LengthDelimited::new().keep_header()] {
        assert!(matches!(decode_within(&codec, 9, b"\0\0\0\x05hello"), Ok(Decoded::Frame(_))));
        assert_eq!(decode_within(&codec, 9, b"\0\0\0\x05"), Ok(Decoded::Need(5)));
        let error = Err(Error::TooLong { length: 10, limit: 9 });
        assert_eq!(decode_within(&codec, 9, b"\0\0\0\x06"), error);
        assert_eq!(decode_within(&codec.clone().max_frame(9), 10, b"\0\0\0\x06"), error);
        assert_eq!(decode_within(&codec.max_frame(10), 9, b"\0\0\0\x06"), error);
    }
    for codec in
        [LengthDelimited::new(), LengthDelimited::new().field(LengthField::U16).byte_order(ByteOrder::Little)]
    {
        let header = codec.field.width().unwrap();
        let codec = codec.max_frame(header + 5);
        assert!(encode(&codec, b"hello").is_ok());
        let error = Error::TooLong { length: header as u64 + 6, limit: header + 5 };
        assert_eq!(encode(&codec, b"hello!"), Err(error));
        assert!(encode(&codec.max_frame(header - 1), b"").is_err());
    }
    assert_eq!(
        Error::TooLong { length: 1 << 32, limit: 9 }.to_string(),
        "a frame of 4294967296 bytes (header included) is over the limit of 9: to allow such \
        frames, raise Config::max_frame and the codec's own max_frame; otherwise the peer speaks another \
        protocol"
    );
}

#[test]
fn adjustments() {
    let whole = LengthDelimited::new().adjustment(-4);
    round_trips(&whole, b"\0\0\0\x06ab", b"ab");
    round_trips(&whole, b"\0\0\0\x04", b"");
    let error = decode(&whole, b"\0\0\0\x03").unwrap_err();
    assert_eq!(error, Error::Negative { value: 3, adjustment: -4 });
    assert_eq!(
        error.to_string(),
        "a length of 3 with an adjustment of -4 is negative: expected at least 4; check the adjustment and \
        the peer's protocol"
    );
    // The item must include the bytes that the length does not count.
    let trailer = LengthDelimited::new().field(LengthField::U8).adjustment(2);
    round_trips(&trailer, b"\x01abc", b"abc");
    round_trips(&trailer, b"\x00ab", b"ab");
    assert_eq!(encode(&trailer, b"a"), Err(Error::Unfit { length: 1, adjustment: 2, max: 255 }));
    let varint = LengthDelimited::varint().adjustment(-126);
    round_trips(&varint, b"\x7fa", b"a");
    round_trips(&varint, b"\x80\x01ab", b"ab");
    assert!(encode(&LengthDelimited::varint().adjustment(i64::MIN), b"ab").is_ok());
    assert!(encode(&LengthDelimited::varint().adjustment(i64::MAX), b"ab").is_err());
    round_trips(
        &LengthDelimited::varint().adjustment(i64::MIN),
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"",
    );
}

#[test]
fn varints() {
    let codec = LengthDelimited::varint();
    round_trips(&codec, b"\x00", b"");
    for (len, header) in [(1, &b"\x01"[..]), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")] {
        round_trips(&codec, &[header, &vec![1; len]].concat(), &vec![1; len]);
    }
    for (len, header) in
        [(16_383, &b"\xff\x7f"[..]), (16_384, b"\x80\x80\x01"), (2_097_152, b"\x80\x80\x80\x01")]
    {
        let wire = [header, &vec![1; len]].concat();
        assert_eq!(encode(&codec, &wire[header.len()..]).as_deref(), Ok(&wire[..]));
        assert_eq!(decode(&codec, &wire), Ok(Decoded::Frame(vec![1; len])));
    }
    // Padded varints are accepted.
    decodes(&codec, b"\x80\x00", b"");
    decodes(&codec, b"\x82\x80\x80\x80\x80\x80\x80\x80\x80\x00ab", b"ab");
    assert_eq!(decode(&codec, b"\x80\x80"), Ok(Decoded::Need(1)));
    let offset = LengthDelimited::varint().offset(3);
    assert_eq!(decode(&offset, b"\x80"), Ok(Decoded::Need(3)));
    only_decodes(&offset, b"\x80\x80\x80\x02ab", b"ab");
}

#[test]
fn varints_beyond_64_bits_are_refused() {
    let codec = LengthDelimited::varint();
    let most = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    assert_eq!(decode_within(&codec, 100, most), Err(Error::TooLong { length: u64::MAX, limit: 100 }));
    let less = b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
    let length = (1 << 63) - 1 + 9;
    assert_eq!(decode_within(&codec, 100, less), Err(Error::TooLong { length, limit: 100 }));
    assert_eq!(decode(&codec, &[0x80; 9]), Ok(Decoded::Need(1)));
    for last in [0x02, 0x7f, 0x80, 0x81, 0xff] {
        let mut wire = [0xff; 10];
        wire[9] = last;
        assert_eq!(decode(&codec, &wire), Err(Error::Varint), "{last:x}");
    }
}

#[test]
fn encoded_lengths_of_varints() {
    let len = |value| LengthField::Varint.encoded_len(value);
    assert_eq!((len(0), len(1), len(127), len(128), len(u64::MAX)), (1, 1, 1, 2, 10));
    for bits in 1..64 {
        let (below, from) = ((1 << bits) - 1, 1 << bits);
        assert_eq!(len(below), (bits as usize).div_ceil(7));
        assert_eq!(len(from), (bits as usize + 1).div_ceil(7));
        for value in [below, from] {
            let mut wire = BytesMut::new();
            put_varint(value, &mut Sink::new(&mut wire));
            assert_eq!(read_varint(&wire), Ok(Some((value, len(value)))));
        }
    }
}

#[test]
fn large_payloads_are_chained() {
    let mut segments = super::super::Segments::default();
    let payload = Bytes::from(vec![1; 5000]);
    let mut sink = Sink::queue(&mut segments, 1024);
    LengthDelimited::new().encode(payload.clone(), &mut sink).unwrap();
    LengthDelimited::varint().encode(payload.clone(), &mut sink).unwrap();
    assert_eq!(sink.written(), 2 * payload.len() + 4 + 2);
    assert!(segments.chained.iter().all(|c| c.payload.as_ptr() == payload.as_ptr()));
    assert_eq!((segments.chained.len(), segments.gathered.len()), (2, 6));
}
