//! [`Protocol`]: the format of the application's messages on the wire.

use std::error::Error;
use std::io;
use std::sync::Arc;

use super::due::Due;
use super::host::Host;
use crate::close::CloseReason;
use crate::codec::{Decoded, Sink, Source};
use crate::config::Config;
use crate::event::Opened;
use crate::layer::Layer;
use crate::messages::Messages;
#[cfg(feature = "websocket")]
use crate::upgrade::{Request, RespondError, Verdict};

/// A received message of protocol `P`.
pub type In<P> = <<P as Protocol>::Messages as Messages>::In;

/// A message to send over protocol `P`.
pub type Out<P> = <<P as Protocol>::Messages as Messages>::Out;

/// The format of messages on a stream of bytes. Sealed: implemented for [`Framed`](crate::Framed), for
/// `WebSocket` (feature `websocket`), and for [`Layered`](crate::Layered) over either.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol",
    note = "`Framed::new` makes a protocol of a codec, and `framed` of a function that makes codecs"
)]
pub trait Protocol: Sealed + Sized {
    /// The application's messages.
    type Messages: Messages;

    /// The protocol on top of the layer `L`. If it already has a layer, `L` goes below that one, and the two
    /// become one [`Stack`](crate::layer::Stack): a session has one layer.
    type Under<L: Layer>: Protocol<Messages = Self::Messages>;

    /// Puts `layer` below the protocol.
    fn under<L: Layer>(self, layer: L) -> Self::Under<L>;

    /// Consumes one message or control frame from `src`, if a whole one is there.
    #[doc(hidden)]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Found<In<Self>>, Box<CloseReason>>;

    /// Consumes one message from the rest of the stream at its end, if there is one.
    #[doc(hidden)]
    fn decode_eof(&mut self, src: &mut Source<'_>) -> Result<Option<In<Self>>, Box<CloseReason>>;

    /// Writes one message to `dst`, or takes it to write it later; see [`encoding`](Self::encoding).
    #[doc(hidden)]
    fn encode(&mut self, item: Out<Self>, dst: &mut Sink<'_>) -> Result<(), Arc<dyn Error + Send + Sync>>;

    /// The size that `encode` will write, if that is cheap to compute.
    #[doc(hidden)]
    fn encoded_len(&self, item: &Out<Self>) -> Option<usize>;

    /// The size of a message that `encode` took and has not written yet, because encoding takes long. The
    /// session calls [`continue_encoding`](Self::continue_encoding) until it is written, and sends no other
    /// message before.
    #[doc(hidden)]
    #[inline]
    fn encoding(&self) -> Option<usize> {
        None
    }

    /// Goes on with the message that `encode` took, for a short while. Writes it to `dst` when it is done.
    #[doc(hidden)]
    fn continue_encoding(&mut self, _dst: &mut Sink<'_>) {}

    /// Drops that message: the session is over.
    #[doc(hidden)]
    fn drop_encoding(&mut self) {}

    /// The largest message to send, in bytes on the wire.
    #[doc(hidden)]
    fn max_sent(&self, config: &Config) -> usize {
        config.max_frame()
    }

    /// Whether the protocol decodes parts of a message before the whole has come, so that
    /// [`unfinished`](Self::unfinished) matters.
    #[doc(hidden)]
    const HAS_UNFINISHED: bool = false;

    /// Whether a message that was decoded may be the beginning of something that is
    /// [`unfinished`](Self::unfinished).
    #[doc(hidden)]
    const IN_PARTS: bool = false;

    /// The unfinished message beyond the bytes that wait to be decoded. The session sets it a deadline.
    #[doc(hidden)]
    fn unfinished(&mut self) -> Option<Unfinished> {
        None
    }

    /// The value of [`Work::bytes`](crate::Work::bytes).
    #[doc(hidden)]
    #[inline]
    fn worked(&self) -> u64 {
        0
    }

    /// The layer below, which transforms all bytes.
    #[doc(hidden)]
    fn layer(&mut self) -> Option<&mut dyn Layer> {
        None
    }

    /// Begins the session. A protocol with its own handshakes or pings declares them to `host`.
    #[doc(hidden)]
    fn begin(&mut self, _host: &mut Host<'_>) {}

    /// Acts on the control frame that `decode` found.
    #[doc(hidden)]
    fn handle_control(&mut self, _host: &mut Host<'_>) {}

    /// Writes what is due.
    #[doc(hidden)]
    fn write_due(&mut self, _host: &mut Host<'_>, _due: Due) {}

    /// The facts that [`Event::Open`](crate::Event::Open) reports.
    #[doc(hidden)]
    fn opened(&mut self) -> Box<Opened> {
        Box::default()
    }

    /// Takes the request that waits for a verdict.
    #[cfg(feature = "websocket")]
    #[doc(hidden)]
    fn request(&mut self) -> Option<Arc<Request>> {
        None
    }

    /// Answers the pending request.
    #[cfg(feature = "websocket")]
    #[doc(hidden)]
    fn respond(&mut self, _host: &mut Host<'_>, _verdict: Verdict) -> Result<(), RespondError> {
        Err(RespondError::NotAsked)
    }
}

/// What a function that makes protocols returns: a [`Protocol`], or an [`io::Result`] of one where that can
/// fail.
pub trait IntoProtocol {
    /// The protocol.
    type Protocol: Protocol;

    /// The protocol.
    ///
    /// # Errors
    /// The function could not make it.
    fn into_protocol(self) -> io::Result<Self::Protocol>;
}

impl<P: Protocol> IntoProtocol for P {
    type Protocol = P;

    fn into_protocol(self) -> io::Result<P> {
        Ok(self)
    }
}

impl<P: Protocol> IntoProtocol for io::Result<P> {
    type Protocol = P;

    fn into_protocol(self) -> io::Result<P> {
        self
    }
}

/// A message that is partly decoded and whose rest has yet to come.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Unfinished {
    /// It began after the last call, which returned another message.
    pub begun: bool,
    /// Number of its bytes already decoded.
    pub bytes: u64,
}

/// The result of decoding received bytes.
#[doc(hidden)]
#[derive(Debug)]
pub enum Found<T> {
    /// A message.
    Message(T),
    /// Something other than a message, for [`Protocol::handle_control`] to act on.
    Control,
    /// Nothing whole: at least this many more bytes are needed.
    Need(usize),
}

impl<T> Found<T> {
    /// Drops the message and keeps the rest.
    pub(crate) fn erase(self) -> Found<()> {
        match self {
            Found::Message(_) => Found::Message(()),
            Found::Control => Found::Control,
            Found::Need(more) => Found::Need(more),
        }
    }
}

impl<T> From<Decoded<T>> for Found<T> {
    #[inline]
    fn from(decoded: Decoded<T>) -> Self {
        match decoded {
            Decoded::Frame(message) => Found::Message(message),
            Decoded::Need(more) => Found::Need(more),
        }
    }
}

/// Seals [`Protocol`], so that its methods may change.
#[doc(hidden)]
pub trait Sealed {}
