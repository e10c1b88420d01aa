//! [`Inflater`]: decompresses DEFLATE data to messages.

use bytes::BytesMut;
use flate2::{Decompress, FlushDecompress, Status};

use super::{LEAST_WORK, PIECE, TAIL};

/// Bounds of the room for the output of one call, which is four times the input. Room has to be zeroed, and
/// the buffer grows by at least this much.
const MIN_ROOM: usize = 256;
const MAX_ROOM: usize = 16 * 1024;

/// The number of final blocks that any message may have. Each further one takes [`FINAL_BLOCK_BYTES`] bytes
/// of compressed data. The decompressor is reset after each final block, and one fits into two bytes: a flood
/// of them took 35 to 150 ns per byte, where data takes 10 to 25. Messages of several streams have a few
/// final blocks, or larger ones.
const FREE_FINAL_BLOCKS: u64 = 16;
const FINAL_BLOCK_BYTES: u64 = 32;

/// The most compressed data that is taken in one go, and the weight of a byte of it that adds nothing to the
/// output, in decompressed bytes. Blocks without data take up to 70 ns per byte.
const PIECE_OF_INPUT: usize = 16 * 1024;
const EMPTY_BYTE: u64 = 16;

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
    #[error("a compressed message of {bytes} bytes has {blocks} or more final blocks")]
    FinalBlocks {
        /// The number of final blocks so far.
        blocks: u64,
        /// The compressed bytes up to the last of them.
        bytes: u64,
    },
}

/// The receiving direction: decompresses messages, or their fragments, one after another.
///
/// Its window is always 32 KiB, since zlib-rs has no smaller one. So data that refers back further than
/// agreed is accepted.
#[derive(Debug)]
pub(crate) struct Inflater {
    stream: Option<Decompress>,
    no_context_takeover: bool,
    message: Seen,
    worked: u64,
}

/// Counts of the unfinished message.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    final_blocks: u64,
    /// Compressed bytes.
    bytes: u64,
    /// The work of decompressing it.
    worked: u64,
}

impl Seen {
    fn count_final_block(&mut self) -> Result<(), InflateError> {
        self.final_blocks += 1;
        let Seen { final_blocks: blocks, bytes, .. } = *self;
        if blocks > FREE_FINAL_BLOCKS + bytes / FINAL_BLOCK_BYTES {
            return Err(InflateError::FinalBlocks { blocks, bytes });
        }
        Ok(())
    }
}

impl Inflater {
    pub(crate) fn new(no_context_takeover: bool) -> Self {
        Inflater { stream: None, no_context_takeover, message: Seen::default(), worked: 0 }
    }

    /// The work of decompression so far, as [`Work::bytes`](crate::Work::bytes) counts it.
    pub(crate) fn worked(&self) -> u64 {
        self.worked
    }

    /// Decompresses from `data`, which goes on with a message, and appends the result to `out`. Returns the
    /// number of bytes taken: at least one, but not all if there are many or if they decompress to much.
    /// `last` marks the end of the message, which is reached once all bytes are taken. Data may be cut
    /// anywhere.
    ///
    /// `out` grows to at most `limit` bytes, with a capacity of at most one byte more if it has to grow.
    /// After an error, neither `out` nor the inflater can be used.
    ///
    /// A truncated message is not always detected, since zlib does not report whether a block is complete.
    pub(crate) fn inflate(
        &mut self,
        data: &[u8],
        last: bool,
        out: &mut BytesMut,
        limit: usize,
    ) -> Result<usize, InflateError> {
        let from = out.len();
        let stream = self.stream.get_or_insert_with(|| Decompress::new(false));
        let piece = &data[..data.len().min(PIECE_OF_INPUT)];
        let taken = inflate(stream, piece, out, limit, &mut self.message)?;
        let ends = last && taken == data.len();
        if ends {
            inflate(stream, &TAIL, out, limit, &mut self.message)?;
        }
        let inflated = (out.len() - from) as u64;
        let worked = inflated + EMPTY_BYTE * (taken as u64).saturating_sub(inflated);
        self.worked += worked;
        self.message.worked += worked;
        if ends {
            self.worked += LEAST_WORK.saturating_sub(self.message.worked);
            self.message = Seen::default();
            if self.no_context_takeover {
                self.stream = None;
            }
        }
        Ok(taken)
    }
}

/// Appends decompressed `data` to `out`, and counts it in `message`. Returns the number of bytes taken, which
/// are all of them unless the result is larger than [`PIECE`].
fn inflate(
    stream: &mut Decompress,
    data: &[u8],
    out: &mut BytesMut,
    limit: usize,
    message: &mut Seen,
) -> Result<usize, InflateError> {
    let mut filled = out.len();
    let result = inflate_from(stream, data, out, &mut filled, limit, message);
    out.truncate(filled);
    result.map(|left| data.len() - left)
}

/// Does the same from `filled` on. The bytes after that are zeroed room. Returns the number of bytes left.
fn inflate_from(
    stream: &mut Decompress,
    mut data: &[u8],
    out: &mut BytesMut,
    filled: &mut usize,
    limit: usize,
    message: &mut Seen,
) -> Result<usize, InflateError> {
    let most = filled.saturating_add(PIECE);
    loop {
        if *filled == out.len() {
            let room = make_room(out, data.len(), limit);
            out.resize(*filled + room, 0);
        }
        let (total_in, total_out) = (stream.total_in(), stream.total_out());
        let result = stream.decompress(data, &mut out[*filled..], FlushDecompress::Sync);
        let consumed = (stream.total_in() - total_in) as usize;
        let produced = (stream.total_out() - total_out) as usize;
        data = &data[consumed..];
        *filled += produced;
        message.bytes += consumed as u64;
        if *filled > limit {
            return Err(InflateError::TooLarge { limit });
        }
        let more = match result {
            Ok(Status::StreamEnd) => {
                // A final block ends nothing here (RFC 7692 section 7.2.3.4): more may follow from the next
                // byte on. A peer that sends such blocks has no window to refer back to either.
                message.count_final_block()?;
                stream.reset(false);
                false
            }
            Ok(_) => *filled == out.len(),
            Err(_) => return Err(InflateError::Corrupt),
        };
        // Once all data is taken, only a few bytes more can follow.
        if data.is_empty() && !more || !data.is_empty() && *filled >= most {
            return Ok(data.len());
        }
        if consumed + produced == 0 {
            // No progress, although there is data and room.
            return Err(InflateError::Corrupt);
        }
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
