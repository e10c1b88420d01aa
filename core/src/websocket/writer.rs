//! [`Writer`]: frames to send.

use bytes::Bytes;
#[cfg(feature = "deflate")]
use bytes::BytesMut;

use super::frame::{HeaderBytes, Opcode, short_header};
use super::mask::mask;
use super::{Part, PartError, Random};
use crate::codec::MessageKind;
use crate::codec::Sink;
#[cfg(feature = "deflate")]
use crate::deflate::{COMPRESSING, Compressor, LEAST_WORK, PIECE};

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
    compressor: Compressor,
    /// Messages below this size are sent uncompressed.
    min_size: usize,
    /// The work of compression, as [`Work::bytes`](crate::Work::bytes) counts it.
    worked: u64,
    /// The large frame under way.
    large: Option<Large>,
}

/// A frame whose payload is compressed piece by piece.
#[cfg(feature = "deflate")]
struct Large {
    opcode: Opcode,
    /// The beginning and the end of its message.
    first: bool,
    last: bool,
    payload: Bytes,
    /// Bytes of the payload that are compressed.
    done: usize,
    compressed: BytesMut,
}

#[cfg(feature = "deflate")]
impl Deflating {
    fn compress(&mut self, payload: &[u8], last: bool, out: &mut BytesMut) {
        self.count(payload);
        self.compressor.compress(payload, last, out);
    }

    fn count(&mut self, payload: &[u8]) {
        self.worked += (payload.len() as u64 * COMPRESSING).max(4 * LEAST_WORK);
    }

    fn begin_large(&mut self, opcode: Opcode, first: bool, last: bool, payload: &Bytes) {
        let (payload, compressed) = (payload.clone(), BytesMut::new());
        self.large = Some(Large { opcode, first, last, payload, done: 0, compressed });
    }

    /// Compresses a piece of the large frame. Returns the frame once its payload is compressed. A message is
    /// returned as soon as it is larger than `limit`, too.
    fn compress_piece(&mut self, limit: usize) -> Option<Large> {
        let mut large = self.large.take()?;
        let rest = &large.payload[large.done..];
        let piece = &rest[..rest.len().min(PIECE)];
        self.count(piece);
        if piece.len() < rest.len() {
            self.compressor.compress_piece(piece, &mut large.compressed);
        } else {
            self.compressor.compress(piece, large.last, &mut large.compressed);
        }
        large.done += piece.len();
        if large.done == large.payload.len() || large.exceeds(limit) {
            return Some(large);
        }
        self.large = Some(large);
        None
    }
}

#[cfg(feature = "deflate")]
impl Large {
    /// Whether it is a whole message that compression has made larger than `limit`.
    fn exceeds(&self, limit: usize) -> bool {
        self.first && self.last && self.compressed.len() > limit
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
    pub(super) fn set_compressor(&mut self, compressor: Compressor, min_size: usize) {
        self.deflate = Some(Box::new(Deflating { compressor, min_size, worked: 0, large: None }));
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
        return self.deflate.as_ref().map_or(0, |deflate| deflate.worked);
        #[cfg(not(feature = "deflate"))]
        return 0;
    }

    /// The size of the payload that is being compressed, if it is a large one. Until
    /// [`continue_large`](Self::continue_large) has written it, no other message or part may be written.
    #[inline]
    pub(super) fn compressing(&self) -> Option<usize> {
        #[cfg(feature = "deflate")]
        return self.deflate.as_ref()?.large.as_ref().map(|large| large.payload.len());
        #[cfg(not(feature = "deflate"))]
        return None;
    }

    /// Drops the large frame.
    #[cfg(feature = "deflate")]
    pub(super) fn drop_large(&mut self) {
        if let Some(deflate) = &mut self.deflate {
            deflate.large = None;
        }
    }

    /// Compresses a piece of the large frame, and writes the frame after the last one.
    #[cfg(feature = "deflate")]
    pub(super) fn continue_large(&mut self, dst: &mut Sink<'_>) {
        let Some(deflate) = &mut self.deflate else { return };
        let Some(large) = deflate.compress_piece(self.limit) else { return };
        if large.exceeds(self.limit) {
            deflate.compressor.restart();
            return self.frame(large.opcode, true, false, large.payload, dst);
        }
        let Large { mut opcode, mut first, last, mut compressed, .. } = large;
        // A part can't be sent uncompressed, since the one before it may be compressed.
        while compressed.len() > self.limit {
            self.frame(opcode, false, first, compressed.split_to(self.limit).freeze(), dst);
            (opcode, first) = (Opcode::Continuation, false);
        }
        self.frame(opcode, last, first, compressed.freeze(), dst);
    }

    /// Writes a control frame.
    pub(super) fn control(&mut self, opcode: Opcode, payload: &[u8], dst: &mut Sink<'_>) {
        let key = self.key();
        dst.put_slice(HeaderBytes::new(opcode, true, false, payload.len(), key).as_ref());
        put_payload(payload, key, dst);
    }

    /// Writes a whole message.
    #[inline(always)]
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
        if self.compresses() && dst.apart(|dst| self.compressed_message(kind.into(), &payload, dst)) {
            return Ok(());
        }
        match short_header(kind.into(), payload.len()) {
            Some(header) if !self.is_client() => {
                dst.put_slice(&header);
                dst.put_bytes(payload);
            }
            _ => dst.apart(|dst| self.frame(kind.into(), true, false, payload, dst)),
        }
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
        self.frame(opcode, part.last, false, part.payload, dst);
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

    /// Writes a message compressed, or begins to, if it is not too small. Returns whether it did.
    /// Compression can enlarge a message by a few bytes; a message that would exceed the limit that way is
    /// sent uncompressed.
    #[cfg(feature = "deflate")]
    fn compressed_message(&mut self, opcode: Opcode, payload: &Bytes, dst: &mut Sink<'_>) -> bool {
        let Some(mut deflate) = self.deflate.take_if(|deflate| payload.len() >= deflate.min_size) else {
            return false;
        };
        let limit = self.limit;
        let has_begun = if payload.len() > PIECE {
            deflate.begin_large(opcode, true, true, payload);
            true
        } else {
            self.prefixed(opcode, true, true, dst, |body| {
                deflate.compress(payload, true, body.gathered());
                if body.written() <= limit { Ok(()) } else { Err(OverLimit) }
            })
            .inspect_err(|_| deflate.compressor.restart())
            .is_ok()
        };
        self.deflate = Some(deflate);
        has_begun
    }

    /// Writes a part of a compressed message, or begins to. The first part is marked as compressed.
    #[cfg(feature = "deflate")]
    fn compressed_part(&mut self, opcode: Opcode, part: &Part, dst: &mut Sink<'_>) {
        let Some(mut deflate) = self.deflate.take() else { return };
        // Level 1 makes noise 6 % larger.
        let most = part.payload.len() + part.payload.len() / 8 + 64;
        if most > PIECE || most > self.limit {
            deflate.begin_large(opcode, part.first, part.last, &part.payload);
        } else {
            let Ok(()) = self.prefixed(opcode, part.last, part.first, dst, |body| {
                deflate.compress(&part.payload, part.last, body.gathered());
                Ok::<(), std::convert::Infallible>(())
            });
        }
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

    #[inline(never)]
    fn frame(&mut self, opcode: Opcode, fin: bool, compressed: bool, payload: Bytes, dst: &mut Sink<'_>) {
        let key = self.key();
        dst.put_slice(HeaderBytes::new(opcode, fin, compressed, payload.len(), key).as_ref());
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
