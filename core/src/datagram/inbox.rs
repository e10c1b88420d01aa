//! [`Inbox`]: decodes the datagrams of a batch, one after the other.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;

use super::{DropReason, Path, RecvBatch};
use crate::codec::{Decoded, Decoder, Source};
use crate::config::Config;
use crate::error::DecoderFault;
use crate::hidden::HiddenBytes;

/// A batch that is being decoded, and how far that is.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) batch: Option<RecvBatch>,
    /// Datagrams that came one by one, after the batch; those that are too large are only their size.
    copies: VecDeque<(Path, Result<BytesMut, usize>)>,
    /// What is left of the datagram that is being decoded, and how large it was.
    window: BytesMut,
    size: usize,
    /// The bytes of it that the last message took.
    taken: usize,
    /// No frame of that datagram was found yet.
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

/// What was found in a datagram.
pub(super) enum Found<T> {
    Message(T),
    Dropped(DropReason),
    /// It is used up.
    Nothing,
}

impl Inbox {
    /// Whether there is nothing to decode.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty()
            && self.copies.is_empty()
            && self.batch.as_ref().is_none_or(RecvBatch::is_empty)
    }

    /// Keeps a copy of one datagram, unless as many are kept already as a batch holds.
    pub(super) fn copy(&mut self, path: Path, bytes: &[u8], limit: usize) -> bool {
        let room = self.copies.len() < RecvBatch::SLOTS;
        if room {
            let copy = if bytes.len() > limit { Err(bytes.len()) } else { Ok(bytes.into()) };
            self.copies.push_back((path, copy));
        }
        room
    }

    /// The batch, if it is used up.
    pub(super) fn take_batch(&mut self) -> Option<RecvBatch> {
        let batch = self.batch.take_if(|batch| batch.is_empty());
        batch.map(|mut batch| {
            batch.clear();
            batch
        })
    }

    /// Forgets what was not decoded.
    pub(super) fn clear(&mut self) {
        self.window = BytesMut::new();
        self.copies = VecDeque::new();
        if let Some(batch) = &mut self.batch {
            batch.clear();
        }
    }

    /// Whether a datagram is begun: [`decode`](Self::decode) goes on with it.
    #[inline]
    pub(super) fn is_mid_datagram(&self) -> bool {
        !self.window.is_empty()
    }

    /// Begins the next datagram of the batch; gives where it came from and its size, or that it is no good.
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

    /// Where the datagram comes from that would be begun next.
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

    /// The bytes of the datagram that was begun.
    pub(super) fn datagram(&self) -> &[u8] {
        &self.window
    }

    /// The bytes that the last message took.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Leaves the rest of the datagram.
    pub(super) fn skip(&mut self) {
        self.window = BytesMut::new();
    }

    /// The next message of the datagram. With `several`, there may be more behind it.
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
            // The end of the datagram is the end of all there is: a last line, say.
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
                        codec.reset(); // over a stream nothing would come after the end
                    }
                    self.window = BytesMut::new(); // even an empty one pins what it was cut from
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
            // Padding behind the frames, which the decoder has taken.
            Ok(false) if left == 0 && !self.fresh => return Found::Nothing,
            Ok(false) => DropReason::Incomplete { bytes: before },
        })
    }
}
