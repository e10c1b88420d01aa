use bytes::BytesMut;

use super::*;

/// Feeds `wire` in pieces of `piece` bytes. Returns the items up to the first error.
fn decode<C: Decoder>(
    codec: &mut C,
    limit: usize,
    wire: &[u8],
    piece: usize,
) -> (Vec<C::Item>, Result<(), C::Error>) {
    let (mut buffer, mut slab, mut items) = (BytesMut::new(), BytesMut::new(), Vec::new());
    for piece in wire.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut Source::copying(&mut buffer, &mut slab, 1024, limit)) {
                Ok(Decoded::Frame(item)) => items.push(item),
                Ok(Decoded::Need(n)) => {
                    assert_eq!(n, 1);
                    break;
                }
                Err(error) => return (items, Err(error)),
            }
        }
    }
    loop {
        match codec.decode_eof(&mut Source::copying(&mut buffer, &mut slab, 1024, limit)) {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, Ok(())),
            Err(error) => return (items, Err(error)),
        }
    }
}

fn encode<T, C: Encoder<T>>(codec: &mut C, item: T) -> Result<Vec<u8>, C::Error> {
    let mut wire = BytesMut::new();
    let announced = codec.encoded_len(&item);
    codec.encode(item, &mut Sink::new(&mut wire))?;
    assert_eq!(announced, Some(wire.len()));
    Ok(wire.to_vec())
}

/// Yields every string of `a`, `b` and `c` of up to `longest` bytes.
fn words(longest: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..=longest)
        .flat_map(|len| (0..3_usize.pow(len)).map(move |n| (len, n)))
        .map(|(len, n)| (0..len).map(|at| b"abc"[n / 3_usize.pow(at) % 3]).collect())
}

#[test]
fn frames_end_with_the_delimiter_however_they_arrive() {
    let cases: [(&str, &[u8], &[&str]); 6] = [
        ("\0", b"one\0\0two\0", &["one", "", "two"]),
        ("\r\n", b"one\r\n\r\ntw\ro\n\r\r\nrest\r", &["one", "", "tw\ro\n\r"]),
        ("aab", b"aaabaabxaab", &["a", "", "x"]),
        ("aa", b"aaaaabaa", &["", "", "ab"]),
        ("--end--", b"--en--end----end--d--end--x", &["--en", "", "d"]),
        ("\n", b"", &[]),
    ];
    for (delimiter, wire, items) in cases {
        for piece in 1..=wire.len().max(1) {
            let mut codec = Delimited::new(delimiter).unwrap();
            let decoded = decode(&mut codec, usize::MAX, wire, piece);
            assert_eq!(decoded.0, items, "{delimiter:?} in pieces of {piece}");
            assert_eq!(decoded.1, Ok(()));
            let items: Vec<_> = items.iter().map(|item| format!("{item}{delimiter}")).collect();
            let decoded = decode(&mut codec.clone().keep_delimiter(), usize::MAX, wire, piece);
            assert_eq!(decoded.0, items, "{delimiter:?} in pieces of {piece}");
        }
    }
}

#[test]
fn delimiters_have_at_least_one_byte() {
    assert!(matches!(Delimited::new(b""), Err(DelimitedError::Empty)));
    assert!(matches!(Delimited::new(b";").unwrap().delimiter, Delimiter::Byte(b';')));
    assert_eq!(Delimited::new([1, 2]).unwrap().delimiter.as_slice(), [1, 2]);
}

#[test]
fn a_frame_is_searched_once() {
    let mut wire = BytesMut::new();
    let mut codec = Delimited::new("\r\n").unwrap();
    for len in 1..100 {
        wire.extend_from_slice(b"\r");
        codec.decode(&mut Source::new(&mut wire)).unwrap();
        assert_eq!(codec.search.from, len - 1, "all but what may be the beginning of a delimiter");
    }
    assert_eq!(codec.clone().search.from, 0);
    wire.extend_from_slice(b"\n");
    assert!(matches!(codec.decode(&mut Source::new(&mut wire)), Ok(Decoded::Frame(_))));
    assert_eq!(codec.search.from, 0);

    let mut lines = Lines::new();
    wire.extend_from_slice(b"abc");
    lines.decode(&mut Source::new(&mut wire)).unwrap();
    assert_eq!(lines.search.from, 3);
    lines.decode_eof(&mut Source::new(&mut wire)).unwrap();
    assert_eq!(lines.search.from, 0);
}

#[test]
fn limits_count_the_delimiter() {
    for piece in 1..8 {
        for (own, session) in [(5, usize::MAX), (usize::MAX, 5), (5, 6), (6, 5)] {
            let mut codec = Delimited::new("\r\n").unwrap().max_frame(own);
            let decoded = decode(&mut codec, session, b"abc\r\n\r\nabc\r\n", piece);
            assert_eq!((decoded.0.len(), decoded.1), (3, Ok(())));
            for wire in [&b"a\r\nabcd\r\n"[..], b"a\r\nabcd\r\na\r\n", b"a\r\nabcde", b"a\r\nabcd\r\r"] {
                let mut codec = codec.clone();
                let decoded = decode(&mut codec, session, wire, piece);
                assert_eq!(decoded, (vec![Bytes::from("a")], Err(DelimitedError::TooLong { limit: 5 })));
            }
        }
    }
    let mut codec = Delimited::byte(b'\n').max_frame(4);
    assert!(encode(&mut codec, Bytes::from("abc")).is_ok());
    assert_eq!(encode(&mut codec, Bytes::from("abcd")), Err(DelimitedError::TooLong { limit: 4 }));
    let mut codec = codec.keep_delimiter();
    assert!(encode(&mut codec, Bytes::from("abc\n")).is_ok());
    assert_eq!(encode(&mut codec, Bytes::from("abcd\n")), Err(DelimitedError::TooLong { limit: 4 }));
}

#[test]
fn what_would_be_read_as_two_frames_is_not_sent() {
    let mut codec = Delimited::new("--").unwrap();
    assert_eq!(encode(&mut codec, Bytes::from("a-b")), Ok(b"a-b--".to_vec()));
    assert_eq!(encode(&mut codec, Bytes::from("a--b")), Err(DelimitedError::Ambiguous { offset: 1 }));
    let error = encode(&mut codec, Bytes::from("ab-")).unwrap_err();
    assert_eq!(error, DelimitedError::Ambiguous { offset: 2 });
    assert_eq!(
        error.to_string(),
        "the item contains the delimiter at byte 2, so the peer would read two frames: escape it"
    );
    let mut codec = codec.keep_delimiter();
    assert_eq!(encode(&mut codec, Bytes::from("ab--")), Ok(b"ab--".to_vec()));
    for (item, error) in [
        ("", DelimitedError::Unterminated { length: 0 }),
        ("ab-", DelimitedError::Unterminated { length: 3 }),
        ("ab---", DelimitedError::Ambiguous { offset: 2 }),
        ("--ab--", DelimitedError::Ambiguous { offset: 0 }),
    ] {
        assert_eq!(encode(&mut codec, Bytes::from(item)), Err(error));
    }
}

/// The decoder decides what can be sent: checks all short items with all short delimiters.
#[test]
fn exactly_what_is_read_back_is_sent() {
    for delimiter in words(4).skip(1) {
        let mut codec = Delimited::new(&delimiter).unwrap();
        for item in words(5) {
            let wire = [&item[..], &delimiter].concat();
            let first = wire.windows(delimiter.len()).position(|window| window == delimiter).unwrap();
            let encoded = encode(&mut codec, Bytes::from(item.clone()));
            let mut keeping = codec.clone().keep_delimiter();
            let kept = encode(&mut keeping, Bytes::from(wire.clone()));
            assert_eq!(encoded, kept);
            if first == item.len() {
                assert_eq!(encoded, Ok(wire.clone()));
                assert_eq!(decode(&mut codec, usize::MAX, &wire, 1), (vec![Bytes::from(item)], Ok(())));
                assert_eq!(decode(&mut keeping, usize::MAX, &wire, 1), (vec![Bytes::from(wire)], Ok(())));
            } else {
                assert_eq!(encoded, Err(DelimitedError::Ambiguous { offset: first }));
            }
        }
    }
}

#[test]
fn lines_end_with_lf_or_crlf() {
    let wire = "one\ntwo\r\n\n\r\nth\rree\r\r\n\u{1f980}\n\rlast".as_bytes();
    for piece in 1..=wire.len() {
        let (lines, end) = decode(&mut Lines::new(), usize::MAX, wire, piece);
        assert_eq!(lines, ["one", "two", "", "", "th\rree\r", "\u{1f980}", "\rlast"]);
        assert_eq!(end, Ok(()));
    }
}

#[test]
fn the_last_line_needs_no_end() {
    for (wire, last) in
        [("", None), ("a\n", Some("a")), ("a", Some("a")), ("a\r", Some("a\r")), ("\n", Some(""))]
    {
        let (lines, end) = decode(&mut Lines::default(), usize::MAX, wire.as_bytes(), 1);
        assert_eq!((lines.last().map(String::as_str), lines.len() < 2, end), (last, true, Ok(())));
    }
    // Lines not decoded before the end come out one by one.
    let mut wire = BytesMut::from("a\r\nb\nc");
    let (mut codec, mut src) = (Lines::new(), Source::new(&mut wire));
    for line in [Some("a"), Some("b"), Some("c"), None, None] {
        assert_eq!(codec.decode_eof(&mut src).unwrap().as_deref(), line);
    }
}

#[test]
fn lines_are_utf8() {
    for piece in 1..10 {
        for wire in [&b"ok\nab\xffcd\n"[..], b"ok\nab\xff", b"ok\nab\xc3\n", b"ok\nab\xc3"] {
            let decoded = decode(&mut Lines::new(), usize::MAX, wire, piece);
            assert_eq!(decoded, (vec!["ok".to_owned()], Err(LinesError::NotUtf8 { offset: 2 })));
        }
    }
    assert_eq!(
        LinesError::NotUtf8 { offset: 2 }.to_string(),
        "a line has invalid UTF-8 at byte 2: expected UTF-8; read other encodings as bytes with \
        Delimited"
    );
}

#[test]
fn limits_count_the_end_of_a_line() {
    for piece in 1..8 {
        for (own, session) in [(5, usize::MAX), (usize::MAX, 5)] {
            let mut codec = Lines::new().max_frame(own);
            for fits in [&b"abcd\nabc\r\n"[..], b"abcd\nabcd", b"abcd\nabcde"] {
                let decoded = decode(&mut codec.clone(), session, fits, piece);
                assert_eq!((decoded.0.len(), decoded.1), (2, Ok(())));
            }
            for wire in [&b"\nabcde\n"[..], b"\nabcd\r\n", b"\nabcdef", b"\nabcdefgh\n\n"] {
                let decoded = decode(&mut codec, session, wire, piece);
                assert_eq!(decoded, (vec![String::new()], Err(LinesError::TooLong { limit: 5 })));
                codec = codec.clone();
            }
        }
    }
    assert!(encode(&mut Lines::new().max_frame(4), "abc").is_ok());
    assert_eq!(encode(&mut Lines::new().max_frame(4), "abcd"), Err(LinesError::TooLong { limit: 4 }));
    assert!(encode(&mut Lines::new().max_frame(4).crlf(), "ab").is_ok());
    assert_eq!(encode(&mut Lines::new().max_frame(4).crlf(), "abc"), Err(LinesError::TooLong { limit: 4 }));
}

#[test]
fn exactly_what_is_read_back_as_a_line_is_sent() {
    let (mut lf, mut crlf) = (Lines::new(), Lines::new().crlf());
    for word in words(5) {
        let text: String = word.iter().map(|b| [b'\r', b'\n', b'x'][usize::from(b - b'a')] as char).collect();
        for (codec, end) in [(&mut lf, "\n"), (&mut crlf, "\r\n")] {
            let wire = format!("{text}{end}").into_bytes();
            let same = decode(codec, usize::MAX, &wire, 1).0 == [&text[..]];
            assert_eq!(encode(codec, text.as_str()).ok(), same.then_some(wire), "{text:?} with {end:?}");
        }
    }
    assert_eq!(encode(&mut lf, "ab\nc".to_owned()), Err(LinesError::Newline { offset: 2 }));
    assert_eq!(encode(&mut lf, Arc::<str>::from("ab\r")), Err(LinesError::TrailingReturn));
    assert_eq!(encode(&mut crlf, "ab\r"), Ok(b"ab\r\r\n".to_vec()));
}
