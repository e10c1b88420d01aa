//! [`Inflater`]: decompresses DEFLATE data to messages.

use bytes::BytesMut;
use flate2::Decompress;

use super::zlib::{InflateError, Output};
use super::{EMPTY_BYTE, LEAST_WORK, PIECE_OF_INPUT, TAIL};

/// The number of final blocks that any message may have. Each further one takes [`FINAL_BLOCK_BYTES`] bytes
/// of compressed data. The decompressor is reset after each final block, and one fits into two bytes: a flood
/// of them took 35 to 150 ns per byte, where data takes 10 to 25. Messages of several streams have a few
/// final blocks, or larger ones.
const FREE_FINAL_BLOCKS: u64 = 16;
const FINAL_BLOCK_BYTES: u64 = 32;

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
/// are all of them unless the result is larger than a piece.
fn inflate(
    stream: &mut Decompress,
    data: &[u8],
    out: &mut BytesMut,
    limit: usize,
    message: &mut Seen,
) -> Result<usize, InflateError> {
    let mut output = Output::new(out, limit);
    let mut left = data;
    loop {
        let before = left.len();
        let ended = output.inflate(stream, &mut left)?;
        message.bytes += (before - left.len()) as u64;
        if ended {
            // A final block ends nothing here (RFC 7692 section 7.2.3.4): more may follow from the next
            // byte on. A peer that sends such blocks has no window to refer back to either.
            message.count_final_block()?;
            stream.reset(false);
        }
        if output.is_enough(ended, left) {
            return Ok(data.len() - left.len());
        }
    }
}
