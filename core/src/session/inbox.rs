//! The receiving side of a session: what is worth decoding, and since when a frame has been incomplete.

use super::protocol::{In, Protocol, Unfinished};
use crate::close::CloseReason;
use crate::config::Config;
use crate::error::DecoderFault;
use crate::memory::Received;
use crate::time::Timestamp;

/// A frame that has come this much further counts as alive. See `Config::partial_frame_timeout`.
const PARTIAL_PROGRESS: u64 = 64 * 1024;

/// Keeps track of what lies in [`Received`]; the bytes themselves are there.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// How many bytes must be buffered before it is worth calling the decoder.
    want: usize,
    /// Bytes that were buffered when `recv_buf` lent the buffer out; `usize::MAX` while it has not.
    pub(crate) mark: usize,
    /// The frame at the front is incomplete and last made progress then.
    partial_since: Option<Timestamp>,
    /// Bytes received in all at that time.
    partial_mark: u64,
    message: Clock,
}

/// The clock of a message of which some frames have come: control frames between them are no progress.
#[derive(Debug, Default, Clone, Copy)]
struct Clock {
    /// When it last made progress; `None` while there is no such message.
    since: Option<Timestamp>,
    /// Bytes of the message that were decoded.
    decoded: u64,
    /// Bytes of it that had come when it last made progress.
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

    /// How many bytes are missing until it is worth decoding again.
    pub(crate) fn missing(&self, buffered: usize) -> usize {
        self.want.saturating_sub(buffered)
    }

    /// Whether something has been incomplete.
    #[inline]
    pub(crate) fn is_incomplete(&self) -> bool {
        self.partial_since.is_some() || self.message.since.is_some()
    }

    /// The time since when something has been incomplete without progress. `held` bytes wait, the last of
    /// which came at `received_at`: perhaps they have not been decoded yet.
    pub(crate) fn incomplete_since(&self, held: usize, received_at: Timestamp) -> Option<Timestamp> {
        let Clock { since, decoded, mark } = self.message;
        let progress = (decoded + held as u64).saturating_sub(mark) >= PARTIAL_PROGRESS;
        let message = since.map(|since| if progress { received_at } else { since });
        [self.partial_since, message].into_iter().flatten().min()
    }

    /// Notes the state once all that can be decoded is: `unfinished` is under way, and the last `held` bytes
    /// are part of it, or of a frame in the midst of it.
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

    /// Notes that there are `received` bytes in all now.
    pub(crate) fn received(&mut self, received: u64, now: Timestamp) {
        if self.partial_since.is_some() && received - self.partial_mark >= PARTIAL_PROGRESS {
            self.partial_since = Some(now);
            self.partial_mark = received;
        }
    }

    /// Begins the time allowed for an incomplete frame afresh: reading was suspended until now.
    pub(crate) fn restart_partial(&mut self, now: Timestamp) {
        for since in [&mut self.partial_since, &mut self.message.since] {
            *since = since.map(|_| now);
        }
    }

    /// A frame was decoded: whatever comes next is a new one.
    #[inline]
    pub(crate) fn decoded(&mut self) {
        self.want = 1;
        self.partial_since = None;
    }

    /// The decoder wants `needed` bytes; `held` are here, the `received`th being the last.
    pub(crate) fn await_bytes(&mut self, needed: usize, held: usize, received: u64, now: Timestamp) {
        self.want = needed;
        if held == 0 {
            self.partial_since = None;
        } else {
            self.begin_partial(received, now);
        }
    }

    /// The rest of something is awaited that is partly here.
    pub(crate) fn begin_partial(&mut self, received: u64, now: Timestamp) {
        if self.partial_since.is_none() {
            self.partial_since = Some(now);
            self.partial_mark = received;
        }
    }

    /// No frame is incomplete.
    pub(crate) fn end_partial(&mut self) {
        self.partial_since = None;
    }

    /// Decodes one message from what is left at the end of the stream.
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

    /// Forgets the frame that was awaited: what is buffered is dropped.
    pub(crate) fn reset(&mut self) {
        *self = Inbox::new();
    }
}
