//! [`CallError`]: the failure of a call whose method has an error type of its own.

use getty_core::rpc::{Decode, Executed, Status};

/// The failure of a call whose method has an error type of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// The method's own error.
    #[error("{0}")]
    App(E),
    /// Any other failure.
    #[error("{0}")]
    Status(Status),
}

impl<E> CallError<E> {
    /// Reads the method's own error from a status, if it has one that `codec` can read.
    pub fn from_status<C: Decode<E>>(status: Status, codec: &C) -> Self {
        if status.details().is_empty() {
            return CallError::Status(status);
        }
        match codec.decode(status.details().clone()) {
            Ok(error) => CallError::App(error),
            Err(_) => CallError::Status(status),
        }
    }

    /// Whether the call was executed.
    pub fn executed(&self) -> Executed {
        match self {
            CallError::App(_) => Executed::Yes,
            CallError::Status(status) => status.executed(),
        }
    }
}
