//! [`Form`]: how what is typed becomes the body of a call, and a body what is printed.

use bytes::{Bytes, BytesMut};
use getty_driver::rpc::{Codec, CodecError, CodecName, Decode, Encode};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde_json::value::RawValue;

/// The codec of a call, for values in JSON.
#[derive(Clone)]
pub enum Form {
    Json,
    /// Values are bytes, not JSON.
    Raw,
    Proto(MethodDescriptor),
}

/// A value as it is printed: one line, without its end.
pub struct Printed(pub Bytes);

impl Form {
    /// Makes a body of a value.
    ///
    /// # Errors
    /// A text that says what is wrong with the value.
    pub fn body(&self, value: &[u8]) -> Result<Bytes, String> {
        match self {
            Form::Json => match serde_json::from_slice::<&RawValue>(value) {
                Ok(value) => Ok(Bytes::copy_from_slice(value.get().as_bytes())),
                Err(error) => Err(format!("not JSON: {error}")),
            },
            Form::Raw => Ok(Bytes::copy_from_slice(value)),
            Form::Proto(method) => {
                let message = from_json(method.input(), value)
                    .map_err(|error| format!("not a {}: {error}", method.input().full_name()))?;
                Ok(message.encode_to_vec().into())
            }
        }
    }

    /// The value of a call that was given none.
    pub fn nothing(&self) -> &'static str {
        match self {
            Form::Json => "null",
            Form::Raw => "",
            Form::Proto(_) => "{}",
        }
    }
}

impl Codec for Form {
    fn name(&self) -> CodecName {
        match self {
            Form::Json => CodecName::Json,
            Form::Raw => CodecName::Raw,
            Form::Proto(_) => CodecName::Protobuf,
        }
    }
}

/// Takes bodies that are made.
impl Encode<Bytes> for Form {
    fn encode(&self, body: &Bytes, dst: &mut BytesMut) -> Result<(), CodecError> {
        dst.extend_from_slice(body);
        Ok(())
    }
}

impl Decode<Printed> for Form {
    fn decode(&self, body: Bytes) -> Result<Printed, CodecError> {
        Ok(Printed(match self {
            Form::Json => {
                let value: &RawValue = serde_json::from_slice(&body)
                    .map_err(|error| CodecError::new(format_args!("not JSON: {error}")))?;
                on_one_line(value.get()).into()
            }
            Form::Raw => body,
            Form::Proto(method) => to_json(method.output(), body)?.into(),
        }))
    }
}

fn from_json(kind: MessageDescriptor, value: &[u8]) -> serde_json::Result<DynamicMessage> {
    let mut reader = serde_json::Deserializer::from_slice(value);
    let message = DynamicMessage::deserialize(kind, &mut reader)?;
    reader.end()?;
    Ok(message)
}

fn to_json(kind: MessageDescriptor, body: Bytes) -> Result<Vec<u8>, CodecError> {
    let message = DynamicMessage::decode(kind, body).map_err(CodecError::new)?;
    serde_json::to_vec(&message).map_err(CodecError::new)
}

/// Takes the white space between the parts of `json` out. Numbers and the order of fields stay as they are.
fn on_one_line(json: &str) -> Vec<u8> {
    let (mut in_text, mut escaped) = (false, false);
    let stays = |byte: &u8| {
        match (in_text, escaped, byte) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (_, _, b'"') => in_text = !in_text,
            _ => {}
        }
        in_text || !byte.is_ascii_whitespace()
    };
    json.bytes().filter(stays).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_printed_on_one_line_and_else_as_it_is() {
        let json = "{ \"b\" : [ 1.50 ,\r\n\t12345678901234567890123 ] , \"a \\\" \\\\\" : \" x \" }";
        let printed = Form::Json.decode(Bytes::from(json)).unwrap();
        assert_eq!(printed.0, "{\"b\":[1.50,12345678901234567890123],\"a \\\" \\\\\":\" x \"}");
        assert_eq!(Form::Json.body(b" {} ").unwrap(), "{}");
        assert_eq!(Form::Raw.body(b" {} ").unwrap(), " {} ");
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert!(Form::Json.body(b"{").unwrap_err().starts_with("not JSON: EOF"));
        assert!(Form::Json.body(b"{} {}").unwrap_err().contains("trailing characters"));
        assert!(Form::Json.decode(Bytes::from("{")).is_err());
    }
}
