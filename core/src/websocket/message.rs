//! [`Message`]: a whole message, text or binary.

use bytes::{Bytes, BytesMut};

use crate::codec::{MessageKind, Text};

/// A message: text or binary, RFC 6455 section 5.6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text in UTF-8.
    Text(Text),
    /// Any bytes.
    Binary(Bytes),
}

impl Message {
    /// A text message.
    pub fn text(text: impl Into<Text>) -> Self {
        Message::Text(text.into())
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Message::Binary(bytes.into())
    }

    /// The payload, of either kind.
    pub fn as_bytes(&self) -> &Bytes {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// The payload, of either kind.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Message::Text(text) => text.into_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// Length of the payload in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Message::Text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Message::text(text)
    }
}

impl From<&'static str> for Message {
    fn from(text: &'static str) -> Self {
        Message::text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Message::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Message::binary(bytes)
    }
}

impl Message {
    /// Makes a message of `kind` with a validated payload.
    #[inline(always)]
    pub(crate) fn checked(kind: MessageKind, payload: BytesMut) -> Message {
        match kind {
            MessageKind::Text => Message::Text(Text::checked(payload.freeze())),
            MessageKind::Binary => Message::Binary(payload.freeze()),
        }
    }
}
