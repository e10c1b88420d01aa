//! The send queue of a session: what is queued, and the progress of each message.

use crate::hint::likely;
use crate::memory::{Buffers, Kind, Run, Runs};
use crate::stats::{Progress, Seq};

/// Counts the queued bytes, which themselves are in the [`Buffers`].
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Bytes accepted and not yet written.
    queued: usize,
    /// Bytes of queued replies that are not written in full. Included in `queued`.
    replies: usize,
    /// Messages accepted.
    accepted: u64,
    /// Messages written in full.
    flushed: u64,
    /// Bytes written of the piece at the front.
    front_written: usize,
    /// The piece at the front is not a message.
    front_is_control: bool,
    /// The kind of the last message, if it is still being encoded: none of its bytes are queued.
    encoding: Option<Kind>,
    /// Number of messages after the flushed ones that a layer had sealed when the session ended within that
    /// batch.
    unknown: u32,
    /// The latest messages, while they have one size and kind. Those before them are with the bytes.
    latest: Run,
}

impl Outbox {
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Bytes of queued replies.
    pub(crate) fn replies(&self) -> usize {
        self.replies
    }

    pub(crate) fn accepted(&self) -> Option<Seq> {
        Seq::new(self.accepted)
    }

    pub(crate) fn flushed(&self) -> Option<Seq> {
        Seq::new(self.flushed)
    }

    pub(crate) fn has_all_messages_flushed(&self) -> bool {
        self.flushed == self.accepted
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress {
            accepted: self.accepted(),
            flushed: self.flushed(),
            partly_written: self.front_written > 0 && !self.front_is_control,
            unknown: if self.unknown > 0 { Seq::new(self.flushed + u64::from(self.unknown)) } else { None },
        }
    }

    /// Counts a message of `size` bytes, already written to the segments.
    #[inline]
    pub(crate) fn accept(&mut self, buffers: &mut Buffers, size: usize, is_reply: bool) -> Seq {
        self.accepted += 1;
        self.append_message(buffers, size, is_reply);
        Seq::new(self.accepted).unwrap_or(Seq::FIRST)
    }

    /// Counts a message that is still being encoded.
    pub(crate) fn accept_unencoded(&mut self, is_reply: bool) -> Seq {
        self.accepted += 1;
        self.encoding = Some(if is_reply { Kind::Reply } else { Kind::Message });
        Seq::new(self.accepted).unwrap_or(Seq::FIRST)
    }

    /// Counts the `size` bytes of the message that was being encoded, already written to the segments.
    pub(crate) fn encoded(&mut self, buffers: &mut Buffers, size: usize) {
        if let Some(kind) = self.encoding.take() {
            self.append_message(buffers, size, kind == Kind::Reply);
        }
    }

    #[inline(always)]
    fn append_message(&mut self, buffers: &mut Buffers, size: usize, is_reply: bool) {
        if !likely(size > 0) {
            return self.append_empty(buffers);
        }
        if is_reply {
            self.replies += size;
        }
        self.append(buffers, size, if is_reply { Kind::Reply } else { Kind::Message });
    }

    /// Counts an empty message. They share one run whatever their kind, since nothing else limits their
    /// number.
    #[inline(never)]
    fn append_empty(&mut self, buffers: &mut Buffers) {
        self.append(buffers, 0, Kind::Message);
        if self.queued == 0 {
            self.advance(buffers, 0); // an empty message in an empty queue does not wait
        }
    }

    /// Counts `size` control bytes, already written to the segments.
    pub(crate) fn accept_control(&mut self, buffers: &mut Buffers, size: usize) {
        if size > 0 {
            self.append(buffers, size, Kind::Control);
        }
    }

    #[inline]
    fn append(&mut self, buffers: &mut Buffers, size: usize, kind: Kind) {
        self.queued += size;
        let Run { size: same, count, kind: alike } = self.latest;
        if same != size || alike != kind || count == u32::MAX {
            let run = std::mem::replace(&mut self.latest, Run { size, count: 0, kind });
            if run.count > 0 {
                buffers.sizes.push_back(run);
            }
        }
        self.latest.count += 1;
    }

    /// Counts `n` more bytes as written and drops them.
    #[inline]
    pub(crate) fn advance(&mut self, buffers: &mut Buffers, n: usize) {
        buffers.segments.advance(n.min(self.queued));
        self.written(&mut buffers.sizes, n);
    }

    /// Counts `n` more bytes as written that have left the buffers already.
    #[inline]
    pub(crate) fn written(&mut self, sizes: &mut Runs, n: usize) {
        // What a layer still writes after a discard is not counted here: then `n` is 0.
        if n >= self.queued && n > 0 && self.encoding.is_none() {
            self.written_all(sizes);
        } else {
            self.written_in_part(sizes, n);
        }
    }

    /// Counts everything queued as written, which is the usual write. Must not follow a discard: it would
    /// count what was discarded.
    #[inline]
    fn written_all(&mut self, sizes: &mut Runs) {
        debug_assert_eq!(self.flushed + self.messages(sizes), self.accepted, "after a discard");
        sizes.clear();
        self.flushed = self.accepted;
        (self.queued, self.replies, self.latest.count) = (0, 0, 0);
        (self.front_written, self.front_is_control) = (0, false);
    }

    fn written_in_part(&mut self, sizes: &mut Runs, n: usize) {
        let n = n.min(self.queued);
        self.queued -= n;
        self.front_written += n;
        while let Some(mut run) = sizes.pop_front() {
            let bytes = run.size * run.count as usize;
            if bytes > self.front_written {
                self.flushed += run.flush(&mut self.front_written, &mut self.replies);
                self.front_is_control = run.is_control();
                sizes.push_front(run);
                return;
            }
            self.front_written -= bytes;
            self.flushed += if run.is_control() { 0 } else { u64::from(run.count) };
            self.replies -= if run.kind == Kind::Reply { bytes } else { 0 };
        }
        self.flushed += self.latest.flush(&mut self.front_written, &mut self.replies);
        self.front_is_control = self.latest.is_control();
    }

    /// The number of queued messages.
    fn messages(&self, sizes: &Runs) -> u64 {
        let messages = sizes.iter().chain([self.latest]).filter(|run| !run.is_control());
        messages.map(|run| u64::from(run.count)).sum()
    }

    /// Marks the outcome of the first `n` queued bytes as unknown, including a message that begins there: a
    /// layer sealed them and the transport took a part.
    pub(crate) fn mark_unknown(&mut self, sizes: &Runs, n: usize) {
        let mut left = self.front_written + n.min(self.queued);
        let mut messages = 0;
        for run in sizes.iter().chain([self.latest]) {
            let count = run.count as usize;
            let touched = if run.size == 0 { count } else { count.min(left.div_ceil(run.size)) };
            left = left.saturating_sub(touched * run.size);
            messages += if run.is_control() { 0 } else { touched as u64 };
            if left == 0 {
                break;
            }
        }
        self.unknown = u32::try_from(messages).unwrap_or(u32::MAX);
    }

    /// Discards what is queued. The counts of messages remain.
    pub(crate) fn discard(&mut self) {
        self.queued = 0;
        self.replies = 0;
        self.encoding = None;
        self.latest = Run::default();
        if self.front_is_control {
            self.front_written = 0; // no message is partly written
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use bytes::Bytes;

    use super::*;
    use crate::codec::Sink;

    fn send(outbox: &mut Outbox, buffers: &mut Buffers, parts: &[&'static [u8]]) -> u64 {
        let mut sink = Sink::queue(&mut buffers.segments, 4);
        for part in parts {
            sink.put_bytes(Bytes::from_static(part));
        }
        let size = sink.written();
        outbox.accept(buffers, size, false).get()
    }

    fn all(buffers: &Buffers) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = buffers.segments.chunks_vectored(&mut slices);
        slices[..filled].iter().flat_map(|s| s.to_vec()).collect()
    }

    #[test]
    fn pieces_come_out_in_order_whatever_is_written_at_a_time() {
        for step in 1..=30 {
            let (mut outbox, mut buffers) = (Outbox::default(), Buffers::default());
            send(&mut outbox, &mut buffers, &[b"ab", b"chained1", b"c"]);
            send(&mut outbox, &mut buffers, &[b"chained2", b"chained3"]);
            send(&mut outbox, &mut buffers, &[b"d", b"e"]);
            let mut seen = Vec::new();
            while !outbox.is_empty() {
                let whole = all(&buffers);
                assert_eq!(whole.len(), outbox.queued());
                assert!(whole.starts_with(buffers.segments.chunk()));
                let n = step.min(whole.len());
                seen.extend_from_slice(&whole[..n]);
                outbox.advance(&mut buffers, n);
            }
            assert_eq!(seen, b"abchained1cchained2chained3de");
            assert!(buffers.is_empty() && buffers.sizes.is_empty());
            assert_eq!(outbox.progress().flushed, outbox.progress().accepted);
            assert!(!outbox.progress().partly_written);
        }
    }

    #[test]
    fn progress_is_known_by_message() {
        let (mut outbox, mut buffers) = (Outbox::default(), Buffers::default());
        for _ in 0..3 {
            send(&mut outbox, &mut buffers, &[b"abc"]);
        }
        send(&mut outbox, &mut buffers, &[b"z"]);
        let flushed_after = |outbox: &mut Outbox, buffers: &mut Buffers, n| {
            outbox.advance(buffers, n);
            let progress = outbox.progress();
            (progress.flushed.map_or(0, Seq::get), progress.partly_written)
        };
        assert_eq!(flushed_after(&mut outbox, &mut buffers, 2), (0, true));
        assert_eq!(flushed_after(&mut outbox, &mut buffers, 1), (1, false));
        assert_eq!(flushed_after(&mut outbox, &mut buffers, 4), (2, true));
        assert_eq!(flushed_after(&mut outbox, &mut buffers, 2), (3, false));
        assert_eq!(flushed_after(&mut outbox, &mut buffers, 100), (4, false));
    }

    #[test]
    fn a_run_that_can_count_no_further_is_followed_by_another() {
        let (mut outbox, mut buffers) = (Outbox::default(), Buffers::default());
        send(&mut outbox, &mut buffers, &[b"a"]);
        send(&mut outbox, &mut buffers, &[b""]);
        // As if that many empty messages waited behind the first one.
        outbox.latest.count = u32::MAX;
        outbox.accepted = 1 + u64::from(u32::MAX);
        send(&mut outbox, &mut buffers, &[b""]);
        assert_eq!(outbox.latest.count, 1);
        outbox.advance(&mut buffers, 1);
        assert_eq!(outbox.progress().flushed.map(Seq::get), Some(2 + u64::from(u32::MAX)));
    }

    #[test]
    fn an_empty_message_is_flushed_with_the_one_before_it() {
        let (mut outbox, mut buffers) = (Outbox::default(), Buffers::default());
        assert_eq!(send(&mut outbox, &mut buffers, &[]), 1);
        assert_eq!(outbox.flushed(), outbox.accepted());
        send(&mut outbox, &mut buffers, &[b"a"]);
        send(&mut outbox, &mut buffers, &[]);
        assert_eq!(outbox.flushed().map(Seq::get), Some(1));
        outbox.advance(&mut buffers, 1);
        assert_eq!(outbox.flushed().map(Seq::get), Some(3));
    }

    #[test]
    fn a_rollback_keeps_what_earlier_messages_gathered_in_the_same_place() {
        let (mut outbox, mut buffers) = (Outbox::default(), Buffers::default());
        send(&mut outbox, &mut buffers, &[b"ab", b"chained"]);
        outbox.advance(&mut buffers, 1);
        let mark = buffers.segments.mark();
        let mut sink = Sink::queue(&mut buffers.segments, 4);
        sink.put_slice(b"xx");
        sink.put_bytes(Bytes::from_static(b"yyyyyy"));
        sink.put_slice(b"zz");
        buffers.segments.rollback(mark);
        send(&mut outbox, &mut buffers, &[b"c"]);
        assert_eq!(all(&buffers), b"bchainedc");
    }

    #[test]
    fn leftovers_move_between_buffers_and_small_payloads_are_copied() {
        let (mut outbox, mut buffers) = (Outbox::default(), Buffers::default());
        send(&mut outbox, &mut buffers, &[b"ab", b"chained", b"c"]);
        outbox.advance(&mut buffers, 1);
        let mut big = Sink::queue(&mut buffers.segments, 4);
        big.put_bytes(Bytes::from(vec![7; 20_000]));
        big.put_slice(b"end");
        outbox.accept(&mut buffers, 20_003, true);
        let whole = all(&buffers);
        buffers.unpin();
        assert_eq!(buffers.segments.chained.len(), 1, "only the large payload stays chained");
        assert_eq!(all(&buffers), whole);
        let mut other = Buffers::default();
        buffers.leave_to(&mut other);
        assert!(buffers.is_empty() && buffers.sizes.is_empty());
        assert_eq!(all(&other), whole);
        let mut lent = Buffers::default();
        lent.take_over(&mut other);
        assert!(other.is_empty() && other.sizes.is_empty());
        let mut other = lent;
        assert_eq!(all(&other), whole);
        outbox.advance(&mut other, whole.len());
        assert!(other.is_empty() && outbox.flushed() == outbox.accepted() && outbox.replies() == 0);
    }
}
