//! [`Inflater`]: DEFLATE data to messages.

use bytes::BytesMut;
use flate2::{Decompress, FlushDecompress, Status};

use super::{LEAST_WORK, TAIL};

/// How much output one call of the decompressor is given room for: four times the input, within these bounds. Room
/// has to be zeroed, and the buffer grows by this at least.
const MIN_ROOM: usize = 256;
const MAX_ROOM: usize = 16 * 1024;

/// Final blocks that any message may have; each further one takes [`FINAL_BLOCK_BYTES`] bytes of compressed
/// data. The decompressor begins anew after each, and two bytes are enough for one: a flood of them took 35
/// to 150 ns a byte, where data takes 10 to 25. A message of several streams has a few of them, or larger
/// ones.
const FREE_FINAL_BLOCKS: u64 = 16;
const FINAL_BLOCK_BYTES: u64 = 32;

/// Why a compressed message can't be decompressed. The connection fails: what comes later may refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InflateError {
    /// The message is larger than allowed once decompressed. Not more than the limit was decompressed of it.
    #[error("a compressed message is larger than the limit of {limit} bytes once decompressed")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// It is not DEFLATE data (RFC 1951), or refers to data further back than there is any.
    #[error(
        "the compressed data of a message is corrupt: expected DEFLATE data (RFC 1951, RFC 7692 section 7.2.2)"
    )]
    Corrupt,
    /// It has more final blocks than are allowed: 16, and one for each 32 bytes.
    #[error("a compressed message of {bytes} bytes has {blocks} final blocks or more")]
    FinalBlocks {
        /// How many there were.
        blocks: u64,
        /// The compressed bytes up to the last of them.
        bytes: u64,
    },
}

/// The receiving direction: decompresses messages, or their fragments, one after another.
///
/// Its window is of 32 KiB, whatever was agreed: zlib-rs has no smaller one. A peer that refers further back than
/// agreed is thus understood all the same.
#[derive(Debug)]
pub(crate) struct Inflater {
    stream: Option<Decompress>,
    no_context_takeover: bool,
    message: Seen,
    worked: u64,
}

/// Counts of the message under way.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    final_blocks: u64,
    /// Compressed bytes.
    bytes: u64,
    /// The bytes that they decompressed to.
    inflated: u64,
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

    /// The bytes decompressed so far, as [`Work::bytes`](crate::Work::bytes) counts them.
    pub(crate) fn worked(&self) -> u64 {
        self.worked
    }

    /// Appends to `out` what `data`, the next piece of a message, decompresses to. `last` says that it ends the
    /// message. Pieces may be cut anywhere.
    ///
    /// `out` gets at most `limit` bytes long, with a capacity of at most one more than that if it has to grow. After
    /// an error neither `out` nor the inflater is of any use.
    ///
    /// A message that was cut off can't be told from a whole one in every case: zlib does not say whether a block is
    /// complete.
    pub(crate) fn inflate(
        &mut self,
        data: &[u8],
        last: bool,
        out: &mut BytesMut,
        limit: usize,
    ) -> Result<(), InflateError> {
        let from = out.len();
        let stream = self.stream.get_or_insert_with(|| Decompress::new(false));
        inflate(stream, data, out, limit, &mut self.message)?;
        if last {
            inflate(stream, &TAIL, out, limit, &mut self.message)?;
        }
        let inflated = (out.len() - from) as u64;
        self.worked += inflated;
        self.message.inflated += inflated;
        if last {
            self.worked += LEAST_WORK.saturating_sub(self.message.inflated);
            self.message = Seen::default();
            if self.no_context_takeover {
                self.stream = None;
            }
        }
        Ok(())
    }
}

/// Inflates `data` to `out`, and counts it in `message`.
fn inflate(
    stream: &mut Decompress,
    data: &[u8],
    out: &mut BytesMut,
    limit: usize,
    message: &mut Seen,
) -> Result<(), InflateError> {
    let mut filled = out.len();
    let result = inflate_from(stream, data, out, &mut filled, limit, message);
    out.truncate(filled);
    result
}

/// The same, from `filled` on. The bytes after that are zeroed already, and are room.
fn inflate_from(
    stream: &mut Decompress,
    mut data: &[u8],
    out: &mut BytesMut,
    filled: &mut usize,
    limit: usize,
    message: &mut Seen,
) -> Result<(), InflateError> {
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
                // A block was marked as final, which ends nothing here (RFC 7692 section 7.2.3.4): more may follow,
                // from the next byte on. Who sends such blocks has no window to refer back to either.
                message.count_final_block()?;
                stream.reset(false);
                false
            }
            Ok(_) => *filled == out.len(),
            Err(_) => return Err(InflateError::Corrupt),
        };
        if data.is_empty() && !more {
            return Ok(());
        }
        if consumed + produced == 0 {
            // It stands still, with data and room.
            return Err(InflateError::Corrupt);
        }
    }
}

/// How many bytes may be appended to `out` in one call, at least 1: it has the capacity for them.
///
/// One byte past the limit is room as well. Only what is written there shows that a message is too large.
fn make_room(out: &mut BytesMut, input: usize, limit: usize) -> usize {
    let allowed = limit.saturating_sub(out.len()).saturating_add(1);
    let wanted = input.saturating_mul(4).clamp(MIN_ROOM, MAX_ROOM).min(allowed);
    if out.len() == out.capacity() && !out.try_reclaim(wanted) {
        // `reserve` would double the capacity, past the limit. Where doubling comes to the limit, the byte past it is
        // room as well, so that a message of that size is not copied once more for it.
        let doubled = out.capacity().saturating_mul(2);
        let grown = if doubled < limit { doubled } else { limit.saturating_add(1) }.max(out.len() + wanted);
        let full = std::mem::replace(out, BytesMut::with_capacity(grown));
        out.extend_from_slice(&full);
    }
    wanted.min(out.capacity() - out.len())
}
