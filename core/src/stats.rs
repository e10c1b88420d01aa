//! [`Stats`]: what a session has done so far.

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

/// What [`Session::send`](crate::Session::send) says of a message that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The message's number, by which its fate is told later.
    pub seq: Seq,
    /// Its size on the wire, in bytes.
    pub bytes: usize,
}

impl Accepted {
    pub(crate) fn new(seq: Seq, bytes: usize) -> Self {
        Accepted { seq, bytes }
    }
}

/// What went one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow {
    /// Bytes on the wire.
    pub bytes: u64,
    /// Whole messages: delivered to the application, or accepted from it.
    pub messages: u64,
    /// Reads that brought bytes, or writes that took some.
    pub operations: u64,
    /// When bytes last moved.
    pub last: Option<Timestamp>,
}

/// How far the messages that were sent have come.
///
/// Messages are numbered in the order in which they were accepted. Those up to `flushed` are with the
/// transport as a whole, those after `accepted` never were in the session. Of those between, the ones up to `unknown`
/// may have gone or not; where that is `None`, the first one was partly written if `partly_written` says so, and the others
/// not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The last message accepted, if any.
    pub accepted: Option<Seq>,
    /// The last message whose bytes are all with the transport, if any. Over datagrams one that could not be sent counts as
    /// well; it is reported as [dropped](crate::Event::Dropped).
    pub flushed: Option<Seq>,
    /// Whether the transport has some but not all bytes of the message after `flushed`.
    pub partly_written: bool,
    /// The session ended while a batch was under way that a [`Layer`](crate::layer::Layer) (such as TLS) had sealed: the
    /// transport has a part of it, and which of the messages up to this one the peer can make out is not known.
    pub unknown: Option<Seq>,
}

/// What a session has done so far. `Display` gives it as one line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// What was received.
    pub received: Flow,
    /// What was sent. Bytes count when the transport took them, messages when the session accepted them.
    pub sent: Flow,
    /// Bytes accepted for sending that the transport has not taken yet.
    pub queued: usize,
    /// Bytes received that are not decoded yet.
    pub buffered: usize,
    /// Items that were refused when sending: too large, or not encodable.
    pub refused: u64,
    /// How far sending has come, by message.
    pub progress: Progress,
}

/// Work that a peer caused and that the bytes on the wire do not show. Both counts only grow.
///
/// For drivers of many sessions on one thread: besides the bytes that were read, bound the difference of two
/// readings within a turn. A peer pays two bytes for an empty frame, and one byte for a kilobyte of zeros.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// Frames decoded: messages, fragments of messages, and frames that are not for the application, such as
    /// pings. Where there is a [`Layer`](crate::layer::Layer), its records too, or one frame for each 8 bytes of
    /// them that are no data.
    pub frames: u64,
    /// Bytes that compressed messages decompressed to, and four times the bytes that were compressed to be
    /// sent. A message counts as at least 16 KiB, since to begin one takes as long as to decompress that
    /// many.
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
