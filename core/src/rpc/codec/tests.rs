use std::fmt::Debug;

use super::*;

fn encode<C: Encode<T>, T: ?Sized>(codec: C, value: &T) -> Vec<u8> {
    let mut dst = BytesMut::from(&b"before"[..]);
    codec.encode(value, &mut dst).unwrap();
    assert_eq!(dst[..6], *b"before");
    dst[6..].to_vec()
}

fn decode<T>(codec: impl Decode<T>, body: impl AsRef<[u8]>) -> Result<T, String> {
    codec.decode(Bytes::copy_from_slice(body.as_ref())).map_err(|error| error.to_string())
}

#[track_caller]
fn round_trip<C: Encode<T> + Decode<T>, T: PartialEq + Debug>(codec: C, value: T, body: &[u8]) {
    assert_eq!(encode(codec.clone(), &value), body);
    assert_eq!(decode(codec, body), Ok(value));
}

#[test]
fn raw_bodies_are_the_bytes() {
    assert_eq!(Raw.name().as_str(), "raw");
    for body in [&b""[..], b"\x00\xff", b"text"] {
        round_trip(Raw, Bytes::from(body), body);
        round_trip(Raw, body.to_vec(), body);
    }
    for text in ["", "text", "\u{fc}"] {
        round_trip(Raw, text.to_owned(), text.as_bytes());
        round_trip(Raw, Text::from(text), text.as_bytes());
    }
    round_trip(Raw, (), b"");
}

#[test]
fn raw_bytes_and_texts_are_not_copied() {
    let body = Bytes::from(b"text".to_vec());
    let bytes: Bytes = Raw.decode(body.clone()).unwrap();
    let text: Text = Raw.decode(body.clone()).unwrap();
    assert_eq!(bytes.as_ptr(), body.as_ptr());
    assert_eq!(text.as_bytes().as_ptr(), body.as_ptr());
}

#[test]
fn raw_bodies_that_do_not_fit_are_refused() {
    let error = "raw body: expected text, got invalid utf-8 sequence of 1 bytes from index 1";
    assert_eq!(decode::<String>(Raw, b"a\xff"), Err(error.into()));
    assert_eq!(decode::<Text>(Raw, b"a\xff"), Err(error.into()));
    assert_eq!(decode::<()>(Raw, b"a"), Err("raw body: expected none, got 1 bytes".into()));
}

#[test]
fn a_text_is_cut_at_its_limit_between_characters() {
    let text = |text: String| CodecError::new(text).to_string();
    assert_eq!(text("x".repeat(1024)), "x".repeat(1024));
    assert_eq!(text("x".repeat(1025)), "x".repeat(1024));
    assert_eq!(text("\u{20ac}".repeat(1000)), "\u{20ac}".repeat(341));
    // What comes after the limit is not even formatted.
    struct Endless;
    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("again ")?;
            }
        }
    }
    assert_eq!(CodecError::new(Endless).to_string().len(), 1024);
}

#[cfg(feature = "json")]
mod json {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Line {
        author: String,
        at: u64,
        tags: Vec<String>,
        reply_to: Option<u64>,
    }

    fn line() -> Line {
        Line { author: "a\"b\n\u{fc}".into(), at: 7, tags: vec!["x".into(), "y".into()], reply_to: None }
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Color {
        Red,
        Mixed(u8, u8),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        limit: u64,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct List {
        next: Option<Box<List>>,
    }

    #[test]
    fn values_are_what_serde_json_reads_and_writes() {
        assert_eq!(Json.name().as_str(), "json");
        round_trip(Json, (1_i64, -2_i64), b"[1,-2]");
        round_trip(Json, Color::Red, br#""red""#);
        round_trip(Json, Color::Mixed(1, 2), br#"{"mixed":[1,2]}"#);
        round_trip(Json, "a\u{0}\"".to_owned(), br#""a\u0000\"""#);
        round_trip(Json, (), b"null");
        round_trip(Json, None::<u64>, b"null");
        round_trip(Json, line(), &serde_json::to_vec(&line()).unwrap());
        assert_eq!(encode(Json, "borrowed"), b"\"borrowed\"");
        assert_eq!(encode(Json, &[1, 2][..]), b"[1,2]");
        let value =
            serde_json::json!({ "reply_to": 3, "at": 1, "tags": [], "more": {}, "author": "\u{10348}" });
        let expected = Line { author: "\u{10348}".into(), at: 1, tags: vec![], reply_to: Some(3) };
        assert_eq!(decode(Json, value.to_string()), Ok(expected));
        assert_eq!(decode(Json, " \r\n\t[1, 2 ] "), Ok((1, 2)));
    }

    #[track_caller]
    fn refused<T: serde::de::DeserializeOwned + Debug + PartialEq>(body: impl AsRef<[u8]>, error: &str) {
        assert_eq!(decode::<T>(Json, body), Err(format!("JSON body: {error}")));
    }

    #[test]
    fn an_error_says_what_was_expected_where_and_not_what_the_value_was() {
        refused::<(i64, i64)>(r#"["secret",2]"#, "invalid type: string, expected i64 at line 1 column 9");
        refused::<u8>("300", "invalid value: integer, expected u8 at line 1 column 3");
        refused::<u8>("1.5", "invalid type: floating point, expected u8 at line 1 column 3");
        refused::<u8>("true", "invalid type: boolean, expected u8 at line 1 column 4");
        refused::<u8>("{}", "invalid type: map, expected u8 at line 1 column 0");
        refused::<()>("[]", "invalid type: sequence, expected unit at line 1 column 0");
        refused::<u8>("null", "invalid type: null, expected u8 at line 1 column 4");
        refused::<Color>("\"secret\"", "unknown variant, expected `red` or `mixed` at line 1 column 8");
        refused::<Color>(
            "{\"mixed\":[1]}",
            "invalid length 1, expected tuple variant Color::Mixed with 2 elements at line 1 column 12",
        );
        refused::<Strict>("{}", "missing field `limit` at line 1 column 2");
        refused::<Strict>(r#"{"limti":1}"#, "unknown field `limti`, expected `limit` at line 1 column 8");
        // A value that looks like the rest of an error.
        let body = r#""x\", expected ` at line 1 secret""#;
        refused::<u8>(body, "invalid type: string, expected u8 at line 1 column 34");
    }

    #[test]
    fn a_body_is_one_value() {
        refused::<u8>("", "expected a value, got no byte (`null` stands for nothing)");
        refused::<()>("", "expected a value, got no byte (`null` stands for nothing)");
        refused::<u8>(" ", "EOF while parsing a value at line 1 column 1");
        refused::<u8>("1 2", "trailing characters at line 1 column 3");
        refused::<u8>("1\0", "trailing characters at line 1 column 2");
        refused::<Vec<u8>>("[1,2]]", "trailing characters at line 1 column 6");
        refused::<Vec<u8>>("[1,2", "EOF while parsing a list at line 1 column 4");
        refused::<String>(b"\"\xff\"", "invalid unicode code point at line 1 column 2");
        let body = serde_json::to_vec(&line()).unwrap();
        for end in 0..body.len() {
            decode::<Line>(Json, &body[..end]).unwrap_err();
        }
    }

    #[test]
    fn values_nested_too_deep_are_refused_whatever_the_type() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        decode::<serde_json::Value>(Json, nested(127)).unwrap();
        refused::<serde_json::Value>(nested(128), "recursion limit exceeded at line 1 column 128");
        refused::<serde_json::Value>(nested(10_000), "recursion limit exceeded at line 1 column 128");
        let nested = r#"{"next":"#.repeat(10_000) + "null" + &"}".repeat(10_000);
        refused::<List>(&nested, "recursion limit exceeded at line 1 column 1017");
        // A field that nobody knows is skipped, however deep it is.
        let nested = format!(r#"{{"x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(decode(Json, nested), Ok(List { next: None }));
    }

    #[test]
    fn what_json_has_no_form_for_is_an_error() {
        let error = Json.encode(&BTreeMap::from([((1, 2), 3)]), &mut BytesMut::new()).unwrap_err();
        assert_eq!(error.to_string(), "a value can't be written as JSON: key must be a string");
    }
}

#[cfg(feature = "protobuf")]
mod protobuf {
    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Line {
        #[prost(string, tag = "1")]
        author: String,
        #[prost(uint64, tag = "2")]
        at: u64,
        #[prost(bytes = "bytes", tag = "3")]
        image: Bytes,
        #[prost(message, optional, boxed, tag = "4")]
        reply_to: Option<Box<Line>>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Older {
        #[prost(uint64, tag = "2")]
        at: u64,
    }

    fn line() -> Line {
        let reply_to = Some(Box::new(Line { author: "b".into(), at: 1, ..Line::default() }));
        Line { author: "a".into(), at: 300, image: Bytes::from_static(b"png"), reply_to }
    }

    #[track_caller]
    fn refused<T: Message + Default + PartialEq + Debug>(body: impl AsRef<[u8]>, error: &str) {
        assert_eq!(decode::<T>(Protobuf, body), Err(format!("Protobuf body: {error}")));
    }

    #[test]
    fn messages_are_what_prost_reads_and_writes() {
        assert_eq!(Protobuf.name().as_str(), "proto");
        round_trip(Protobuf, line(), b"\x0a\x01a\x10\xac\x02\x1a\x03png\x22\x05\x0a\x01b\x10\x01");
        round_trip(Protobuf, line(), &line().encode_to_vec());
        round_trip(Protobuf, Line::default(), b"");
        round_trip(Protobuf, (), b"");
        assert_eq!(
            decode(Protobuf, line().encode_to_vec()),
            Ok(Older { at: 300 }),
            "unknown fields are skipped"
        );
        assert_eq!(decode(Protobuf, line().encode_to_vec()), Ok(()));
    }

    #[test]
    fn fields_of_bytes_are_not_copied() {
        let body = Bytes::from(line().encode_to_vec());
        let line: Line = Protobuf.decode(body.clone()).unwrap();
        assert!(body.as_ptr_range().contains(&line.image.as_ptr()));
    }

    #[test]
    fn a_message_that_breaks_off_or_goes_on_is_refused() {
        let body = line().encode_to_vec();
        // It may end between two fields: they are all optional.
        let between = [0, 3, 6, 11];
        for end in 0..body.len() {
            let decoded = decode::<Line>(Protobuf, &body[..end]);
            assert_eq!(decoded.is_ok(), between.contains(&end), "{end}: {decoded:?}");
        }
        refused::<Line>(&body[..2], "Line.author: buffer underflow");
        refused::<Line>([&body[..], &[0]].concat(), "invalid tag value: 0");
        refused::<Line>([&body[..], b"\x0f"].concat(), "invalid wire type value: 7");
        refused::<()>(b"\x0c", "unexpected end group tag");
    }

    #[test]
    fn an_error_names_the_field_and_not_the_value() {
        refused::<Line>(b"\x08\x07", "Line.author: invalid wire type: Varint (expected LengthDelimited)");
        refused::<Line>(b"\x0a\x02a\xff", "Line.author: invalid string value: data is not UTF-8 encoded");
        refused::<Line>(b"\x0a\xff\xff\xff\xff\x0f", "Line.author: buffer underflow");
    }

    #[test]
    fn messages_nested_too_deep_are_refused() {
        let nested = |depth| {
            (0..depth).fold(Vec::new(), |inner, _| {
                let mut outer = b"\x22".to_vec();
                prost::encode_length_delimiter(inner.len(), &mut outer).unwrap();
                [outer, inner].concat()
            })
        };
        decode::<Line>(Protobuf, nested(100)).unwrap();
        let error = decode::<Line>(Protobuf, nested(1_000)).unwrap_err();
        assert!(error.ends_with("Line.reply_to: recursion limit reached"), "{error}");
        assert_eq!(error.len(), CodecError::MAX_TEXT);
        // Groups that the message does not know nest too.
        let groups = [b"\x2b".repeat(10_000), b"\x2c".repeat(10_000)].concat();
        refused::<Line>(groups, "recursion limit reached");
    }
}
