//! [`AtEnd`]: a report of how a handler ended.

use getty_core::rpc::{Code, Status};

use crate::rpc::dispatch::{Inbound, Response};
use crate::rpc::place::Seat;

/// Reports how a handler ended, exactly once: with its answer, or without any when it is dropped.
pub(crate) struct AtEnd<F: FnMut(Option<Code>)> {
    seat: Seat,
    report: F,
    has_answer: bool,
}

impl<F: FnMut(Option<Code>)> AtEnd<F> {
    /// Reports the code of a failure, or `None`.
    pub(crate) fn new(inbound: &Inbound, report: F) -> Self {
        AtEnd { seat: inbound.seat.clone(), report, has_answer: false }
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
        let code = if std::thread::panicking() {
            Code::Internal
        } else if self.seat.is_late() {
            Code::DeadlineExceeded
        } else {
            Code::Cancelled
        };
        (self.report)(Some(code));
    }
}

/// The name of the end with `code`.
pub(crate) fn name(code: Option<Code>) -> &'static str {
    code.map_or("ok", Code::name)
}
