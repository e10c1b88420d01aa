//! [`Inbox`]: decodes the datagrams of a batch, one by one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;

use super::{DropReason, Path, RecvBatch};
use crate::codec::{Decoded, Decoder, Source};
use crate::config::Config;
use crate::error::DecoderFault;
use crate::hidden::HiddenBytes;

/// A batch that is being decoded, and the position in it.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) batch: Option<RecvBatch>,
    /// Single datagrams received after the batch; only the size of those that are too large.
    copies: VecDeque<(Path, Result<BytesMut, usize>)>,
    /// The rest of the datagram being decoded, and the datagram's size.
    window: BytesMut,
    size: usize,
    /// The bytes of it that the last message took.
    taken: usize,
    /// Whether no frame of the datagram has been found yet.
    fresh: bool,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("batch", &self.batch)
            .field("copies", &self.copies.len())
            .field("window", &HiddenBytes(self.window.len()))
            .finish_non_exhaustive()
    }
}

/// The result of decoding a datagram.
pub(super) enum Found<T> {
    Message(T),
    Dropped(DropReason),
    /// The datagram is used up.
    Nothing,
}

impl Inbox {
    /// Whether nothing is left to decode.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty()
            && self.copies.is_empty()
            && self.batch.as_ref().is_none_or(RecvBatch::is_empty)
    }

    /// Keeps a copy of one datagram, unless as many are kept as a batch holds.
    pub(super) fn copy(&mut self, path: Path, bytes: &[u8], limit: usize) -> bool {
        let room = self.copies.len() < RecvBatch::SLOTS;
        if room {
            let copy = if bytes.len() > limit { Err(bytes.len()) } else { Ok(bytes.into()) };
            self.copies.push_back((path, copy));
        }
        room
    }

    /// Takes the batch, if it is used up.
    pub(super) fn take_batch(&mut self) -> Option<RecvBatch> {
        let batch = self.batch.take_if(|batch| batch.is_empty());
        batch.map(|mut batch| {
            batch.clear();
            batch
        })
    }

    /// Drops everything not decoded.
    pub(super) fn clear(&mut self) {
        self.window = BytesMut::new();
        self.copies = VecDeque::new();
        if let Some(batch) = &mut self.batch {
            batch.clear();
        }
    }

    /// Whether a datagram has begun: [`decode`](Self::decode) continues it.
    #[inline]
    pub(super) fn is_mid_datagram(&self) -> bool {
        !self.window.is_empty()
    }

    /// Begins the next datagram of the batch. Returns its source and size, and a reason if it is invalid.
    #[inline]
    pub(super) fn begin(&mut self, config: &Config) -> Option<(Path, usize, Option<DropReason>)> {
        let limit = config.max_datagram();
        let batched = self.batch.as_mut().and_then(|batch| batch.take(limit));
        let (path, bytes) = batched.or_else(|| self.next_copy())?;
        Some(match bytes {
            Err(bytes) => (path, bytes, Some(DropReason::Oversized { bytes, limit })),
            Ok(bytes) if bytes.is_empty() => (path, 0, Some(DropReason::Empty)),
            Ok(bytes) => {
                (self.size, self.window, self.fresh) = (bytes.len(), bytes, true);
                (path, self.size, None)
            }
        })
    }

    /// The source of the next datagram to begin.
    pub(super) fn next_path(&self) -> Option<Path> {
        let batched = self.batch.as_ref().and_then(RecvBatch::next_path);
        batched.or_else(|| self.copies.front().map(|(path, _)| *path))
    }

    fn next_copy(&mut self) -> Option<(Path, Result<BytesMut, usize>)> {
        let copy = self.copies.pop_front();
        if self.copies.is_empty() {
            self.copies = VecDeque::new();
        }
        copy
    }

    /// The bytes of the begun datagram.
    pub(super) fn datagram(&self) -> &[u8] {
        &self.window
    }

    /// The bytes that the last message took.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Skips the rest of the datagram.
    pub(super) fn skip(&mut self) {
        self.window = BytesMut::new();
    }

    /// Decodes the next message of the datagram. With `several`, more may follow it.
    #[inline]
    pub(super) fn decode<C: Decoder>(
        &mut self,
        codec: &mut C,
        config: &Config,
        several: bool,
    ) -> Found<C::Item> {
        let before = self.window.len();
        let mut src = Source::slicing(&mut self.window, config.max_frame());
        let mut ended = false;
        let decoded = match codec.decode(&mut src) {
            // The end of the datagram ends the input, which may complete a last line, for example.
            Ok(Decoded::Need(_)) => {
                ended = true;
                codec.decode_eof(&mut src)
            }
            Ok(Decoded::Frame(item)) => Ok(Some(item)),
            Err(error) => Err(error),
        };
        let left = self.window.len();
        match decoded {
            Ok(Some(item)) if left == 0 || several && left < before => {
                self.fresh = false;
                self.taken = before - left;
                if left == 0 {
                    if ended {
                        codec.reset(); // over a stream nothing comes after `decode_eof`
                    }
                    self.window = BytesMut::new(); // even an empty slice keeps its memory alive
                }
                Found::Message(item)
            }
            decoded => {
                self.window = BytesMut::new();
                codec.reset();
                self.undecoded(decoded.map(|item| item.is_some()), before, left)
            }
        }
    }

    #[cold]
    fn undecoded<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        decoded: Result<bool, E>,
        before: usize,
        left: usize,
    ) -> Found<T> {
        Found::Dropped(match decoded {
            Err(error) => DropReason::Undecodable(Arc::new(error)),
            Ok(true) if left == before => DropReason::Undecodable(Arc::new(DecoderFault::NoProgress)),
            Ok(true) => DropReason::Trailing { bytes: left },
            // Padding after the frames, consumed by the decoder.
            Ok(false) if left == 0 && !self.fresh => return Found::Nothing,
            Ok(false) => DropReason::Incomplete { bytes: before },
        })
    }
}
