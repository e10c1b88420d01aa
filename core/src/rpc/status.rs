//! [`Status`]: how a call failed, and whether it was executed.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::Text;
use crate::rpc::metadata::Metadata;

/// The kind of a failure: the codes of gRPC, with their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The caller cancelled the call.
    Cancelled = 1,
    /// The kind is not known. Numbers that are not in this list are read as this one.
    Unknown = 2,
    /// The request is invalid whatever the state of the system.
    InvalidArgument = 3,
    /// The deadline passed first.
    DeadlineExceeded = 4,
    /// Something requested does not exist.
    NotFound = 5,
    /// Something to create exists already.
    AlreadyExists = 6,
    /// The caller is known and may not do this.
    PermissionDenied = 7,
    /// A limit is reached, or room is used up.
    ResourceExhausted = 8,
    /// The system is not in the state that the call requires.
    FailedPrecondition = 9,
    /// The call was given up, for example after a conflict with another.
    Aborted = 10,
    /// A position lies beyond the valid range.
    OutOfRange = 11,
    /// The method, or the codec for it, is not there.
    Unimplemented = 12,
    /// A rule that always holds is broken: a bug.
    Internal = 13,
    /// The service can't be reached for now.
    Unavailable = 14,
    /// Data is lost or corrupt beyond repair.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

impl Code {
    const ALL: [Code; 16] = [
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The name in small letters, as in labels of metrics: `deadline_exceeded`.
    pub fn name(self) -> &'static str {
        match self {
            Code::Cancelled => "cancelled",
            Code::Unknown => "unknown",
            Code::InvalidArgument => "invalid_argument",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::PermissionDenied => "permission_denied",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::Aborted => "aborted",
            Code::OutOfRange => "out_of_range",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
            Code::DataLoss => "data_loss",
            Code::Unauthenticated => "unauthenticated",
        }
    }

    /// The code of a number; [`Unknown`](Code::Unknown) for those that are not in the list.
    pub fn from_number(number: u32) -> Code {
        let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| Code::ALL.get(index)).copied().unwrap_or(Code::Unknown)
    }
}

/// Whether a call that failed was executed: whether it is safe to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Executed {
    /// No handler has begun with it: repeating it is safe.
    No,
    /// It was sent and no answer came.
    Maybe,
    /// A handler had begun with it.
    Yes,
}

/// The side that made a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This side.
    Local,
    /// The peer.
    Peer,
}

/// The failure of a call: a code, a text, and whether the call was executed.
#[derive(Clone, PartialEq, Eq)]
pub struct Status {
    code: Code,
    executed: Executed,
    origin: Origin,
    message: Text,
    /// Boxed, since few failures have any of it.
    more: Option<Box<More>>,
}

#[derive(Clone, PartialEq, Eq, Default)]
struct More {
    retry_after: Option<Duration>,
    metadata: Metadata,
    details: Bytes,
}

impl Status {
    /// The length of the longest message that is sent, in bytes. A longer one is cut.
    pub const MAX_MESSAGE: usize = 4 * 1024;

    /// A failure of a call that was executed, as handlers report it.
    pub fn new(code: Code, message: impl Into<Text>) -> Self {
        Status { code, executed: Executed::Yes, origin: Origin::Local, message: message.into(), more: None }
    }

    /// Sets whether the call was executed. A handler that says [`No`](Executed::No) allows the caller to
    /// repeat the call.
    #[must_use]
    pub fn with_executed(mut self, executed: Executed) -> Self {
        self.executed = executed;
        self
    }

    /// Asks the caller to wait before it repeats the call.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.more().retry_after = Some(wait);
        self
    }

    /// Adds metadata.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.more().metadata = metadata;
        self
    }

    /// Adds the body of a typed error, in the codec of the call.
    #[must_use]
    pub fn with_details(mut self, details: Bytes) -> Self {
        self.more().details = details;
        self
    }

    pub(crate) fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The kind of failure.
    pub fn code(&self) -> Code {
        self.code
    }

    /// A text for people.
    pub fn message(&self) -> &str {
        self.message.as_str()
    }

    /// Whether the call was executed.
    pub fn executed(&self) -> Executed {
        self.executed
    }

    /// The side that made this status.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The time to wait before the call is repeated, if the peer asked for one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.more.as_ref()?.retry_after
    }

    /// The metadata that came with the failure, if any.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.more.as_ref().map(|more| &more.metadata)
    }

    /// The body of a typed error; empty if there is none.
    pub fn details(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        self.more.as_ref().map_or(&NONE, |more| &more.details)
    }
}

macro_rules! constructors {
    ($($name:ident $code:ident)*) => {
        /// A constructor for each code.
        impl Status {
            $(
                #[doc = concat!("A failure with [`Code::", stringify!($code), "`].")]
                pub fn $name(message: impl Into<Text>) -> Self {
                    Status::new(Code::$code, message)
                }
            )*
        }
    };
}

constructors! {
    cancelled Cancelled
    unknown Unknown
    invalid_argument InvalidArgument
    deadline_exceeded DeadlineExceeded
    not_found NotFound
    already_exists AlreadyExists
    permission_denied PermissionDenied
    resource_exhausted ResourceExhausted
    failed_precondition FailedPrecondition
    aborted Aborted
    out_of_range OutOfRange
    unimplemented Unimplemented
    internal Internal
    unavailable Unavailable
    data_loss DataLoss
    unauthenticated Unauthenticated
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.message)?;
        match self.executed {
            Executed::No => f.write_str(" (not executed)"),
            Executed::Maybe => f.write_str(" (perhaps executed)"),
            Executed::Yes => Ok(()),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut status = f.debug_struct("Status");
        status.field("code", &self.code).field("message", &self.message).field("executed", &self.executed);
        status.field("origin", &self.origin);
        if let Some(wait) = self.retry_after() {
            status.field("retry_after", &wait);
        }
        status.finish_non_exhaustive()
    }
}

impl std::error::Error for Status {}
