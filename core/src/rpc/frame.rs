//! [`Frame`]: one frame of *getty rpc 2*, decoded.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::Text;
use crate::hidden::HiddenBytes;
use crate::rpc::metadata::Metadata;
use crate::rpc::status::Status;

/// A frame. Those with an `id` belong to a call; the others to the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// The first frame of each side: its limits.
    Hello(Hello),
    /// Begins a call.
    Request(u32, Request),
    /// Ends a call with success.
    Reply(u32, Reply),
    /// Ends a call with a failure.
    Error(u32, Status),
    /// Gives a call up: the caller waits for the answer no longer.
    Cancel(u32),
    /// An item of a stream, in either direction.
    Item(u32, Body),
    /// Ends the caller's stream.
    End(u32),
    /// Grants bytes of the other side's stream.
    Window(u32, u32),
    /// Asks for a sign of life.
    Ping(u64),
    /// Answers a ping, with its number.
    Pong(u64),
    /// The sender begins no call and takes no request after this frame.
    GoAway(GoAway),
    /// Changes the number of calls that the sender takes at once.
    Calls(u32),
    /// A frame of a kind that is not known here and may be ignored: 128 and above. Only received, never sent.
    Skipped(u8),
    /// A frame that breaks the rules of its kind. Only received, never sent.
    Invalid(Invalid),
}

/// The lowest id of a call. 0 is the connection's.
pub(crate) const MIN_ID: u32 = 2;

/// The highest id of a call: those of each side are the even or the odd ones, and have at most 65 536 slots.
pub(crate) const MAX_ID: u32 = 2 * 65_536 + 1;

/// The limits of a side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Calls that the sender takes at once. At least [`Hello::MIN_CALLS`].
    pub max_calls: u32,
    /// Bytes that may be sent on a stream before the sender grants more. At least [`Hello::MIN_WINDOW`], at
    /// most [`Hello::MAX_WINDOW`].
    pub window: u32,
    /// The largest frame that the sender takes, in bytes after the header. At least [`Hello::MIN_FRAME`].
    pub max_frame: u32,
    /// The sender decompresses bodies of deflate (algorithm 1).
    pub deflate: bool,
    /// Name and version of the software, for logs. At most 255 bytes.
    pub software: Text,
}

impl Hello {
    /// Calls that every side takes at once, whatever it says. They are allowed before its Hello has come.
    pub const MIN_CALLS: u32 = 16;
    /// The window of each stream before the Hello of the other side has come.
    pub const MIN_WINDOW: u32 = 16 * 1024;
    /// The largest frame before the Hello of the other side has come.
    pub const MIN_FRAME: u32 = 64 * 1024;
    /// The largest window.
    pub const MAX_WINDOW: u32 = i32::MAX as u32;
    /// The length of the longest name of a software in bytes.
    pub const MAX_SOFTWARE: usize = 255;
}

/// The beginning of a call.
///
/// What few requests have is in [`extra`](Self::extra), with methods to read and set it: a request is moved
/// often, and small without it.
#[derive(Clone)]
pub struct Request {
    /// Service and method: `pkg.Service/Method`. At most [`Request::MAX_METHOD`] bytes.
    pub method: Text,
    /// The codec of the bodies of this call.
    pub codec: CodecName,
    /// The time left for the call when the frame was made. On the wire in microseconds, rounded up. `None`:
    /// no limit.
    pub timeout: Option<Duration>,
    /// Items follow, until End.
    pub more: bool,
    /// The caller wants no result: the reply is empty and comes once the call is taken. Such a call has no
    /// streams.
    pub one_way: bool,
    /// The request value.
    pub body: Body,
    /// The parts that few requests have.
    pub extra: Option<Box<Extra>>,
}

/// The parts of a [`Request`] that few have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra {
    /// Metadata for the handler.
    pub metadata: Metadata,
    /// The trace that the call belongs to.
    pub trace: Option<Trace>,
    /// Failed attempts before this one.
    pub attempt: u32,
}

impl Request {
    /// The length of the longest method in bytes.
    pub const MAX_METHOD: usize = 1024;

    /// A request without limits, metadata and streams.
    pub fn new(method: impl Into<Text>, codec: CodecName, body: impl Into<Body>) -> Self {
        Request {
            method: method.into(),
            codec,
            timeout: None,
            more: false,
            one_way: false,
            body: body.into(),
            extra: None,
        }
    }

    /// Metadata for the handler.
    pub fn metadata(&self) -> &Metadata {
        &self.rest().metadata
    }

    /// Metadata for the handler, to be changed.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.extra.get_or_insert_default().metadata
    }

    /// The trace that the call belongs to.
    pub fn trace(&self) -> Option<&Trace> {
        self.rest().trace.as_ref()
    }

    /// Sets the trace that the call belongs to.
    pub fn set_trace(&mut self, trace: Option<Trace>) {
        if trace.is_some() || self.extra.is_some() {
            self.extra.get_or_insert_default().trace = trace;
        }
    }

    /// Failed attempts before this one.
    pub fn attempt(&self) -> u32 {
        self.rest().attempt
    }

    /// Sets the number of failed attempts before this one.
    pub fn set_attempt(&mut self, attempt: u32) {
        if attempt != 0 || self.extra.is_some() {
            self.extra.get_or_insert_default().attempt = attempt;
        }
    }

    fn rest(&self) -> &Extra {
        static NONE: Extra = Extra { metadata: Metadata::new(), trace: None, attempt: 0 };
        self.extra.as_deref().unwrap_or(&NONE)
    }
}

impl PartialEq for Request {
    fn eq(&self, other: &Self) -> bool {
        let facts = |request: &Self| (request.timeout, request.more, request.one_way);
        self.method == other.method
            && self.codec == other.codec
            && facts(self) == facts(other)
            && self.body == other.body
            && self.rest() == other.rest()
    }
}

impl Eq for Request {}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("codec", &self.codec)
            .field("timeout", &self.timeout)
            .field("attempt", &self.attempt())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// The success of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// Metadata for the caller.
    pub metadata: Metadata,
    /// The result.
    pub body: Body,
}

/// A body, in the codec of its call, as it is on the wire. Its `Debug` output shows no content.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// The bytes. If they are compressed, the first one is the algorithm.
    pub bytes: Bytes,
    /// Whether the bytes are compressed.
    pub coding: Coding,
}

/// Whether a body is compressed, or may be.
///
/// As wide as a word, like the tag of [`CodecName`]: the enums around a body use the tag for themselves, and
/// behind a narrow one the rest would be copied in odd pieces, which the processor has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(usize)]
pub enum Coding {
    /// The bytes are the body.
    #[default]
    Plain,
    /// The bytes are the body, which is compressed when it is sent: if the peer takes that, and if it has at
    /// least [`Body::MIN_COMPRESSED`] bytes and gets smaller. Without the feature `deflate` it never is. Only
    /// sent, never received.
    Compressible,
    /// The first byte is the algorithm, and the others are compressed.
    Compressed,
}

impl Body {
    /// The size of the smallest body that is compressed, in bytes.
    pub const MIN_COMPRESSED: usize = 1024;

    /// Lets the body be compressed when it is sent, unless it is already.
    ///
    /// The length of a compressed body tells something about a secret in it to those who see the traffic and
    /// can choose another part of the same body.
    #[must_use]
    pub fn compressible(mut self) -> Self {
        if self.coding == Coding::Plain {
            self.coding = Coding::Compressible;
        }
        self
    }

    /// Whether the bytes are compressed.
    pub fn is_compressed(&self) -> bool {
        self.coding == Coding::Compressed
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Self {
        Body { bytes: bytes.into(), coding: Coding::Plain }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = HiddenBytes(self.bytes.len());
        if self.is_compressed() { f.debug_tuple("Compressed").field(&size).finish() } else { size.fmt(f) }
    }
}

/// The name of a codec for bodies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[repr(usize)]
#[non_exhaustive]
pub enum CodecName {
    /// `json`
    Json,
    /// `proto`
    Protobuf,
    /// `raw`: the bytes themselves.
    Raw,
    /// Any other, made with [`CodecName::new`]. At most 255 bytes. Boxed: few calls have one, and all are
    /// moved often.
    Other(Box<Text>),
}

impl CodecName {
    /// The length of the longest name in bytes.
    pub const MAX: usize = 255;

    /// The codec of this name.
    pub fn new(name: impl Into<Text>) -> Self {
        let name = name.into();
        match &name.as_bytes()[..] {
            b"json" => CodecName::Json,
            b"proto" => CodecName::Protobuf,
            b"raw" => CodecName::Raw,
            _ => CodecName::Other(Box::new(name)),
        }
    }

    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            CodecName::Json => "json",
            CodecName::Protobuf => "proto",
            CodecName::Raw => "raw",
            CodecName::Other(name) => name.as_str(),
        }
    }
}

impl fmt::Display for CodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The place of a call in a distributed trace (W3C Trace Context).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The `traceparent` of version 00: 16 bytes of trace, 8 of the parent, 1 of flags.
    pub parent: [u8; Trace::PARENT],
    /// The `tracestate`; empty if there is none. It is not sent if it has more than [`Trace::MAX_STATE`]
    /// bytes.
    pub state: Text,
}

impl Trace {
    /// The length of the longest `tracestate` in bytes.
    pub const MAX_STATE: usize = 4 * 1024;
    /// The length of [`Trace::parent`] in bytes.
    pub(crate) const PARENT: usize = 25;

    /// A place without a `tracestate`: in the trace `trace_id`, below the span `parent_id`.
    pub fn new(trace_id: u128, parent_id: u64, is_sampled: bool) -> Self {
        let mut parent = [0; Trace::PARENT];
        parent[..16].copy_from_slice(&trace_id.to_be_bytes());
        parent[24] = is_sampled.into();
        Trace { parent, state: Text::default() }.with_parent_id(parent_id)
    }

    /// Puts it below the span `parent_id` of the same trace.
    #[must_use]
    pub fn with_parent_id(mut self, parent_id: u64) -> Self {
        self.parent[16..24].copy_from_slice(&parent_id.to_be_bytes());
        self
    }

    /// The trace. Written as 32 hexadecimal digits: `{:032x}`.
    pub fn trace_id(&self) -> u128 {
        self.parent[..16].iter().fold(0, |id, &byte| id << 8 | u128::from(byte))
    }

    /// The span of the caller. Written as 16 hexadecimal digits: `{:016x}`.
    pub fn parent_id(&self) -> u64 {
        self.parent[16..24].iter().fold(0, |id, &byte| id << 8 | u64::from(byte))
    }

    /// Whether the caller may have recorded its span.
    pub fn is_sampled(&self) -> bool {
        self.parent[24] & 1 == 1
    }

    /// Whether neither id is zero. A trace that is not valid is as none: its receiver begins another.
    pub fn is_valid(&self) -> bool {
        self.trace_id() != 0 && self.parent_id() != 0
    }
}

/// The reason why a side goes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAway {
    /// The reason.
    pub code: GoAwayCode,
    /// A text for people. A longer one than [`GoAway::MAX_TEXT`] is cut when it is sent.
    pub text: Text,
}

impl GoAway {
    /// The length of the longest text in bytes.
    pub const MAX_TEXT: usize = 1024;
}

/// The kind of reason in a [`GoAway`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GoAwayCode {
    /// 0: the side shuts down, or its connection is old enough. Other numbers that are not in this list are
    /// read as this one.
    Shutdown,
    /// 1: the receiver broke a rule of the protocol.
    Protocol,
    /// 2: the receiver makes too much useless work, such as calls that it cancels at once.
    EnhanceYourCalm,
    /// 3: the receiver did not answer in time.
    Timeout,
}

impl GoAwayCode {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            GoAwayCode::Shutdown => 0,
            GoAwayCode::Protocol => 1,
            GoAwayCode::EnhanceYourCalm => 2,
            GoAwayCode::Timeout => 3,
        }
    }

    /// The code of a number; [`Shutdown`](GoAwayCode::Shutdown) for those that are not in the list.
    pub fn from_number(number: u32) -> GoAwayCode {
        match number {
            1 => GoAwayCode::Protocol,
            2 => GoAwayCode::EnhanceYourCalm,
            3 => GoAwayCode::Timeout,
            _ => GoAwayCode::Shutdown,
        }
    }
}

/// A frame that breaks the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The kind of frame.
    pub kind: u8,
    /// The call, 0 for the connection.
    pub id: u32,
    /// The broken rule.
    pub fault: FrameFault,
}

/// A rule of frames that a peer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameFault {
    /// The peer speaks no version that this side speaks. Comes once, as kind 0 of id 0, and is the last
    /// frame.
    #[error("the peer speaks version {0} of getty rpc, and this side none before 2: upgrade the peer")]
    Version(u8),
    /// A kind below 128 that is not defined.
    #[error("kind {0} is not known, and kinds below 128 are not skipped")]
    Kind(u8),
    /// Flags that do not belong to this kind of frame.
    #[error("flags {flags:#x} do not belong to a frame of kind {kind}")]
    Flags {
        /// The kind of frame.
        kind: u8,
        /// All flags of the frame.
        flags: u8,
    },
    /// An id that does not belong to this kind of frame.
    #[error(
        "id {0} does not belong to this kind of frame: calls have {MIN_ID} to {MAX_ID}, and the connection 0"
    )]
    Id(u32),
    /// The head is longer than the frame, or than 16 KiB.
    #[error("a head of {head} bytes in a frame of {frame} (at most 16 384, and within the frame)")]
    HeadLength {
        /// Length of the head.
        head: usize,
        /// Length of head and body.
        frame: usize,
    },
    /// A frame with a body whose kind has none.
    #[error("a body of {0} bytes in a frame of a kind that has none")]
    Body(usize),
    /// The head is not valid Protobuf, or ends within a field.
    #[error("the head is not valid Protobuf")]
    Head,
    /// A field that must be there is missing, or has the default of its type, which is the same.
    #[error("field {0} of the head is missing")]
    Missing(u32),
    /// A field is invalid: not UTF-8, too long, or outside its range.
    #[error("field {0} of the head is invalid")]
    Field(u32),
    /// The metadata exceed their limits or have an invalid key.
    #[error("metadata: {0}")]
    Metadata(#[from] crate::rpc::metadata::MetadataError),
}

impl FrameFault {
    /// Whether only the head is at fault, so that the frame's place is known.
    pub(crate) fn is_in_head(self) -> bool {
        matches!(
            self,
            FrameFault::Head | FrameFault::Missing(_) | FrameFault::Field(_) | FrameFault::Metadata(_)
        )
    }
}
