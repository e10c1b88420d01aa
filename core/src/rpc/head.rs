//! The heads of frames: what `rpc.proto` describes, read and written.
//!
//! Reading is strict where a later meaning could hide (limits, UTF-8, numbers too large for their field) and
//! skips fields that it does not know. The last value of a field wins. Writing puts fields in the order of
//! their numbers and leaves out those with the default, as other writers of Protobuf do.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes};

use crate::codec::Text;
use crate::rpc::frame::{
    Body, CodecName, Extra, FrameFault, GoAway, GoAwayCode, Hello, Reply, Request, Trace,
};
use crate::rpc::metadata::{Metadata, Reading};
use crate::rpc::protobuf::{Count, Fields, Output};
use crate::rpc::status::{Code, Status};

/// The only algorithm of compression. 2 is reserved for zstd.
const DEFLATE: u64 = 1;

/// The end of a text that is cut.
const CUT: &str = "...";

pub(crate) fn read_hello(head: Bytes) -> Result<Hello, FrameFault> {
    let (mut max_calls, mut window, mut max_frame) = (0, 0, 0);
    let (mut deflate, mut software) = (false, 0..0);
    let mut fields = Fields::new(&head);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => max_calls = field.u32()?,
            2 => window = field.u32()?,
            3 => max_frame = field.u32()?,
            4 => deflate |= field.contains(&head, DEFLATE)?,
            5 => software = field.text(&head, Hello::MAX_SOFTWARE)?,
            _ => {}
        }
    }
    let hello = Hello { max_calls, window, max_frame, deflate, software: slice(head, software) };
    check_hello(&hello).map(|()| hello)
}

/// Checks what the type of the fields allows and the protocol does not.
pub(crate) fn check_hello(hello: &Hello) -> Result<(), FrameFault> {
    let fields = [
        (1, hello.max_calls, Hello::MIN_CALLS, u32::MAX),
        (2, hello.window, Hello::MIN_WINDOW, Hello::MAX_WINDOW),
        (3, hello.max_frame, Hello::MIN_FRAME, u32::MAX),
    ];
    for (field, value, min, max) in fields {
        match value {
            0 => return Err(FrameFault::Missing(field)),
            _ if value < min || value > max => return Err(FrameFault::Field(field)),
            _ => {}
        }
    }
    if hello.software.as_bytes().len() > Hello::MAX_SOFTWARE { Err(FrameFault::Field(5)) } else { Ok(()) }
}

pub(crate) fn write_hello(hello: &Hello, out: &mut impl Output) {
    out.put_nonzero(1, hello.max_calls);
    out.put_nonzero(2, hello.window);
    out.put_nonzero(3, hello.max_frame);
    if hello.deflate {
        out.put_bytes(4, &[DEFLATE as u8]);
    }
    out.put_bytes(5, hello.software.as_bytes());
}

/// Reads the head of a request, which has this body. What the flags say is not in it.
#[inline(always)]
pub(crate) fn read_request(head: Bytes, body: Body) -> Result<Request, FrameFault> {
    let (mut method, mut timeout, mut codec) = (0..0, None, 0..0);
    let (mut parent, mut metadata, mut attempt, mut state) = (0..0, Reading::default(), 0, 0..0);
    let mut fields = Fields::new(&head);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => method = field.text(&head, Request::MAX_METHOD)?,
            2 => timeout = Some(Duration::from_micros(field.u64()?)),
            3 => codec = field.bytes(CodecName::MAX)?,
            4 => {
                parent = field.bytes(Trace::PARENT)?;
                if parent.len() % Trace::PARENT != 0 {
                    return Err(field.invalid());
                }
            }
            5 => metadata.add(&head, &field)?,
            6 => attempt = field.u32()?,
            7 => state = field.text(&head, Trace::MAX_STATE)?,
            _ => {}
        }
    }
    let codec = match &head[codec.clone()] {
        b"" => return Err(FrameFault::Missing(3)),
        b"json" => CodecName::Json,
        b"proto" => CodecName::Protobuf,
        b"raw" => CodecName::Raw,
        _ => CodecName::new(Text::try_from(head.slice(codec)).map_err(|_| FrameFault::Field(3))?),
    };
    if method.is_empty() {
        return Err(FrameFault::Missing(1));
    }
    let has_extra = attempt != 0 || !parent.is_empty() || !metadata.is_empty();
    let extra = has_extra.then(|| read_extra(&head, parent, state, metadata, attempt));
    Ok(Request { method: slice(head, method), codec, timeout, more: false, one_way: false, body, extra })
}

#[inline(never)]
fn read_extra(
    head: &Bytes,
    parent: Range<usize>,
    state: Range<usize>,
    metadata: Reading,
    attempt: u32,
) -> Box<Extra> {
    let trace = match head[parent].try_into() {
        Ok(parent) => Some(Trace { parent, state: Text::checked(head.slice(state)) }),
        Err(_) => None,
    };
    Box::new(Extra { metadata: metadata.finish(head), trace, attempt })
}

/// Checks what the type of the fields allows and the protocol does not.
pub(crate) fn check_request(request: &Request) -> Result<(), FrameFault> {
    match (request.method.as_bytes().len(), request.codec.as_str().len()) {
        (0, _) => Err(FrameFault::Missing(1)),
        (_, 0) => Err(FrameFault::Missing(3)),
        (method, _) if method > Request::MAX_METHOD => Err(FrameFault::Field(1)),
        (_, codec) if codec > CodecName::MAX => Err(FrameFault::Field(3)),
        _ => Ok(()),
    }
}

pub(crate) fn write_request(request: &Request, out: &mut impl Output) {
    out.put_bytes(1, request.method.as_bytes());
    if let Some(timeout) = request.timeout {
        out.put_number(2, micros(timeout));
    }
    out.put_bytes(3, request.codec.as_str().as_bytes());
    if let Some(extra) = &request.extra {
        write_extra(extra, out);
    }
}

#[inline(never)]
fn write_extra(extra: &Extra, out: &mut impl Output) {
    if let Some(trace) = &extra.trace {
        out.put_bytes(4, &trace.parent);
    }
    extra.metadata.write(out, 5);
    out.put_nonzero(6, extra.attempt);
    if let Some(trace) = extra.trace.as_ref().filter(|trace| trace.state.as_bytes().len() <= Trace::MAX_STATE)
    {
        out.put_bytes(7, trace.state.as_bytes());
    }
}

/// Reads the head of a reply, which has this body.
#[inline(always)]
pub(crate) fn read_reply(head: Bytes, body: Body) -> Result<Reply, FrameFault> {
    if head.is_empty() {
        return Ok(Reply { metadata: Metadata::new(), body });
    }
    let mut metadata = Reading::default();
    let mut fields = Fields::new(&head);
    while let Some(field) = fields.next()? {
        if field.number == 4 {
            metadata.add(&head, &field)?;
        }
    }
    Ok(Reply { metadata: metadata.finish(&head), body })
}

pub(crate) fn write_reply(reply: &Reply, out: &mut impl Output) {
    reply.metadata.write(out, 4);
}

/// Reads the head of an error. What the flags say and the details are not in it.
pub(crate) fn read_error(head: Bytes) -> Result<Status, FrameFault> {
    let (mut code, mut message, mut wait) = (0, 0..0, None);
    let mut metadata = Reading::default();
    let mut fields = Fields::new(&head);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => code = field.u32()?,
            2 => message = field.text(&head, Status::MAX_MESSAGE)?,
            3 => wait = Some(Duration::from_micros(field.u64()?)),
            4 => metadata.add(&head, &field)?,
            _ => {}
        }
    }
    let metadata = metadata.finish(&head);
    let mut status = Status::new(Code::from_number(code), slice(head, message));
    if let Some(wait) = wait {
        status = status.with_retry_after(wait);
    }
    Ok(if metadata.is_empty() { status } else { status.with_metadata(metadata) })
}

pub(crate) fn write_error(status: &Status, out: &mut impl Output) {
    out.put_nonzero(1, status.code().number());
    put_text(out, 2, status.message(), Status::MAX_MESSAGE);
    if let Some(wait) = status.retry_after() {
        out.put_number(3, micros(wait));
    }
    if let Some(metadata) = status.metadata() {
        metadata.write(out, 4);
    }
}

pub(crate) fn read_go_away(head: Bytes) -> Result<GoAway, FrameFault> {
    let (mut code, mut text) = (0, 0..0);
    let mut fields = Fields::new(&head);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => code = field.u32()?,
            2 => text = field.text(&head, GoAway::MAX_TEXT)?,
            _ => {}
        }
    }
    Ok(GoAway { code: GoAwayCode::from_number(code), text: slice(head, text) })
}

pub(crate) fn write_go_away(go_away: &GoAway, out: &mut impl Output) {
    out.put_nonzero(1, go_away.code.number());
    put_text(out, 2, go_away.text.as_str(), GoAway::MAX_TEXT);
}

impl Request {
    /// The length of its frame in bytes, after the header.
    pub(crate) fn size(&self) -> usize {
        let mut head = Count::default();
        write_request(self, &mut head);
        head.0 + self.body.bytes.len()
    }
}

impl Reply {
    /// The length of its frame in bytes, after the header.
    pub(crate) fn size(&self) -> usize {
        let mut head = Count::default();
        write_reply(self, &mut head);
        head.0 + self.body.bytes.len()
    }
}

impl Status {
    /// The length of its frame in bytes, after the header.
    pub(crate) fn size(&self) -> usize {
        let mut head = Count::default();
        write_error(self, &mut head);
        head.0 + self.details().len()
    }
}

/// Reads a head whose only field is a number.
pub(crate) fn read_number(head: &[u8]) -> Result<u64, FrameFault> {
    let mut number = 0;
    let mut fields = Fields::new(head);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            number = field.u64()?;
        }
    }
    Ok(number)
}

/// Reads a head whose only field is a number of 32 bits.
pub(crate) fn read_short_number(head: &[u8]) -> Result<u32, FrameFault> {
    u32::try_from(read_number(head)?).map_err(|_| FrameFault::Field(1))
}

/// Reads a head that has no fields yet.
pub(crate) fn read_empty(head: &[u8]) -> Result<(), FrameFault> {
    let mut fields = Fields::new(head);
    while fields.next()?.is_some() {}
    Ok(())
}

/// The text at `place` in a head, where it was checked.
fn slice(mut head: Bytes, place: Range<usize>) -> Text {
    if place.is_empty() {
        return Text::default(); // an empty slice would keep the memory alive
    }
    // As the head is needed no longer, it becomes the text: another reference to its memory would cost more.
    head.truncate(place.end);
    head.advance(place.start);
    Text::checked(head)
}

/// Writes a text, cut to `max` bytes.
fn put_text(out: &mut impl Output, field: u32, text: &str, max: usize) {
    if text.len() <= max {
        return out.put_bytes(field, text.as_bytes());
    }
    let mut end = max - CUT.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.put_length(field, end + CUT.len());
    out.put(&text.as_bytes()[..end]);
    out.put(CUT.as_bytes());
}

/// A time in microseconds, rounded up so that it is not over too early.
fn micros(time: Duration) -> u64 {
    let seconds = time.as_secs().checked_mul(1_000_000);
    let rest = u64::from(time.subsec_nanos().div_ceil(1000));
    seconds.and_then(|seconds| seconds.checked_add(rest)).unwrap_or(u64::MAX)
}
