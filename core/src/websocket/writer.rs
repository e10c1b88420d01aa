//! [`Writer`]: frames to send.

use bytes::Bytes;

use super::frame::{HeaderBytes, Opcode};
use super::mask::mask;
use super::{Part, PartError, Random};
use crate::codec::MessageKind;
use crate::codec::Sink;

/// Writes messages as frames.
pub struct Writer {
    /// The source of the masks, which only a client has.
    random: Option<Random>,
    /// The largest payload in bytes.
    limit: usize,
    /// The kind of an unfinished message in parts.
    parts: Option<MessageKind>,
    #[cfg(feature = "deflate")]
    deflate: Option<Box<Deflating>>,
}

/// The negotiated compression.
#[cfg(feature = "deflate")]
struct Deflating {
    compressor: crate::deflate::Compressor,
    /// Messages below this size are sent uncompressed.
    min_size: usize,
    /// The work of compression, as [`Work::bytes`](crate::Work::bytes) counts it.
    deflated: u64,
}

#[cfg(feature = "deflate")]
impl Deflating {
    fn compress(&mut self, payload: &[u8], last: bool, out: &mut bytes::BytesMut) {
        let bytes = payload.len() as u64;
        self.deflated += bytes.max(crate::deflate::LEAST_WORK).saturating_mul(crate::deflate::COMPRESSING);
        self.compressor.compress(payload, last, out);
    }
}

/// A compressed message exceeds the limit.
#[cfg(feature = "deflate")]
struct OverLimit;

impl Writer {
    pub(super) fn new(random: Option<Random>) -> Self {
        Writer {
            random,
            limit: 0,
            parts: None,
            #[cfg(feature = "deflate")]
            deflate: None,
        }
    }

    #[cfg(feature = "deflate")]
    pub(super) fn set_compressor(&mut self, compressor: crate::deflate::Compressor, min_size: usize) {
        self.deflate = Some(Box::new(Deflating { compressor, min_size, deflated: 0 }));
    }

    pub(super) fn set_limit(&mut self, payload: usize) {
        self.limit = payload;
    }

    /// The largest payload in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn is_client(&self) -> bool {
        self.random.is_some()
    }

    /// Makes 16 random bytes, the key of an opening handshake.
    pub(super) fn handshake_key(&mut self) -> [u8; 16] {
        let mut key = [0; 16];
        if let Some(random) = &mut self.random {
            random(&mut key);
        }
        key
    }

    /// Whether messages may be compressed.
    pub(super) fn compresses(&self) -> bool {
        #[cfg(feature = "deflate")]
        return self.deflate.is_some();
        #[cfg(not(feature = "deflate"))]
        return false;
    }

    /// The work of compression, as [`Work::bytes`](crate::Work::bytes) counts it.
    #[inline]
    pub(super) fn worked(&self) -> u64 {
        #[cfg(feature = "deflate")]
        return self.deflate.as_ref().map_or(0, |deflate| deflate.deflated);
        #[cfg(not(feature = "deflate"))]
        return 0;
    }

    /// Writes a control frame.
    pub(super) fn control(&mut self, opcode: Opcode, payload: &[u8], dst: &mut Sink<'_>) {
        let key = self.key();
        dst.put_slice(HeaderBytes::new(opcode, true, false, payload.len(), key).as_ref());
        put_payload(payload, key, dst);
    }

    /// Writes a whole message.
    #[inline]
    pub(super) fn message(
        &mut self,
        kind: MessageKind,
        payload: Bytes,
        dst: &mut Sink<'_>,
    ) -> Result<(), PartError> {
        if self.parts.is_some() {
            return Err(PartError::Unfinished);
        }
        #[cfg(feature = "deflate")]
        if self.compresses() && self.compressed_message(kind.into(), &payload, dst) {
            return Ok(());
        }
        self.frame(kind.into(), true, payload, dst);
        Ok(())
    }

    /// Writes one part of a message.
    pub(super) fn part(&mut self, part: Part, dst: &mut Sink<'_>) -> Result<(), PartError> {
        match (part.first, self.parts) {
            (true, Some(_)) => return Err(PartError::Unfinished),
            (false, None) => return Err(PartError::NotBegun),
            (false, Some(kind)) if kind != part.kind => return Err(PartError::Kind),
            _ => {}
        }
        if part.first && part.last {
            return self.message(part.kind, part.payload, dst);
        }
        let opcode = if part.first { part.kind.into() } else { Opcode::Continuation };
        self.parts = (!part.last).then_some(part.kind);
        #[cfg(feature = "deflate")]
        if self.compresses() {
            self.compressed_part(opcode, &part, dst);
            return Ok(());
        }
        self.frame(opcode, part.last, part.payload, dst);
        Ok(())
    }

    /// Writes a binary message whose payload `write` writes.
    pub(super) fn binary<E>(
        &mut self,
        dst: &mut Sink<'_>,
        write: impl FnOnce(&mut Sink<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.prefixed(Opcode::Binary, true, false, dst, write)
    }

    /// Writes a message compressed, if it is large enough. Returns whether it did. Compression can enlarge a
    /// message by a few bytes; a message that would exceed the limit that way is sent uncompressed.
    #[cfg(feature = "deflate")]
    fn compressed_message(&mut self, opcode: Opcode, payload: &[u8], dst: &mut Sink<'_>) -> bool {
        let Some(mut deflate) = self.deflate.take() else { return false };
        let limit = self.limit;
        let fits = payload.len() >= deflate.min_size
            && self
                .prefixed(opcode, true, true, dst, |body| {
                    deflate.compress(payload, true, body.gathered());
                    if body.written() <= limit { Ok(()) } else { Err(OverLimit) }
                })
                .inspect_err(|_| deflate.compressor.restart())
                .is_ok();
        self.deflate = Some(deflate);
        fits
    }

    /// Writes a part of a compressed message. The first part is marked as compressed.
    #[cfg(feature = "deflate")]
    fn compressed_part(&mut self, opcode: Opcode, part: &Part, dst: &mut Sink<'_>) {
        let Some(mut deflate) = self.deflate.take() else { return };
        let Ok(()) = self.prefixed(opcode, part.last, part.first, dst, |body| {
            deflate.compress(&part.payload, part.last, body.gathered());
            Ok::<(), std::convert::Infallible>(())
        });
        self.deflate = Some(deflate);
    }

    /// Writes a frame whose payload `write` writes.
    fn prefixed<E>(
        &mut self,
        opcode: Opcode,
        fin: bool,
        compressed: bool,
        dst: &mut Sink<'_>,
        write: impl FnOnce(&mut Sink<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let key = self.key();
        dst.put_prefixed(key.is_some(), write, |len, payload| {
            if let Some(key) = key {
                mask(payload, key, 0);
            }
            HeaderBytes::new(opcode, fin, compressed, len, key)
        })
    }

    #[inline]
    fn frame(&mut self, opcode: Opcode, fin: bool, payload: Bytes, dst: &mut Sink<'_>) {
        let key = self.key();
        dst.put_slice(HeaderBytes::new(opcode, fin, false, payload.len(), key).as_ref());
        match key {
            None => dst.put_bytes(payload),
            Some(_) => put_payload(&payload, key, dst),
        }
    }

    /// The mask of the next frame, a new one each time (RFC 6455 section 5.3).
    #[inline]
    fn key(&mut self) -> Option<[u8; 4]> {
        self.random.as_mut().map(|random| {
            let mut key = [0; 4];
            random(&mut key);
            key
        })
    }
}

#[inline]
fn put_payload(payload: &[u8], key: Option<[u8; 4]>, dst: &mut Sink<'_>) {
    match key {
        None => dst.put_slice(payload),
        Some(key) => dst.put_changed(payload, |payload| mask(payload, key, 0)),
    }
}

impl From<MessageKind> for Opcode {
    #[inline]
    fn from(kind: MessageKind) -> Self {
        match kind {
            MessageKind::Text => Opcode::Text,
            MessageKind::Binary => Opcode::Binary,
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("client", &self.is_client()).finish_non_exhaustive()
    }
}
