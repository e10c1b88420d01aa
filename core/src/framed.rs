//! [`Framed`]: the messages of a codec on a byte stream.

use std::error::Error;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::close::CloseReason;
use crate::codec::{Decoder, Encoder, Sink, Source};
use crate::layer::Layer;
use crate::layered::Layered;
use crate::messages::Items;
use crate::session::{Found, Protocol, Sealed};

/// A codec as the protocol of a byte stream, for example TCP.
///
/// `C` decodes received bytes and encodes items of type `O`, by default the type that it decodes.
#[derive(Debug, Clone, Default)]
pub struct Framed<C, O = <C as Decoder>::Item> {
    codec: C,
    out: PhantomData<fn(O)>,
}

impl<C, O> Framed<C, O>
where
    C: Decoder + Encoder<O>,
{
    /// Makes a protocol of `codec`.
    pub fn new(codec: C) -> Self {
        Framed { codec, out: PhantomData }
    }
}

/// Makes a function that makes codecs one that makes protocols, as servers and pools take it:
/// `framed(LengthDelimited::new)`. Where a codec encodes several types of items and the listener does not say
/// which is meant, name it: `framed::<_, Bytes>(..)`.
pub fn framed<C, O>(codec: impl Fn() -> C + Clone) -> impl Fn() -> Framed<C, O> + Clone
where
    C: Decoder + Encoder<O>,
{
    move || Framed::new(codec())
}

impl<C, O> Sealed for Framed<C, O> {}

impl<C, O> Protocol for Framed<C, O>
where
    C: Decoder + Encoder<O>,
{
    type Messages = Items<C::Item, O>;
    type Under<L: Layer> = Layered<L, Self>;

    fn under<L: Layer>(self, layer: L) -> Layered<L, Self> {
        Layered::new(layer, self)
    }

    // Without inlining, messages pass through memory, with loads wider than the stores before them.
    #[inline(always)]
    fn decode(&mut self, src: &mut Source<'_>) -> Result<Found<C::Item>, Box<CloseReason>> {
        self.codec.decode(src).map(Found::from).map_err(refused)
    }

    fn decode_eof(&mut self, src: &mut Source<'_>) -> Result<Option<C::Item>, Box<CloseReason>> {
        self.codec.decode_eof(src).map_err(refused)
    }

    #[inline(always)]
    fn encode(&mut self, item: O, dst: &mut Sink<'_>) -> Result<(), Arc<dyn Error + Send + Sync>> {
        self.codec.encode(item, dst).map_err(|error| Arc::new(error) as _)
    }

    #[inline]
    fn encoded_len(&self, item: &O) -> Option<usize> {
        self.codec.encoded_len(item)
    }
}

#[cold]
fn refused(error: impl Error + Send + Sync + 'static) -> Box<CloseReason> {
    Box::new(CloseReason::Codec(Arc::new(error)))
}
