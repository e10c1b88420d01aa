//! The receiving side of a session: when to decode, and how long a frame has been incomplete.

use super::protocol::{In, Protocol, Unfinished};
use crate::close::CloseReason;
use crate::config::Config;
use crate::error::DecoderFault;
use crate::memory::Received;
use crate::time::Timestamp;

/// Bytes by which an incomplete frame must grow to count as progress. See `Config::partial_frame_timeout`.
const PARTIAL_PROGRESS: u64 = 64 * 1024;

/// Keeps track of the bytes in [`Received`], which themselves are there.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Bytes that must be buffered before it is worth calling the decoder.
    want: usize,
    /// Bytes that were buffered when `recv_buf` lent the buffer out; `usize::MAX` otherwise.
    pub(crate) mark: usize,
    /// Time of the last progress of the incomplete frame at the front.
    partial_since: Option<Timestamp>,
    /// Total bytes received at that time.
    partial_mark: u64,
    message: Clock,
}

/// The clock of a message of which some frames have come. Control frames between them are not progress.
#[derive(Debug, Default, Clone, Copy)]
struct Clock {
    /// Time of its last progress; `None` while there is no such message.
    since: Option<Timestamp>,
    /// Bytes of the message that were decoded.
    decoded: u64,
    /// Bytes of it that had come at its last progress.
    mark: u64,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Inbox { want: 1, mark: usize::MAX, partial_since: None, partial_mark: 0, message: Clock::default() }
    }

    /// Whether a decoder might find a frame in `buffered` bytes.
    pub(crate) fn is_worth_decoding(&self, buffered: usize) -> bool {
        buffered >= self.want
    }

    /// Bytes missing until decoding is worthwhile again.
    pub(crate) fn missing(&self, buffered: usize) -> usize {
        self.want.saturating_sub(buffered)
    }

    /// Whether a frame or a message is incomplete.
    #[inline]
    pub(crate) fn is_incomplete(&self) -> bool {
        self.partial_since.is_some() || self.message.since.is_some()
    }

    /// The time of the last progress of what is incomplete. `held` bytes wait, perhaps not decoded yet; the
    /// last of them came at `received_at`.
    pub(crate) fn incomplete_since(&self, held: usize, received_at: Timestamp) -> Option<Timestamp> {
        let Clock { since, decoded, mark } = self.message;
        let progress = (decoded + held as u64).saturating_sub(mark) >= PARTIAL_PROGRESS;
        let message = since.map(|since| if progress { received_at } else { since });
        [self.partial_since, message].into_iter().flatten().min()
    }

    /// Records the state once everything possible is decoded: `unfinished` is under way, and the last `held`
    /// bytes belong to it or to a frame within it.
    #[cold]
    pub(crate) fn watch_message(&mut self, unfinished: Option<Unfinished>, held: usize, now: Timestamp) {
        let clock = &mut self.message;
        let Some(Unfinished { begun, bytes }) = unfinished else {
            clock.since = None;
            return;
        };
        let has_come = bytes + held as u64;
        if clock.since.is_none() || begun || has_come.saturating_sub(clock.mark) >= PARTIAL_PROGRESS {
            (clock.since, clock.mark) = (Some(now), has_come);
        }
        clock.decoded = bytes;
    }

    /// Records that `received` bytes have come in total.
    pub(crate) fn received(&mut self, received: u64, now: Timestamp) {
        if self.partial_since.is_some() && received - self.partial_mark >= PARTIAL_PROGRESS {
            self.partial_since = Some(now);
            self.partial_mark = received;
        }
    }

    /// Restarts the time allowed for an incomplete frame after reading was suspended.
    pub(crate) fn restart_partial(&mut self, now: Timestamp) {
        for since in [&mut self.partial_since, &mut self.message.since] {
            *since = since.map(|_| now);
        }
    }

    /// Records a decoded frame: the next bytes begin a new one.
    #[inline]
    pub(crate) fn decoded(&mut self) {
        self.want = 1;
        self.partial_since = None;
    }

    /// Records that the decoder needs `needed` bytes. `held` are here; the last of them is the `received`th
    /// in total.
    pub(crate) fn await_bytes(&mut self, needed: usize, held: usize, received: u64, now: Timestamp) {
        self.want = needed;
        if held == 0 {
            self.partial_since = None;
        } else {
            self.begin_partial(received, now);
        }
    }

    /// Starts the time of an incomplete frame, unless it already runs.
    pub(crate) fn begin_partial(&mut self, received: u64, now: Timestamp) {
        if self.partial_since.is_none() {
            self.partial_since = Some(now);
            self.partial_mark = received;
        }
    }

    /// Records that no frame is incomplete.
    pub(crate) fn end_partial(&mut self) {
        self.partial_since = None;
    }

    /// Decodes one message from the rest of the stream at its end.
    pub(crate) fn decode_eof<P: Protocol>(
        &mut self,
        protocol: &mut P,
        buffers: &mut Received,
        config: &Config,
    ) -> Result<Option<In<P>>, Box<CloseReason>> {
        let before = buffers.len();
        let mut src = buffers.source(config.max_frame());
        match protocol.decode_eof(&mut src)? {
            Some(_) if src.len() == before => Err(Box::new(DecoderFault::NoProgress.into())),
            item => {
                self.partial_since = None;
                Ok(item)
            }
        }
    }

    /// Forgets the awaited frame, since the buffered bytes are dropped.
    pub(crate) fn reset(&mut self) {
        *self = Inbox::new();
    }
}
