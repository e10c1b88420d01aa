//! [`StreamCompressor`] and [`StreamInflater`]: DEFLATE data that ends with its final block (RFC 1951).

use bytes::BytesMut;
use flate2::{Compress, Compression, Decompress, FlushCompress};

use super::PIECE_OF_INPUT;
use super::zlib::{InflateError, Output, deflate};

/// The effort, as in WebSocket: two thirds of the time of level 6, for a size that is little larger.
const LEVEL: u32 = 3;

/// Compresses one stream.
#[derive(Debug)]
pub(crate) struct StreamCompressor(Compress);

impl StreamCompressor {
    pub(crate) fn new() -> Self {
        StreamCompressor(Compress::new(Compression::new(LEVEL), false))
    }

    /// Makes it ready for another stream.
    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }

    /// Appends the next `piece`, of which `last` marks the last, to `out` in compressed form.
    pub(crate) fn compress(&mut self, piece: &[u8], last: bool, out: &mut BytesMut) {
        let flush = if last { FlushCompress::Finish } else { FlushCompress::None };
        deflate(&mut self.0, piece, flush, out);
    }
}

/// Decompresses one stream.
#[derive(Debug)]
pub(crate) struct StreamInflater(Decompress);

impl StreamInflater {
    pub(crate) fn new() -> Self {
        StreamInflater(Decompress::new(false))
    }

    /// Makes it ready for another stream, also after an error.
    pub(crate) fn reset(&mut self) {
        self.0.reset(false);
    }

    /// Decompresses from `data`, which goes on with the stream, and appends the result to `out`. Returns the
    /// number of bytes taken, and whether they end the stream: they are not all if there are many or if they
    /// decompress to much. It is to be called again until the stream ends or there is no more data.
    ///
    /// `out` grows to at most `limit` bytes, with a capacity of at most one byte more if it has to grow.
    /// After an error, `out` can't be used, and the inflater only after [`reset`](Self::reset).
    pub(crate) fn inflate(
        &mut self,
        data: &[u8],
        out: &mut BytesMut,
        limit: usize,
    ) -> Result<(usize, bool), InflateError> {
        let piece = &data[..data.len().min(PIECE_OF_INPUT)];
        let mut output = Output::new(out, limit);
        let mut left = piece;
        loop {
            let ended = output.inflate(&mut self.0, &mut left)?;
            if ended || output.is_enough(ended, left) {
                return Ok((piece.len() - left.len(), ended));
            }
        }
    }
}
