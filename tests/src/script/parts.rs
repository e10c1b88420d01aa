//! The parts of scripts, and their codec.

use bytes::Bytes;
use getty_core::codec::{Decoded, Decoder, Encoder, LengthDelimited, LengthDelimitedError, Sink, Source};

/// Reads numbers from the front of the data.
pub(crate) struct Script<'a> {
    pub(crate) data: &'a [u8],
}

impl Script<'_> {
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.data.split_first()?;
        self.data = rest;
        Some(byte)
    }

    pub(crate) fn byte(&mut self) -> usize {
        self.next().map_or(0, usize::from)
    }

    /// Chooses relevant sizes: mostly small, some up to 4 KiB.
    pub(crate) fn size(&mut self) -> usize {
        let byte = self.byte();
        if byte < 200 { byte } else { (byte - 199) * 74 }
    }
}

/// A length-delimited codec whose encoder fails on marked items, after writing.
#[derive(Debug)]
pub(crate) struct Codec(pub(crate) LengthDelimited);

pub(crate) const UNENCODABLE: &[u8] = b"!";

#[derive(Debug, thiserror::Error)]
#[error("the item is marked as unencodable")]
pub(crate) struct Unencodable;

impl Decoder for Codec {
    type Item = Bytes;
    type Error = LengthDelimitedError;

    fn decode(&mut self, src: &mut Source<'_>) -> Result<Decoded<Bytes>, LengthDelimitedError> {
        self.0.decode(src)
    }
}

impl Encoder<Bytes> for Codec {
    type Error = Unencodable;

    fn encode(&mut self, item: Bytes, dst: &mut Sink<'_>) -> Result<(), Unencodable> {
        let fails = item == UNENCODABLE;
        self.0.encode(item.clone(), dst).map_err(|_| Unencodable)?;
        if fails {
            dst.put_slice(b"taken back");
            dst.put_bytes(Bytes::from_static(&[0; 100]));
            return Err(Unencodable);
        }
        Ok(())
    }

    fn encoded_len(&self, item: &Bytes) -> Option<usize> {
        item.len().is_multiple_of(2).then(|| item.len() + 4)
    }
}
