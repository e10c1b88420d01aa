//! [`Codec`]: how values become the bodies of calls. [`Raw`], `Json` and `Protobuf` are codecs.

use std::fmt::{self, Write};

use bytes::{Bytes, BytesMut};

use crate::codec::Text;
use crate::rpc::frame::CodecName;

/// A codec for the bodies of calls. The request names it, and the answer has the same one.
///
/// A codec says with [`Encode`] and [`Decode`] which types it writes and reads: [`Raw`] bytes and text,
/// `Json` (feature `json`) all types of serde, `Protobuf` (feature `protobuf`) the messages of prost. A codec
/// of your own is one more type:
///
/// ```
/// use bytes::{BufMut, Bytes, BytesMut};
/// use getty_core::rpc::{Codec, CodecError, CodecName, Decode, Encode};
///
/// /// Numbers of 4 bytes.
/// #[derive(Clone)]
/// struct Numbers;
///
/// impl Codec for Numbers {
///     fn name(&self) -> CodecName {
///         CodecName::new("numbers")
///     }
/// }
///
/// impl Encode<[u32]> for Numbers {
///     fn encode(&self, value: &[u32], dst: &mut BytesMut) -> Result<(), CodecError> {
///         value.iter().for_each(|&number| dst.put_u32(number));
///         Ok(())
///     }
/// }
///
/// impl Decode<Vec<u32>> for Numbers {
///     fn decode(&self, body: Bytes) -> Result<Vec<u32>, CodecError> {
///         if body.len() % 4 != 0 {
///             return Err(CodecError::new("expected 4 bytes for each number"));
///         }
///         Ok(body.chunks_exact(4).map(|n| u32::from_be_bytes([n[0], n[1], n[2], n[3]])).collect())
///     }
/// }
/// ```
pub trait Codec: Clone + Send + Sync + 'static {
    /// The name on the wire.
    fn name(&self) -> CodecName;
}

/// A codec that writes values of type `T`.
pub trait Encode<T: ?Sized>: Codec {
    /// Appends `value` to `dst`.
    ///
    /// # Errors
    /// [`CodecError`] says what can't be written. The caller drops what was appended. The text may quote the
    /// value: it is for this side, not for the peer.
    fn encode(&self, value: &T, dst: &mut BytesMut) -> Result<(), CodecError>;
}

/// A codec that reads values of type `T`.
pub trait Decode<T>: Codec {
    /// Reads a value that fills all of `body`. The body is the peer's, and may be anything: what it costs in
    /// time, memory and stack must be bounded by its length.
    ///
    /// # Errors
    /// [`CodecError`] says what was expected. The text may go to the peer that sent the body, and to logs: it
    /// must not quote the body.
    fn decode(&self, body: Bytes) -> Result<T, CodecError>;
}

/// A value that a codec can't write, or a body that it can't read: a text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CodecError {
    text: Box<str>,
}

impl CodecError {
    /// The length of the longest text, in bytes.
    pub const MAX_TEXT: usize = 1024;

    /// An error with this text, which is cut at [`MAX_TEXT`](Self::MAX_TEXT).
    pub fn new(text: impl fmt::Display) -> Self {
        let mut cut = Cut(String::new());
        // It fails at the limit, and nothing more is formatted.
        let _ = write!(cut, "{text}");
        CodecError { text: cut.0.into() }
    }
}

/// A text of at most [`CodecError::MAX_TEXT`] bytes.
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(CodecError::MAX_TEXT - self.0.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.push_str(&text[..end]);
        if end == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// The codec `raw`: bodies are the bytes themselves.
///
/// It reads and writes [`Bytes`] and [`Text`] (neither is copied when it is read), `Vec<u8>`, `String`, and
/// `()`, which is the empty body. Text must be UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Raw;

impl Codec for Raw {
    fn name(&self) -> CodecName {
        CodecName::Raw
    }
}

impl Encode<Bytes> for Raw {
    fn encode(&self, value: &Bytes, dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.extend_from_slice(value);
        Ok(())
    }
}

impl Decode<Bytes> for Raw {
    fn decode(&self, body: Bytes) -> Result<Bytes, CodecError> {
        Ok(body)
    }
}

impl Encode<[u8]> for Raw {
    fn encode(&self, value: &[u8], dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.extend_from_slice(value);
        Ok(())
    }
}

impl Encode<Vec<u8>> for Raw {
    fn encode(&self, value: &Vec<u8>, dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.extend_from_slice(value);
        Ok(())
    }
}

impl Decode<Vec<u8>> for Raw {
    fn decode(&self, body: Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(body.into())
    }
}

impl Encode<Text> for Raw {
    fn encode(&self, value: &Text, dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.extend_from_slice(value.as_bytes());
        Ok(())
    }
}

impl Decode<Text> for Raw {
    fn decode(&self, body: Bytes) -> Result<Text, CodecError> {
        Text::try_from(body)
            .map_err(|error| CodecError::new(format_args!("raw body: expected text, got {error}")))
    }
}

impl Encode<str> for Raw {
    fn encode(&self, value: &str, dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.extend_from_slice(value.as_bytes());
        Ok(())
    }
}

impl Encode<String> for Raw {
    fn encode(&self, value: &String, dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.extend_from_slice(value.as_bytes());
        Ok(())
    }
}

impl Decode<String> for Raw {
    fn decode(&self, body: Bytes) -> Result<String, CodecError> {
        String::from_utf8(body.into())
            .map_err(|error| CodecError::new(format_args!("raw body: expected text, got {error}")))
    }
}

impl Encode<()> for Raw {
    fn encode(&self, (): &(), _dst: &mut BytesMut) -> Result<(), CodecError> {
        Ok(())
    }
}

impl Decode<()> for Raw {
    fn decode(&self, body: Bytes) -> Result<(), CodecError> {
        if body.is_empty() {
            return Ok(());
        }
        Err(CodecError::new(format_args!("raw body: expected none, got {} bytes", body.len())))
    }
}

/// The codec `json`: JSON (RFC 8259), for every type of serde.
///
/// A body is one JSON value, with white space around it at most. `()` and `None` are `null`, not the empty
/// body, which is an error. Values may be nested 127 deep. Fields that a type does not know are ignored,
/// unless it says otherwise (`#[serde(deny_unknown_fields)]`).
///
/// An error shows the kind of a value that does not fit and its place, not the value: `invalid type: string,
/// expected u64 at line 1 column 14`. An error of a type's own `Deserialize` is shown as it is.
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl Codec for Json {
    fn name(&self) -> CodecName {
        CodecName::Json
    }
}

#[cfg(feature = "json")]
impl<T: serde::Serialize + ?Sized> Encode<T> for Json {
    fn encode(&self, value: &T, dst: &mut BytesMut) -> Result<(), CodecError> {
        serde_json::to_writer(bytes::BufMut::writer(dst), value)
            .map_err(|error| CodecError::new(format_args!("a value can't be written as JSON: {error}")))
    }
}

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned> Decode<T> for Json {
    fn decode(&self, body: Bytes) -> Result<T, CodecError> {
        if body.is_empty() {
            return Err(CodecError::new(
                "JSON body: expected a value, got no byte (`null` stands for nothing)",
            ));
        }
        serde_json::from_slice(&body)
            .map_err(|error| CodecError::new(format_args!("JSON body: {}", without_value(error.to_string()))))
    }
}

/// Takes the value out of the text of a JSON error, as in `invalid type: string "secret", expected u64`.
#[cfg(feature = "json")]
fn without_value(mut text: String) -> String {
    const SHOW_IT: [&str; 3] = ["invalid type: ", "invalid value: ", "unknown variant "];
    let begins = text.find(['`', '"']).map(|quote| text[..quote].trim_end().len());
    // There may be anything in the value, so it ends where the last expectation begins.
    let ends = text.rfind(", expected ").or_else(|| text.rfind(" at line "));
    if let (Some(begins), Some(ends)) = (begins, ends) {
        if begins < ends && SHOW_IT.iter().any(|start| text.starts_with(start)) {
            text.replace_range(begins..ends, "");
        }
    }
    text
}

/// The codec `proto`: Protobuf, for every message of prost. `()` is the empty message, and the empty body.
///
/// Fields that a message does not know are skipped. Messages may be nested 100 deep, unless a crate in the
/// program enables prost's feature `no-recursion-limit`. Fields of type [`Bytes`] are not copied when they
/// are read.
#[cfg(feature = "protobuf")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protobuf;

#[cfg(feature = "protobuf")]
impl Codec for Protobuf {
    fn name(&self) -> CodecName {
        CodecName::Protobuf
    }
}

#[cfg(feature = "protobuf")]
impl<T: prost::Message> Encode<T> for Protobuf {
    fn encode(&self, value: &T, dst: &mut BytesMut) -> Result<(), CodecError> {
        value
            .encode(dst)
            .map_err(|error| CodecError::new(format_args!("a value can't be written as Protobuf: {error}")))
    }
}

#[cfg(feature = "protobuf")]
impl<T: prost::Message + Default> Decode<T> for Protobuf {
    fn decode(&self, body: Bytes) -> Result<T, CodecError> {
        T::decode(body).map_err(|error| {
            let text = error.to_string();
            let cause = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
            // The path to the field comes first, and may be longer than a text of ours.
            let longest = CodecError::MAX_TEXT - "Protobuf body: ".len();
            let mut ends = (cause.len().saturating_sub(longest)..).filter_map(|from| cause.get(from..));
            CodecError::new(format_args!("Protobuf body: {}", ends.next().unwrap_or_default()))
        })
    }
}

#[cfg(test)]
mod tests;
