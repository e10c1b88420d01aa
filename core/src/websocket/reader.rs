//! [`Reader`]: messages and control frames in received bytes.

use bytes::{Bytes, BytesMut};

use super::form::{Form, Received};
use super::frame::{Header, Opcode, Rules, Start};
use super::mask::mask;
use super::utf8::Utf8;
use crate::close::{CloseFrame, CloseReason, MAX_CONTROL, ProtocolError};
use crate::codec::MessageKind;
use crate::codec::Source;
use crate::copy;
#[cfg(feature = "deflate")]
use crate::deflate::{InflateError, Inflater};
use crate::hidden::HiddenBytes;
use crate::hint::likely;
use crate::session::{Found, Unfinished};

/// Number of fragments without a minimum size. Each fragment after these must come with [`FRAGMENT_BYTES`]
/// bytes of the message. That stops floods of tiny fragments early.
const FREE_FRAGMENTS: u64 = 1024;
const FRAGMENT_BYTES: u64 = 32;

/// Finds messages and control frames in received bytes. Independent of sending.
pub(crate) struct Reader {
    rules: Rules,
    max_message: usize,
    /// The unfinished message, of which some frames have come. Boxed because most messages have one frame.
    message: Option<Box<Message>>,
    /// Bytes of the payload at the front that are unmasked and, for text, checked.
    done: usize,
    /// The rest of the frame whose header is consumed, and the offset into the mask. For parts; and for a
    /// compressed frame, of which all is here and unmasked, but not all decompressed.
    frame: Option<(Header, usize)>,
    /// A message of several frames has begun, or for parts, a frame.
    begun: bool,
    text: Utf8,
    /// The control frame that was read last and waits to be handled.
    control: Option<Control>,
    /// A close frame came. Everything after it is ignored (RFC 6455 section 1.4).
    closed: bool,
    #[cfg(feature = "deflate")]
    inflater: Option<Box<Inflater>>,
}

/// A message of which some frames have come.
struct Message {
    kind: MessageKind,
    compressed: bool,
    fragments: u64,
    /// Bytes on the wire.
    received: u64,
    payload: BytesMut,
    /// Parts of it have been delivered already.
    begun: bool,
}

/// A control frame.
#[derive(Debug)]
pub(crate) enum Control {
    Ping(Bytes),
    Pong(Bytes),
    Close(CloseFrame),
}

impl Reader {
    pub(crate) fn new(masked: bool) -> Self {
        Reader {
            rules: Rules { masked, deflate: false, max_frame: 0, max_short: 0, in_parts: false },
            max_message: 0,
            message: None,
            done: 0,
            frame: None,
            begun: false,
            text: Utf8::default(),
            control: None,
            closed: false,
            #[cfg(feature = "deflate")]
            inflater: None,
        }
    }

    /// Sets the limits. For parts, frames of any size are accepted, since only what was read is held.
    pub(crate) fn set_limits<F: Form>(&mut self, max_frame: usize, max_message: usize) {
        self.rules.max_frame = max_frame;
        self.rules.in_parts = F::IN_PARTS;
        self.max_message = max_message;
        self.rules.max_short = max_frame.min(max_message).min(MAX_CONTROL) as u8;
    }

    #[cfg(feature = "deflate")]
    pub(crate) fn set_inflater(&mut self, inflater: Inflater) {
        self.rules.deflate = true;
        self.inflater = Some(Box::new(inflater));
    }

    /// The message or frame under way that is partly decoded: a message that is held, or for parts, which
    /// hold nothing between frames, a frame.
    pub(crate) fn unfinished(&mut self) -> Option<Unfinished> {
        let message = self.message.as_ref()?;
        let left = match &self.frame {
            Some((frame, _)) => frame.len as u64,
            None if self.rules.in_parts => return None,
            None => 0,
        };
        Some(Unfinished { begun: std::mem::take(&mut self.begun), bytes: message.received - left })
    }

    /// The work of decompression, as [`Work::bytes`](crate::Work::bytes) counts it.
    #[inline]
    pub(crate) fn worked(&self) -> u64 {
        #[cfg(feature = "deflate")]
        return self.inflater.as_ref().map_or(0, |inflater| inflater.worked());
        #[cfg(not(feature = "deflate"))]
        return 0;
    }

    pub(crate) fn take_control(&mut self) -> Option<Control> {
        self.control.take()
    }

    /// Consumes one frame, or for parts, what is there of one.
    ///
    /// The path of a whole message is short and inlined up to the session's poll, so that the message stays
    /// in registers. For that, the slow paths have to return their results as `Ok(..?)`. If they wrote the
    /// result to its place in memory, the short path would do so too, and wait to read it back (a frame of 16
    /// bytes then takes 44 ns instead of 30).
    #[inline(always)]
    #[expect(clippy::needless_question_mark, reason = "the results of the slow paths are rebuilt here")]
    pub(crate) fn read<F: Form>(
        &mut self,
        src: &mut Source<'_>,
        form: &mut F,
    ) -> Result<Found<Received<F>>, Box<CloseReason>> {
        if !likely(!self.closed && self.frame.is_none()) {
            return Ok(self.read_on(src, form)?);
        }
        if likely(self.message.is_none() && self.done == 0) {
            if let Some(header) = self.rules.parse_short(src) {
                return self.take_whole(header, src, form);
            }
        }
        let header = match self.rules.parse(src)? {
            Start::Header(header) => header,
            Start::Need(more) => return Ok(Found::Need(more)),
        };
        let whole = header.fin && !header.compressed && self.message.is_none() && self.done == 0;
        if !matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            return Ok(self.read_other(header, src, form)?);
        }
        let complete = src.len() - header.size >= header.len && header.len <= self.max_message;
        if !likely(whole && complete) {
            return Ok(self.read_fragment(header, src, form)?);
        }
        self.take_whole(header, src, form)
    }

    /// Takes a whole message in one frame, all of which is there.
    #[inline(always)]
    fn take_whole<F: Form>(
        &mut self,
        header: Header,
        src: &mut Source<'_>,
        form: &mut F,
    ) -> Result<Found<Received<F>>, Box<CloseReason>> {
        let kind = if header.opcode == Opcode::Text { MessageKind::Text } else { MessageKind::Binary };
        let payload = src.take_checked(header.size..header.size + header.len, |payload| {
            unmask(payload, &header, 0);
            kind == MessageKind::Binary || std::str::from_utf8(payload).is_ok()
        });
        let Some(payload) = payload else { return Err(ProtocolError::Utf8.into()) };
        form.receive(kind, payload, true, true).map(Found::Message)
    }

    #[inline(never)]
    fn read_on<F: Form>(
        &mut self,
        src: &mut Source<'_>,
        form: &mut F,
    ) -> Result<Found<Received<F>>, Box<CloseReason>> {
        if self.closed {
            let all = src.len();
            src.advance(all);
            return Ok(Found::Control);
        }
        match self.frame.take() {
            #[cfg(feature = "deflate")]
            Some((header, _)) if self.message.as_ref().is_some_and(|message| message.compressed) => {
                self.read_compressed(header, src, form)
            }
            Some((header, offset)) => self.read_part(header, offset, src, form),
            None => Ok(Found::Control),
        }
    }

    #[inline(never)]
    fn read_other<F: Form>(
        &mut self,
        header: Header,
        src: &mut Source<'_>,
        form: &mut F,
    ) -> Result<Found<Received<F>>, Box<CloseReason>> {
        if header.opcode == Opcode::Continuation {
            return self.read_fragment(header, src, form);
        }
        if src.len() < header.size + header.len {
            return Ok(Found::Need(header.size + header.len - src.len()));
        }
        src.advance(header.size);
        let mut payload = src.take_mut(header.len);
        unmask(&mut payload, &header, 0);
        self.control = Some(match header.opcode {
            Opcode::Ping => Control::Ping(payload.freeze()),
            Opcode::Pong => Control::Pong(payload.freeze()),
            _ => {
                let frame = CloseFrame::parse(&payload)?;
                self.closed = true;
                self.message = None;
                Control::Close(frame)
            }
        });
        Ok(Found::Control)
    }

    /// Reads a frame that is not a whole message, incomplete or compressed.
    #[inline(never)]
    fn read_fragment<F: Form>(
        &mut self,
        header: Header,
        src: &mut Source<'_>,
        form: &mut F,
    ) -> Result<Found<Received<F>>, Box<CloseReason>> {
        let (kind, compressed) = self.expect(&header)?;
        let held = !F::IN_PARTS || compressed;
        self.check_limits(&header, held, compressed)?;
        if !held {
            src.advance(header.size);
            self.begin(&header, kind, compressed);
            return self.read_part(header, 0, src, form);
        }
        let checks = kind == MessageKind::Text && !compressed;
        let here = header.len.min(src.len() - header.size);
        if here < header.len {
            // Invalid text is refused before the rest of it comes (RFC 6455 section 8.1).
            if checks {
                let fresh = &mut src.bytes_mut()[header.size + self.done..header.size + here];
                unmask(fresh, &header, self.done);
                self.text.push(fresh).map_err(|_| ProtocolError::Utf8)?;
                self.done = here;
                return Ok(Found::Need(1));
            }
            return Ok(Found::Need(header.len - here));
        }
        src.advance(header.size);
        let done = std::mem::take(&mut self.done);
        if header.fin && !compressed && self.message.is_none() {
            let mut payload = src.take_mut(header.len);
            self.finish_payload(&mut payload[done..], &header, done, checks)?;
            return form.receive(kind, payload, true, true).map(Found::Message);
        }
        self.begin(&header, kind, compressed);
        let payload = &mut src.bytes_mut()[..header.len];
        self.finish_payload(&mut payload[done..], &header, done, checks)?;
        #[cfg(feature = "deflate")]
        if compressed {
            return self.read_compressed(header, src, form);
        }
        self.append(payload);
        src.advance(header.len);
        if header.fin { self.deliver(true, src, form) } else { Ok(Found::Control) }
    }

    /// Unmasks and checks the last bytes of a payload.
    fn finish_payload(
        &mut self,
        rest: &mut [u8],
        header: &Header,
        done: usize,
        checks: bool,
    ) -> Result<(), ProtocolError> {
        unmask(rest, header, done);
        if checks {
            self.check_text(rest, header.fin)?;
        }
        Ok(())
    }

    fn check_text(&mut self, piece: &[u8], last: bool) -> Result<(), ProtocolError> {
        self.text.push(piece).map_err(|_| ProtocolError::Utf8)?;
        if last && !std::mem::take(&mut self.text).is_complete() {
            return Err(ProtocolError::Utf8);
        }
        Ok(())
    }

    /// The kind of the message that a frame belongs to, and whether it is compressed.
    fn expect(&self, header: &Header) -> Result<(MessageKind, bool), ProtocolError> {
        match (header.opcode, &self.message) {
            (Opcode::Continuation, Some(message)) => Ok((message.kind, message.compressed)),
            (Opcode::Continuation, None) => Err(ProtocolError::NothingToContinue),
            (_, Some(_)) => Err(ProtocolError::Interleaved),
            (Opcode::Text, None) => Ok((MessageKind::Text, header.compressed)),
            (_, None) => Ok((MessageKind::Binary, header.compressed)),
        }
    }

    /// Checks a frame's header against the limits before anything is held for it. `holds`: the whole frame is
    /// going to be held.
    fn check_limits(&self, header: &Header, holds: bool, compressed: bool) -> Result<(), ProtocolError> {
        let (fragments, received, held) =
            self.message.as_ref().map_or((0, 0, 0), |m| (m.fragments, m.received, m.payload.len()));
        let limit = self.rules.max_frame;
        if holds && header.len > limit {
            return Err(ProtocolError::FrameTooLarge { bytes: header.len as u64, limit });
        }
        let bytes = received + header.len as u64;
        if fragments + 1 > FREE_FRAGMENTS + bytes / FRAGMENT_BYTES {
            return Err(ProtocolError::Fragments { fragments: fragments + 1, bytes });
        }
        if holds && !compressed && held.saturating_add(header.len) > self.max_message {
            return Err(ProtocolError::MessageTooLarge { limit: self.max_message });
        }
        Ok(())
    }

    /// Counts a frame of a message, perhaps the first one.
    fn begin(&mut self, header: &Header, kind: MessageKind, compressed: bool) {
        self.begun |= self.rules.in_parts || self.message.is_none();
        let message = self.message.get_or_insert_with(|| {
            Box::new(Message {
                kind,
                compressed,
                fragments: 0,
                received: 0,
                payload: BytesMut::new(),
                begun: false,
            })
        });
        message.fragments += 1;
        message.received += header.len as u64;
    }

    /// Appends a frame's payload to its message.
    fn append(&mut self, payload: &[u8]) {
        if let Some(message) = &mut self.message {
            make_room(&mut message.payload, payload.len(), self.max_message);
            copy::append(&mut message.payload, payload);
        }
    }

    /// Decompresses a piece of a frame. All of its payload is here, and unmasked.
    #[cfg(feature = "deflate")]
    fn read_compressed<F: Form>(
        &mut self,
        mut header: Header,
        src: &mut Source<'_>,
        form: &mut F,
    ) -> Result<Found<Received<F>>, Box<CloseReason>> {
        let taken = self.inflate(&src.bytes_mut()[..header.len], header.fin)?;
        src.advance(taken);
        header.len -= taken;
        let ends = header.len == 0;
        if !ends {
            self.frame = Some((header, 0));
        }
        let is_empty = self.message.as_ref().is_some_and(|message| message.payload.is_empty());
        let is_delivered = if ends { header.fin || F::IN_PARTS } else { F::IN_PARTS && !is_empty };
        if is_delivered { self.deliver(header.fin && ends, src, form) } else { Ok(Found::Control) }
    }

    /// Appends what a piece of `payload` decompresses to. Returns the number of bytes taken.
    #[cfg(feature = "deflate")]
    fn inflate(&mut self, payload: &[u8], last: bool) -> Result<usize, ProtocolError> {
        let (Some(mut message), Some(inflater)) = (self.message.take(), &mut self.inflater) else {
            return Err(ProtocolError::Deflate);
        };
        // A part is no larger than a piece.
        let limit = if self.rules.in_parts { usize::MAX } else { self.max_message };
        let from = message.payload.len();
        let inflated = inflater.inflate(payload, last, &mut message.payload, limit);
        let taken = inflated.map_err(|error| match error {
            InflateError::TooLarge { .. } => ProtocolError::MessageTooLarge { limit },
            InflateError::FinalBlocks { blocks, bytes } => ProtocolError::FinalBlocks { blocks, bytes },
            InflateError::Corrupt => ProtocolError::Deflate,
        })?;
        if message.kind == MessageKind::Text {
            self.check_text(&message.payload[from..], last && taken == payload.len())?;
        }
        self.message = Some(message);
        Ok(taken)
    }

    /// Delivers what has come of the unfinished message.
    fn deliver<F: Form>(
        &mut self,
        last: bool,
        src: &mut Source<'_>,
        form: &mut F,
    ) -> Result<Found<Received<F>>, Box<CloseReason>> {
        let Some(message) = &mut self.message else { return Ok(Found::Control) };
        let kind = message.kind;
        let payload = std::mem::take(&mut message.payload);
        src.weigh(payload.len());
        let first = !std::mem::replace(&mut message.begun, true);
        if last {
            self.message = None;
        }
        form.receive(kind, payload, first, last).map(Found::Message)
    }

    /// Delivers what is here of a frame whose header is consumed.
    fn read_part<F: Form>(
        &mut self,
        mut header: Header,
        offset: usize,
        src: &mut Source<'_>,
        form: &mut F,
    ) -> Result<Found<Received<F>>, Box<CloseReason>> {
        let here = header.len.min(src.len());
        if here == 0 && header.len > 0 {
            self.frame = Some((header, offset));
            return Ok(if offset == 0 { Found::Control } else { Found::Need(1) });
        }
        let mut payload = src.take_mut(here);
        unmask(&mut payload, &header, offset);
        header.len -= here;
        let last = header.fin && header.len == 0;
        if self.message.as_ref().is_some_and(|message| message.kind == MessageKind::Text) {
            self.check_text(&payload, last)?;
        }
        if header.len > 0 {
            self.frame = Some((header, offset + here));
        }
        if let Some(message) = &mut self.message {
            message.payload = payload;
        }
        self.deliver(last, src, form)
    }
}

/// Makes room for `more` bytes, which fit the limit, by doubling up to the limit.
fn make_room(payload: &mut BytesMut, more: usize, limit: usize) {
    let needed = payload.len() + more;
    if payload.capacity() < needed {
        let mut grown = BytesMut::with_capacity(payload.capacity().saturating_mul(2).min(limit).max(needed));
        copy::append(&mut grown, payload);
        *payload = grown;
    }
}

#[inline]
fn unmask(payload: &mut [u8], header: &Header, offset: usize) {
    if header.key != [0; 4] {
        mask(payload, header.key, offset);
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("rules", &self.rules)
            .field("message", &self.message.as_ref().map(|message| HiddenBytes(message.payload.len())))
            .finish_non_exhaustive()
    }
}
