use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::*;

/// Compresses a body, and returns the number of steps too.
fn compress(body: &[u8]) -> (Body, usize) {
    let mut coders = Coders::default();
    let mut compressing = Compressing::begin(Bytes::copy_from_slice(body), &mut coders);
    for steps in 1.. {
        let (work, done) = compressing.step();
        assert!(work >= 64 * 1024);
        if let Some(body) = done {
            compressing.end(&mut coders);
            return (body, steps);
        }
    }
    unreachable!()
}

/// Decompresses a body, looking at the memory that it takes, and returns the number of steps too.
fn decompress_body(body: Body, limit: usize) -> Result<(Bytes, usize), DecompressError> {
    assert!(body.is_compressed());
    let mut state = Decompressing::begin(body.bytes, limit, &mut Coders::default())?;
    for steps in 1.. {
        let (before, taken) = (state.out.len(), state.taken);
        let (work, step) = state.step();
        assert!(work >= 16 * 1024);
        if let Some(bytes) = step? {
            assert!(bytes.len() - before <= work as usize);
            return Ok((bytes, steps));
        }
        let Decompressing { out, taken: now, .. } = &state;
        assert!(out.len() - before <= 80 * 1024 && now - taken <= 16 * 1024, "{state:?}");
        assert!(out.len() - before <= work as usize, "{state:?}");
        assert!(*now > taken, "each step takes something");
        let most = (2 * out.len() + 16 * 1024).min(limit.saturating_add(1)) + 64;
        assert!(out.capacity() <= most, "{} bytes reserved: {state:?}", out.capacity());
    }
    unreachable!()
}

fn decompress(bytes: impl Into<Bytes>, limit: usize) -> Result<Bytes, DecompressError> {
    decompress_body(Body { bytes: bytes.into(), coding: Coding::Compressed }, limit).map(|(bytes, _)| bytes)
}

/// What flate2 makes of it.
fn deflated(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(vec![DEFLATE], Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn words(size: usize) -> Vec<u8> {
    (0_u32..)
        .flat_map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) % 997).into_bytes())
        .take(size)
        .collect()
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state as u8
    };
    (0..size).map(|_| next(&mut state)).collect()
}

const SIZES: [usize; 6] = [1024, 5000, 65_535, 65_536, 65_537, 200_000];

#[test]
fn what_is_compressed_is_one_stream_that_flate2_reads_to_its_end() {
    for size in SIZES {
        for data in [vec![0; size], words(size)] {
            let (body, steps) = compress(&data);
            assert!(body.is_compressed() && body.bytes[0] == 1 && body.bytes.len() < data.len());
            assert_eq!(steps, size.div_ceil(64 * 1024), "{size}");
            let mut decoder = DeflateDecoder::new(&body.bytes[1..]);
            let mut out = Vec::new();
            decoder.read_to_end(&mut out).unwrap();
            assert!(out == data, "{size}");
            assert_eq!(decoder.total_in(), body.bytes.len() as u64 - 1, "nothing after the stream");
            assert!(decompress_body(body, size).unwrap().0 == data, "{size}");
        }
    }
}

#[test]
fn what_flate2_compresses_is_decompressed_whole_within_its_size() {
    for size in [0, 1, 255, 1000].into_iter().chain(SIZES) {
        for data in [vec![0; size], words(size), noise(size)] {
            for level in [0, 1, 6] {
                let body = deflated(&data, level);
                assert!(decompress(body.clone(), size).unwrap() == data, "{size}, level {level}");
                if size > 0 {
                    let limit = size - 1;
                    assert_eq!(decompress(body, limit), Err(DecompressError::TooLarge { limit }));
                }
            }
        }
    }
}

#[test]
fn bodies_that_do_not_shrink_stay_as_they_are() {
    for data in [noise(1024), noise(100_000)] {
        let (body, _) = compress(&data);
        assert!(!body.is_compressed() && body.bytes == data);
    }
    let body = Bytes::from(noise(100_000));
    let mut compressing = Compressing::begin(body.clone(), &mut Coders::default());
    let unchanged = loop {
        match compressing.step().1 {
            Some(body) => break body,
            None => {
                assert!(compressing.out.len() <= compressing.taken + 1024, "noise grows by a little only")
            }
        }
    };
    assert_eq!(unchanged.bytes.as_ptr(), body.as_ptr(), "not copied");
}

#[test]
fn a_coder_begins_afresh_however_the_last_body_ended() {
    let mut coders = Coders::default();
    let text = words(200_000);
    for _ in 0..3 {
        let mut left = Compressing::begin(Bytes::from(noise(100_000)), &mut coders);
        assert!(coders.compressor.is_none());
        left.step();
        left.end(&mut coders);
        let mut whole = Compressing::begin(text.clone().into(), &mut coders);
        let body = loop {
            if let Some(body) = whole.step().1 {
                break body;
            }
        };
        whole.end(&mut coders);
        assert_eq!(body, compress(&text).0);

        let corrupt = [&body.bytes[..1000], &[0xff; 50_000]].concat();
        let mut left = Decompressing::begin(corrupt.into(), 1 << 20, &mut coders).unwrap();
        while !matches!(left.step().1, Err(DecompressError::Corrupt)) {}
        left.end(&mut coders);
        let mut whole = Decompressing::begin(body.bytes, 1 << 20, &mut coders).unwrap();
        assert!(coders.inflater.is_none());
        let bytes = loop {
            if let Some(bytes) = whole.step().1.unwrap() {
                break bytes;
            }
        };
        whole.end(&mut coders);
        assert!(bytes == text);
    }
}

#[test]
fn a_body_with_an_algorithm_that_is_not_known_is_unimplemented() {
    for algorithm in (0..=255).filter(|&algorithm| algorithm != 1) {
        let error = decompress(vec![algorithm, 0x03, 0x00], 100).unwrap_err();
        assert_eq!(error, DecompressError::Algorithm(algorithm));
        assert_eq!(error.code(), Code::Unimplemented);
    }
    let error = decompress(vec![2], 100).unwrap_err();
    assert_eq!(error.to_string(), "a body is compressed with algorithm 2: only 1 is known, DEFLATE");
    let error = decompress(vec![], 100).unwrap_err();
    assert_eq!((error, error.code()), (DecompressError::Empty, Code::Internal));
}

#[test]
fn a_bomb_ends_at_the_limit_after_bounded_steps() {
    const SIZE: usize = 4 << 20;
    let bomb = Bytes::from(deflated(&vec![0; SIZE], 6));
    assert!(bomb.len() * 900 < SIZE);
    for limit in [0, 1, 1000, 64 * 1024, 1 << 20, SIZE - 1] {
        let error = decompress(bomb.clone(), limit).unwrap_err();
        assert_eq!((error, error.code()), (DecompressError::TooLarge { limit }, Code::ResourceExhausted));
        assert!(error.to_string().contains(&format!("limit of {limit} bytes")), "{error}");
    }
    let (bytes, steps) = decompress_body(Body { bytes: bomb, coding: Coding::Compressed }, SIZE).unwrap();
    assert!(bytes.len() == SIZE && steps >= SIZE / (80 * 1024), "{steps} steps");
}

#[test]
fn blocks_without_data_take_bounded_steps_too() {
    // Empty uncompressed blocks, none of them final; then a final one.
    let blocks = [&[DEFLATE][..], &b"\x00\x00\x00\xff\xff".repeat(20_000), b"\x03\x00"].concat();
    let body = Body { bytes: blocks.into(), coding: Coding::Compressed };
    let (bytes, steps) = decompress_body(body, 0).unwrap();
    assert!(bytes.is_empty() && steps >= 100_000 / (16 * 1024), "{steps} steps");
}

#[test]
fn data_that_breaks_off_or_goes_on_after_its_end_is_corrupt() {
    for body in [deflated(b"Hello", 6), deflated(&words(3000), 6), deflated(&noise(100_000), 1)] {
        let ends = (1..body.len()).step_by(1 + body.len() / 300).chain(body.len() - 5..body.len());
        for end in ends {
            assert_eq!(decompress(body[..end].to_vec(), 1 << 20), Err(DecompressError::Corrupt), "{end}");
        }
        for more in [&b"\x00"[..], b"\x03\x00", &[0; 20_000]] {
            assert_eq!(decompress([&body, more].concat(), 1 << 20), Err(DecompressError::Corrupt));
        }
    }
    for data in [&b"\x01\x07"[..], b"\x01\xff\xff", b"\x01\x78\x9c\x03\x00\x00\x00\x00\x01", b"\x01\x1f\x8b"]
    {
        assert_eq!(decompress(data.to_vec(), 100), Err(DecompressError::Corrupt));
    }
    let text =
        "a compressed body is corrupt: expected one stream of DEFLATE (RFC 1951), which ends with the body";
    assert_eq!(DecompressError::Corrupt.to_string(), text);
}

#[test]
fn damaged_data_gives_an_error_or_other_bytes() {
    let mut body = deflated(&words(600), 6);
    let mut outcomes = [0; 2];
    for bit in 8..body.len() * 8 {
        body[bit / 8] ^= 1 << (bit % 8);
        outcomes[usize::from(decompress(body.clone(), 4000).is_ok())] += 1;
        body[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(outcomes.iter().all(|&n| n > 100), "{outcomes:?}");
}
