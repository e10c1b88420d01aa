use bytes::BytesMut;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::*;

mod reference;

const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

fn compress(compressor: &mut Compressor, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::from(&b"before"[..]);
    compressor.compress(payload, true, &mut out);
    assert_eq!(out[..6], *b"before");
    out[6..].to_vec()
}

/// Inflates a message that arrives in pieces of `piece` bytes.
fn inflate_pieces(
    inflater: &mut Inflater,
    data: &[u8],
    piece: usize,
    limit: usize,
) -> Result<Vec<u8>, InflateError> {
    let mut out = BytesMut::new();
    for piece in data.chunks(piece) {
        inflate_all(inflater, piece, false, &mut out, limit)?;
    }
    inflate_all(inflater, &[], true, &mut out, limit)?;
    Ok(out.to_vec())
}

/// Inflates until all of `data` is taken.
fn inflate_all(
    inflater: &mut Inflater,
    mut data: &[u8],
    last: bool,
    out: &mut BytesMut,
    limit: usize,
) -> Result<(), InflateError> {
    loop {
        let taken = inflater.inflate(data, last, out, limit)?;
        assert!(taken > 0 || data.is_empty(), "each call takes something");
        data = &data[taken..];
        if data.is_empty() {
            return Ok(());
        }
    }
}

fn inflate(inflater: &mut Inflater, data: &[u8]) -> Result<Vec<u8>, InflateError> {
    let mut out = BytesMut::from(&b"before"[..]);
    inflate_all(inflater, data, true, &mut out, usize::MAX)?;
    assert_eq!(out[..6], *b"before");
    Ok(out[6..].to_vec())
}

/// `flate2` with one call for a message.
fn oracle_inflate(stream: &mut Decompress, data: &[u8], size: usize) -> Vec<u8> {
    let data = [data, &TAIL].concat();
    let mut out = vec![0; size + 1];
    let (total_in, total_out) = (stream.total_in(), stream.total_out());
    stream.decompress(&data, &mut out, FlushDecompress::Sync).unwrap();
    assert_eq!(stream.total_in() - total_in, data.len() as u64);
    out.truncate((stream.total_out() - total_out) as usize);
    out
}

fn oracle_compress(stream: &mut Compress, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; payload.len() + payload.len() / 8 + 64];
    let total_out = stream.total_out();
    stream.compress(payload, &mut out, FlushCompress::Sync).unwrap();
    out.truncate((stream.total_out() - total_out) as usize - TAIL.len());
    out
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// Makes data between noise and text: it repeats pieces of itself, from near and far.
fn sample(random: &mut Random, size: usize) -> Vec<u8> {
    let mut sample = Vec::new();
    while sample.len() < size {
        if sample.is_empty() || random.below(3) == 0 {
            let n = random.below(40) + 1;
            sample.extend(random.bytes(n));
        } else {
            let back = random.below(sample.len().min(40_000)) + 1;
            let from = sample.len() - back;
            let n = random.below(back.min(600)) + 1;
            sample.extend_from_within(from..from + n);
        }
    }
    sample.truncate(size);
    sample
}

const SIZES: [usize; 14] = [0, 1, 2, 127, 256, 300, 1000, 0, 5000, 16_383, 16_384, 40_000, 100_000, 5];

#[test]
fn rfc_7692_section_7_2_3_1_one_block() {
    assert_eq!(compress(&mut Compressor::new(true, 15, 6), b"Hello"), HELLO);
    assert_eq!(inflate(&mut Inflater::new(true), HELLO).unwrap(), b"Hello");
    // The same message in two fragments.
    let mut out = BytesMut::new();
    let mut inflater = Inflater::new(true);
    inflater.inflate(&HELLO[..3], false, &mut out, 5).unwrap();
    inflater.inflate(&HELLO[3..], true, &mut out, 5).unwrap();
    assert_eq!(out, "Hello");
}

#[test]
fn rfc_7692_section_7_2_3_2_sharing_the_window() {
    let second = b"\xf2\x00\x11\x00\x00";
    let mut compressor = Compressor::new(false, 15, 6);
    assert_eq!(compress(&mut compressor, b"Hello"), HELLO);
    assert_eq!(compress(&mut compressor, b"Hello"), second);
    let mut compressor = Compressor::new(true, 15, 6);
    assert_eq!(compress(&mut compressor, b"Hello"), HELLO);
    assert_eq!(compress(&mut compressor, b"Hello"), HELLO);

    let mut inflater = Inflater::new(false);
    assert_eq!(inflate(&mut inflater, HELLO).unwrap(), b"Hello");
    assert_eq!(inflate(&mut inflater, second).unwrap(), b"Hello");
    let mut inflater = Inflater::new(true);
    assert_eq!(inflate(&mut inflater, HELLO).unwrap(), b"Hello");
    assert_eq!(inflate(&mut inflater, second), Err(InflateError::Corrupt));
}

#[test]
fn rfc_7692_section_7_2_3_3_no_compression() {
    let stored = b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00";
    assert_eq!(inflate(&mut Inflater::new(true), stored).unwrap(), b"Hello");
    assert_eq!(compress(&mut Compressor::new(true, 15, 0), b"Hello"), stored);
}

#[test]
fn rfc_7692_section_7_2_3_4_final_block() {
    let last = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00";
    for no_context_takeover in [false, true] {
        for piece in 1..=last.len() {
            let mut inflater = Inflater::new(no_context_takeover);
            for message in [&last[..], HELLO, last, last] {
                assert_eq!(inflate_pieces(&mut inflater, message, piece, 5).unwrap(), b"Hello");
            }
            // More blocks after the final one, and another final one among them.
            let message = [&last[..7], &last[..7], HELLO].concat();
            assert_eq!(inflate_pieces(&mut inflater, &message, piece, 15).unwrap(), b"HelloHelloHello");
        }
    }
    // Many ends of streams with nothing between them, and as many as a message may have.
    for (blocks, allowed) in [(17, true), (18, false), (100_000, false)] {
        for piece in [1, 2, 3, 200_000] {
            let message = [&b"\x03\x00".repeat(blocks)[..], &[0]].concat();
            let refused = InflateError::FinalBlocks { blocks: 18, bytes: 36 };
            let expected = if allowed { Ok(Vec::new()) } else { Err(refused) };
            let mut inflater = Inflater::new(blocks % 2 == 0);
            assert_eq!(inflate_pieces(&mut inflater, &message, piece, 5), expected);
            if allowed {
                assert_eq!(inflate_pieces(&mut inflater, &message, piece, 5), Ok(Vec::new()), "again");
            }
        }
    }
}

#[test]
fn rfc_7692_section_7_2_3_5_two_blocks() {
    let message = b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00";
    for piece in 1..=message.len() {
        assert_eq!(inflate_pieces(&mut Inflater::new(true), message, piece, 5).unwrap(), b"Hello");
    }
}

#[test]
fn rfc_7692_section_7_2_3_6_empty_message() {
    for no_context_takeover in [false, true] {
        let mut compressor = Compressor::new(no_context_takeover, 15, 6);
        let mut inflater = Inflater::new(no_context_takeover);
        for payload in [&b""[..], b"", b"Hello", b"", b"Hello", b""] {
            let data = compress(&mut compressor, payload);
            if payload.is_empty() {
                assert_eq!(data, [0x00]);
            }
            assert_eq!(inflate(&mut inflater, &data).unwrap(), payload);
        }
    }
}

#[test]
fn what_is_compressed_is_what_flate2_decompresses() {
    let mut random = Random(1);
    for bits in 8..=15 {
        for level in 0..=9 {
            let no_context_takeover = (bits + level) % 2 == 0;
            let mut compressor = Compressor::new(no_context_takeover, bits, level);
            let mut inflater = Inflater::new(no_context_takeover);
            let mut oracle = Decompress::new(false);
            for size in SIZES {
                let payload = sample(&mut random, size);
                let data = compress(&mut compressor, &payload);
                assert!(data.len() <= size + size / 8 + 16, "{size} bytes became {}", data.len());
                assert!(oracle_inflate(&mut oracle, &data, size) == payload, "{bits} {level} {size}");
                assert!(inflate(&mut inflater, &data).unwrap() == payload, "{bits} {level} {size}");
                if no_context_takeover {
                    oracle.reset(false);
                }
            }
        }
    }
}

#[test]
fn what_flate2_compresses_is_inflated_from_any_pieces() {
    let mut random = Random(2);
    for bits in 9..=15 {
        for level in [0, 1, 3, 6, 9] {
            let mut oracle = Compress::new_with_window_bits(Compression::new(level), false, bits);
            let mut inflaters = [1, 2, 3, 7, 1000, 65_536].map(|piece| (piece, Inflater::new(false)));
            for size in [0, 1, 300, 20_000, 70_000, 5, 1000] {
                let payload = sample(&mut random, size);
                let data = if size == 0 { vec![0x00] } else { oracle_compress(&mut oracle, &payload) };
                for (piece, inflater) in &mut inflaters {
                    assert!(
                        inflate_pieces(inflater, &data, *piece, size).unwrap() == payload,
                        "{bits} {level} {size}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_message_compressed_in_fragments_can_be_read_fragment_by_fragment() {
    let mut random = Random(3);
    for level in 0..=9 {
        for no_context_takeover in [false, true] {
            let mut compressor = Compressor::new(no_context_takeover, 12, level);
            let mut inflater = Inflater::new(no_context_takeover);
            // Fragments may be empty: the first, the last and all of them.
            for fragments in [&[10, 2000, 1][..], &[0, 500, 0], &[0, 0], &[0], &[30_000, 0, 0, 40_000], &[7]]
            {
                let mut received = BytesMut::new();
                let mut sent = Vec::new();
                for (i, &size) in fragments.iter().enumerate() {
                    let payload = sample(&mut random, size);
                    let last = i + 1 == fragments.len();
                    let mut data = BytesMut::new();
                    compressor.compress(&payload, last, &mut data);
                    assert!(last || size == 0 || data.ends_with(&TAIL));
                    inflate_all(&mut inflater, &data, last, &mut received, usize::MAX).unwrap();
                    sent.extend(payload);
                    assert!(received == sent, "{fragments:?}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_held_between_messages_without_context_takeover() {
    let mut compressor = Compressor::new(true, 15, 6);
    let mut inflater = Inflater::new(true);
    let mut out = BytesMut::new();
    compressor.compress(b"Hel", false, &mut out);
    assert!(format!("{compressor:?}").contains("stream: Some"));
    compressor.compress(b"lo", true, &mut out);
    assert!(format!("{compressor:?}").contains("stream: None"));
    inflater.inflate(&out, false, &mut BytesMut::new(), 5).unwrap();
    assert!(format!("{inflater:?}").contains("stream: Some"));
    inflater.inflate(&[], true, &mut BytesMut::new(), 5).unwrap();
    assert!(format!("{inflater:?}").contains("stream: None"));
}

#[test]
fn a_compressor_refers_no_further_back_than_agreed() {
    let mut random = Random(4);
    let mut farthest = [0; 16];
    for bits in 8..=15_u8 {
        for level in 0..=9 {
            let mut compressor = Compressor::new(false, bits, level);
            let mut reference = reference::Inflate::default();
            // Data that repeats after `period` bytes, but not nearer.
            for period in
                [100, 249, 250, 251, 252, 255, 256, 257, 258, 300, 400, 511, 512, 513, 700, 1023, 1024, 1500]
            {
                let payload = random.bytes(period).repeat(4);
                let mut data = compress(&mut compressor, &payload);
                data.extend(TAIL);
                assert!(reference.inflate(&data) == payload, "{bits} {level} {period}");
            }
            for size in SIZES {
                let payload = sample(&mut random, size);
                let mut data = compress(&mut compressor, &payload);
                data.extend(TAIL);
                assert!(reference.inflate(&data) == payload, "{bits} {level} {size}");
            }
            let farthest = &mut farthest[usize::from(bits)];
            *farthest = reference.farthest.max(*farthest);
        }
    }
    for (bits, farthest) in farthest.into_iter().enumerate().skip(8) {
        assert!(farthest <= 1 << bits, "{farthest} bytes back with {bits} window bits");
    }
    // Otherwise the checks above would prove nothing.
    assert!(farthest[8] > 200 && farthest[10] > 512 && farthest[15] > 16_384, "{farthest:?}");
}

#[test]
fn a_piece_is_inflated_whole_however_large_it_becomes() {
    let payload = vec![0; 300_000];
    let data = compress(&mut Compressor::new(true, 15, 6), &payload);
    let mut inflater = Inflater::new(true);
    let mut oracle = Decompress::new(false);
    let mut out = BytesMut::new();
    let mut room = vec![0; payload.len()];
    for piece in data.chunks(1) {
        inflater.inflate(piece, false, &mut out, payload.len()).unwrap();
        oracle.decompress(piece, &mut room, FlushDecompress::Sync).unwrap();
        assert_eq!(out.len() as u64, oracle.total_out());
    }
    inflater.inflate(&[], true, &mut out, payload.len()).unwrap();
    assert!(out == payload);
}

#[test]
fn a_bomb_stops_at_the_limit() {
    const SIZE: usize = 16 << 20;
    let data = compress(&mut Compressor::new(true, 15, 9), &vec![0; SIZE]);
    assert!(data.len() * 900 < SIZE);
    for limit in [0, 1, 1000, 4096, 1 << 20, SIZE - 1] {
        for piece in [data.len(), 1000, 1] {
            let mut out = BytesMut::new();
            let mut inflater = Inflater::new(true);
            let error = data
                .chunks(piece)
                .find_map(|piece| inflate_all(&mut inflater, piece, false, &mut out, limit).err());
            assert_eq!(error, Some(InflateError::TooLarge { limit }));
            assert!(out.capacity() <= limit + 64, "{} bytes for a limit of {limit}", out.capacity());
        }
    }
    let mut out = BytesMut::new();
    inflate_all(&mut Inflater::new(true), &data, true, &mut out, SIZE).unwrap();
    assert!(out.len() == SIZE && out.capacity() <= SIZE + 64);
}

#[test]
fn the_limit_counts_what_the_buffer_held_before() {
    for held in [0, 3, 1000] {
        let mut out = BytesMut::from(&vec![b'x'; held][..]);
        assert_eq!(Inflater::new(true).inflate(HELLO, true, &mut out, held + 5), Ok(HELLO.len()));
        assert!(out[held..] == *b"Hello");
        let mut out = BytesMut::from(&vec![b'x'; held][..]);
        let limit = held + 4;
        assert_eq!(
            Inflater::new(true).inflate(HELLO, true, &mut out, limit),
            Err(InflateError::TooLarge { limit })
        );
    }
    // `out` already holds more than allowed.
    let mut out = BytesMut::from(&b"before"[..]);
    assert_eq!(
        Inflater::new(true).inflate(b"\x00", true, &mut out, 5),
        Err(InflateError::TooLarge { limit: 5 })
    );
}

#[test]
fn corrupt_and_truncated_data_gives_an_error_or_some_message() {
    let mut random = Random(5);
    let mut outcomes = [0; 3];
    let mut run = |inflater: &mut Inflater, data: &[u8], piece: usize| {
        outcomes[match inflate_pieces(inflater, data, piece.max(1), 1500) {
            Ok(_) => 0,
            Err(InflateError::Corrupt) => 1,
            Err(InflateError::TooLarge { .. }) => 2,
            Err(InflateError::FinalBlocks { .. }) => {
                unreachable!("chance makes no flood of them")
            }
        }] += 1;
    };
    for _ in 0..5_000 {
        let n = random.below(200);
        let data = random.bytes(n);
        let mut inflater = Inflater::new(random.below(2) == 0);
        for _ in 0..2 {
            // The second call follows an error, and must be safe too.
            run(&mut inflater, &data, random.below(20));
        }
    }
    for level in [0, 1, 6, 9] {
        let mut data = compress(&mut Compressor::new(true, 15, level), &sample(&mut random, 1500));
        for end in 0..data.len() {
            run(&mut Inflater::new(false), &data[..end], 1000);
        }
        for bit in 0..data.len() * 8 {
            data[bit / 8] ^= 1 << (bit % 8);
            run(&mut Inflater::new(false), &data, 1000);
            data[bit / 8] ^= 1 << (bit % 8);
        }
    }
    assert!(outcomes.iter().all(|&n| n > 100), "{outcomes:?}");
}

#[test]
fn both_can_move_between_threads() {
    fn check<T: Send>() {}
    check::<Compressor>();
    check::<Inflater>();
}
