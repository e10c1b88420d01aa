//! [`MethodError`] and [`CallError`]: the errors of methods, on both sides.

use std::convert::Infallible;

use getty_core::rpc::{Decode, Executed, Status};

/// An error that a method may end with, in calls of codec `C`: a [`Status`], or a type of your own with
/// [`#[derive(rpc::Error)]`](derive@super::Error), which says what it is.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the error of a method in the codec `{C}`",
    label = "not the error of a method",
    note = "use `rpc::Status`, or `#[derive(rpc::Error)]` on a type that the codec reads and writes"
)]
pub trait MethodError<C>: Sized {
    /// What a caller of the method gets.
    type Failure;

    /// The status that goes to the caller.
    fn into_status(self, codec: &C) -> Status;

    /// What a caller gets for a status.
    fn failure(status: Status, codec: &C) -> Self::Failure;
}

impl<C> MethodError<C> for Status {
    type Failure = Status;

    #[inline]
    fn into_status(self, _: &C) -> Status {
        self
    }

    #[inline]
    fn failure(status: Status, _: &C) -> Status {
        status
    }
}

/// The method itself never fails; a call of it can.
impl<C> MethodError<C> for Infallible {
    type Failure = Status;

    fn into_status(self, _: &C) -> Status {
        match self {}
    }

    fn failure(status: Status, _: &C) -> Status {
        status
    }
}

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
