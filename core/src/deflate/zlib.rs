//! Calls of zlib: what messages and streams have in common.

use bytes::BytesMut;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::PIECE;

/// The largest room for the output of one call. More output takes more calls. Room has to be zeroed.
const MAX_ROOM: usize = 16 * 1024;

/// Added to the room that is estimated from data to compress, so that a small message takes one call even if
/// it grows.
const SPARE_ROOM: usize = 128;

/// The least room for decompressed data, which is estimated as four times the compressed data. The buffer
/// grows by at least this much.
const MIN_ROOM: usize = 256;

/// Appends `payload` compressed, up to and including what `flush` asks for.
pub(super) fn deflate(stream: &mut Compress, mut payload: &[u8], flush: FlushCompress, out: &mut BytesMut) {
    loop {
        let start = out.len();
        let room = (payload.len() / 2 + SPARE_ROOM).min(MAX_ROOM);
        out.resize(start + room, 0);
        let (total_in, total_out) = (stream.total_in(), stream.total_out());
        // It fails only if its state is not a compressor's.
        stream.compress(payload, &mut out[start..], flush).expect("a compressor takes any data");
        let produced = (stream.total_out() - total_out) as usize;
        out.truncate(start + produced);
        payload = &payload[(stream.total_in() - total_in) as usize..];
        // If there is room left, no more output follows.
        if payload.is_empty() && produced < room {
            return;
        }
    }
}

/// Errors of decompressing a message. The connection fails, since later messages may refer to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InflateError {
    /// The decompressed message is over the limit. It was decompressed up to the limit only.
    #[error("a compressed message is larger than the limit of {limit} bytes once decompressed")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The data is not DEFLATE (RFC 1951), or refers back beyond its beginning.
    #[error(
        "the compressed data of a message is corrupt: expected DEFLATE data (RFC 1951, RFC 7692 section 7.2.2)"
    )]
    Corrupt,
    /// The message has more final blocks than allowed: 16, plus one for each 32 bytes.
    #[cfg(feature = "websocket")]
    #[error("a compressed message of {bytes} bytes has {blocks} or more final blocks")]
    FinalBlocks {
        /// The number of final blocks so far.
        blocks: u64,
        /// The compressed bytes up to the last of them.
        bytes: u64,
    },
}

/// The end of a buffer, where decompressed data goes. The bytes after `filled` are zeroed room.
pub(super) struct Output<'a> {
    out: &'a mut BytesMut,
    filled: usize,
    /// As much is enough for one go.
    most: usize,
    limit: usize,
}

impl<'a> Output<'a> {
    pub(super) fn new(out: &'a mut BytesMut, limit: usize) -> Self {
        let filled = out.len();
        Output { out, filled, most: filled.saturating_add(PIECE), limit }
    }

    /// Decompresses from the beginning of `data`, and takes that away. Returns whether a final block ended.
    pub(super) fn inflate(
        &mut self,
        stream: &mut Decompress,
        data: &mut &[u8],
    ) -> Result<bool, InflateError> {
        if self.filled == self.out.len() {
            let room = make_room(self.out, data.len(), self.limit);
            self.out.resize(self.filled + room, 0);
        }
        let (total_in, total_out) = (stream.total_in(), stream.total_out());
        let result = stream.decompress(data, &mut self.out[self.filled..], FlushDecompress::Sync);
        let consumed = (stream.total_in() - total_in) as usize;
        let produced = (stream.total_out() - total_out) as usize;
        *data = &data[consumed..];
        self.filled += produced;
        if self.filled > self.limit {
            return Err(InflateError::TooLarge { limit: self.limit });
        }
        match result {
            Ok(Status::StreamEnd) => Ok(true),
            // Without progress although there is data and room.
            Ok(_) if consumed + produced == 0 && !data.is_empty() => Err(InflateError::Corrupt),
            Ok(_) => Ok(false),
            Err(_) => Err(InflateError::Corrupt),
        }
    }

    /// Whether nothing more comes of what was taken when `data` was left, or enough has come. `ended`: a
    /// final block ended last.
    pub(super) fn is_enough(&self, ended: bool, data: &[u8]) -> bool {
        if data.is_empty() {
            // Only a few bytes more can follow.
            ended || self.filled < self.out.len()
        } else {
            self.filled >= self.most
        }
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.out.truncate(self.filled);
    }
}

/// The number of bytes, at least 1, that may be appended to `out` in one call. Ensures the capacity for them.
///
/// One byte beyond the limit counts as room. A message that reaches it is too large.
fn make_room(out: &mut BytesMut, input: usize, limit: usize) -> usize {
    let allowed = limit.saturating_sub(out.len()).saturating_add(1);
    let wanted = input.saturating_mul(4).clamp(MIN_ROOM, MAX_ROOM).min(allowed);
    if out.len() == out.capacity() && !out.try_reclaim(wanted) {
        // `reserve` would double the capacity beyond the limit. If doubling reaches the limit, the byte
        // beyond it is included, so that a message of exactly that size is not copied once more for it.
        let doubled = out.capacity().saturating_mul(2);
        let grown = if doubled < limit { doubled } else { limit.saturating_add(1) }.max(out.len() + wanted);
        let full = std::mem::replace(out, BytesMut::with_capacity(grown));
        out.extend_from_slice(&full);
    }
    wanted.min(out.capacity() - out.len())
}
