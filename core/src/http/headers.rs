//! Header fields, received and to be sent.

use std::fmt;
use std::str;

use bytes::BytesMut;

use crate::hidden::Hidden;

/// The headers of a request or a response, in the order received.
///
/// Names are compared without regard to case. Values have no surrounding spaces and no control characters
/// except tabs. Bytes above 127 can be anything, and need not be UTF-8.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    fields: Vec<Field>,
}

#[derive(Clone, PartialEq, Eq)]
struct Field {
    name: Box<str>,
    value: Box<[u8]>,
}

impl Headers {
    /// The first value of this name, if there is one and it is UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().and_then(|value| str::from_utf8(value).ok())
    }

    /// All values of this name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All names and values, in order. The case of names is as received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (&*field.name, &*field.value))
    }

    /// Whether `token` is in one of the comma-separated lists of this name. Tokens are compared without
    /// regard to case.
    pub fn contains_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Adds a header to send. Refuses everything that could change the meaning of a message: line ends and
    /// other control characters, and headers that `is_owned` by the protocol.
    pub(crate) fn push(
        &mut self,
        name: &str,
        value: &str,
        is_owned: impl Fn(&str) -> bool,
    ) -> Result<(), HeaderError> {
        if !is_token(name.as_bytes()) {
            return Err(HeaderError::Name { name: name.to_owned() });
        }
        if is_owned(name) {
            return Err(HeaderError::Owned { name: name.to_owned() });
        }
        check_value(name, value)?;
        self.push_received(name, value.as_bytes());
        Ok(())
    }

    /// Adds a received header, which is well-formed.
    pub(crate) fn push_received(&mut self, name: &str, value: &[u8]) {
        self.fields.push(Field { name: name.into(), value: value.into() });
    }

    pub(crate) fn write(&self, out: &mut BytesMut) {
        for (name, value) in self.iter() {
            put_header(out, name, value);
        }
    }
}

/// Hides the values of secret headers: `Authorization`, `Cookie`, `Set-Cookie`, and others with similar
/// names.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in self.iter() {
            if is_secret(name) {
                map.entry(&name, &Hidden);
            } else {
                map.entry(&name, &String::from_utf8_lossy(value));
            }
        }
        map.finish()
    }
}

/// Whether the name suggests a secret. Browsers can send a token only as a sub-protocol.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 10] =
        ["auth", "cookie", "credential", "key", "passw", "secret", "session", "signature", "token", "ticket"];
    let name = name.to_ascii_lowercase();
    name == "sec-websocket-protocol" || PARTS.iter().any(|part| name.contains(part))
}

/// Errors of adding a header to send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is not a token (RFC 9110 section 5.1).
    #[error("{name:?} is not a header name: expected letters, digits and !#$%&'*+-.^_`|~")]
    Name {
        /// The name.
        name: String,
    },
    /// The value has a control character.
    #[error(
        "the value of the header {name} has a control character, {byte:#04x} at byte {at}: expected one \
        line of text"
    )]
    Value {
        /// The header's name.
        name: String,
        /// The control character.
        byte: u8,
        /// Its position in the value.
        at: usize,
    },
    /// The protocol sets this header, or does not allow it.
    #[error("the header {name} belongs to the protocol: leave it out, or use the method that sets it")]
    Owned {
        /// The header's name.
        name: String,
    },
}

/// The elements of all comma-separated lists of this name.
pub(crate) fn elements<'a>(headers: &'a Headers, name: &str) -> impl Iterator<Item = &'a str> {
    headers.all(name).filter_map(|value| str::from_utf8(value).ok()).flat_map(list)
}

/// The elements of a comma-separated list. Empty ones are skipped (RFC 9110 section 5.6.1.2).
pub(crate) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|element| element.trim_matches([' ', '\t'])).filter(|element| !element.is_empty())
}

/// The values of this name that are non-empty lists.
pub(crate) fn lists<'a>(headers: &'a Headers, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .all(name)
        .filter_map(|value| str::from_utf8(value).ok())
        .filter(|value| list(value).next().is_some())
}

/// Whether `text` is a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_byte)
}

pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Checks that `value` can be sent as the value of the header `name`.
pub(crate) fn check_value(name: &str, value: &str) -> Result<(), HeaderError> {
    match value.bytes().enumerate().find(|&(_, byte)| byte.is_ascii_control() && byte != b'\t') {
        Some((at, byte)) => Err(HeaderError::Value { name: name.to_owned(), byte, at }),
        None => Ok(()),
    }
}

/// Writes one header line.
pub(crate) fn put_header(out: &mut BytesMut, name: &str, value: impl AsRef<[u8]>) {
    for part in [name.as_bytes(), b": ", value.as_ref(), b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &[u8])]) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push_received(name, value);
        }
        headers
    }

    #[test]
    fn are_found_by_name_in_any_case() {
        let headers = headers(&[("X-One", b"1"), ("x-two", b"2"), ("X-ONE", b"3"), ("X-Bytes", b"\xff")]);
        assert_eq!(headers.get("x-one"), Some("1"));
        assert_eq!(headers.all("x-One").collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!((headers.get("X-Bytes"), headers.all("X-Bytes").next()), (None, Some(&b"\xff"[..])));
        assert_eq!(headers.get("X"), None);
        assert_eq!(
            headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["X-One", "x-two", "X-ONE", "X-Bytes"]
        );
        assert_eq!(format!("{headers:?}"), r#"{"X-One": "1", "x-two": "2", "X-ONE": "3", "X-Bytes": "�"}"#);
    }

    #[test]
    fn tokens_are_found_in_all_lists() {
        let headers = headers(&[("Connection", b"keep-alive ,\tUpGrade"), ("connection", b"\xff, close,,")]);
        for (token, found) in [("upgrade", true), ("keep-alive", true), ("CLOSE", true), ("keep", false)] {
            assert_eq!(headers.contains_token("Connection", token), found, "{token}");
        }
        assert!(!headers.contains_token("Upgrade", "upgrade"));
    }

    #[test]
    fn what_could_split_a_message_can_not_be_sent() {
        let mut headers = Headers::default();
        for value in ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "\0", "a\x7f", "a\x1b[0m", "a\x0b"] {
            assert!(
                matches!(headers.push("X-Value", value, |_| false), Err(HeaderError::Value { .. })),
                "{value:?}"
            );
        }
        for name in ["", "X Y", "X:", "X\r\nY", "X\0", "Grün", "(x)"] {
            assert!(matches!(headers.push(name, "1", |_| false), Err(HeaderError::Name { .. })), "{name:?}");
        }
        let owned = headers.push("Host", "1", |name| name.eq_ignore_ascii_case("host"));
        assert_eq!(owned, Err(HeaderError::Owned { name: "Host".to_owned() }));
        assert_eq!(headers.iter().count(), 0);

        headers.push("Set-Cookie", "a=b; Path=/\twith a tab", |_| false).unwrap();
        headers.push("X-Name", "Grün", |_| false).unwrap();
        let mut out = BytesMut::new();
        headers.write(&mut out);
        assert_eq!(&out[..], "Set-Cookie: a=b; Path=/\twith a tab\r\nX-Name: Grün\r\n".as_bytes());
    }
}
