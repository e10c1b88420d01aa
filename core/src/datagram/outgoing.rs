//! [`Outgoing`]: datagrams waiting to be sent.

use std::collections::VecDeque;
use std::fmt;

use bytes::{Buf, BytesMut};

use super::Path;
use crate::hidden::HiddenBytes;

/// Maximum datagrams and bytes of a [`Transmit`], as systems accept in one call.
const RUN_DATAGRAMS: usize = 64;
const RUN_BYTES: usize = 65_000;

/// Memory kept for the next batch, in bytes.
const SPARE_BYTES: usize = 4 << 20;
const SPARE_RUNS: usize = 1024;

/// Datagrams to send, in order.
#[derive(Default)]
pub struct Outgoing {
    /// The bytes of all of them, one after the other.
    bytes: BytesMut,
    runs: VecDeque<Run>,
    datagrams: usize,
    /// Weight of all of them, and of the replies among them, for limits.
    weight: usize,
    replies: usize,
}

/// The weight of a datagram, for limits: its bytes, or its bookkeeping if that is larger.
pub(super) fn weight(len: usize) -> usize {
    const { assert!(size_of::<Run>() <= Outgoing::MIN_WEIGHT) };
    len.max(Outgoing::MIN_WEIGHT)
}

/// A series of datagrams of one size to one peer; the last may be shorter.
#[derive(Debug)]
struct Run {
    path: Option<Path>,
    is_reply: bool,
    segment: usize,
    /// Total bytes.
    len: usize,
    count: usize,
}

/// Datagrams to one peer that may be sent in one call.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transmit<'a> {
    /// The destination; `None` on a connected socket.
    pub path: Option<Path>,
    /// The datagrams, one after the other.
    pub contents: &'a [u8],
    /// Bytes of each datagram; the last may be shorter.
    pub segment: usize,
    /// The number of datagrams: 1 to 64.
    pub count: usize,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("bytes", &HiddenBytes(self.bytes.len()))
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Transmit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transmit")
            .field("path", &self.path)
            .field("contents", &HiddenBytes(self.contents.len()))
            .field("segment", &self.segment)
            .field("count", &self.count)
            .finish()
    }
}

impl<'a> Transmit<'a> {
    /// Iterates over the datagrams.
    pub fn datagrams(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        (0..self.count).map(move |n| {
            let rest = &self.contents[n * self.segment..];
            &rest[..rest.len().min(self.segment)]
        })
    }
}

impl Outgoing {
    /// The minimum weight of a datagram for the watermarks and `max_queued`: the memory of a small one.
    pub const MIN_WEIGHT: usize = 128;

    /// The number of datagrams.
    pub fn len(&self) -> usize {
        self.datagrams
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    /// The datagrams to send, in order.
    pub fn transmits(&self) -> impl Iterator<Item = Transmit<'_>> {
        let mut rest = &self.bytes[..];
        self.runs.iter().map(move |run| {
            let (contents, after) = rest.split_at(run.len);
            rest = after;
            Transmit { path: run.path, contents, segment: run.segment, count: run.count }
        })
    }

    /// Bytes waiting.
    pub(super) fn queued(&self) -> usize {
        self.bytes.len()
    }

    /// The weight of all datagrams, for limits: a small datagram weighs more than its bytes.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// The weight of replies to received datagrams.
    pub(super) fn replies(&self) -> usize {
        self.replies
    }

    /// The buffer to which an encoder appends the next datagram.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Makes a datagram of the last `len` bytes of the buffer.
    #[inline]
    pub(super) fn push(&mut self, path: Option<Path>, len: usize, is_reply: bool) {
        self.datagrams += 1;
        self.weight += weight(len);
        self.replies += if is_reply { weight(len) } else { 0 };
        if let Some(run) = self.runs.back_mut() {
            // A shorter or empty datagram ends a run.
            let whole = run.len == run.segment * run.count && run.segment > 0;
            let fits = run.count < RUN_DATAGRAMS && run.len + len <= RUN_BYTES;
            if whole && fits && len <= run.segment && len > 0 && run.path == path && run.is_reply == is_reply
            {
                run.len += len;
                run.count += 1;
                return;
            }
        }
        self.runs.push_back(Run { path, is_reply, segment: len, len, count: 1 });
    }

    /// Removes the first datagram, sent or not. Returns its path and size.
    pub(super) fn pop(&mut self) -> Option<(Option<Path>, usize)> {
        let run = self.runs.front_mut()?;
        let n = run.segment.min(run.len);
        let path = run.path;
        run.len -= n;
        run.count -= 1;
        self.weight -= weight(n);
        self.replies -= if run.is_reply { weight(n) } else { 0 };
        if run.count == 0 {
            self.runs.pop_front();
        }
        self.datagrams -= 1;
        self.bytes.advance(n);
        Some((path, n))
    }

    /// Keeps the memory of an empty queue for later, unless it is much more than a batch of replies needs.
    pub(super) fn spare(self) -> Self {
        let large = self.bytes.capacity() > SPARE_BYTES || self.runs.capacity() > SPARE_RUNS;
        if large { Self::default() } else { self }
    }

    /// Drops everything and frees memory.
    pub(super) fn clear(&mut self) {
        *self = Outgoing::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Option<Path> {
        Some(Path::new(([127, 0, 0, 1], port).into()))
    }

    fn push(outgoing: &mut Outgoing, path: Option<Path>, bytes: &[u8]) {
        outgoing.buffer().extend_from_slice(bytes);
        outgoing.push(path, bytes.len(), false);
    }

    /// Lists every transmit as its peer's port and its datagrams.
    fn transmits(outgoing: &Outgoing) -> Vec<(Option<u16>, Vec<String>)> {
        let transmits = outgoing.transmits().map(|transmit| {
            let text = |bytes| String::from_utf8(<[u8]>::to_vec(bytes)).unwrap();
            (transmit.path.map(|path| path.peer.port()), transmit.datagrams().map(text).collect())
        });
        transmits.collect()
    }

    #[test]
    fn datagrams_of_one_size_to_one_peer_go_together() {
        let mut outgoing = Outgoing::default();
        for (port, text) in
            [(1, "aa"), (1, "bb"), (1, "c"), (1, "dd"), (2, "ee"), (2, "fff"), (2, ""), (2, ""), (2, "g")]
        {
            push(&mut outgoing, path(port), text.as_bytes());
        }
        push(&mut outgoing, None, b"h");
        assert_eq!(outgoing.len(), 10);
        let expected: [(Option<u16>, &[&str]); 8] = [
            (Some(1), &["aa", "bb", "c"]),
            (Some(1), &["dd"]),
            (Some(2), &["ee"]),
            (Some(2), &["fff"]),
            (Some(2), &[""]),
            (Some(2), &[""]),
            (Some(2), &["g"]),
            (None, &["h"]),
        ];
        let expected =
            expected.map(|(port, texts)| (port, texts.iter().map(|&text| text.to_owned()).collect()));
        assert_eq!(transmits(&outgoing), expected);
    }

    #[test]
    fn a_run_has_an_end() {
        let mut outgoing = Outgoing::default();
        (0..RUN_DATAGRAMS + 1).for_each(|_| push(&mut outgoing, None, b"x"));
        assert_eq!(outgoing.transmits().map(|run| run.count).collect::<Vec<_>>(), [RUN_DATAGRAMS, 1]);
        outgoing.clear();
        (0..3).for_each(|_| push(&mut outgoing, None, &[0; RUN_BYTES / 2]));
        assert_eq!(outgoing.transmits().map(|run| run.count).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn the_first_goes_first_and_the_rest_stays() {
        let mut outgoing = Outgoing::default();
        for text in ["aa", "bb", "c"] {
            push(&mut outgoing, path(1), text.as_bytes());
        }
        push(&mut outgoing, path(2), b"dd");
        assert_eq!(outgoing.pop(), Some((path(1), 2)));
        assert_eq!(transmits(&outgoing)[0].1, ["bb", "c"]);
        assert_eq!(outgoing.pop(), Some((path(1), 2)));
        push(&mut outgoing, path(2), b"ee");
        assert_eq!(transmits(&outgoing)[0].1, ["c"]);
        assert_eq!(outgoing.pop(), Some((path(1), 1)));
        assert_eq!(transmits(&outgoing), [(Some(2), vec!["dd".to_owned(), "ee".to_owned()])]);
        assert_eq!((outgoing.pop(), outgoing.pop()), (Some((path(2), 2)), Some((path(2), 2))));
        assert_eq!((outgoing.pop(), outgoing.len(), outgoing.queued()), (None, 0, 0));
    }

    #[test]
    fn replies_are_counted_and_lie_apart() {
        let mut outgoing = Outgoing::default();
        for is_reply in [true, false, true] {
            outgoing.buffer().extend_from_slice(b"xx");
            outgoing.push(None, 2, is_reply);
        }
        assert_eq!((outgoing.replies(), outgoing.transmits().count()), (2 * weight(2), 3));
        outgoing.pop();
        outgoing.pop();
        assert_eq!(outgoing.replies(), weight(2));
    }
}
