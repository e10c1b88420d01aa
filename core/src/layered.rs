//! [`Layered`]: a protocol on top of a layer.

use std::error::Error;
use std::sync::Arc;

use crate::close::CloseReason;
use crate::codec::{Sink, Source};
use crate::config::Config;
use crate::event::Opened;
use crate::layer::{Layer, Stack};
use crate::session::{Due, Found, Host, In, Out, Protocol, Sealed, Unfinished};
#[cfg(feature = "websocket")]
use crate::upgrade::{Request, RespondError, Verdict};

/// The protocol `P` on top of the layer `L`, made by [`Protocol::under`].
#[derive(Debug, Clone, Default)]
pub struct Layered<L, P> {
    layer: L,
    protocol: P,
}

impl<L, P> Layered<L, P> {
    /// Puts `protocol`, which must not have a layer, on top of `layer`.
    pub(crate) fn new(layer: L, protocol: P) -> Self {
        Layered { layer, protocol }
    }

    /// The layer, to look up facts about it.
    pub fn layer(&self) -> &L {
        &self.layer
    }

    /// The protocol, to look up facts about it.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }
}

impl<L, P> Sealed for Layered<L, P> {}

impl<L: Layer, P: Protocol> Protocol for Layered<L, P> {
    type Messages = P::Messages;
    type Under<B: Layer> = Layered<Stack<B, L>, P>;

    fn under<B: Layer>(self, below: B) -> Self::Under<B> {
        Layered { layer: Stack::new(below, self.layer), protocol: self.protocol }
    }

    // As in `Framed`: without inlining, messages pass through memory, with loads wider than the stores before
    // them.
    #[inline(always)]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Found<In<Self>>, Box<CloseReason>> {
        self.protocol.decode(src)
    }

    fn decode_eof(&mut self, src: &mut Source<'_>) -> Result<Option<In<Self>>, Box<CloseReason>> {
        self.protocol.decode_eof(src)
    }

    #[inline(always)]
    fn encode(&mut self, item: Out<Self>, dst: &mut Sink<'_>) -> Result<(), Arc<dyn Error + Send + Sync>> {
        self.protocol.encode(item, dst)
    }

    #[inline]
    fn encoded_len(&self, item: &Out<Self>) -> Option<usize> {
        self.protocol.encoded_len(item)
    }

    #[inline]
    fn encoding(&self) -> Option<usize> {
        self.protocol.encoding()
    }

    fn continue_encoding(&mut self, dst: &mut Sink<'_>) {
        self.protocol.continue_encoding(dst);
    }

    fn drop_encoding(&mut self) {
        self.protocol.drop_encoding();
    }

    fn max_sent(&self, config: &Config) -> usize {
        self.protocol.max_sent(config)
    }

    const HAS_UNFINISHED: bool = P::HAS_UNFINISHED;
    const IN_PARTS: bool = P::IN_PARTS;

    fn unfinished(&mut self) -> Option<Unfinished> {
        self.protocol.unfinished()
    }

    #[inline]
    fn worked(&self) -> u64 {
        self.layer.worked() + self.protocol.worked()
    }

    fn layer(&mut self) -> Option<&mut dyn Layer> {
        self.layer.as_layer()
    }

    fn begin(&mut self, host: &mut Host<'_>) {
        self.protocol.begin(host);
    }

    fn handle_control(&mut self, host: &mut Host<'_>) {
        self.protocol.handle_control(host);
    }

    fn write_due(&mut self, host: &mut Host<'_>, due: Due) {
        self.protocol.write_due(host, due);
    }

    fn opened(&mut self) -> Box<Opened> {
        let mut opened = self.protocol.opened();
        self.layer.describe(&mut opened);
        opened
    }

    #[cfg(feature = "websocket")]
    fn request(&mut self) -> Option<Arc<Request>> {
        self.protocol.request()
    }

    #[cfg(feature = "websocket")]
    fn respond(&mut self, host: &mut Host<'_>, verdict: Verdict) -> Result<(), RespondError> {
        self.protocol.respond(host, verdict)
    }
}
