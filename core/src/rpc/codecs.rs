//! [`Codecs`]: the codecs of a service, of which a call has one.

use bytes::{Bytes, BytesMut};

use crate::rpc::codec::{Codec, CodecError, Decode, Encode};
use crate::rpc::frame::CodecName;

/// The codecs of a service: one [`Codec`], or two or three of them in a tuple. The request of a call says
/// which one it has.
///
/// ```
/// use getty_core::rpc::{CodecName, Codecs, Raw};
///
/// # use getty_core::rpc::Codec;
/// # #[derive(Clone)]
/// # struct Numbers;
/// # impl Codec for Numbers { fn name(&self) -> CodecName { CodecName::new("numbers") } }
/// let codecs = (Raw, Numbers);
/// assert_eq!(codecs.names(), [CodecName::Raw, CodecName::new("numbers")]);
/// assert!(codecs.find(&CodecName::Json).is_none());
/// ```
pub trait Codecs: Clone + Send + Sync + 'static {
    /// The codec of a call. It reads and writes what each of the codecs does.
    type One: Codec;

    /// The codec of this name, if it is one of them. Of two with one name it is the first.
    fn find(&self, name: &CodecName) -> Option<Self::One>;

    /// Their names, in order.
    fn names(&self) -> Vec<CodecName>;
}

impl<C: Codec> Codecs for C {
    type One = C;

    #[inline]
    fn find(&self, name: &CodecName) -> Option<C> {
        (*name == self.name()).then(|| self.clone())
    }

    fn names(&self) -> Vec<CodecName> {
        vec![self.name()]
    }
}

impl<A: Codec, B: Codec> Codecs for (A, B) {
    type One = OneOf<A, B>;

    #[inline]
    fn find(&self, name: &CodecName) -> Option<OneOf<A, B>> {
        let (first, second) = self;
        first.find(name).map(OneOf::First).or_else(|| second.find(name).map(OneOf::Second))
    }

    fn names(&self) -> Vec<CodecName> {
        vec![self.0.name(), self.1.name()]
    }
}

impl<A: Codec, B: Codec, C: Codec> Codecs for (A, B, C) {
    type One = OneOf<A, OneOf<B, C>>;

    #[inline]
    fn find(&self, name: &CodecName) -> Option<Self::One> {
        let (first, second, third) = self;
        first.find(name).map(OneOf::First).or_else(|| {
            let second = second.find(name).map(OneOf::First);
            second.or_else(|| third.find(name).map(OneOf::Second)).map(OneOf::Second)
        })
    }

    fn names(&self) -> Vec<CodecName> {
        vec![self.0.name(), self.1.name(), self.2.name()]
    }
}

/// One of two codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneOf<A, B> {
    /// The first of them.
    First(A),
    /// The second of them.
    Second(B),
}

impl<A: Codec, B: Codec> Codec for OneOf<A, B> {
    fn name(&self) -> CodecName {
        match self {
            OneOf::First(codec) => codec.name(),
            OneOf::Second(codec) => codec.name(),
        }
    }
}

impl<T: ?Sized, A: Encode<T>, B: Encode<T>> Encode<T> for OneOf<A, B> {
    fn encode(&self, value: &T, dst: &mut BytesMut) -> Result<(), CodecError> {
        match self {
            OneOf::First(codec) => codec.encode(value, dst),
            OneOf::Second(codec) => codec.encode(value, dst),
        }
    }
}

impl<T, A: Decode<T>, B: Decode<T>> Decode<T> for OneOf<A, B> {
    fn decode(&self, body: Bytes) -> Result<T, CodecError> {
        match self {
            OneOf::First(codec) => codec.decode(body),
            OneOf::Second(codec) => codec.decode(body),
        }
    }
}
