//! [`Layered`]: a protocol on top of a layer.

use std::error::Error;
use std::sync::Arc;

use super::Layer;
use crate::close::CloseReason;
use crate::codec::{Sink, Source};
use crate::config::Config;
use crate::event::Opened;
use crate::protocol::{Found, In, Out, Protocol, Sealed, StreamProtocol, Unfinished};
use crate::session::Inner;

/// The stream protocol `P` on top of the layer `L`.
#[derive(Debug, Clone, Default)]
pub struct Layered<L, P> {
    layer: L,
    protocol: P,
}

impl<L: Layer, P: StreamProtocol> Layered<L, P> {
    /// `protocol` on top of `layer`.
    pub fn new(layer: L, protocol: P) -> Self {
        Layered { layer, protocol }
    }
}

impl<L, P> Layered<L, P> {
    /// The layer, for facts about it.
    pub fn layer(&self) -> &L {
        &self.layer
    }

    /// The protocol, for facts about it.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }
}

impl<L, P> Sealed for Layered<L, P> {}

impl<L: Layer, P: Protocol> Protocol for Layered<L, P> {
    type Messages = P::Messages;
}

impl<L: Layer, P: StreamProtocol> StreamProtocol for Layered<L, P> {
    #[inline]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Found<In<Self>>, Box<CloseReason>> {
        self.protocol.decode(src)
    }

    fn decode_eof(&mut self, src: &mut Source<'_>) -> Result<Option<In<Self>>, Box<CloseReason>> {
        self.protocol.decode_eof(src)
    }

    #[inline]
    fn encode(&mut self, item: Out<Self>, dst: &mut Sink<'_>) -> Result<(), Arc<dyn Error + Send + Sync>> {
        self.protocol.encode(item, dst)
    }

    #[inline]
    fn encoded_len(&self, item: &Out<Self>) -> Option<usize> {
        self.protocol.encoded_len(item)
    }

    fn max_sent(&self, config: &Config) -> usize {
        self.protocol.max_sent(config)
    }

    const HAS_UNFINISHED: bool = P::HAS_UNFINISHED;

    fn unfinished(&mut self) -> Option<Unfinished> {
        self.protocol.unfinished()
    }

    #[inline]
    fn worked(&self) -> u64 {
        self.protocol.worked()
    }

    fn layer(&mut self) -> Option<&mut dyn Layer> {
        Some(&mut self.layer)
    }

    fn begin(&mut self, session: &mut Inner) {
        session.begin_layer(self.layer.is_open());
        self.protocol.begin(session);
    }

    fn control(&mut self, session: &mut Inner) {
        self.protocol.control(session);
    }

    fn settle(&mut self, session: &mut Inner) {
        self.protocol.settle(session);
    }

    fn opened(&mut self) -> Box<Opened> {
        let mut opened = self.protocol.opened();
        self.layer.describe(&mut opened);
        opened
    }

    #[cfg(feature = "websocket")]
    fn request(&mut self) -> Option<Arc<crate::websocket::Request>> {
        self.protocol.request()
    }

    #[cfg(feature = "websocket")]
    fn answer(
        &mut self,
        session: &mut Inner,
        verdict: crate::websocket::Verdict,
    ) -> Result<(), crate::websocket::AnswerError> {
        self.protocol.answer(session, verdict)
    }
}
