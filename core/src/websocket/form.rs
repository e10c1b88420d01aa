//! [`Form`]: the application's view of WebSocket messages.

use std::error::Error;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::BytesMut;

use super::message::Message;
use super::writer::Writer;
use super::{Packages, Part, Parts, ProtocolError, Whole};
use crate::close::CloseReason;
use crate::codec::{Decoded, Decoder, Encoder, MessageKind, Sink, Source};
use crate::error::EncodedTooLarge;
use crate::messages::{Items, Messages};

/// The application's view of WebSocket messages: [`Whole`] messages, [`Parts`], or [`Packages`] of a codec.
/// Sealed.
pub trait Form: Sealed {
    /// The application's messages.
    type Messages: Messages;

    /// Whether pieces of messages are delivered as they arrive.
    #[doc(hidden)]
    const IN_PARTS: bool = false;

    /// Converts a whole message, or a piece of one, to the application's type.
    #[doc(hidden)]
    fn receive(
        &mut self,
        kind: MessageKind,
        payload: BytesMut,
        first: bool,
        last: bool,
    ) -> Result<<Self::Messages as Messages>::In, Box<CloseReason>>;

    #[doc(hidden)]
    fn send(
        &mut self,
        item: <Self::Messages as Messages>::Out,
        writer: &mut Writer,
        dst: &mut Sink<'_>,
    ) -> Result<(), Arc<dyn Error + Send + Sync>>;

    /// The size of the payload, if that is cheap to compute.
    #[doc(hidden)]
    fn payload_len(&self, item: &<Self::Messages as Messages>::Out) -> Option<usize>;
}

/// A message received in form `F`.
pub(crate) type Received<F> = <<F as Form>::Messages as Messages>::In;

/// Seals [`Form`], so that its methods may change.
#[doc(hidden)]
pub trait Sealed {}

impl Sealed for Whole {}

impl Form for Whole {
    type Messages = Items<Message>;

    #[inline(always)]
    fn receive(
        &mut self,
        kind: MessageKind,
        payload: BytesMut,
        _: bool,
        _: bool,
    ) -> Result<Message, Box<CloseReason>> {
        Ok(Message::checked(kind, payload))
    }

    #[inline(always)]
    fn send(
        &mut self,
        message: Message,
        writer: &mut Writer,
        dst: &mut Sink<'_>,
    ) -> Result<(), Arc<dyn Error + Send + Sync>> {
        let (kind, payload) = match message {
            Message::Text(text) => (MessageKind::Text, text.into_bytes()),
            Message::Binary(bytes) => (MessageKind::Binary, bytes),
        };
        writer.message(kind, payload, dst).map_err(|error| Arc::new(error) as _)
    }

    #[inline]
    fn payload_len(&self, message: &Message) -> Option<usize> {
        Some(message.len())
    }
}

impl Sealed for Parts {}

impl Form for Parts {
    type Messages = Items<Part>;

    const IN_PARTS: bool = true;

    fn receive(
        &mut self,
        kind: MessageKind,
        payload: BytesMut,
        first: bool,
        last: bool,
    ) -> Result<Part, Box<CloseReason>> {
        Ok(Part { kind, payload: payload.freeze(), first, last })
    }

    fn send(
        &mut self,
        part: Part,
        writer: &mut Writer,
        dst: &mut Sink<'_>,
    ) -> Result<(), Arc<dyn Error + Send + Sync>> {
        writer.part(part, dst).map_err(|error| Arc::new(error) as _)
    }

    fn payload_len(&self, part: &Part) -> Option<usize> {
        Some(part.payload.len())
    }
}

impl<C, O> Packages<C, O>
where
    C: Decoder + Encoder<O>,
{
    /// Makes the form for frames of `codec`.
    pub fn new(codec: C) -> Self {
        Packages { codec, out: PhantomData }
    }
}

impl<C, O> Sealed for Packages<C, O> {}

impl<C, O> Form for Packages<C, O>
where
    C: Decoder + Encoder<O>,
{
    type Messages = Items<C::Item, O>;

    fn receive(
        &mut self,
        kind: MessageKind,
        mut payload: BytesMut,
        _: bool,
        _: bool,
    ) -> Result<C::Item, Box<CloseReason>> {
        if !self.codec.accept_kind(kind) {
            let refused = match kind {
                MessageKind::Text => ProtocolError::Text,
                MessageKind::Binary => ProtocolError::Binary,
            };
            return Err(refused.into());
        }
        let bytes = payload.len();
        // The message's size has been checked. A limit here would turn a line without its end into one that
        // is too long.
        let mut src = Source::new(&mut payload);
        let codec = |error| Box::new(CloseReason::Codec(Arc::new(error)));
        let mut package = self.codec.decode(&mut src).map_err(codec)?;
        if let Decoded::Need(_) = package {
            // The end of the message is the end of the input, for example of a last line.
            if let Some(item) = self.codec.decode_eof(&mut src).map_err(codec)? {
                package = Decoded::Frame(item);
            }
        }
        match package {
            Decoded::Frame(item) if src.is_empty() => Ok(item),
            _ => Err(ProtocolError::Package { bytes }.into()),
        }
    }

    fn send(
        &mut self,
        item: O,
        writer: &mut Writer,
        dst: &mut Sink<'_>,
    ) -> Result<(), Arc<dyn Error + Send + Sync>> {
        let codec = &mut self.codec;
        let kind = codec.kind(&item);
        if writer.compresses() || kind == MessageKind::Text {
            let mut package = BytesMut::new();
            if let Err(error) = codec.encode(item, &mut Sink::new(&mut package)) {
                return Err(Arc::new(error));
            }
            let (bytes, limit) = (package.len(), writer.limit());
            if bytes > limit {
                return Err(Arc::new(EncodedTooLarge { bytes, limit }));
            }
            if kind == MessageKind::Text && std::str::from_utf8(&package).is_err() {
                return Err(Arc::new(NotUtf8));
            }
            return writer.message(kind, package.freeze(), dst).map_err(|error| Arc::new(error) as _);
        }
        writer.binary(dst, |dst| codec.encode(item, dst)).map_err(|error| Arc::new(error) as _)
    }

    fn payload_len(&self, item: &O) -> Option<usize> {
        self.codec.encoded_len(item)
    }
}

/// A codec encoded a text message that is not UTF-8.
#[derive(Debug, thiserror::Error)]
#[error("the codec's text is not UTF-8: a text message must be (Encoder::kind)")]
struct NotUtf8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{LengthDelimited, Lines};

    fn receive<C: Decoder + Encoder<O>, O>(codec: C, package: &[u8]) -> Result<C::Item, Box<CloseReason>> {
        Packages::new(codec).receive(MessageKind::Binary, package.into(), true, true)
    }

    #[test]
    fn the_end_of_the_message_ends_the_last_line() {
        for (package, line) in [("ab\n", "ab"), ("ab", "ab"), ("\n", "")] {
            assert_eq!(receive::<_, String>(Lines::new(), package.as_bytes()).unwrap(), line);
        }
    }

    #[test]
    fn a_message_holds_one_package() {
        assert_eq!(receive(LengthDelimited::new(), b"\0\0\0\x01a").unwrap(), "a");
        for package in [&b""[..], b"\0\0\0\x02a", b"\0\0\0\x01ab"] {
            let bytes = package.len();
            let refused = *receive(LengthDelimited::new(), package).unwrap_err();
            assert!(matches!(
                refused,
                CloseReason::Protocol(ProtocolError::Package { bytes: reported }) if reported == bytes
            ));
        }
    }
}
