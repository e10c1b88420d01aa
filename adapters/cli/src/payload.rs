//! [`Payload`]: plain WebSocket messages, or messages of a codec.

use bytes::Bytes;
use getty_driver::core::websocket::{Message, Text};

/// A message that can be made from input, printed and counted.
pub trait Payload: Sized + Send + 'static {
    /// Makes a message from a piece of standard input.
    fn from_input(bytes: Bytes) -> Result<Self, String>;

    fn bytes(&self) -> &Bytes;
}

impl Payload for Bytes {
    fn from_input(bytes: Bytes) -> Result<Self, String> {
        Ok(bytes)
    }

    fn bytes(&self) -> &Bytes {
        self
    }
}

impl Payload for Message {
    /// Makes a text message, as lines are text.
    fn from_input(bytes: Bytes) -> Result<Self, String> {
        Text::try_from(bytes).map(Message::Text).map_err(|_| {
            "a line of standard input is not UTF-8, as a text message must be: \
             --codec lines or raw sends binary ones"
                .to_owned()
        })
    }

    fn bytes(&self) -> &Bytes {
        self.as_bytes()
    }
}
