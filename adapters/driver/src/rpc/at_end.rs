//! [`AtEnd`]: a report of how a call ended.

use getty_core::rpc::{Code, Status};

use crate::rpc::dispatch::{Inbound, Response};
use crate::rpc::place::Seat;

/// Reports how a call ended, exactly once: with its answer, or without any when it is dropped.
pub(crate) struct AtEnd<F: FnMut(Option<Code>)> {
    /// Of the handler; `None` on the caller's side.
    seat: Option<Seat>,
    report: F,
    has_answer: bool,
}

impl<F: FnMut(Option<Code>)> AtEnd<F> {
    /// For a handler. Reports the code of a failure, or `None`.
    pub(crate) fn of_handler(inbound: &Inbound, report: F) -> Self {
        AtEnd { seat: Some(inbound.seat.clone()), report, has_answer: false }
    }

    /// For a call to the other side. Reports the code of a failure, or `None`.
    pub(crate) fn of_call(report: F) -> Self {
        AtEnd { seat: None, report, has_answer: false }
    }

    pub(crate) fn answer(mut self, answer: &Response) {
        self.has_answer = true;
        (self.report)(answer.as_ref().err().map(Status::code));
    }
}

impl<F: FnMut(Option<Code>)> Drop for AtEnd<F> {
    fn drop(&mut self) {
        if self.has_answer {
            return;
        }
        let code = match &self.seat {
            Some(_) if std::thread::panicking() => Code::Internal,
            Some(seat) if seat.is_late() => Code::DeadlineExceeded,
            // A caller that panics gives its calls up like any other.
            _ => Code::Cancelled,
        };
        (self.report)(Some(code));
    }
}

/// The name of the end with `code`.
pub(crate) fn name(code: Option<Code>) -> &'static str {
    code.map_or("ok", Code::name)
}
