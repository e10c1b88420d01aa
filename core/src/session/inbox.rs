//! The receiving side of a session: what is worth decoding, and since when a frame has been incomplete.

use crate::memory::Received;
use crate::protocol::{In, StreamProtocol};
use crate::{CloseReason, Config, DecoderFault, Timestamp};

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
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Inbox { want: 1, mark: usize::MAX, partial_since: None, partial_mark: 0 }
    }

    /// Whether a decoder might find a frame in `buffered` bytes.
    pub(crate) fn is_worth_decoding(&self, buffered: usize) -> bool {
        buffered >= self.want
    }

    /// How many bytes are missing until it is worth decoding again.
    pub(crate) fn missing(&self, buffered: usize) -> usize {
        self.want.saturating_sub(buffered)
    }

    pub(crate) fn partial_since(&self) -> Option<Timestamp> {
        self.partial_since
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
        if self.partial_since.is_some() {
            self.partial_since = Some(now);
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

    /// The rest of a frame is awaited that is partly given already.
    pub(crate) fn begin_partial(&mut self, received: u64, now: Timestamp) {
        if self.partial_since.is_none() {
            self.partial_since = Some(now);
            self.partial_mark = received;
        }
    }

    /// Nothing is incomplete.
    pub(crate) fn end_partial(&mut self) {
        self.partial_since = None;
    }

    /// Decodes one message from what is left at the end of the stream.
    pub(crate) fn decode_eof<P: StreamProtocol>(
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
