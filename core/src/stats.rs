//! [`Stats`]: counts of a session.

use std::fmt;
use std::num::NonZeroU64;

use crate::time::Timestamp;

/// The number of a sent message: 1 for the first that a session accepted, then 2, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(NonZeroU64);

impl Seq {
    /// The first message of a session.
    pub const FIRST: Seq = Seq(NonZeroU64::MIN);

    pub(crate) fn new(number: u64) -> Option<Seq> {
        NonZeroU64::new(number).map(Seq)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The number of the message after this one.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message accepted by [`Session::send`](crate::Session::send).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The message's number, by which its outcome is reported later.
    pub seq: Seq,
    /// Its size on the wire, in bytes. If it [is still being encoded](crate::Session::is_encoding): its size
    /// without compression.
    pub bytes: usize,
}

impl Accepted {
    pub(crate) fn new(seq: Seq, bytes: usize) -> Self {
        Accepted { seq, bytes }
    }
}

/// Counts of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow {
    /// Bytes on the wire.
    pub bytes: u64,
    /// Whole messages, delivered to or accepted from the application.
    pub messages: u64,
    /// Reads that returned bytes, or writes that took some.
    pub operations: u64,
    /// Time when bytes last moved.
    pub last: Option<Timestamp>,
}

/// Delivery progress of sent messages.
///
/// Messages are numbered in the order of acceptance. Those up to `flushed` are completely with the transport;
/// those after `accepted` never were in the session. Of those in between, messages up to `unknown` may or may
/// not have been sent. If `unknown` is `None`, none of them was sent, except that the first one was partly
/// written if `partly_written` is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The last message accepted, if any.
    pub accepted: Option<Seq>,
    /// The last message completely taken by the transport, if any. Over datagrams, a message that could not
    /// be sent counts too; it is reported as [dropped](crate::Event::Dropped).
    pub flushed: Option<Seq>,
    /// Whether the transport has part of the message after `flushed`.
    pub partly_written: bool,
    /// Set if the session ended in the middle of a batch sealed by a [`Layer`](crate::layer::Layer) (such as
    /// TLS): the transport has part of the batch, and which messages up to this one the peer can read is
    /// unknown.
    pub unknown: Option<Seq>,
}

/// The counts of a session. `Display` formats them as one line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Received traffic.
    pub received: Flow,
    /// Sent traffic. Bytes count when the transport takes them, messages when the session accepts them.
    pub sent: Flow,
    /// Bytes accepted for sending that the transport has not taken yet.
    pub queued: usize,
    /// Received bytes that are not decoded yet.
    pub buffered: usize,
    /// Items refused when sending: too large, or not encodable.
    pub refused: u64,
    /// Delivery progress, by message.
    pub progress: Progress,
}

/// Work caused by the peer that the bytes on the wire do not show. Both counts only grow.
///
/// For drivers of many sessions on one thread: limit the growth of these counts within a turn, besides the
/// bytes read. An empty frame costs the peer two bytes, a kilobyte of zeros one byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Decoded frames: messages, fragments of messages, pieces of large compressed ones, and control frames
    /// such as pings. With a
    /// [`Layer`](crate::layer::Layer), its records count too, or one frame per 8 bytes of records without
    /// data.
    pub frames: u64,
    /// Bytes produced by decompressing received messages, plus 16 times the bytes compressed for sending.
    /// Compressed bytes that produce nothing count 16 times. Since starting a message takes long, one counts
    /// as at least 16 KiB when it is decompressed, and as at least 64 KiB when it is compressed, as do its
    /// parts and the pieces of a large one.
    pub bytes: u64,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stats { received: r, sent: s, queued, buffered, refused, progress } = self;
        write!(
            f,
            "received {} messages, {} bytes, {} reads; sent {} messages, {} bytes, {} writes; \
             queued {queued} bytes, buffered {buffered} bytes, flushed up to {}, refused {refused}",
            r.messages,
            r.bytes,
            r.operations,
            s.messages,
            s.bytes,
            s.operations,
            progress.flushed.map_or(0, Seq::get),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_text() {
        let mut stats = Stats { queued: 5, buffered: 3, ..Stats::default() };
        stats.received = Flow { bytes: 20, messages: 1, operations: 2, last: None };
        stats.progress.flushed = Seq::FIRST.next().into();
        assert_eq!(
            stats.to_string(),
            "received 1 messages, 20 bytes, 2 reads; sent 0 messages, 0 bytes, 0 writes; \
             queued 5 bytes, buffered 3 bytes, flushed up to 2, refused 0"
        );
    }
}
