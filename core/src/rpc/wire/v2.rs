//! The frames of *getty rpc 2*: header, head and body.

use bytes::Bytes;

use crate::codec::Sink;
use crate::rpc::frame::{Body, Coding, Frame, FrameFault, Invalid, MAX_ID, MIN_ID};
use crate::rpc::head;
use crate::rpc::protobuf::{Count, Output, Stage};
use crate::rpc::status::{Executed, Origin};
use crate::rpc::wire::EncodeFrameError;

/// The length of a header in bytes.
pub(super) const HEADER: usize = 12;

/// The length of the longest head in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Flag: the body is compressed, and begins with the number of the algorithm.
const COMPRESSED: u8 = 1;
/// Flag: items follow.
const MORE: u8 = 2;
/// Flag: no handler has begun with the call.
const NOT_EXECUTED: u8 = 4;
/// Flag: the caller wants no result.
const ONE_WAY: u8 = 8;

/// The flags that a receiver must understand. The others are ignored.
const STRICT_FLAGS: u8 = 0x0f;

/// The kinds from here on may be ignored.
const SKIPPED_FROM: u8 = 0x80;

/// The kind of a frame, by its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Hello,
    Request,
    Reply,
    Error,
    Cancel,
    Item,
    End,
    Window,
    Ping,
    Pong,
    GoAway,
    Calls,
}

impl Kind {
    const ALL: [Kind; 12] = [
        Kind::Hello,
        Kind::Request,
        Kind::Reply,
        Kind::Error,
        Kind::Cancel,
        Kind::Item,
        Kind::End,
        Kind::Window,
        Kind::Ping,
        Kind::Pong,
        Kind::GoAway,
        Kind::Calls,
    ];

    #[inline]
    pub(crate) fn from_number(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number)).copied()
    }

    /// The flags that frames of this kind may have, of those that matter.
    #[inline]
    fn flags(self) -> u8 {
        match self {
            Kind::Request => COMPRESSED | MORE | ONE_WAY,
            Kind::Reply | Kind::Item => COMPRESSED,
            Kind::Error => NOT_EXECUTED,
            _ => 0,
        }
    }

    fn has_body(self) -> bool {
        matches!(self, Kind::Request | Kind::Reply | Kind::Error | Kind::Item)
    }

    /// Whether frames of this kind belong to a call.
    fn is_of_a_call(self) -> bool {
        !matches!(self, Kind::Hello | Kind::Ping | Kind::Pong | Kind::GoAway | Kind::Calls)
    }
}

/// The first bytes of a frame.
pub(super) struct Header {
    /// The length of head and body together.
    pub(super) length: u32,
    kind: u8,
    flags: u8,
    head: u16,
    id: u32,
}

impl Header {
    #[inline]
    pub(super) fn read(bytes: &[u8; HEADER]) -> Self {
        let &[l0, l1, l2, l3, kind, flags, h0, h1, i0, i1, i2, i3] = bytes;
        Header {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            kind,
            flags,
            head: u16::from_le_bytes([h0, h1]),
            id: u32::from_le_bytes([i0, i1, i2, i3]),
        }
    }

    /// Whether this frame may be ignored. The number of its kind if so.
    pub(super) fn skipped(&self) -> Option<u8> {
        (self.kind >= SKIPPED_FROM).then_some(self.kind)
    }

    fn bytes(&self) -> [u8; HEADER] {
        let [l0, l1, l2, l3] = self.length.to_le_bytes();
        let [h0, h1] = self.head.to_le_bytes();
        let [i0, i1, i2, i3] = self.id.to_le_bytes();
        [l0, l1, l2, l3, self.kind, self.flags, h0, h1, i0, i1, i2, i3]
    }
}

/// Reads the frame that has this header, of a kind that is not skipped, and the `bytes` after it.
#[inline]
pub(super) fn read(header: &Header, bytes: Bytes) -> Frame {
    read_valid(header, bytes)
        .unwrap_or_else(|fault| Frame::Invalid(Invalid { kind: header.kind, id: header.id, fault }))
}

#[inline(always)]
fn read_valid(header: &Header, mut bytes: Bytes) -> Result<Frame, FrameFault> {
    let &Header { flags, id, .. } = header;
    let kind = Kind::from_number(header.kind).ok_or(FrameFault::Kind(header.kind))?;
    check_flags(kind, flags)?;
    check_id(kind, id)?;
    let length = usize::from(header.head);
    if length > MAX_HEAD || length > bytes.len() {
        return Err(FrameFault::HeadLength { head: length, frame: bytes.len() });
    }
    let head = if length == 0 { Bytes::new() } else { bytes.split_to(length) };
    if !bytes.is_empty() && !kind.has_body() {
        return Err(FrameFault::Body(bytes.len()));
    }
    let coding = if flags & COMPRESSED == 0 { Coding::Plain } else { Coding::Compressed };
    let body = |bytes| Body { bytes, coding };
    Ok(match kind {
        Kind::Hello => Frame::Hello(head::read_hello(head)?),
        Kind::Request => {
            let mut request = head::read_request(head, body(bytes))?;
            request.more = flags & MORE != 0;
            request.one_way = flags & ONE_WAY != 0;
            Frame::Request(id, request)
        }
        Kind::Reply => Frame::Reply(id, head::read_reply(head, body(bytes))?),
        Kind::Error => {
            let status = head::read_error(head)?.with_origin(Origin::Peer);
            let is_executed = flags & NOT_EXECUTED == 0;
            let status = status.with_executed(if is_executed { Executed::Yes } else { Executed::No });
            Frame::Error(id, if bytes.is_empty() { status } else { status.with_details(bytes) })
        }
        Kind::Cancel => head::read_empty(&head).map(|()| Frame::Cancel(id))?,
        Kind::Item => head::read_empty(&head).map(|()| Frame::Item(id, body(bytes)))?,
        Kind::End => head::read_empty(&head).map(|()| Frame::End(id))?,
        Kind::Window => Frame::Window(id, head::read_short_number(&head)?),
        Kind::Ping => Frame::Ping(head::read_number(&head)?),
        Kind::Pong => Frame::Pong(head::read_number(&head)?),
        Kind::GoAway => Frame::GoAway(head::read_go_away(head)?),
        Kind::Calls => Frame::Calls(head::read_short_number(&head)?),
    })
}

fn check_flags(kind: Kind, flags: u8) -> Result<(), FrameFault> {
    let strict = flags & STRICT_FLAGS;
    // A one-way call ends when it is taken: there is no time for items.
    if strict & !kind.flags() != 0 || strict & (MORE | ONE_WAY) == MORE | ONE_WAY {
        return Err(FrameFault::Flags { kind: kind as u8, flags });
    }
    Ok(())
}

fn check_id(kind: Kind, id: u32) -> Result<(), FrameFault> {
    let is_valid = if kind.is_of_a_call() { (MIN_ID..=MAX_ID).contains(&id) } else { id == 0 };
    if is_valid { Ok(()) } else { Err(FrameFault::Id(id)) }
}

/// The number of bytes of `frame` on the wire.
pub(super) fn encoded_len(frame: &Frame) -> usize {
    let mut head = Count::default();
    put_head(frame, &mut head);
    HEADER + head.0 + body(frame).len()
}

/// Writes `frame`, with `begin` before it. Nothing is written if the receiver would refuse the frame.
pub(super) fn write(begin: &[u8], frame: Frame, out: &mut Sink<'_>) -> Result<(), EncodeFrameError> {
    let mut header = check(&frame)?;
    let body_length = body(&frame).len();
    // Most heads are short: they are written once, and counted by that.
    let mut stage = Stage::after(HEADER);
    put_head(&frame, &mut stage);
    let head_length = stage.len() - HEADER;
    header.length =
        u32::try_from(head_length + body_length).map_err(|_| EncodeFrameError::TooLong(body_length))?;
    // The limits of the fields keep every head below `MAX_HEAD`.
    header.head = head_length as u16;
    if !begin.is_empty() {
        out.put_slice(begin);
    }
    match stage.filled(&header.bytes()) {
        Some(bytes) => out.put_slice(bytes),
        None => {
            out.put_slice(&header.bytes());
            put_head(&frame, out);
        }
    }
    match frame {
        Frame::Request(_, request) => out.put_bytes(request.body.bytes),
        Frame::Reply(_, reply) => out.put_bytes(reply.body.bytes),
        Frame::Error(_, status) => out.put_bytes(status.details().clone()),
        Frame::Item(_, body) => out.put_bytes(body.bytes),
        _ => {}
    }
    Ok(())
}

/// The header of `frame` without lengths, unless the receiver would refuse the frame.
#[inline(always)]
fn check(frame: &Frame) -> Result<Header, EncodeFrameError> {
    let (kind, flags, id) = match frame {
        Frame::Hello(_) => (Kind::Hello, 0, 0),
        Frame::Request(id, request) => {
            let body = flag(COMPRESSED, request.body.is_compressed());
            (Kind::Request, body | flag(MORE, request.more) | flag(ONE_WAY, request.one_way), *id)
        }
        Frame::Reply(id, reply) => (Kind::Reply, flag(COMPRESSED, reply.body.is_compressed()), *id),
        Frame::Error(id, status) => (Kind::Error, flag(NOT_EXECUTED, status.executed() == Executed::No), *id),
        Frame::Cancel(id) => (Kind::Cancel, 0, *id),
        Frame::Item(id, body) => (Kind::Item, flag(COMPRESSED, body.is_compressed()), *id),
        Frame::End(id) => (Kind::End, 0, *id),
        Frame::Window(id, _) => (Kind::Window, 0, *id),
        Frame::Ping(_) => (Kind::Ping, 0, 0),
        Frame::Pong(_) => (Kind::Pong, 0, 0),
        Frame::GoAway(_) => (Kind::GoAway, 0, 0),
        Frame::Calls(_) => (Kind::Calls, 0, 0),
        Frame::Skipped(_) | Frame::Invalid(_) => return Err(EncodeFrameError::OnlyReceived),
    };
    check_flags(kind, flags)?;
    check_id(kind, id)?;
    match frame {
        Frame::Hello(hello) => head::check_hello(hello)?,
        Frame::Request(_, request) => head::check_request(request)?,
        _ => {}
    }
    Ok(Header { length: 0, kind: kind as u8, flags, head: 0, id })
}

fn flag(flag: u8, set: bool) -> u8 {
    if set { flag } else { 0 }
}

fn body(frame: &Frame) -> &[u8] {
    match frame {
        Frame::Request(_, request) => &request.body.bytes,
        Frame::Reply(_, reply) => &reply.body.bytes,
        Frame::Error(_, status) => status.details(),
        Frame::Item(_, body) => &body.bytes,
        _ => &[],
    }
}

fn put_head(frame: &Frame, out: &mut impl Output) {
    match frame {
        Frame::Hello(hello) => head::write_hello(hello, out),
        Frame::Request(_, request) => head::write_request(request, out),
        Frame::Reply(_, reply) => head::write_reply(reply, out),
        Frame::Error(_, status) => head::write_error(status, out),
        Frame::Window(_, bytes) => out.put_nonzero(1, *bytes),
        Frame::Ping(number) | Frame::Pong(number) => out.put_nonzero(1, *number),
        Frame::GoAway(go_away) => head::write_go_away(go_away, out),
        Frame::Calls(calls) => out.put_nonzero(1, *calls),
        Frame::Cancel(_) | Frame::Item(..) | Frame::End(_) | Frame::Skipped(_) | Frame::Invalid(_) => {}
    }
}
